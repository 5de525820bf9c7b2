"""Checkpoints: what is done is not done again, and no change of code, card or model gets an old answer."""

import dataclasses
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxmodels
import pytest

from processors import identity, luggage
from processors import run as r
from processors.calibration import load_calibration
from processors.chain import make_cut
from processors.checkpoints import Checkpoints
from processors.exceptions import AliasError, ModelError
from processors.identity import code_identity, differences, run_key
from processors.manifest import FileEntry, build
from processors.modelset import Models, load_models
from processors.processor import RunConfig
from processors.spectrum import ELECTRON_2017, PROTON_2026

MakeNtuple = Callable[..., Path]


@pytest.fixture
def files(make_ntuple: MakeNtuple) -> list[FileEntry]:
    paths = [make_ntuple("data", n=80, seed=1), make_ntuple("electron", n=70, seed=2)]
    return build([str(p) for p in paths]).files


def config(files: list[FileEntry], **change: Any) -> RunConfig:
    generated = [f.generated.model_dump() for f in files if f.generated]
    options: dict[str, Any] = {
        "cuts": (make_cut("trigger"), make_cut("region")),
        "regions": ("fiducial",),
        "score": "zeta",
        "generated": {"new": {"electron": generated, "proton": []}},
        "target": {"electron": ELECTRON_2017.to_dict(), "proton": PROTON_2026.to_dict()},
    }
    return RunConfig(**(options | change))


