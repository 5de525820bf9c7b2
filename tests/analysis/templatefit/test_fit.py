from dataclasses import replace

import numpy as np
import pytest
from templatetoys import (
    CUT,
    LOG_E,
    METHODS,
    N_E,
    N_P,
    S0,
    S1,
    contents,
    data,
    make,
    off,
    proton_cdf,
    simulation,
    truth,
)

from analysis.background import fitted_background
from analysis.exceptions import HistogramMismatchError
from analysis.templatefit import FitSettings, fit_templates
from analysis.templates import Template


@pytest.mark.parametrize("method", METHODS)
def test_expected_data_give_back_what_went_in(exact, shifted, method):
    result = fit_templates(shifted, *exact, FitSettings(method=method), cut=CUT)
    assert result.success.all()
    assert result.reasons == (None,) * 6
    assert off(result.electrons, N_E).max() < 0.01
    assert off(result.protons, N_P).max() < 0.01
    assert off(result.shift, S0 + S1 * LOG_E).max() < 0.01
    assert result.deviance.max() < 0.01
    # the error of a yield is at least that of its counts
    assert (result.electrons[1] > np.sqrt(N_E)).all()
    if method != "per_bin":
        assert result.coefficients["s0"][0] == pytest.approx(S0, abs=1e-4)
        assert result.coefficients["s1"][0] == pytest.approx(S1, abs=1e-4)


def test_smooth_and_simultaneous_agree_also_in_their_errors(exact, shifted):
    one, two = (
        fit_templates(shifted, *exact, FitSettings(method=m), cut=CUT)
        for m in ("simultaneous", "smooth")
    )
    scale = np.sqrt(np.diag(one.covariance))
    difference = (two.covariance - one.covariance) / np.outer(scale, scale)
    assert np.abs(difference).max() < 0.01
    both = [fitted_background(r, shifted, exact[1], CUT) for r in (one, two)]
    assert both[0].value == pytest.approx(both[1].value, rel=1e-4)
    assert both[0].error == pytest.approx(both[1].error, rel=0.01)


def test_background_of_the_fit_is_that_of_the_shifted_protons(exact, shifted):
    result = fit_templates(shifted, *exact, cut=CUT)
    background = fitted_background(result, shifted, exact[1], CUT)
    expected = make("proton", truth(s0=S0, s1=S1)[1]).above(CUT).value
    assert background.value == pytest.approx(expected, rel=1e-3)
    assert background.fraction == pytest.approx(expected / shifted.above(CUT).value, rel=1e-3)
    unshifted = make("proton", truth()[1]).above(CUT).value
    assert (np.abs(unshifted - expected) > 5 * 1e-3 * expected).all()
    total = sum(part**2 for part in background.parts.values())
    assert background.fraction_error == pytest.approx(np.sqrt(total))


def test_background_errors_follow_the_shift(exact, shifted):
    """The part of the shift is its error times the change of the background, here by refitting."""
    free = fit_templates(shifted, *exact, FitSettings(shift_order=0), cut=CUT)
    s0, error = free.coefficients["s0"]
    moved = [
        fitted_background(
            fit_templates(shifted, *exact, FitSettings(shift_order=0, fixed=(s,)), cut=CUT),
            shifted,
            exact[1],
            CUT,
        ).value
        for s in (s0 + error, s0 - error)
    ]
    found = fitted_background(free, shifted, exact[1], CUT)
    by_shift = found.parts["shift"] * found.n_data
    assert by_shift == pytest.approx(0.5 * np.abs(moved[0] - moved[1]), rel=0.1)


def test_background_without_simulated_protons_above_the_cut(exact, shifted):
    electrons, protons = exact
    cut = 6.0
    bare = replace(protons, values=protons.values.copy(), variances=protons.variances.copy())
    bare.values[:, 110:] = bare.variances[:, 110:] = 0.0
    result = fit_templates(shifted, electrons, bare, cut=cut)
    background = fitted_background(result, shifted, bare, cut)
    assert background.success.all()
    assert background.mc_limited.all()
    assert (background.value == 0).all()
    assert (background.error > 0).all()
    other = replace(shifted, energy_edges=shifted.energy_edges * 2.0)
    with pytest.raises(HistogramMismatchError, match="made in other energy bins"):
        fitted_background(result, other, replace(bare, energy_edges=other.energy_edges), cut)


