"""``cre calibrate``: closure on toy control samples, and the command with its refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from controlevents import control_events, together

from cre.calibration import Derived, derive, with_replicas
from cre.calibrationreport import Pull, panels, pulls, summary
from processors.calibration import F_LAST_STEP, load_calibration
from processors.controlsamples import F_LAST, ControlEvents
from simulation.difference import record

MakeNtuple = Callable[..., Path]


@pytest.fixture(scope="module")
def samples() -> tuple[ControlEvents, dict[Any, ControlEvents]]:
    data = together(
        control_events("electron", 6000, 1, difference=True),
        control_events("proton", 6000, 2, difference=True),
    )
    return data, {s: control_events(s, 12_000, 3 + i) for i, s in enumerate(("electron", "proton"))}


@pytest.fixture(scope="module")
def derived(samples: tuple[ControlEvents, dict[Any, ControlEvents]]) -> Derived:
    return derive(*samples, name="toy", synthetic=True)


def test_the_injected_offsets_come_back(derived: Derived) -> None:
    found = pulls(derived.table, record())
    assert derived.table.electron.rms.energies_gev == (100.0, 300.0, 1000.0, 3000.0)
    assert derived.table.proton.f_last.energies_gev == (100.0, 1000.0)  # few events near 10 TeV
    assert len(found) == 2 * 14 * 4 + 4 + 2
    values = np.array([p.pull for p in found])
    assert abs(values.mean()) < 0.5
    assert values.std() < 1.35
    assert np.abs(values).max() < 4.5
    # and they are measured, not only covered by large errors: 7.0 mm to better than 1 mm
    layer_0 = next(p for p in found if (p.species, p.probe, p.energy_gev) == ("proton", 0, 300.0))
    assert layer_0.error < 1.0
    assert layer_0.injected == 7.0
    # without a table they would be far off
    blind = [Pull(p.species, p.probe, p.energy_gev, 0.0, p.error, p.injected).pull for p in found]
    assert np.mean(np.square(blind)) > 15


def test_protons_f_last_is_the_total_of_steps_and_shift(derived: Derived) -> None:
    at_1_tev = next(
        p
        for p in pulls(derived.table, record())
        if (p.species, p.probe, p.energy_gev) == ("proton", F_LAST, 1000.0)
    )
    assert at_1_tev.injected == pytest.approx(3.0 + 0.05 / F_LAST_STEP)
    assert at_1_tev.value == pytest.approx(at_1_tev.injected, abs=4 * at_1_tev.error)
    assert at_1_tev.error < 0.5


def test_without_a_difference_the_table_is_zero(
    samples: tuple[ControlEvents, dict[Any, ControlEvents]],
) -> None:
    same = together(control_events("electron", 4000, 8), control_events("proton", 4000, 9))
    table = derive(same, samples[1], name="null", synthetic=True).table
    pulled = np.concatenate(
        [
            np.ravel(np.array(part.rms.layers) / np.array(part.rms.errors_mm))
            for part in (table.electron, table.proton)
        ]
    )
    assert pulled.std() < 1.35
    assert np.abs(pulled).max() < 4.5


def test_replicas_only_widen_errors(
    derived: Derived, samples: tuple[ControlEvents, dict[Any, ControlEvents]]
) -> None:
    wide = with_replicas(derived, *samples, replicas=2)
    assert wide.table.electron.rms.layers == derived.table.electron.rms.layers
    for species in ("electron", "proton"):
        factors = wide.error_factors[species]  # type: ignore[index]
        assert len(factors) == 15
        assert min(factors) >= 1.0
        assert max(factors) < 3.0
        after = np.array(wide.table.of(species).rms.errors_mm)  # type: ignore[arg-type]
        before = np.array(derived.table.of(species).rms.errors_mm)  # type: ignore[arg-type]
        np.testing.assert_allclose(after, before * np.array(factors)[:14, None], atol=2e-4)


def test_report_and_panels(derived: Derived) -> None:
    drawn = panels(derived, record())
    assert [name for name, _ in drawn][::7] == [
        "RMS of layer 0 (mm)",
        "RMS of layer 7 (mm)",
        "F_last (steps of 0.043)",
    ]
    curve = drawn[3][1][1]
    assert curve.species == "proton"
    np.testing.assert_allclose(curve.injected, [2.0, 1.5, 0.5, 0.0])
    # the bins scatter about the line of the table
    line = np.interp(np.log10(curve.energy_gev), np.log10(curve.node_gev), curve.node_offset)
    assert np.nanmean(((curve.offset - line) / curve.error) ** 2) < 2.5
    text = summary(derived, pulls(derived.table, record()))
    assert text.startswith("SYNTHETIC")
    assert "against the injected offsets: 118 nodes" in text


Cre = Callable[..., tuple[int, str, str]]


def wider(branches: dict[str, Any]) -> None:
    """All layers of the Monte Carlo 2 mm wider."""
    for i in range(14):
        branches[f"tt_Rms{i}"] = branches[f"tt_Rms{i}"] + np.float32(2.0)


def test_the_command(make_ntuple: MakeNtuple, tmp_path: Path, cre: Cre) -> None:
    # toy data are protons only
    data = [
        make_ntuple("data", n=1200, seed=1, name="a.root"),
        make_ntuple("data", n=300, seed=4, name="b.root", run=2),
    ]
    electron = make_ntuple("electron", n=300, seed=2)
    proton = make_ntuple("proton", n=2500, seed=3, change=wider)
    table = tmp_path / "out" / "mine.yaml"
    line = ("calibrate", *data, "--mc-electron", electron, "--mc-proton", proton, "-o", table)
    options = ("--nodes-gev", "20,300,2000", "--replicas", "0", "--note", "made for a test")
    code, out, err = cre(*line, *options, "--figure", tmp_path / "out" / "figure")
    assert code == 0, err
    assert "SYNTHETIC" in out
    made = load_calibration(table)
    assert (made.name, made.synthetic) == ("mine", True)
    rms = made.proton.rms
    assert rms.errors_mm is not None
    assert rms.energies_gev == (300.0, 2000.0)
    errors = np.array(rms.errors_mm)[:, 0]
    assert (errors > 0).all()
    assert np.median(errors) < 0.8
    assert np.average(np.array(rms.layers)[:, 0], weights=errors**-2) == pytest.approx(2.0, abs=0.3)
    # no electron-like event: nothing is corrected, and the table says so
    assert not np.array(made.electron.rms.layers).any()
    assert "0.00 fixed" in out
    text = table.read_text()
    assert text.startswith(
        "# Calibration of simulated shower variables, derived from SYNTHETIC data"
    )
    assert "# made for a test\n" in text
    provenance = yaml.safe_load(text)["provenance"]
    assert [i["file"] for i in provenance["inputs"]] == [
        "a.root",
        "b.root",
        electron.name,
        proton.name,
    ]
    assert provenance["cuts_on_the_probed_variables_dropped"] == ["max_rms", "low_energy_cleaning"]
    assert provenance["proton"]["nodes_left_out_gev"]["rms"] == [20.0]
    assert {p.name for p in table.parent.iterdir()} == {
        "mine.yaml",
        "mine.provenance.json",
        "figure.png",
        "figure.pdf",
    }
    code, _, err = cre(*line)
    assert code == 1
    assert "exists" in err


def test_refusals(make_ntuple: MakeNtuple, tmp_path: Path, cre: Cre) -> None:
    data = make_ntuple("data", n=60, seed=1)
    electron = make_ntuple("electron", n=60, seed=2)
    table = tmp_path / "t.yaml"
    for arguments, message in (
        ((data, "--mc-electron", data), "duplicate|the same file|was given as"),
        ((electron, "--mc-electron", data), "holds electron, but was given as data"),
        ((data, "--mc-electron", electron), "no proton files"),
        ((), "give DATA with --mc-electron"),
        ((data, "--manifest", "m.json"), "give DATA with --mc-electron"),
        ((data, "--nodes-gev", "300,100"), "must be positive and ascend"),
        ((data, "--nodes-gev", "a"), "energies in GeV with commas"),
    ):
        code, _, err = cre("calibrate", *arguments, "-o", table)
        assert code == 1
        assert any(m in err for m in message.split("|")), err
        assert not table.exists()