def count(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the chunks that are really processed from now on."""
    done: list[str] = []
    real = r.packed_chunk

    def counted(item: Any, run: RunConfig) -> bytes:
        done.append(item.dataset)
        return real(item, run)

    monkeypatch.setattr(r, "packed_chunk", counted)
    return done


def test_a_second_run_reads_nothing_and_gives_the_same(
    files: list[FileEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, run = r.plan(files, 10**6), config(files)
    one = r.execute(items, run, checkpoints=Checkpoints(tmp_path, run))
    done, told = count(monkeypatch), []
    two = r.execute(items, run, checkpoints=Checkpoints(tmp_path, run), progress=told.append)
    assert not done
    assert sorted(told) == [70, 80]
    assert one.processed == two.processed
    for name, h in one.output["hists"].items():
        np.testing.assert_array_equal(h.view(flow=True), two.output["hists"][name].view(flow=True))
    assert not list(tmp_path.rglob("*.part.*"))


def test_an_interrupted_run_goes_on(
    files: list[FileEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, run = r.plan(files, 10**6), config(files)

    def interrupt(_done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        r.execute(items, run, checkpoints=Checkpoints(tmp_path, run), progress=interrupt)
    done = count(monkeypatch)
    result = r.execute(items, run, checkpoints=Checkpoints(tmp_path, run))
    assert done == ["electron"]
    assert result.output["events"] == {"data": 80, "electron": 70}


@pytest.mark.parametrize(
    ("change", "again"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param(
            {"cuts": (make_cut("trigger"), make_cut("edge"), make_cut("region"))},
            ["data", "electron"],
            id="cut",
        ),
        pytest.param(
            {
                "cuts": (
                    make_cut("trigger"),
                    make_cut("max_layer_ratio", {"max_ratio": 0.3}),
                    make_cut("region"),
                )
            },
            ["data", "electron"],
            id="value of a cut",
        ),
        pytest.param({"extended_bins": True}, ["data", "electron"], id="bins"),
        pytest.param({"regions": ("topfiducial",)}, ["data", "electron"], id="region"),
        pytest.param(
            {"generated": {"new": {"electron": [], "proton": []}}}, ["electron"], id="simulation"
        ),
        pytest.param(
            {"target": {"electron": PROTON_2026.to_dict(), "proton": PROTON_2026.to_dict()}},
            ["electron"],
            id="target",
        ),
        pytest.param(
            {"calibration": load_calibration("synthetic").model_dump(mode="json")},
            ["electron"],
            id="calibration",
        ),
    ],
)
def test_a_changed_card_gets_no_old_answer(
    files: list[FileEntry], change: dict[str, Any], again: list[str]
) -> None:
    old, new = config(files), config(files, **change)
    assert [k for k in ("data", "electron") if run_key(old, k) != run_key(new, k)] == again


def test_changed_code_or_packages_get_no_old_answer(
    files: list[FileEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run_key(config(files), "data")
    changed = code_identity() | {"onnxruntime": "0.1"}
    monkeypatch.setattr(identity, "code_identity", lambda: changed)
    assert run_key(config(files), "data") != before
    assert differences({k: v for k, v in changed.items() if k != "numpy"} | {"numpy": "1.0"}) == [
        f"numpy 1.0 there, {changed['numpy']} here"
    ]


def test_the_code_is_every_source_file_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = code_identity()
    shutil.copytree(Path(identity.__file__).parent, tmp_path / "processors")
    monkeypatch.setattr(identity, "__file__", str(tmp_path / "processors" / "identity.py"))
    digests = []
    for changed in (None, "geometry.py", "aliases/dmlntup.yaml"):
        if changed:
            with (tmp_path / "processors" / changed).open("a", encoding="utf-8") as stream:
                stream.write("# changed\n")
        digests.append(code_identity.__wrapped__())
    assert digests[0] == ours
    assert set(ours) == {"processors", *identity.PACKAGES}
    assert len({d["processors"] for d in digests}) == 3


def networks(tmp_path: Path, seed: int) -> Models:
    path = onnxmodels.image_sum(tmp_path / f"net{seed}.onnx", float(seed), content={"name": "net"})
    return load_models(
        {"fiducial": {"net": [(path, None)]}}, {}, scores=("net",), energy_range_gev=(20.0, 1e4)
    )


def test_a_changed_file_under_the_same_path_gets_no_old_answer(
    files: list[FileEntry], tmp_path: Path
) -> None:
    run = config(files)
    store = Checkpoints(tmp_path, run)
    (item,) = r.plan(files[:1], 10**6)
    store.put(item, b"old")
    assert store.get(item) == b"old"
    for change in ({"size_bytes": 1}, {"aliases_sha256": "0" * 64}, {"weights": "sampling"}):
        other = files[0].model_copy(update=change)
        assert store.get(r.plan([other], 10**6)[0]) is None
    assert store.get(dataclasses.replace(item, entrystop=79)) is None
    store.forget([item])
    assert store.get(item) is None


def test_a_damaged_checkpoint_is_put_aside_and_run_again(
    files: list[FileEntry], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items, run = r.plan(files, 10**6), config(files)
    store = Checkpoints(tmp_path, run)
    whole = r.execute(items, run, checkpoints=store).output
    path = store.path(items[0])
    path.write_bytes(path.read_bytes()[:-10])
    with caplog.at_level(logging.WARNING):
        result = r.execute(items, run, checkpoints=store)
    assert "is damaged" in caplog.text
    assert path.with_name(path.name + ".damaged").exists()
    assert path.exists()
    assert result.output["hists"]["score"] == whole["hists"]["score"]


def test_luggage_moves_models_and_aliases(files: list[FileEntry], tmp_path: Path) -> None:
    run = config(files, score="net", models=networks(tmp_path, 1))
    items = r.plan(files, 10**6)
    (path,) = {ref.path for refs in run.models.members["fiducial"].values() for ref in refs}
    found = luggage.collect(run, items)
    assert found == {path: Path(path).read_bytes()}  # shipped aliases stay at home
    places = luggage.unpack(found, tmp_path / "there")
    moved = luggage.relocate_config(run, places)
    assert moved.models.members["fiducial"]["net"][0].path == places[path]
    assert Path(places[path]).parent == tmp_path / "there"
    assert run_key(moved, "data") == run_key(run, "data")  # a path is no content
    Path(path).write_bytes(b"other")
    with pytest.raises(ModelError, match="expected is"):
        luggage.collect(run, items)
    lost = [dataclasses.replace(i, usermeta={"aliases": str(tmp_path / "no.yaml")}) for i in items]
    with pytest.raises(AliasError, match=r"no\.yaml' cannot be read"):
        luggage.collect(config(files), lost)


def test_another_model_gets_no_old_answer(files: list[FileEntry], tmp_path: Path) -> None:
    keys = {
        run_key(config(files, score="net", models=networks(tmp_path, seed)), "data")
        for seed in (1, 2)
    }
    assert len(keys) == 2