def test_fluctuating_sample_is_described():
    rng = np.random.default_rng(31)
    electrons, protons = simulation(rng=rng)
    counts = data(*truth(s0=S0, s1=S1), rng)
    found = {
        m: fit_templates(counts, electrons, protons, FitSettings(method=m), cut=CUT)
        for m in METHODS
    }
    result = found["simultaneous"]
    assert abs(result.deviance.sum() - result.ndf) < 4 * np.sqrt(2 * result.ndf)
    assert off(result.electrons, N_E).max() < 4
    assert off(result.protons, N_P).max() < 4
    for method in ("smooth", "per_bin"):
        other = found[method]
        assert off(other.electrons, result.electrons[0]).max() < 0.5
        assert off(other.shift, result.shift[0]).max() < 3
    assert result.edm < 1e-2


def test_curved_shift_is_found_by_the_likelihood_ratio(exact):
    rng = np.random.default_rng(5)
    curves = (0.4 + 0.0 * LOG_E, 0.4 + 0.5 * LOG_E, 0.4 + 0.8 * LOG_E**2, 0.4 + 1.5 * LOG_E**3)
    for order, curve in enumerate(curves):
        electrons = truth()[0]
        protons = np.array(
            [n * contents(proton_cdf, shift=s) for n, s in zip(N_P, curve, strict=True)]
        )
        result = fit_templates(
            data(electrons, protons, rng), *exact, FitSettings(shift_order="auto"), cut=CUT
        )
        assert result.settings["shift_order"] == order
        chain = result.settings["deviance_by_order"]
        assert len(chain) == min(order + 2, 4)
        assert order == 3 or chain[order] - chain[order + 1] < 3.841
        assert (np.diff(chain) < -3.841).sum() == order
        assert off(result.shift, curve).max() < 4


def test_width_and_electron_shift_are_recovered(exact):
    true = truth(s0=S0, s1=S1, width=1.1, electron_shift=0.2)
    settings = FitSettings(width_order=0, electron_order=0)
    result = fit_templates(data(*true), *exact, settings, cut=CUT)
    found = {name: value for name, (value, _) in result.coefficients.items()}
    assert found == pytest.approx({"s0": S0, "s1": S1, "w0": 1.1, "e0": 0.2}, abs=2e-3)
    assert result.width[0] == pytest.approx(np.full(6, 1.1), abs=2e-3)
    assert result.electron_shift[0] == pytest.approx(np.full(6, 0.2), abs=2e-3)
    assert off(result.electrons, N_E).max() < 0.1
    # without them the fit says that it is bad
    rigid = fit_templates(data(*true), *exact, cut=CUT)
    assert rigid.deviance.sum() > result.deviance.sum() + 100
    per_bin = fit_templates(data(*true), *exact, replace(settings, method="per_bin"), cut=CUT)
    assert per_bin.width[0][:3] == pytest.approx([1.1] * 3, abs=0.01)
    smooth = fit_templates(data(*true), *exact, replace(settings, method="smooth"), cut=CUT)
    assert smooth.coefficients["w0"][0] == pytest.approx(1.1, abs=5e-3)


def test_no_shift_at_all(exact):
    result = fit_templates(data(*truth()), *exact, FitSettings(shift_order=None), cut=CUT)
    assert off(result.electrons, N_E).max() < 0.01
    assert (result.shift[0] == 0).all()
    assert (result.width[0] == 1).all()
    assert (result.electron_shift[0] == 0).all()
    assert result.coefficients == {}


def test_fixed_coefficients_are_kept(exact, shifted):
    for method in METHODS:
        settings = FitSettings(method=method, fixed=(S0 + 0.1, S1))
        result = fit_templates(shifted, *exact, settings, cut=CUT)
        assert result.success.all()
        assert result.shift[0] == pytest.approx(S0 + 0.1 + S1 * LOG_E)
        assert result.shift[1] == pytest.approx(np.zeros(6), abs=1e-12)
    free = fit_templates(shifted, *exact, cut=CUT)
    kept = fit_templates(shifted, *exact, FitSettings(fixed=(S0, S1)), cut=CUT)
    assert kept.ndf == free.ndf + 2
    assert (kept.electrons[1] <= free.electrons[1] * (1 + 1e-6)).all()


