"""Provenance: one JSON record beside the products of each command."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from processors.wholefile import write_text

__all__ = ["Record", "program", "record", "sha256", "write_json", "write_text"]

_PACKAGES = (
    "coffea",
    "awkward",
    "uproot",
    "hist",
    "boost-histogram",
    "numpy",
    "scipy",
    "iminuit",
    "numba",
    "onnxruntime",
)


def program() -> dict[str, str]:
    """Name and version of this program."""
    return {"name": "dampe-cre", "version": importlib.metadata.version("dampe-cre")}


def sha256(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write JSON as :func:`write_text`."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


@dataclass
class Record:
    """What a command did, filled in while it runs."""

    command: str
    arguments: Mapping[str, Any]
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    def read(self, path: Path) -> None:
        """Note an input file."""
        self.inputs.append({"path": str(path), "sha256": sha256(path)})

    def wrote(self, paths: Iterable[Path]) -> None:
        """Note output files."""
        self.outputs += [{"path": str(p), "sha256": sha256(p)} for p in paths]


@contextmanager
def record(path: Path, command: str, arguments: Mapping[str, Any]) -> Iterator[Record]:
    """Keep the record of a command and write it at the end, also when it fails.

    Args:
        path: JSON file; not written if its folder does not exist when the command fails.
        command: Name of the sub-command.
        arguments: Its resolved arguments.

    Yields:
        The record, to note inputs and outputs.
    """
    entry = Record(command, {k: _plain(v) for k, v in arguments.items()})
    start = datetime.now(UTC)
    code = 0
    try:
        yield entry
    except BaseException as err:
        code = getattr(err, "exit_code", 1)
        raise
    finally:
        if code == 0 or path.parent.is_dir():
            write_json(
                path,
                {
                    "schema": "cre-provenance/1",
                    "program": program(),
                    "command": entry.command,
                    "arguments": entry.arguments,
                    "start": start.isoformat(timespec="seconds"),
                    "stop": datetime.now(UTC).isoformat(timespec="seconds"),
                    "python": sys.version.split()[0],
                    "platform": platform.platform(),
                    "packages": {p: importlib.metadata.version(p) for p in _PACKAGES},
                    "inputs": entry.inputs,
                    "outputs": entry.outputs,
                    **entry.notes,
                    "exit_code": code,
                },
            )


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
