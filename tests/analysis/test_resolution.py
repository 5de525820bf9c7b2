"""Bias and containment from a histogram: closed forms of a Gaussian, errors that toys confirm, flow bins."""

import math

import hist
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from analysis.exceptions import HistogramMismatchError
from analysis.intervals import ONE_SIGMA
from analysis.resolution import TWO_SIGMA, energy_resolution, resolution_table, resolutions

E_TRUE = [100.0, 200.0, 400.0]
RATIO = np.linspace(-1.2, 0.8, 401)


def empty(estimators=("e_corr", "cnn"), regions=("fiducial", "topfiducial")):
    return hist.Hist(
        hist.axis.StrCategory(regions, name="region"),
        hist.axis.StrCategory(estimators, name="estimator"),
        hist.axis.Variable(E_TRUE, name="energy_true", label="true energy (GeV)"),
        hist.axis.Regular(400, -1.2, 0.8, name="ratio", label="ln(E / E_true)"),
        storage=hist.storage.Weight(),
    )


def put(h, region, estimator, row, counts, weight=1.0):
    """Counts per ratio bin with flow, each event of the same weight."""
    at = (h.axes["region"].index(region), h.axes["estimator"].index(estimator), row + 1)
    view = h.view(flow=True)
    view["value"][at] = np.asarray(counts) * weight
    view["variance"][at] = np.asarray(counts) * weight**2


def gaussian(mean, width, events):
    return events * np.diff(norm.cdf(np.concatenate([[-np.inf], RATIO, [np.inf]]), mean, width))


def one(counts, weight=1.0):
    h = empty()
    put(h, "topfiducial", "cnn", 0, counts, weight)
    return energy_resolution(h, region="topfiducial", estimator="cnn")


@pytest.mark.parametrize(("mean", "width"), [(0.003, 0.012), (-0.11, 0.08), (0.02, 0.2)])
@pytest.mark.parametrize("weight", [1.0, 1e-7])
def test_gaussian_in_closed_form(mean, width, weight):
    n = 1e5
    r = one(gaussian(mean, width, n), weight)
    assert r.effective_counts[0] == pytest.approx(n)
    assert r.bias[0] == pytest.approx(math.exp(mean) - 1, abs=2e-5)
    half = [(math.exp(mean + k * width) - math.exp(mean - k * width)) / 2 for k in (1, 2)]
    assert r.half_68[0] == pytest.approx(half[0], rel=1e-3)
    assert r.half_95[0] == pytest.approx(half[1], rel=2e-3)  # bins of 0.4 standard deviations
    assert (r.half_68_least[0], r.half_95_least[0]) == (r.half_68[0], r.half_95[0])
    # order statistics: var(q) = p(1 - p)/(n f²), cov(q₁, q₂) = p₁(1 - p₂)/(n f₁f₂)
    expected = math.exp(mean) * width * math.sqrt(math.pi / 2 / n)
    assert r.bias_error[0] == pytest.approx(expected, rel=0.02)
    for k, level, error in ((1, ONE_SIGMA, r.half_68_error), (2, TWO_SIGMA, r.half_95_error)):
        p, f = (1 - level) / 2, norm.pdf(k) / width
        ends = math.exp(mean - k * width), math.exp(mean + k * width)
        squares = p * (1 - p) * (ends[0] ** 2 + ends[1] ** 2) - 2 * p**2 * ends[0] * ends[1]
        assert error[0] == pytest.approx(math.sqrt(squares / n) / f / 2, rel=0.03)


def test_errors_are_the_spread_of_repeated_samples():
    rng = np.random.default_rng(4)
    shape = gaussian(-0.03, 0.05, 1600.0)
    # two kinds of events, of weight 1 and 5, as simulations of different energies give
    found = []
    for _ in range(200):
        h = empty()
        light, heavy = rng.poisson(0.7 * shape), rng.poisson(0.3 * shape)
        put(h, "fiducial", "cnn", 0, light)
        view = h.view(flow=True)[0, 1, 1]
        view["value"] += 5.0 * heavy
        view["variance"] += 25.0 * heavy
        r = energy_resolution(h, region="fiducial", estimator="cnn")
        names = ("bias", "half_68", "half_95")
        found.append([(getattr(r, n)[0], getattr(r, f"{n}_error")[0]) for n in names])
    value, error = np.array(found).transpose(2, 0, 1)
    # the spread of 200 samples is known to 5 %; in the tails the interval is asymmetric
    np.testing.assert_allclose(np.sqrt((error**2).mean(axis=0)) / value.std(axis=0), 1.0, atol=0.16)
    assert abs(value[:, 0].mean() - (math.exp(-0.03) - 1)) < 3 * value[:, 0].std() / math.sqrt(200)


