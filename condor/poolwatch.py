"""Reads the queue while Dask workers run as batch jobs: what to tell, what to replace, when to give up."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distributed.core import Status

from condor.queue import Job, QueueError, condor_jobs, describe, slurm_jobs
from condor.site import Site
from processors.exceptions import ClusterError

__all__ = ["Pool"]


class Pool:
    """Reads the batch system in a thread of its own, so that a slow answer stops no chunk.

    Args:
        cluster: The cluster.
        site: The site.
        jobs: Wanted workers.
        run: Name of the jobs in the queue.
        errors: What submit commands said when they failed; grows.
        logs: Folder in which the jobs leave what they say.
    """

    def __init__(
        self,
        cluster: Any,
        site: Site,
        jobs: int,
        run: str,
        errors: Sequence[str],
        logs: Path,
    ) -> None:
        self._cluster, self._site, self._jobs, self._run = cluster, site, jobs, run
        self._errors, self._logs = errors, logs
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="cre-queue", daemon=True)
        self._sentences: list[str] = []
        self._stuck: str | None = None
        self._met: set[str] = set()
        self._missing_since: dict[str, float] = {}
        self._unmet = 0

    def start(self) -> None:
        """Begin to read the queue."""
        self._thread.start()

    def stop(self) -> None:
        """Stop to read it."""
        self._end.set()
        self._thread.join(self._site.queue.timeout_s + 5)

    def watch(self) -> list[str]:
        """Sentences on jobs that do not run, as of the last reading.

        Raises:
            ClusterError: If there is no worker and none can come.
        """
        if self._stuck is not None:
            raise ClusterError(self._stuck)
        return list(self._sentences)

    def _loop(self) -> None:
        while not self._end.wait(self._site.queue.poll_s):
            try:
                self._look()
            except QueueError as err:
                self._sentences = [str(err)]
            except Exception as err:  # noqa: BLE001 - a thread must not die in silence
                self._sentences = [f"the queue cannot be read: {type(err).__name__}: {err}"]

    def _look(self) -> None:
        """One reading: sentences, jobs to replace, and whether the pool is stuck."""
        # ids first: what is submitted after them cannot be missed in the queue
        asked = dict(self._cluster.workers)
        ids: Mapping[str, str | None] = {name: job.job_id for name, job in asked.items()}
        failed = [name for name, job in asked.items() if job.status == Status.failed]
        workers = {str(w.name) for w in list(self._cluster.scheduler.workers.values())}
        self._met |= workers
        limit = self._site.queue.timeout_s
        if self._site.scheduler == "slurm":
            jobs = slurm_jobs(limit, name=self._run)
            sentences = describe(jobs, self._site.queue.idle_limit_s, analyse="scontrol show job")
        else:
            jobs = condor_jobs(f'CreRun == "{self._run}"', limit)
            sentences = describe(
                jobs, self._site.queue.idle_limit_s, analyse="condor_q -better-analyze"
            )
        self._replace(ids, {j.id for j in jobs}, workers, failed)
        if self._unmet:
            sentences.append(self._unmet_sentence())
        if failed:
            sentences.append(f"a worker could not be submitted: {self._errors[-1]}")
        self._sentences = sentences
        self._stuck = None if workers else self._why_stuck(jobs, sentences)

    def _replace(
        self,
        ids: Mapping[str, str | None],
        queued: set[str],
        workers: set[str],
        failed: Sequence[str],
    ) -> None:
        """Give up jobs that left the queue without a word, so that others are submitted for them."""
        now = time.monotonic()
        gone = {
            n: i for n, i in ids.items() if i is not None and i not in queued and n not in workers
        }
        self._missing_since = {n: self._missing_since.get(n, now) for n in gone}
        # Dask replaces by itself, after 15 s, workers that it has met
        lost = [
            n for n, since in self._missing_since.items() if n not in self._met or now - since > 60
        ]
        self._unmet += sum(n not in self._met for n in lost)
        lost += failed
        if lost:
            self._cluster.sync(self._cluster.scale_down, lost)

    def _unmet_sentence(self) -> str:
        what = "a worker job" if self._unmet == 1 else f"{self._unmet} worker jobs"
        text = f"{what} ended without reaching the scheduler at {self._cluster.scheduler_address}"
        words = _last_words(self._logs)
        return text + (f"; its last words: {words}" if words else "; it left no log")

    def _why_stuck(self, jobs: Sequence[Job], sentences: Sequence[str]) -> str | None:
        said = "; ".join(sentences)
        held = [j for j in jobs if j.state == "held"]
        if (
            held
            and len(held) == len(jobs)
            and min(j.since_s for j in held) >= self._site.queue.held_limit_s
        ):
            return f"no worker, and every job is held: {said}"
        if not self._met and self._unmet >= max(3, self._jobs):
            return (
                f"no worker came: {said}. Is the program installed there, and can workers reach this machine? "
                "If not, submit plain shards: 'cre condor submit'"
            )
        if not self._met and not jobs and len(self._errors) >= 3:
            return f"no worker can be submitted: {self._errors[-1]}"
        return None


def _last_words(folder: Path) -> str:
    """The last line that a job wrote to its standard error."""
    logs = sorted(folder.glob("*.err"), key=lambda p: p.stat().st_mtime)
    for path in reversed(logs):
        lines = path.read_text("utf-8", "replace").strip().splitlines()
        if lines:
            return lines[-1][-300:]
    return ""
