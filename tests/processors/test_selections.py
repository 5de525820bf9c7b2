"""Each cut at its border, and the chain against a slow evaluation."""

from typing import Any

import awkward as ak
import numpy as np
import pytest
from ntuples import dmlntup_branches, toy_events

from processors import selections as s
from processors.exceptions import SelectionError
from processors.ntuple import FIELDS, Ntuple, load_aliases


class Branches(dict[str, Any]):
    @property
    def fields(self) -> list[str]:
        return list(self)

    def __len__(self) -> int:
        return len(next(iter(self.values())))


def toy(n: int = 400, seed: int = 3) -> Ntuple:
    branches = dmlntup_branches(toy_events(n, seed), kind="electron")
    return Ntuple(Branches({k: ak.Array(v) for k, v in branches.items()}), load_aliases("dmlntup"))


def test_cuts_read_known_fields_only() -> None:
    for function in (*s.CUTS.values(), *s.REGIONS.values()):
        assert set(s.cut_fields(function)) <= set(FIELDS), function.__name__


def test_energy_range_and_nan() -> None:
    e = np.array([9.99, 10.0, 9999.0, 10_000.0, np.nan])
    assert s.energy_range(e).tolist() == [False, True, True, False, False]


def test_axis_fails_where_a_view_is_exactly_zero() -> None:
    slope = np.array([0.0, 0.0, 0.1, 0.1])
    intercept = np.array([0.0, 5.0, 0.0, np.nan])
    one = np.ones(4)
    assert s.axis(slope, one, intercept, one).tolist() == [False, True, True, False]
    assert s.axis(one, slope, one, intercept).tolist() == [False, True, True, False]


def test_max_layer_ratio() -> None:
    f = np.zeros((2, 14))
    f[0, 3], f[1, 3] = 0.35, 0.3501
    assert s.max_layer_ratio(f).tolist() == [True, False]


def test_regions_are_disjoint_and_share_the_top() -> None:
    # x at the top 0; at the bottom (402 mm below) 0, 279.9 and 280.1
    slope = np.array([0.0, 279.9 / 402, 280.1 / 402, 0.0])
    intercept = -slope * 46.0 + np.array([0, 0, 0, 281.0])
    zero = np.zeros(4)
    assert s.fiducial(slope, zero, intercept, zero).tolist() == [True, True, False, False]
    assert s.topfiducial(slope, zero, intercept, zero).tolist() == [False, False, True, False]


def test_n_bar_layer13_allows_fewer_than_11_at_100_gev_and_19_at_1_tev() -> None:
    n_bars = np.zeros((4, 14), np.uint8)
    n_bars[:, 13] = [10, 11, 18, 19]
    e = np.array([100.0, 100.0, 1000.0, 1000.0])
    assert s.n_bar_layer13(n_bars, e).tolist() == [True, False, True, False]


def test_max_rms_looks_at_layers_with_one_per_cent() -> None:
    rms = np.zeros((2, 14))
    rms[:, 13] = 150.0
    f = np.zeros((2, 14))
    f[0, 13], f[1, 13] = 0.01, 0.011
    assert s.max_rms(rms, f).tolist() == [True, False]


def test_low_energy_cleaning_limits() -> None:
    # vertical: 170 mm below 100 GeV, 200 mm from 100 to 250 GeV, none above
    total = np.array([169.0, 171.0, 199.0, 201.0, 1.0])
    rms = np.repeat(total[:, None] / 14, 14, axis=1)
    e = np.array([50.0, 50.0, 100.0, 249.0, 250.0])
    zero = np.zeros(5)
    expected = [False, True, False, True, True]
    assert s.low_energy_cleaning(rms, e, zero, zero).tolist() == expected


def test_track_with_recovery() -> None:
    x = np.array([4, 4, 3, 3, 5, 5, 5])
    y = np.array([4, 5, 3, 4, 5, 5, 2])
    holes_x = np.array([1, 2, 0, 1, 0, 0, 0])
    zero = np.zeros(7)
    distance = np.array([39.0, 1, 1, 1, 41, 1, 1])
    angle = np.array([1.0, 1, 1, 1, 1, 11, 1])
    args = (x, y, holes_x, zero, distance, angle)
    assert s.track(*args).tolist() == [True, False, True, False, False, False, False]
    assert s.track(*args, recover_three=False).tolist() == [True] + [False] * 6


def test_psd_match_and_charge() -> None:
    nan = np.nan
    x = np.array([39.0, 41.0, 59.0, nan, nan])
    y = np.array([99.0, 99.0, 99.0, nan, 50.0])
    clusters = np.array([5, 5, 3, 5, 5])
    assert s.psd_match(x, y, clusters, clusters).tolist() == [True, False, True, True, False]
    qx = np.array([2.0, 2.7, 2.5, 7.9, 8.1, nan, 2.0])
    qy = np.array([2.0, 2.7, 7.6, nan, nan, nan, 7.9])
    expected = [True, False, False, True, False, True, True]
    assert s.psd_charge(qx, qy).tolist() == expected


