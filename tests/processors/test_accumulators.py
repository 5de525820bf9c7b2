"""Packed accumulators: nothing is lost on the way, and a file counts as a whole or not at all."""

import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coffea.processor import accumulate
from hypothesis import given, settings
from hypothesis import strategies as st

from processors import accumulators, partfile
from processors import run as r
from processors.chain import make_cut
from processors.exceptions import PartError
from processors.manifest import FileEntry, build
from processors.processor import RunConfig
from processors.spectrum import ELECTRON_2017, PROTON_2026

MakeNtuple = Callable[..., Path]
CONFIG = RunConfig(
    cuts=(make_cut("trigger"), make_cut("region")),
    regions=("fiducial",),
    score="zeta",
    target={"electron": ELECTRON_2017.to_dict(), "proton": PROTON_2026.to_dict()},
)


def weighted(seed: int) -> dict[str, Any]:
    """An accumulator with random weights in every histogram, also in the overflow bins."""
    rng = np.random.default_rng(seed)
    output = accumulators.empty(CONFIG)
    for h in output["hists"].values():
        view = h.view(flow=True)
        some = rng.random(view.shape) < 0.05
        weights = rng.normal(size=view.shape)  # negative sums of weights too
        view["value"] = np.where(some, weights, 0)
        view["variance"] = np.where(some, weights**2, 0)
    output["events"] = {"data": int(rng.integers(100))}
    output["nonfinite"] = {"zeta": 3, f"only_{seed}": 1}
    output["scored"] = {"zeta": 50}
    output["chunks"] = {("0" * 8 + f"-0000-0000-0000-{seed:012d}", 0, 50)}
    return output


def same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert {k: v for k, v in a.items() if k != "hists"} == {
        k: v for k, v in b.items() if k != "hists"
    }
    assert a["hists"].keys() == b["hists"].keys()
    for name, h in a["hists"].items():
        assert h.axes == b["hists"][name].axes
        np.testing.assert_array_equal(h.view(flow=True), b["hists"][name].view(flow=True))


def test_packing_keeps_every_bin_and_count() -> None:
    output = weighted(1)
    total = accumulators.empty(CONFIG)
    accumulators.add(total, accumulators.encode(output))
    same(total, output)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=2, max_size=4, unique=True))
def test_sums_are_those_of_coffea(seeds: list[int]) -> None:
    packed = [accumulators.encode(weighted(s)) for s in seeds]
    same(accumulators.merge(packed, CONFIG), accumulate([weighted(s) for s in seeds]))


def test_empty_chunks_pack() -> None:
    nothing = accumulators.encode(accumulators.empty(CONFIG))
    assert len(nothing) < 2000
    same(accumulators.merge([nothing], CONFIG), accumulators.empty(CONFIG))


def test_a_chunk_is_not_counted_twice() -> None:
    packed = accumulators.encode(weighted(4))
    total = accumulators.merge([packed], CONFIG)
    with pytest.raises(
        PartError, match=r"\[0:50\] of the file with uuid .*4 is in the sum already"
    ):
        accumulators.add(total, packed)
    same(total, weighted(4))


@pytest.mark.parametrize("content", [b"", b"no zip", "damaged"])
def test_other_content_is_refused(content: bytes | str) -> None:
    whole = accumulators.encode(weighted(1))
    bad = content if isinstance(content, bytes) else whole[:-40]
    total = accumulators.empty(CONFIG)
    with pytest.raises(PartError, match="no packed histograms"):
        accumulators.add(total, bad)
    same(total, accumulators.empty(CONFIG))


def test_objects_in_an_archive_are_not_loaded() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, ledger=np.array([{"a": 1}], dtype=object))
    with pytest.raises(PartError, match="no packed histograms"):
        accumulators.add(accumulators.empty(CONFIG), buffer.getvalue())


def test_histograms_of_another_card_are_refused() -> None:
    other = RunConfig(**{**vars(CONFIG), "extended_bins": True})
    packed = accumulators.encode(accumulators.empty(other))
    with pytest.raises(PartError, match="another card or program"):
        accumulators.merge([packed], CONFIG)


@pytest.fixture
def files(make_ntuple: MakeNtuple) -> list[FileEntry]:
    return build([str(make_ntuple("data", n=100, seed=s, run=s)) for s in (1, 2)]).files


def test_a_file_enters_as_a_whole_in_any_order(files: list[FileEntry]) -> None:
    items = [
        item
        for f in files
        for item in r.plan([f.model_copy(update={"clusters": [0, 30, 60, 100]})], 30)
    ]
    assert len(items) == 6
    packed = {item: accumulators.encode(r.run_chunk(item, CONFIG)) for item in items}
    one, two = items[:3], items[3:]
    whole = accumulators.merge([packed[i] for i in items], CONFIG)
    for order in itertools.islice(itertools.permutations(items), 0, 720, 97):
        fold = accumulators.Fold(items, CONFIG)
        for item in order:
            fold.add(item, packed[item])
        same(fold.output, whole)
        assert fold.incomplete_files == ()
    fold = accumulators.Fold(items, CONFIG)
    for item in (two[0], *one, two[2]):
        fold.add(item, packed[item])
    assert fold.incomplete_files == (files[1].path,)
    same(fold.output, accumulators.merge([packed[i] for i in one], CONFIG))
    assert [i for i in items if accumulators.chunk_id(i) not in fold.output["chunks"]] == list(two)


def test_nothing_complete_is_no_output(files: list[FileEntry]) -> None:
    items = r.plan(files, 10**6)
    fold = accumulators.Fold(items, CONFIG)
    assert fold.output == {}
    assert len(fold.incomplete_files) == 2


def test_part_files_come_back(tmp_path: Path) -> None:
    path = partfile.write(
        tmp_path / "a" / "x.part", {"shard": 3, "keys": {"data": "ab"}}, b"\n12\n"
    )
    assert partfile.read(path) == ({"shard": 3, "keys": {"data": "ab"}}, b"\n12\n")
    assert [p.name for p in path.parent.iterdir()] == ["x.part"]


def test_damaged_and_foreign_part_files_are_refused(tmp_path: Path) -> None:
    path = partfile.write(tmp_path / "x.part", {}, b"content")
    whole = path.read_bytes()
    for position in range(len(whole)):  # one changed byte, wherever it is
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(PartError):
            partfile.read(path)
    path.write_bytes(whole[:-1])
    with pytest.raises(PartError, match="is damaged"):
        partfile.read(path)
    path.write_bytes(b"PK something else")
    with pytest.raises(PartError, match="is no part of a run"):
        partfile.read(path)
    with pytest.raises(PartError, match="cannot be read"):
        partfile.read(tmp_path / "none.part")
