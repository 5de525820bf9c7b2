"""The common flux of two regions: closed forms, toys, properties, consistency, refusals."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from analysis.combinable import (
    BinsDifferError,
    CombinationError,
    EventsNotDisjointError,
    ExposureDiffersError,
    KindsDifferError,
    SelectionDiffersError,
    UnknownSourceError,
)
from analysis.combination import combine
from analysis.exceptions import AnalysisError
from analysis.exports import publishable
from analysis.flux import flux
from analysis.fluxtable import read_flux_table, write_flux_table
from analysis.intervals import garwood, upper_limit
from analysis.spectrum.data import from_flux_table

TIME = 2e8
KEYS = ("dnde", "dnde_errn", "dnde_errp", "dnde_ul")


def table(
    n,
    exposure,
    region="fiducial",
    *,
    background=0.0,
    background_error=0.0,
    efficiency=0.8,
    efficiency_error=0.0,
    acceptance_error=0.0,
    edges=None,
    factor=None,
    sources=None,
    **meta,
):
    """Flux table of one region: counts, exposure in m² sr s GeV, background counts."""
    n = np.atleast_1d(np.asarray(n, float))
    edges = np.geomspace(1000.0, 4000.0, n.size + 1) if edges is None else np.asarray(edges)
    moved = np.ones(n.size) if factor is None else np.broadcast_to(factor, n.shape)
    area = exposure / (TIME * np.diff(edges) * efficiency * moved)
    some = n > 0
    share, error = (
        np.where(some, x / np.where(some, n, 1.0), np.nan) for x in (background, background_error)
    )
    described = {"region": region, "edge_cut": "on", "bgo_reconstruction": "new", "score": "omega"}
    made = flux(
        n, share, error, efficiency, efficiency_error, area, acceptance_error * area, TIME,
        edges[:-1], edges[1:], meta={"flux": described, **meta},
    )  # fmt: skip
    if factor is not None:
        columns = {k: getattr(made, k) / moved for k in KEYS}
        pairs = {k: (a / moved, b / moved) for k, (a, b) in made.systematics.items()}
        described["migration"] = {"method": "folding", "factor": moved}
        made = replace(made, **columns, systematics=pairs, meta={**made.meta, "flux": described})
    for name, (low, high) in (sources or {}).items():
        made = made.with_systematic(name, low * made.dnde, high * made.dnde)
    return made


def top(n, exposure, **options):
    return table(n, exposure, "topfiducial", **options)


@pytest.mark.parametrize("counts", [(0, 0), (0, 1), (1, 0), (0, 2), (2, 1), (40, 35)])
@pytest.mark.parametrize("exposures", [(1e9, 1e9), (3e9, 1e9)])
def test_without_background_it_is_one_larger_experiment(counts, exposures):
    found = combine([table(counts[0], exposures[0]), top(counts[1], exposures[1])])
    n, x = sum(counts), sum(exposures)
    ends = garwood(n)
    one = found.table
    assert one.dnde == pytest.approx(n / x)
    assert one.dnde_errn == pytest.approx((n - ends.lower) / x)
    assert one.dnde_errp == pytest.approx((ends.upper - n) / x)
    assert one.dnde_ul == pytest.approx(upper_limit(n) / x)
    assert one.n_data == n
    assert found.weights[:, 0] == pytest.approx(np.array(exposures) / x)
    assert found.predicted == pytest.approx(np.sqrt(exposures[0] / x))


@given(signal=st.floats(3000, 1e6), share=st.floats(0.05, 1.0), factor=st.floats(0.8, 1.2))
@settings(max_examples=25, deadline=None)
def test_error_shrinks_as_the_exposures_say(signal, share, factor):
    """Expected counts in both, without background: within 1 %."""
    found = combine([table(signal, signal), top(share * signal, share * signal, factor=factor)])
    assert found.gain[0] == pytest.approx(1 / np.sqrt(1 + share), rel=0.01)
    assert found.predicted[0] == pytest.approx(1 / np.sqrt(1 + share))
    assert found.table.dnde[0] == pytest.approx(1.0)


@pytest.mark.parametrize("counts", [(0, 6), (3, 0), (5, 2), (30, 50)])
def test_known_background_gives_the_maximum_of_the_likelihood(counts):
    x, b = np.array([4.0, 3.0]), np.array([0.5, 2.0])
    n = np.array(counts, float)
    around = [3.0, 12.0]  # neighbours in which both have counts: the background is known
    energy = table(np.ones(3), 1.0).e_ref
    falling = (energy / energy[1]) ** -3
    both = [
        maker([around[0], one, around[1]], np.full(3, xi), background=bi * falling)
        for maker, one, xi, bi in zip((table, top), n, x, b, strict=True)
    ]
    found = combine(both)

    def slope(phi):
        return float(np.sum(x * (n / (phi * x + b) - 1)))

    best = optimize.brentq(slope, -0.49 * b.min() / x.max(), 100)
    assert found.table.dnde[1] == pytest.approx(best, rel=1e-9)


def test_equal_background_shares_sum_up():
    """Equal ratios of background to exposure leave equal weights of the events."""
    n, x = np.array([23.0, 14.0]), np.array([20.0, 10.0])
    found = combine([table(n[0], x[0], background=2.0), top(n[1], x[1], background=1.0)])
    ends = garwood(37.0)
    assert found.table.dnde[0] == pytest.approx((37 - 3) / 30)
    assert found.table.dnde_errn[0] == pytest.approx((37 - ends.lower[()]) / 30)
    assert found.table.dnde_ul[0] == pytest.approx(upper_limit(37.0, 3.0) / 30)
    assert found.table.background_fraction[0] == pytest.approx(3 / 37)
    assert found.table.counts[0] == pytest.approx(34 / 0.8)


def test_errors_of_background_and_simulation():
    options = {"efficiency_error": 0.8 * 0.03, "background": 10.0, "background_error": 4.0}
    found = combine([table(110.0, 100.0, **options), top(110.0, 100.0, **options)])
    ends = garwood(220.0)
    other = 2 * 4.0**2 + 2 * (100 * 0.03) ** 2
    assert found.table.dnde[0] == pytest.approx(1.0)
    assert found.table.dnde_errn[0] == pytest.approx(
        np.hypot(220 - ends.lower, np.sqrt(other)) / 200
    )
    assert found.table.background_fraction_err[0] == pytest.approx(np.sqrt(32) / 220)
    assert found.table.efficiency_err[0] == pytest.approx(0.8 * 0.03 / np.sqrt(2))


def test_weights_are_those_of_the_expectation():
    """A region that fluctuates downwards gets no more weight; one with bad simulation less."""
    x = np.array([50.0, 50.0])
    weights = [
        combine([table(n, x[0]), top(100 - n, x[1])]).weights[:, 0] for n in (20.0, 50.0, 80.0)
    ]
    for one in weights:
        assert one == pytest.approx([0.5, 0.5])
    many = 1e8  # the simulation alone decides
    found = combine(
        [table(many, many, acceptance_error=0.01), top(many, many, acceptance_error=0.02)]
    )
    assert found.weights[:, 0] == pytest.approx([0.8, 0.2], rel=1e-3)


def test_background_of_an_empty_bin_is_that_of_its_neighbours():
    edges = np.array([1000.0, 1200.0, 1440.0, 1728.0])
    x = 1e9 * np.ones(3)
    energy = table([1, 1, 1], x, edges=edges).e_ref
    b = 0.3 * (energy / energy[1]) ** -3
    empty = table([4, 0, 2], x, background=b, edges=edges)
    found = combine([empty, top([4, 5, 3], x, edges=edges)])
    w = found.weights[:, 1]
    assert found.table.dnde[1] == pytest.approx((w[1] * 5 - w[0] * 0.3) / 1e9, rel=1e-9)
    assert found.table.dnde[0] == pytest.approx((found.weights[:, 0] * ([4 - b[0], 4])).sum() / 1e9)


@given(
    counts=st.lists(st.integers(0, 300), min_size=3, max_size=3),
    background=st.floats(0.0, 0.3),
    stretch=st.floats(0.1, 10.0),
)
@settings(max_examples=30, deadline=None)
def test_order_and_unit_of_the_exposure_do_not_matter(counts, background, stretch):
    x = np.array([100.0, 30.0, 5.0])
    other = np.array(counts)[::-1]
    options = {"background": background * x, "background_error": 0.2 * background * x}
    first = combine([table(counts, x, **options), top(other, 2 * x, **options)])
    second = combine([top(other, 2 * x, **options), table(counts, x, **options)])
    scaled = combine(
        [table(counts, stretch * x, **options), top(other, 2 * stretch * x, **options)]
    )
    for name in KEYS:
        values = getattr(first.table, name)
        np.testing.assert_allclose(getattr(second.table, name), values, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(
            getattr(scaled.table, name) * stretch, values, rtol=1e-8, atol=1e-12
        )
    if first.consistency is not None:
        assert second.consistency.chi2 == pytest.approx(first.consistency.chi2, rel=1e-6)


@given(n=st.integers(3000, 1_000_000), share=st.floats(0.0, 0.5))
@settings(max_examples=25, deadline=None)
def test_the_same_twice_halves_the_variance(n, share):
    options = {
        "background": share * n,
        "background_error": 0.1 * share * n,
        "efficiency_error": 0.01,
    }
    one = table(n, 1e9, **options)
    found = combine([one, top(n, 1e9, **options)]).table
    assert found.dnde[0] == pytest.approx(one.dnde[0])
    both = found.dnde_errn[0] + found.dnde_errp[0], one.dnde_errn[0] + one.dnde_errp[0]
    assert both[0] ** 2 / both[1] ** 2 == pytest.approx(0.5, rel=0.02)


def toys(signal, share, backgrounds, number, rng):
    """Combined tables of pseudo-experiments; each bin is one, with flux 1."""
    edges = np.geomspace(1000.0, 1001.0, 101)  # of equal energy, as far as interpolation goes
    x = np.array([1 - share, share]) * signal
    b = np.array(backgrounds) * x
    for _ in range(number // 100):
        n = rng.poisson(x + b, (100, 2)).T
        yield combine(
            [
                maker(one, xi, background=bi, edges=edges)
                for maker, one, xi, bi in zip((table, top), n, x, b, strict=True)
            ]
        )


@pytest.mark.parametrize("signal", [0.5, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0])
@pytest.mark.parametrize(("share", "backgrounds"), [(0.43, (0, 0)), (0.43, (0.05, 0.15))])
def test_toys_of_a_known_flux(signal, share, backgrounds):
    """Bias below a tenth of the error; coverage that of Garwood without background, else close to it."""
    found = [one.table for one in toys(signal, share, backgrounds, 6000, np.random.default_rng(7))]
    value, low, high, limit = (np.concatenate([getattr(t, k) for t in found]) for k in KEYS)
    x = np.array([1 - share, share]) * signal
    expected = np.sum(x**2 / (x + np.array(backgrounds) * x)) ** -0.5
    pull = (value - 1) / expected
    assert abs(pull.mean()) < 0.1
    assert pull.std() == pytest.approx(1.0, abs=0.06)
    inside = ((value - low <= 1) & (value + high >= 1)).mean()
    k = np.arange(3000)
    ends = garwood(k)
    exact = stats.poisson.pmf(k, signal)[(ends.lower <= signal) & (signal <= ends.upper)].sum()
    if not any(backgrounds):
        assert inside == pytest.approx(exact, abs=0.02)
    if signal >= 10:
        assert 0.65 < inside < 0.76
    else:  # Garwood never covers less than it says
        assert inside > 0.66
    assert (limit >= 1).mean() > 0.94


def spectrum_toys(number, rng, *, scale=1.0, sigma=0.15):
    """Combinations of a falling spectrum with backgrounds that are known to 15 %."""
    edges = 10 ** (1.38 + 0.06 * np.arange(27, 42))
    e = np.sqrt(edges[1:] * edges[:-1]) / 1000
    x = np.array([400.0, 300.0])[:, None] * e**-2.6
    b = x * np.array([0.06, 0.12])[:, None] * e**0.5
    for _ in range(number):
        true = np.maximum(b * (1 + sigma * rng.normal(size=b.shape)), 0)
        n = rng.poisson(x * np.array([1.0, scale])[:, None] + true)
        yield combine(
            [
                maker(n[r], x[r], background=b[r], background_error=sigma * b[r], edges=edges)
                for r, maker in enumerate((table, top))
            ]
        )


def test_chi2_of_toys():
    found = [one.consistency for one in spectrum_toys(400, np.random.default_rng(5))]
    chi2, ndf = (np.array([getattr(one, k) for one in found]) for k in ("chi2", "ndf"))
    assert 10 <= ndf.mean() <= 14
    assert chi2.mean() == pytest.approx(ndf.mean(), abs=0.9)  # 0.25 is its error
    p = [one.p_value for one in found]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    ratio = np.array([one.total_ratio[0] for one in found])
    assert ratio.mean() == pytest.approx(1.0, abs=0.01)
    assert ratio.std() == pytest.approx(np.mean([one.total_stat[0] for one in found]), rel=0.12)
    expected = np.concatenate([one.expected.ravel() for one in found])
    assert expected.min() >= 5.0


def test_chi2_finds_a_region_that_is_off():
    found = [one.consistency for one in spectrum_toys(20, np.random.default_rng(5), scale=1.4)]
    assert np.median([one.p_value for one in found]) < 1e-4
    assert np.mean([one.total_ratio[0] for one in found]) == pytest.approx(1.4, abs=0.05)


def test_pull_in_closed_form():
    found = combine([table(60.0, 50.0), top(20.0, 30.0)]).consistency
    phi = 80 / 80
    expected = (20 / 30 - 60 / 50) / np.sqrt(phi * (1 / 50 + 1 / 30))
    assert found.pull[0, 0] == pytest.approx(expected)
    assert found.chi2 == pytest.approx(expected**2)
    assert found.ratio[0, 0] == pytest.approx((20 / 30) / (60 / 50))
    assert found.p_value == pytest.approx(stats.chi2.sf(expected**2, 1))
    assert found.expected[:, 0] == pytest.approx([50.0, 30.0])


def test_bins_are_merged_until_both_expect_five():
    n, t = [9, 4, 3, 2, 1, 0], [6, 3, 3, 1, 0, 1]
    x = np.array([9.0, 4.0, 3.0, 2.0, 1.0, 0.5])
    found = combine([table(n, x), top(t, 0.7 * x)])
    test = found.consistency
    assert test.e_min == pytest.approx(found.table.e_min[[0, 1]])
    assert test.e_max == pytest.approx(found.table.e_max[[0, 5]])
    assert test.ndf == 2
    assert (test.expected >= 5).all()
    few = combine([table([2, 1], [2.0, 1.0]), top([1, 0], [2.0, 1.0])])
    assert few.consistency is None
    assert few.table.meta["combination"]["consistency"] is None
    nothing = combine([table([0, 0], [2.0, 1.0]), top([0, 0], [2.0, 1.0])])
    assert nothing.consistency is None
    assert nothing.table.dnde.tolist() == [0.0, 0.0]


SOURCES = {"energy_scale": (0.03, 0.04), "shift_model": (0.03, 0.03), "edge": (0.0, 0.05)}
OTHERS = {"energy_scale": (0.01, 0.02), "shift_model": (0.04, 0.04), "edge": (0.03, 0.0)}


def test_systematic_errors_side_by_side():
    n, x = np.array([3e4, 1e4]), np.array([3e4, 1e4])
    tables = [table(n[0], x[0], sources=SOURCES), top(n[1], x[1], sources=OTHERS)]
    found = combine(tables).table
    w = 0.75, 0.25
    added = found.systematics
    assert added["energy_scale"][0] == pytest.approx(w[0] * 0.03 + w[1] * 0.01)
    assert added["energy_scale"][1] == pytest.approx(w[0] * 0.04 + w[1] * 0.02)
    assert added["shift_model"][0] == pytest.approx(np.hypot(w[0] * 0.03, w[1] * 0.04))
    # One variation that moves the regions against each other.
    assert added["edge"][0] == pytest.approx(0.0)
    assert added["edge"][1] == pytest.approx(w[0] * 0.05 - w[1] * 0.03)
    notes = found.meta["combination"]
    assert notes["correlated"] == ["energy_scale", "edge"]
    assert notes["uncorrelated"] == ["acceptance", "shift_model"]

    other = combine(tables, uncorrelated=["energy_scale"], correlated=["shift_model"])
    added = other.table.systematics
    assert added["energy_scale"][1] == pytest.approx(np.hypot(w[0] * 0.04, w[1] * 0.02))
    assert added["shift_model"][1] == pytest.approx(w[0] * 0.03 + w[1] * 0.04)

    lone = combine([tables[0], top(n[1], x[1])]).table
    assert lone.meta["combination"]["not_evaluated"] == {
        "top-fiducial": ["energy_scale", "shift_model", "edge"]
    }
    assert lone.systematics["energy_scale"][1] == pytest.approx(w[0] * 0.04)


def test_shared_errors_cancel_in_the_difference():
    many = {"n": 1e8, "exposure": 1e8}  # no statistical error to speak of
    same = {"livetime": (0.02, 0.02)}
    test = combine([table(**many, sources=same), top(**many, sources=same)]).consistency
    assert test.ratio_sys[0, 0] == pytest.approx(0.0, abs=1e-12)
    apart = combine(
        [table(**many, sources=same), top(**many, sources=same)], uncorrelated=["livetime"]
    ).consistency
    assert apart.ratio_sys[0, 0] == pytest.approx(0.02 * np.sqrt(2))
    against = combine([table(**many, sources=SOURCES), top(**many, sources=OTHERS)]).consistency
    expected = (0.04 - 0.02) ** 2 + 0.03**2 + 0.04**2 + (0.05 + 0.03) ** 2
    assert against.ratio_sys[0, 0] == pytest.approx(np.sqrt(expected))


def test_a_shared_shift_is_one_degree_of_freedom():
    """All bins 4 % apart with an error of 4 % that they share: one sigma, not one per bin."""
    x = np.full(10, 1e6)
    own = {"energy_scale": (0.04, 0.04)}
    test = combine([table(x, x, sources=own), top(1.04 * x, x)]).consistency
    assert test.pull == pytest.approx(np.ones((1, 10)), abs=0.03)
    assert test.chi2 == pytest.approx(1.0, abs=0.05)
    assert test.chi2_stat > 5000


def test_below_the_energy_and_failed_bins_the_first_or_the_other_alone():
    edges = np.array([500.0, 700.0, 999.99, 1400.0, 2000.0, 3000.0])
    x = np.full(5, 50.0)
    first = table([55, 45, 52, np.nan, np.nan], x, edges=edges, sources=SOURCES)
    second = top([60, 40, 48, 50, np.nan], x, edges=edges, sources=OTHERS)
    found = combine([first, second], e_min_gev=1000.0)
    one = found.table
    assert one.meta["combination"]["bins"] == [
        "fiducial", "fiducial", "fiducial + top-fiducial", "top-fiducial", "",
    ]  # fmt: skip
    for name, column in first.columns().items():
        np.testing.assert_array_equal(one.columns()[name][:2], column[:2], err_msg=name)
        np.testing.assert_array_equal(one.columns()[name][3], second.columns()[name][3])
    assert one.success.tolist() == [True] * 4 + [False]
    assert np.isnan(one.dnde[4])
    assert one.meta["failed_bins"] == [
        {"bin": 4, "e_min_gev": 2000.0, "e_max_gev": 3000.0,
         "reason": "fiducial and top-fiducial: counts are not finite"}
    ]  # fmt: skip
    assert one.dnde[2] == pytest.approx(1.0)
    assert found.consistency.ndf == 1
    assert found.below.ndf == 2
    assert found.below.total_ratio[0] == pytest.approx(1.0)
    assert found.predicted == pytest.approx([1, 1, np.sqrt(0.5), np.nan, np.nan], nan_ok=True)
    for values in (found.gain[:2], found.predicted[:2]):
        assert values == pytest.approx(1.0)


def test_migration_factors_and_folded_errors():
    """The exposure holds the factor; errors of a folded table are kept as much larger as they are."""
    folded = top(40.0, 50.0, factor=0.8)
    wide = replace(folded, dnde_errn=1.2 * folded.dnde_errn, dnde_errp=1.2 * folded.dnde_errp)
    found = combine([table(60.0, 50.0), wide])
    assert found.exposure[:, 0] == pytest.approx([50.0, 50.0])
    plain = combine([table(60.0, 50.0), folded])
    assert found.table.dnde == plain.table.dnde == pytest.approx(1.0)
    larger = np.sqrt((1 + 1.2**2) / 2)
    assert found.table.dnde_errp == pytest.approx(larger * plain.table.dnde_errp)
    one = found.table
    factor = np.array(one.meta["flux"]["migration"]["factor"])
    width = one.e_max - one.e_min
    assert one.acceptance * one.efficiency * TIME * width * factor == pytest.approx(100.0)
    assert one.acceptance == pytest.approx(sum(t.acceptance for t in found.parts))


def test_error_of_the_shift_is_counted_once():
    """The background error of a table holds that of the shift, which is a source of its own."""
    one = table(100.0, 90.0, background=10.0, background_error=5.0)
    shift = np.array([4.0 / 90.0])
    plain = table(100.0, 90.0, background=10.0, background_error=3.0)
    one = replace(one, dnde_errn=plain.dnde_errn, dnde_errp=plain.dnde_errp)
    one = one.with_systematic("shift", shift, shift)
    other = top(100.0, 90.0, background=10.0, background_error=3.0)
    found = combine([one, other]).table
    expected = combine([plain, other]).table
    assert found.dnde_errp == pytest.approx(expected.dnde_errp, rel=1e-9)
    assert found.systematics["shift"][0] == pytest.approx(shift / 2, rel=1e-9)


def test_three_regions():
    counts, x = (30.0, 25.0, 50.0), (30.0, 20.0, 50.0)
    found = combine([table(n, xi, r) for n, xi, r in zip(counts, x, "abc", strict=True)])
    assert found.table.dnde[0] == pytest.approx(1.05)
    test = found.consistency
    assert test.ndf == 2
    expected = np.array(x) * 1.05
    assert test.chi2 == pytest.approx(np.sum((np.array(counts) - expected) ** 2 / expected))


def test_table_is_like_any_other(tmp_path):
    meta = {
        "synthetic": True,
        "toy": {"seed": 1},
        "complete": True,
        "injected": {"electron": {"a": 1}},
    }
    first = table(
        [50, 20, 3], [50.0, 20.0, 5.0], background=[5.0, 2.0, 1.0], sources=SOURCES, **meta
    )
    second = top([40, 15, 2], [45.0, 18.0, 4.0], background=[6.0, 3.0, 1.0], sources=OTHERS, **meta)
    found = combine([first, second]).table
    for suffix in (".ecsv", ".csv", ".json"):
        again = read_flux_table(write_flux_table(found, tmp_path / f"both{suffix}"))
        assert again.meta == found.meta
        np.testing.assert_array_equal(again.dnde, found.dnde)
    assert found.meta["flux"]["region"] == "fiducial + top-fiducial"
    assert found.meta["injected"] == meta["injected"]
    assert found.meta["synthetic"] is True
    assert found.meta["complete"] is True
    assert found.meta["toy"] == {"fiducial": {"seed": 1}, "top-fiducial": {"seed": 1}}
    assert found.meta["combination"]["sources"]["top-fiducial"]["flux"]["region"] == "topfiducial"
    data = from_flux_table(found)
    assert data.counts.tolist() == [90, 35, 5]
    width = found.e_max - found.e_min
    assert data.exposure * width == pytest.approx([95.0, 38.0, 9.0])
    assert data.background_fraction * data.counts == pytest.approx([11.0, 5.0, 2.0])
    assert publishable(found).measured.all()


def test_bins_with_little_background_simulation_are_named():
    parts = []
    for maker, bins in ((table, [0, 1]), (top, [2])):
        made = maker([50, 50, 50], [50.0, 50.0, 50.0])
        described = {**made.meta["flux"], "background_mc_limited_bins": bins}
        parts.append(replace(made, meta={**made.meta, "flux": described}))
    found = combine(parts, e_min_gev=1500.0)
    assert found.table.meta["flux"]["background_mc_limited_bins"] == [0, 1, 2]
    found = combine(parts, e_min_gev=4000.0)
    assert found.table.meta["flux"]["background_mc_limited_bins"] == [0, 1]


def changed(made, **flux_meta):
    return replace(made, meta={**made.meta, "flux": {**made.meta["flux"], **flux_meta}})


DATA = [{"kind": "data", "sha256": "aa"}, {"kind": "electron", "sha256": "bb"}]
OTHER = [{"kind": "data", "sha256": "cc"}]
ONE = table([9.0, 4.0], [9.0, 4.0], inputs=DATA, synthetic=True, injected={"electron": {"a": 1}})
TWO = top([9.0, 4.0], [9.0, 4.0], inputs=DATA[:1], synthetic=True)
REFUSED = [
    ([ONE], CombinationError, "two flux tables or more"),
    ([ONE, ONE], EventsNotDisjointError, "region fiducial are in two"),
    (
        [changed(ONE, half_width_mm=280.0), changed(TWO, half_width_mm=250.0)],
        EventsNotDisjointError,
        "within 280 mm, top-fiducial ones leave 250 mm",
    ),
    ([ONE, changed(TWO, region=None)], CombinationError, "does not say of which region"),
    (
        [ONE, top([9.0, 4.0], [9.0, 4.0], edges=[1000, 2000, 4100])],
        BinsDifferError,
        r"energy bins \(e_max\) of fiducial and top-fiducial",
    ),
    ([ONE, top(9.0, 9.0)], BinsDifferError, "energy bins"),
    (
        [ONE, replace(TWO, meta={**TWO.meta, "upper_limit": {"level": 0.9}})],
        BinsDifferError,
        r"levels \(upper_limit\)",
    ),
    (
        [replace(t, meta={**t.meta, "errors": None}) for t in (ONE, TWO)],
        BinsDifferError,
        r"levels \(errors\) of fiducial and top-fiducial must be the same, not None and None",
    ),
    ([ONE, replace(TWO, livetime=1.01 * TWO.livetime)], ExposureDiffersError, "livetimes"),
    (
        [ONE, replace(TWO, meta={**TWO.meta, "inputs": OTHER})],
        ExposureDiffersError,
        r"different data files \(2 are in one only\)",
    ),
    ([ONE, replace(TWO, dnde=1.1 * TWO.dnde)], ExposureDiffersError, "not counts less background"),
    ([ONE, replace(TWO, meta={**TWO.meta, "synthetic": False})], KindsDifferError, "only fiducial"),
    (
        [ONE, replace(TWO, meta={**TWO.meta, "toy": {"seed": 1}})],
        KindsDifferError,
        "only top-fiducial is toy",
    ),
    ([ONE, replace(TWO, meta={**TWO.meta, "complete": False})], KindsDifferError, "is complete"),
    (
        [ONE, replace(TWO, meta={**TWO.meta, "injected": {"electron": {"a": 2}}})],
        KindsDifferError,
        "injected",
    ),
    ([ONE, changed(TWO, edge_cut="off")], SelectionDiffersError, "edge_cut 'on'"),
    ([ONE, changed(TWO, bgo_reconstruction="old")], SelectionDiffersError, "bgo_reconstruction"),
]  # fmt: skip


@pytest.mark.parametrize(("tables", "error", "words"), REFUSED)
def test_refusals(tables, error, words):
    with pytest.raises(error, match=words) as caught:
        combine(tables)
    assert isinstance(caught.value, AnalysisError)


def test_what_is_not_refused():
    assert combine([ONE, TWO]).table.success.all()
    skim = replace(TWO, meta={**TWO.meta, "inputs": OTHER})
    assert combine([ONE, skim], other_inputs=True).table.success.all()
    apart = [changed(ONE, half_width_mm=250.0), changed(TWO, half_width_mm=280.0)]
    assert combine(apart[::-1]).table.success.all()
    assert combine(
        [ONE, changed(TWO, half_width_mm=250.0)]
    ).table.success.all()  # a toy has no card
    assert combine([ONE, changed(TWO, score="cnn")]).table.meta["flux"]["score"] == "omega, cnn"


def test_a_combination_is_not_combined_with_its_parts():
    both = combine([ONE, TWO]).table
    with pytest.raises(EventsNotDisjointError, match="region top-fiducial"):
        combine([both, TWO])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"uncorrelated": ["nothing"]}, "'nothing'; they have: acceptance"),
        ({"correlated": ["shift"]}, "'shift'"),
        ({"correlated": ["acceptance"], "uncorrelated": ["acceptance"]}, "both"),
    ],
)
def test_unknown_sources(names, words):
    with pytest.raises(UnknownSourceError, match=words):
        combine([ONE, TWO], **names)


def test_gain_needs_counts_in_the_first_region():
    found = combine([table([0, 4], [4.0, 4.0]), top([3, 4], [3.0, 4.0])])
    assert np.isnan(found.gain[0])
    assert found.predicted[0] == pytest.approx(np.sqrt(4 / 7))
    assert 0 < found.gain[1] < 1


def test_more_exposure_never_hurts():
    errors = [
        combine([table(50.0, 50.0), top(x, x)]).table.dnde_errp[0] for x in (1.0, 10.0, 50.0, 500.0)
    ]
    assert all(a > b for a, b in pairwise(errors))
