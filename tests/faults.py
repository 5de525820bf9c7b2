"""Faults put into Dask workers: chunks that raise, hang or kill their process, now and then or always."""

import os
import time
from pathlib import Path
from typing import Any

from coffea.processor.executor import WorkItem
from distributed import WorkerPlugin

from processors import chunk, daskrun
from processors.processor import RunConfig


class Fault(WorkerPlugin):
    """Replaces the chunk function of every worker, also of those that are started later.

    Args:
        path: The ntuple whose chunks are struck.
        action: ``raise``, ``kill`` or ``hang``.
        folder: Where the strikes are counted, across processes.
        times: So many strikes, then none; None for all.
    """

    def __init__(self, path: str, action: str, folder: Path, times: int | None = None) -> None:
        self.name = "fault"
        self._path, self._action, self._folder, self._times = path, action, folder, times

    def setup(self, worker: Any) -> None:  # noqa: ARG002 - Dask's interface
        daskrun.packed_chunk = self.struck  # type: ignore[attr-defined]

    def struck(self, item: WorkItem, config: RunConfig) -> bytes:
        if item.filename == self._path:
            before = len(list(self._folder.iterdir()))
            if self._times is None or before < self._times:
                (self._folder / f"{before}-{os.getpid()}-{time.monotonic_ns()}").touch()
                if self._action == "kill":
                    os._exit(1)
                if self._action == "hang":
                    time.sleep(3600)
                msg = "struck"
                raise OSError(msg)
        return chunk.packed_chunk(item, config)
