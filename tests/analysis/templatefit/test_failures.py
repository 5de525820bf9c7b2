"""What cannot be fitted fails alone, with a reason, and never with a traceback."""

from dataclasses import replace

import numpy as np
import pytest
from iminuit import Minuit
from templatetoys import (
    CUT,
    METHODS,
    make,
    off,
    simulation,
)

from analysis.background import fitted_background
from analysis.exceptions import AnalysisError, CutNotOnEdgeError, HistogramMismatchError
from analysis.templatefit import FitSettings, fit, fit_templates, search


def without(template, i, *, rest=0.0):
    """The template with one energy bin emptied."""
    values, variances = template.values.copy(), template.variances.copy()
    values[i] = variances[i] = rest
    return replace(template, values=values, variances=variances)


def test_energy_bins_without_something_fail_alone(exact, shifted):
    electrons, protons = exact
    cases = {
        "no data in the window": (without(shifted, 2), electrons, protons),
        "no electron simulation in the window": (shifted, without(electrons, 2), protons),
        "no proton simulation in the window": (shifted, electrons, without(protons, 2)),
    }
    full = fit_templates(shifted, *exact, cut=CUT)
    others = np.arange(6) != 2
    for why, templates in cases.items():
        for method in METHODS:
            result = fit_templates(*templates, FitSettings(method=method), cut=CUT)
            assert result.success.tolist() == others.tolist()
            assert result.reasons[2] == why
            for value, error in (result.electrons, result.protons, result.shift, result.width):
                assert np.isnan([value[2], error[2]]).all()
                assert np.isfinite([value[others], error[others]]).all()
            assert off(full.electrons, result.electrons[0])[others].max() < 0.02
            background = fitted_background(result, templates[0], templates[2], CUT)
            assert np.isnan(background.value[2])
            assert background.success.tolist() == others.tolist()


def test_too_little_simulation_fails_alone(shifted):
    rng = np.random.default_rng(3)
    electrons, protons = simulation(rng=rng)
    for template, events in ((electrons, 6), (protons, 7)):
        template.values[4] = template.variances[4] = 0.0
        template.values[4, 60:66] = template.variances[4, 60:66] = events / 6
    for method in METHODS:
        result = fit_templates(shifted, electrons, protons, FitSettings(method=method), cut=CUT)
        assert result.reasons[4] == "too few simulated events for two score bins"
        assert result.success.tolist() == [True] * 4 + [False, True]


def test_nothing_to_fit_is_an_error(exact, shifted):
    empty = without(shifted, slice(None))
    with pytest.raises(AnalysisError, match=r"fitted \(6 bins: no data in the window\)"):
        fit_templates(empty, *exact)
    mixed = without(shifted, 1)
    edges = shifted.energy_edges
    second = FitSettings(e_min_gev=edges[1], e_max_gev=edges[2])
    with pytest.raises(
        AnalysisError, match="5 bins: outside the energies of the fit; 1 bins: no data"
    ):
        fit_templates(mixed, *exact, second)
    thin = [make(k, np.eye(6, 202)) for k in ("electron", "proton")]
    with pytest.raises(AnalysisError, match="too few simulated events"):
        fit_templates(shifted, *thin)


@pytest.mark.parametrize("method", METHODS)
def test_identical_templates_end_without_an_exception(exact, shifted, method):
    same = replace(exact[0], kind="proton")
    settings = FitSettings(method=method, shift_order=None, clamped=False)
    result = fit_templates(shifted, exact[0], same, settings, cut=CUT)
    assert not result.success.any()
    assert set(result.reasons) == {"the fit did not converge"}
    for value, error in (result.electrons, result.protons):
        assert np.isnan(value).all()
        assert np.isnan(error).all()
    assert np.isnan(fitted_background(result, shifted, same, CUT).value).all()


@pytest.mark.parametrize("method", METHODS)
def test_search_that_stops_early_is_no_result(exact, shifted, monkeypatch, method):
    class Tired(Minuit):
        def migrad(self, **_):
            return super().migrad(ncall=2, iterate=1)

    monkeypatch.setattr(search, "Minuit", Tired)
    result = fit_templates(shifted, *exact, FitSettings(method=method, shift_order=0), cut=CUT)
    assert not result.success.any()
    assert np.isnan(result.electrons[0]).all()
    assert set(result.reasons) == {"the fit did not converge"}


