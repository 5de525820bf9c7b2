"""What makes the numbers of a chunk: the code, the packages, and what of the card and the models it uses."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from processors.modelset import Models
from processors.processor import MC_KINDS, RunConfig

__all__ = ["PACKAGES", "code_identity", "differences", "run_key"]

#: Packages whose version may change a number.
PACKAGES = ("awkward", "boost-histogram", "coffea", "hist", "numpy", "onnxruntime", "uproot")
#: Parts of a run that data do not depend on: a new simulation leaves their chunks as they are.
_SIMULATION = ("generated", "target", "calibration")


@functools.cache
def code_identity() -> dict[str, str]:
    """The version of everything that makes the numbers of a chunk.

    Returns:
        ``processors`` to the sha256 of this package's files, and each of :data:`PACKAGES` to its version.
    """
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".py", ".yaml"}:
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            digest.update(path.read_bytes() + b"\0")
    versions = {p: importlib.metadata.version(p) for p in PACKAGES}
    return {"processors": digest.hexdigest(), **versions}


def differences(theirs: Mapping[str, str], ours: Mapping[str, str] | None = None) -> list[str]:
    """What differs between another process's :func:`code_identity` and this one's, in words.

    Args:
        theirs: Name to version there.
        ours: Name to version here; default :func:`code_identity`.
    """
    ours = code_identity() if ours is None else ours
    return [
        f"{name} {theirs.get(name, 'none')[:12]} there, {ours.get(name, 'none')[:12]} here"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]


def run_key(config: RunConfig, kind: str) -> str:
    """A hash of all that decides what chunks of a kind give: code, packages, card and models.

    Args:
        config: The run.
        kind: ``data``, ``electron`` or ``proton``; that of data does not know the simulation.

    Returns:
        Hexadecimal sha256.
    """
    drop = () if kind in MC_KINDS else _SIMULATION
    content = {
        "code": code_identity(),
        "kind": kind,
        **{f.name: _plain(getattr(config, f.name)) for f in fields(config) if f.name not in drop},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A value as JSON types, with everything that it holds."""
    if isinstance(value, Models):
        return _of_models(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, str | int | float | bool | None):
        return value
    msg = f"a {type(value).__name__} in the configuration of a run has no plain form"
    raise TypeError(msg)


def _of_models(models: Models) -> dict[str, Any]:
    """Files by their content, wherever they lie; events per call do not change a score."""
    return {
        "files": sorted(
            [entry.get("member"), entry.get("region"), entry["sha256"]]
            for entry in models.to_list()
        ),
        "omega": {r: o.model_dump(mode="json") for r, o in models.omega.items()},
        "max_sigma": {r: e.max_sigma for r, e in models.energy.items()},
        "strategy": models.strategy,
        "providers": list(models.providers),
    }
