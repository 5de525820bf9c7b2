"""Templates that are shifted and stretched along the score, without losing an event.

A template is moved through its cumulative (as in A. L. Read, NIM A 425 (1999) 357, for one template):
the content between a and b of the template shifted by s and stretched by w about the pivot c is
G(psi(b)) - G(psi(a)) with psi(x) = c + (x - s - c) / w, which conserves the sum for any s and w. Between
its knots G is a monotone cubic, so that contents are never negative and have a continuous derivative in s and w.
Its slopes are the interface values of P. Colella and P. R. Woodward, J. Comput. Phys. 54 (1984) 174, of fourth
order in the bin width (a proton peak can be as narrow as two bins), limited to three times the smaller
neighbour, which keeps a cubic monotone; between knots of unequal distance those of F. N. Fritsch and J.
Butland, SIAM J. Sci. Stat. Comput. 5 (1984) 300. The sum of squared weights moves in the same way: events
that move take their weights along.

A cubic cannot follow a density that falls by a factor ten from one score bin to the next, as the low side of
the proton peak does. Each bin is therefore first divided in four, in the proportions of a spline through the
logarithms of the contents, corrected so that its means over the bins are these contents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from analysis.exceptions import HistogramMismatchError
from analysis.templates import Template

__all__ = ["Movable", "Moved", "movable"]

FloatArray = NDArray[np.float64]

#: A smooth cumulative has no knots closer than so many effective events, nor farther than this part of the axis.
_KNOT_EVENTS = 50.0
_KNOT_WIDTH = 1.0 / 32.0

_PARTS = 4  # of a score bin
_FEWEST = 4.5  # effective events of a bin that is divided in other than equal parts


@dataclass(frozen=True, eq=False)
class Moved:
    """Contents of score bins after a shift, and how they change; every array has shape (n, m).

    Attributes:
        values: Σw per score bin.
        variances: Σw².
        by_shift: derivatives of ``values`` and of ``variances`` by the shift.
        by_width: the same by the width.
    """

    values: FloatArray
    variances: FloatArray
    by_shift: tuple[FloatArray, FloatArray]
    by_width: tuple[FloatArray, FloatArray]


@dataclass(frozen=True, eq=False)
class Movable:
    """The cumulative of a template for n energy bins, ready to be shifted.

    Attributes:
        low: lower edge of the score axis.
        step: width of its m intervals, quarters of the score bins unless smooth.
        cubics: (n, m, 8) coefficients in t = 0 … 1 inside each bin, of Σw and of Σw².
        flow: (n, 2, 2) under- and overflow; Σw, Σw². Events there stay where they are.
        pivot: (n,) mean score, about which the template is stretched.
        total: (n,) Σw with the flow.
        total_variance: (n,) Σw² with the flow.
    """

    low: float
    step: float
    cubics: FloatArray
    flow: FloatArray
    pivot: FloatArray
    total: FloatArray
    total_variance: FloatArray

    def rows(self, chosen: NDArray[np.intp]) -> Movable:
        """The same for some of the energy bins.

        Args:
            chosen: numbers of the energy bins.

        Returns:
            The cumulative of these.
        """
        return Movable(
            self.low,
            self.step,
            self.cubics[chosen],
            self.flow[chosen],
            self.pivot[chosen],
            self.total[chosen],
            self.total_variance[chosen],
        )

    def between(self, edges: FloatArray, shift: FloatArray, width: FloatArray) -> Moved:
        """Contents between score edges after shift and stretch.

        Args:
            edges: (n, m + 1) ascending score edges; infinite ones take the flow along.
            shift: (n,) shift of the score.
            width: (n,) factor that stretches about the pivot, > 0.

        Returns:
            Contents and derivatives, shape (n, m).
        """
        pivot = self.pivot[:, None]
        with np.errstate(invalid="ignore"):
            away = np.where(np.isfinite(edges), (edges - shift[:, None] - pivot), 0.0)
        position = np.where(
            np.isfinite(edges), (pivot + away / width[:, None] - self.low) / self.step, edges
        )
        n, bins = self.cubics.shape[:2]
        inner = np.clip(position, 0.0, bins)
        number = np.minimum(inner.astype(np.intp), bins - 1)
        t = inner - number
        c = self.cubics.reshape(n * bins, 8)[np.arange(n)[:, None] * bins + number]
        inside = (position > 0.0) & (position < bins)
        scale = np.where(inside, 1.0, 0.0) / (self.step * width[:, None])
        stretched = away / width[:, None]
        content, by_shift, by_width = [], [], []
        for k in (0, 1):
            c0, c1, c2, c3 = (c[..., 4 * k + power] for power in range(4))
            cumulative = c0 + t * (c1 + t * (c2 + t * c3))
            cumulative = cumulative + np.where(edges == -np.inf, 0.0, self.flow[:, 0, k, None])
            cumulative = cumulative + np.where(edges == np.inf, self.flow[:, 1, k, None], 0.0)
            density = scale * (c1 + t * (2.0 * c2 + t * 3.0 * c3))
            content.append(np.diff(cumulative, axis=1))
            by_shift.append(-np.diff(density, axis=1))
            by_width.append(-np.diff(density * stretched, axis=1))
        return Moved(
            values=content[0],
            variances=content[1],
            by_shift=(by_shift[0], by_shift[1]),
            by_width=(by_width[0], by_width[1]),
        )


def movable(template: Template, *, smooth: bool = False) -> Movable:
    """Prepare a template for shifts.

    Args:
        template: the template; its score axis must have equal bins.
        smooth: knots not at all edges of the score axis, but only where 50 effective events,
            (Σw)²/Σw², lie behind the last knot, or a 32nd of the axis. Its derivatives are those of the
            distribution; those of the template as it is are noise where the simulation is thin.

    Returns:
        The cumulative.

    Raises:
        HistogramMismatchError: score bins of unequal width.
    """
    edges = template.omega_edges
    steps = np.diff(edges)
    if not np.allclose(steps, steps[0], rtol=1e-6, atol=0.0):
        msg = "templates are shifted on score axes with equal bins; this axis has unequal ones"
        raise HistogramMismatchError(msg)
    values, variances = template.values[:, 1:-1], template.variances[:, 1:-1]
    if not smooth:
        values, variances = _divided(values, variances)
    n, size = values.shape
    cubics = np.zeros((n, size, 8))
    for i in range(n):
        knots = _knots(values[i], variances[i]) if smooth else np.arange(size + 1)
        cubics[i, :, :4] = _cubics(values[i], knots)
        cubics[i, :, 4:] = _cubics(variances[i], knots)
    centres = 0.5 * (edges[1:] + edges[:-1])
    inner = template.values[:, 1:-1].sum(axis=1)
    moment = (template.values[:, 1:-1] * centres).sum(axis=1)
    return Movable(
        low=float(edges[0]),
        step=float((edges[-1] - edges[0]) / size),
        cubics=cubics,
        flow=np.stack(
            [np.stack([template.values[:, k], template.variances[:, k]], axis=-1) for k in (0, -1)],
            axis=1,
        ),
        pivot=np.where(inner > 0, moment / np.where(inner > 0, inner, 1.0), 0.0),
        total=template.values.sum(axis=1),
        total_variance=template.variances.sum(axis=1),
    )


def _divided(values: FloatArray, variances: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Contents of the quarters of all bins, (n, 4 m); each four have the sum of their bin."""
    n, size = values.shape
    if size < 2:
        return values, variances
    filled = (values > 0) & (variances > 0)
    total, total2 = values.sum(axis=1), variances.sum(axis=1)
    weight = np.where(total > 0, total2 / np.where(total > 0, total, 1.0), 1.0)[:, None]
    wanted = np.log(np.where(filled, values, 0.5 * np.where(weight > 0, weight, 1.0)))
    centres = np.arange(size) + 0.5
    inside = (np.arange(size * _PARTS) + 0.5) / _PARTS

    def density(logarithm: FloatArray) -> FloatArray:
        spline = CubicSpline(centres, logarithm, axis=1)
        # a spline that swings between empty and full bins must not overflow
        return np.asarray(np.exp(np.clip(spline(inside), -600.0, 600.0)).reshape(n, size, _PARTS))

    logarithm = wanted
    for _ in range(2):  # the mean over a bin is its content, not the value in its centre
        off = wanted - np.log(density(logarithm).mean(axis=2))
        logarithm = logarithm + np.clip(off, -1.0, 1.0)
    parts = density(logarithm)
    share = parts / parts.sum(axis=2, keepdims=True)
    enough = values**2 >= _FEWEST * variances
    share = np.where((filled & enough)[:, :, None], share, 1.0 / _PARTS)
    out = [(x[:, :, None] * share).reshape(n, size * _PARTS) for x in (values, variances)]
    return out[0], out[1]