def test_negative_yields_only_without_the_clamp(exact):
    electrons, protons = truth()
    electrons *= 0.0
    lacking = protons.copy()
    lacking[:, 130:] *= 0.7  # fewer events below the electrons than the protons explain
    counts = make("data", lacking)
    clamped = fit_templates(counts, *exact, FitSettings(shift_order=None), cut=CUT)
    assert clamped.success.all()
    assert (clamped.electrons[0] >= 0).all()
    assert (clamped.electrons[0] < 1e-2).all()
    assert clamped.at_limit.all()
    assert (clamped.electrons[1] == 0).all()
    free = fit_templates(counts, *exact, FitSettings(shift_order=None, clamped=False), cut=CUT)
    assert free.success.all()
    assert (free.electrons[0] < 0).all()
    assert (free.electrons[1] > 0).all()
    assert not free.at_limit.any()


def test_unclamped_electrons_are_unbiased_where_there_are_none():
    rng = np.random.default_rng(77)
    protons = truth(2)[1]
    pulls = []
    for _ in range(40):
        templates = simulation(2, rng=rng)
        counts = make("data", rng.poisson(protons / 20))
        result = fit_templates(
            counts, *templates, FitSettings(shift_order=None, clamped=False), cut=CUT
        )
        assert result.success.all()
        pulls.append(result.electrons[0] / result.electrons[1])
    pulls = np.ravel(pulls)
    assert abs(pulls.mean()) < 4 / np.sqrt(pulls.size)
    assert 0.8 < pulls.std() < 1.2
    assert (pulls < -1).any()


def test_energy_range(exact, shifted):
    low, high = shifted.energy_edges[[1, 5]]
    result = fit_templates(shifted, *exact, FitSettings(e_min_gev=low, e_max_gev=high), cut=CUT)
    assert result.used.tolist() == [1, 2, 3, 4]
    assert result.reasons[0] == result.reasons[5] == "outside the energies of the fit"
    assert off(result.electrons, N_E)[1:5].max() < 0.01


def test_window_of_each_energy_bin(exact, shifted):
    low = np.array([-15.0, -14.0, -13.0, -12.0, -11.0, -np.inf])
    high = np.array([18.0, 17.0, 16.0, 15.0, 14.0, np.inf])
    result = fit_templates(shifted, *exact, FitSettings(window=(low, high)), cut=CUT)
    assert result.success.all()
    assert result.n_data == pytest.approx(shifted.between(low, high).value)
    assert (result.window[0] == low).all()
    # a yield counts the whole template, also what lies outside the window
    assert off(result.electrons, N_E).max() < 0.01
    assert off(result.protons, N_P).max() < 0.01


def test_data_where_no_simulation_is_are_counted_and_kept(exact, shifted):
    electrons, protons = (replace(t, values=t.values.copy()) for t in exact)
    for template in (electrons, protons):
        template.values[:, 100:103] = template.variances[:, 100:103] = 0.0
    result = fit_templates(shifted, electrons, protons, FitSettings(shift_order=None), cut=CUT)
    assert result.success.all()
    assert result.unsupported == pytest.approx(shifted.values[:, 100:103].sum(axis=1))
    assert result.n_data == pytest.approx(shifted.values.sum(axis=1))
    assert result.settings["empty_score_bins"] == "merged with their neighbours before the fit"


def test_far_shift_and_far_start():
    """Electrons hide the median of the data at high energy; the search must not start there."""
    rng = np.random.default_rng(6)
    true = truth(s0=3.0, s1=-1.0)
    result = fit_templates(data(*true, rng), *simulation(rng=rng))
    assert result.success.all()
    assert result.coefficients["s0"][0] == pytest.approx(3.0, abs=0.05)
    assert result.coefficients["s1"][0] == pytest.approx(-1.0, abs=0.1)


def test_same_input_same_output(exact, shifted):
    one, two = (fit_templates(shifted, *exact, cut=CUT) for _ in range(2))
    assert (one.parameters == two.parameters).all()
    assert (one.covariance == two.covariance).all()
    assert isinstance(shifted, Template)