def test_weights_of_equal_size_do_not_matter():
    counts = np.random.default_rng(1).poisson(gaussian(0.0, 0.1, 300.0))
    a, b = one(counts), one(counts, 3e-5)
    for name in ("bias", "bias_error", "half_68", "half_68_error", "half_95", "half_95_error"):
        assert getattr(a, name)[0] == pytest.approx(getattr(b, name)[0], rel=1e-9)


def test_a_quantile_in_the_flow_is_beyond():
    counts = gaussian(-0.2, 0.1, 1000.0)
    counts[0] += 100.0  # 9 % below the axis: more than half of 4.55 %, less than half of 31.7 %
    r = one(counts)
    assert np.isfinite([r.bias[0], r.bias_error[0], r.half_68[0], r.half_68_error[0]]).all()
    assert r.half_95[0] == np.inf
    assert np.isnan(r.half_95_error[0])
    share = (0.5 + TWO_SIGMA / 2 - 100 / 1100) * 1.1
    upper = math.exp(-0.2 + 0.1 * norm.ppf(share))
    assert r.half_95_least[0] == pytest.approx((upper - math.exp(-1.2)) / 2, rel=1e-3)
    low, high = np.zeros(402), np.zeros(402)
    low[[0, 200]] = high[[-1, 200]] = 70.0, 30.0
    below, above = one(low), one(high)
    assert (below.bias[0], above.bias[0]) == (-1.0, np.inf)
    assert below.half_68[0] == above.half_68[0] == np.inf
    assert np.isnan([below.bias_error[0], above.half_68_error[0]]).all()
    assert "topfiducial,cnn,100,200,100.0,-1,nan,inf,nan,inf,nan" in resolution_table([below])


def test_few_events_give_no_number():
    counts = np.zeros(402)
    counts[200:219] = 1.0
    assert np.isnan(one(counts).bias[0])
    counts[219] = 1.0
    assert np.isfinite([one(counts).bias[0], one(counts).half_95_error[0]]).all()
    assert np.isnan(one(counts).bias[1])
    assert resolutions(empty()) == []


def test_regions_and_estimators_of_a_file():
    h = empty()
    put(h, "topfiducial", "e_corr", 1, gaussian(-0.1, 0.1, 500.0))
    put(h, "topfiducial", "cnn", 1, gaussian(0.0, 0.02, 500.0))
    found = resolutions(h)
    assert [(r.region, r.estimator) for r in found] == [
        ("topfiducial", "e_corr"),
        ("topfiducial", "cnn"),
    ]
    lines = resolution_table(found, note="made up").splitlines()
    assert lines[0] == "# made up"
    assert lines[2].split(",")[:4] == ["region", "estimator", "e_true_min_gev", "e_true_max_gev"]
    assert [line.split(",")[:5] for line in lines[3:]] == [
        ["topfiducial", name, "200", "400", "500.0"] for name in ("e_corr", "cnn")
    ]
    assert float(lines[4].split(",")[7]) == pytest.approx(math.sinh(0.02), rel=1e-3)
    with pytest.raises(HistogramMismatchError, match="has no estimator 'dnn'"):
        energy_resolution(h, region="topfiducial", estimator="dnn")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=40, max_size=40), st.floats(-0.5, 0.3))
def test_shifting_all_events_scales_the_energies(counts, start):
    first = int(np.searchsorted(RATIO, start))
    a, b = np.zeros(402), np.zeros(402)
    a[first : first + 40], b[first + 20 : first + 60] = counts, counts
    if sum(counts) < 20:
        counts[0] += 20
        a[first], b[first + 20] = counts[0], counts[0]
    one_, other = one(a), one(b)
    scale = math.exp(20 * 0.005)
    assert 1 + other.bias[0] == pytest.approx(scale * (1 + one_.bias[0]), rel=1e-6)
    for name in ("half_68", "half_95", "half_68_error", "bias_error"):
        assert getattr(other, name)[0] == pytest.approx(
            scale * getattr(one_, name)[0], rel=1e-6, abs=1e-9
        )
