"""What the batch tests share: calls of the programs with a time limit, waiting, and what equal means."""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

#: The user's folder, which jobs of HTCondor do not see, and storage that every machine sees.
HOME = Path("/home/analyst")
STORE = Path("/store")
#: Python with the packages, as on a software area that every machine sees; and one without.
PYTHON = "/opt/cre/bin/python"
BARE_PYTHON = "/usr/bin/python3"


@dataclass(frozen=True)
class Done:
    """A program that ended: its exit code, and all that it said, in one line."""

    code: int
    out: str
    said: str


def call(*command: object, limit_s: float = 180) -> Done:
    """Run a program to its end."""
    words = [str(w) for w in command]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    said = " ".join((done.stdout + done.stderr).split())
    print(f"$ {' '.join(words)}\n{done.stdout}{done.stderr}[exit code {done.returncode}]")
    return Done(done.returncode, done.stdout, said)


def cre(*arguments: object, limit_s: float = 180) -> Done:
    """Run ``cre`` to its end."""
    return call("cre", *arguments, limit_s=limit_s)


def ok(done: Done) -> Done:
    assert done.code == 0, done.said
    return done


def wait_for(
    what: str, question: Callable[[], Any], limit_s: float = 60, every_s: float = 0.5
) -> Any:
    """Ask until the answer is true."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if answer := question():
            return answer
        time.sleep(every_s)
    msg = f"waited {limit_s} s in vain for: {what}"
    raise AssertionError(msg)


def condor_jobs(*states: int) -> list[str]:
    """Numbers of the jobs in the queue of HTCondor: those that wait (1), run (2), are held (5), or all."""
    out = ok(call("condor_q", "-af", "JobStatus", "ClusterId", "ProcId")).out
    rows = [line.split() for line in out.splitlines()]
    return [
        f"{cluster}.{proc}" for state, cluster, proc in rows if not states or int(state) in states
    ]


def slurm_jobs() -> list[str]:
    """Numbers of the jobs in the queue of Slurm that wait or run."""
    return ok(
        call("squeue", "-h", "-r", "-t", "pending,running,completing", "-o", "%i")
    ).out.split()


def write_site(folder: Path, **changes: Any) -> Path:
    """A site file for the pool of the tests."""
    content = {
        "name": "rig",
        "scheduler": "htcondor",
        "files": "transfer",
        "memory_mb": 1500,
        "memory_headroom_mb": 300,
        "disk_mb": 2000,
        "walltime_s": 3600,
        "python": PYTHON,
        "queue": {"poll_s": 2, "held_limit_s": 6},
        "dask": {"host": "192.0.2.1"},
    }
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(content | changes), "utf-8")
    return path


SLURM: dict[str, Any] = {"scheduler": "slurm", "files": "shared"}


def shards(folder: Path) -> Counter[str]:
    """How many shards ``cre status`` finds in each state."""
    return Counter(s["state"] for s in json.loads(cre("status", folder, "--json").out)["shards"])


def wait_for_jobs(limit_s: float = 120) -> None:
    """Wait until no job waits or runs; asking ``cre status`` all the time would slow the jobs down."""
    wait_for("no job", lambda: not (condor_jobs(1, 2) or slurm_jobs()), limit_s, every_s=1)


def check_equal(found: Path, wanted: Path) -> None:
    """Histograms and ledger of two folders are the same: what is no weight exactly, the rest to 1e-12."""
    from analysis.histfile import load  # noqa: PLC0415 - pytest reads this file where nothing of ours is

    a, b = (load(folder / "histograms.json.gz") for folder in (found, wanted))
    assert list(a.hists) == list(b.hists)
    for name, h in b.hists.items():
        assert a.hists[name].axes == h.axes
        one, other = a.hists[name].view(flow=True), h.view(flow=True)
        for part in ("value", "variance"):
            # sums of unweighted events are whole numbers, which no order of adding changes
            whole = other[part] == np.rint(other[part])
            np.testing.assert_array_equal(one[part][whole], other[part][whole], err_msg=name)
            np.testing.assert_allclose(one[part], other[part], rtol=1e-12, atol=0, err_msg=name)
    for key in (
        "livetime_s",
        "generated",
        "events",
        "nonfinite",
        "complete",
        "target_flux_integral",
    ):
        assert a.meta[key] == b.meta[key], key
    assert a.meta["complete"] is True
    assert a.meta["ledger"]["processed"] == b.meta["ledger"]["processed"]
