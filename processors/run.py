"""The run driver: a manifest in, merged histograms and the ledger of what was really read out.

The chunks run in this process or on Dask workers; a chunk that fails is named and the others are kept;
nothing is skipped silently.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from coffea.processor.executor import WorkItem
from distributed import Client

from processors.accumulators import Fold
from processors.checkpoints import Checkpoints
from processors.chunk import chunk_name, packed_chunk, reason, run_chunk, user_error
from processors.daskrun import DaskOptions, Outcome, local_client, run_on
from processors.exceptions import ManifestError, MissingBranchError
from processors.manifest import FileEntry
from processors.ntuple import aliases_hash, load_aliases
from processors.period import run_table
from processors.processor import Accumulator, RunConfig, required_fields

__all__ = ["RunResult", "check_files", "chunk_name", "execute", "plan", "run_chunk"]

#: A chunk that fails is tried again this often, for files that are unreadable only for a moment.
RETRIES = 2


@dataclass(frozen=True)
class RunResult:
    """What a run gave.

    Attributes:
        output: Merged accumulator of the files of which every chunk was processed; empty if none was.
        planned: Names of all chunks.
        processed: Names of those processed.
        missing: Names of the others, each with the reason.
        incomplete_files: Files with a missing chunk; nothing of them is in ``output``.
    """

    output: Accumulator
    planned: tuple[str, ...]
    processed: tuple[str, ...]
    missing: Mapping[str, str] = field(default_factory=dict)
    incomplete_files: tuple[str, ...] = ()


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
                "aliases_sha256": f.aliases_sha256,
                "weights": f.weights,
                "bgo_reconstruction": f.bgo_reconstruction,
                "entries": f.entries,
                "size_bytes": f.size_bytes,
                "runs": run_table(f),
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


def execute(
    items: Sequence[WorkItem],
    config: RunConfig,
    *,
    workers: int = 1,
    client: Client | None = None,
    options: DaskOptions | None = None,
    checkpoints: Checkpoints | None = None,
    progress: Callable[[int], None] = lambda _done: None,
) -> RunResult:
    """Process all chunks and merge them.

    Args:
        items: The plan.
        config: The run.
        workers: 1 for this process, more for that many Dask worker processes on this machine.
        client: Dask workers to use instead.
        options: How patient the client is with its workers.
        checkpoints: Where finished chunks are kept; those that it has are not run again.
        progress: Called with the number of events of each chunk that is done.

    Returns:
        The result, complete or not: compare ``planned`` and ``processed``.

    Raises:
        CreError: Errors of the card, the aliases, the models or the workers' code, which no second try mends.
    """
    fold = Fold(items, config)
    processed: list[str] = []
    missing: dict[str, str] = {}
    todo: list[WorkItem] = []
    for item in items:
        known = checkpoints.get(item) if checkpoints else None
        if known is None:
            todo.append(item)
            continue
        fold.add(item, known)
        processed.append(chunk_name(item))
        progress(len(item))
    patience = options or DaskOptions(retries=RETRIES)
    # closed at once when an error ends the run: nothing goes on behind its message
    with closing(_outcomes(todo, config, workers, client, patience)) as outcomes:
        for item, result in outcomes:
            if isinstance(result, BaseException):
                of_the_run = user_error(result)
                if of_the_run is not None:
                    raise of_the_run
                missing[chunk_name(item)] = reason(result)
            else:
                if checkpoints:
                    checkpoints.put(item, result)
                fold.add(item, result)
                processed.append(chunk_name(item))
            progress(len(item))
    return RunResult(
        fold.output,
        tuple(map(chunk_name, items)),
        tuple(sorted(processed)),
        missing,
        fold.incomplete_files,
    )


def _outcomes(
    items: Sequence[WorkItem],
    config: RunConfig,
    workers: int,
    client: Client | None,
    options: DaskOptions,
) -> Generator[Outcome]:
    if client is not None:
        yield from run_on(client, items, config, options)
    elif workers > 1 and items:
        with local_client(workers) as local:
            yield from run_on(local, items, config, options)
    else:
        for item in items:
            yield item, _attempt(item, config)


def _attempt(item: WorkItem, config: RunConfig) -> bytes | BaseException:
    for last in (False,) * RETRIES + (True,):
        try:
            return packed_chunk(item, config)
        except Exception as err:  # noqa: BLE001 - whatever it is, it is reported with the chunk
            if last or user_error(err) is not None:
                return err
    raise AssertionError
