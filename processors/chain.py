"""Chains of cuts: which cuts with which values in which order, and what each passes on a chunk."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from processors.exceptions import SelectionError
from processors.ntuple import Ntuple
from processors.selections import CUTS, REGIONS, cut_fields, fiducial

__all__ = ["Cut", "Passed", "check_order", "evaluate", "make_cut"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Cut:
    """A cut with its values.

    Attributes:
        name: Name in cut flows; ``region`` stands for the geometry of the region being filled.
        values: Keyword arguments of the function.
        kinds: Kinds of sample to which it applies; others pass.
    """

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    kinds: tuple[str, ...] = ("data", "electron", "proton")

    def function(self, region: str) -> Callable[..., Mask]:
        """The function to call for a region."""
        return REGIONS[region] if self.name == "region" else CUTS[self.name]

    def needs_image(self, region: str) -> bool:
        """Whether the cut reads the bar energies."""
        return "image" in cut_fields(self.function(region))


def make_cut(name: str, values: Mapping[str, Any] | None = None) -> Cut:
    """Build a cut from a card entry, checking its name and values against the function.

    Args:
        name: A name of :data:`CUTS`, or ``region``.
        values: Values of the function's keyword parameters, and optionally ``kinds``.

    Returns:
        The cut.

    Raises:
        SelectionError: On an unknown name, parameter, kind or a value of the wrong type.
    """
    given = dict(values or {})
    kinds = tuple(given.pop("kinds", Cut.kinds))
    unknown = [k for k in kinds if k not in Cut.kinds]
    if unknown or not kinds:
        msg = f"cut {name!r}: kinds {list(kinds)} must be some of {', '.join(Cut.kinds)}"
        raise SelectionError(msg)
    if name != "region" and name not in CUTS:
        msg = f"unknown cut {name!r}; known: region, {', '.join(CUTS)}"
        raise SelectionError(msg)
    function = fiducial if name == "region" else CUTS[name]
    known = {
        p.name: p.default
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    }
    for key, value in given.items():
        if key not in known:
            msg = f"cut {name!r} has no value {key!r}; it takes: {', '.join([*known, 'kinds'])}"
            raise SelectionError(msg)
        boolean = isinstance(known[key], bool)
        if isinstance(value, bool) != boolean or not isinstance(value, bool | int | float):
            msg = (
                f"cut {name!r}: {key} must be a {'boolean' if boolean else 'number'}, not {value!r}"
            )
            raise SelectionError(msg)
    return Cut(name, given, kinds)


@dataclass(frozen=True)
class Passed:
    """Result of a chain of cuts on one chunk.

    Attributes:
        selected: Events that pass every cut, shape (n,).
        evaluated: Cut name to the events on which the cut was computed.
        passed: Cut name to those of them that pass it.
        cumulative: Cut name to the events that pass it and all cuts before it.
        n_minus_1: Cut name to the events that pass all other cuts.
    """

    selected: Mask
    evaluated: Mapping[str, Mask]
    passed: Mapping[str, Mask]
    cumulative: Mapping[str, Mask]
    n_minus_1: Mapping[str, Mask]

    def followed_by(self, name: str, rows: npt.NDArray[np.intp], passed: Mask) -> Passed:
        """The chain with one more cut, which was computed for some events only.

        Args:
            name: Name of the cut.
            rows: Indices of the events on which it was computed; all events that pass the chain are among them.
            passed: Whether these pass it, shape (len(rows),).

        Returns:
            The longer chain. N-1 counts of the other cuts know the new one only where it was computed.
        """
        evaluated, mask = np.zeros_like(self.selected), np.zeros_like(self.selected)
        evaluated[rows] = True
        mask[rows] = passed
        kept = mask | ~evaluated
        return Passed(
            self.selected & mask,
            {**self.evaluated, name: evaluated},
            {**self.passed, name: mask},
            {**self.cumulative, name: self.selected & mask},
            {**{n: m & kept for n, m in self.n_minus_1.items()}, name: self.selected},
        )

    def among(self, events: Mask) -> Passed:
        """The chain on some events only, shape (n,); the others pass nothing."""
        if events.all():
            return self
        parts = (self.evaluated, self.passed, self.cumulative, self.n_minus_1)
        fewer = [{name: mask & events for name, mask in part.items()} for part in parts]
        return Passed(self.selected & events, *fewer)

    def all_but(self, names: Sequence[str]) -> Mask:
        """Events that pass every cut except perhaps those named, shape (n,).

        Events that fail two of the named cuts count only if the cuts on the bar energies were computed
        for them; with the two edge cuts in one chain, which agree, that is the case.
        """
        mask = np.ones_like(self.selected)
        for name, passed in self.passed.items():
            if name not in names:
                mask &= passed
        return mask


def evaluate(ntuple: Ntuple, cuts: Sequence[Cut], *, kind: str, region: str) -> Passed:
    """Apply ordered cuts to a chunk.

    Cuts on the bar energies are the expensive ones: they are computed only where they can still matter,
    that is for events that fail at most one other cut so far known (all that N-1 and the cumulative
    count need); ``evaluated`` says for which. For that they must come after all others.

    Args:
        ntuple: The chunk.
        cuts: The chain.
        kind: Kind of the sample; cuts for other kinds pass every event.
        region: ``fiducial`` or ``topfiducial``.

    Returns:
        The masks.

    Raises:
        SelectionError: If a cut on the image stands before one that does not need it.
        MissingBranchError: If a field is missing.
    """
    n = len(ntuple)
    everything = np.ones(n, bool)
    failures = np.zeros(n, np.uint8)  # a chain has fewer than 256 cuts
    evaluated: dict[str, Mask] = {}
    passed: dict[str, Mask] = {}
    image_seen: str | None = None
    for cut in cuts:
        if kind not in cut.kinds:
            evaluated[cut.name] = passed[cut.name] = everything
            continue
        function = cut.function(region)
        fields = cut_fields(function)
        if "image" in fields:
            image_seen = cut.name
            rows = failures <= 1
            mask = np.zeros(n, bool)
            if rows.any():
                arrays = [ntuple.image(rows) if f == "image" else ntuple[f][rows] for f in fields]
                mask[rows] = function(*arrays, **cut.values)
            failed = rows & ~mask
        else:
            if image_seen is not None:
                msg = f"cut {cut.name!r} must come before {image_seen!r}, which reads the bar energies"
                raise SelectionError(msg)
            rows = everything
            mask = np.asarray(function(*(ntuple[f] for f in fields), **cut.values), bool)
            failed = ~mask
        evaluated[cut.name], passed[cut.name] = rows, mask
        failures += failed.view(np.uint8)
    cumulative: dict[str, Mask] = {}
    running = everything
    for name, mask in passed.items():
        running = running & mask
        cumulative[name] = running
    # Events not evaluated by an image cut fail two others already, so they are in no N-1 sample.
    none, one = failures == 0, failures == 1
    n_minus_1 = {name: none | (one & evaluated[name] & ~mask) for name, mask in passed.items()}
    return Passed(running, evaluated, passed, cumulative, n_minus_1)


def check_order(cuts: Sequence[Cut], regions: Sequence[str]) -> None:
    """Refuse a chain with repeated cuts, without its region, or with an image cut before a cheap one.

    Args:
        cuts: The chain.
        regions: Regions that it is applied for.

    Raises:
        SelectionError: With the names.
    """
    names = [c.name for c in cuts]
    repeated = sorted({n for n in names if names.count(n) > 1})
    if repeated:
        msg = f"cut {', '.join(repeated)} stands more than once in the chain"
        raise SelectionError(msg)
    flagged = "fiducial_bit" in names and list(regions) == ["fiducial"]
    if "region" not in names and not flagged:
        msg = (
            "the chain needs the entry 'region' (the fiducial or top-fiducial geometry); for files "
            "without axis intercepts take 'fiducial_bit' and regions: [fiducial]"
        )
        raise SelectionError(msg)
    needs = [c.needs_image("fiducial") for c in cuts]
    if sorted(needs) != needs:
        late = names[needs.index(True)]
        msg = f"cut {late!r} reads the bar energies and must stand after the cuts that do not"
        raise SelectionError(msg)
