"""What a chunk gives, as bytes, and how the chunks of a run are folded.

Most bins of a chunk are empty, so only the filled ones travel from a worker or lie in a checkpoint. The
bytes are a zip of plain arrays and JSON: nothing in them can run code.
"""

from __future__ import annotations

import io
import json
import uuid
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from coffea.processor.executor import WorkItem

from processors.exceptions import PartError
from processors.processor import Accumulator, RunConfig, empty_histograms

__all__ = ["Fold", "add", "chunk_id", "empty", "encode", "merge"]

#: What reading bytes that are no packed accumulator may raise.
_MALFORMED = (ValueError, KeyError, TypeError, EOFError, zlib.error, zipfile.BadZipFile)
_COUNTS = ("nonfinite", "scored", "events")


def empty(config: RunConfig) -> Accumulator:
    """The accumulator of no events."""
    return {
        "hists": empty_histograms(config),
        **{name: {} for name in _COUNTS},
        "chunks": set(),
    }


def encode(output: Accumulator) -> bytes:
    """Pack an accumulator: the filled bins of its histograms, its counts and its chunks.

    Args:
        output: As :meth:`processors.processor.CreProcessor.process` gives it.

    Returns:
        The content for :func:`add`.
    """
    indices, values, variances, sizes = [], [], [], {}
    for name, h in output["hists"].items():
        value, variance = _flat(h)
        filled = np.flatnonzero((value != 0) | (variance != 0))
        sizes[name] = [value.size, filled.size]
        indices.append(filled.astype(np.uint32))
        values.append(value[filled])
        variances.append(variance[filled])
    ledger = {
        "hists": sizes,
        **{name: output[name] for name in _COUNTS},
        "chunks": sorted([str(u), int(a), int(b)] for u, a, b in output["chunks"]),
    }
    arrays: dict[str, npt.NDArray[Any]] = {
        "ledger": np.frombuffer(json.dumps(ledger).encode(), np.uint8),
        "index": np.concatenate(indices),
        "value": np.concatenate(values),
        "variance": np.concatenate(variances),
    }
    buffer = io.BytesIO()
    # level 1: a few milliseconds per chunk, and a tenth of the size
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
    return buffer.getvalue()


def add(total: Accumulator, content: bytes) -> None:
    """Add packed chunks to an accumulator, in place.

    Args:
        total: The sum so far; see :func:`empty`.
        content: As :func:`encode` gives it.

    Raises:
        PartError: If the content is no packed accumulator, holds other histograms, or chunks that are in
            the sum already; the sum is then unchanged.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            ledger = json.loads(arrays["ledger"].tobytes())
            index, value, variance = (arrays[n] for n in ("index", "value", "variance"))
        sizes = {name: (int(n), int(filled)) for name, (n, filled) in ledger["hists"].items()}
        counts = {name: dict(ledger[name]) for name in _COUNTS}
        chunks = {(str(u), int(a), int(b)) for u, a, b in ledger["chunks"]}
    except (*_MALFORMED, OSError) as err:
        msg = f"no packed histograms ({err})"
        raise PartError(msg) from err
    views = {name: _flat(h) for name, h in total["hists"].items()}
    if {n: s for n, (s, _) in sizes.items()} != {n: v.size for n, (v, _) in views.items()}:
        msg = "its histograms are not those of this run: it was made with another card or program"
        raise PartError(msg)
    if twice := chunks & total["chunks"]:
        name, start, stop = min(twice)
        msg = f"the chunk [{start}:{stop}] of the file with uuid {name} is in the sum already"
        raise PartError(msg)
    start = 0
    for name, (_, filled) in sizes.items():
        here = slice(start, start + filled)
        views[name][0][index[here]] += value[here]
        views[name][1][index[here]] += variance[here]
        start += filled
    for name in _COUNTS:
        for key, count in counts[name].items():
            total[name][key] = total[name].get(key, 0) + count
    total["chunks"] |= chunks


def merge(parts: Sequence[bytes], config: RunConfig) -> Accumulator:
    """The sum of packed accumulators; empty histograms without any."""
    total = empty(config)
    for part in parts:
        add(total, part)
    return total


def _flat(h: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Sums of weights and of their squares of all bins with flow, as one-dimensional views."""
    view = np.asarray(h.view(flow=True))
    flat = view.T.reshape(-1)
    if not np.shares_memory(flat, view) and view.size:
        msg = "the histogram's bins are not contiguous in memory"
        raise AssertionError(msg)
    return flat["value"], flat["variance"]


class Fold:
    """Sum of the chunks of a run in which a file counts as a whole or not at all.

    Livetime and generated events belong to files, so the chunks of a file wait, packed, until its last
    one is there: histograms of an incomplete run hold exactly the files that they say they hold.

    Args:
        items: All chunks of the run.
        config: The run.
    """

    def __init__(self, items: Sequence[WorkItem], config: RunConfig) -> None:
        self._config = config
        self._total: Accumulator = {}
        self._open: dict[str, set[tuple[int, int]]] = {}
        self._waiting: dict[str, list[bytes]] = {}
        for item in items:
            self._open.setdefault(item.filename, set()).add(_entries(item))

    def add(self, item: WorkItem, content: bytes) -> None:
        """Take in the packed accumulator of a chunk.

        Raises:
            PartError: If it holds other histograms or another chunk.
        """
        path = item.filename
        waiting = self._waiting.setdefault(path, [])
        waiting.append(content)
        self._open[path].discard(_entries(item))
        if self._open[path]:
            return
        if not self._total:
            self._total = empty(self._config)
        for part in self._waiting.pop(path):
            add(self._total, part)
        del self._open[path]

    @property
    def output(self) -> Accumulator:
        """The sum over complete files; an empty dict if there is none."""
        return self._total

    @property
    def incomplete_files(self) -> tuple[str, ...]:
        """Files of which a chunk is missing."""
        return tuple(sorted(self._open))


def _entries(item: WorkItem) -> tuple[int, int]:
    return int(item.entrystart), int(item.entrystop)


def chunk_id(item: WorkItem) -> tuple[str, int, int]:
    """A chunk as accumulators name it: file uuid, first entry, entry after the last."""
    return str(uuid.UUID(bytes=item.fileuuid)), *_entries(item)
