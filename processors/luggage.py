"""Files that a chunk needs beside its ntuple, for workers that do not share a file system with the user.

Models and alias files are read here, travel as bytes, and are laid into a folder there; the run and its
chunks are then the same but for the paths.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from coffea.processor.executor import WorkItem

from processors.bundle import BundleRef, read_checked
from processors.exceptions import AliasError
from processors.ntuple import shipped_aliases
from processors.processor import RunConfig

__all__ = ["collect", "packed_name", "relocate_config", "relocate_item", "unpack"]


def collect(config: RunConfig, items: Iterable[WorkItem]) -> dict[str, bytes]:
    """Read the files that must travel.

    Args:
        config: The run.
        items: Its chunks.

    Returns:
        Path, as the run names it, to content.

    Raises:
        ModelError: If a model cannot be read or changed.
        AliasError: If an alias file cannot be read.
    """
    models = config.models
    refs = [r for networks in models.members.values() for refs in networks.values() for r in refs]
    refs += [one.ref for one in models.energy.values()]
    found = {ref.path: read_checked(ref.path, ref.sha256)[0] for ref in refs}
    for name in {_aliases(item) for item in items} - set(shipped_aliases()):
        try:
            found[name] = Path(name).read_bytes()
        except OSError as err:
            msg = f"alias file {name!r} cannot be read ({err.strerror})"
            raise AliasError(msg) from err
    return found


def packed_name(name: str, content: bytes) -> str:
    """Name of a file that travels, made of its content, so that no two clash."""
    return f"{hashlib.sha256(content).hexdigest()[:16]}{Path(name).suffix}"


def unpack(luggage: Mapping[str, bytes], folder: str | Path) -> dict[str, str]:
    """Lay the files into a folder, under names made of their content.

    Args:
        luggage: As :func:`collect` gives it.
        folder: Where to.

    Returns:
        Path, as the run names it, to the path here.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    places = {}
    for name, content in luggage.items():
        here = folder / packed_name(name, content)
        here.write_bytes(content)
        places[name] = str(here)
    return places


def relocate_config(config: RunConfig, places: Mapping[str, str]) -> RunConfig:
    """The same run with its models at other paths; those without a new one stay."""

    def moved(ref: BundleRef) -> BundleRef:
        return replace(ref, path=places.get(ref.path, ref.path))

    models = config.models
    members = {
        region: {name: tuple(map(moved, refs)) for name, refs in networks.items()}
        for region, networks in models.members.items()
    }
    energy = {region: replace(one, ref=moved(one.ref)) for region, one in models.energy.items()}
    return replace(config, models=replace(models, members=members, energy=energy))


def relocate_item(item: WorkItem, places: Mapping[str, str]) -> WorkItem:
    """The same chunk with its ntuple and its alias file at other paths; without a new one they stay."""
    meta: dict[str, Any] = dict(item.usermeta or {})
    meta["aliases"] = places.get(_aliases(item), _aliases(item))
    return replace(item, filename=places.get(item.filename, item.filename), usermeta=meta)


def _aliases(item: WorkItem) -> str:
    return str((item.usermeta or {})["aliases"])
