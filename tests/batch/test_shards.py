"""Plain shards: no connection to the workers, and on HTCondor no file system in common with them."""

import re
from pathlib import Path

import pytest
from batch.conftest import Sample
from batch.pools import (
    BARE_PYTHON,
    SLURM,
    call,
    check_equal,
    condor_jobs,
    cre,
    ok,
    shards,
    wait_for,
    wait_for_jobs,
    write_site,
)


@pytest.fixture(autouse=True)
def _empty_queue() -> None:
    """What an earlier test left behind must not disturb."""
    call("condor_rm", "-all")
    call("scancel", "--me")


def test_on_bare_workers(sample: Sample, here: Path) -> None:
    """A worker with nothing but python: program, packages, models and ntuples travel with the job."""
    told = ok(cre("condor", "pack", "-o", here, limit_s=240))
    wheel = re.search(r"wrote (\S+\.whl)", told.said)
    assert wheel is not None
    site = write_site(
        here,
        python=BARE_PYTHON,
        environment="environment.tar.gz",
        wheel=Path(wheel[1]).name,
        disk_mb=4000,
    )
    ok(cre("condor", "submit", sample.card, "--site", site, "-o", here / "s", "--shards", 1))
    assert cre("merge", here / "s").code == 2  # nothing is merged that is not there
    wait_for_jobs()
    ok(cre("status", here / "s"))
    ok(cre("merge", here / "s"))
    check_equal(here / "s", sample.wanted)


def test_a_missing_input_is_held_and_told(sample: Sample, here: Path) -> None:
    """The ntuple is away when the job starts: held, with reason and remedy; the remedy works."""
    site = write_site(
        here, directives={"hold": True}
    )  # so that the file can be moved before the job starts
    ok(cre("condor", "submit", sample.card, "--site", site, "-o", here / "s", "--shards", 1))
    away = sample.ntuples[0].with_suffix(".away")
    sample.ntuples[0].rename(away)
    try:
        job = condor_jobs(5)[0]
        ok(call("condor_release", job))
        wait_for(
            "code 13", lambda: call("condor_q", job, "-af", "HoldReasonCode").out.strip() == "13"
        )
        told = cre("status", here / "s")
        assert told.code == 2
        assert sample.ntuples[0].name in told.said
        assert (
            "a file of the job is missing or unreadable on the submit host; bring it back"
            in told.said
        )
    finally:
        away.rename(sample.ntuples[0])
    ok(call("condor_release", job))
    wait_for_jobs()
    ok(cre("merge", here / "s"))
    check_equal(here / "s", sample.wanted)


def test_a_missing_import_is_told(sample: Sample, here: Path) -> None:
    """A worker without the packages: the shard failed, and the import error is told."""
    site = write_site(here, python=BARE_PYTHON)
    ok(cre("condor", "submit", sample.card, "--site", site, "-o", here / "s", "--shards", 1))
    wait_for_jobs()
    assert shards(here / "s") == {"failed": 1}
    told = cre("status", here / "s")
    assert told.code == 2
    assert "ModuleNotFoundError: No module named 'cre'" in told.said
    assert "'cre resubmit'" in told.said
    refused = cre("merge", here / "s")
    assert refused.code == 2
    assert "No module named 'cre'" in refused.said
    assert not list((here / "s").glob("histograms.*"))


def test_more_memory_mends_a_memory_hold(sample: Sample, here: Path) -> None:
    """A job of 900 MB in 700: held by the pool's policy; told with the remedy, which works."""
    # the job's own memory would depend on the machine; this one holds 900 MB beside it while it runs
    hog = """python3 -c "import time; x = b'x' * (900 << 20); time.sleep(300)" & sleep 8"""
    site = write_site(here, memory_mb=700, memory_headroom_mb=0, prologue=[hog])
    ok(cre("condor", "submit", sample.card, "--site", site, "-o", here / "s", "--shards", 2))
    wait_for("both jobs to be held", lambda: len(condor_jobs(5)) == 2)
    told = cre("status", here / "s")
    assert told.code == 2
    assert "code 21" in told.said
    assert "raise memory_mb in the site file, or 'cre resubmit --memory-mb'" in told.said
    ok(cre("resubmit", here / "s", "--memory-mb", 2500))
    wait_for_jobs()
    ok(cre("merge", here / "s"))
    check_equal(here / "s", sample.wanted)


def test_a_removed_job_is_resubmitted(sample: Sample, here: Path) -> None:
    """Somebody removes one of two running jobs: lost, told, resubmitted; the other is not run again."""
    site = write_site(here, prologue=["sleep 3"])
    ok(cre("condor", "submit", sample.card, "--site", site, "-o", here / "s", "--shards", 2))
    wait_for("both jobs to run", lambda: len(condor_jobs(2)) == 2)
    ok(call("condor_rm", condor_jobs(2)[0]))
    wait_for_jobs()
    assert shards(here / "s") == {"done": 1, "lost": 1}
    told = cre("status", here / "s")
    assert told.code == 2
    assert "left the queue without a part" in told.said
    assert cre("merge", here / "s").code == 2
    again = ok(cre("resubmit", here / "s"))
    assert "1 of 2 shards" in again.said
    wait_for_jobs()
    assert "nothing to submit" in ok(cre("resubmit", here / "s")).said
    ok(cre("merge", here / "s"))
    check_equal(here / "s", sample.wanted)


def test_an_array_of_slurm(sample: Sample, here: Path) -> None:
    """Three elements of a Slurm array; one is cancelled and submitted again."""
    site = write_site(here, **SLURM, prologue=["sleep 3"])
    ok(cre("condor", "submit", sample.card, "--site", site, "-o", here / "s", "--shards", 3))
    running = ("squeue", "-h", "-r", "-t", "running", "-o", "%i")
    ok(call("scancel", wait_for("a job to run", lambda: call(*running).out.split())[0]))
    wait_for_jobs()
    assert shards(here / "s") == {"done": 2, "lost": 1}
    assert cre("status", here / "s").code == 2
    assert "1 of 3 shards" in ok(cre("resubmit", here / "s")).said
    wait_for_jobs()
    ok(cre("merge", here / "s"))
    check_equal(here / "s", sample.wanted)
