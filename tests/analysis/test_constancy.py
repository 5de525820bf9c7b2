"""Tests against a constant: by hand, by brute force, and over many pseudo-experiments."""

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar

from analysis.constancy import constant_counts, constant_share, on_off_deviance
from analysis.exceptions import AnalysisError

LIVETIME = np.array([0.8, 1.0, 0.5, 1.2, 0.9, 1.0, 1.1, 0.7, 1.0, 0.9, 1.3, 0.6])
YEARS = 2016.0 + (np.arange(12) + 0.5) / 12


def poisson_deviance(n, mean):
    return 2 * (stats.poisson.logpmf(n, max(n, 1e-300)) - stats.poisson.logpmf(n, mean))


@pytest.mark.parametrize("transfer", [0.0, 1e-4, 0.03, 2.0])
@pytest.mark.parametrize(("n", "control"), [(0, 0), (0, 7), (5, 0), (12, 300), (40, 3)])
@pytest.mark.parametrize("signal", [0.5, 10.0, 60.0])
def test_profiled_background_is_the_best_one(n, control, signal, transfer):
    def cost(log_background):
        background = np.exp(log_background)
        return poisson_deviance(n, signal + transfer * background) + poisson_deviance(
            control, background
        )

    best = min(
        minimize_scalar(cost, bounds=ends, method="bounded", options={"xatol": 1e-10}).fun
        for ends in ((-40.0, 0.0), (0.0, 8.0))
    )
    assert on_off_deviance(n, control, signal, transfer) == pytest.approx(best, abs=1e-6)


def test_two_months_by_hand():
    # 10 and 20 counts in equal times against 15 and 15
    found = constant_counts([10, 20], [1.0, 1.0], [0.0, 1.0])
    by_hand = 2 * (10 * np.log(10 / 15) + 20 * np.log(20 / 15))
    assert found.chi2 == pytest.approx(by_hand)
    assert (found.mean, found.ndf, found.p_from) == (15.0, 1, "chi2")
    assert found.p_value == pytest.approx(stats.chi2.sf(by_hand, 1))
    # two points lie on a line: 10 = 15 (1 - d/2), 20 = 15 (1 + d/2), so d = 2 (b - a) / (a + b)
    assert found.drift_per_year == pytest.approx(2 / 3, rel=1e-4)
    assert found.drift_error == pytest.approx(np.sqrt(16 * 10 * 20 / 30**3), rel=0.02)
    assert found.drift_p_value == pytest.approx(found.p_value, rel=1e-3)


def test_efficiency_by_hand():
    found = constant_share([80, 90], [100, 100], [0.0, 1.0])
    by_hand = 2 * sum(k * np.log(k / 85) + (100 - k) * np.log((100 - k) / 15) for k in (80, 90))
    assert found.chi2 == pytest.approx(by_hand)
    assert found.mean == pytest.approx(0.85)
    assert found.drift_per_year == pytest.approx(0.1 / 0.85, rel=1e-4)
    assert found.drift_error == pytest.approx(np.sqrt(0.16 + 0.09) / 10 / 0.85, rel=0.02)


@pytest.mark.parametrize(
    ("rate", "control", "transfer", "seeds", "how"),
    [(400.0, 5000.0, 0.01, 300, "chi2"), (30.0, 0.0, 0.0, 300, "chi2"), (2.0, 40.0, 0.02, 60, "toys")],
)  # fmt: skip
def test_p_values_are_uniform_and_drifts_zero(rate, control, transfer, seeds, how):
    rng = np.random.default_rng(11)
    found = []
    for _ in range(seeds):
        off = rng.poisson(control * LIVETIME)
        n = rng.poisson((rate + transfer * control) * LIVETIME)
        found.append(constant_counts(n, LIVETIME, YEARS, control=off, transfer=transfer))
    assert {f.p_from for f in found} == {how}
    assert stats.kstest([f.p_value for f in found], "uniform").pvalue > 0.01
    chi2 = np.mean([f.chi2 / f.ndf for f in found])
    if how == "chi2":
        assert chi2 == pytest.approx(1.0, abs=4 * np.sqrt(2 / 11 / seeds))
        assert stats.kstest([f.drift_p_value for f in found], "uniform").pvalue > 0.01
    pulls = np.array([f.drift_per_year / f.drift_error for f in found])
    assert np.mean(pulls) == pytest.approx(0.0, abs=4 / np.sqrt(seeds))
    assert np.std(pulls) == pytest.approx(1.0, abs=0.15 if how == "chi2" else 0.35)


def test_an_injected_drift_is_found():
    rng = np.random.default_rng(12)
    drift, mean_year = -0.3, np.average(YEARS, weights=LIVETIME)
    rate = 200.0 * (1 + drift * (YEARS - mean_year))
    pulls = []
    for _ in range(200):
        off = rng.poisson(1000.0 * LIVETIME)
        n = rng.poisson((rate + 0.02 * 1000.0) * LIVETIME)
        found = constant_counts(n, LIVETIME, YEARS, control=off, transfer=0.02)
        pulls.append((found.drift_per_year - drift) / found.drift_error)
    assert np.mean(pulls) == pytest.approx(0.0, abs=0.25)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.15)


def test_efficiencies_that_drift_and_that_do_not():
    rng = np.random.default_rng(13)
    flat, falling = [], []
    for _ in range(200):
        tried = rng.poisson(800 * LIVETIME)
        flat.append(constant_share(rng.binomial(tried, 0.9), tried, YEARS).p_value)
        share = 0.9 * (1 - 0.1 * (YEARS - np.average(YEARS, weights=tried)))
        test = constant_share(rng.binomial(tried, share), tried, YEARS)
        falling.append((test.drift_per_year + 0.1) / test.drift_error)
    assert stats.kstest(flat, "uniform").pvalue > 0.01
    assert np.mean(falling) == pytest.approx(0.0, abs=0.25)
    assert np.std(falling) == pytest.approx(1.0, abs=0.15)


def test_the_error_near_an_efficiency_of_one_is_that_of_the_likelihood_ratio():
    tried = np.array([2.0, 3, 2, 2, 3, 2, 2, 3, 2, 2, 3, 2])
    passed = tried.copy()
    passed[-1] -= 1  # one of 28 events fails, in the last month
    found = constant_share(passed, tried, np.arange(12) / 12)
    wald = stats.chi2.sf((found.drift_per_year / found.drift_error) ** 2, 1)
    assert found.drift_per_year < 0
    assert wald > found.drift_p_value / 3  # no more significant than the likelihood says
    assert 0.01 < found.drift_p_value < 0.9


def test_nothing_to_compare():
    for n, time in (([3], [1.0]), ([3, 4], [1.0, 0.0])):
        with pytest.raises(AnalysisError, match="nothing to compare"):
            constant_counts(n, time, np.arange(len(n)))
    with pytest.raises(AnalysisError, match="no efficiency"):
        constant_share([0, 1], [0, 1], [0.0, 1.0])
    empty = constant_counts([0, 0, 0], [1.0, 1.0, 1.0], [0.0, 1.0, 2.0])
    assert (empty.mean, empty.chi2, empty.p_value) == (0.0, 0.0, 1.0)
    assert np.isnan(empty.drift_per_year)
