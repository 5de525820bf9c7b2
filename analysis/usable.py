"""What of a histogram file can be used for a flux."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hist import Hist
from numpy.typing import NDArray

from analysis.exceptions import AnalysisError, HistogramMismatchError, IncompleteDataError
from analysis.selection import Edge, project

__all__ = ["entry", "outside", "usable"]

Hists = Mapping[str, Hist[Any]]


def usable(
    hists: Hists,
    meta: Mapping[str, Any],
    region: str,
    *,
    edge: Edge,
    bgo: str | None,
    score: str | None,
    allow_incomplete: bool,
) -> tuple[dict[str, Hist[Any]], dict[str, Any]]:
    """One edge cut, reconstruction and score of a file, if it can give a flux at all.

    Args:
        hists: histograms of the file.
        meta: its metadata.
        region: ``fiducial`` or ``topfiducial``.
        edge: edge cut on or off.
        bgo: BGO reconstruction, as in :func:`analysis.selection.project`.
        score: the same.
        allow_incomplete: accept histograms marked incomplete.

    Returns:
        What :func:`analysis.selection.project` gives.

    Raises:
        IncompleteDataError: incomplete histograms, no usable livetime, or files that were skimmed for
            the other region.
        HistogramMismatchError: the file does not hold what is asked for.
    """
    if not allow_incomplete and not entry(meta, "complete"):
        missing = meta.get("ledger", {}).get("missing", [])
        msg = (
            f"the histograms are incomplete ({len(missing)} chunks missing, or too many NaN values); "
            "'cre status' names what is missing; finish the run"
        )
        raise IncompleteDataError(msg)
    skims = meta.get(
        "only_regions", ["fiducial"] if meta.get("fiducial_only") else []
    )  # earlier key
    if other := [r for r in skims if r != region]:
        msg = f"files of this run hold {' and '.join(other)} events only; a {region} flux needs other files"
        raise IncompleteDataError(msg)
    chosen, meta = project(hists, meta, edge=edge, bgo=bgo, score=score)
    livetime = entry(meta, "livetime_s")
    if not (isinstance(livetime, int | float) and 0 < livetime < np.inf):
        msg = f"livetime_s is {livetime!r}; a flux needs the livetime of the data that were read"
        raise IncompleteDataError(msg)
    return chosen, meta


def outside(
    meta: Mapping[str, Any],
    edges: NDArray[np.float64],
    e_min_gev: float | None,
    e_max_gev: float | None,
) -> NDArray[np.bool_]:
    """Energy bins outside the wanted range, the complete data or the generated electrons.

    Args:
        meta: metadata of the file: ``complete_above_gev``, ``generated``.
        edges: (n + 1,) edges of the energy bins, GeV.
        e_min_gev: lowest energy that is wanted.
        e_max_gev: highest.

    Returns:
        (n,) True for bins that are not wholly inside.
    """
    if e_min_gev is not None and e_max_gev is not None and not e_min_gev < e_max_gev:
        msg = f"the lowest energy {e_min_gev:g} GeV is not below the highest, {e_max_gev:g} GeV"
        raise AnalysisError(msg)
    low = max(float(meta.get("complete_above_gev", 0.0)), e_min_gev or 0.0)
    high = np.inf if e_max_gev is None else e_max_gev
    slack = 1e-9  # edges are compared with themselves, written and read
    out = (edges[:-1] < low * (1 - slack)) | (edges[1:] > high * (1 + slack))
    samples = [g for g in meta.get("generated", {}).get("electron", []) if g["events"]]
    if samples:
        covered = np.zeros(len(edges) - 1, dtype=bool)
        for start, stop in _union([(g["e_min_gev"], g["e_max_gev"]) for g in samples]):
            covered |= (edges[:-1] >= start * (1 - slack)) & (edges[1:] <= stop * (1 + slack))
        out |= ~covered
    return np.asarray(out)


def _union(intervals: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Merge intervals that touch or overlap."""
    merged: list[tuple[float, float]] = []
    for start, stop in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged


def entry(mapping: Mapping[str, Any], *keys: str) -> Any:
    """A nested entry, or a sentence that says which one is missing.

    Args:
        mapping: histograms or metadata of a file.
        *keys: names, from outside in.

    Returns:
        The entry.

    Raises:
        HistogramMismatchError: it is missing.
    """
    value: Any = mapping
    for depth, key in enumerate(keys):
        if not isinstance(value, Mapping) or key not in value:
            msg = f"the histogram file has no {'.'.join(keys[: depth + 1])!r}; write it anew"
            raise HistogramMismatchError(msg)
        value = value[key]
    return value
