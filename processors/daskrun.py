"""Chunks on Dask workers: each its own task, folded by the client as it finishes, none lost in silence.

Workers get the run once, as a plugin, with the files that it needs, so they need no file system of the
client's. A chunk that raises is tried again by Dask; what then still fails goes through a second pass, and
what killed or stalled a worker through a third one, one at a time, because Dask blames every chunk that was
on a worker when it died.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
from coffea.processor.executor import WorkItem
from distributed import Client, Future, KilledWorker, LocalCluster, WorkerPlugin

from processors import luggage
from processors.chunk import packed_chunk, user_error
from processors.exceptions import ClusterError, CodeMismatchError, PartError
from processors.identity import code_identity, differences
from processors.memory import read_chunks_only
from processors.processor import RunConfig

__all__ = ["SETTINGS", "DaskOptions", "StalledError", "local_client", "run_on"]

Outcome = tuple[WorkItem, bytes | BaseException]
#: Dask's configuration in scheduler and workers. Its samples of the stack, of its event loop and of the machine are
#: read by nobody here; as often as it takes them by default, an idle worker uses 4 % of a core for them.
SETTINGS: Mapping[str, Any] = {
    # one death more than a chunk can cause by itself would let it kill every worker in turn
    "distributed.scheduler.allowed-failures": 1,
    "distributed.worker.profile.enabled": False,
    # what a worker holds are results of 100 kB: nothing to spill, and a pause would not end, because freed memory stays
    # with the process (processors/memory.py); above "terminate" it is ended as ever
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.monitor-interval": "500ms",
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
}
#: Chunks run in a thread, whose memory the C library would keep in small heaps apart and give back.
_NANNY = {"distributed.nanny.pre-spawn-environ.MALLOC_ARENA_MAX": 1}
#: Within this time a result, some 100 kB, comes from a worker that is alive.
_FETCH_S = 30.0


@dataclass(frozen=True)
class DaskOptions:
    """How patient the client is.

    Attributes:
        retries: A chunk that raises is tried again this often within a pass.
        stall_s: With workers at hand and nothing finished for so long, what is under way is given up and
            goes into the next pass.
        no_worker_s: Without any worker for so long, the rest of the run is given up.
        poll_s: How often workers and batch jobs are looked at.
        watch: Gives sentences on batch jobs that do not run, none on one machine; raises
            :class:`ClusterError` when no worker can come any more.
        tell: Called with each new sentence.
    """

    retries: int = 2
    stall_s: float = 1800.0
    no_worker_s: float = 3600.0
    poll_s: float = 5.0
    watch: Callable[[], Sequence[str]] = tuple
    tell: Callable[[str], None] = lambda _text: None


class StalledError(ClusterError):
    """A chunk did not finish while others should have, or no worker was left to run it."""


@contextmanager
def local_client(workers: int) -> Iterator[Client]:
    """Worker processes on this machine, reachable from nowhere else.

    Args:
        workers: How many; each has one thread.

    Yields:
        Their client.
    """
    with (
        dask.config.set({**SETTINGS, **_NANNY}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # any free port: two runs on one machine do not clash
            silence_logs=logging.CRITICAL,  # what fails is named once, in the end
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


#: Runs that this process knows, by name: configuration and where their files lie.
_RUNS: dict[str, tuple[RunConfig, dict[str, str], dict[str, str]]] = {}


class _Run(WorkerPlugin):
    """Brings a run and its files to each worker, also to those that join later."""

    def __init__(self, config: RunConfig, files: Mapping[str, bytes]) -> None:
        self.name = f"cre-run-{uuid.uuid4().hex}"
        self._config, self._files, self._identity = config, dict(files), code_identity()

    def setup(self, worker: Any) -> None:
        """Lay the files into the worker's own folder."""
        folder = Path(tempfile.mkdtemp(prefix="cre-run-", dir=worker.local_directory))
        places = luggage.unpack(self._files, folder)
        _RUNS[self.name] = luggage.relocate_config(self._config, places), places, self._identity

    def teardown(self, worker: Any) -> None:  # noqa: ARG002 - the name of Dask's interface
        """Forget the run; its files go with the worker's folder."""
        _RUNS.pop(self.name, None)


