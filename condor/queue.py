"""What the batch system says of jobs: their state, why they are held or wait, and what to do about it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from processors.exceptions import ClusterError

__all__ = [
    "Job",
    "QueueError",
    "call",
    "call_both",
    "condor_jobs",
    "describe",
    "remedy",
    "slurm_ended",
    "slurm_jobs",
]

State = Literal["idle", "running", "held", "ending", "gone"]

#: JobStatus of HTCondor.
_CONDOR_STATES: Mapping[int, State] = {
    1: "idle",
    2: "running",
    3: "ending",  # removed
    4: "ending",  # completed, on its way out
    5: "held",
    6: "running",  # transfers its output
    7: "held",  # suspended
}
_ATTRIBUTES = (
    "ClusterId",
    "ProcId",
    "JobStatus",
    "HoldReason",
    "HoldReasonCode",
    "HoldReasonSubCode",
    "EnteredCurrentStatus",
    "CreShard",
)
#: Sub-codes of codes 21, 26 and 34 that name the resource.
_RESOURCES = {101: "cores", 102: "memory", 103: "run time", 104: "disk"}
_MEMORY = "ask for more: raise memory_mb in the site file, or 'cre resubmit --memory-mb'"
_DISK = "ask for more: raise disk_mb in the site file, or fewer events per shard"
_TIME = "ask for longer jobs in the site file's directives, or fewer events per shard"
_REMEDIES: Mapping[int, str] = {
    1: "somebody ran condor_hold; 'condor_release' lets it go on",
    3: "a periodic_hold of the site file's directives; its expression says why",
    4: "the proxy or token is invalid; make a new one and release or resubmit",
    5: "an expression in the site file's directives is undefined; mend it",
    6: "the job's command cannot be started there; look at 'container_image' and at /bin/sh of the machine",
    7: "the log folder cannot be written from the pool; take a folder that the submit host's pool may write",
    8: "standard input cannot be opened; this program sets none: look at the directives",
    9: "the log folder cannot be written from the pool; take another",
    10: "standard input cannot be opened; this program sets none: look at the directives",
    11: "file transfer broke off; 'condor_release' tries again",
    12: "the job's output could not be brought back; is the folder full or not writable? then release or resubmit",
    13: "a file of the job is missing or unreadable on the submit host; bring it back, then 'condor_release' or resubmit",
    14: "the folder of the run is not visible there; use 'files: transfer' in the site file",
    15: "the job was submitted on hold (directive 'hold'); 'condor_release' starts it",
    16: "input files are being spooled; wait",
    18: "file transfer broke off; 'condor_release' tries again",
    19: "a hook of the machine failed; tell the site's administrators",
    22: "the job's event log cannot be written; take another log folder",
    23: "the machine cannot use this account; tell the site's administrators",
    26: "a policy of the pool; its reason says which limit",
    27: "a policy of the pool is undefined; tell the site's administrators",
    32: "the job's input is larger than the pool transfers; fewer events per shard, or xrootd URLs in the manifest",
    33: "the job's output is larger than the pool transfers; tell the site's administrators",
    34: "the job used more than it asked for; raise memory_mb or disk_mb in the site file",
    35: "the container image cannot be used; correct 'container_image' in the site file",
    45: "the container image cannot be started there; correct 'container_image' in the site file",
    46: _TIME,
    47: _TIME,
}
_SLURM_REASONS: Mapping[str, str] = {
    "JobHeldUser": "somebody ran 'scontrol hold'; 'scontrol release' lets it go on",
    "JobHeldAdmin": "an administrator holds it; ask them",
    "launch failed requeued held": "the node could not start it; is the folder of the run visible there?",
    "PartitionTimeLimit": _TIME.replace("directives", "walltime_s"),
    "BadConstraints": "no node fits the constraints in the site file's directives",
    "InvalidAccount": "the account is not valid; correct 'accounting_group' in the site file",
    "AccountNotAllowed": "the account may not use this partition; correct the site file",
    "QOSMaxMemoryPerJob": "the request for memory is above the limit of this queue; lower memory_mb",
    "ReqNodeNotAvail": "no node that fits is in service; 'sinfo' shows them",
}


class QueueError(ClusterError):
    """The batch system does not answer."""


@dataclass(frozen=True)
class Job:
    """One job in the queue.

    Attributes:
        id: As the batch system names it, ``123.0`` or ``123_4``.
        state: What it does.
        since_s: For how long, s.
        reason: In the batch system's words; empty if it says none.
        code: HoldReasonCode and HoldReasonSubCode of HTCondor.
        shard: Number of the shard, for plain shards.
    """

    id: str
    state: State
    since_s: float = 0.0
    reason: str = ""
    code: tuple[int, int] = (0, 0)
    shard: int | None = None


def call(command: Sequence[str], timeout_s: float, *, cwd: str | None = None) -> str:
    """Run a tool of the batch system.

    Args:
        command: The tool and its arguments.
        timeout_s: Time that it has, s.
        cwd: Folder in which it runs.

    Returns:
        What it printed.

    Raises:
        QueueError: If there is no such tool, it takes too long or fails.
    """
    return call_both(command, timeout_s, cwd=cwd)[0]


def call_both(
    command: Sequence[str], timeout_s: float, *, cwd: str | None = None
) -> tuple[str, str]:
    """As :func:`call`, with standard output and standard error."""
    name = command[0]
    if shutil.which(name) is None:
        msg = f"there is no command {name!r} on this machine; log in to a submit host of the site"
        raise QueueError(msg)
    try:
        done = subprocess.run(  # noqa: S603 - the site's own tools
            command,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as err:
        msg = f"{name!r} did not answer within {timeout_s:g} s; the batch system is busy or down, try again"
        raise QueueError(msg) from err
    except OSError as err:
        msg = f"{name!r} cannot be run ({err.strerror})"
        raise QueueError(msg) from err
    if done.returncode:
        said = " ".join((done.stderr.strip() or done.stdout.strip() or "no message").split())
        msg = f"{name!r} failed with exit code {done.returncode}: {said[-500:]}"
        raise QueueError(msg)
    return done.stdout, done.stderr


def condor_jobs(constraint: str, timeout_s: float) -> list[Job]:
    """Jobs of HTCondor in the queue of this host's schedd.

    Args:
        constraint: ClassAd expression.
        timeout_s: Time that ``condor_q`` has, s.

    Returns:
        The jobs.

    Raises:
        QueueError: If the queue cannot be read.
    """
    command = ["condor_q", "-constraint", constraint, "-json", "-attributes", ",".join(_ATTRIBUTES)]
    text = call(command, timeout_s).strip()
    try:
        ads: list[dict[str, Any]] = json.loads(text) if text else []
    except json.JSONDecodeError as err:
        msg = f"'condor_q' printed no JSON: {text[:100]!r}"
        raise QueueError(msg) from err
    now = time.time()
    return [
        Job(
            id=f"{ad['ClusterId']}.{ad['ProcId']}",
            state=_CONDOR_STATES.get(int(ad["JobStatus"]), "running"),
            since_s=max(0.0, now - float(ad.get("EnteredCurrentStatus", now))),
            # a job that was released has these, without a value
            reason=" ".join(str(ad.get("HoldReason") or "").split()),
            code=(int(ad.get("HoldReasonCode") or 0), int(ad.get("HoldReasonSubCode") or 0)),
            shard=int(ad["CreShard"]) if "CreShard" in ad else None,
        )
        for ad in ads
    ]


def slurm_jobs(timeout_s: float, *, name: str) -> list[Job]:
    """Jobs of Slurm in the queue.

    Args:
        timeout_s: Time that ``squeue`` has, s.
        name: Their job name.

    Returns:
        The jobs, array elements one by one.

    Raises:
        QueueError: If the queue cannot be read.
    """
    command = ["squeue", "--me", "-h", "-r", f"--name={name}", "-o", "%i|%T|%V|%S|%r"]
    jobs = []
    for line in call(command, timeout_s).splitlines():
        number, state, submitted, started, reason = line.strip().split("|", 4)
        held = state == "PENDING" and re.search(r"held", reason, re.IGNORECASE)
        running = state not in {"PENDING", "COMPLETING"}
        jobs.append(
            Job(
                id=number,
                state="held"
                if held
                else "running"
                if running
                else "ending"
                if state == "COMPLETING"
                else "idle",
                since_s=_age_s(started if running else submitted),
                reason="" if reason == "None" else reason,
            )
        )
    return jobs


def slurm_ended(ids: Sequence[str], timeout_s: float) -> dict[str, str]:
    """How jobs of Slurm ended, where the site keeps accounts of that.

    Args:
        ids: Job or array numbers.
        timeout_s: Time that ``sacct`` has, s.

    Returns:
        Job to a word such as ``OUT_OF_MEMORY``; empty without accounts.
    """
    if not ids:
        return {}
    try:
        text = call(
            ["sacct", "-n", "-P", "-X", "-j", ",".join(ids), "-o", "JobID,State"], timeout_s
        )
    except QueueError:  # many sites keep none; the state of the shards does not hang on it
        return {}
    pairs = (line.split("|", 1) for line in text.splitlines() if "|" in line)
    return {number: state.split(" ")[0] for number, state in pairs}


def _age_s(stamp: str) -> float:
    try:
        return max(0.0, (datetime.now() - datetime.fromisoformat(stamp)).total_seconds())
    except ValueError:  # N/A
        return 0.0


def remedy(job: Job) -> str:
    """What to do about a job that is held or waits; empty if nothing is known."""
    code, subcode = job.code
    if code in {21, 26, 34} and (text := _of_resource(subcode, job.reason)):
        return text
    if code == 21:
        return "a policy of the machine; its reason says which limit"
    if code == 6 and "initial working directory" in job.reason:
        return _REMEDIES[14]
    if code in _REMEDIES:
        return _REMEDIES[code]
    return next(
        (text for start, text in _SLURM_REASONS.items() if job.reason.startswith(start)), ""
    )


def _of_resource(subcode: int, reason: str) -> str:
    """What to do about a job that used more than it asked for, as far as its reason says of what."""
    if subcode in _RESOURCES:
        return {"memory": _MEMORY, "disk": _DISK, "run time": _TIME}.get(
            _RESOURCES[subcode],
            "the job used more cores than it asked for; raise 'cores' in the site file",
        )
    if re.search(r"memory", reason, re.IGNORECASE):
        return _MEMORY
    return _DISK if re.search(r"disk", reason, re.IGNORECASE) else ""


def describe(jobs: Sequence[Job], idle_limit_s: float, *, analyse: str) -> list[str]:
    """Sentences on jobs that do not run although they should.

    Jobs with the same trouble make one sentence, whose text changes only when the trouble does.

    Args:
        jobs: The jobs.
        idle_limit_s: Waiting for longer is told, s.
        analyse: Command that says more of one waiting job; the job's number is put after it.

    Returns:
        The sentences; empty if all is well.
    """
    sentences = []
    held = Counter((j.code[0], _general(j.reason), remedy(j)) for j in jobs if j.state == "held")
    for (code, reason, cure), number in held.items():
        first = next(j for j in jobs if j.state == "held" and _general(j.reason) == reason)
        what = "1 job is held" if number == 1 else f"{number} jobs are held"
        why = f"code {code}: {first.reason}" if code else (first.reason or "no reason given")
        sentences.append(
            f"{what}, for example {first.id} ({why})" + (f" -> {cure}" if cure else "")
        )
    idle = [j for j in jobs if j.state == "idle" and j.since_s > idle_limit_s]
    if idle:
        first = max(idle, key=lambda j: j.since_s)
        what = "1 job waits" if len(idle) == 1 else f"{len(idle)} jobs wait"
        why = f" ({first.reason})" if first.reason else ""
        cure = remedy(first)
        more = cure or f"'{analyse} {first.id}' says which machines fit"
        sentences.append(
            f"{what} for more than {idle_limit_s:g} s, for example {first.id}{why} -> {more}"
        )
    return sentences


def _general(reason: str) -> str:
    """A reason without numbers, so that the same trouble of many jobs counts as one."""
    return re.sub(r"\d+", "0", reason)
