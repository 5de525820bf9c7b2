"""How well an energy estimate meets the true energy: bias, containment, pulls."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.evaluation import (
    ONE_SIGMA,
    EvaluationError,
    bin_numbers,
    poisson_counts,
    weighted_quantile,
)

__all__ = ["Containment", "Pulls", "containment", "pulls"]

Values = npt.ArrayLike
FloatArray = npt.NDArray[np.float64]

TWO_SIGMA = math.erf(math.sqrt(2.0))
"""Probability within two standard deviations of a Gaussian, 0.9545; "95 %" for short."""

_LEAST = 20  # events without which a bin has no quantiles worth giving


@dataclass(frozen=True, eq=False)
class Containment:
    """Bias and widths of (E_rec − E_true)/E_true per bin; every array but ``edges`` has shape (n_bins,).

    Attributes:
        edges: Bin edges of the abscissa, shape (n_bins + 1,).
        events: Events per bin; bins with fewer than 20 have NaN.
        bias: Median.
        bias_error: Its standard deviation over replicas.
        half_width_68: Half the central interval that holds 68.27 %.
        half_width_68_error: Its standard deviation.
        half_width_95: Half the central interval that holds 95.45 %.
        half_width_95_error: Its standard deviation.
    """

    edges: FloatArray
    events: npt.NDArray[np.int64]
    bias: FloatArray
    bias_error: FloatArray
    half_width_68: FloatArray
    half_width_68_error: FloatArray
    half_width_95: FloatArray
    half_width_95_error: FloatArray


def containment(
    e_rec_gev: Values,
    e_true_gev: Values,
    x: Values,
    edges: Values,
    *,
    weights: Values | None = None,
    replicas: int = 100,
    seed: int = 1,
) -> Containment:
    """Bias and containment of an energy estimate in bins of any variable.

    Args:
        e_rec_gev: Estimated energy, shape (n,).
        e_true_gev: True energy, shape (n,), positive.
        x: What is binned: true energy, leakage, shape (n,).
        edges: Bin edges.
        weights: Shape (n,); default 1.
        replicas: Poisson replicas for the errors.
        seed: Their seed.

    Returns:
        Numbers per bin.

    Raises:
        EvaluationError: An energy is not finite or a true energy is not positive.
    """
    rec, true = np.asarray(e_rec_gev, np.float64), np.asarray(e_true_gev, np.float64)
    if not (np.isfinite(rec).all() and np.isfinite(true).all() and (true > 0).all()):
        msg = (
            "estimated and true energies must be finite, true ones positive; give simulated events"
        )
        raise EvaluationError(msg)
    relative = rec / true - 1
    w = np.ones(rec.size) if weights is None else np.asarray(weights, np.float64)
    border = np.asarray(edges, np.float64)
    number = bin_numbers(x, border)
    n = border.size - 1
    value, error = np.full((3, n), np.nan), np.full((3, n), np.nan)
    events = np.bincount(number[number >= 0], minlength=n)
    rng = np.random.default_rng(seed)
    for i in np.flatnonzero(events >= _LEAST):
        rows = np.flatnonzero((number == i) & (w > 0))
        rows = rows[np.argsort(relative[rows])]
        v, weight = relative[rows], w[rows]
        value[:, i] = _summary(v, weight)
        drawn = [_summary(v, weight * poisson_counts(rng, v.size)) for _ in range(replicas)]
        error[:, i] = np.std(drawn, axis=0)
    return Containment(border, events, value[0], error[0], value[1], error[1], value[2], error[2])


def _summary(values: FloatArray, weights: FloatArray) -> tuple[float, float, float]:
    """Median and half widths of the central 68.27 and 95.45 %."""
    shares = [0.5, *(s for p in (ONE_SIGMA, TWO_SIGMA) for s in ((1 - p) / 2, (1 + p) / 2))]
    median, low, high, lower, higher = weighted_quantile(values, weights, shares)
    return float(median), float(high - low) / 2, float(higher - lower) / 2


@dataclass(frozen=True)
class Pulls:
    """Distribution of (ln E_true − ln E_rec)/σ for the σ that a network gives.

    Attributes:
        events: Number of events.
        median: Median, 0 if unbiased.
        width: Half the central 68.27 %, 1 if σ is right.
        within_one: Share within ±1, 0.683 if σ is right and the pulls are Gaussian.
        within_two: Share within ±2.
    """

    events: int
    median: float
    width: float
    within_one: float
    within_two: float


def pulls(
    log_ratio: Values, log_sigma: Values, true_log_ratio: Values, weights: Values | None = None
) -> Pulls:
    """Are the errors that a network gives of the right size.

    Args:
        log_ratio: Estimate of ln(E_true/E_corr), shape (n,).
        log_sigma: ln of its standard deviation, shape (n,).
        true_log_ratio: ln(E_true/E_corr), shape (n,).
        weights: Shape (n,); default 1.

    Returns:
        Width and coverage.

    Raises:
        EvaluationError: No events, or a value that is not finite.
    """
    estimate, spread, truth = (
        np.asarray(x, np.float64) for x in (log_ratio, log_sigma, true_log_ratio)
    )
    pull = (truth - estimate) * np.exp(-spread)
    if not pull.size or not np.isfinite(pull).all():
        msg = "pulls need events with finite estimates; leave out those outside the network's energies"
        raise EvaluationError(msg)
    w = np.ones(pull.size) if weights is None else np.asarray(weights, np.float64)
    median, width, _ = _summary(pull, w)
    inside = [float(w[np.abs(pull) <= k].sum() / w.sum()) for k in (1.0, 2.0)]
    return Pulls(pull.size, median, width, *inside)