def _on_worker(item: WorkItem, run: str) -> bytes:
    """One chunk, on a worker: refused where the code is another, for workers that joined late."""
    config, places, identity = _RUNS[run]
    if different := differences(identity):
        msg = f"a worker has other code than the client: {'; '.join(different)}"
        raise CodeMismatchError(msg)
    read_chunks_only()
    return packed_chunk(luggage.relocate_item(item, places), config)


def _describe() -> dict[str, str]:
    python = ".".join(map(str, sys.version_info[:2]))
    return {"python": python, **code_identity()}


def _check_code(client: Client) -> None:
    """Hold code and packages of every worker against ours.

    Raises:
        CodeMismatchError: With the worker and what differs, or if it cannot import the program.
    """
    ours = _describe()
    try:
        workers: dict[str, dict[str, str]] = client.run(_describe)
    except Exception as err:  # whatever the worker's import raises comes back here
        msg = (
            f"a worker cannot run this program ({type(err).__name__}: {err}); install it, with the same "
            "versions, in the environment of the workers ('cre condor pack' makes one)"
        )
        raise CodeMismatchError(msg) from err
    versions: Any = client.get_versions()
    there = {w: v["packages"] for w, v in versions["workers"].items() if v}
    ours |= {k: versions["client"]["packages"][k] for k in ("dask", "distributed")}
    for name, theirs in workers.items():
        known = there.get(name, ours)  # a worker that left since is not to blame
        different = differences(theirs | {k: known[k] for k in ("dask", "distributed")}, ours)
        if different:
            msg = (
                f"worker {name} has other code than this process: {'; '.join(different)}; install the same "
                "versions there"
            )
            raise CodeMismatchError(msg)


def run_on(
    client: Client, items: Sequence[WorkItem], config: RunConfig, options: DaskOptions
) -> Iterator[Outcome]:
    """Process chunks on the workers of a client.

    Args:
        client: A client; its workers may come and go.
        items: The chunks.
        config: The run.
        options: Patience.

    Yields:
        Each chunk once, in the order in which they finish, with its packed accumulator or with what it
        failed of in the end.

    Raises:
        CodeMismatchError: If a worker has other code, before any chunk runs.
        ClusterError: If no worker comes.
    """
    if not items:
        return
    watcher = _Watcher(client, options)
    watcher.wait_for_a_worker()
    _check_code(client)
    plugin = _Run(config, luggage.collect(config, items))
    client.register_plugin(plugin)
    try:
        again: list[WorkItem] = []
        for item, result in _pass(client, items, plugin.name, watcher):
            if _is_final(result) or watcher.over:
                yield item, result
            else:
                again.append(item)
        suspects: list[WorkItem] = []
        for item, result in _pass(client, again, plugin.name, watcher):
            if _is_final(result) or watcher.over or not _is_doubtful(result):
                yield item, result
            else:
                suspects.append(item)
        for item in suspects:
            yield from _pass(client, [item], plugin.name, watcher)
    finally:
        if not watcher.over:
            client.unregister_worker_plugin(plugin.name)


def _is_final(result: bytes | BaseException) -> bool:
    """Done, or an error that no second try mends."""
    return isinstance(result, bytes) or user_error(result) is not None


def _is_doubtful(result: bytes | BaseException) -> bool:
    """Whether another chunk may be to blame."""
    return isinstance(result, KilledWorker | StalledError)


