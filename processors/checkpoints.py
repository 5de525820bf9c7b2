"""Checkpoints: each finished chunk as a file, so that an interrupted run goes on where it stopped.

The folder of a checkpoint is named by everything that decides its content (:func:`processors.identity.run_key`),
its file by the ntuple and the entries: after a change of code, card or models no old answer is found.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Iterable
from pathlib import Path

from coffea.processor.executor import WorkItem

from processors import partfile
from processors.exceptions import PartError
from processors.identity import run_key
from processors.processor import KINDS, RunConfig

__all__ = ["Checkpoints"]

_LOG = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of a run.

    Args:
        folder: Where they lie; made when the first is written.
        config: The run.
    """

    def __init__(self, folder: str | Path, config: RunConfig) -> None:
        self._folder = Path(folder)
        self._keys = {kind: run_key(config, kind) for kind in KINDS}

    def path(self, item: WorkItem) -> Path:
        """File of a chunk's checkpoint."""
        about = json.dumps([item.treename, item.usermeta], sort_keys=True, default=str)
        ntuple = (
            f"{uuid.UUID(bytes=item.fileuuid)}_{hashlib.sha256(about.encode()).hexdigest()[:12]}"
        )
        name = f"{item.entrystart}-{item.entrystop}.part"
        return self._folder / self._keys[item.dataset][:24] / ntuple / name

    def get(self, item: WorkItem) -> bytes | None:
        """The packed accumulator of a chunk; None if there is none.

        A damaged one is put aside under the ending ``.damaged``, with a warning, and the chunk runs again.
        """
        path = self.path(item)
        if not path.exists():
            return None
        try:
            header, content = partfile.read(path)
        except PartError as err:
            aside = path.replace(path.with_name(path.name + ".damaged"))
            _LOG.warning("%s; it is now %s and the chunk runs again", err, aside.name)
            return None
        return content if header == self._header(item) else None

    def put(self, item: WorkItem, content: bytes) -> None:
        """Keep the packed accumulator of a chunk."""
        partfile.write(self.path(item), self._header(item), content)

    def _header(self, item: WorkItem) -> dict[str, str]:
        return {"run_key": self._keys[item.dataset], "uuid": str(uuid.UUID(bytes=item.fileuuid))}

    def forget(self, items: Iterable[WorkItem]) -> None:
        """Delete the checkpoints of some chunks, so that they run again."""
        for item in items:
            self.path(item).unlink(missing_ok=True)
