"""From histograms of data and Monte Carlo control samples to the offsets of a calibration.

In one energy bin and one tag the data are described by

    n_k = a (S_k + d S'_k) + b C_k

with S the Monte Carlo of the tagged species, S' its change when the offset grows by one unit, C the Monte
Carlo of the other species (the contamination), both with the table so far, and k the quantiles of the
data. Offset d and the sizes a, b come from a fit of maximum likelihood (Poisson, least squares reweighted
with the fitted counts), so that layers with RMS exactly 0 and rules that leave events alone are described
as they are, where a difference of medians would not see them. The amount b is bound by the counts in the
other tag (:func:`contamination`). d is what the table still lacks; it is fitted along log10 E with hat
functions at the nodes of the table, and the whole is repeated with the improved table until nothing moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.exceptions import AnalysisError

__all__ = [
    "CalibrationFitError",
    "NodeFit",
    "Offsets",
    "Sample",
    "contamination",
    "fit_nodes",
    "hats",
    "measure",
]

FloatArray = NDArray[np.float64]

#: Fewest data events and effective Monte Carlo events in a bin.
MIN_EVENTS = 25.0
#: Events per value bin aimed at, fewest and most value bins: eight lose 3 % of the information on the
#: place of a Gaussian, more add the noise of the Monte Carlo change.
_PER_BIN, _FEWEST, _MOST = 25.0, 4, 8
_PASSES = 6
#: Relative uncertainty of the expected contamination beside its statistics.
_CONTAMINATION_ERROR = 0.3


class CalibrationFitError(AnalysisError):
    """The control samples cannot give the offsets that were asked for."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Histograms of one probed variable in one tag.

    Attributes:
        counts: Sum of weights, shape (energy bins, values).
        variance: Sum of squared weights, same shape.
        change: Change of the counts per unit of the offset, same shape.
        log_energy: Mean log10 E, shape (energy bins,).
    """

    counts: FloatArray
    variance: FloatArray
    change: FloatArray
    log_energy: FloatArray


@dataclass(frozen=True, eq=False)
class Offsets:
    """What a table lacks, per energy bin; NaN where a bin was not measured.

    Attributes:
        log_energy: Mean log10 E of the tagged Monte Carlo.
        offset: Offset in mm or steps.
        error: Its standard error, of data and Monte Carlo statistics.
        contamination: Fitted share of the other species.
        chi2: Pearson's chi2 of the value bins.
        ndf: Its degrees of freedom.
        events: Data events in the tag.
    """

    log_energy: FloatArray
    offset: FloatArray
    error: FloatArray
    contamination: FloatArray
    chi2: FloatArray
    ndf: FloatArray
    events: FloatArray

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Bins with a result."""
        return np.isfinite(self.offset)


@dataclass(frozen=True, eq=False)
class NodeFit:
    """Offsets at the nodes of a table.

    Attributes:
        used: Which nodes the data reach, shape (nodes,).
        values: What the table lacks at the used nodes, shape (number used,).
        covariance: Covariance of the values.
        chi2: Sum of squared pulls of the energy bins.
        ndf: Energy bins less nodes used.
    """

    used: NDArray[np.bool_]
    values: FloatArray
    covariance: FloatArray
    chi2: float
    ndf: int

    @property
    def errors(self) -> FloatArray:
        """Standard errors of the values."""
        return np.sqrt(np.diag(self.covariance))


