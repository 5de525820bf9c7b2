"""Copies with scores: nothing of the original changes, and the scores are those of the processor."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from ntuples import toy_events
from onnxmodels import linear

from processors.chain import make_cut
from processors.exceptions import MissingBranchError, NtupleError
from processors.manifest import build
from processors.modelset import load_models
from processors.ntuple import load_aliases
from processors.ntuplefile import look
from processors.scorefile import Scoring, check_fields, score_file
from simulation.sample import Sample, simulate

MakeNtuple = Callable[..., Path]
CUTS = (make_cut("trigger"), make_cut("energy_range", {"min_gev": 100.0, "max_gev": 3000.0}), make_cut("edge"), make_cut("region"))  # fmt: skip


def scoring(folder: Path, *, high: float = 20_000.0) -> Scoring:
    networks = {}
    for region, sign in (("fiducial", 1.0), ("topfiducial", -1.0)):
        content = {"region": region, "energy_range_gev": [20, high]}
        path = linear(folder / f"{region}.onnx", {"theta": sign}, content=content)
        networks[region] = {"dnn": [(path, None)]}
    models = load_models(networks, {}, scores=["dnn"])
    return Scoring(CUTS, ("fiducial", "topfiducial"), ["dnn"], models, None, {"card": "toy"})


def same(original: Path, copy: Path, tree: str = "DmlNtup") -> list[str]:
    """Every branch of the original is in the copy with the same type and values; returns the others."""
    with uproot.open(original) as a, uproot.open(copy) as b:
        assert a.file.uuid == b.file.uuid
        one, two = a[tree], b[tree]
        assert one.title == two.title
        assert one.num_entries == two.num_entries
        for name in one.keys():  # noqa: SIM118 - a tree, not a dict
            assert one[name].typename == two[name].typename, name
            assert ak.array_equal(one[name].array(), two[name].array(), equal_nan=True), name
        return sorted(set(two.keys()) - set(one.keys()))


def test_a_copy_with_scores(make_ntuple: MakeNtuple, tmp_path: Path) -> None:
    def fail(branches: dict[str, Any]) -> None:
        branches["tt_selection_bits"][::5] &= ~8  # every fifth event fails the edge cut

    path = make_ntuple("data", n=500, seed=1, change=fail)
    copy = tmp_path / "out" / path.name
    counts, bad, lost = score_file(
        str(path), copy, load_aliases("dmlntup"), scoring(tmp_path, high=900.0)
    )
    assert lost == []
    assert same(path, copy) == ["MLscore_dnn"]
    events = toy_events(500, 1, kind="data")
    top, bottom = (
        (np.abs(events["intercept"] + events["slope"] * z) < 280).all(axis=1) for z in (46.0, 448.0)
    )
    e = events["e_corr"].astype(np.float32)
    chosen = events["trigger"] & (e >= 100) & (e < 900) & top  # the edge cut decides nothing
    theta = np.degrees(np.arctan(np.hypot(*events["slope"].T)))
    expected = np.where(chosen, np.where(bottom, theta, -theta), np.nan)
    with uproot.open(copy) as file:
        values = file["DmlNtup"]["MLscore_dnn"].array(library="np")
        record = json.loads(str(file["cre_metadata"]))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert counts == {"MLscore_dnn": int(chosen.sum())}
    assert bad == {"MLscore_dnn": 0}
    assert chosen[::5].sum() > 20
    assert record["kind"] == "data"
    (entry,) = record["scores"]
    assert [m["region"] for m in entry["models"]] == ["fiducial", "topfiducial"]
    assert len(entry["models"][0]["sha256"]) == 64
    assert entry["card"] == "toy"
    # the copy serves like its original
    assert build([str(copy)]).files[0].uuid == build([str(path)]).files[0].uuid
    with pytest.raises(NtupleError, match="has a branch 'MLscore_dnn' already"):
        score_file(str(copy), tmp_path / "again.root", load_aliases("dmlntup"), scoring(tmp_path))
    again = tmp_path / "again.root"
    score_file(str(copy), again, load_aliases("dmlntup"), scoring(tmp_path), drop=["MLscore_dnn"])
    with uproot.open(again) as file:
        assert len(json.loads(str(file["cre_metadata"]))["scores"]) == 2


def test_files_of_the_simulation(tmp_path: Path) -> None:
    """Hits with a common counter, and more events than one step."""
    sample = Sample(
        "electron", seed=3, n_events=4000, e_min_gev=100.0, e_max_gev=2000.0, outside_share=0.3
    )
    (path,) = simulate(sample, tmp_path, workers=1)
    copy = tmp_path / "out.root"
    counts, _, _ = score_file(str(path), copy, load_aliases("dmlntup"), scoring(tmp_path))
    assert same(path, copy) == ["MLscore_dnn"]
    assert counts["MLscore_dnn"] > 20
    with uproot.open(copy) as file:
        tree = file["DmlNtup"]
        assert tree["tt_BgoHit_Energy"].count_branch is tree["tt_BgoHit_GlobalBarID"].count_branch


def write(path: Path, change: Callable[[Any], None], source: Path) -> Path:
    with uproot.open(source) as original, uproot.recreate(path) as file:
        tree = original["DmlNtup"]
        columns = {k: v for k, v in tree.arrays(how=dict).items() if not k.startswith("n")}
        change(columns)
        types = {k: str(v.type.content) for k, v in columns.items()}
        file.mktree("DmlNtup", types).extend(columns)
        file["note"] = "kept apart"
    return path


def test_what_cannot_be_copied(make_ntuple: MakeNtuple, tmp_path: Path) -> None:
    source = make_ntuple("electron", n=40, seed=2)
    aliases, plan = load_aliases("dmlntup"), scoring(tmp_path)

    def text(columns: dict[str, Any]) -> None:
        columns["comment"] = ak.Array(["a"] * 40)

    odd = write(tmp_path / "odd.root", text, source)
    target = tmp_path / "out.root"
    with pytest.raises(NtupleError, match="does not say its kind; give --kind"):
        score_file(str(odd), target, aliases, plan)
    with pytest.raises(NtupleError, match=r"branch 'comment' \(.*\) cannot be copied; give --drop"):
        score_file(str(odd), target, aliases, plan, kind="electron")
    assert not target.exists()
    assert not list(tmp_path.glob(".out*"))
    counts, bad, lost = score_file(
        str(odd), target, aliases, plan, kind="electron", drop=["comment"]
    )
    assert lost == ["note"]
    assert bad == {"MLscore_dnn": 0}
    assert counts["MLscore_dnn"] > 0
    with uproot.open(target) as file:
        assert "comment" not in file["DmlNtup"]
        assert set(json.loads(str(file["cre_metadata"]))) == {"scores"}
    with pytest.raises(NtupleError, match="no branch 'colour' to drop"):
        score_file(str(source), target, aliases, plan, drop=["colour"])
    with pytest.raises(NtupleError, match="would replace the original"):
        score_file(str(source), source, aliases, plan)
    with pytest.raises(NtupleError, match="is 'electron' by its own record, not 'data'"):
        score_file(str(source), target, aliases, plan, kind="data")
    empty = make_ntuple("data", n=0, seed=5)
    assert score_file(str(empty), target, aliases, plan)[0] == {"MLscore_dnn": 0}
    assert same(empty, target) == ["MLscore_dnn"]


def test_fixed_arrays(make_ntuple: MakeNtuple, tmp_path: Path) -> None:
    source = make_ntuple("electron", n=40, seed=2)

    def arrays(columns: dict[str, Any]) -> None:
        columns["image"] = ak.Array(
            ak.to_numpy(np.arange(40 * 308, dtype=np.float32).reshape(40, 14, 22))
        )
        columns["flag"] = ak.Array(np.arange(40) % 2 == 0)
        columns["byte"] = ak.Array(np.arange(40).astype(np.uint8))

    path = write(tmp_path / "arrays.root", arrays, source)
    score_file(
        str(path),
        tmp_path / "out.root",
        load_aliases("dmlntup"),
        scoring(tmp_path),
        kind="electron",
    )
    with uproot.open(path) as a, uproot.open(tmp_path / "out.root") as b:
        for name in ("image", "flag", "byte"):
            assert a["DmlNtup"][name].typename == b["DmlNtup"][name].typename
            np.testing.assert_array_equal(*(f["DmlNtup"][name].array(library="np") for f in (a, b)))


def test_broken_inputs_are_counted_and_networks_of_one_region_kept(
    make_ntuple: MakeNtuple, tmp_path: Path
) -> None:
    def spoil(branches: dict[str, Any]) -> None:
        branches["tt_Rmsr"][::2] = np.inf

    path = make_ntuple("data", n=500, seed=1, change=spoil)
    content = {"region": "fiducial", "energy_range_gev": [20, 900]}
    network = linear(tmp_path / "r.onnx", {"theta": 1.0, "rms_r": 0.0}, content=content)
    models = load_models({"fiducial": {"mine": [(network, None)]}}, {}, scores=["mine"])
    plan = Scoring(CUTS, ("fiducial", "topfiducial"), ["mine"], models, None, {})
    copy = tmp_path / "out.root"
    counts, bad, _ = score_file(str(path), copy, load_aliases("dmlntup"), plan)
    with uproot.open(copy) as file:
        values = file["DmlNtup"]["MLscore_mine"].array(library="np")
    assert np.isnan(values[::2]).all()
    assert counts["MLscore_mine"] == np.isfinite(values[1::2]).sum() > 20
    assert bad["MLscore_mine"] == pytest.approx(counts["MLscore_mine"], rel=0.3)


def test_files_without_a_field_are_refused_by_name(make_ntuple: MakeNtuple, tmp_path: Path) -> None:
    path = make_ntuple("data", n=20, seed=1, drop=("tt_bgoRecSlopeX",))
    aliases = load_aliases("dmlntup")
    with pytest.raises(MissingBranchError, match=r"slope_x.*tt_bgoRecSlopeX.*model '.*' needs"):
        check_fields(look(str(path), aliases), aliases, scoring(tmp_path))
