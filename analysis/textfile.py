"""Text files that appear under their name only when complete."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["refuse_existing", "write_text"]


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise FileExistsError if something is there and must stay."""
    if path.exists() and not overwrite:
        msg = f"{path} exists; choose another name or give --overwrite"
        raise FileExistsError(msg)


def write_text(path: Path, text: str, *, overwrite: bool) -> Path:
    """Write a text file beside its place and rename it; its folder is made if missing.

    Args:
        path: output file.
        text: its content.
        overwrite: replace an existing file.

    Returns:
        The path.

    Raises:
        FileExistsError: the file exists and overwrite is False.
    """
    refuse_existing(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
