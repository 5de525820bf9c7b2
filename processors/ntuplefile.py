"""One ntuple file looked at from outside: identity, tree, branches, its own record, and consistency."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uproot
from coffea.nanoevents import BaseSchema, NanoEventsFactory

from processors import selections, showers
from processors.exceptions import NtupleError
from processors.jagged import Jagged, read_jagged
from processors.ntuple import FIELDS, Aliases, Ntuple

__all__ = [
    "Branches",
    "Content",
    "disabled_cuts",
    "is_url",
    "look",
    "open_events",
    "open_file",
    "self_check",
]


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        path: Where it is.
        uuid: Identity, the same for copies under other names.
        tree: Name of its tree.
        entries: Number of events.
        clusters: Entry offsets at which its branches can be cut, first 0, last ``entries``.
        branches: Branch names.
        record: What the file says of itself (``cre_metadata`` of simulated files), or empty.
        run_numbers: Run numbers of the events, ascending; empty without a run branch or events.
    """

    path: str
    uuid: str
    tree: str
    entries: int
    clusters: tuple[int, ...]
    branches: frozenset[str]
    record: Mapping[str, Any]
    run_numbers: tuple[int, ...]


def is_url(path: str) -> bool:
    """Whether a path is a URL (``root://…``) and not a local file."""
    return "://" in path


def look(path: str, aliases: Aliases) -> Content:
    """Open a file and read what it is, not its events.

    Args:
        path: Local path or URL.
        aliases: The convention of the file.

    Returns:
        The content.

    Raises:
        NtupleError: If the file cannot be read, is truncated, or lacks the tree.
    """
    try:
        content, trees = _read(path, aliases)
    except Exception as err:  # uproot raises whatever it trips over in a damaged file
        text = (str(err) or "no message").strip().splitlines()[0]
        msg = f"{path}: not a readable ROOT file ({type(err).__name__}: {text})"
        raise NtupleError(msg) from err
    if content is None:
        found = ", ".join(trees) or "nothing"
        msg = f"{path}: no tree {aliases.tree!r} (it holds: {found}); is another --aliases meant?"
        raise NtupleError(msg)
    return content


def _read(path: str, aliases: Aliases) -> tuple[Content | None, list[str]]:
    if not is_url(path) and Path(path).stat().st_size == 0:
        msg = "the file is empty"
        raise EOFError(msg)
    with uproot.open(path) as file:
        if not is_url(path) and Path(path).stat().st_size < int(file.file.fEND):
            msg = f"truncated: the file should have {int(file.file.fEND)} bytes"
            raise EOFError(msg)
        if aliases.tree not in file:
            return None, sorted(file.keys(cycle=False))
        tree = file[aliases.tree]
        if not isinstance(tree, uproot.TTree):
            msg = (
                f"{aliases.tree} is a {type(tree).__name__}, a TTree is needed (in uproot: mktree)"
            )
            raise TypeError(msg)
        branches = frozenset(tree.keys(recursive=False))
        run_numbers: tuple[int, ...] = ()
        if tree.num_entries and not aliases.missing_branches("run", set(branches)):
            numbers = tree[aliases.fields["run"].branches("event")[0]].array(library="np")
            run_numbers = tuple(int(n) for n in np.unique(numbers))
        content = Content(
            path=path,
            uuid=str(uuid.UUID(bytes=file.file.uuid.bytes)),
            tree=aliases.tree,
            entries=int(tree.num_entries),
            clusters=tuple(int(c) for c in tree.common_entry_offsets()),
            branches=branches,
            record=json.loads(str(file["cre_metadata"])) if "cre_metadata" in file else {},
            run_numbers=run_numbers,
        )
        return content, []


def open_file(path: str) -> Any:
    """Open a ROOT file for reading, a local one without threads and event loops, which only cost time.

    It is read and not mapped into memory: an I/O error is then an exception and not the end of the process,
    and the memory in use is that of the program and not of its files. Nothing of it stays in uproot's caches,
    which would hold the trees of the last hundred files, about 1 MB each.

    Args:
        path: Local path or URL.

    Returns:
        The open file, a context manager.
    """
    options: dict[str, Any] = {"object_cache": None, "array_cache": None}
    if not is_url(path):
        options |= {"handler": uproot.MultithreadedFileSource, "use_threads": False}
    return uproot.open(path, **options)


