"""Copies of ntuples with scores: every branch of the original, one more per network, and omega.

Like the collaboration's files with ``MLscore_<model>``. Every event that some region selects, the edge cut
aside, has the score of its region's network; the others, and those outside a network's energies, NaN.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import awkward as ak
import numpy as np
import numpy.typing as npt
import uproot

from processors.calibration import Calibration
from processors.chain import Cut, check_order, evaluate
from processors.exceptions import MissingBranchError, NtupleError
from processors.histograms import EDGE_CUTS
from processors.inference import score_events
from processors.modelset import Models, required_fields
from processors.ntuple import Aliases, Ntuple
from processors.ntuplefile import Content, look, open_events

__all__ = ["Scoring", "branch_name", "check_fields", "names_of", "score_file"]

#: Events read, scored and written at a time, up to the next cluster border.
_STEP = 50_000


@dataclass(frozen=True)
class Scoring:
    """What the copies get.

    Attributes:
        cuts: The chain that selects.
        regions: Regions in which events are scored.
        names: Scores: names of networks, and ``omega``; NaN in a region that has no such network.
        models: The networks.
        calibration: Table for simulated events, or None.
        note: What ``cre_metadata`` keeps beside the models; plain types.
    """

    cuts: Sequence[Cut]
    regions: Sequence[str]
    names: Sequence[str]
    models: Models
    calibration: Calibration | None
    note: Mapping[str, Any]


def branch_name(score: str) -> str:
    """Branch of a score: ``MLscore_<network>``, or ``omega``."""
    return score if score == "omega" else f"MLscore_{score}"


@dataclass(frozen=True)
class _Layout:
    """How the branches of a tree are written again.

    Attributes:
        types: Name to type, for uproot.
        plain: Branches with a number or a fixed array per event.
        jagged: Written name to the branches of the same lengths.
        counters: Written name to the branch that holds the length.
    """

    types: dict[str, str]
    plain: tuple[str, ...]
    jagged: dict[str, tuple[str, ...]]
    counters: dict[str, str]


def score_file(
    source: str,
    target: Path,
    aliases: Aliases,
    scoring: Scoring,
    *,
    kind: str | None = None,
    drop: Sequence[str] = (),
    advance: Callable[[float], None] = lambda _events: None,
) -> tuple[dict[str, int], dict[str, int], list[str]]:
    """Write a copy of an ntuple with scores; it appears under its name only when it is complete.

    The copy keeps the identity (uuid) of its original, so that a manifest with both is refused, and
    the record ``cre_metadata``, to which the models are added under ``scores``.

    Args:
        source: The original.
        target: The copy; replaced if it exists.
        aliases: Convention of the file.
        scoring: What to add.
        kind: ``data``, ``electron`` or ``proton``, for files that do not say it.
        drop: Branches to leave out.
        advance: Told the number of events written.

    Returns:
        Branch to the number of events with a finite score; branch to the number of those selected, within
        the energies of its networks, whose score is NaN or infinite; and the names of objects of the
        original that are not in the copy.

    Raises:
        NtupleError: If the file cannot be read, its kind is not known, a branch is of a type that cannot
            be copied, or a score's branch exists already.
        ModelError: If a network cannot be used.
    """
    content = look(source, aliases)
    known = content.record.get("kind")
    if kind is not None and known not in {None, kind}:
        msg = f"{source}: is {known!r} by its own record, not {kind!r}"
        raise NtupleError(msg)
    sample = kind or known
    if sample is None:
        msg = f"{source}: does not say its kind; give --kind"
        raise NtupleError(msg)
    if target.exists() and Path(source).exists() and target.samefile(source):
        msg = f"{source}: the copy would replace the original; choose another folder"
        raise NtupleError(msg)
    check_order(scoring.cuts, scoring.regions)
    added = {name: branch_name(name) for name in scoring.names}
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    counts = dict.fromkeys(added.values(), 0)
    bad = dict.fromkeys(added.values(), 0)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            uproot.open(source) as original,
            uproot.recreate(
                part,
                compression=uproot.ZSTD(1),
                uuid_function=lambda: uuid.UUID(content.uuid),
            ) as copy,
        ):
            tree = original[content.tree]
            layout = _layout(source, tree, set(drop), list(added.values()))
            types = {**layout.types, **dict.fromkeys(added.values(), "float32")}
            written = copy.mktree(
                content.tree,
                types,
                title=tree.title,
                counter_name=lambda name: layout.counters[name],
                field_name=lambda outer, inner: inner if outer else outer,
            )
            for start, stop in _steps(content):
                columns = _columns(tree, layout, start, stop)
                events = open_events(source, content.tree, start=start, stop=stop)
                scores, wanted = _scores(Ntuple(events, aliases), sample, scoring)
                for name, values in scores.items():
                    columns[added[name]] = values
                    finite = int(np.isfinite(values).sum())
                    counts[added[name]] += finite
                    bad[added[name]] += wanted[name] - finite
                written.extend(columns)
                advance(stop - start)
            copy["cre_metadata"] = json.dumps(_record(content, scoring, added), sort_keys=True)
            kept = {content.tree, "cre_metadata"}
            lost = [k for k in original.keys(cycle=False) if k not in kept]
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return counts, bad, lost


def check_fields(content: Content, aliases: Aliases, scoring: Scoring) -> None:
    """Refuse a file that lacks a field of a network.

    Raises:
        MissingBranchError: With the file, the field, its branches and the network that needs it.
    """
    calibrated = scoring.calibration is not None
    for region in scoring.regions:
        names = names_of(scoring.models, region, scoring.names)
        needs = required_fields(scoring.models, region, names, calibrated=calibrated)
        for field, user in needs.items():
            if not aliases.available(field, set(content.branches)):
                missing = aliases.missing_branches(field, set(content.branches))
                msg = (
                    f"{content.path}: no branch for field {field!r} ({', '.join(missing)}), which {user} "
                    "needs; drop that from the card or mend the alias file"
                )
                raise MissingBranchError(msg)


def names_of(models: Models, region: str, names: Sequence[str]) -> list[str]:
    """Those of some scores that a region has."""
    known = {*models.members.get(region, {}), *(("omega",) if region in models.omega else ())}
    return [n for n in names if n in known]


def _scores(
    ntuple: Ntuple, kind: str, scoring: Scoring
) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, int]]:
    """Scores of all events of a chunk, NaN where there is none; and how many should have one."""
    species: Literal["electron", "proton"] | None = None
    if scoring.calibration is not None and kind != "data":
        species = "electron" if kind == "electron" else "proton"
    out = {name: np.full(len(ntuple), np.nan, np.float32) for name in scoring.names}
    wanted = dict.fromkeys(scoring.names, 0)
    energy = np.asarray(ntuple["e_corr"], np.float64)
    for region in scoring.regions:
        masks = evaluate(ntuple, scoring.cuts, kind=kind, region=region)
        rows = np.flatnonzero(masks.all_but(EDGE_CUTS))
        scores = score_events(
            ntuple,
            rows,
            region,
            scoring.models,
            names_of(scoring.models, region, scoring.names),
            calibration=scoring.calibration if species else None,
            species=species,
        )
        for name, values in scores.items():
            out[name][rows] = values
            wanted[name] += int(scoring.models.serves(region, [name], energy[rows]).sum())
    return out, wanted


def _record(content: Content, scoring: Scoring, added: Mapping[str, str]) -> dict[str, Any]:
    """The record of the original, with one more entry in ``scores``."""
    entry = {
        "branches": list(added.values()),
        "models": scoring.models.to_list(),
        "strategy": scoring.models.strategy if "omega" in added else None,
        "calibration": None if scoring.calibration is None else scoring.calibration.name,
        **scoring.note,
    }
    return {**content.record, "scores": [*content.record.get("scores", []), entry]}


def _steps(content: Content) -> Iterator[tuple[int, int]]:
    """Entry ranges that end at cluster borders where there are some."""
    start = 0
    while start < content.entries:
        fitting = [c for c in content.clusters if start < c <= start + _STEP]
        stop = max(fitting) if fitting else min(start + _STEP, content.entries)
        yield start, stop
        start = stop


def _layout(source: str, tree: Any, drop: set[str], added: Sequence[str]) -> _Layout:
    """Types of the branches of a tree, or a sentence on the first that cannot be written."""
    branches = {b.name: b for b in tree.branches}
    strangers = sorted(drop - set(branches))
    if strangers:
        msg = f"{source}: has no branch {strangers[0]!r} to drop"
        raise NtupleError(msg)
    taken = [name for name in added if name in branches and name not in drop]
    if taken:
        msg = f"{source}: has a branch {taken[0]!r} already; give --drop {taken[0]} to replace it"
        raise NtupleError(msg)
    groups: dict[str, list[str]] = {}
    own: list[str] = []
    plain: list[str] = []
    elements: dict[str, str] = {}
    for name, branch in branches.items():
        if name in drop:
            continue
        interpretation = branch.interpretation
        if isinstance(interpretation, uproot.AsDtype):
            plain.append(name)
            elements[name] = _element(interpretation)
        elif isinstance(interpretation, uproot.AsJagged) and isinstance(
            interpretation.content, uproot.AsDtype
        ):
            elements[name] = _element(interpretation.content)
            counter = branch.count_branch
            if counter is None:  # a std::vector carries its own length
                own.append(name)
            else:
                groups.setdefault(counter.name, []).append(name)
        else:
            msg = (
                f"{source}: branch {name!r} ({branch.typename}) cannot be copied; give --drop {name} to "
                "leave it out"
            )
            raise NtupleError(msg)
    types = {name: elements[name] for name in plain if name not in groups}
    jagged: dict[str, tuple[str, ...]] = {}
    counters: dict[str, str] = {}
    for counter, names in groups.items():
        fields = ", ".join(f'"{n}": {elements[n]}' for n in names)
        types[f"lists of {counter}"] = f"var * {{{fields}}}"
        jagged[f"lists of {counter}"] = tuple(names)
        counters[f"lists of {counter}"] = counter
    for name in own:
        types[name] = f"var * {elements[name]}"
        jagged[name] = (name,)
        counters[name] = next(c for c in (f"n{name}", f"{name}_length") if c not in branches)
    return _Layout(types, tuple(n for n in plain if n not in groups), jagged, counters)


def _element(interpretation: Any) -> str:
    """Type of one entry, as uproot takes it."""
    dtype = np.dtype(interpretation.to_dtype)
    base, shape = dtype.subdtype or (dtype, ())
    return " * ".join([*map(str, shape), base.newbyteorder("=").name])


def _columns(tree: Any, layout: _Layout, start: int, stop: int) -> dict[str, Any]:
    """Branches of some events as they are written."""
    names = [*layout.plain, *(n for group in layout.jagged.values() for n in group)]
    arrays = tree.arrays(names, entry_start=start, entry_stop=stop, library="ak", how=dict)
    out: dict[str, Any] = {n: ak.to_numpy(arrays[n]) for n in layout.plain}
    for name, group in layout.jagged.items():
        out[name] = ak.zip({n: arrays[n] for n in group}) if name not in group else arrays[name]
    return out
