"""Energy migration: the response matrix in reconstructed and true energy.

Everything is per unit flux: an element of the matrix is the acceptance of a bin of true energy for
events that are reconstructed in one bin. It is taken before the score cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hist import Hist
from numpy.typing import ArrayLike, NDArray

from analysis.exceptions import HistogramMismatchError
from analysis.templates import select

__all__ = [
    "Response",
    "inside",
    "outcome",
    "ratio",
    "response_from_sums",
    "response_matrix",
]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_SLACK = 1e-9  # of an energy: edges are compared with themselves, written and read


@dataclass(frozen=True, eq=False)
class Response:
    """Expected selected events per unit flux, m bins of true and n of reconstructed energy.

    Attributes:
        true_edges: (m + 1,) GeV.
        reco_edges: (n + 1,) GeV.
        matrix: (n, m) m² sr: events in reco bin i = livetime · Σ_j matrix[i, j] · ∫Φ dE over true bin j.
        variance: (n, m) its variance from the simulation, (m² sr)².
        target: (m,) ∫ target flux dE, m⁻² s⁻¹ sr⁻¹: the weights inside each true bin.
        below: (n,) events per second in each reco bin that come from true energies below the axis,
            at the target flux.
        above: (n,) those from above the axis.
        below_variance: (n,) variance of ``below``.
        above_variance: (n,) variance of ``above``.
        lost_low: (m,) m² sr: acceptance of the true bin for events reconstructed below the axis.
        lost_high: (m,) the same above the axis.
        acceptance: (m,) m² sr, all events of the true bin, also those reconstructed outside the axis.
        acceptance_variance: (m,) its variance.
        success: (m,) true bins with simulated events, target flux and full coverage by the simulation.
        known: (n,) reco bins with simulated events whose true energies, and those of the bins next to
            them, were simulated: what migrates into them is known.
        condition: condition number of the part of ``matrix`` that is known, its columns normalised;
            inf for a singular or empty one.
    """

    true_edges: FloatArray
    reco_edges: FloatArray
    matrix: FloatArray
    variance: FloatArray
    target: FloatArray
    below: FloatArray
    above: FloatArray
    below_variance: FloatArray
    above_variance: FloatArray
    lost_low: FloatArray
    lost_high: FloatArray
    acceptance: FloatArray
    acceptance_variance: FloatArray
    success: BoolArray
    known: BoolArray
    condition: float

    @property
    def lost(self) -> FloatArray:
        """(m,) share of the events of a true bin that is reconstructed outside the axis."""
        return ratio(self.lost_low + self.lost_high, self.acceptance)

    @property
    def gained(self) -> FloatArray:
        """(n,) share of the events of a reco bin from outside the true axis, at the target flux."""
        outside = self.below + self.above
        return ratio(outside, self.matrix @ self.target + outside)

    def kernel(self) -> tuple[FloatArray, FloatArray]:
        """Matrix and variance with the events from outside the axis in its first and last column.

        For a flux that is known inside the axis only: outside, its ratio to the target flux is taken to be
        that in the nearest true bin with simulated events.

        Returns:
            (n, m) m² sr and (n, m) (m² sr)².
        """
        matrix, variance = self.matrix.copy(), self.variance.copy()
        filled = np.flatnonzero((self.target > 0) & (self.acceptance > 0))
        if filled.size:
            for at, events, squares in (
                (filled[0], self.below, self.below_variance),
                (filled[-1], self.above, self.above_variance),
            ):
                matrix[:, at] += events / self.target[at]
                variance[:, at] += squares / self.target[at] ** 2
        return matrix, variance

    def extended(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Edges, matrix and variance with one more true bin at either end, for a flux known beyond the axis.

        The events from outside the axis are given to a bin as wide, in ln E, as its neighbour, in which
        the target flux is extrapolated as a power law.

        Returns:
            (m + 3,) GeV, (n, m + 2) m² sr and (n, m + 2) (m² sr)².
        """
        true = self.true_edges
        edges = np.concatenate([[true[0] ** 2 / true[1]], true, [true[-1] ** 2 / true[-2]]])
        matrix, variance = (
            np.pad(values, ((0, 0), (1, 1))) for values in (self.matrix, self.variance)
        )
        lit = np.flatnonzero(self.target > 0)
        if not lit.size:
            return edges, matrix, variance
        centre = np.log(edges[:-1] * edges[1:]) / 2
        log_flux = np.log(self.target[lit] / np.diff(true)[lit])
        for at, pair, events, squares in (
            (0, [0, 1], self.below, self.below_variance),
            (-1, [-1, -2], self.above, self.above_variance),
        ):
            near = [pair[0], pair[1] if lit.size > 1 else pair[0]]
            run = np.diff(centre[1:-1][lit[near]])[0]
            slope = np.diff(log_flux[near])[0] / run if run else 0.0
            beyond = log_flux[near[0]] + slope * (centre[at] - centre[1:-1][lit[near[0]]])
            integral = np.exp(beyond) * np.diff(edges)[at]
            matrix[:, at], variance[:, at] = events / integral, squares / integral**2
        return edges, matrix, variance