def contamination(
    data: tuple[Sample, Sample], signal: tuple[Sample, Sample], other: tuple[Sample, Sample]
) -> tuple[FloatArray, FloatArray]:
    """Expected data events of the other species in a tag, from the counts in both tags.

    Two equations per energy bin: the data in either tag are signal and other in the Monte Carlo's own
    proportions between the tags, sizes free. No flux is assumed.

    Args:
        data: In the tag, and in the tag of the other species.
        signal: Monte Carlo of the tagged species, likewise.
        other: Monte Carlo of the other species, likewise.

    Returns:
        Counts in the tag and their errors (statistics, and 30 % of the counts), shape (energy bins,).
    """
    own, opposite = (s.counts.sum(axis=1) for s in data)
    signal_own, signal_opposite = (s.counts.sum(axis=1) for s in signal)
    other_own, other_opposite = (s.counts.sum(axis=1) for s in other)
    zero = np.zeros(len(own))
    leak = np.divide(signal_opposite, signal_own, out=zero.copy(), where=signal_own > 0)
    ratio = np.divide(other_own, other_opposite, out=zero.copy(), where=other_opposite > 0)
    mixing = np.maximum(1 - ratio * leak, 0.1)
    rest = np.maximum(opposite - leak * own, 0.0) / mixing
    expected = ratio * rest
    spread = np.sqrt(other[0].variance.sum(axis=1))
    relative = np.divide(spread, other_own, out=zero.copy(), where=other_own > 0)
    statistics = ratio**2 * (opposite + leak**2 * own) / mixing**2
    error = np.sqrt(statistics + (relative**2 + _CONTAMINATION_ERROR**2) * expected**2)
    return expected, np.maximum(error, 1.0)


def measure(
    data: tuple[Sample, Sample], signal: tuple[Sample, Sample], other: tuple[Sample, Sample]
) -> Offsets:
    """Offsets of one probed variable in all energy bins of one tag.

    Args:
        data: The data in the tag, and in the tag of the other species.
        signal: Monte Carlo of the tagged species, likewise.
        other: Monte Carlo of the other species, likewise.

    Returns:
        The offsets; bins with fewer than 25 data or effective Monte Carlo events are not measured.

    Raises:
        CalibrationFitError: If the histograms have different bins.
    """
    if len({s.counts.shape for pair in (data, signal, other) for s in pair}) != 1:
        shapes = [pair[0].counts.shape for pair in (data, signal, other)]
        msg = f"data and Monte Carlo histograms have different bins: {shapes}"
        raise CalibrationFitError(msg)
    own = data[0].counts
    expected, expected_error = contamination(data, signal, other)
    results = np.full((5, len(own)), np.nan)
    events = own.sum(axis=1)
    for k in range(len(own)):
        effective = _effective(signal[0].counts[k], signal[0].variance[k])
        if events[k] < MIN_EVENTS or effective < MIN_EVENTS:
            continue
        number = int(np.clip(min(effective, events[k]) / _PER_BIN, _FEWEST, _MOST))
        # Quantiles of the data stay the same from one iteration to the next.
        edges = _quantile_edges(own[k], number)
        result = _fit(
            _merge(data[0], k, edges),
            _merge(signal[0], k, edges),
            _merge(other[0], k, edges),
            (float(expected[k]), float(expected_error[k])),
        )
        if result is not None:
            results[:, k] = result
    offset, error, share, chi2, ndf = results
    return Offsets(signal[0].log_energy, offset, error, share, chi2, ndf, events)


def hats(log_energy: FloatArray, log_nodes: FloatArray) -> FloatArray:
    """Hat functions: share of each node in a piecewise-linear function, constant outside.

    Args:
        log_energy: log10 E, shape (n,).
        log_nodes: Ascending nodes, shape (m,).

    Returns:
        Shape (n, m); every row sums to 1.
    """
    return np.column_stack(
        [np.interp(log_energy, log_nodes, row) for row in np.eye(len(log_nodes))]
    )


