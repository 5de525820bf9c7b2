"""Calibration tables: their rules, their application, and the shipped one against its truth."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from processors.calibration import (
    F_LAST_STEP,
    Calibration,
    CalibrationError,
    calibrate_f_last,
    calibrate_rms,
    load_calibration,
    shipped_calibrations,
)
from simulation.difference import apply_difference, proton_shift, record, rms_offset_mm

NODES = [100.0, 1000.0, 10_000.0]


def content(
    rms: list[float], steps: list[float], nodes: list[float], **more: Any
) -> dict[str, Any]:
    part = {
        "rms": {"energies_gev": nodes, "layers": [rms] * 14},
        "f_last": {"energies_gev": nodes, "steps": steps},
    }
    narrow = {"narrow": {"first_layer": 9, "below_mm": 14.0}}
    return {
        "name": "test",
        "synthetic": True,
        "electron": part | narrow,
        "proton": part,
        **more,
    }


def table(rms: list[float], steps: list[float], nodes: list[float] | None = None) -> Calibration:
    return Calibration.model_validate(content(rms, steps, nodes or NODES))


ENERGIES = st.lists(st.floats(0.5, 1e5), min_size=1, max_size=8).map(np.array)
OFFSETS = st.lists(st.floats(-20, 20), min_size=3, max_size=3)


def widths(n: int, low: float = 0.0) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, (n, 14), elements=st.floats(low, 150))


@given(ENERGIES.flatmap(lambda e: st.tuples(st.just(e), widths(len(e)))))
def test_a_zero_table_is_the_identity(case: tuple[np.ndarray, np.ndarray]) -> None:
    energy, rms = case
    zero = table([0.0] * 3, [0.0] * 3)
    for species in ("electron", "proton"):
        np.testing.assert_array_equal(calibrate_rms(zero, species, energy, rms), rms)
        f = rms[:, 0] / 200
        np.testing.assert_array_equal(calibrate_f_last(zero, species, energy, f), f)


@given(ENERGIES.flatmap(lambda e: st.tuples(st.just(e), widths(len(e)))), OFFSETS)
def test_never_negative_and_empty_layers_stay_empty(
    case: tuple[np.ndarray, np.ndarray], offsets: list[float]
) -> None:
    energy, rms = case
    for species in ("electron", "proton"):
        out = calibrate_rms(table(offsets, offsets), species, energy, rms)
        assert (out >= 0).all()
        assert (out[rms == 0] == 0).all()
        f = calibrate_f_last(table(offsets, offsets), species, energy, rms[:, 0] / 150)
        assert ((f >= 0) & (f <= 1)).all()


@given(ENERGIES.flatmap(lambda e: st.tuples(st.just(e), widths(len(e)))), OFFSETS, st.floats(0, 10))
def test_a_larger_offset_gives_narrower_layers(
    case: tuple[np.ndarray, np.ndarray], offsets: list[float], more: float
) -> None:
    energy, rms = case
    larger = [v + more for v in offsets]
    for species in ("electron", "proton"):
        low = calibrate_rms(table(larger, larger), species, energy, rms)
        high = calibrate_rms(table(offsets, offsets), species, energy, rms)
        assert (low <= high + 1e-9).all()
        f = rms[:, 0] / 150
        up = calibrate_f_last(table(larger, larger), species, energy, f)
        assert (up >= calibrate_f_last(table(offsets, offsets), species, energy, f) - 1e-12).all()


@given(OFFSETS, st.floats(0, 1))
def test_linear_in_log_energy_between_nodes_and_constant_outside(
    offsets: list[float], share: float
) -> None:
    rms = np.full((1, 14), 100.0)
    for low in (0, 1):
        energy = np.array([10 ** (2 + low + share)])
        expected = (1 - share) * offsets[low] + share * offsets[low + 1]
        out = calibrate_rms(table(offsets, offsets), "proton", energy, rms)
        np.testing.assert_allclose(100.0 - out, expected, atol=1e-9)
        f = calibrate_f_last(table(offsets, offsets), "proton", energy, np.array([1e-3]))
        assert np.log10(f[0]) == pytest.approx(min(-3 + F_LAST_STEP * expected, 0), abs=1e-9)
    for energy, value in ((1.0, offsets[0]), (1e6, offsets[2])):
        out = calibrate_rms(table(offsets, offsets), "proton", np.array([energy]), rms)
        np.testing.assert_allclose(100.0 - out, value, atol=1e-9)


def test_narrow_layers_of_electrons_are_left_alone() -> None:
    rms = np.full((2, 14), 13.9)
    rms[1] = 14.1
    flat = table([3.0] * 3, [0.0] * 3)
    out = calibrate_rms(flat, "electron", np.array([500.0, 500.0]), rms)
    np.testing.assert_allclose(out[0], [10.9] * 9 + [13.9] * 5)
    np.testing.assert_allclose(out[1], [11.1] * 14)
    np.testing.assert_allclose(calibrate_rms(flat, "proton", np.array([500.0] * 2), rms), rms - 3)


def test_float32_stays_float32() -> None:
    rms = np.full((2, 14), 20.0, np.float32)
    energy = np.array([200.0, 300.0], np.float32)
    assert calibrate_rms(table([1.0] * 3, [1.0] * 3), "electron", energy, rms).dtype == np.float32
    f = calibrate_f_last(table([1.0] * 3, [1.0] * 3), "electron", energy, rms[:, 0] / 1e4)
    assert f.dtype == np.float32
    single = table([2.0], [0.0], [500.0])
    assert (calibrate_rms(single, "proton", energy, rms) == 18.0).all()


def difference_table() -> Calibration:
    """The simulation's own difference as a table; protons without their shift."""
    r = record()
    return Calibration.model_validate(
        {
            "name": "difference",
            "synthetic": True,
            **{
                s: {
                    "rms": {k: r["rms_offset_mm"][s][k] for k in ("energies_gev", "layers")},
                    "f_last": r["f_last_steps"][s],
                    **({"narrow": {}} if s == "electron" else {}),
                }
                for s in ("electron", "proton")
            },
        }
    )