def response_matrix(
    hists: Mapping[str, Hist[Any]],
    meta: Mapping[str, Any],
    *,
    kind: str = "electron",
    region: str = "fiducial",
) -> Response:
    """Response of one kind and region.

    Args:
        hists: ``response`` (axes kind, region, energy_true, energy) and ``passed`` (kind, region,
            energy_true), as :func:`analysis.selection.project` returns them.
        meta: ``target_flux_integral`` and, if known, ``generated``, each by kind.
        kind: ``electron`` or ``proton``.
        region: ``fiducial`` or ``topfiducial``.

    Returns:
        The response; see :func:`response_from_sums`.

    Raises:
        HistogramMismatchError: a histogram, axis, flow bin, category or metadata entry is missing, or
            the two histograms hold different events.
    """
    for name in ("response", "passed"):
        if name not in hists:
            msg = f"the histogram file has no histogram {name!r}; write it anew"
            raise HistogramMismatchError(msg)
    integral = meta.get("target_flux_integral", {}).get(kind)
    if integral is None:
        msg = f"the histogram file has no 'target_flux_integral.{kind}'; write it anew"
        raise HistogramMismatchError(msg)
    axes = ("energy_true", "energy")
    sums = select(hists["response"], "response", axes, kind=kind, region=region)
    passed = select(hists["passed"], "passed", axes[:1], kind=kind, region=region)
    for axis in (*sums.axes, *passed.axes):
        if not (axis.traits.underflow and axis.traits.overflow):
            msg = (
                f"axis {axis.name!r} has no under- or overflow bin: events that migrate over its ends "
                "would be lost; fill the histograms anew"
            )
            raise HistogramMismatchError(msg)
    view: Any = sums.view(flow=True)
    total: Any = passed.view(flow=True)
    true_edges = np.asarray(sums.axes[0].edges, np.float64)
    if not np.array_equal(true_edges, passed.axes[0].edges):
        msg = "bins of true energy differ between 'response' and 'passed'; use one run for both"
        raise HistogramMismatchError(msg)
    if not np.allclose(view.value.sum(axis=1), total.value, rtol=1e-6, atol=0.0):
        msg = "'response' and 'passed' do not hold the same events; use one run for both"
        raise HistogramMismatchError(msg)
    samples = [g for g in (meta.get("generated") or {}).get(kind, []) if g["events"]]
    return response_from_sums(
        view.value,
        view.variance,
        integral,
        true_edges,
        np.asarray(sums.axes[1].edges, np.float64),
        simulated=[(g["e_min_gev"], g["e_max_gev"]) for g in samples] or None,
    )


def response_from_sums(
    content: ArrayLike,
    variance: ArrayLike,
    target: ArrayLike,
    true_edges: ArrayLike,
    reco_edges: ArrayLike,
    *,
    simulated: Sequence[tuple[float, float]] | None = None,
) -> Response:
    """Response from sums of weights.

    Weights are events per second of the target flux (:func:`analysis.acceptance.acceptance`), so that
    Σw / ∫f dE is an acceptance, here split by reconstructed energy. A true bin without events or not
    fully inside ``simulated`` has ``success`` False; its events still count where they migrate to.

    Args:
        content: (m + 2, n + 2) Σw over true and reconstructed energy, flow bins included, s⁻¹.
        variance: (m + 2, n + 2) Σw², s⁻².
        target: (m,) ∫f dE of the target flux, m⁻² s⁻¹ sr⁻¹.
        true_edges: (m + 1,) GeV.
        reco_edges: (n + 1,) GeV.
        simulated: generated energy ranges in GeV; default: true bins with events.

    Returns:
        The response.

    Raises:
        HistogramMismatchError: shapes do not fit, edges do not ascend, or sums are not finite or negative.
    """
    sums, squares, flux, true, reco = (
        np.asarray(x, np.float64) for x in (content, variance, target, true_edges, reco_edges)
    )
    m, n = true.size - 1, reco.size - 1
    if sums.shape != (m + 2, n + 2) or squares.shape != sums.shape or flux.shape != (m,):
        msg = (
            f"a response of {m} true and {n} reconstructed bins needs contents and variances of shape "
            f"{(m + 2, n + 2)} and {m} flux integrals, got {sums.shape}, {squares.shape}, {flux.shape}"
        )
        raise HistogramMismatchError(msg)
    for name, values in (("true", true), ("reconstructed", reco)):
        if not (values.size > 1 and np.all(values[1:] > values[:-1]) and values[0] > 0):
            msg = f"edges of the {name} energy must be positive and ascend, got {values!r}"
            raise HistogramMismatchError(msg)
    for name, values in (("content", sums), ("variance", squares)):
        bad = ~np.isfinite(values) | (values < 0)
        if bad.any():
            msg = f"{name} of the response must be finite and >= 0, got {values[bad][0]!r}"
            raise HistogramMismatchError(msg)

    per_bin, per_bin2 = sums[1:-1].sum(axis=1), squares[1:-1].sum(axis=1)
    lit = (flux > 0) & np.isfinite(flux)
    safe = np.where(lit, flux, np.inf)  # no target flux: acceptance 0, the bin fails
    matrix = (sums[1:-1, 1:-1] / safe[:, None]).T
    touched, covered = _coverage(true, simulated, sums.sum(axis=1) > 0)
    success = lit & covered & (per_bin > 0)
    known = (sums[:, 1:-1].sum(axis=0) > 0) & _surrounded(true, reco, touched)
    return Response(
        true_edges=true.copy(),
        reco_edges=reco.copy(),
        matrix=matrix,
        variance=(squares[1:-1, 1:-1] / safe[:, None] ** 2).T,
        target=np.where(lit, flux, 0.0),
        below=sums[0, 1:-1].copy(),
        above=sums[-1, 1:-1].copy(),
        below_variance=squares[0, 1:-1].copy(),
        above_variance=squares[-1, 1:-1].copy(),
        lost_low=sums[1:-1, 0] / safe,
        lost_high=sums[1:-1, -1] / safe,
        acceptance=per_bin / safe,
        acceptance_variance=per_bin2 / safe**2,
        success=success,
        known=known,
        condition=_condition(matrix[np.ix_(known, success)]),
    )


