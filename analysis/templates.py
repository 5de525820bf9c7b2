"""The score distribution of one kind of event in one region, per energy bin."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from hist import Hist
from numpy.typing import ArrayLike, NDArray

from analysis.exceptions import CutNotOnEdgeError, HistogramMismatchError

__all__ = ["Sums", "Template", "edge_index", "inner_bins", "select", "template"]

_EDGE_TOLERANCE = 1e-6  # of a bin width: a cut typed as -0.93 meets the edge -8 + 707 * 0.01


class Sums(NamedTuple):
    """Σw and Σw² per energy bin, shape (n_energy,)."""

    value: NDArray[np.float64]
    variance: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Template:
    """Score distribution per energy bin, with under- and overflow of the score.

    Attributes:
        kind: ``data``, ``electron`` or ``proton``.
        region: ``fiducial`` or ``topfiducial``.
        energy_edges: (n_energy + 1,) GeV.
        omega_edges: (n_omega + 1,) score edges.
        values: (n_energy, n_omega + 2) Σw; first column underflow, last column overflow in omega.
        variances: Σw², same shape.
    """

    kind: str
    region: str
    energy_edges: NDArray[np.float64]
    omega_edges: NDArray[np.float64]
    values: NDArray[np.float64]
    variances: NDArray[np.float64]

    def above(self, cut: ArrayLike) -> Sums:
        """Sum omega >= cut, overflow included.

        Args:
            cut: score cut on a bin edge, one or one per energy bin.

        Returns:
            Σw and Σw² per energy bin.

        Raises:
            CutNotOnEdgeError: the cut is not on a bin edge.
        """
        return self.between(cut, np.inf)

    def between(self, low: ArrayLike, high: ArrayLike) -> Sums:
        """Sum low <= omega < high.

        Args:
            low: lower border on a bin edge, or −inf to include the underflow; one or one per energy
                bin.
            high: upper border on a bin edge, or inf to include the overflow.

        Returns:
            Σw and Σw² per energy bin.

        Raises:
            CutNotOnEdgeError: a border is not on a bin edge, or low >= high.
        """
        n = self.values.shape[0]
        lows, highs = (np.broadcast_to(np.asarray(x, np.float64), (n,)) for x in (low, high))
        if not np.all(lows < highs):
            i = int(np.argmin(lows < highs))
            msg = f"score range {float(lows[i])!r} to {float(highs[i])!r} is empty; give the lower border first"
            raise CutNotOnEdgeError(msg)
        columns = np.arange(self.values.shape[1])
        inside = (columns >= self._columns(lows, 0)) & (
            columns < self._columns(highs, columns.size)
        )
        return Sums(
            np.where(inside, self.values, 0.0).sum(axis=1),
            np.where(inside, self.variances, 0.0).sum(axis=1),
        )

    def _columns(self, borders: NDArray[np.float64], infinite: int) -> NDArray[np.intp]:
        """First column above each border, shape (n_energy, 1)."""
        where = {
            b: edge_index(self.omega_edges, b) + 1 if np.isfinite(b) else infinite
            for b in set(borders.tolist())
        }
        return np.array([[where[b]] for b in borders.tolist()])

    def total(self) -> Sums:
        """Sum the whole score axis, under- and overflow included.

        Returns:
            Σw and Σw² per energy bin.
        """
        return self.between(-np.inf, np.inf)


def template(score: Hist[Any], kind: str, region: str) -> Template:
    """Take one kind and region out of the ``score`` histogram.

    Args:
        score: histogram with axes kind, region, energy, omega and Weight storage.
        kind: category of the kind axis.
        region: category of the region axis.

    Returns:
        The template, energy flow bins left out.

    Raises:
        HistogramMismatchError: an axis or category is missing, or the storage has no variances.
    """
    part = select(score, "score", ("energy", "omega"), kind=kind, region=region)
    values, variances = inner_bins(part, "score")
    for axis, has_flow in ((0, part.axes[1].traits.underflow), (-1, part.axes[1].traits.overflow)):
        if not has_flow:
            at = 0 if axis == 0 else values.shape[1]
            values = np.insert(values, at, 0.0, axis=1)
            variances = np.insert(variances, at, 0.0, axis=1)
    return Template(
        kind=kind,
        region=region,
        energy_edges=np.asarray(part.axes[0].edges, dtype=np.float64),
        omega_edges=np.asarray(part.axes[1].edges, dtype=np.float64),
        values=values,
        variances=variances,
    )


def select(histogram: Hist[Any], name: str, axes: tuple[str, ...], **categories: str) -> Hist[Any]:
    """Pick categories of a histogram and order the axes that are left.

    Args:
        histogram: a histogram of the file contract.
        name: its name, for the error message.
        axes: names of the axes to keep, in the wanted order.
        **categories: axis name = category to pick.

    Returns:
        Histogram with exactly ``axes``.

    Raises:
        HistogramMismatchError: an axis or a category is missing.
    """
    present = {axis.name: axis for axis in histogram.axes}
    if set(present) != {*axes, *categories}:
        msg = (
            f"histogram {name!r} has axes {sorted(present)}, needed are "
            f"{sorted({*axes, *categories})}; it was not written by this version of the chain"
        )
        raise HistogramMismatchError(msg)
    for axis, category in categories.items():
        if category not in list(present[axis]):
            msg = (
                f"histogram {name!r} has no {axis} {category!r}; "
                f"it has {', '.join(map(repr, present[axis]))}"
            )
            raise HistogramMismatchError(msg)
    index: dict[int | str, int] = {
        axis: int(present[axis].index(category)) for axis, category in categories.items()
    }
    part: Hist[Any] = histogram[index]  # type: ignore[assignment]  # float only if no axis is left
    return part.project(*axes)


def inner_bins(histogram: Hist[Any], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Σw and Σw² with the flow bins of the first axis left out, those of others kept.

    Args:
        histogram: histogram with Weight storage.
        name: its name, for the error message.

    Returns:
        Two arrays, first axis without flow.

    Raises:
        HistogramMismatchError: the storage has no variances.
    """
    values, variances = histogram.values(flow=True), histogram.variances(flow=True)
    if variances is None:
        msg = f"histogram {name!r} has no sum of squared weights; fill it with Weight storage"
        raise HistogramMismatchError(msg)
    axis = histogram.axes[0]
    start = 1 if axis.traits.underflow else 0
    inner = slice(start, start + axis.size)
    return np.array(values[inner], dtype=np.float64), np.array(variances[inner], dtype=np.float64)


def edge_index(edges: NDArray[np.float64], value: float) -> int:
    """Position of the edge that equals a score value.

    Args:
        edges: score edges.
        value: the score value.

    Returns:
        Its number.

    Raises:
        CutNotOnEdgeError: the value is inside a bin; the message names the nearest edges.
    """
    nearest = int(np.argmin(np.abs(edges - value)))
    width = float(np.min(np.diff(edges)))
    if abs(edges[nearest] - value) <= _EDGE_TOLERANCE * width:
        return nearest
    right = int(np.searchsorted(edges, value))
    around = ", ".join(f"{edge:.6g}" for edge in edges[max(right - 1, 0) : right + 1])
    msg = (
        f"score value {value!r} is not on a bin edge of the omega axis, so the histogram cannot "
        f"be cut there; nearest edges: {around}"
    )
    raise CutNotOnEdgeError(msg)
