"""Files of packed histograms: checkpoints of chunks and the products of batch jobs.

A file is one line that names the format, one line of JSON (the header), and the content of
:mod:`processors.accumulators`; a checksum over both stands in the first line. It is written under another
name first, so that what has the final name is whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from processors.exceptions import PartError
from processors.wholefile import write_bytes

__all__ = ["read", "write"]

_FORMAT = b"cre-part/1"


def write(path: str | Path, header: Mapping[str, Any], content: bytes) -> Path:
    """Write a part, atomically.

    Args:
        path: The file; its folder is made.
        header: What the part is, as plain types.
        content: As :func:`processors.accumulators.encode` gives it.

    Returns:
        The path.
    """
    body = json.dumps(dict(header), sort_keys=True).encode() + b"\n" + content
    digest = hashlib.sha256(body).hexdigest().encode()
    return write_bytes(Path(path), b"%s %s\n%s" % (_FORMAT, digest, body))


def read(path: str | Path) -> tuple[dict[str, Any], bytes]:
    """Read a part and check that it is whole.

    Args:
        path: The file.

    Returns:
        Header and content.

    Raises:
        PartError: If it cannot be read, is no part or is damaged.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as err:
        msg = f"part {str(path)!r} cannot be read ({err.strerror})"
        raise PartError(msg) from err
    first, _, body = raw.partition(b"\n")
    name, _, digest = first.partition(b" ")
    if name != _FORMAT:
        msg = f"{str(path)!r} is no part of a run ({_FORMAT.decode()})"
        raise PartError(msg)
    if hashlib.sha256(body).hexdigest().encode() != digest:
        msg = f"part {str(path)!r} is damaged: its checksum is another; delete it and run it again"
        raise PartError(msg)
    text, _, content = body.partition(b"\n")
    header: dict[str, Any] = json.loads(text)
    return header, content