class Branches:
    """A range of events of an open tree; each branch is read when it is asked for.

    Args:
        tree: The tree, open for as long as branches are asked for.
        start: First event.
        stop: Event after the last.
        metadata: What a processor is told of the events.
    """

    def __init__(self, tree: Any, start: int, stop: int, metadata: Mapping[str, Any]) -> None:
        self._tree, self._start, self._stop = tree, start, stop
        self._ready: dict[str, Any] = {}
        self.metadata = metadata
        self.fields: list[str] = tree.keys(recursive=False)

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, branch: str, /) -> Any:
        """Values of a branch: NumPy where every event has as many, else awkward."""
        if branch in self._ready:
            return self._ready.pop(branch)
        return self._tree[branch].array(
            entry_start=self._start,
            entry_stop=self._stop,
            library="np" if self._is_flat(branch) else "ak",
            array_cache=None,
        )

    def jagged(self, branch: str, /) -> Jagged:
        """Values of a jagged branch, its baskets apart."""
        return read_jagged(self._tree[branch], self._start, self._stop)

    def preload(self, branches: Iterable[str]) -> None:
        """Read branches that will be asked for, together, which is faster; jagged ones are left for later.

        Args:
            branches: Their names; those that the file does not have are left out.
        """
        wanted = set(branches).intersection(self.fields)
        flat = [b for b in self.fields if b in wanted and self._is_flat(b)]
        if flat:
            self._ready |= self._tree.arrays(
                flat,
                entry_start=self._start,
                entry_stop=self._stop,
                library="np",
                how=dict,
                array_cache=None,
            )

    def _is_flat(self, branch: str) -> bool:
        return isinstance(self._tree[branch].interpretation, uproot.AsDtype)


def open_events(path: str, tree: str, *, start: int | None = None, stop: int | None = None) -> Any:
    """Events of a file in coffea's virtual mode: branches are read when touched.

    Args:
        path: Local path or URL.
        tree: Tree name.
        start: First event to read.
        stop: Event before which to stop.

    Returns:
        The events array.
    """
    return NanoEventsFactory.from_root(
        {path: tree}, schemaclass=BaseSchema, mode="virtual", entry_start=start, entry_stop=stop
    ).events()


def disabled_cuts(content: Content, aliases: Aliases) -> dict[str, list[str]]:
    """Cuts that a file cannot serve.

    Args:
        content: The file.
        aliases: Its convention.

    Returns:
        Cut or region name to the fields that it lacks.
    """
    present = set(content.branches)
    out = {}
    for name, function in {**selections.CUTS, **selections.REGIONS}.items():
        lacking = [f for f in selections.cut_fields(function) if not aliases.available(f, present)]
        if lacking:
            out[name] = lacking
    return out


def self_check(content: Content, aliases: Aliases, *, events: int = 10_000) -> dict[str, float]:
    """Compare what a file stores twice: edge bit and image, fiducial bit and axis, zeta and its formula.

    Args:
        content: The file.
        aliases: Its convention.
        events: How many events to read at most.

    Returns:
        Name of the check to the share of events that disagree (for zeta: by more than 1 %), for the
        checks that the branches allow.
    """
    ntuple = Ntuple(
        open_events(content.path, content.tree, stop=min(events, content.entries)), aliases
    )
    checks: dict[str, float] = {}
    if not len(ntuple):
        return checks

    def has(*fields: str) -> bool:
        present = set(content.branches)
        return all(not aliases.missing_branches(f, present) for f in fields)

    if has("edge_clear", "image"):
        checks["edge cut: bit against image"] = float(
            np.mean(ntuple["edge_clear"] != showers.edge_bars_clear(ntuple["image"]))
        )
    axis = ("slope_x", "slope_y", "intercept_x", "intercept_y")
    if has("bgo_fiducial", *axis):
        recomputed = selections.fiducial(*(ntuple[f] for f in axis)) & selections.axis(
            *(ntuple[f] for f in axis)
        )
        checks["fiducial: bit against axis"] = float(np.mean(ntuple["bgo_fiducial"] != recomputed))
    if has("zeta", "layer_rms", "layer_fraction"):
        formula = showers.zeta(ntuple["layer_rms"], showers.f_last(ntuple["layer_fraction"]))
        checks["zeta: branch against formula"] = float(
            np.mean(~np.isclose(ntuple["zeta"], formula, rtol=0.01))
        )
    if has("e_raw", "image"):
        total = ntuple["image"].sum(axis=(1, 2), dtype=np.float64)
        checks["energy: branch against sum of bars"] = float(
            np.mean(~np.isclose(ntuple["e_raw"], total, rtol=0.01))
        )
    return checks


def field_table(content: Content, aliases: Aliases) -> list[tuple[str, str, str, str]]:
    """Rows (field, unit, branch or how it is derived, text) for a report; missing fields say so."""
    rows = []
    present = set(content.branches)
    for name, info in FIELDS.items():
        if not aliases.missing_branches(name, present):
            branches = aliases.fields[name].branches(info.shape)
            source = branches[0] if len(branches) == 1 else f"{branches[0]} … {branches[-1]}"
        else:
            source = "derived" if aliases.available(name, present) else "missing"
        rows.append((name, info.unit, source, info.text))
    return rows
