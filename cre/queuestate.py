"""State of a submission of plain shards: its parts held against the queue."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from condor.queue import Job, QueueError, condor_jobs, slurm_ended, slurm_jobs
from condor.records import Submission, read_batches
from condor.shards import ShardState, survey

__all__ = ["NO_QUEUE", "shard_states"]

NO_QUEUE = "hep_sub tells no states that this program can read; 'hep_q -u' shows the jobs"


def shard_states(folder: Path, submission: Submission) -> tuple[list[ShardState], str | None]:
    """Read the queue, then the parts.

    Args:
        folder: Of the submission.
        submission: Its record.

    Returns:
        The states, and why the queue could not be read, or None.
    """
    trouble: str | None = None
    jobs: Mapping[int, Job] | None = None
    ended: dict[int, str] = {}
    limit = submission.site.queue.timeout_s
    try:
        if submission.site.scheduler == "htcondor":
            # held and removed jobs of an earlier try may be there beside the new one: the newest counts
            found = condor_jobs(f'CreSubmission == "{submission.id}"', limit)
            jobs = {
                j.shard: j for j in sorted(found, key=lambda j: _order(j.id)) if j.shard is not None
            }
        elif submission.site.scheduler == "slurm":
            tasks = _tasks(folder)
            found = slurm_jobs(limit, name=submission.id)
            jobs = {
                tasks[j.id]: j for j in sorted(found, key=lambda j: _order(j.id)) if j.id in tasks
            }
            words = slurm_ended(sorted({t.split("_")[0] for t in tasks}), limit)
            ended = {
                tasks[t]: words[t]
                for t in sorted(tasks, key=_order)
                if words.get(t, "COMPLETED") != "COMPLETED"
            }
        else:
            trouble = NO_QUEUE
    except QueueError as err:
        trouble = str(err)
    return survey(folder, submission, jobs, ended=ended), trouble


def _order(job: str) -> tuple[int, ...]:
    return tuple(int(n) for n in job.replace("_", ".").split(".") if n.isdigit())


def _tasks(folder: Path) -> dict[str, int]:
    """Array element of Slurm to shard."""
    return {
        f"{batch.cluster}_{position}": number
        for batch in read_batches(folder)
        for position, number in enumerate(batch.shards, start=1)
    }
