"""Names of the shipped models: where their files are and which hash they must have."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from processors.exceptions import ModelError

__all__ = ["INDEX", "ZOO", "find", "names", "register"]

#: The folder of the shipped files.
ZOO = Path(__file__).parent / "zoo"
INDEX = "index.json"


def _index(zoo: Path) -> Mapping[str, Mapping[str, Any]]:
    path = zoo / INDEX
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as err:
        msg = f"index of models {str(path)!r} cannot be read ({err}); install the program anew"
        raise ModelError(msg) from err
    if not isinstance(content, dict):
        msg = f"index of models {str(path)!r} is no table of names; install the program anew"
        raise ModelError(msg)
    for name, entry in content.items():
        if not isinstance(entry, dict) or set(entry) != {"file", "sha256"}:
            msg = f"index of models {str(path)!r}: entry {name!r} needs 'file' and 'sha256'"
            raise ModelError(msg)
    checked: Mapping[str, Mapping[str, Any]] = content
    return checked


def names(*, zoo: Path = ZOO) -> list[str]:
    """Names of the shipped models and omega parameters."""
    return sorted(_index(zoo))


def find(
    name_or_path: str | os.PathLike[str], *, folder: Path | None = None, zoo: Path = ZOO
) -> tuple[Path, str | None]:
    """Where a model is.

    Args:
        name_or_path: Name of a shipped model, or the path of one's own file.
        folder: Folder to which a path is relative; default the current one.
        zoo: Folder of the shipped models.

    Returns:
        Absolute path, and the hash that the file must have; None for one's own file.

    Raises:
        ModelError: If there is no such name and no such file.
    """
    index = _index(zoo)
    if str(name_or_path) in index:
        entry = index[str(name_or_path)]
        return (zoo / entry["file"]).resolve(), str(entry["sha256"])
    path = ((folder or Path.cwd()) / name_or_path).resolve()
    if not path.is_file():
        msg = (
            f"no model {str(name_or_path)!r}: it is neither a file nor one of the shipped names "
            f"({', '.join(sorted(index)) or 'there are none'})"
        )
        raise ModelError(msg)
    return path, None


def register(name: str, file: str, *, zoo: Path = ZOO) -> None:
    """Enter a file of the zoo into its index, with its present hash.

    Args:
        name: The name for cards.
        file: File name in the folder.
        zoo: The folder.

    Raises:
        ModelError: If there is no such file.
    """
    path = zoo / file
    if not path.is_file():
        msg = f"{str(path)!r} does not exist; only a file of the folder can be entered"
        raise ModelError(msg)
    index = dict(_index(zoo)) if (zoo / INDEX).exists() else {}
    index[name] = {"file": file, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    part = zoo / f".{INDEX}.{os.getpid()}.part"
    part.write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", "utf-8")
    part.replace(zoo / INDEX)
