import numpy as np
import pytest

from processors.showers import f_last, zeta
from simulation.difference import (
    F_LAST_STEP,
    apply_difference,
    f_last_steps,
    proton_shift,
    record,
    rms_offset_mm,
)

ENERGIES = np.array([20.0, 99.0, 500.0, 2000.0, 9000.0])


def showers(n):
    rng = np.random.default_rng(1)
    fraction = rng.random((n, 14)) + 0.05
    fraction[:, 13] = 0.02
    return rng.uniform(16, 60, (n, 14)), fraction / fraction.sum(axis=1)[:, None]


@pytest.mark.parametrize(
    ("species", "layers", "low", "high"),
    [
        ("proton", [0], 5, 8),
        ("proton", [1], 3, 4),
        ("proton", range(2, 9), 0, 3),
        ("proton", range(9, 14), 0, 11),
        ("electron", [0], 2.5, 4),
        ("electron", range(1, 6), 0, 1.5),
        ("electron", range(6, 10), -0.5, 2),
        ("electron", range(10, 14), 0.5, 3.5),
    ],
)
def test_offsets_lie_in_the_ranges_of_the_collaboration(species, layers, low, high):
    offset = rms_offset_mm(species, np.geomspace(10, 2e4, 200))[:, list(layers)]
    assert offset.min() >= low
    assert offset.max() <= high


def test_steps_and_shift():
    assert f_last_steps("proton", [10, 1e3, 1e5]).tolist() == [4, 3, 2]
    assert f_last_steps("electron", [100, 190, 1500, 5000]).tolist() == [0, 0, 0, 0]
    assert f_last_steps("electron", [500])[0] == pytest.approx(1.26, abs=0.01)
    assert proton_shift([100.0, 1e3, 1e4]) == pytest.approx([0.02, 0.05, 0.08])


@pytest.mark.parametrize("species", ["electron", "proton"])
def test_subtracting_the_offsets_from_monte_carlo_gives_data(species):
    rms, fraction = showers(5)
    new_rms, new_fraction = apply_difference(species, ENERGIES, rms, fraction)
    assert new_rms == pytest.approx(np.maximum(rms - rms_offset_mm(species, ENERGIES), 0))
    assert new_fraction.sum(axis=1) == pytest.approx(1.0)
    log_ratio = np.log10(f_last(new_fraction) / f_last(fraction))
    expected = F_LAST_STEP * f_last_steps(species, ENERGIES)
    if species == "proton":
        expected = expected + proton_shift(ENERGIES)
    assert log_ratio == pytest.approx(expected)


def test_shift_of_zeta_of_protons_at_equal_rms():
    rms, fraction = showers(5)
    _, changed = apply_difference("proton", ENERGIES, rms, fraction)
    corrected = f_last(fraction) * 10 ** (F_LAST_STEP * f_last_steps("proton", ENERGIES))
    shift = np.log10(zeta(rms, f_last(changed)) / zeta(rms, corrected))
    assert shift == pytest.approx(0.05 + 0.03 * np.log10(ENERGIES / 1e3))


def test_narrow_layers_and_limits():
    rms = np.full((1, 14), 13.0)
    fraction = np.full((1, 14), 1 / 14)
    new, _ = apply_difference("electron", np.array([500.0]), rms, fraction)
    assert (new[0, 9:] == 13).all()
    assert new[0, 0] < 13
    new, _ = apply_difference("proton", np.array([20.0]), np.full((1, 14), 1.0), fraction)
    assert new[0, 0] == 0
    # a shower with all its energy in one layer keeps it, an empty event stays empty
    one = np.zeros((2, 14))
    one[0, 3] = 1.0
    _, changed = apply_difference("proton", np.array([50.0, 50.0]), np.zeros((2, 14)), one)
    assert changed == pytest.approx(one)


def test_record_holds_plain_values():
    stored = record()
    assert len(stored["rms_offset_mm"]["proton"]["layers"]) == 14
    assert stored["proton_shift"] == {"log10_zeta_at_1_tev": 0.05, "per_decade": 0.03}
