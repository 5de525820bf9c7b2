import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from analysis.energy import geometric_mean, lafferty_wyatt
from analysis.published import load


@pytest.mark.parametrize(
    ("e_min", "e_max", "expected"),
    [(24.0, 27.5, 25.7), (55.0, 63.1, 58.9), (871.0, 1000.0, 932.5), (2290.9, 2630.3, 2452.8)],
)
def test_published_bin_energies(e_min, e_max, expected):
    assert lafferty_wyatt(e_min, e_max, -3.0) == pytest.approx(expected, abs=0.05)


def test_every_published_bin_energy():
    spectrum = load("dampe_2017_electron_positron")
    ratio = lafferty_wyatt(spectrum.e_min, spectrum.e_max, -3.1) / spectrum.e_mean
    assert ratio == pytest.approx(
        np.ones(38), abs=3e-3
    )  # edges and energies are printed to 0.1 GeV


@pytest.mark.parametrize("index", [-4.1, -3.0, -2.0, -1.0, -0.5, 0.7, 1.0, 2.0])
def test_density_there_equals_its_bin_average(index):
    average = integrate.quad(lambda e: e**index, 10.0, 25.0, epsabs=0, epsrel=1e-13)[0] / 15.0
    assert lafferty_wyatt(10.0, 25.0, index) ** index == pytest.approx(average, rel=1e-11)


def test_special_indices():
    assert lafferty_wyatt(1.0, np.e, -1.0) == pytest.approx(
        np.e - 1.0, rel=1e-14
    )  # logarithmic mean
    assert lafferty_wyatt(2.0, 8.0, -2.0) == pytest.approx(4.0, rel=1e-14)  # geometric mean
    assert lafferty_wyatt(2.0, 8.0, 1.0) == pytest.approx(5.0, rel=1e-14)  # arithmetic mean
    identric = np.exp(-1.0) * (8.0**8 / 2.0**2) ** (1.0 / 6.0)
    assert lafferty_wyatt(2.0, 8.0, 0.0) == pytest.approx(identric, rel=1e-13)
    assert lafferty_wyatt(2.0, 8.0, 1e-6) == pytest.approx(identric, rel=1e-6)


@pytest.mark.parametrize("at", [-1.0, 0.0])
def test_continuous_at_the_special_indices(at):
    near = [float(lafferty_wyatt(24.0, 27.5, at + d)) for d in (-1e-5, 0.0, 1e-5)]
    assert near[0] < near[1] < near[2]
    assert near[2] - near[0] < 1e-5


@settings(deadline=None)
@given(st.floats(1e-3, 1e6), st.floats(1e-6, 50.0), st.floats(-6, 4))
def test_inside_the_bin(e_min, width, index):
    e_max = e_min * (1.0 + width)
    assert e_min <= lafferty_wyatt(e_min, e_max, index) <= e_max


@settings(deadline=None)
@given(st.floats(0.01, 3.0), st.floats(-5, 2.9), st.floats(0.05, 2))
def test_grows_with_the_index(width, index, more):
    low = lafferty_wyatt(10.0, 10.0 * (1 + width), index)
    assert lafferty_wyatt(10.0, 10.0 * (1 + width), index + more) > low


def test_geometric_mean_keeps_the_shape():
    edges = 10 ** (1.38 + 0.06 * np.arange(39))
    assert geometric_mean(edges[:-1], edges[1:]) == pytest.approx(
        10 ** (1.41 + 0.06 * np.arange(38))
    )
    assert lafferty_wyatt(edges[:-1], edges[1:]).shape == (38,)


@pytest.mark.parametrize("edges", [(0.0, 1.0), (2.0, 2.0), (3.0, 2.0), (1.0, np.inf), (1, np.nan)])
def test_bad_edges(edges):
    with pytest.raises(ValueError, match="0 < e_min < e_max"):
        lafferty_wyatt(*edges)
    with pytest.raises(ValueError, match="0 < e_min < e_max"):
        geometric_mean(*edges)


def test_bad_index():
    with pytest.raises(ValueError, match="spectral index must be a finite number, got nan"):
        lafferty_wyatt(1.0, 2.0, np.nan)
