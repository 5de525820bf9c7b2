"""The parts of the benchmarks that could measure the wrong thing."""

import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import uproot

from benchmarks import exposure, scaling, timing
from benchmarks.floor import Floor
from benchmarks.samples import copies, copy
from processors.chain import make_cut
from processors.chunk import run_chunk
from processors.manifest import build
from processors.processor import RunConfig
from processors.run import plan

MakeNtuple = Callable[..., Path]
CONFIG = RunConfig((make_cut("trigger"), make_cut("region")), ("fiducial",), "zeta")


def busy(seconds: float) -> None:
    """Use the processor for some time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_copies_differ_in_their_identity_alone(make_ntuple: MakeNtuple, tmp_path: Path) -> None:
    (entry,) = build([str(make_ntuple("data"))]).files
    one, again, other = (copy(entry, tmp_path / folder, n) for folder, n in _folders(tmp_path))
    assert one.uuid == again.uuid != other.uuid != entry.uuid
    content, changed = Path(entry.path).read_bytes(), Path(one.path).read_bytes()
    assert changed == Path(again.path).read_bytes()
    assert changed.replace(uuid.UUID(one.uuid).bytes, uuid.UUID(entry.uuid).bytes) == content
    with uproot.open(one.path) as file:
        assert file.file.uuid == uuid.UUID(one.uuid)
    # a run takes it for what the manifest says, and not for the original
    parts = [run_chunk(plan([f], 10**6)[0], CONFIG) for f in (entry, one)]
    assert parts[0]["chunks"] != parts[1]["chunks"]
    np.testing.assert_array_equal(*(p["hists"]["score"].values() for p in parts))


def _folders(tmp_path: Path) -> list[tuple[str, int]]:
    for name in "abc":
        (tmp_path / name).mkdir()
    return [("a", 0), ("b", 0), ("c", 1)]


def test_only_one_copy_lies_there_at_a_time(make_ntuple: MakeNtuple, tmp_path: Path) -> None:
    (entry,) = build([str(make_ntuple("data"))]).files
    (tmp_path / "copies").mkdir()
    with closing(copies(entry, tmp_path / "copies", 3)) as files:
        found = [[p.name for p in (tmp_path / "copies").iterdir()] for _ in files]
    assert found == [[f"copy_synthetic_0000{i}.root"] for i in range(3)]
    assert not list((tmp_path / "copies").iterdir())


class Work:
    """Something to time: one stage inside another."""

    def outer(self) -> str:
        """0.03 s of its own and 0.06 s inside."""
        busy(0.03)
        self.inner()
        return "done"

    def inner(self) -> None:
        """0.06 s."""
        busy(0.06)


def test_stages_are_exclusive_and_add_up() -> None:
    stages = timing.Stages()
    original = Work.outer
    places = {f"{__name__}:Work.outer": "a", f"{__name__}:Work.inner": lambda _self: "b"}
    start = time.process_time()
    with stages.over(places):
        assert Work().outer() == "done"
        busy(0.02)
    whole = time.process_time() - start
    assert Work.outer is original
    assert stages.seconds == pytest.approx({"a": 0.03, "b": 0.06, "rest": 0.02}, abs=0.008)
    assert sum(stages.seconds.values()) == pytest.approx(whole, abs=0.008)


def test_a_stage_that_is_not_there_is_an_error() -> None:
    with (
        pytest.raises(KeyError, match="gone"),
        timing.Stages().over({f"{__name__}:Work.gone": "a"}),
    ):
        pass
    assert "gone" not in Work.__dict__


def test_the_floor_reads_what_the_run_reads(make_ntuple: MakeNtuple) -> None:
    (item,) = plan(build([str(make_ntuple("data"))]).files, 10**6)
    floor = Floor(item, CONFIG)
    lines = {f"tt_bgoRec{a}{b}" for a in ("Slope", "Intercept") for b in "XY"}
    assert lines | {"tt_Xtrl", "tt_selection_bits", "tt_bgoTotalEcorr_GeV"} < set(floor.branches)
    assert "tt_BgoHit_Energy" not in floor.branches
    with uproot.open(item.filename) as file:
        assert set(floor.branches) < set(file["DmlNtup"].keys(recursive=False))


def test_ratios_are_medians_over_rounds() -> None:
    times = {"run": [2.0, 3.0, 50.0], "read": [1.0, 1.0, 1.0], "net": [0.0, 1.0, 1.0]}
    assert timing.ratio(times, ["run"], ["read", "net"]) == 2.0


def test_the_estimate_by_hand() -> None:
    mixtures = {
        "flight": {"us_per_event": 4.0, "rate_hz": 10.0},
        "skim": {"us_per_event": 40.0, "rate_hz": 0.1},
    }
    rows = {r["what"]: r for r in exposure.estimate(mixtures, client_ms=10.0, chunk_size=100_000)}
    data = rows["10 GeV or more"]
    assert data["events"] == pytest.approx(2.36375620e9)
    assert data["core_hours"] == pytest.approx(2.626, abs=0.001)
    assert data["wall_min"]["100"] == pytest.approx(23637.562 * 0.01 / 60)  # the client's limit
    skim = rows["skim of 100 GeV or more"]
    assert skim["core_hours"] == pytest.approx(0.2626, abs=0.0001)
    assert skim["wall_min"]["100"] == pytest.approx(945.5 / 100 / 60, rel=1e-3)
    assert rows["all recorded events"]["events"] == pytest.approx(1.805e10, rel=1e-3)


def test_a_leak_into_free_space_of_the_heap_is_seen() -> None:
    """4 MB a chunk, in memory that was freed before, so that the process does not grow."""
    spare = [bytes(1_000_000) for _ in range(100)]
    spare.clear()
    kept, memory = [], []
    for _ in range(16):
        kept.append([bytes(40_000) for _ in range(100)])
        memory.append(timing.in_use_mb())
    assert scaling.slope(memory) == pytest.approx(4.0, rel=0.05)
    assert np.isnan(scaling.slope(memory[:3]))
