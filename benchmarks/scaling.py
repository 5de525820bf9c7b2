"""How a run scales: workers, events, memory, the scheduler's share, and a very long list of chunks."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from coffea.processor.executor import WorkItem
from distributed import Client
from scipy.stats import theilslopes

from benchmarks.floor import Floor
from benchmarks.samples import chunks, copies, copy, make, shipped
from benchmarks.timing import in_use_mb, peak_rss_mb, rss_mb
from processors import daskrun
from processors.accumulators import encode
from processors.chunk import packed_chunk, run_chunk
from processors.daskrun import local_client
from processors.manifest import FileEntry
from processors.memory import read_chunks_only
from processors.processor import RunConfig
from processors.run import execute

__all__ = ["events_to_millions", "many_chunks", "slope", "workers"]

#: Chunks after which a process has its networks, its memory and its caches.
WARM = 3


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def workers(entry: FileEntry, folder: Path, number: int, rounds: int) -> dict[str, Any]:
    """Wall time of the same files on one and on two local Dask workers, which were started and read chunks before.

    Args:
        entry: File of which every chunk is a copy.
        folder: Where the copies lie.
        number: Copies.
        rounds: Repeats; one and two workers take turns.

    Returns:
        Seconds per worker number (shortest) and in this process without Dask; ``speed_ups`` of each round
        and their median ``speed_up``; and the same of the machine, ``machine_speed_ups``, in that the same
        workers go through the same chunks, each its share, without the client.
    """
    files = [copy(entry, folder, i) for i in range(number)]
    try:
        config, items = chunks(files, shipped("omega"))
        _run(items[:WARM], config)
        alone = _seconds(partial(_run, items, config))
        times: dict[str, list[float]] = {"one": [], "two": [], "bare_one": [], "bare_two": []}
        with local_client(1) as single, local_client(2) as double:
            clients = {"one": single, "two": double}
            for count, client in enumerate(clients.values(), 1):
                _warm(client, count, items, config)
            for _ in range(rounds):
                for name, client in clients.items():
                    run = partial(_run, items, config, client=client)
                    times[name].append(_seconds(run))
                    times[f"bare_{name}"].append(_seconds(partial(_bare, client, items, config)))
    finally:
        for f in files:
            Path(f.path).unlink()
    found = {
        name: (np.array(times[f"{prefix}one"]) / np.array(times[f"{prefix}two"]))
        for name, prefix in (("speed_up", ""), ("machine_speed_up", "bare_"))
    }
    return {
        "events": sum(map(len, items)),
        "chunks": len(items),
        "in_process_s": alone,
        "one_worker_s": min(times["one"]),
        "two_workers_s": min(times["two"]),
        **{f"{name}s": values.tolist() for name, values in found.items()},
        **{name: float(np.median(values)) for name, values in found.items()},
    }


def _several(items: Sequence[WorkItem], config: RunConfig) -> None:
    for item in items:
        packed_chunk(item, config)


def _bare(client: Client, items: Sequence[WorkItem], config: RunConfig) -> None:
    """Every worker goes through its share of the chunks in one task and sends nothing."""
    workers = [*client.scheduler_info(n_workers=-1)["workers"]]
    shares = [items[i :: len(workers)] for i in range(len(workers))]
    client.gather(
        [
            client.submit(_several, share, config, workers=[worker], pure=False)
            for share, worker in zip(shares, workers, strict=True)
        ]
    )


def _run(items: Sequence[WorkItem], config: RunConfig, **options: Any) -> None:
    result = execute(items, config, **options)
    if result.missing:
        msg = f"chunks are missing: {result.missing}"
        raise AssertionError(msg)


def _warm(client: Client, count: int, items: Sequence[WorkItem], config: RunConfig) -> None:
    """Imports, networks and memory of every worker."""
    _run(items[: WARM * count], config, client=client)
    if len(client.scheduler_info(n_workers=-1)["workers"]) != count:
        msg = f"{count} workers were asked for"
        raise AssertionError(msg)


def events_to_millions(
    entry: FileEntry, folder: Path, number: int, skim: FileEntry
) -> dict[str, Any]:
    """Time per event and memory of one process while it reads more and more files, with all networks open.

    The speed of a machine that is shared changes by more than what is asked for, so each chunk is held against
    its floor (:class:`benchmarks.floor.Floor`), which is timed before and after it, in a process of its own that
    is replaced by a new one every ten times: what grows in this process does not grow there.

    Args:
        entry: File of which every chunk is a copy.
        folder: Where the copies lie, two at a time.
        number: Copies.
        skim: File to open the networks of both regions with.

    Returns:
        ``events``, ``chunk_us`` (processor time of each chunk per event), ``relative_us`` (the same at the
        median speed of the machine), ``change`` of that from the first event to the last (with
        ``change_interval``, 68 %), ``last_tenth_over_first`` of it, ``rss_mb`` and ``in_use_mb`` (after each
        chunk), ``peak_mb`` and ``slope_mb_per_1000_chunks`` (of the second half, of the one of both that grows more).
    """
    for card in ("topfiducial", "omega"):
        config, items = chunks([skim], shipped(card))
        for item in items:
            run_chunk(item, config)
    config, (item, *_) = chunks([entry], shipped("omega"))
    for _ in range(WARM):
        execute([item], config)
    cost: list[float] = []
    memory: list[float] = []
    in_use: list[float] = []
    context = get_context("spawn")
    with (
        context.Pool(1, _set_reference, (item, config), maxtasksperchild=10) as other,
        closing(copies(entry, folder, number)) as files,
    ):
        beside = [other.apply(_reference)]
        for f in files:
            _, items = chunks([f], shipped("omega"))
            cost.append(_processor_time(partial(_run, items, config)))
            memory.append(rss_mb())
            in_use.append(in_use_mb())
            beside.append(other.apply(_reference))
    clock = np.array(beside[1:]) + np.array(beside[:-1])
    relative = np.array(cost) / clock * np.median(clock)
    change, low, high = _trend(relative)
    tenth = max(5, number // 10)
    return {
        "events": number * entry.entries,
        "chunk_us": (np.array(cost) / entry.entries * 1e6).tolist(),
        "relative_us": (relative / entry.entries * 1e6).tolist(),
        "rss_mb": memory,
        "in_use_mb": in_use,
        "peak_mb": peak_rss_mb(),
        "slope_mb_per_1000_chunks": 1000 * max(slope(memory), slope(in_use)),
        "change": change,
        "change_interval": [low, high],
        "last_tenth_over_first": float(np.median(relative[-tenth:]) / np.median(relative[:tenth])),
    }


def slope(memory: Sequence[float]) -> float:
    """Growth from chunk to chunk in the second half of the chunks, by least squares; NaN for fewer than four."""
    half = len(memory) // 2
    if half < 2:
        return float("nan")
    return float(np.polyfit(np.arange(half, len(memory)), memory[half:], 1)[0])


#: In the process that times the floor.
_REFERENCE: dict[str, Floor] = {}


def _set_reference(item: WorkItem, config: RunConfig) -> None:
    read_chunks_only()
    _REFERENCE["floor"] = Floor(item, config)
    _reference()


def _reference() -> float:
    """Processor time of the floor, s, twice."""
    floor = _REFERENCE["floor"]
    return _processor_time(floor.read_numpy, floor.networks, floor.read_numpy, floor.networks)


def _processor_time(*functions: Callable[[], object]) -> float:
    start = time.process_time()
    for function in functions:
        function()
    return time.process_time() - start


def _trend(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Change from the first to the last value over their median: slope of Theil and Sen, and its 68 % interval."""
    slope, _, low, high = theilslopes(values, alpha=0.68)
    change, low, high = (
        float(x * (len(values) - 1) / np.median(values)) for x in (slope, low, high)
    )
    return change, low, high


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
        _run(items[:2], config, client=client)
        used, wall = time.process_time(), time.perf_counter()
        _run(items, config, client=client, progress=progress)
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