def _knots(value: FloatArray, variance: FloatArray) -> NDArray[np.intp]:
    """Edges that become knots, both ends included."""
    most = max(1, round(value.size * _KNOT_WIDTH))
    knots = [0]
    w = w2 = 0.0
    for j, (content, squares) in enumerate(
        zip(value.tolist(), variance.tolist(), strict=True), start=1
    ):
        w, w2 = w + content, w2 + squares
        full = w2 > 0.0 and w * w >= _KNOT_EVENTS * w2
        if full or j - knots[-1] >= most:
            knots.append(j)
            w = w2 = 0.0
    if knots[-1] != value.size:
        knots.append(value.size)
    return np.array(knots)


def _cubics(content: FloatArray, knots: NDArray[np.intp]) -> FloatArray:
    """Monotone cubics of the cumulative of ``content`` between ``knots``, one per bin, (m, 4)."""
    at_edges = np.concatenate([[0.0], np.cumsum(content)])
    height, length = np.diff(at_edges[knots]), np.diff(knots).astype(np.float64)
    slope = height / length
    density = _density(slope, length)
    interval = np.repeat(np.arange(slope.size), np.diff(knots))
    x = np.arange(content.size) - knots[interval]
    h, d0, d1, m = length[interval], density[interval], density[interval + 1], slope[interval]
    second, third = (3.0 * m - 2.0 * d0 - d1) / h, (d0 + d1 - 2.0 * m) / h**2
    start = at_edges[knots][interval]
    return np.stack(
        [
            start + x * (d0 + x * (second + x * third)),
            d0 + x * (2.0 * second + 3.0 * x * third),
            second + 3.0 * x * third,
            third,
        ],
        axis=1,
    )


def _density(slope: FloatArray, length: FloatArray) -> FloatArray:
    """Derivative of the cumulative at the knots, such that the cubics are monotone."""
    out = np.concatenate([slope[:1], np.zeros(slope.size - 1), slope[-1:]])
    low, high = slope[:-1], slope[1:]
    if np.all(length == length[0]) and slope.size > 3:
        out[1:-1] = 0.5 * (low + high)
        out[2:-2] = (7.0 * (low + high)[1:-1] - slope[:-3] - slope[3:]) / 12.0
        out[1:-1] = np.clip(out[1:-1], 0.0, 3.0 * np.minimum(low, high))
        return out
    # Harmonic mean with the lengths as weights: 0 next to an empty interval.
    a, b = 2.0 * length[1:] + length[:-1], length[1:] + 2.0 * length[:-1]
    both = (low > 0.0) & (high > 0.0)
    s0, s1 = np.where(both, low, 1.0), np.where(both, high, 1.0)
    out[1:-1] = np.where(both, (a + b) / (a / s0 + b / s1), 0.0)
    return out