@pytest.mark.parametrize("species", ["electron", "proton"])
def test_the_same_rules_as_the_simulated_difference(species: Any) -> None:
    rng = np.random.default_rng(5)
    energy = 10 ** rng.uniform(1.0, 4.5, 3000)
    rms = rng.uniform(0, 60, (3000, 14)) * (rng.random((3000, 14)) > 0.05)
    fraction = np.zeros((3000, 14))
    fraction[:, 13] = 10 ** rng.uniform(-5, -2, 3000)  # far from the simulation's ceiling
    fraction[:, 4] = 1 - fraction[:, 13]
    data_rms, data_fraction = apply_difference(species, energy, rms, fraction)
    known = difference_table()
    np.testing.assert_allclose(calibrate_rms(known, species, energy, rms), data_rms, atol=1e-9)
    f = calibrate_f_last(known, species, energy, fraction[:, 13])
    if species == "proton":
        f = f * 10 ** proton_shift(energy)
    np.testing.assert_allclose(f, data_fraction[:, 13], rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"energies_gev": [100.0, 50.0, 10.0]}, "ascend"),
        ({"layers": [[0.0] * 3] * 13}, "14 rows"),
        ({"layers": [[0.0] * 2] * 14}, "14 rows of 3"),
        ({"errors_mm": [[0.0] * 2] * 14}, "errors_mm needs"),
        ({"layers": [[float("nan")] * 3] * 14}, "finite"),
        ({"colour": 1}, "no such key"),
    ],
)
def test_malformed_tables_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    bad = content([0.0] * 3, [0.0] * 3, NODES)
    bad["proton"] = {**bad["proton"], "rms": {**bad["proton"]["rms"], **change}}
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(bad))
    with pytest.raises(CalibrationError, match=message):
        load_calibration(path)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="give a path or one of: synthetic"):
        load_calibration(tmp_path / "nothing.yaml")
    path = tmp_path / "broken.yaml"
    path.write_text("a: [")
    with pytest.raises(CalibrationError, match="no YAML"):
        load_calibration(path)
    with pytest.raises(ValueError, match="not for 'data'"):
        load_calibration("synthetic").of("data")  # type: ignore[arg-type]


def test_the_shipped_table_recovers_what_was_injected() -> None:
    assert shipped_calibrations() == ["synthetic"]
    shipped = load_calibration("synthetic")
    assert shipped.synthetic
    assert {i["kind"] for i in shipped.provenance["inputs"]} == {"data", "electron", "proton"}
    assert all(len(i["sha256"]) == 64 for i in shipped.provenance["inputs"])
    pulls = []
    for species in ("electron", "proton"):
        rms = shipped.of(species).rms
        assert rms.errors_mm is not None
        truth = rms_offset_mm(species, np.array(rms.energies_gev)).T
        pulls.append((np.array(rms.layers) - truth) / np.array(rms.errors_mm))
        assert np.median(rms.errors_mm) < {"electron": 0.3, "proton": 0.9}[species]
    values = np.concatenate(pulls, axis=None)
    assert values.size == 112
    assert np.abs(values).max() < 3.5
    assert 0.7 < values.std() < 1.2
