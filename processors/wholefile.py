"""Files that appear under their name only when they are whole."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write_bytes", "write_text"]


def write_bytes(path: Path, content: bytes) -> Path:
    """Write under a temporary name beside the file, then rename: a reader never sees half of it.

    Args:
        path: The file; its folder is made.
        content: What it holds.

    Returns:
        The path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    return part.replace(path)


def write_text(path: Path, text: str) -> Path:
    """:func:`write_bytes` of a text, as UTF-8."""
    return write_bytes(path, text.encode())
