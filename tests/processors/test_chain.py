"""Chains of cuts against a slow evaluation, and what is refused."""

from typing import Any

import awkward as ak
import numpy as np
import pytest
from ntuples import dmlntup_branches, toy_events

from processors import chain as c
from processors.exceptions import SelectionError
from processors.ntuple import Ntuple, load_aliases
from processors.selections import cut_fields


class Branches(dict[str, Any]):
    @property
    def fields(self) -> list[str]:
        return list(self)

    def __len__(self) -> int:
        return len(next(iter(self.values())))


def toy(n: int = 400, seed: int = 3) -> Ntuple:
    branches = dmlntup_branches(toy_events(n, seed), kind="electron")
    return Ntuple(Branches({k: ak.Array(v) for k, v in branches.items()}), load_aliases("dmlntup"))


def some_cuts() -> list[c.Cut]:
    return [
        c.make_cut("saa", {"kinds": ["data"]}),
        c.make_cut("trigger"),
        c.make_cut("energy_range", {"min_gev": 100}),
        c.make_cut("max_layer_ratio", {"max_ratio": 0.17}),
        c.make_cut("region"),
        c.make_cut("psd_charge", {"max_one": 1.1, "max_sum": 2.2}),
        c.make_cut("edge_from_image"),
    ]


@pytest.mark.parametrize("kind", ["data", "electron"])
@pytest.mark.parametrize("region", ["fiducial", "topfiducial"])
def test_chain_against_the_slow_way(kind: str, region: str) -> None:
    events, cuts = toy(), some_cuts()
    result = c.evaluate(events, cuts, kind=kind, region=region)
    masks = {}
    for cut in cuts:
        function = cut.function(region)
        masks[cut.name] = (
            function(*(events[f] for f in cut_fields(function)), **cut.values)
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
    result = c.evaluate(ntuple, some_cuts(), kind="electron", region="fiducial")
    assert not result.selected.any()


def test_empty_chunk() -> None:
    empty = Ntuple(
        Branches(
            {k: ak.Array(v[:0]) for k, v in dmlntup_branches(toy_events(5, 1), kind="data").items()}
        ),
        load_aliases("dmlntup"),
    )
    assert c.evaluate(empty, some_cuts(), kind="data", region="fiducial").selected.shape == (0,)


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
        c.make_cut(name, values)


def test_order_is_checked() -> None:
    cut = c.make_cut
    both = ["fiducial", "topfiducial"]
    with pytest.raises(SelectionError, match="more than once"):
        c.check_order([cut("region"), cut("trigger"), cut("trigger")], both)
    with pytest.raises(SelectionError, match="needs the entry 'region'"):
        c.check_order([cut("trigger")], both)
    with pytest.raises(SelectionError, match="needs the entry 'region'"):
        c.check_order([cut("fiducial_bit")], both)
    c.check_order([cut("fiducial_bit")], ["fiducial"])
    wrong = [cut("edge_from_image"), cut("region")]
    with pytest.raises(SelectionError, match="'edge_from_image' reads the bar energies"):
        c.check_order(wrong, both)
    with pytest.raises(SelectionError, match="must come before"):
        c.evaluate(toy(), wrong, kind="data", region="fiducial")