def test_stk_charge() -> None:
    x = np.array([1.0, 45.0, 30.0, np.nan])
    y = np.array([1.0, 36.0, 26.0, np.nan])
    assert s.stk_charge(x, y).tolist() == [True, False, False, True]


def chain() -> list[s.Cut]:
    return [
        s.make_cut("saa", {"kinds": ["data"]}),
        s.make_cut("trigger"),
        s.make_cut("energy_range", {"min_gev": 100}),
        s.make_cut("max_layer_ratio", {"max_ratio": 0.17}),
        s.make_cut("region"),
        s.make_cut("psd_charge", {"max_one": 1.1, "max_sum": 2.2}),
        s.make_cut("edge_from_image"),
    ]


@pytest.mark.parametrize("kind", ["data", "electron"])
@pytest.mark.parametrize("region", ["fiducial", "topfiducial"])
def test_chain_against_the_slow_way(kind: str, region: str) -> None:
    events, cuts = toy(), chain()
    result = s.evaluate(events, cuts, kind=kind, region=region)
    masks = {}
    for cut in cuts:
        function = cut.function(region)
        masks[cut.name] = (
            function(*(events[f] for f in s.cut_fields(function)), **cut.values)
            if kind in cut.kinds
            else np.ones(len(events), bool)
        )
    together = np.all(list(masks.values()), axis=0)
    np.testing.assert_array_equal(result.selected, together)
    assert 0 < together.sum() < len(events)
    for i, name in enumerate(masks):
        before = np.all(list(masks.values())[: i + 1], axis=0)
        others = np.all([m for n, m in masks.items() if n != name], axis=0)
        np.testing.assert_array_equal(result.cumulative[name], before, err_msg=name)
        np.testing.assert_array_equal(result.n_minus_1[name], others, err_msg=name)
        np.testing.assert_array_equal(result.passed[name], masks[name] & result.evaluated[name])
    assert result.evaluated["trigger"].all()
    assert 0 < result.evaluated["edge_from_image"].sum() < len(events)


def test_hits_are_not_read_without_survivors() -> None:
    branches = dmlntup_branches(toy_events(50, 1), kind="electron")
    branches["tt_bgoTotalEcorr_GeV"][:] = 1.0
    branches["tt_selection_bits"][:] = 0
    del branches["tt_BgoHit_Energy"]
    ntuple = Ntuple(
        Branches({k: ak.Array(v) for k, v in branches.items()}), load_aliases("dmlntup")
    )
    result = s.evaluate(ntuple, chain(), kind="electron", region="fiducial")
    assert not result.selected.any()


def test_empty_chunk() -> None:
    empty = Ntuple(
        Branches(
            {k: ak.Array(v[:0]) for k, v in dmlntup_branches(toy_events(5, 1), kind="data").items()}
        ),
        load_aliases("dmlntup"),
    )
    assert s.evaluate(empty, chain(), kind="data", region="fiducial").selected.shape == (0,)


@pytest.mark.parametrize(
    ("name", "values", "complaint"),
    [
        ("speed", {}, "unknown cut 'speed'"),
        ("max_rms", {"max_cm": 3}, "has no value 'max_cm'"),
        ("max_rms", {"max_mm": "wide"}, "must be a number"),
        ("track", {"recover_three": 1}, "must be a boolean"),
        ("trigger", {"kinds": ["muon"]}, "muon"),
    ],
)
def test_wrong_entries(name: str, values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SelectionError, match=complaint):
        s.make_cut(name, values)


def test_order_is_checked() -> None:
    cut = s.make_cut
    both = ["fiducial", "topfiducial"]
    with pytest.raises(SelectionError, match="more than once"):
        s.check_order([cut("region"), cut("trigger"), cut("trigger")], both)
    with pytest.raises(SelectionError, match="needs the entry 'region'"):
        s.check_order([cut("trigger")], both)
    with pytest.raises(SelectionError, match="needs the entry 'region'"):
        s.check_order([cut("fiducial_bit")], both)
    s.check_order([cut("fiducial_bit")], ["fiducial"])
    wrong = [cut("edge_from_image"), cut("region")]
    with pytest.raises(SelectionError, match="'edge_from_image' reads the bar energies"):
        s.check_order(wrong, both)
    with pytest.raises(SelectionError, match="must come before"):
        s.evaluate(toy(), wrong, kind="data", region="fiducial")