def _pass(
    client: Client, items: Sequence[WorkItem], run: str, watcher: _Watcher
) -> Iterator[Outcome]:
    """Submit chunks together and yield each with its result or error."""
    if watcher.over:
        yield from ((item, StalledError(watcher.over)) for item in items)
        return
    finished: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
    todo: dict[str, tuple[WorkItem, Future[Any]]] = {}
    for item in items:
        key = f"cre-chunk-{uuid.uuid4().hex}"
        future = client.submit(
            _on_worker, item, run, key=key, retries=watcher.options.retries, pure=False
        )
        todo[key] = item, future
        future.add_done_callback(finished.put)
    watcher.start()
    try:
        while todo:
            try:
                future = finished.get(timeout=watcher.options.poll_s)
            except queue.Empty:
                why = watcher.look()
                if why is None:
                    continue
                given_up = list(todo.values())
                todo.clear()
                if not watcher.over:
                    _free(client, [future for _, future in given_up], why)
                yield from ((item, StalledError(why)) for item, _ in given_up)
                return
            key = str(future.key)
            if key not in todo:
                continue
            result = _result(future)
            if result is None:  # the worker died that had it: the scheduler computes it again
                future.add_done_callback(finished.put)
                continue
            watcher.start()
            item, _ = todo.pop(key)
            future.release()
            yield item, result
    finally:
        if todo and not watcher.over:
            client.cancel([f for _, f in todo.values()], force=True)


async def _end() -> None:
    """On a worker's event loop, which still answers when a chunk hangs."""
    os._exit(1)


def _free(client: Client, futures: Sequence[Future[Any]], why: str) -> None:
    """Cancel chunks, and restart the workers that hang in one: cancelling does not end a running call."""
    busy = [worker for worker, tasks in client.processing().items() if tasks]
    client.cancel(list(futures), force=True, reason="stalled", msg=why)
    nanny = {w: m["nanny"] for w, m in client.scheduler_info(n_workers=-1)["workers"].items()}
    # a batch job has no nanny: its end is its restart
    if alone := [worker for worker in busy if worker in nanny and not nanny[worker]]:
        client.run(_end, workers=alone, wait=False)
    if watched := [worker for worker in busy if nanny.get(worker)]:
        client.restart_workers(watched, raise_for_error=False)


def _result(future: Future[Any]) -> bytes | BaseException | None:
    """Result or error of a task that has finished; None if its result is lost and computed again."""
    if future.status in {"finished", "error"}:
        try:
            content = future.result(timeout=_FETCH_S)
        except TimeoutError:
            return None
        except Exception as err:  # noqa: BLE001 - whatever it is, it is reported with the chunk
            return err
        return content if isinstance(content, bytes) else PartError("a worker sent no part")
    return StalledError(f"the scheduler gave the chunk up ({future.status})")


class _Watcher:
    """Looks at workers and batch jobs while the client waits, and says when to give up.

    ``over`` is the reason why no further pass can help: no scheduler, or no worker.
    """

    def __init__(self, client: Client, options: DaskOptions) -> None:
        self._client, self.options = client, options
        self._told: set[str] = set()
        self.over: str | None = None
        self.start()

    def start(self) -> None:
        """Something happened: begin to count anew."""
        self._since = self._seen = time.monotonic()

    def workers(self) -> int:
        """Workers that the scheduler has now."""
        return len(self._client.scheduler_info(n_workers=-1)["workers"])

    def look(self) -> str | None:
        """Tell new sentences on the batch jobs; the reason to give up, or None."""
        try:
            said = self.options.watch()
        except ClusterError as err:
            self.over = str(err)
            return self.over
        for sentence in said:
            if sentence not in self._told:
                self._told.add(sentence)
                self.options.tell(sentence)
        now = time.monotonic()
        if self._client.status != "running":
            self.over = "the scheduler is gone"
            return self.over
        if not self.workers():
            self._since = now
            if now - self._seen > self.options.no_worker_s:
                why = "; ".join(said) if said else "the batch system says nothing of them"
                self.over = f"no worker for {self.options.no_worker_s:g} s: {why}"
            return self.over
        self._seen = now
        if now - self._since > self.options.stall_s:
            return f"no chunk finished for {self.options.stall_s:g} s although there are workers"
        return None

    def wait_for_a_worker(self) -> None:
        """Wait until there is a worker.

        Raises:
            ClusterError: If none comes, with what the batch system says of the jobs.
        """
        self.start()
        while not self.workers():
            why = self.look()
            if why is not None:
                raise ClusterError(why)
            time.sleep(min(1.0, self.options.poll_s))
        self.start()
