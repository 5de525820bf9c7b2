"""How a run scales: workers, events, memory, the scheduler's share, and a very long list of chunks."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from coffea.processor.executor import WorkItem
from distributed import Client

from benchmarks.samples import chunks, copies, copy, make, shipped
from benchmarks.timing import peak_rss_mb, rss_mb
from processors import daskrun
from processors.accumulators import encode
from processors.chunk import run_chunk
from processors.daskrun import local_client
from processors.manifest import FileEntry
from processors.processor import RunConfig
from processors.run import execute

__all__ = ["events_to_millions", "many_chunks", "workers"]


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def workers(entry: FileEntry, folder: Path, number: int, rounds: int) -> dict[str, Any]:
    """Wall time of the same files on one and on two local Dask workers, which are started before.

    Args:
        entry: File of which every chunk is a copy.
        folder: Where the copies lie.
        number: Copies.
        rounds: Repeats; one and two workers take turns.

    Returns:
        Seconds per worker number (shortest), their ratio, and those in this process without Dask.
    """
    files = [copy(entry, folder, i) for i in range(number)]
    try:
        config, items = chunks(files, shipped("omega"))
        one, two, alone = [], [], []
        for _ in range(rounds):
            alone.append(_seconds(lambda: execute(items, config)))
            for count, found in ((1, one), (2, two)):
                with local_client(count) as client:
                    _warm(client, count, items, config)
                    found.append(_on(client, items, config))
    finally:
        for f in files:
            Path(f.path).unlink()
    return {
        "events": sum(map(len, items)),
        "chunks": len(items),
        "in_process_s": min(alone),
        "one_worker_s": min(one),
        "two_workers_s": min(two),
        "speed_up": float(np.median(np.array(one) / np.array(two))),
    }


def _on(client: Client, items: Sequence[WorkItem], config: RunConfig) -> float:
    return _seconds(lambda: _complete(execute(items, config, client=client)))


def _complete(result: Any) -> None:
    if result.missing:
        msg = f"chunks are missing: {result.missing}"
        raise AssertionError(msg)


def _warm(client: Client, count: int, items: Sequence[WorkItem], config: RunConfig) -> None:
    """Imports and networks of every worker."""
    client.run(run_chunk, items[0], config)
    if len(client.scheduler_info(n_workers=-1)["workers"]) != count:
        msg = f"{count} workers were asked for"
        raise AssertionError(msg)


def events_to_millions(
    entry: FileEntry, folder: Path, number: int, skim: FileEntry
) -> dict[str, Any]:
    """Time per event and memory of one process while it reads more and more files, with all networks open.

    Args:
        entry: File of which every chunk is a copy.
        folder: Where the copies lie, two at a time.
        number: Copies.
        skim: File to open the networks of both regions with.

    Returns:
        ``events``, ``chunk_us`` (processor time of each chunk per event), ``rss_mb`` (after each chunk),
        ``peak_mb``, ``slope_mb_per_1000_chunks`` (of the second half), and the time per event of the
        first 10^5, 10^6 and of all events.
    """
    for card in ("topfiducial", "omega"):
        config, items = chunks([skim], shipped(card))
        for item in items:
            run_chunk(item, config)
    config, _ = chunks([entry], shipped("omega"))
    cost: list[float] = []
    memory: list[float] = []
    events = 0
    with closing(copies(entry, folder, number)) as files:
        for f in files:
            _, items = chunks([f], shipped("omega"))
            start = time.process_time()
            _complete(execute(items, config))
            cost.append((time.process_time() - start) / f.entries * 1e6)
            memory.append(rss_mb())
            events += f.entries
    half = len(memory) // 2
    slope = np.polyfit(np.arange(half, len(memory)), memory[half:], 1)[0] if half > 1 else np.nan
    per_event = {
        f"{n:g}": float(np.mean(cost[: max(1, round(n / entry.entries))]))
        for n in (1e5, 1e6, float(events))
        if n <= events * 1.01
    }
    return {
        "events": events,
        "chunk_us": cost,
        "rss_mb": memory,
        "peak_mb": peak_rss_mb(),
        "slope_mb_per_1000_chunks": float(slope * 1000),
        "us_per_event": per_event,
        "last_tenth_over_first": _tenths(cost),
    }


def _tenths(cost: Sequence[float]) -> float:
    """Median cost of the last tenth of the chunks (at least five) over that of the first after one."""
    n = max(5, len(cost) // 10)
    return float(np.median(cost[-n:]) / np.median(cost[1 : n + 1]))


#: On a worker: the configuration and the accumulator that stands for every chunk.
_STAND_IN: dict[str, Any] = {}


def answer(item: WorkItem, run: str) -> bytes:
    """Stands for :func:`processors.daskrun._on_worker`: another chunk's result under this chunk's name."""
    if run not in _STAND_IN:
        config, _, _ = daskrun._RUNS[run]
        source = item.usermeta["stands_for"] if item.usermeta else None
        _STAND_IN[run] = run_chunk(source, config)
    output = dict(_STAND_IN[run])
    output["chunks"] = {(str(uuid.UUID(bytes=item.fileuuid)), item.entrystart, item.entrystop)}
    return encode(output)


def many_chunks(entry: FileEntry, number: int) -> dict[str, Any]:
    """A file set of very many chunks on Dask: memory of the client, and what scheduling a chunk costs.

    Every chunk is a file of its own to the planner, the scheduler, the client and the fold; the workers answer
    with the packed histograms of one real chunk under the chunk's name, so that this measures the client.

    Args:
        entry: The file whose chunk stands for all.
        number: Chunks.

    Returns:
        ``chunks``, ``rss_mb`` of the client at 1 % steps, ``peak_mb``, ``part_bytes``, and per chunk: ``wall_ms``,
        ``client_ms`` (processor time of client and scheduler, which share this process) and ``answer_ms``
        (processor time of a worker to pack the answer).
    """
    source_config, (source, *_) = chunks([entry], shipped("omega"))
    files = [
        entry.model_copy(
            update={"uuid": str(uuid.uuid5(uuid.UUID(entry.uuid), str(i))), "path": f"/{i}"}
        )
        for i in range(number)
    ]
    config, items = chunks(files, shipped("omega"), size=10**9)
    items = [_standing_for(item, source) for item in items]
    output = run_chunk(source, source_config)
    start = time.process_time()
    sizes = [len(encode(output)) for _ in range(20)]
    answer_ms = (time.process_time() - start) / 20 * 1e3
    memory: list[float] = [rss_mb()]
    done = 0

    def progress(_events: int) -> None:
        nonlocal done
        done += 1
        if done % max(1, number // 100) == 0:
            memory.append(rss_mb())

    with local_client(2) as client, mock.patch.object(daskrun, "_on_worker", answer):
        _complete(execute(items[:2], config, client=client))
        used, wall = time.process_time(), time.perf_counter()
        _complete(execute(items, config, client=client, progress=progress))
        used, wall = time.process_time() - used, time.perf_counter() - wall
    return {
        "chunks": len(items),
        "rss_mb": memory,
        "peak_mb": peak_rss_mb(),
        "part_bytes": sizes[0],
        "wall_ms": wall / number * 1e3,
        "client_ms": used / number * 1e3,
        "answer_ms": answer_ms,
    }


def _standing_for(item: WorkItem, source: WorkItem) -> WorkItem:
    item.usermeta["stands_for"] = source  # type: ignore[index]
    return item


def data_files(folder: Path, scale: float) -> tuple[FileEntry, FileEntry]:
    """The flight-like file and the skim."""
    return make("flight", folder, scale), make("skim", folder, scale)
