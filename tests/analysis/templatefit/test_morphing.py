import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from templatetoys import OMEGA, contents, make

from analysis.exceptions import HistogramMismatchError
from analysis.templatefit.morphing import movable

STEP = 0.5
AXIS = STEP * np.arange(25) - 3.0
OPEN = np.concatenate([[-np.inf], AXIS, [np.inf]])
SHIFTS = st.floats(-30.0, 30.0)
WIDTHS = st.floats(0.1, 10.0)
#: Empty bins, single events, full bins; the weight of an event differs from bin to bin.
COUNTS = hnp.arrays(
    np.int64, (3, 26), elements=st.sampled_from([0, 0, 0, 1, 2, 5, 40, 1000, 10**6])
)
WEIGHTS = hnp.arrays(np.float64, (3, 26), elements=st.sampled_from([1e-6, 1e-3, 1.0]))


def build(counts, weights, *, smooth=False):
    counts, weights = np.atleast_2d(counts), np.atleast_2d(weights)
    template = make("proton", counts * weights, counts * weights**2, omega=AXIS)
    return template, movable(template, smooth=smooth)


def moved(part, shift, width=1.0, edges=OPEN):
    n = part.total.size
    edges = np.broadcast_to(edges, (n, edges.shape[-1]))
    return part.between(edges, np.full(n, float(shift)), np.full(n, float(width)))


@settings(max_examples=150, deadline=None)
@given(COUNTS, WEIGHTS, SHIFTS, WIDTHS, st.booleans())
def test_no_event_is_lost_and_none_is_negative(counts, weights, shift, width, smooth):
    template, part = build(counts, weights, smooth=smooth)
    result = moved(part, shift, width)
    for new, old in (
        (result.values, template.values),
        (result.variances, template.variances),
    ):
        total = old.sum(axis=1)
        assert new.sum(axis=1) == pytest.approx(total, rel=1e-12)
        assert (new >= -1e-12 * total[:, None]).all()


@settings(max_examples=60, deadline=None)
@given(COUNTS, WEIGHTS, st.integers(-30, 30))
def test_whole_bins_are_exact(counts, weights, bins):
    template, part = build(counts, weights)
    result = moved(part, STEP * bins)
    for new, old in (
        (result.values, template.values),
        (result.variances, template.variances),
    ):
        expected = np.zeros_like(old)
        for column in range(24):  # what leaves the axis is counted beyond its end
            expected[:, np.clip(column + 1 + bins, 0, 25)] += old[:, column + 1]
        expected[:, [0, -1]] += old[:, [0, -1]]
        assert np.abs(new - expected).max() <= 1e-9 * old.sum()


def test_flow_bins_stay():
    counts = np.zeros(26)
    counts[[0, 10, 25]] = 7.0, 100.0, 11.0
    _, part = build(counts, np.ones(26))
    for shift in (-100.0, -1.3, 2.2, 100.0):
        values = moved(part, shift).values[0]
        assert values[0] == pytest.approx(7.0 + (100.0 if shift == -100.0 else 0.0))
        assert values[-1] == pytest.approx(11.0 + (100.0 if shift == 100.0 else 0.0))
    inner = moved(part, 0.0, edges=AXIS).values[0]
    assert inner.sum() == pytest.approx(100.0)


@settings(max_examples=50, deadline=None)
@given(COUNTS, SHIFTS, WIDTHS, st.sampled_from([1e-9, 0.5, 1e6]))
def test_squared_weights_move_with_their_events(counts, shift, width, weight):
    _, part = build(counts, np.full(counts.shape, weight))
    result = moved(part, shift, width)
    total = (counts * weight).sum()
    assert np.abs(result.variances - weight * result.values).max() <= 1e-9 * weight * total


