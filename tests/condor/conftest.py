"""A project with a card, and a stand-in for HTCondor (see standin.py; not HTCondor)."""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from analysis.histfile import load
from cre.shards import run_shard
from processors.exceptions import IncompleteError

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


class StandIn:
    """The stand-in's folder: its queue, and what it is told to do wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fault(self, **what: Any) -> None:
        (self.folder / "fault.json").write_text(json.dumps(what))

    def jobs(self) -> list[dict[str, Any]]:
        return [json.loads(p.read_text()) for p in sorted((self.folder / "jobs").glob("*.json"))]

    def wait(self, seconds: float = 120) -> None:
        """Until no job runs or is about to."""
        end = time.monotonic() + seconds
        while any(j["JobStatus"] in {1, 2} for j in self.jobs()):
            assert time.monotonic() < end, self.jobs()
            time.sleep(0.1)
        errors = self.folder / "standin.err"
        assert not errors.exists() or not errors.read_text()

    def forget(self, job: dict[str, Any]) -> None:
        (self.folder / "jobs" / f"{job['ClusterId']}.{job['ProcId']}.json").unlink()

    def change(self, shard: int, **what: Any) -> None:
        for job in self.jobs():
            if job["CreShard"] == shard:
                path = self.folder / "jobs" / f"{job['ClusterId']}.{job['ProcId']}.json"
                path.write_text(json.dumps(job | what))

    def remove(self) -> None:
        for job in self.jobs():
            if "pid" in job:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(job["pid"], signal.SIGKILL)


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("condor_submit", "condor_q", "condor_rm"):
        path = folder / tool
        text = (HERE / "standin.py").read_text().replace("__file__", repr(str(HERE / "standin.py")))
        path.write_text(f"#!{sys.executable}\n{text}")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    standin = StandIn(folder)
    yield standin
    standin.remove()


@pytest.fixture
def project(
    make_ntuple: Callable[..., Path], tmp_path: Path, cre: Callable[..., tuple[int, str, str]]
) -> Path:
    """A folder with five small files, a manifest, a card of small chunks, and a site file."""
    files = [
        make_ntuple("data", n=400, seed=1),
        make_ntuple("data", n=300, seed=2, run=2),
        make_ntuple("electron", n=250, seed=3),
        make_ntuple("proton", n=200, seed=4),
        make_ntuple("proton", n=260, seed=5),
    ]
    assert cre("manifest", *files, "-o", tmp_path / "manifest.json")[0] == 0
    card = yaml.safe_load((ROOT / "cre/cards/fiducial.yaml").read_text())
    card["score"]["control"] = [-6.0, -0.93]
    card["chunk_size"] = 150
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(card))
    site = {
        "name": "standin",
        "scheduler": "htcondor",
        "files": "transfer",
        "memory_mb": 2000,
        "disk_mb": 1000,
        "walltime_s": 3600,
        "python": sys.executable,
        "queue": {"poll_s": 0.5, "held_limit_s": 1.0, "timeout_s": 20.0},
        "dask": {"host": "127.0.0.1", "death_timeout_s": 30},
    }
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(site))
    return tmp_path


@pytest.fixture
def batch(project: Path, pool: StandIn, cre: Callable[..., tuple[int, str, str]]) -> Path:
    """A submission of three shards whose jobs wait for ever; see ``finish``."""
    pool.fault(idle=True)
    code, _, err = cre(
        *("condor", "submit", project / "card.yaml", "--site", project / "site.yaml"),
        *("-o", project / "batch", "--shards", 3),
    )
    assert code == 0, err
    return project / "batch"


@pytest.fixture
def finish(pool: StandIn, tmp_path: Path) -> Callable[..., None]:
    """Run shards in this process as their jobs would, and take the jobs out of the queue."""

    def run(batch: Path, *numbers: int) -> None:
        submission = json.loads((batch / "submission.json").read_text())
        for number in numbers:
            scratch = tmp_path / f"scratch-{number}-{time.monotonic_ns()}"
            scratch.mkdir()
            name = f"{number:05d}"
            shard = json.loads((batch / "shards" / f"{name}.json").read_text())
            files = [batch / "submission.json", batch / "shards" / f"{name}.json", *shard["local"]]
            files += [batch / "luggage" / p["file"] for p in submission["luggage"].values()]
            for file in files:
                shutil.copy(file, scratch)
            with contextlib.suppress(IncompleteError):
                run_shard(scratch / f"{name}.json", batch / "parts" / f"{name}.part")
            for job in pool.jobs():
                if job["CreShard"] == number:
                    pool.forget(job)

    return run


@pytest.fixture
def same() -> Callable[[Path, Path], None]:
    """Demand of two histogram files that they are equal, bin by bin, and tell the same of the run."""

    def check(a: Path, b: Path) -> None:
        one, other = load(a), load(b)
        assert one.hists.keys() == other.hists.keys()
        for name, h in one.hists.items():
            twin = other.hists[name]
            np.testing.assert_allclose(h.values(flow=True), twin.values(flow=True), rtol=1e-12)
            np.testing.assert_allclose(
                h.variances(flow=True), twin.variances(flow=True), rtol=1e-12
            )
        # sums of ones do not depend on the order
        counts = [c.hists["score"]["data", ...].values(flow=True) for c in (one, other)]
        np.testing.assert_array_equal(*counts)
        assert counts[0].sum() > 0
        for key in ("events", "nonfinite", "livetime_s", "by_bgo", "complete", "models"):
            assert one.meta[key] == other.meta[key], key

    return check