def fit_nodes(offsets: Offsets, nodes_gev: Sequence[float], *, max_error: float) -> NodeFit:
    """Fit the offsets along energy with hat functions at the nodes (weighted least squares).

    A node is used if a measured bin lies nearer to it than to its neighbour and its error is not above
    the limit; without the others the function is constant beyond the last used node and linear across
    a missing one.

    Args:
        offsets: Offsets per energy bin.
        nodes_gev: Nodes of the table, ascending.
        max_error: Largest error of a node, mm or steps.

    Returns:
        The fit; no node is used if no bin was measured.
    """
    log_nodes = np.log10(nodes_gev)
    good = offsets.measured
    x, y, s = offsets.log_energy[good], offsets.offset[good], offsets.error[good]
    used = np.zeros(len(log_nodes), bool)
    if not good.any():
        return NodeFit(used, np.zeros(0), np.zeros((0, 0)), 0.0, 0)
    used = hats(x, log_nodes).max(axis=0) >= 0.5
    if not used.any():
        used[np.abs(log_nodes - x.mean()).argmin()] = True
    while True:
        design = hats(x, log_nodes[used])
        information = (design / s[:, None] ** 2).T @ design
        solvable = np.linalg.matrix_rank(information) == used.sum()
        covariance = np.linalg.pinv(information)
        errors = np.sqrt(np.diag(covariance))
        if used.sum() == 1 or (solvable and errors.max() <= max_error):
            break
        # The outermost of the weak nodes goes, so that what is left stays connected to data.
        weak = np.argmax(errors) if solvable else np.argmin(design.sum(axis=0))
        used[np.flatnonzero(used)[weak]] = False
    values = np.asarray(covariance @ (design.T @ (y / s**2)), np.float64)
    chi2 = float((((y - design @ values) / s) ** 2).sum())
    return NodeFit(
        used, values, np.asarray(covariance, np.float64), chi2, int(good.sum() - used.sum())
    )


def _effective(counts: FloatArray, variance: FloatArray) -> float:
    squares = float(variance.sum())
    return float(counts.sum()) ** 2 / squares if squares > 0 else 0.0


def _quantile_edges(counts: FloatArray, number: int) -> NDArray[np.intp]:
    """First fine bin of each of at most ``number`` groups of about equal counts."""
    cumulative = np.cumsum(counts) / counts.sum()
    inner = np.searchsorted(cumulative, np.arange(1, number) / number) + 1
    return np.unique(np.concatenate([[0], inner[inner < len(counts)]]))


def _merge(
    sample: Sample, energy_bin: int, edges: NDArray[np.intp]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    counts, variance, change = (
        np.add.reduceat(h[energy_bin], edges)
        for h in (sample.counts, sample.variance, sample.change)
    )
    return counts, variance, change


def _fit(
    data: tuple[FloatArray, FloatArray, FloatArray],
    signal: tuple[FloatArray, FloatArray, FloatArray],
    other: tuple[FloatArray, FloatArray, FloatArray],
    expected: tuple[float, float],
) -> tuple[float, float, float, float, float] | None:
    """Offset, error, contamination, chi2 and degrees of freedom; None if nothing moves the histogram."""
    observed = data[0]
    total = observed.sum()
    columns = np.column_stack([signal[0], signal[2], other[0]])
    sizes = np.abs(columns).sum(axis=0)
    if sizes[1] == 0:
        return None
    free = 3 if sizes[2] > 0 else 2
    # Columns of the size of the data: the shares are numbers near 1.
    scale = total / sizes[:free]
    design = columns[:, :free] * scale
    prior = np.zeros((free, free))
    pull = np.zeros(free)
    if free > 2:
        amount, width = expected[0] / total, expected[1] / total
        prior[2, 2], pull[2] = 1 / width**2, amount / width**2
    share = np.eye(free)[0]
    model = design[:, 0]
    covariance, variance = prior, model
    for _ in range(_PASSES):
        variance = np.maximum(model, 0.5) + (share[0] * scale[0]) ** 2 * signal[1]
        if free > 2:
            variance = variance + (share[2] * scale[2]) ** 2 * other[1]
        # Poisson of the expected counts, not of the observed ones: those would pull to low counts.
        information = (design / variance[:, None]).T @ design + prior
        if np.linalg.cond(information) > 1e10:
            return None
        covariance = np.linalg.inv(information)
        share = covariance @ (design.T @ (observed / variance) + pull)
        model = np.maximum(design @ share, 0.0)
    if share[0] <= 0:
        return None
    per_unit = scale[1] / scale[0]
    offset = share[1] / share[0] * per_unit
    gradient = np.zeros(free)
    gradient[:2] = np.array([-offset, per_unit]) / share[0]
    error = float(np.sqrt(gradient @ covariance @ gradient))
    other_share = float(share[2] / (share[0] + share[2])) if free > 2 else 0.0
    chi2 = float(((observed - design @ share) ** 2 / variance).sum())
    # The bound on the contamination is one measurement more.
    return float(offset), error, other_share, chi2, float(len(observed) - 2)
