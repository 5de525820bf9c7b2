import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from templatetoys import OMEGA, data, make, simulation, truth

from analysis.exceptions import CutNotOnEdgeError
from analysis.templatefit.bins import fit_bins

AXIS = np.arange(11.0)


def one(kind, **filled):
    """One energy bin; ``c3=5`` puts 5 events into column 3, 0 and 11 are the flow."""
    values = np.zeros(12)
    for column, content in filled.items():
        values[int(column[1:])] = content
    return make(kind, values, omega=AXIS)


def test_bins_by_hand():
    protons = one("proton", c1=60, c2=50, c3=30, c4=10, c5=10, c6=1)
    electrons = one("electron", c7=30, c8=80, c9=120, c10=20)
    counts = one("data", c0=2, c1=7, c3=5, c8=4, c11=9)
    # a column of this axis is wider than a 32nd of it: both templates together may end a bin
    bins = fit_bins(counts, electrons, protons, min_effective=30.0)
    assert bins.edges[0].tolist() == [-np.inf, 1.0, 2.0, 3.0, 7.0, 8.0, np.inf]
    assert bins.counts[0].tolist() == [9.0, 0.0, 5.0, 0.0, 4.0, 9.0]
    assert bins.number.tolist() == [6]
    # no more is asked for than a quarter of a template: 161 / 4 protons, 250 / 4 electrons
    bins = fit_bins(counts, electrons, protons, min_effective=100.0)
    assert bins.edges[0].tolist() == [-np.inf, 1.0, 2.0, 5.0, 8.0, np.inf]
    assert bins.counts[0].tolist() == [9.0, 0.0, 5.0, 4.0, 9.0]
    assert bins.unsupported.tolist() == [11.0]  # in the flow, where no template has an event


def test_full_templates_are_cut_into_twentieths():
    electrons, protons = simulation(1, events=1e6)
    bins = fit_bins(data(*truth(1)), electrons, protons, min_effective=200.0)
    assert 30 <= bins.number[0] <= 60
    widths = np.diff(bins.edges[0][1:-1])
    assert widths.min() < 0.5  # in the peaks
    assert widths.max() < 40.0 / 32.0 + 0.2 + 1e-9
    # no bin between the first and the last has less than is asked for
    both = electrons.values + protons.values
    both2 = electrons.variances + protons.variances
    cut = np.searchsorted(OMEGA, bins.edges[0][1:-1] - 1e-9) + 1
    sums = np.add.reduceat(both[0], [0, *cut]) ** 2 / np.add.reduceat(both2[0], [0, *cut])
    assert sums.min() >= 200.0 * (1 - 1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1.0, 30.0, 200.0, 1e5, 1e9]), st.integers(0, 4))
def test_every_event_of_the_window_is_kept(seed, least, k):
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-2, 4, (3, 1))
    parts = [
        make(kind, rng.poisson(scale * rng.random((3, 12)) ** 3), omega=AXIS)
        for kind in ("data", "electron", "proton")
    ]
    low = np.array([-np.inf, 0.0, k])
    high = np.array([np.inf, 10.0, np.inf])
    bins = fit_bins(*parts, (low, high), least)
    columns = [slice(0, 12), slice(1, 11), slice(k + 1, 12)]
    for i, inside in enumerate(columns):
        counts = parts[0].values[i, inside]
        assert bins.counts[i].sum() == counts.sum()
        n = bins.number[i]
        assert (np.diff(bins.edges[i, : n + 1]) > 0).all()
        assert (bins.edges[i, n:] == high[i]).all()
        assert bins.edges[i, 0] == low[i]
        assert (bins.counts[i, n:] == 0).all()
        empty = (parts[1].values[i, inside] == 0) & (parts[2].values[i, inside] == 0)
        assert bins.unsupported[i] == counts[empty].sum()


def test_thin_simulation_is_one_bin():
    bins = fit_bins(one("data", c3=4), one("electron", c8=20), one("proton", c2=20))
    assert bins.number.tolist() == [1]
    assert bins.edges.tolist() == [[-np.inf, np.inf]]
    assert bins.unsupported.tolist() == [4.0]


def test_bins_do_not_look_at_the_data():
    electrons, protons = simulation(2, rng=np.random.default_rng(1), events=30_000.0)
    one_, two = (
        fit_bins(make("data", x), electrons, protons) for x in (np.zeros((2, 202)), truth(2)[1])
    )
    assert (one_.edges == two.edges).all()


def test_windows_that_do_not_fit():
    parts = one("data"), one("electron", c8=1), one("proton", c2=1)
    with pytest.raises(CutNotOnEdgeError, match=r"2\.5 is not on a bin edge"):
        fit_bins(*parts, (2.5, np.inf))
    with pytest.raises(CutNotOnEdgeError, match=r"window 5\.0 to 5\.0 is empty"):
        fit_bins(*parts, (5.0, 5.0))