def test_weight_classes_stay_apart():
    """A light tail and a heavy bulk: away from the border the ratio Σw²/Σw is that of the class."""
    values = contents(lambda x: stats.norm.cdf(x, -5.0, 4.0)) * 1e6
    weight = np.where(np.arange(202) < 101, 10.0, 1.0)
    part = movable(make("proton", values, values * weight))
    edges = OMEGA[None]
    result = part.between(edges, np.array([0.737]), np.ones(1))
    centre = 0.5 * (OMEGA[1:] + OMEGA[:-1])
    for chosen, weight in (((centre > -18) & (centre < -0.5), 10.0), (centre > 2.0, 1.0)):
        value, variance = result.values[0][chosen], result.variances[0][chosen]
        assert variance == pytest.approx(weight * value, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize(("shift", "width"), [(0.0, 1.0), (0.3137, 1.0), (-2.71, 1.3), (1.0, 0.7)])
def test_derivatives_are_differences(smooth, shift, width):
    rng = np.random.default_rng(4)
    counts = rng.poisson(1e4 * contents(lambda x: stats.norm.cdf(x, 2.0, 1.5), omega=AXIS))
    _, part = build(counts, np.full(26, 0.1), smooth=smooth)
    shift += 1e-4  # beside the knots, where the second derivative jumps
    step = 1e-6
    at = moved(part, shift, width)
    for k, name in enumerate(("values", "variances")):
        plus, minus = (getattr(moved(part, shift + d, width), name) for d in (step, -step))
        scale = np.abs(at.by_shift[k]).max()
        assert at.by_shift[k] == pytest.approx((plus - minus) / (2 * step), abs=1e-5 * scale)
        plus, minus = (getattr(moved(part, shift, width + d), name) for d in (step, -step))
        scale = np.abs(at.by_width[k]).max()
        assert at.by_width[k] == pytest.approx((plus - minus) / (2 * step), abs=1e-5 * scale)


@settings(max_examples=30, deadline=None)
@given(COUNTS, st.floats(-3.0, 3.0), st.booleans())
def test_contents_are_continuous_in_the_shift(counts, shift, smooth):
    _, part = build(counts, np.ones((3, 26)), smooth=smooth)
    one, two = (moved(part, s).values for s in (shift, shift + 1e-9))
    assert np.abs(one - two).max() <= 1e-6 * max(counts.sum(), 1)


def narrow(x):
    """A peak of two score bins, steep on its lower side."""
    return stats.exponnorm.cdf(x, 3.0, loc=-8.0, scale=0.16)


@pytest.mark.parametrize("cdf", [narrow, lambda x: stats.norm.cdf(x, -3.0, 0.24)])
@pytest.mark.parametrize("phase", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_peak_as_narrow_as_two_bins(cdf, phase):
    """Bias of a shift that is fitted to 10⁵ events: below a tenth of its error."""
    part = movable(make("proton", 1e6 * contents(cdf)))
    shift, n = 0.2 * (4 + phase), 1e5
    edges = np.concatenate([[-np.inf], OMEGA, [np.inf]])[None]
    got = n * part.between(edges, np.array([shift]), np.ones(1)).values[0] / 1e6
    true = n * contents(cdf, shift=shift)
    slope = n * (contents(cdf, shift=shift + 1e-4) - contents(cdf, shift=shift - 1e-4)) / 2e-4
    weight = 1.0 / np.maximum(true, 1.0)
    information = (slope**2 * weight).sum()
    bias = ((true - got) * slope * weight).sum() / information
    assert abs(bias) * np.sqrt(information) < 0.1


def test_stretching_a_gaussian_about_its_mean():
    values = 1e6 * contents(lambda x: stats.norm.cdf(x, 1.0, 2.0))
    part = movable(make("proton", values))
    assert part.pivot == pytest.approx([1.0], abs=1e-3)
    got = part.between(OMEGA[None], np.array([0.5]), np.array([1.25])).values[0]
    assert got == pytest.approx(
        1e6 * contents(lambda x: stats.norm.cdf(x, 1.5, 2.5))[1:-1], abs=2.0
    )


def test_smooth_copy_has_the_derivatives_of_the_distribution():
    def cdf(x):
        return stats.norm.cdf(x, -2.0, 2.0)

    mean = 2000.0 * contents(cdf)
    counts = np.random.default_rng(8).poisson(mean)
    edges = OMEGA[None]
    true = 2000.0 * np.diff(stats.norm.pdf(edges[0], -2.0, 2.0)) * -1.0
    got = {
        s: movable(make("proton", counts), smooth=s)
        .between(edges, np.zeros(1), np.ones(1))
        .by_shift[0][0]
        for s in (False, True)
    }
    noise = {s: np.sqrt(np.mean((d - true) ** 2)) for s, d in got.items()}
    assert noise[True] < 0.6 * noise[False]


@settings(max_examples=30, deadline=None)
@given(COUNTS, WEIGHTS, SHIFTS, WIDTHS, st.sampled_from([1e-12, 1e9]))
def test_scale_of_the_weights_drops_out(counts, weights, shift, width, scale):
    _, one = build(counts, weights)
    _, two = build(counts, weights * scale)
    a, b = moved(one, shift, width), moved(two, shift, width)
    total = max((counts * weights).sum(), 1e-30)
    assert np.abs(b.values / scale - a.values).max() <= 1e-6 * total


def test_empty_template_and_single_bin():
    part = movable(make("proton", np.zeros((2, 26)), omega=AXIS))
    result = moved(part, 0.3)
    for x in (result.values, result.variances, *result.by_shift, *result.by_width):
        assert (x == 0).all()
    one = movable(make("proton", [[2.0, 10.0, 3.0]], omega=np.array([0.0, 1.0])))
    got = one.between(np.array([[-np.inf, 0.5, np.inf]]), np.array([0.25]), np.ones(1)).values
    assert got[0] == pytest.approx([2.0 + 2.5, 7.5 + 3.0])  # uniform inside


def test_rows_are_those_energy_bins():
    rng = np.random.default_rng(2)
    _, part = build(rng.poisson(20.0, (3, 26)), np.ones((3, 26)))
    chosen = part.rows(np.array([2, 0]))
    assert moved(chosen, 0.7).values == pytest.approx(moved(part, 0.7).values[[2, 0]])
    assert chosen.total == pytest.approx(part.total[[2, 0]])


def test_unequal_score_bins_are_refused():
    with pytest.raises(HistogramMismatchError, match="axis has unequal ones"):
        movable(make("proton", np.ones((1, 4)), omega=np.array([0.0, 1.0, 3.0])))
