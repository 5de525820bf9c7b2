"""Rejection, background fraction and ROC against hand counts and closed forms."""

import math

import numpy as np
import pytest
from scipy.stats import chi2, norm

from models.evaluation import EvaluationError
from models.rejection import rejection, rejection_ratio, roc

EDGES = np.array([100.0, 1000.0])


def gaussians(n, distance, seed=1):
    rng = np.random.default_rng(seed)
    electron = np.arange(n) % 2 == 0
    return np.where(electron, distance, 0.0) + rng.normal(size=n), electron


def test_by_hand():
    # ten electrons 1..10, four protons; at 90 % the cut is the second electron... 1 falls
    s = np.concatenate([np.arange(1.0, 11.0), [0.5, 1.5, 2.5, 3.5]])
    electron = np.arange(14) < 10
    w = np.concatenate([np.ones(10), [10.0, 6.0, 3.0, 1.0]])
    rate = w * np.where(electron, 2.0, 5.0)
    energy = np.full(14, 300.0)
    r = rejection(s, electron, energy, [100, 200, 1000], efficiency=0.95, weights=w, rate=rate)
    assert np.isnan(r.value[0])
    assert r.n_protons.tolist() == [0, 4]
    assert r.cut[1] == 1.0
    r = rejection(s, electron, energy, EDGES, efficiency=0.8, weights=w, rate=rate)
    assert r.cut[0] == 2.0
    assert r.proton_efficiency[0] == pytest.approx(4 / 20)
    assert r.value[0] == pytest.approx(5.0)
    assert r.n_above[0] == 2
    n = 16 / 10  # (3 + 1)²/(9 + 1)
    assert r.effective_above[0] == pytest.approx(n)
    tail = (1 - 0.6826894921) / 2
    low, high = chi2.ppf(tail, 2 * n) / 2 / n, chi2.isf(tail, 2 * n + 2) / 2 / n
    assert r.proton_efficiency_lower[0] == pytest.approx(0.2 * low, rel=1e-6)
    assert r.upper[0] == pytest.approx(5.0 / low, rel=1e-6)
    assert r.lower[0] == pytest.approx(1 / min(0.2 * high, 1.0), rel=1e-6)
    # rates: electrons above 9 x 2, protons above (3 + 1) x 5
    assert r.background_fraction[0] == pytest.approx(20 / 38)
    assert r.background_fraction_upper[0] == pytest.approx(20 * high / (20 * high + 18), rel=1e-6)


def test_no_proton_left_gives_a_limit():
    s = np.concatenate([np.full(100, 5.0), np.linspace(0, 1, 1000)])
    electron = np.arange(1100) < 100
    w = np.where(s < 0.5, 50.0, 2.0)
    w[electron] = 1.0
    r = rejection(s, electron, np.full(1100, 300.0), EDGES, efficiency=0.9, weights=w, rate=w)
    assert r.value[0] == math.inf
    assert r.upper[0] == math.inf
    total = w[~electron].sum()
    # zero events: one-sided limit -ln(1 - 0.6827) of the weight of the tail, 2
    assert r.lower[0] == pytest.approx(total / (1.1478744644 * 2.0), rel=1e-9)
    assert r.background_fraction[0] == 0.0
    assert r.background_fraction_upper[0] == pytest.approx(
        2.29574893 / (2.29574893 + 100), rel=1e-8
    )
    assert r.n_above[0] == 0


@pytest.mark.parametrize("efficiency", [0.8, 0.9, 0.98])
def test_gaussians(efficiency):
    s, electron = gaussians(200_000, 4.0)
    energy = np.where(np.arange(s.size) % 4 < 2, 150.0, 500.0)
    r = rejection(s, electron, energy, [100, 200, 1000], efficiency=efficiency)
    expected = 1 / norm.sf(4.0 - norm.ppf(efficiency))
    for i in range(2):
        assert r.value[i] == pytest.approx(expected, rel=4 / np.sqrt(50_000 / expected) + 0.02)
        assert r.lower[i] < r.value[i] < r.upper[i]
        assert r.cut[i] == pytest.approx(4.0 - norm.ppf(efficiency), abs=0.03)
    assert np.isnan(r.background_fraction).all()


def test_ratio_of_two_scores():
    n = 100_000
    a, electron = gaussians(n, 3.5)
    b = np.where(electron, 3.0, 0.0) + (a - np.where(electron, 3.5, 0.0))  # the same noise
    ratio = rejection_ratio(a, b, electron, efficiency=0.9, replicas=200)
    z = norm.ppf(0.9)
    assert ratio.value == pytest.approx(norm.sf(3.0 - z) / norm.sf(3.5 - z), rel=0.1)
    assert ratio.lower < ratio.value < ratio.upper
    # nested passing sets: narrower than for independent counts
    independent = ratio.value * np.sqrt(1 / ratio.n_first + 1 / ratio.n_second)
    assert (ratio.upper - ratio.lower) / 2 < independent
    assert not ratio.limit
    same = rejection_ratio(a, a, electron, efficiency=0.9, replicas=20)
    assert (same.value, same.lower, same.upper) == (1.0, 1.0, 1.0)


def test_ratio_without_a_proton_left_is_a_limit():
    electron = np.arange(2000) < 1000
    perfect = np.where(electron, 1.0, 0.0)
    poor = np.where(electron | (np.arange(2000) >= 1900), 1.0, 0.0)  # 100 protons pass
    ratio = rejection_ratio(perfect, poor, electron, efficiency=0.9)
    assert ratio.value == math.inf
    assert ratio.upper == math.inf
    assert ratio.limit
    assert (ratio.n_first, ratio.n_second) == (0, 100)
    lower = chi2.ppf((1 - 0.6826894921) / 2, 200) / 2
    assert ratio.lower == pytest.approx(lower / 1.1478744644, rel=1e-6)


def test_roc_of_gaussians():
    s, electron = gaussians(400_000, 2.0)
    curve = roc(s, electron, efficiencies=[0.5, 0.8, 0.95])
    assert curve.electron_efficiency.tolist() == [0.95, 0.8, 0.5]
    expected = norm.sf(2.0 - norm.ppf([0.95, 0.8, 0.5]))
    assert curve.proton_efficiency == pytest.approx(expected, rel=0.03)
    default = roc(s, electron)
    assert default.electron_efficiency.size == 200
    assert (np.diff(default.proton_efficiency) <= 0).all()


def test_ties_at_the_cut_are_kept():
    s = np.array([1.0, 1.0, 0.0, 1.0, 0.0])
    electron = np.array([True, True, False, False, False])
    assert roc(s, electron, efficiencies=[0.9]).proton_efficiency[0] == pytest.approx(1 / 3)
    r = rejection(s, electron, np.full(5, 300.0), EDGES, efficiency=0.9)
    assert r.value[0] == pytest.approx(3.0)


def test_scores_must_be_finite():
    with pytest.raises(EvaluationError, match="not finite"):
        rejection([np.nan], [True], [300.0], EDGES, efficiency=0.9)
