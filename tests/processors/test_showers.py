"""Shower variables against numbers worked out by hand and against Geant4 events."""

from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors import showers


def one_layer(bars: dict[int, float], layer: int = 0) -> np.ndarray:
    image = np.zeros((1, 14, 22))
    for bar, energy in bars.items():
        image[0, layer, bar] = energy
    return image


def test_rms_of_three_bars_is_about_their_barycentre() -> None:
    # energies 1, 8, 1 in neighbouring bars: variance 27.5^2 * 2/10
    rms = showers.layer_rms_mm(one_layer({9: 1.0, 10: 8.0, 11: 1.0}))
    assert rms[0, 0] == pytest.approx(27.5 * np.sqrt(0.2))
    assert (rms[0, 1:] == 0).all()


def test_a_far_bar_does_not_move_the_centre() -> None:
    # centre stays at bar 10 (its neighbours are empty), bar 14 is four pitches away
    rms = showers.layer_rms_mm(one_layer({10: 3.0, 14: 1.0}))
    assert rms[0, 0] == pytest.approx(4 * 27.5 * np.sqrt(0.25))


def test_an_edge_bar_is_its_own_centre() -> None:
    rms = showers.layer_rms_mm(one_layer({0: 3.0, 1: 1.0}))
    assert rms[0, 0] == pytest.approx(27.5 * np.sqrt(0.25))


def test_one_bar_and_no_bar_give_zero() -> None:
    assert showers.layer_rms_mm(one_layer({4: 2.0})).max() == 0.0
    assert showers.layer_rms_mm(np.zeros((2, 14, 22))).max() == 0.0
    assert showers.layer_rms_mm(np.zeros((0, 14, 22))).shape == (0, 14)


@given(st.lists(st.floats(0.0, 1e4), min_size=22, max_size=22), st.floats(0.1, 10.0))
def test_rms_does_not_depend_on_the_energy_unit(energies: list[float], factor: float) -> None:
    image = np.zeros((1, 14, 22))
    image[0, 5] = energies
    a, b = showers.layer_rms_mm(image), showers.layer_rms_mm(image * factor)
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-3)
    assert a.max() <= 22 * 27.5


def test_f_last_takes_the_last_layer_with_signal() -> None:
    fraction = np.zeros((3, 14))
    fraction[0, [3, 13]] = [0.9, 0.1]
    fraction[1, [3, 7]] = [0.8, 0.2]
    assert showers.f_last(fraction).tolist() == [0.1, 0.2, 0.0]


def test_zeta_formula() -> None:
    # sum of RMS 400 mm, F_last 1e-3: 1e-3 * 2.56e10 / 8e6 = 3.2
    rms = np.full((1, 14), 400.0 / 14)
    assert showers.zeta(rms, np.array([1e-3]))[0] == pytest.approx(3.2)


def test_edge_bars() -> None:
    clear = one_layer({5: 1.0}, 1) + one_layer({5: 1.0}, 2) + one_layer({5: 1.0}, 3)
    at_edge = clear + one_layer({21: 2.0}, 2)
    empty = one_layer({5: 1.0}, 1) + one_layer({5: 1.0}, 3)
    images = np.concatenate([clear, at_edge, empty])
    assert showers.edge_bars_clear(images).tolist() == [True, False, False]


def test_zeta_of_the_geant4_events() -> None:
    """Percentiles stated with the reference events (1000 electrons of which these are 500)."""
    folder = resources.files("simulation") / "reference"
    with resources.as_file(folder / "electron.npz") as path, np.load(path) as events:
        image = 1e3 * events["image_gev"].astype(np.float64)
    image[image < 2.0] = 0.0
    fraction = image.sum(axis=2) / image.sum(axis=(1, 2))[:, None]
    values = showers.zeta(showers.layer_rms_mm(image), showers.f_last(fraction))
    np.testing.assert_allclose(np.percentile(values, [5, 50, 90]), [2.5, 4.9, 7.5], rtol=0.1)
