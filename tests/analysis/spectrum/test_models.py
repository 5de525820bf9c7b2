"""Spectral models against closed forms, the printed formula, numerical integrals and derivatives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from analysis.exceptions import AnalysisError
from analysis.spectrum.models import MODELS, SpectralModel, quadrature, spectral_model

SBPL = (1.62e-4, 3.09, 3.92, 914.0)
POINTS = {
    "power_law": (1.6e-4, 3.1),
    "smoothly_broken_power_law": SBPL,
    "power_law_cutoff": (1.6e-4, 3.0, 2500.0),
    "smoothly_broken_power_law_cutoff": (*SBPL, 5000.0),
    "double_broken_power_law": (1.6e-4, 3.2, 3.0, 4.0, 200.0, 1000.0),
}


def test_every_model_has_a_point() -> None:
    assert set(POINTS) == set(MODELS)
    for name, point in POINTS.items():
        assert len(spectral_model(name).parameters) == len(point)


def test_published_formula() -> None:
    """The formula as Nature 552, 63 prints it."""
    e = np.geomspace(20, 5000, 50)
    norm, g1, g2, eb = SBPL
    printed = norm * (e / 100) ** -g1 * (1 + (e / eb) ** (-(g1 - g2) / 0.1)) ** -0.1
    ours = spectral_model("smoothly_broken_power_law").flux(e, SBPL)
    np.testing.assert_allclose(ours, printed, rtol=1e-12)


def test_cutoff_and_double_break() -> None:
    e = np.geomspace(30, 4000, 30)
    law = spectral_model("power_law").flux(e, (1.6e-4, 3.0))
    cut = spectral_model("power_law_cutoff").flux(e, (1.6e-4, 3.0, 2500.0))
    np.testing.assert_allclose(cut, law * np.exp(-e / 2500), rtol=1e-13)
    double = spectral_model("double_broken_power_law").flux(e, POINTS["double_broken_power_law"])
    expected = 1.6e-4 * (e / 100) ** -3.2
    expected *= (1 + (e / 200) ** 2.0) ** 0.1 * (1 + (e / 1000) ** 10.0) ** -0.1
    np.testing.assert_allclose(double, expected, rtol=1e-12)


@given(st.floats(2.0, 5.0), st.floats(2.0, 5.0), st.floats(100.0, 2000.0))
def test_slopes_far_from_the_break(g1: float, g2: float, eb: float) -> None:
    """Index g1 far below and g2 far above, for softenings and hardenings alike."""
    model = spectral_model("smoothly_broken_power_law", smoothness=0.02)
    if abs(g1 - g2) < 0.1:
        return
    for e, index in ((eb / 1e3, g1), (eb * 1e3, g2)):
        flux = model.flux(np.array([e, 1.01 * e]), (1.6e-4, g1, g2, eb))
        assert -np.log(flux[1] / flux[0]) / np.log(1.01) == pytest.approx(index, abs=1e-9)
    below = model.flux(np.array([eb / 1e3]), (1.6e-4, g1, g2, eb))
    assert below[0] == pytest.approx(1.6e-4 * (eb / 1e5) ** -g1, rel=1e-9)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("free", [False, True])
def test_gradient(name: str, free: bool) -> None:
    model = spectral_model(name, free_smoothness=free)
    values = (*POINTS[name], 0.13) if model.free_smoothness else POINTS[name]
    theta = model.internal(values)
    ln_e = np.log(np.geomspace(30, 4000, 17))
    gradient = model.log_flux(theta, ln_e)[1]
    for i in range(theta.size):
        step = np.zeros(theta.size)
        step[i] = 1e-6
        up, down = (model.log_flux(theta + s * step, ln_e)[0] for s in (1, -1))
        np.testing.assert_allclose(gradient[i], (up - down) / 2e-6, rtol=1e-6, atol=1e-8)


def test_many_parameter_sets_at_once() -> None:
    model = spectral_model("smoothly_broken_power_law")
    sets = np.array([SBPL, (1e-4, 3.0, 2.5, 300.0)])
    e = np.array([50.0, 500.0, 2000.0])
    both = model.flux(e, sets)
    for row, one in zip(both, sets, strict=True):
        np.testing.assert_array_equal(row, model.flux(e, one))
    np.testing.assert_allclose(model.external(model.internal(sets)), sets, rtol=1e-14)


def test_integral_of_a_power_law_is_the_closed_form() -> None:
    low, high = np.array([24.0, 1000.0, 4570.9]), np.array([27.5, 1148.2, 6025.6])
    rule = quadrature(low, high)
    model = spectral_model("power_law")
    ours = rule.weights @ model.flux(np.exp(rule.ln_e), (1.6e-4, 3.1))
    closed = 1.6e-4 * 100**3.1 * (low**-2.1 - high**-2.1) / 2.1
    np.testing.assert_allclose(ours, closed, rtol=1e-12)


def test_integral_over_the_break() -> None:
    """Against an adaptive integration, for the published and for a sharper break."""
    low, high = np.array([871.0, 600.0]), np.array([1000.0, 1200.0])
    rule = quadrature(low, high)
    for smoothness, precision in ((0.1, 1e-9), (0.05, 1e-7)):
        model = spectral_model("smoothly_broken_power_law", smoothness=smoothness)
        ours = rule.weights @ model.flux(np.exp(rule.ln_e), SBPL)
        for value, a, b in zip(ours, low, high, strict=True):

            def flux(e: float, model: SpectralModel = model) -> float:
                return float(model.flux(np.array([e]), SBPL)[0])

            exact = integrate.quad(flux, a, b, epsabs=0, epsrel=1e-12)[0]
            assert value == pytest.approx(exact, rel=precision)


def test_far_energies_do_not_overflow() -> None:
    model = spectral_model("smoothly_broken_power_law", smoothness=0.01)
    assert np.all(np.isfinite(model.flux(np.array([1e-3, 1e9]), SBPL)))


def test_refusals() -> None:
    with pytest.raises(AnalysisError, match="no spectral model 'curved'"):
        spectral_model("curved")
    with pytest.raises(AnalysisError, match="smoothness must be a positive number, got 0"):
        spectral_model("smoothly_broken_power_law", smoothness=0.0)
    with pytest.raises(AnalysisError, match="e0_gev must be"):
        spectral_model("power_law", e0_gev=np.nan)
    model = spectral_model("power_law")
    with pytest.raises(AnalysisError, match="has 2 parameters"):
        model.flux(np.array([100.0]), (1.0, 2.0, 3.0))
    with pytest.raises(AnalysisError, match="positive"):
        model.flux(np.array([100.0]), (-1.0, 3.0))
    with pytest.raises(AnalysisError, match="0 < e_min < e_max"):
        quadrature([10.0], [5.0])
