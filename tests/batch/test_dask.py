"""Dask workers as batch jobs. On HTCondor they see neither the user's folder nor its models and manifest."""

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from batch.conftest import Sample
from batch.pools import (
    BARE_PYTHON,
    SLURM,
    Done,
    call,
    check_equal,
    condor_jobs,
    cre,
    ok,
    slurm_jobs,
    wait_for,
    write_site,
)


def parts(folder: Path) -> list[Path]:
    """Finished chunks of a run that is under way."""
    return list((folder / "checkpoints").rglob("*.part"))


@pytest.mark.parametrize("cluster", ["htcondor", "slurm"])
def test_equals_the_run_in_one_process(sample: Sample, here: Path, cluster: str) -> None:
    changes: dict[str, Any] = SLURM if cluster == "slurm" else {}
    site = write_site(here, **changes)
    ok(_run(sample, here, site, cluster, 2))
    check_equal(here / "r", sample.wanted)
    wait_for("the workers to leave the queue", lambda: not (condor_jobs() or slurm_jobs()))
    # the key of the run is gone with it
    assert not list(here.rglob("*.key"))
    scripts = "".join(
        p.read_text() for p in (here / "r" / "dask" / "logs").glob("*") if p.is_file()
    )
    assert "tls://" in scripts
    assert "tcp://" not in scripts


def test_held_workers_end_the_run(sample: Sample, here: Path) -> None:
    """A site file that says 'shared' where nothing is: every job is held, and the remedy is told."""
    site = write_site(here, files="shared")
    told = _run(sample, here, site, limit_s=90)
    assert told.code == 1
    assert "no worker, and every job is held" in told.said
    assert "use 'files: transfer' in the site file" in told.said
    wait_for("the held jobs to be removed", lambda: not condor_jobs())


def test_a_missing_program_is_told(sample: Sample, here: Path) -> None:
    """Workers without any packages never come: their last words are told."""
    site = write_site(here, python=BARE_PYTHON)
    told = _run(sample, here, site, limit_s=150)
    assert told.code == 1
    assert "No module named 'distributed'" in told.said
    wait_for("the jobs to be removed", lambda: not condor_jobs())


def test_a_missing_import_is_told(sample: Sample, here: Path) -> None:
    """Workers that come but cannot import one package are refused before the first chunk."""
    broken = [
        "mkdir $CRE_SCRATCH/broken",
        "echo 'raise ImportError(\"this site has no coffea\")' > $CRE_SCRATCH/broken/coffea.py",
        "export PYTHONPATH=$CRE_SCRATCH/broken",
    ]
    site = write_site(here, prologue=broken)
    told = _run(sample, here, site, limit_s=90)
    assert told.code == 1
    assert "this site has no coffea" in told.said
    assert "install it, with the same versions" in told.said
    assert not parts(here / "r")


def test_a_removed_worker_is_replaced(sample: Sample, here: Path) -> None:
    """The only worker is removed in the middle: another one comes and the run is complete."""
    site = write_site(here)
    run = _start(sample, here, site)
    try:
        wait_for("three chunks", lambda: len(parts(here / "r")) >= 3, every_s=0.05)
        job = condor_jobs(2)[0]
        done = len(parts(here / "r"))
        ok(call("condor_rm", job))
        assert run.wait(150) == 0, (here / "said").read_text()
    finally:
        run.kill()
    assert done < sample.chunks - 1, "the worker was removed too late to prove anything"
    check_equal(here / "r", sample.wanted)


def test_a_killed_client_is_resumed(sample: Sample, here: Path) -> None:
    """SIGKILL in the middle: the next run removes the jobs left behind and takes the finished chunks."""
    site = write_site(here)
    run = _start(sample, here, site)
    try:
        wait_for("three chunks", lambda: len(parts(here / "r")) >= 3, every_s=0.05)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait(20)
    left = condor_jobs(2)
    told = cre("status", here / "r")
    assert told.code == 2
    assert "interrupted" in told.said
    known = len(parts(here / "r"))
    assert 3 <= known < sample.chunks
    times = {p: p.stat().st_mtime_ns for p in parts(here / "r")}
    told = ok(_run(sample, here, site))
    assert f"{known} of {sample.chunks} chunks are there already" in told.said
    assert all(p.stat().st_mtime_ns == t for p, t in times.items())
    check_equal(here / "r", sample.wanted)
    wait_for("the jobs of both runs to leave the queue", lambda: not condor_jobs())
    assert left, "the killed client should have left its worker behind"


def _run(
    sample: Sample,
    here: Path,
    site: Path,
    cluster: str = "htcondor",
    jobs: int = 1,
    **options: Any,
) -> Done:
    """A run on workers of a site, to its end."""
    where = ("--cluster", cluster, "--site", site, "--jobs", jobs, "-o", here / "r")
    return cre("run", sample.stored_card, *where, **options)


def _start(sample: Sample, here: Path, site: Path) -> "subprocess.Popen[bytes]":
    """A run on one worker, left running."""
    command = (
        f"cre run {sample.stored_card} --cluster htcondor --site {site} --jobs 1 -o {here / 'r'}"
    )
    with (here / "said").open("wb") as said:
        return subprocess.Popen(command.split(), stdout=said, stderr=said, stdin=subprocess.DEVNULL)
