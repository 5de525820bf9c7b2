"""Events read straight from the file: the same as coffea's, whatever is read together."""

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest

from processors.chain import evaluate, make_cut
from processors.chunk import run_chunk
from processors.histograms import fill_cutflow
from processors.manifest import build
from processors.memory import keep_freed_memory
from processors.ntuple import FIELDS, Ntuple, load_aliases
from processors.ntuplefile import Branches, open_events, open_file
from processors.processor import RunConfig
from processors.run import execute, plan
from processors.showers import largest

MakeNtuple = Callable[..., Path]
CUTS = (make_cut("trigger"), make_cut("max_layer_ratio"), make_cut("max_rms"), make_cut("region"))
CONFIG = RunConfig(CUTS, ("fiducial", "topfiducial"), "zeta")


@pytest.mark.parametrize("together", [False, True])
def test_every_field_is_that_of_coffea(make_ntuple: MakeNtuple, together: bool) -> None:
    path = str(make_ntuple("electron", n=200))
    aliases = load_aliases("dmlntup")
    other = Ntuple(open_events(path, "DmlNtup", start=30, stop=170), aliases)
    with open_file(path) as file:
        events = Branches(file["DmlNtup"], 30, 170, {})
        if together:
            events.preload([*events.fields, "not there"])
        ntuple = Ntuple(events, aliases)
        assert len(ntuple) == 140
        there = [name for name in FIELDS if other.has(name)]
        assert len(there) > 30
        for name in there:
            one, two = ntuple[name], other[name]
            assert one.dtype == two.dtype, name
            np.testing.assert_array_equal(one, two, err_msg=name)


def test_a_word_of_bits_is_read_once(
    make_ntuple: MakeNtuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = Branches.__getitem__

    def get(events: Branches, branch: str) -> Any:
        read.append(branch)
        return original(events, branch)

    monkeypatch.setattr(Branches, "__getitem__", get)
    with open_file(str(make_ntuple("electron"))) as file:
        ntuple = Ntuple(Branches(file["DmlNtup"], 0, 300, {}), load_aliases("dmlntup"))
        flags = [ntuple[name] for name in ("outside_saa", "he_trigger", "edge_clear")]
    assert read == ["tt_selection_bits"]
    assert len({f.tobytes() for f in flags}) == 3


@pytest.mark.parametrize("field", ["layer_fraction", "layer_rms", "n_bars", "e_corr", "zeta"])
def test_some_rows_are_rows_of_the_whole(make_ntuple: MakeNtuple, field: str) -> None:
    path = str(make_ntuple("electron"))
    rows = np.array([0, 7, 8, 211, 299])
    with open_file(path) as file:
        first, second = (
            Ntuple(Branches(file["DmlNtup"], 0, 300, {}), load_aliases("dmlntup")) for _ in "ab"
        )
        np.testing.assert_array_equal(first.take(field, rows), second[field][rows])
        # and the whole after the rows, and the rows after the whole
        np.testing.assert_array_equal(first[field], second[field])
        np.testing.assert_array_equal(first.take(field, rows), second[field][rows])


def test_rows_of_a_derived_field(make_ntuple: MakeNtuple) -> None:
    path = str(make_ntuple("electron", drop=("tt_Rms3",)))
    with open_file(path) as file:
        ntuple = Ntuple(Branches(file["DmlNtup"], 0, 300, {}), load_aliases("dmlntup"))
        np.testing.assert_array_equal(
            ntuple.take("layer_rms", np.array([3, 5])), ntuple["layer_rms"][[3, 5]]
        )


@pytest.mark.parametrize("weighted", [False, True])
def test_the_cut_flow_is_that_of_plain_fills(make_ntuple: MakeNtuple, weighted: bool) -> None:
    path = str(make_ntuple("data", n=400))
    with open_file(path) as file:
        ntuple = Ntuple(Branches(file["DmlNtup"], 0, 400, {}), load_aliases("dmlntup"))
        passed = evaluate(ntuple, CUTS, kind="data", region="fiducial")
        energy = ntuple["e_corr"].copy()
    energy[:3] = np.nan, 1.0, 1e6  # out of every bin: NaN and above to the overflow
    weights = np.random.default_rng(1).exponential(size=400) if weighted else np.ones(400)
    axes = [
        hist.axis.StrCategory(["data"], name="kind", overflow=False),
        hist.axis.StrCategory(["fiducial"], name="region", overflow=False),
        hist.axis.StrCategory(["new"], name="bgo", overflow=False),
        hist.axis.StrCategory([c.name for c in CUTS], name="cut", overflow=False),
        hist.axis.StrCategory(["evaluated", "passed", "cumulative", "n_minus_1"], name="stat"),
        hist.axis.Variable([20.0, 100.0, 500.0, 3000.0], name="energy"),
    ]
    fast, slow = (hist.Hist(*axes, storage=hist.storage.Weight()) for _ in "ab")
    labels = ("data", "fiducial", "new")
    fill_cutflow(fast, passed, labels, energy, weights)
    for stat in axes[4]:
        for cut, mask in getattr(passed, stat).items():
            slow.fill(*labels, cut, stat, energy[mask], weight=weights[mask])
    np.testing.assert_array_equal(fast.view(flow=True), slow.view(flow=True))
    assert slow["data", "fiducial", "new", "trigger", "evaluated", hist.overflow].value > 0


def test_largest_is_the_maximum_with_its_nan() -> None:
    values = np.random.default_rng(2).normal(size=(50, 14)).astype(np.float32)
    values[7, 13] = values[9, 0] = np.nan
    np.testing.assert_array_equal(largest(values), values.max(axis=1))
    before = values.copy()
    largest(values)
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_layer_that_is_not_finite_is_counted(make_ntuple: MakeNtuple, bad: float) -> None:
    def spoil(branches: dict[str, Any]) -> None:
        for layer, row in ((3, 5), (13, 5), (0, 40)):
            branches[f"tt_Rms{layer}"][row] = bad

    (item,) = plan(build([str(make_ntuple("data", change=spoil))]).files, 10**6)
    assert run_chunk(item, CONFIG)["nonfinite"]["layer_rms"] == 2


@pytest.mark.parametrize("largest", [2**30, 2**25])
def test_the_c_library_is_told_to_keep_freed_memory(
    monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    """Versions of glibc before 2.35 take no M_MMAP_THRESHOLD above 32 MB."""
    told: list[tuple[int, int]] = []

    class Library:
        @staticmethod
        def mallopt(parameter: int, value: int) -> int:
            told.append((parameter, value))
            return int(parameter == -1 or value <= largest)

    monkeypatch.setattr("processors.memory.ctypes.CDLL", lambda _name: Library)
    assert keep_freed_memory()
    assert told[0] == (-1, 2**30)  # M_TRIM_THRESHOLD
    assert told[-1] == (-3, largest)  # M_MMAP_THRESHOLD
    monkeypatch.setattr("processors.memory.ctypes.CDLL", lambda _name: object())
    assert not keep_freed_memory()


def test_a_process_is_settled_where_it_only_reads_chunks(make_ntuple: MakeNtuple) -> None:
    """A user's own process, that calls the library, is left as it is."""
    before = gc.get_freeze_count()
    items = plan(build([str(make_ntuple("data"))]).files, 10**6)
    assert not execute(items, CONFIG).missing
    assert gc.get_freeze_count() == before
    code = (
        "import gc; from processors.memory import read_chunks_only; read_chunks_only(); "
        "first = gc.get_freeze_count(); read_chunks_only(); print(first, gc.get_freeze_count())"
    )
    out = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    first, second = map(int, out.stdout.split())
    assert first == second > 1000
