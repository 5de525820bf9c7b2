"""What of a histogram file can be used for a flux."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hist import Hist
from numpy.typing import NDArray

from analysis.exceptions import AnalysisError, HistogramMismatchError, IncompleteDataError
from analysis.selection import Edge, project

__all__ = ["entry", "outside", "partial", "partial_text", "usable"]

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
        allow_incomplete: accept a run of which data files are missing; its livetime must be that of the files
            that were read.

    Returns:
        What :func:`analysis.selection.project` gives; of an incomplete run with the entry ``partial``.

    Raises:
        IncompleteDataError: incomplete histograms, no usable livetime, or files that were skimmed for
            the other region.
        HistogramMismatchError: the file does not hold what is asked for.
    """
    if not entry(meta, "complete"):
        _check_incomplete(meta, allowed=allow_incomplete)
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
    _check_livetime(meta)
    found = partial(meta)
    return chosen, meta if found is None else {**meta, "partial": found}


def _check_incomplete(meta: Mapping[str, Any], *, allowed: bool) -> None:
    """Refuse incomplete histograms, or with a permission those that cannot give a flux all the same."""
    ledger = meta.get("ledger") or {}
    missing = len(ledger.get("missing", []))
    if not allowed:
        msg = (
            f"the histograms are incomplete ({missing} chunks missing, or too many NaN values); 'cre status' names "
            "what is missing; finish the run, or give --partial for a flux of the livetime that was read"
        )
        raise IncompleteDataError(msg)
    if meta.get("not_finite"):
        msg = f"{meta['not_finite']}; --partial is for missing data only"
        raise IncompleteDataError(msg)
    if "planned_files" not in ledger:
        msg = (
            "the histograms are incomplete, and their livetime may be that of files that were not read (they are of "
            "an earlier version); run again"
        )
        raise IncompleteDataError(msg)
    for kind in ("electron", "proton"):
        planned, read = (ledger[part][kind]["files"] for part in ("planned_files", "files"))
        if read < planned:
            msg = (
                f"{planned - read} of {planned} files of simulated {kind}s are missing, whose generated events are in "
                "the weights of all others: the acceptance would be too small; finish the run, or run again with a "
                "manifest without these files ('cre status' names them)"
            )
            raise IncompleteDataError(msg)


def _check_livetime(meta: Mapping[str, Any]) -> None:
    """The livetime must be that of the data files that the histograms hold."""
    ours = [
        f["livetime_s"]
        for f in meta.get("inputs") or []
        if f.get("kind") == "data" and f.get("bgo_reconstruction") == meta["bgo_reconstruction"]
    ]
    if all(isinstance(t, int | float) for t in ours) and ours:
        total = float(sum(ours))
        if not np.isclose(total, meta["livetime_s"], rtol=1e-9, atol=0.0):
            msg = (
                f"livetime_s is {meta['livetime_s']:.6g} s, the files that were read have {total:.6g} s; the "
                "metadata were changed or damaged: run again"
            )
            raise IncompleteDataError(msg)


def partial(meta: Mapping[str, Any]) -> dict[str, float] | None:
    """How much of the planned livetime histograms or a flux table hold.

    Args:
        meta: metadata of a histogram file or a flux table.

    Returns:
        ``livetime_s``, ``planned_livetime_s`` and ``share``; None if the run was complete.
    """
    if isinstance(meta.get("partial"), Mapping):
        return dict(meta["partial"])
    if meta.get("complete") is not False:
        return None
    read, planned = (meta.get(key) for key in ("livetime_s", "planned_livetime_s"))
    if not (isinstance(read, int | float) and isinstance(planned, int | float) and planned > 0):
        read = planned = float("nan")
    return {"livetime_s": read, "planned_livetime_s": planned, "share": read / planned}


def partial_text(*metas: Mapping[str, Any]) -> str:
    """What every figure made of incomplete histograms or their tables says; empty if all are complete.

    Args:
        *metas: metadata of histogram files and flux tables.
    """
    shares = [found["share"] for meta in metas if (found := partial(meta)) is not None]
    if not shares:
        return ""
    least = min(shares, key=lambda share: share if np.isfinite(share) else -1.0)
    if np.isfinite(least) and least < 1:
        return f"partial: {100 * least:.1f} % of the livetime"
    return "partial: the run is incomplete"


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
