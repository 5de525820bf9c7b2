"""Post-fit expectation: yields, shift and width as fitted, nothing lost, pulls of width 1."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.exceptions import AnalysisError, HistogramMismatchError
from analysis.postfit import postfit
from analysis.templatefit import FitSettings, fit_templates
from analysis.templates import Template

EDGES = np.array([100.0, 200.0, 400.0])
OMEGA = np.linspace(-6.0, 6.0, 121)
CENTRES = 0.5 * (OMEGA[1:] + OMEGA[:-1])
SHIFT = 0.4  # four score bins


def template(kind, centre, width, sums, weight):
    values = np.zeros((len(sums), OMEGA.size + 1))
    shape = np.exp(-0.5 * ((CENTRES - centre) / width) ** 2)
    values[:, 1:-1] = np.outer(sums, shape / shape.sum())
    return Template(kind, "fiducial", EDGES, OMEGA, values, weight * values)


@pytest.fixture(scope="module")
def inputs():
    electrons = template("electron", 2.0, 0.7, (1.0, 2.0), 1e-5)
    protons = template("proton", -2.0, 0.9, (3.0, 4.0), 1e-5)
    moved = template("data", -2.0 + SHIFT, 0.9, (20000.0, 5000.0), 1.0).values
    mean = moved + template("data", 2.0, 0.7, (3000.0, 900.0), 1.0).values
    counts = np.random.default_rng(5).poisson(mean).astype(float)
    return Template("data", "fiducial", EDGES, OMEGA, counts, counts), electrons, protons


def test_expectation_is_the_template_moved_by_whole_bins(inputs):
    data, electrons, protons = inputs
    result = fit_templates(data, electrons, protons, FitSettings(shift_order=0, fixed=(SHIFT,)))
    fit = postfit(result, data, electrons, protons, merge=1)
    scale = result.protons[0] / protons.values.sum(axis=1)
    rolled = np.roll(protons.values[:, 1:-1], 4, axis=1) * scale[:, None]
    inner = slice(8, -8)
    np.testing.assert_allclose(fit.protons[:, inner], rolled[:, inner], rtol=1e-9, atol=1e-6)
    still = protons.values[:, 1:-1] * scale[:, None]
    np.testing.assert_allclose(fit.unshifted, still, rtol=1e-9, atol=1e-6)
    electron_scale = result.electrons[0] / electrons.values.sum(axis=1)
    np.testing.assert_allclose(
        fit.electrons, electrons.values[:, 1:-1] * electron_scale[:, None], rtol=1e-9, atol=1e-6
    )
    squares = 1e-5 * (fit.electrons * electron_scale[:, None] + rolled * scale[:, None])
    np.testing.assert_allclose(fit.variance[:, inner], squares[:, inner], rtol=1e-7, atol=1e-6)
    pull = (fit.data - fit.total) / np.sqrt(fit.total + fit.variance)
    np.testing.assert_allclose(fit.pull, pull)


def test_merged_bins_keep_every_event_and_the_yields(inputs):
    data, electrons, protons = inputs
    result = fit_templates(data, electrons, protons, FitSettings(shift_order=0))
    fit = postfit(result, data, electrons, protons, merge=4)
    np.testing.assert_array_equal(fit.omega_edges, OMEGA[::4])
    np.testing.assert_allclose(fit.data.sum(axis=1) + fit.outside, data.values.sum(axis=1))
    np.testing.assert_allclose(fit.electrons.sum(axis=1), result.electrons[0], rtol=1e-9)
    np.testing.assert_allclose(fit.protons.sum(axis=1), result.protons[0], rtol=1e-9)
    np.testing.assert_allclose(fit.unshifted.sum(axis=1), result.protons[0], rtol=1e-9)
    assert fit.shift[0] == pytest.approx([SHIFT, SHIFT], abs=5 * fit.shift[1].max())
    many = fit.total > 20
    assert (fit.pull[many] ** 2).mean() == pytest.approx(1.0, abs=4 * np.sqrt(2 / many.sum()))


def test_width_moves_the_protons_about_their_mean(inputs):
    data, electrons, protons = inputs
    result = fit_templates(data, electrons, protons, FitSettings(shift_order=0, width_order=0))
    at = 2 * result.used.size
    parameters = result.parameters.copy()
    parameters[at : at + 2] = SHIFT, 1.3
    fit = postfit(replace(result, parameters=parameters), data, electrons, protons, merge=1)
    mean = (fit.protons * CENTRES).sum(axis=1) / fit.protons.sum(axis=1)
    spread = np.sqrt((fit.protons * (CENTRES - mean[:, None]) ** 2).sum(axis=1))
    spread /= np.sqrt(fit.protons.sum(axis=1))
    np.testing.assert_allclose(mean, -2.0 + SHIFT, atol=0.01)
    np.testing.assert_allclose(spread, 0.9 * 1.3, rtol=0.01)


def test_bins_without_simulation_and_without_fit_are_told(inputs):
    data, electrons, protons = inputs
    values = data.values.copy()
    values[:, 0] = 7.0  # beyond the axis
    values[0, 1] = 3.0  # no template reaches the first bin of this energy bin
    values[1] = 0.0  # no data: no fit
    other = replace(data, values=values)
    filled = np.arange(OMEGA.size + 1) >= 5
    empty = [
        replace(t, values=t.values * filled, variances=t.variances * filled)
        for t in (electrons, protons)
    ]
    result = fit_templates(other, *empty, FitSettings(shift_order=0, fixed=(0.0,)))
    fit = postfit(result, other, *empty, merge=1)
    assert fit.outside[0] == 7.0
    assert fit.pull[0, 0] == np.inf
    assert fit.success.tolist() == [True, False]
    for part in (fit.electrons, fit.protons, fit.unshifted, fit.variance, fit.pull):
        assert np.isnan(part[1]).all()
    assert np.isfinite(fit.total[0]).all()


def test_refused(inputs):
    data, electrons, protons = inputs
    result = fit_templates(data, electrons, protons, FitSettings(shift_order=0))
    with pytest.raises(AnalysisError, match="120 score bins cannot be merged by 7"):
        postfit(result, data, electrons, protons, merge=7)
    moved = [replace(t, energy_edges=EDGES * 2) for t in (data, electrons, protons)]
    with pytest.raises(HistogramMismatchError, match="other energy bins"):
        postfit(result, *moved)
    with pytest.raises(HistogramMismatchError, match="score bins of the proton template"):
        postfit(result, data, electrons, replace(protons, omega_edges=OMEGA + 1))