def inside(response: Response) -> BoolArray:
    """Which true bins overlap each reco bin.

    Args:
        response: the response.

    Returns:
        (n, m) flags.
    """
    true, reco = response.true_edges, response.reco_edges
    starts: BoolArray = true[:-1] < reco[1:, None] * (1 - _SLACK)
    ends: BoolArray = true[1:] > reco[:-1, None] * (1 + _SLACK)
    return starts & ends


def outcome(response: Response) -> tuple[BoolArray, list[str]]:
    """Which reco bins can have a flux, and why the others cannot.

    Args:
        response: the response.

    Returns:
        (n,) flags, and n sentences, empty for good bins.
    """
    own = inside(response)
    empty, bare = response.acceptance <= 0, ~response.success
    checks = (
        (own.any(axis=1), "the bin lies outside the true energies of the response"),
        (~(own & empty).any(axis=1), "no simulated events, or no target flux, in this true bin"),
        (~(own & bare).any(axis=1), "the simulation does not cover this true bin"),
        (response.matrix.sum(axis=1) > 0, "no simulated events in this reconstructed bin"),
        (
            response.known,
            "true energies next to this bin were not simulated: what migrates into it is unknown",
        ),
    )
    passed = np.array([np.asarray(ok) for ok, _ in checks])
    reasons = [
        next((why for ok, (_, why) in zip(column, checks, strict=True) if not ok), "")
        for column in passed.T
    ]
    return np.asarray(passed.all(axis=0)), reasons


def _coverage(
    edges: FloatArray, ranges: Sequence[tuple[float, float]] | None, filled: BoolArray
) -> tuple[BoolArray, BoolArray]:
    """(m + 2,) bins, flow bins included, touched by a range; (m,) bins fully inside the ranges."""
    if ranges is None:
        return filled, filled[1:-1]
    touched, covered = np.zeros(edges.size + 1, bool), np.zeros(edges.size - 1)
    borders = np.concatenate([[0.0], edges, [np.inf]])
    end = 0.0
    for start, stop in sorted(ranges):
        touched |= (borders[:-1] < stop * (1 - _SLACK)) & (borders[1:] > start * (1 + _SLACK))
        low = np.clip(max(start, end), edges[:-1], edges[1:])
        covered += np.maximum(np.clip(stop, edges[:-1], edges[1:]) - low, 0.0)
        end = max(end, stop)
    return touched, covered >= np.diff(edges) * (1 - 1e-6)


def _surrounded(true: FloatArray, reco: FloatArray, touched: BoolArray) -> BoolArray:
    """(n,) reco bins whose own true energies, and those of the next bin on either side, were simulated."""
    first = np.searchsorted(true, reco[:-1] * (1 + _SLACK), side="right")
    last = np.searchsorted(true, reco[1:] * (1 - _SLACK), side="right")
    around = zip(np.maximum(first - 1, 0), last + 2, strict=True)
    return np.array([touched[low:high].all() for low, high in around], bool)


def _condition(matrix: FloatArray) -> float:
    """Condition number with columns normalised to 1, inf for a singular or empty matrix."""
    total = matrix.sum(axis=0)
    if not matrix.size or not np.all(total > 0):
        return float("inf")
    values = np.linalg.svd(matrix / total, compute_uv=False)
    rank = values > values[0] * max(matrix.shape) * np.finfo(np.float64).eps
    return float(values[0] / values[-1]) if rank.all() else float("inf")


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Ratio of two arrays, NaN where the denominator is not positive."""
    good = denominator > 0
    return np.where(good, numerator / np.where(good, denominator, 1.0), np.nan)
