"""The run driver: a manifest in, merged histograms and the ledger of what was really read out.

One pure function processes one chunk (:func:`run_chunk`); it runs in this process or on Dask workers.
A chunk that fails is named and the others are kept; nothing is skipped silently.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uproot
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, Runner, accumulate
from coffea.processor.executor import WorkItem
from coffea.util import coffea_console
from distributed import Client, LocalCluster, as_completed

from processors.exceptions import (
    AliasError,
    CreError,
    ManifestError,
    MissingBranchError,
    ModelError,
    NtupleError,
    SelectionError,
)
from processors.manifest import FileEntry
from processors.ntuple import aliases_hash, load_aliases
from processors.ntuplefile import is_url
from processors.processor import (
    Accumulator,
    CreProcessor,
    RunConfig,
    empty_histograms,
    required_fields,
)

__all__ = ["RunResult", "check_files", "chunk_name", "execute", "plan", "run_chunk"]

#: A chunk that fails is tried again this often, for files that are unreadable only for a moment.
RETRIES = 2


@dataclass(frozen=True)
class RunResult:
    """What a run gave.

    Attributes:
        output: Merged accumulator of the chunks that were processed; empty if none was.
        planned: Names of all chunks.
        processed: Names of those processed.
        missing: Names of the others, each with the reason.
    """

    output: Accumulator
    planned: tuple[str, ...]
    processed: tuple[str, ...]
    missing: Mapping[str, str] = field(default_factory=dict)


def check_files(files: Sequence[FileEntry], config: RunConfig) -> None:
    """Refuse, before anything is read, files that lack a field that the run needs.

    Raises:
        MissingBranchError: With the file, the field and what needs it.
        ManifestError: If an alias file changed since the manifest was made.
    """
    for name, digest in {(f.aliases, f.aliases_sha256) for f in files}:
        if aliases_hash(load_aliases(name)) != digest:
            msg = f"alias file {name!r} changed since the manifest was made; make the manifest anew"
            raise ManifestError(msg)
    for f in files:
        needs = required_fields(config, f.kind, weighted=f.weights == "sampling")
        lacking = [
            f"{name!r}, which {user} needs" for name, user in needs.items() if name not in f.fields
        ]
        if lacking:
            msg = (
                f"{f.path}: no branch for field {'; '.join(lacking)}. "
                "Drop that from the card or mend the alias file ('cre inspect' shows the fields)"
            )
            raise MissingBranchError(msg)


def plan(files: Sequence[FileEntry], chunk_size: int) -> list[WorkItem]:
    """Cut files into chunks at cluster borders, so that no basket is read twice.

    Args:
        files: Files of the manifest.
        chunk_size: Events per chunk; a chunk is larger only where a cluster is, and then at most
            twice this size.

    Returns:
        Work items in order; a file without events gives one empty chunk.
    """
    return [
        WorkItem(
            dataset=f.kind,
            filename=f.path,
            treename=f.tree,
            entrystart=start,
            entrystop=stop,
            fileuuid=uuid.UUID(f.uuid).bytes,
            usermeta={
                "kind": f.kind,
                "aliases": f.aliases,
                "weights": f.weights,
                "bgo_reconstruction": f.bgo_reconstruction,
                "entries": f.entries,
                "size_bytes": f.size_bytes,
            },
        )
        for f in files
        for start, stop in _cuts(f.entries, f.clusters, chunk_size)
    ]


def _cuts(entries: int, clusters: Sequence[int], size: int) -> Iterator[tuple[int, int]]:
    borders = [c for c in clusters if 0 < c < entries]
    start = 0
    while start < entries:
        fitting = [b for b in borders if start < b <= start + size]
        after = next((b for b in borders if b > start), entries)
        # a cluster larger than twice the chunk size is cut through: memory matters more than a re-read
        stop = max(fitting) if fitting else (after if after <= start + 2 * size else start + size)
        if entries <= start + size:
            stop = entries
        yield start, min(stop, entries)
        start = stop
    if not entries:
        yield 0, 0


def chunk_name(item: WorkItem) -> str:
    """A chunk as reports name it: file and entry range."""
    return f"{item.filename} [{item.entrystart}:{item.entrystop}]"


def run_chunk(item: WorkItem, config: RunConfig) -> Accumulator:
    """Process one chunk; a pure function of its arguments and the file.

    Args:
        item: The chunk.
        config: The run.

    Returns:
        The accumulator of :meth:`processors.processor.CreProcessor.process`.

    Raises:
        NtupleError: If the file is not the one that the manifest describes.
    """
    check_identity(item)
    if item.entrystop == item.entrystart:  # coffea has no work for an empty chunk, the ledger does
        return _empty_chunk(item, config)
    coffea_console.quiet = True  # its bar for one chunk would drown the bar of the run
    runner = Runner(
        executor=IterativeExecutor(status=False, retries=0),
        schema=BaseSchema,
        metadata_cache={},
        processor_compression=None,
    )
    output: Accumulator = runner.run([item], CreProcessor(config))["out"]
    return output


def check_identity(item: WorkItem) -> None:
    """Refuse a file that changed since the manifest was made.

    Args:
        item: A chunk of it, with the number of entries and bytes in its metadata.

    Raises:
        NtupleError: If its identity, size or number of events differ.
    """
    path, meta = item.filename, item.usermeta or {}
    with uproot.open(path) as file:
        same = file.file.uuid.bytes == item.fileuuid
        same &= int(file[item.treename].num_entries) == meta["entries"]
    if not is_url(path):
        same &= Path(path).stat().st_size == meta["size_bytes"]
    if not same:
        msg = f"{path}: not the file that the manifest describes; make the manifest anew"
        raise NtupleError(msg)


def _empty_chunk(item: WorkItem, config: RunConfig) -> Accumulator:
    return {
        "hists": empty_histograms(config),
        "nonfinite": {},
        "scored": {},
        "events": {item.dataset: 0},
        "chunks": {(str(uuid.UUID(bytes=item.fileuuid)), 0, 0)},
    }


def execute(
    items: Sequence[WorkItem],
    config: RunConfig,
    *,
    workers: int = 1,
    progress: Callable[[int], None] = lambda _done: None,
) -> RunResult:
    """Process all chunks and merge them.

    Args:
        items: The plan.
        config: The run.
        workers: 1 for this process, more for that many Dask worker processes on this machine.
        progress: Called with the number of events of each chunk that is done.

    Returns:
        The result, complete or not: compare ``planned`` and ``processed``.

    Raises:
        CreError: Errors of the card, the aliases or the models, which no second try mends.
    """
    done = _on_dask(items, config, workers) if workers > 1 else _in_process(items, config)
    output: Accumulator = {}
    processed: list[str] = []
    missing: dict[str, str] = {}
    for item, result in done:
        if isinstance(result, BaseException):
            user_error = _user_error(result)
            if user_error is not None:
                raise user_error
            missing[chunk_name(item)] = _reason(result)
        else:
            output = accumulate([result], output) if output else result
            processed.append(chunk_name(item))
        progress(len(item))
    return RunResult(output, tuple(map(chunk_name, items)), tuple(sorted(processed)), missing)


def _in_process(
    items: Sequence[WorkItem], config: RunConfig
) -> Iterator[tuple[WorkItem, Accumulator | BaseException]]:
    for item in items:
        yield item, _attempt(item, config)


def _attempt(item: WorkItem, config: RunConfig) -> Accumulator | BaseException:
    for last in (False,) * RETRIES + (True,):
        try:
            return run_chunk(item, config)
        except Exception as err:  # noqa: BLE001 - whatever it is, it is reported with the chunk
            if last or _user_error(err) is not None:
                return err
    raise AssertionError


def _on_dask(
    items: Sequence[WorkItem], config: RunConfig, workers: int
) -> Iterator[tuple[WorkItem, Accumulator | BaseException]]:
    """Chunks on local worker processes, in the order in which they finish; loopback only."""
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # any free port: two runs on one machine do not clash
        ) as cluster,
        Client(cluster) as client,
    ):
        todo = {
            client.submit(run_chunk, item, config, retries=RETRIES, pure=False): item
            for item in items
        }
        # results are folded here as they come: none stays on a worker that may die
        for future in as_completed(list(todo)):
            item = todo.pop(future)
            failed = future.status != "finished"
            yield item, (future.exception() if failed else future.result())
            future.release()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _user_error(error: BaseException) -> CreError | None:
    """An error of the card, the aliases or the models, which no other chunk escapes, inside what wraps it."""
    of_the_run = (AliasError, MissingBranchError, ModelError, SelectionError)
    return next((e for e in _chain(error) if isinstance(e, of_the_run)), None)


def _reason(error: BaseException) -> str:
    """First line of the innermost error."""
    last = list(itertools.islice(_chain(error), 20))[-1]
    text = str(last).strip().splitlines()
    return f"{type(last).__name__}: {text[0] if text else 'no message'}"
