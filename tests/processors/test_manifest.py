"""Manifests: what goes in, and every way in which a file is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from ntuples import sample_record

from processors import manifest as m
from processors.exceptions import ManifestError, NtupleError
from processors.livetime import read_livetimes
from processors.ntuple import load_aliases
from processors.ntuplefile import disabled_cuts, field_table, look, self_check
from processors.weights import Generated

MakeNtuple = Callable[..., Path]


def test_what_a_manifest_says(make_ntuple: MakeNtuple) -> None:
    paths = [make_ntuple("data", n=100, seed=1, run=7), make_ntuple("electron", n=50, seed=2)]
    manifest = m.build([str(p) for p in paths])
    data, electron = manifest.files
    assert (data.kind, data.entries, data.tree, data.bgo_reconstruction) == (
        "data", 100, "DmlNtup", "new",
    )  # fmt: skip
    assert data.clusters == [0, 50, 100]
    assert data.uuid == "00000000-0000-1000-8000-000000000001"
    assert [(r.run_first, r.livetime_s) for r in data.runs] == [(7, 1000.0)]
    assert electron.generated == Generated(events=1_000_000, e_min_gev=50.0, e_max_gev=5000.0)
    assert manifest.livetime_s == 1000.0
    assert data.synthetic
    assert len(data.sha256) == 64


def test_round_trip_with_relative_paths(make_ntuple: MakeNtuple, tmp_path: Path) -> None:
    manifest = m.build([str(make_ntuple("data"))])
    stored = m.relative_to(manifest, tmp_path).model_dump(mode="json", by_alias=True)
    assert stored["files"][0]["path"] == "DmlNtup_synthetic_data_1.root"
    (tmp_path / "m.json").write_text(json.dumps(stored))
    assert m.read(tmp_path / "m.json") == manifest


def test_duplicates_are_refused(make_ntuple: MakeNtuple, tmp_path: Path) -> None:
    first = make_ntuple("electron", seed=4)
    second = tmp_path / "copy.root"
    second.write_bytes(first.read_bytes())
    with pytest.raises(ManifestError, match=r"copy\.root: the same file"):
        m.build([str(first), str(second)])
    manifest = m.build([str(first), str(second)], quarantine=[str(second)])
    assert [f.path for f in manifest.files] == [str(first)]
    assert manifest.quarantined[0].reason == "set aside by the user"
    # the same path twice is one file
    assert len(m.build([str(first), str(first)]).files) == 1


def test_overlapping_runs_are_refused(make_ntuple: MakeNtuple) -> None:
    a = make_ntuple("data", seed=1, run=3, name="a.root")
    b = make_ntuple("data", seed=2, run=3, name="b.root")
    with pytest.raises(ManifestError, match=r"b\.root: run 3 overlaps runs 3 to 3 of .*a\.root"):
        m.build([str(a), str(b)])


def test_the_two_reconstructions_of_a_run_do_not_clash(make_ntuple: MakeNtuple) -> None:
    old = sample_record("data", run=3) | {"bgo_reconstruction": "old"}
    a = make_ntuple("data", seed=1, run=3, name="a.root")
    b = make_ntuple("data", seed=2, run=3, name="b.root", record=old)
    assert {f.bgo_reconstruction for f in m.build([str(a), str(b)]).files} == {"new", "old"}


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.97])
def test_truncated_files_are_refused(make_ntuple: MakeNtuple, keep: float) -> None:
    path = make_ntuple("data")
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ManifestError, match="not a readable ROOT file"):
        m.build([str(path)])
    manifest = m.build([str(path)], quarantine=[str(path)])
    assert manifest.livetime_s == 0.0
    assert "not a readable ROOT file" in manifest.quarantined[0].reason


def test_other_refusals(make_ntuple: MakeNtuple, tmp_path: Path) -> None:
    def complaint(path: Path, **options: str) -> str:
        with pytest.raises(ManifestError) as caught:
            m.build([str(path)], **options)  # type: ignore[arg-type]
        return str(caught.value)

    assert "cannot be read" in complaint(tmp_path / "nowhere.root")
    assert "no tree 'DmpEvtNtup'" in complaint(make_ntuple("data"), aliases="perugia")
    assert "branch tt_F3 is missing" in complaint(
        make_ntuple("data", drop=("tt_F3", "tt_BgoHit_Energy"))
    )
    assert "kind is 'data' by its own record" in complaint(make_ntuple("data"), kind="proton")
    bare = make_ntuple("data", name="bare.root", record=False)
    assert "kind is not known" in complaint(bare)
    assert "its livetime is not known" in complaint(bare, kind="data", bgo_reconstruction="new")
    assert "generated events are not known" in complaint(
        make_ntuple("electron", name="e.root", record=False),
        kind="electron",
        bgo_reconstruction="new",
    )
    stray = make_ntuple("data", run=9, name="stray.root", record=sample_record("data", run=8))
    assert "events of run 9, for which there is no livetime" in complaint(stray)
    with pytest.raises(ManifestError, match="not among the files"):
        m.build([str(bare)], quarantine=["other.root"])


def test_livetime_from_a_csv(make_ntuple: MakeNtuple, tmp_path: Path) -> None:
    path = make_ntuple("data", run=12, name="real.root", record=False)
    table = tmp_path / "livetime.csv"
    table.write_text("file,run_first,run_last,livetime_s\nreal.root,10,11,5.5\nreal.root,12,14,7\n")
    options = {"kind": "data", "bgo_reconstruction": "new"}
    manifest = m.build([str(path)], livetimes=read_livetimes(table), **options)  # type: ignore[arg-type]
    assert manifest.livetime_s == 12.5
    table.write_text("file,run_first,run_last,livetime_s\nreal.root,10,11,often\n")
    with pytest.raises(ManifestError, match=r"(?s)line 2.*livetime_s"):
        read_livetimes(table)
    table.write_text("run_first,run_last,livetime_s\n10,11,5\n")
    with pytest.raises(ManifestError, match="column 'file'"):
        read_livetimes(table)
    with pytest.raises(ManifestError, match="cannot be read"):
        read_livetimes(tmp_path / "none.csv")


def test_generated_events_are_shared_and_weights_must_be_said(make_ntuple: MakeNtuple) -> None:
    paths = [str(make_ntuple("electron", seed=i, record=False)) for i in (1, 2, 3)]
    total = Generated(events=1000, e_min_gev=50.0, e_max_gev=5000.0)
    options = {"kind": "electron", "bgo_reconstruction": "new", "generated": total}
    with pytest.raises(ManifestError, match="say with --weights"):
        m.build(paths, **options)  # type: ignore[arg-type]
    files = m.build(paths, weights="sampling", **options).files  # type: ignore[arg-type]
    events = [f.generated.events for f in files if f.generated]
    assert sum(events) == 1000
    assert max(events) - min(events) <= 1
    two = m.build(paths, weights="none", quarantine=[paths[0]], **options).files  # type: ignore[arg-type]
    assert [f.generated.events for f in two if f.generated] == [500, 500]
    assert {f.weights for f in two} == {"none"}
    bare = str(make_ntuple("electron", seed=9, record=False, drop=("tt_evtPoid",)))
    with pytest.raises(ManifestError, match="the branch must exist"):
        m.build([bare], weights="sampling", **options)  # type: ignore[arg-type]


def test_joining_respects_a_quarantine(make_ntuple: MakeNtuple) -> None:
    path = str(make_ntuple("data"))
    with pytest.raises(ManifestError, match="quarantined by another manifest"):
        m.join([m.build([path]), m.build([path], quarantine=[path])])


def test_files_without_events_count(make_ntuple: MakeNtuple) -> None:
    manifest = m.build([str(make_ntuple("data", n=0))])
    assert manifest.files[0].entries == 0
    assert manifest.livetime_s == 1000.0


def test_own_alias_file_is_remembered(make_ntuple: MakeNtuple, tmp_path: Path) -> None:
    text = "name: mine\ntree: DmlNtup\nfields:\n"
    for name, alias in load_aliases("dmlntup").fields.items():
        text += f"  {name}: {json.dumps(alias.model_dump(exclude_defaults=True))}\n"
    (tmp_path / "mine.yaml").write_text(text)
    manifest = m.build([str(make_ntuple("data"))], aliases=str(tmp_path / "mine.yaml"))
    assert manifest.files[0].aliases == str(tmp_path / "mine.yaml")


def test_unreadable_manifests(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="make one with 'cre manifest'"):
        m.read(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('{"schema": "cre-manifest/1", "files": [], "colour": 1}')
    with pytest.raises(ManifestError, match="colour"):
        m.read(tmp_path / "bad.json")


def test_inspection(make_ntuple: MakeNtuple) -> None:
    aliases = load_aliases("dmlntup")
    path = make_ntuple("electron", drop=("tt_stkTrackAngle", "tt_nBarLayer4"))
    content = look(str(path), aliases)
    assert disabled_cuts(content, aliases) == {"track": ["track_angle"]}
    rows = {row[0]: row[2] for row in field_table(content, aliases)}
    assert rows["track_angle"] == "missing"
    assert rows["n_bars"] == "derived"
    assert rows["layer_fraction"] == "tt_F0 … tt_F13"
    checks = self_check(content, aliases)
    assert len(checks) == 4
    assert max(checks.values()) == 0.0
    assert (
        self_check(look(str(make_ntuple("electron", n=0, name="z.root")), aliases), aliases) == {}
    )


def test_check_sees_a_wrong_edge_bit(make_ntuple: MakeNtuple) -> None:
    def flip(branches: dict[str, object]) -> None:
        branches["tt_selection_bits"] = branches["tt_selection_bits"] ^ 8  # type: ignore[operator]

    aliases = load_aliases("dmlntup")
    content = look(str(make_ntuple("electron", change=flip)), aliases)
    assert self_check(content, aliases)["edge cut: bit against image"] == 1.0


def test_missing_tree(make_ntuple: MakeNtuple) -> None:
    with pytest.raises(NtupleError, match="it holds: DmlNtup"):
        look(str(make_ntuple("data")), load_aliases("perugia"))
