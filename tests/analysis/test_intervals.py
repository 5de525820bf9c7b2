import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from analysis.intervals import (
    ONE_SIGMA,
    clopper_pearson,
    garwood,
    upper_limit,
    weighted_efficiency,
)


def test_one_sigma():
    assert pytest.approx(0.682689492137086, rel=1e-14) == ONE_SIGMA


@pytest.mark.parametrize(
    ("count", "lower", "upper"),
    [  # N. Gehrels, ApJ 303 (1986) 336, tables 1 and 2, column of 1 sigma
        (0, 0.0, 1.841),
        (1, 0.1728, 3.300),
        (3, 1.367, 5.918),
        (5, 2.840, 8.382),
        (10, 6.891, 14.27),
        (50, 42.95, 58.12),
    ],
)
def test_garwood_against_gehrels(count, lower, upper):
    interval = garwood(count)
    assert interval.lower == pytest.approx(lower, abs=6e-4 if count < 10 else 6e-3)
    assert interval.upper == pytest.approx(upper, abs=6e-4 if count < 10 else 6e-3)


def test_garwood_equals_the_chi2_form_and_keeps_the_shape():
    n = np.arange(1, 400).reshape(19, 21)
    interval = garwood(n, 0.95)
    assert interval.lower.shape == (19, 21)
    assert interval.lower == pytest.approx(stats.chi2.ppf(0.025, 2 * n) / 2, rel=1e-10)
    assert interval.upper == pytest.approx(stats.chi2.ppf(0.975, 2 * n + 2) / 2, rel=1e-10)


def test_garwood_covers_every_mean():
    counts = np.arange(200)
    lower, upper = garwood(counts)
    for mean in np.linspace(0.05, 60, 400):
        inside = (lower <= mean) & (mean <= upper)
        assert stats.poisson.pmf(counts[inside], mean).sum() >= ONE_SIGMA - 1e-9


@settings(deadline=None)
@given(st.floats(0, 1e6), st.floats(1e-3, 1e3))
def test_garwood_grows_with_the_count_and_contains_it(count, step):
    first, second = garwood(count), garwood(count + step)
    assert first.lower <= second.lower
    assert first.upper < second.upper
    assert first.lower <= count < first.upper


@settings(deadline=None)
@given(st.integers(0, 500), st.floats(0.05, 0.9), st.floats(0.01, 0.09))
def test_garwood_widens_with_the_level(count, level, more):
    narrow, wide = garwood(count, level), garwood(count, level + more)
    assert wide.lower <= narrow.lower
    assert wide.upper > narrow.upper


@pytest.mark.parametrize(
    ("count", "limit"), [(0, 2.996), (1, 4.744), (2, 6.296), (3, 7.754), (10, 16.962)]
)
def test_upper_limit_without_background(count, limit):
    # the classical Poisson limits; Review of Particle Physics, Statistics, table of 95 % limits
    assert upper_limit(count) == pytest.approx(limit, abs=6e-4)


def test_upper_limit_solves_its_equation():
    for n, b in [(3, 1.0), (0, 4.0), (10, 12.5), (25, 10.0)]:
        goal = 0.05 * stats.poisson.cdf(n, b)
        root = optimize.brentq(
            lambda s, n=n, b=b, goal=goal: stats.poisson.cdf(n, s + b) - goal, 0, 100
        )
        assert upper_limit(n, b) == pytest.approx(root, rel=1e-8)


def test_upper_limit_of_zero_counts_ignores_the_background_at_any_depth():
    limits = upper_limit(np.zeros(4), [0.0, 3.0, 300.0, 5000.0])
    assert limits == pytest.approx(np.full(4, -np.log(0.05)), rel=1e-9)


def test_upper_limit_far_below_the_background_is_a_bound_above_zero():
    # 1000 expected, 100 seen: the probability underflows, the bound is -ln(0.05) / 0.9
    assert upper_limit(100, 1000.0) == pytest.approx(2.99573 / 0.9, rel=1e-5)


@settings(deadline=None)
@given(st.integers(0, 60), st.floats(0, 80))
def test_upper_limit_falls_with_background(count, background):
    assert 0 < upper_limit(count, background + 1) <= upper_limit(count, background) * (1 + 1e-9)


