"""Significances: conversions, closure of the fits, Wilks' theorem where it holds, toys."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.exceptions import AnalysisError
from analysis.published import load
from analysis.spectrum.cost import FitOptions, make_cost, minimise
from analysis.spectrum.data import from_published, select
from analysis.spectrum.fit import BreakFit, fit
from analysis.spectrum.models import spectral_model
from analysis.spectrum.search import bounds, search
from analysis.spectrum.significance import (
    Toys,
    _draw,
    _extrapolated,
    run_toys,
    sigmas,
    significance,
)

LAW = spectral_model("power_law")
BROKEN = spectral_model("smoothly_broken_power_law")
DATA = select(from_published(load("dampe_2017_electron_positron")))


def pair(options: FitOptions | None = None) -> tuple[BreakFit, BreakFit]:
    return fit(DATA, LAW, options, minos=False), fit(DATA, BROKEN, options, minos=False)


def test_conversion() -> None:
    """Gaussian tables; and the published 46.9 for 2 degrees of freedom."""
    two, one = sigmas([0.31731, 0.0455, 2.699796e-3, 5.733e-7])
    np.testing.assert_allclose(two, [1, 2, 3, 5], atol=1e-3)
    assert sigmas(0.158655)[1] == pytest.approx(1, abs=1e-5)
    assert np.all(one < two)
    two, one = sigmas(stats.chi2.sf(46.9, 2))
    assert (round(float(two), 2), round(float(one), 2)) == (6.53, 6.43)
    assert sigmas(0.9)[1] == 0


@pytest.mark.parametrize("options", [FitOptions("nuisance"), FitOptions("poisson")])
def test_closure(options: FitOptions) -> None:
    """400 toys of a known break: pulls of all four parameters around 0 with width 1."""
    truth = BROKEN.internal((1.62e-4, 3.09, 3.92, 914.0))
    law, cost = make_cost(DATA, LAW, options), make_cost(DATA, BROKEN, options)
    rng = np.random.default_rng(11)
    n = 400
    theta = np.concatenate((np.tile(truth, (n, 1)), rng.normal(1, cost.sigma, (n, 6))), axis=1)
    mu = cost.predict(theta)[0]
    error = np.broadcast_to(cost.error, mu.shape)
    drawn = rng.poisson(mu).astype(float) if cost.poisson else rng.normal(mu, error)
    # each toy's priors are centred where its measurement of the scale factors lies: at 1
    best = search(law, cost, DATA, truth[:2], drawn, error)[1]
    fisher = cost.evaluate(best.theta, drawn, error)[2]
    width = np.sqrt(np.diagonal(np.linalg.inv(fisher), axis1=1, axis2=2))[:, :4]
    pulls = (best.theta[:, :4] - truth) / width
    assert best.converged.mean() > 0.98
    assert np.all(np.abs(np.median(pulls, axis=0)) < 4 * 1.25 / np.sqrt(n))
    inside = np.mean(np.abs(pulls) < 1, axis=0)
    assert np.all(np.abs(inside - 0.683) < 0.09)
    assert np.all(pulls[:, :2].std(axis=0) < 1.15)


def test_wilks_with_the_break_held() -> None:
    """With the break energy fixed only an index is free: chi2 with one degree of freedom."""
    law, cost = make_cost(DATA, LAW, FitOptions()), make_cost(DATA, BROKEN, FitOptions())
    rng = np.random.default_rng(5)
    n = 1500
    truth = LAW.internal((1.63e-4, 3.13))
    drawn = rng.normal(law.predict(truth)[0], law.error, (n, len(DATA)))
    error = np.broadcast_to(law.error, drawn.shape)
    low, high = (np.tile(limit, (n, 1)) for limit in bounds(law, DATA))
    null = minimise(law, np.tile(truth, (n, 1)), drawn, error, low, high)
    low, high = (np.tile(limit, (n, 1)) for limit in bounds(cost, DATA))
    low[:, 3] = high[:, 3] = np.log(600.0)
    both = [
        minimise(cost, np.tile([*truth, truth[1] + step, 0], (n, 1)), drawn, error, low, high).cost
        for step in (-0.4, 0.4)
    ]
    delta = null.cost - np.minimum(*both)
    assert delta.min() > -1e-4
    assert delta.mean() == pytest.approx(1, abs=0.12)
    assert stats.kstest(delta, stats.chi2(1).cdf).pvalue > 1e-3


def test_toys_repeat_and_never_favour_the_power_law() -> None:
    law, broken = pair()
    first, again = (run_toys(law, broken, 300, 7) for _ in range(2))
    np.testing.assert_array_equal(first.delta, again.delta)
    assert not np.array_equal(first.delta, run_toys(law, broken, 300, 8).delta)
    assert first.delta.min() >= 0
    assert np.all(first.softening <= first.delta + 1e-9)
    assert first.softening.min() >= 0
    assert first.not_converged < 10
    assert first.exceeding == 0
    # none of 300: 95 % limit 1 - 0.05^(1/300)
    assert first.upper_limit == pytest.approx(1 - 0.05 ** (1 / 300), rel=1e-9)
    assert 1.8 < first.effective_ndf < 2.7
    assert 1.5 < first.effective_ndf_tail < 3.2
    assert np.isnan(first.p_extrapolated)  # too few toys


def test_extrapolated_tail() -> None:
    """Toys that follow chi2 with two degrees of freedom: exp(-delta/2), and steeper is smaller."""
    delta = np.random.default_rng(1).chisquare(2, 40_000)
    best, low, high = _extrapolated(delta, 35.0)
    assert low < best < high
    assert low / 3 < np.exp(-17.5) < 3 * high
    assert np.isnan(_extrapolated(delta, 5.0)[0])
    assert np.isnan(_extrapolated(delta[:500], 35.0)[0])
    assert np.isnan(_extrapolated(delta[:60], 35.0)[0])


def test_p_value_counts_toys() -> None:
    """A weak break: the share of toys above it is binomial, near the asymptotic value."""
    law, _ = pair()
    weak = replace(DATA, dnde=law.expected * (1 + 0.25 * law.pulls * DATA.stat / DATA.dnde))
    null, broken = fit(weak, LAW, minos=False), fit(weak, BROKEN, minos=False)
    toys = run_toys(null, broken, 400, 3)
    assert toys.exceeding == np.count_nonzero(toys.delta >= toys.observed)
    assert toys.p_value == toys.exceeding / 400
    assert 0.4 < toys.p_value / significance(null, broken).p_value < 2.5
    assert toys.interval[0] <= toys.p_value <= toys.interval[1] < toys.upper_limit + 0.02
    assert toys.observed == pytest.approx(null.cost - broken.cost)


@pytest.mark.parametrize(
    ("options", "errors"),
    [
        (FitOptions("poisson"), "fixed"),
        (FitOptions("nuisance"), "counts"),
        (FitOptions(), "counts"),
        (FitOptions(bin_average=True), "fixed"),
    ],
)
def test_other_toys_follow_the_null(options: FitOptions, errors: str) -> None:
    law, broken = pair(options)
    toys = run_toys(law, broken, 120, 2, errors=errors)  # type: ignore[arg-type]
    assert toys.delta.min() >= 0
    assert 1.4 < toys.effective_ndf < 3.5
    assert toys.exceeding <= 1
    assert toys.extra == 2


@pytest.mark.parametrize("method", ["nuisance", "poisson"])
def test_toys_draw_the_nuisances(method: Any) -> None:
    """Bins of the same interval move together by the width of its prior, others apart."""
    options = FitOptions(method)
    law = fit(DATA, LAW, options, minos=False)
    cost = make_cost(DATA, LAW, options)
    truth = LAW.internal(law.values)
    rng = np.random.default_rng(9)
    drawn = _draw(cost, DATA, law, truth, 2000, rng, "fixed")[0]
    shares = np.corrcoef(drawn[:, [0, 1, 5]].T)
    mean = cost.predict(np.concatenate((truth, np.ones(6))))[0]
    common = np.cov((drawn / mean)[:, :2].T)[0, 1]
    assert np.sqrt(common) == pytest.approx(cost.sigma[0], rel=0.1)
    assert shares[0, 1] > 0.8
    assert abs(shares[0, 2]) < 0.1


def test_toys_of_a_cutoff() -> None:
    law = fit(DATA, LAW, minos=False)
    cut = fit(DATA, spectral_model("power_law_cutoff"), minos=False)
    toys: Toys = run_toys(law, cut, 300, 4)
    assert toys.extra == 1
    # a cut-off can only soften: half of the toys gain nothing
    assert 0.35 < np.mean(toys.delta < 1e-2) < 0.65


def test_refusals() -> None:
    law, broken = pair()
    with pytest.raises(AnalysisError, match="must be positive, got 0"):
        run_toys(law, broken, 0, 1)
    with pytest.raises(AnalysisError, match="seed must not be negative"):
        run_toys(law, broken, 1, -1)
    with pytest.raises(AnalysisError, match="no more parameters"):
        significance(broken, law)
    with pytest.raises(AnalysisError, match="other bins or options"):
        significance(law, pair(FitOptions("nuisance"))[1])
    blind = replace(DATA, counts=DATA.counts * np.nan)
    with pytest.raises(AnalysisError, match="lacks counts"):
        run_toys(fit(blind, LAW), fit(blind, BROKEN), 5, 1, errors="counts")
