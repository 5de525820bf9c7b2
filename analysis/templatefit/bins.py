"""Score bins of the template fit: chosen from the simulation, never from the data.

Policy for score bins without simulation: they are merged with their neighbours, on the side of the
protons, until each bin of the fit holds enough effective events. No data are left out of the fit; how many
lie in score bins that neither template fills is counted and reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.exceptions import CutNotOnEdgeError
from analysis.templates import Template, edge_index

__all__ = ["FitBins", "fit_bins"]

FloatArray = NDArray[np.float64]

_WIDEST = 1.0 / 32.0  # of the axis: wider only if the templates are too thin
_FEWEST = 4.0  # bins of a template with less simulation than ``min_effective`` per bin …
_THIN = 25.0  # … but never fewer effective events than this
_SHARE = 20.0  # bins of equal content that a well-filled template is cut into


@dataclass(frozen=True, eq=False)
class FitBins:
    """Score bins of each energy bin.

    Attributes:
        edges: (n, m + 1) score edges; the first is −inf and the last inf where the window is open; rows
            with fewer bins repeat the last edge.
        counts: (n, m) data.
        number: (n,) bins of the row.
        unsupported: (n,) data events inside the window in score bins in which both templates are empty.
    """

    edges: FloatArray
    counts: FloatArray
    number: NDArray[np.intp]
    unsupported: FloatArray


def fit_bins(
    data: Template,
    electrons: Template,
    protons: Template,
    window: tuple[ArrayLike, ArrayLike] = (-np.inf, np.inf),
    min_effective: float = 200.0,
) -> FitBins:
    """Cut the score axis of each energy bin into bins that the simulation can describe.

    A bin ends when one template alone has ``min_effective`` effective events in it and a 20th of all its
    effective events, or when both together have ``min_effective`` and the bin is wider than a 32nd of the
    axis. What is left at the upper end joins the last bin.

    Args:
        data: the data.
        electrons: electron template, same axes.
        protons: proton template, same axes.
        window: lower and upper border of the fit, scalars or (n,), on edges of the score axis; the
            infinite ones include under- and overflow.
        min_effective: effective simulated events (Σw)²/Σw² per bin; a quarter of all those of a template,
            25 at least, where that is less.

    Returns:
        The bins with the data in them.

    Raises:
        CutNotOnEdgeError: a border of the window lies inside a bin of the axis.
    """
    n, columns = data.values.shape  # with the flow: column c lies between axis[c] and axis[c + 1]
    axis = np.concatenate([[-np.inf], data.omega_edges, [np.inf]])
    low, high = (np.broadcast_to(np.asarray(w, np.float64), (n,)) for w in window)
    rows, counts, unsupported = [], [], np.zeros(n)
    for i in range(n):
        start, stop = float(low[i]), float(high[i])
        if not start < stop:
            msg = f"fit window {start!r} to {stop!r} is empty; give the lower border first"
            raise CutNotOnEdgeError(msg)
        first = 0 if start == -np.inf else edge_index(data.omega_edges, start) + 1
        last = columns if stop == np.inf else edge_index(data.omega_edges, stop) + 1
        parts = [
            (t.values[i, first:last], t.variances[i, first:last]) for t in (electrons, protons)
        ]
        cuts = first + _cuts(parts, _WIDEST * columns, min_effective)
        rows.append(axis[cuts])
        counts.append(np.add.reduceat(data.values[i, :last], cuts[:-1]))
        empty = (parts[0][0] <= 0) & (parts[1][0] <= 0)
        unsupported[i] = data.values[i, first:last][empty].sum()
    most = max(r.size for r in rows)
    return FitBins(
        edges=np.stack([np.pad(r, (0, most - r.size), mode="edge") for r in rows]),
        counts=np.stack([np.pad(c, (0, most - 1 - c.size)) for c in counts]),
        number=np.array([c.size for c in counts]),
        unsupported=unsupported,
    )


def _cuts(
    parts: list[tuple[FloatArray, FloatArray]], widest: float, min_effective: float
) -> NDArray[np.intp]:
    """Borders of the bins, counted in columns from the start of the window."""
    every = [_effective(float(v.sum()), float(s.sum())) for v, s in parts]
    # a thin template still gets a few bins, or its shift could not be seen at all
    least = [min(min_effective, max(e / _FEWEST, _THIN)) for e in every]
    wanted = [max(w, e / _SHARE) for w, e in zip(least, every, strict=True)]
    size = parts[0][0].size
    # plain floats: a loop over numpy's takes ten times as long
    columns = zip(*(x.tolist() for part in parts for x in part), strict=True)
    cuts = [0]
    e = e2 = p = p2 = 0.0
    for j, (electron, electron2, proton, proton2) in enumerate(columns, start=1):
        e, e2, p, p2 = e + electron, e2 + electron2, p + proton, p2 + proton2
        both = _effective(e, e2), _effective(p, p2)
        full = both[0] >= wanted[0] or both[1] >= wanted[1]
        if full or (j - cuts[-1] >= widest and sum(both) >= min(least)):
            cuts.append(j)
            e = e2 = p = p2 = 0.0
    if cuts[-1] != size:  # what is left joins the last bin
        cuts = [*(cuts[:-1] or [0]), size]
    return np.array(cuts)


def _effective(value: float, variance: float) -> float:
    """Unweighted events with the same relative error."""
    return value**2 / variance if variance > 0 else 0.0
