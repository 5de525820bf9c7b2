"""AUC, weights and quantiles against pair counts, closed forms and an independent variance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import norm

from models.evaluation import (
    EvaluationError,
    auc,
    auc_bootstrap,
    bin_numbers,
    effective_number,
    flattened_weights,
    poisson_counts,
    weighted_quantile,
)


def brute_force(s, electron, w):
    """Every pair of an electron and a proton, ties counted half."""
    difference = s[electron][:, None] - s[~electron][None, :]
    pairs = np.outer(w[electron], w[~electron])
    return float((pairs * ((difference > 0) + 0.5 * (difference == 0))).sum() / pairs.sum())


def gaussians(n, distance, seed=1, share=0.5):
    rng = np.random.default_rng(seed)
    electron = rng.random(n) < share
    return np.where(electron, distance, 0.0) + rng.normal(size=n), electron


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 40), st.data())
def test_auc_is_the_count_of_pairs(n, data):
    # few different values, so that ties are common
    s = data.draw(hnp.arrays(float, n, elements=st.integers(-3, 3).map(float)))
    w = data.draw(hnp.arrays(float, n, elements=st.floats(0.01, 100)))
    electron = data.draw(hnp.arrays(bool, n).filter(lambda e: 0 < e.sum() < n))
    value = auc(s, electron, w)
    assert value == pytest.approx(brute_force(s, electron, w), rel=1e-12)
    assert auc(-s, electron, w) == pytest.approx(1 - value, abs=1e-12)
    assert auc(np.exp(s), electron, w) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("distance", [0.0, 1.0, 3.0])
def test_auc_of_gaussians(distance):
    n = 200_000
    s, electron = gaussians(n, distance)
    expected = norm.cdf(distance / np.sqrt(2))
    w = np.random.default_rng(2).choice([1.0, 5.0], n)
    error = 4 * np.sqrt(expected * (1 - expected) / (n / 2)) * 1.5
    assert auc(s, electron) == pytest.approx(expected, abs=error)
    assert auc(s, electron, w) == pytest.approx(expected, abs=error)


def test_events_of_weight_two_are_two_events():
    s, electron = gaussians(500, 1.0)
    w = np.random.default_rng(3).integers(1, 4, 500)
    again = np.repeat(np.arange(500), w)
    assert auc(s, electron, w) == pytest.approx(auc(s[again], electron[again]), rel=1e-12)


def delong(s, electron, w):
    """Standard deviation of a weighted AUC from placement values (DeLong 1988)."""
    value = brute_force(s, electron, w)
    e, p = s[electron], s[~electron]
    we, wp = w[electron] / w[electron].sum(), w[~electron] / w[~electron].sum()
    won = (e[:, None] > p[None, :]).astype(float)
    return np.sqrt(
        (we**2 * (won @ wp - value) ** 2).sum() + (wp**2 * (we @ won - value) ** 2).sum()
    )


def test_replicas_spread_as_an_independent_variance():
    s, electron = gaussians(4000, 1.5)
    w = np.where(electron, 1.0, np.random.default_rng(4).choice([1.0, 10.0], 4000))
    result = auc_bootstrap({"s": s}, electron, w, replicas=1000)
    assert result.of("s") == pytest.approx(auc(s, electron, w), rel=1e-12)
    sigma = delong(s, electron, w)
    assert np.std(result.replicas) == pytest.approx(sigma, rel=0.08)
    low, high = result.interval("s")
    assert (high - low) / 2 == pytest.approx(sigma, rel=0.1)
    assert low < result.of("s") < high
    assert result.n_electrons == electron.sum()
    assert result.effective_protons == pytest.approx(effective_number(w[~electron]))


def test_cells_do_not_move_the_auc():
    """50 000 different scores in 4096 cells: the replicas stay around the exact value."""
    s, electron = gaussians(50_000, 3.0)
    result = auc_bootstrap({"s": s}, electron, replicas=100)
    sigma = np.std(result.replicas)
    assert result.replicas.mean() == pytest.approx(result.of("s"), abs=4 * sigma / 10)
    fine = auc_bootstrap({"s": s}, electron, replicas=100, seed=2).replicas
    assert np.std(fine) == pytest.approx(sigma, rel=0.3)


def test_paired_differences_know_their_events():
    s, electron = gaussians(20_000, 2.0)
    noisy = s + 0.1 * np.random.default_rng(5).normal(size=s.size)
    result = auc_bootstrap({"a": s, "b": noisy, "c": 2 * s - 7}, electron, replicas=300)
    value, low, high = result.difference("a", "c")
    assert value == 0
    assert abs(high - low) < 1e-12
    value, low, high = result.difference("a", "b")
    assert value == pytest.approx(auc(s, electron) - auc(noisy, electron), abs=1e-14)
    assert 0 < low < value < high  # a small loss, seen because the events are the same
    single = result.interval("a")
    assert high - low < 0.2 * (single[1] - single[0])


def test_separated_classes():
    s = np.array([1.0, 2.0, 3.0, 4.0])
    electron = np.array([False, False, True, True])
    result = auc_bootstrap({"s": s, "wrong": -s}, electron, replicas=50)
    assert result.value.tolist() == [1.0, 0.0]
    assert result.replicas == pytest.approx(np.tile([1.0, 0.0], (50, 1)), abs=1e-12)


def test_poisson_counts():
    counts = poisson_counts(np.random.default_rng(6), 400_000)
    assert counts.mean() == pytest.approx(1.0, abs=0.008)
    assert counts.var() == pytest.approx(1.0, abs=0.015)
    for k in range(5):
        share = np.mean(counts == k)
        assert share == pytest.approx(np.exp(-1) / [1, 1, 2, 6, 24][k], abs=0.004)


def test_weights():
    assert effective_number([2.0, 2.0, 2.0]) == pytest.approx(3.0)
    assert effective_number([3.0, 1.0]) == pytest.approx(1.6)
    assert effective_number([]) == 0.0
    assert bin_numbers([0.5, 1.0, 9.9, 10.0, 100.0], [1, 10, 100]).tolist() == [-1, 0, 0, 1, -1]


def test_flattened_weights_give_both_classes_one_spectrum():
    rng = np.random.default_rng(7)
    n = 20_000
    electron = rng.random(n) < 0.3
    energy = np.exp(rng.uniform(np.log(50), np.log(2000), n)) * np.where(electron, 1.0, 0.4)
    w = rng.choice([1.0, 8.0], n)
    edges = np.array([100.0, 200.0, 1000.0, 1500.0])  # no proton above 800 GeV
    flat = flattened_weights(energy, electron, w, edges)
    number = bin_numbers(energy, edges)
    share = np.diff(np.log(edges)) / np.log(15)
    for c in (electron, ~electron):
        sums = [flat[c & (number == i)].sum() for i in range(3)]
        assert sums == pytest.approx([share[0], share[1], 0.0])
    assert not flat[number < 0].any()
    inside = electron & (number == 1)
    assert np.ptp(flat[inside] / w[inside]) < 1e-18


def test_weighted_quantile():
    assert weighted_quantile([3.0, 1.0, 2.0], [1.0, 2.0, 1.0], [0.5, 0.51, 0.75, 1.0]).tolist() == [
        1.0, 2.0, 2.0, 3.0,
    ]  # fmt: skip
    values = np.arange(1000.0)
    assert weighted_quantile(values, np.ones(1000), 0.1) == 99.0  # rounding of 0.1 * 1000 too


@pytest.mark.parametrize(
    ("scores", "electron", "weights", "text"),
    [
        ([1.0, np.nan], [True, False], None, "1 of 2 scores are not finite"),
        ([1.0, 2.0], [True, True], None, "no protons"),
        ([1.0, 2.0], [True, False], [0.0, 1.0], "no electrons"),
        ([1.0, 2.0], [True, False], [-1.0, 1.0], "not negative"),
        ([1.0, 2.0], [True], None, "shapes"),
    ],
)
def test_what_cannot_be_evaluated(scores, electron, weights, text):
    with pytest.raises(EvaluationError, match=text):
        auc(scores, electron, weights)
    with pytest.raises(EvaluationError, match="no score"):
        auc_bootstrap({}, electron)
