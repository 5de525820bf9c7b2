"""What the batch system's tools print, and the sentences that come of it; the tools are stand-ins."""

import json
import os
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from condor import queue
from condor.queue import Job, QueueError, describe


def tool(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    if str(folder) not in os.environ["PATH"]:
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_condor_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = int(time.time())
    ads = [
        {
            "ClusterId": 7,
            "ProcId": 0,
            "JobStatus": 1,
            "EnteredCurrentStatus": now - 500,
            "CreShard": 3,
        },
        {"ClusterId": 7, "ProcId": 1, "JobStatus": 2, "EnteredCurrentStatus": now - 5},
        {
            "ClusterId": 7,
            "ProcId": 2,
            "JobStatus": 5,
            "HoldReason": "Transfer input\nfiles failure",
            "HoldReasonCode": 13,
            "HoldReasonSubCode": 2,
        },
        {"ClusterId": 7, "ProcId": 3, "JobStatus": 3},
        {"ClusterId": 7, "ProcId": 4, "JobStatus": 6},
    ]
    (tmp_path / "ads").write_text(json.dumps(ads))
    tool(tmp_path, monkeypatch, "condor_q", f'echo "$@" > {tmp_path}/call; cat {tmp_path}/ads')
    jobs = queue.condor_jobs('CreRun == "x"', 5)
    assert [(j.id, j.state) for j in jobs] == [
        ("7.0", "idle"),
        ("7.1", "running"),
        ("7.2", "held"),
        ("7.3", "ending"),
        ("7.4", "running"),
    ]
    assert jobs[0].shard == 3
    assert 499 <= jobs[0].since_s < 520
    assert (jobs[2].reason, jobs[2].code) == ("Transfer input files failure", (13, 2))
    assert (
        '-constraint CreRun == "x" -json -attributes ClusterId,' in (tmp_path / "call").read_text()
    )
    (tmp_path / "ads").write_text("")  # what condor_q prints of an empty queue
    assert queue.condor_jobs('CreRun == "x"', 5) == []
    (tmp_path / "ads").write_text("Error: cannot find schedd")
    with pytest.raises(QueueError, match="printed no JSON: 'Error"):
        queue.condor_jobs('CreRun == "x"', 5)


def test_slurm_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    early = (datetime.now() - timedelta(seconds=300)).isoformat(timespec="seconds")
    lines = [
        f"12_1|RUNNING|{early}|{early}|None",
        f"12_2|PENDING|{early}|N/A|Priority",
        f"12_3|PENDING|{early}|N/A|JobHeldUser",
        f"12_4|PENDING|{early}|N/A|launch failed requeued held",
        f"12_5|COMPLETING|{early}|{early}|None",
    ]
    tool(tmp_path, monkeypatch, "squeue", "\n".join(f"echo '{line}'" for line in lines))
    tool(tmp_path, monkeypatch, "sacct", "echo '12_6|OUT_OF_MEMORY'; echo '12_7|CANCELLED by 0'")
    jobs = queue.slurm_jobs(5, name="cre-1")
    assert [(j.id, j.state) for j in jobs] == [
        ("12_1", "running"),
        ("12_2", "idle"),
        ("12_3", "held"),
        ("12_4", "held"),
        ("12_5", "ending"),
    ]
    assert 299 <= jobs[1].since_s < 320
    sentences = describe(jobs, 60, analyse="scontrol show job")
    assert [text.split(" -> ")[0] for text in sentences] == [
        "1 job is held, for example 12_3 (JobHeldUser)",
        "1 job is held, for example 12_4 (launch failed requeued held)",
        "1 job waits for more than 60 s, for example 12_2 (Priority)",
    ]
    assert "'scontrol release' lets it go on" in sentences[0]
    assert "is the folder of the run visible there?" in sentences[1]
    assert "'scontrol show job 12_2' says" in sentences[2]
    assert queue.slurm_ended(["12"], 5) == {"12_6": "OUT_OF_MEMORY", "12_7": "CANCELLED"}
    tool(tmp_path, monkeypatch, "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert queue.slurm_ended(["12"], 5) == {}


def test_tools_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(QueueError, match="there is no command 'condor_q'"):
        queue.condor_jobs("true", 5)
    tool(tmp_path, monkeypatch, "condor_q", "sleep 60")
    start = time.monotonic()
    with pytest.raises(QueueError, match=r"'condor_q' did not answer within 0\.3 s"):
        queue.condor_jobs("true", 0.3)
    assert time.monotonic() - start < 10
    tool(tmp_path, monkeypatch, "condor_q", "echo no schedd >&2; exit 1")
    with pytest.raises(QueueError, match="failed with exit code 1: no schedd"):
        queue.condor_jobs("true", 5)


def test_the_same_trouble_of_many_jobs_is_one_sentence() -> None:
    jobs = [
        Job(f"7.{n}", "held", 10.0, f"slot{n}@host: over memory", (34, 102)) for n in range(400)
    ] + [Job("8.0", "held", 10.0, "over disk", (34, 104)), Job("8.1", "running")]
    sentences = describe(jobs, 60, analyse="condor_q -better-analyze")
    assert len(sentences) == 2
    assert sentences[0].startswith("400 jobs are held, for example 7.0 (code 34: slot0@host")
    assert sentences[0].endswith("raise memory_mb in the site file, or 'cre resubmit --memory-mb'")
    assert "disk_mb" in sentences[1]
    # the text stays the same while the trouble does
    later = [Job(j.id, j.state, j.since_s + 60, j.reason, j.code) for j in jobs]
    assert describe(later, 60, analyse="condor_q -better-analyze") == sentences


def test_every_code_has_a_remedy_that_says_what_to_do() -> None:
    for code in queue._REMEDIES:
        assert queue.remedy(Job("1.0", "held", 0.0, "x", (code, 0)))
    assert queue.remedy(Job("1.0", "held", 0.0, "x", (9999, 0))) == ""
    assert "code 9999: x" in describe([Job("1.0", "held", 0, "x", (9999, 0))], 1, analyse="")[0]
