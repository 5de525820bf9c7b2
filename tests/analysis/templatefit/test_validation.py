"""The fit against iminuit's template fit and against pyhf, on the same binned templates without a shift."""

import numpy as np
import pyhf
import pytest
from iminuit import Minuit
from iminuit.cost import Template as TemplateCost
from templatetoys import (
    CUT,
    N_E,
    N_P,
    contents,
    data,
    electron_cdf,
    make,
    proton_cdf,
    simulation,
    truth,
)

from analysis.templatefit import FitSettings, fit_templates
from analysis.templatefit.bins import fit_bins

PLAIN = FitSettings(shift_order=None)


def in_bins(template, edges):
    """Σw and Σw² of one energy bin in the score bins of the fit."""
    axis = np.concatenate([[-np.inf], template.omega_edges, [np.inf]])
    start = np.searchsorted(axis, edges[:-1] - 1e-9)
    start[0] = 0
    return np.stack([np.add.reduceat(x[0], start) for x in (template.values, template.variances)])


def draw(seed, events, n_e=2000.0, n_p=20_000.0):
    """One energy bin: data, templates, and both in the score bins of the fit."""
    rng = np.random.default_rng(seed)
    counts = make("data", rng.poisson(n_e * contents(electron_cdf) + n_p * contents(proton_cdf)))
    electrons, protons = simulation(1, rng=rng, events=events)
    edges = fit_bins(counts, electrons, protons).edges[0]
    return counts, electrons, protons, [in_bins(t, edges) for t in (counts, electrons, protons)]


@pytest.mark.parametrize("events", [1500.0, 20_000.0, 1e6])
def test_iminuit_template_cost(events):
    """Same likelihood: yields and uncorrected errors agree to 1 % of the error.

    The errors of iminuit are from the second derivatives at the minimum, ours from the information that is
    expected there; they differ by what the counts fluctuate.
    """
    for seed in range(4):
        counts, electrons, protons, (n, e, p) = draw(seed, events)
        cost = TemplateCost(
            n[0],
            np.arange(n.shape[1] + 1.0),
            [np.stack(e, axis=-1), np.stack(p, axis=-1)],
            method="da",
        )
        other = Minuit(cost, 2000.0, 20_000.0)
        other.strategy = 2
        other.tol = 1e-5
        other.migrad()
        other.hesse()
        result = fit_templates(counts, electrons, protons, PLAIN, cut=CUT)
        raw = np.sqrt(np.diag(result.raw_covariance))
        values, errors = np.array(other.values), np.array(other.errors)
        assert (np.abs(result.parameters - values) < 0.01 * raw).all()
        assert result.deviance[0] == pytest.approx(other.fval, abs=1e-3)
        assert raw == pytest.approx(errors, rel=0.05)


def test_errors_against_the_second_derivatives_of_iminuit_on_expected_data():
    """Without fluctuations the information that is expected is the one that is there: 1 %."""
    electrons, protons = simulation(1, events=20_000.0)
    counts = make("data", 2000.0 * contents(electron_cdf) + 2e4 * contents(proton_cdf))
    result = fit_templates(counts, electrons, protons, PLAIN, cut=CUT)
    edges = fit_bins(counts, electrons, protons).edges[0]
    n, e, p = (in_bins(t, edges) for t in (counts, electrons, protons))
    cost = TemplateCost(
        n[0], np.arange(n.shape[1] + 1.0), [np.stack(e, axis=-1), np.stack(p, axis=-1)], method="da"
    )
    other = Minuit(cost, 2000.0, 20_000.0)
    other.migrad()
    other.hesse()
    assert np.sqrt(np.diag(result.raw_covariance)) == pytest.approx(
        np.array(other.errors), rel=0.01
    )


def staterror_fit(n, e, p):
    """The same in pyhf: two normalisations, and per score bin a Gaussian constraint for the simulation."""
    scale = {"electron": 2000.0, "proton": 20_000.0}
    samples = []
    for name, part in (("electron", e), ("proton", p)):
        factor = scale[name] / part[0].sum()
        samples.append(
            {
                "name": name,
                "data": (factor * part[0]).tolist(),
                "modifiers": [
                    {"name": f"n_{name}", "type": "normfactor", "data": None},
                    {
                        "name": "simulation",
                        "type": "staterror",
                        "data": (factor * np.sqrt(part[1])).tolist(),
                    },
                ],
            }
        )
    workspace = {
        "version": "1.0.0",
        "channels": [{"name": "score", "samples": samples}],
        "observations": [{"name": "score", "data": n[0].tolist()}],
        "measurements": [{"name": "fit", "config": {"poi": "n_electron", "parameters": []}}],
    }
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(verbose=False, tolerance=1e-4))
    space = pyhf.Workspace(workspace)
    model = space.model()
    fit = pyhf.infer.mle.fit(space.data(model), model, return_uncertainties=True)
    places = [model.config.par_slice(f"n_{name}").start for name in scale]
    return np.array([fit[k] * scale[name] for k, name in zip(places, scale, strict=True)])


@pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")  # pyhf's
@pytest.mark.parametrize(("events", "share"), [(3e6, 0.01), (30_000.0, 0.1)])
def test_pyhf_with_staterror(events, share):
    """Barlow-Beeston lite with Gaussian constraints: the same for much simulation, near for less.

    pyhf takes the relative error of a score bin from the nominal yields and keeps it, here it follows the
    yields; and its constraint is Gaussian, here it is Poisson.
    """
    counts, electrons, protons, binned = draw(1, events)
    found = staterror_fit(*binned)
    result = fit_templates(counts, electrons, protons, PLAIN, cut=CUT)
    raw = np.sqrt(np.diag(result.raw_covariance))
    assert (np.abs(result.parameters - found[:, 0]) < share * raw).all()
    assert raw == pytest.approx(found[:, 1], rel=0.01)


def test_corrected_errors_are_the_spread_of_toys():
    """Yields scatter less than an uncorrected fit says: part of the simulation's fluctuation cancels.

    Yields and both coefficients of the shift scatter as their errors say.
    """
    rng = np.random.default_rng(99)
    n, toys, events = 2, 200, 100_000.0
    true = truth(n, s0=0.5, s1=0.3)
    values, variances, raw = [], [], []
    for _ in range(toys):
        result = fit_templates(data(*true, rng), *simulation(n, rng=rng, events=events), cut=CUT)
        assert result.success.all()
        values.append(result.parameters)
        variances.append(np.diag(result.covariance))
        raw.append(np.diag(result.raw_covariance))
    expected = np.concatenate([N_E[:n], N_P[:n], [0.5, 0.3]])
    pulls = (np.array(values) - expected) / np.sqrt(variances)
    one = 1.0 / np.sqrt(toys)
    assert np.abs(pulls.mean(axis=0)).max() < 4.0 * one
    assert np.abs(pulls.std(axis=0) - 1.0).max() < 4.0 * one / np.sqrt(2.0)
    # what the uncorrected error of the proton yield would have claimed
    naive = (np.array(values) - expected) / np.sqrt(raw)
    assert naive[:, n : n + 1].std() < 0.7