def test_axes_that_differ_are_named(exact, shifted):
    electrons, protons = exact
    other = replace(protons, energy_edges=protons.energy_edges * 1.01)
    with pytest.raises(HistogramMismatchError, match="energy bins of the proton template differ"):
        fit_templates(shifted, electrons, other)
    other = replace(electrons, omega_edges=electrons.omega_edges + 0.1)
    with pytest.raises(HistogramMismatchError, match="score bins of the electron template differ"):
        fit_templates(shifted, other, protons)


def test_settings_that_cannot_be(exact, shifted):
    with pytest.raises(AnalysisError, match=r"orders of the shift and width are 0 to 3, .*4"):
        FitSettings(shift_order=4)
    with pytest.raises(AnalysisError, match="1 fixed coefficients do not fit to shift order 1"):
        FitSettings(fixed=(0.1,))
    edges = shifted.energy_edges
    with pytest.raises(AnalysisError, match="2 energy bins with data cannot fix polynomials"):
        fit_templates(shifted, *exact, FitSettings(shift_order=2, e_max_gev=edges[2]), cut=CUT)
    with pytest.raises(CutNotOnEdgeError, match="not on a bin edge"):
        fit_templates(shifted, *exact, FitSettings(window=(-11.05, 18.0)))


@pytest.mark.parametrize("seed", range(15))
def test_sparse_random_histograms_give_a_result_or_a_sentence(seed):
    """Whatever the histograms: numbers where there is success, NaN and a reason elsewhere."""
    rng = np.random.default_rng(seed)
    n, omega = int(rng.integers(1, 5)), np.arange(-5.0, 6.0)

    def sparse(kind):
        shape = rng.random((n, 12)) ** rng.choice([1, 6, 30])
        counts = rng.poisson(10.0 ** rng.uniform(-1, 4, (n, 1)) * shape)
        weight = (
            1.0 if kind == "data" else 10.0 ** rng.uniform(-6, 2) * rng.choice([1, 10], (n, 12))
        )
        return make(kind, counts * weight, counts * weight**2, omega=omega)

    templates = [sparse(kind) for kind in ("data", "electron", "proton")]
    for method in METHODS:
        settings = FitSettings(
            method=method,
            shift_order=([None, 0, 1, "auto"][rng.integers(4)]),
            width_order=([None, 0][rng.integers(2)]),
            clamped=bool(rng.integers(2)),
            min_effective=float(rng.choice([1.0, 20.0, 200.0])),
        )
        try:
            result = fit_templates(*templates, settings, cut=0.0)
        except AnalysisError as error:
            assert str(error)  # noqa: PT017 - which sentence depends on the draw
            continue
        background = fitted_background(result, templates[0], templates[2], 0.0)
        good = result.success
        assert [r is None for r in result.reasons] == good.tolist()
        for value, sigma in (result.electrons, result.protons, result.shift, result.width):
            assert np.isfinite([value[good], sigma[good]]).all()
            assert np.isnan([value[~good], sigma[~good]]).all()
        assert np.isfinite(background.value[good]).all()
        assert np.isnan(background.value[~good]).all()


def test_a_bin_without_an_error_of_its_own_does_not_rule_the_curve(exact, shifted, monkeypatch):
    # a few counts where the simulation is empty: the propagated error of the bin's shift is 0
    settings = FitSettings(method="smooth")
    free = fit_templates(shifted, *exact, settings, cut=CUT)
    original = fit._bin_by_bin

    def degenerate(problem, own):
        assembled, found = original(problem, own)
        covariance = found.covariance.copy()
        at = 2 * problem.model.size + 5
        covariance[at, :] = covariance[:, at] = 0.0
        covariance[at, at] = 6.6e-34
        return assembled, replace(found, covariance=covariance)

    monkeypatch.setattr(fit, "_bin_by_bin", degenerate)
    result = fit_templates(shifted, *exact, settings, cut=CUT)
    assert result.success.all()
    for name, (value, error) in free.coefficients.items():
        assert result.coefficients[name] == pytest.approx((value, error), abs=0.02 * error)