def test_clopper_pearson_against_published_values():
    lower, upper = clopper_pearson([0, 5, 10, 81], [10, 10, 10, 263], 0.95)
    # 81 of 263: R. G. Newcombe, Stat. Med. 17 (1998) 857, exact method; others closed form
    assert lower == pytest.approx([0.0, 0.18709, 1 - 0.30850, 0.25273], abs=2e-5)
    assert upper == pytest.approx([0.30850, 0.81291, 1.0, 0.36762], abs=2e-5)
    assert upper[0] == pytest.approx(1 - 0.025**0.1, rel=1e-12)


def test_clopper_pearson_without_events_knows_nothing():
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@settings(deadline=None)
@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_clopper_pearson_contains_the_estimate_and_mirrors(counts):
    k, n = counts
    lower, upper = clopper_pearson(k, n)
    assert lower <= k / n <= upper
    mirrored = clopper_pearson(n - k, n)
    assert mirrored.lower == pytest.approx(1 - upper, abs=1e-9)


def test_weighted_efficiency_of_unit_weights_is_binomial():
    result = weighted_efficiency([30, 95], [30, 95], [100, 100], [100, 100])
    assert result.value == pytest.approx([0.30, 0.95])
    assert result.error == pytest.approx(np.sqrt([0.3 * 0.7 / 100, 0.95 * 0.05 / 100]))
    assert result.effective_counts == pytest.approx([100, 100])
    exact = clopper_pearson([30, 95], 100)
    assert result.lower == pytest.approx(exact.lower)
    assert result.upper == pytest.approx(exact.upper)


def test_weighted_efficiency_does_not_depend_on_the_scale_of_the_weights():
    one = weighted_efficiency(12.0, 6.0, 20.0, 13.0)
    other = weighted_efficiency(12.0e-7, 6.0e-14, 20.0e-7, 13.0e-14)
    for a, b in zip(one, other, strict=True):
        assert a == pytest.approx(b)
    # by hand: eff 0.6; (0.4^2 * 6 + 0.6^2 * 7) / 400
    assert one.error == pytest.approx(np.sqrt((0.16 * 6 + 0.36 * 7) / 400))


def test_weighted_efficiency_error_is_the_spread_of_toys():
    rng = np.random.default_rng(20171207)
    # passed events weigh 0.5, failed ones 2: 900 and 100 expected
    k, f = rng.poisson(900, 20000), rng.poisson(100, 20000)
    result = weighted_efficiency(0.5 * k, 0.25 * k, 0.5 * k + 2.0 * f, 0.25 * k + 4.0 * f)
    truth = 450 / 650
    pull = (result.value - truth) / result.error
    assert np.std(pull) == pytest.approx(1.0, abs=0.02)
    assert np.mean(pull) == pytest.approx(0.0, abs=0.08)


def test_weighted_efficiency_at_the_ends_has_an_error():
    result = weighted_efficiency([0.0, 25.0], [0.0, 6.25], [25.0, 25.0], [6.25, 6.25])
    assert result.effective_counts == pytest.approx([100, 100])
    # Clopper-Pearson for 0 of 100: 1 - 0.15866^(1/100)
    assert result.error == pytest.approx(np.full(2, 1 - ((1 - ONE_SIGMA) / 2) ** 0.01))


def test_weighted_efficiency_of_nothing_is_nan():
    result = weighted_efficiency(0.0, 0.0, 0.0, 0.0)
    assert all(np.isnan(x) for x in result)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: garwood([1.0, -2.0]), r"counts must be finite and >= 0, got .*-2\.0"),
        (lambda: garwood(np.nan), "got .*nan"),
        (lambda: garwood(1, 1.0), r"level must lie between 0 and 1, got 1\.0"),
        (lambda: upper_limit(1, -1), "background must be finite"),
        (lambda: clopper_pearson(3, 2), "passed counts exceed the total in 1 entries"),
        (lambda: weighted_efficiency(2, 1, 1, 1), "subset"),
        (lambda: weighted_efficiency(1, 2, 1, 1), "subset"),
    ],
)
def test_bad_input_is_named(call, text):
    with pytest.raises(ValueError, match=text):
        call()
