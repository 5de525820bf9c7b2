"""One chunk: a pure function of a work item and a run, the same in process, on Dask and in a batch job."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from coffea.processor.executor import WorkItem

from processors.accumulators import chunk_id, empty, encode
from processors.exceptions import (
    AliasError,
    CodeMismatchError,
    CreError,
    MissingBranchError,
    ModelError,
    NtupleError,
    SelectionError,
)
from processors.ntuple import cached_aliases
from processors.ntuplefile import Branches, is_url, open_file
from processors.processor import (
    Accumulator,
    CreProcessor,
    RunConfig,
    required_fields,
)

__all__ = ["chunk_name", "packed_chunk", "reason", "run_chunk", "user_error"]


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
    # coffea's processor without its Runner, which would open the file once more and read branch by branch
    # through virtual arrays: a third of the time of a chunk in which few events are selected
    with open_file(item.filename) as file:
        tree = file[item.treename]
        _check_identity(item, file.file.uuid.bytes, int(tree.num_entries))
        if item.entrystop == item.entrystart:
            return _empty_chunk(item, config)
        keys = ("fileuuid", "entrystart", "entrystop")
        metadata = (item.usermeta or {}) | dict(zip(keys, chunk_id(item), strict=True))
        events = Branches(tree, item.entrystart, item.entrystop, metadata)
        aliases = cached_aliases(str(metadata["aliases"]))
        needed = required_fields(config, item.dataset, weighted=metadata["weights"] == "sampling")
        events.preload(b for name in needed for b in aliases.stored_in(name))
        output: Accumulator = CreProcessor(config).process(events)
    return output


def _check_identity(item: WorkItem, found: bytes, entries: int) -> None:
    """Refuse a file that changed since the manifest was made.

    Args:
        item: A chunk of it, with the number of entries and bytes in its metadata.
        found: Identity of the file that was opened.
        entries: Number of its events.

    Raises:
        NtupleError: If its identity, size or number of events differ.
    """
    path, meta = item.filename, item.usermeta or {}
    same = found == item.fileuuid and entries == meta["entries"]
    if not is_url(path):
        same &= Path(path).stat().st_size == meta["size_bytes"]
    if not same:
        msg = f"{path}: not the file that the manifest describes; make the manifest anew"
        raise NtupleError(msg)


def _empty_chunk(item: WorkItem, config: RunConfig) -> Accumulator:
    return empty(config) | {"events": {item.dataset: 0}, "chunks": {chunk_id(item)}}


def packed_chunk(item: WorkItem, config: RunConfig) -> bytes:
    """:func:`run_chunk`, packed by :func:`processors.accumulators.encode`."""
    return encode(run_chunk(item, config))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def user_error(error: BaseException) -> CreError | None:
    """An error of the card, the aliases or the models, which no other chunk escapes, inside what wraps it."""
    of_the_run = (
        AliasError,
        CodeMismatchError,
        MissingBranchError,
        ModelError,
        SelectionError,
    )
    return next((e for e in _chain(error) if isinstance(e, of_the_run)), None)


def reason(error: BaseException) -> str:
    """First line of the innermost error."""
    last = list(itertools.islice(_chain(error), 20))[-1]
    text = str(last).strip().splitlines()
    return f"{type(last).__name__}: {text[0] if text else 'no message'}"
