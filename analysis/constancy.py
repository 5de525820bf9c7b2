r"""Is a quantity constant in time, and if not, how fast does it drift: counts with background, and efficiencies.

Counts: :math:`n_m \sim P(s T_m g_m + \kappa \beta_m)` with a control count :math:`c_m \sim P(\beta_m)` in each interval of
livetime :math:`T_m`; the background :math:`\beta_m` of every interval is profiled (W. A. Rolke, A. M. Lopez and J. Conrad, NIM A
551 (2005) 493), so few counts need no Gaussian errors. The statistic is the likelihood ratio to the best fit of every
interval for itself; :math:`g_m = 1` for the test of constancy, :math:`g_m = 1 + d\,(t_m - \bar t)` for the drift.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from iminuit import Minuit
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy
from scipy.stats import chi2 as chi2_law

from analysis.exceptions import AnalysisError

__all__ = ["Constancy", "constant_counts", "constant_share", "on_off_deviance"]

FloatArray = NDArray[np.float64]

#: With a smaller expected count the p-value comes from pseudo-experiments.
_MANY = 10.0
_TOYS = 2000
_EDGE = 1e-12


@dataclass(frozen=True)
class Constancy:
    """Test of a quantity against a constant, and its linear drift.

    Attributes:
        mean: the constant that fits best.
        chi2: likelihood ratio of the constant to a free value in each interval.
        ndf: intervals less one.
        p_value: probability of a larger ``chi2`` if the quantity is constant.
        p_from: ``chi2`` (its law) or ``toys``: pseudo-experiments, where an interval expects few counts.
        drift_per_year: relative change per year at the mean time.
        drift_error: its error.
        drift_p_value: probability of a larger drift in either direction if there is none.
    """

    mean: float
    chi2: float
    ndf: int
    p_value: float
    p_from: str
    drift_per_year: float
    drift_error: float
    drift_p_value: float


def _deviance(n: FloatArray, mean: FloatArray) -> FloatArray:
    """−2 ln of the Poisson likelihood over its largest value."""
    return np.asarray(2.0 * (mean - n + xlogy(n, n) - xlogy(n, mean)))


def on_off_deviance(
    n: ArrayLike, control: ArrayLike, signal: ArrayLike, transfer: float
) -> FloatArray:
    """Likelihood ratio of a signal in counts whose background a control count knows.

    Args:
        n: counts, any shape.
        control: control counts, same shape.
        signal: expected signal, >= 0.
        transfer: background in n per control count, >= 0.

    Returns:
        −2 ln λ, with the background that fits best for this signal.
    """
    on, off, mu = (np.asarray(x, np.float64) for x in (n, control, signal))
    background = _background(on, off, mu, transfer)
    return _deviance(on, mu + transfer * background) + _deviance(off, background)


def _background(on: FloatArray, off: FloatArray, mu: FloatArray, transfer: float) -> FloatArray:
    """Expected control counts that fit best at a given signal: the root of a quadratic equation."""
    if transfer == 0:
        return off
    linear = transfer * (on + off) - (1 + transfer) * mu
    square = transfer * (1 + transfer)
    root = np.sqrt(linear**2 + 4 * square * off * mu)
    with np.errstate(divide="ignore", invalid="ignore"):
        small = np.where(off * mu > 0, 2 * off * mu / (root - linear), 0.0)  # without cancellation
    return np.where(linear > 0, (linear + root) / (2 * square), small)


def constant_counts(
    n: ArrayLike,
    livetime: ArrayLike,
    years: ArrayLike,
    *,
    control: ArrayLike | None = None,
    transfer: float = 0.0,
    seed: int = 1,
) -> Constancy:
    """Test a rate, with its background taken from a control count, against a constant.

    Args:
        n: (k,) counts.
        livetime: (k,) > 0.
        years: (k,) mean time of each interval, years.
        control: (k,) control counts; None for no background.
        transfer: background in n per control count.
        seed: of the pseudo-experiments.

    Returns:
        The test; ``mean`` is the signal per unit of livetime.

    Raises:
        AnalysisError: fewer than two intervals, or a livetime that is not positive.
    """
    on, time = np.asarray(n, np.float64), np.asarray(livetime, np.float64)
    off = np.zeros_like(on) if control is None else np.asarray(control, np.float64)
    transfer = transfer if off.any() else 0.0
    if on.size < 2 or not (time > 0).all():
        msg = f"{on.size} intervals with livetimes from {time.min(initial=0.0):g} s: nothing to compare in time"
        raise AnalysisError(msg)
    mean = float(_best(on[None], off[None], time, transfer)[0])
    found = float(on_off_deviance(on, off, mean * time, transfer).sum())
    ndf, how = on.size - 1, "chi2"
    p_value = float(chi2_law.sf(found, ndf))
    background = _background(on, off, mean * time, transfer)
    expected = mean * time + transfer * background
    if expected.min() < _MANY:
        rng, how = np.random.default_rng(seed), "toys"
        drawn = rng.poisson(expected, (_TOYS, on.size)).astype(np.float64)
        others = rng.poisson(background, (_TOYS, on.size)).astype(np.float64)
        best = _best(drawn, others, time, transfer)
        toys = on_off_deviance(drawn, others, best[:, None] * time, transfer).sum(axis=1)
        p_value = _share(toys, found)
    t = _since(years, time)

    def cost(rate: float, drift: float) -> float:
        signal = np.maximum(rate * time * (1 + drift * t), _EDGE)
        return float(on_off_deviance(on, off, signal, transfer).sum())

    return _with_drift(cost, mean, t, found, ndf, p_value, how, (0.0, None))


def _best(on: FloatArray, off: FloatArray, time: FloatArray, transfer: float) -> FloatArray:
    """Constant signal rate of each row, by bisection of the slope of its likelihood."""
    if transfer == 0:
        return np.asarray(on.sum(axis=1) / time.sum())
    low = np.zeros(len(on))
    high = (on.sum(axis=1) + 1.0) / time.sum() * 2.0
    for _ in range(60):
        middle = (low + high) / 2
        signal = middle[:, None] * time
        total = signal + transfer * _background(on, off, signal, transfer)
        ratio = np.divide(on, total, out=np.zeros_like(total), where=total > 0)
        rising = (time * (1.0 - ratio)).sum(axis=1) > 0
        low, high = np.where(rising, low, middle), np.where(rising, middle, high)
    return np.asarray((low + high) / 2)


def constant_share(
    passed: ArrayLike, tried: ArrayLike, years: ArrayLike, *, seed: int = 1
) -> Constancy:
    """Test an efficiency against a constant.

    Args:
        passed: (k,) counts that passed.
        tried: (k,) counts of all, > 0.
        years: (k,) mean time of each interval, years.
        seed: of the pseudo-experiments.

    Returns:
        The test.

    Raises:
        AnalysisError: fewer than two intervals, or one without a count.
    """
    k, n = np.asarray(passed, np.float64), np.asarray(tried, np.float64)
    if k.size < 2 or not (n > 0).all():
        msg = f"{k.size} intervals with counts from {n.min(initial=0.0):g}: no efficiency to compare in time"
        raise AnalysisError(msg)
    mean = float(k.sum() / n.sum())
    found = float(_binomial(k, n, np.full(k.shape, mean)).sum())
    ndf, how = k.size - 1, "chi2"
    p_value = float(chi2_law.sf(found, ndf))
    if (n * min(mean, 1 - mean)).min() < _MANY:
        rng, how = np.random.default_rng(seed), "toys"
        drawn = rng.binomial(n.astype(np.int64), mean, (_TOYS, k.size)).astype(np.float64)
        best = drawn.sum(axis=1, keepdims=True) / n.sum()
        p_value = _share(_binomial(drawn, n, best).sum(axis=1), found)
    t = _since(years, n)

    def cost(share: float, drift: float) -> float:
        return float(_binomial(k, n, share * (1 + drift * t)).sum())

    return _with_drift(cost, mean, t, found, ndf, p_value, how, (0.0, 1.0))


def _binomial(k: FloatArray, n: FloatArray, share: FloatArray) -> FloatArray:
    p = np.clip(share, _EDGE, 1 - _EDGE)
    best = xlogy(k, k) + xlogy(n - k, n - k) - xlogy(n, n)
    return np.asarray(2.0 * (best - xlogy(k, p) - xlogy(n - k, 1 - p)))


def _share(toys: FloatArray, found: float) -> float:
    """Share of pseudo-experiments at least as large; never 0."""
    return float(((toys >= found * (1 - 1e-9)).sum() + 1) / (toys.size + 1))


def _since(years: ArrayLike, weight: FloatArray) -> FloatArray:
    """Times from their weighted mean, years."""
    t = np.asarray(years, np.float64)
    return np.asarray(t - np.average(t, weights=weight))


def _with_drift(
    cost: Callable[[float, float], float],
    mean: float,
    t: FloatArray,
    found: float,
    ndf: int,
    p_value: float,
    how: str,
    limits: tuple[float, float | None],
) -> Constancy:
    """Fit the drift; NaN where nothing was counted, or all intervals have one time."""
    reach = float(np.abs(t).max())
    drift = error = chance = np.nan
    if mean > 0 and reach > 0:
        fit = Minuit(cost, mean, 0.0, name=("mean", "drift"))
        fit.errordef = 1.0  # the cost is −2 ln L
        fit.tol = 1e-4
        fit.limits[0] = limits
        fit.limits["drift"] = (-1.0 / reach, 1.0 / reach)
        fit.errors[0], fit.errors["drift"] = 0.1 * mean, 0.1 / reach
        fit.migrad()
        fit.hesse()
        if fit.valid and fit.accurate:
            drift, error = float(fit.values["drift"]), float(fit.errors["drift"])
            gained = max(found - float(fit.fval), 0.0)
            chance = float(chi2_law.sf(gained, 1))
            if drift**2 > (2 * gained + 1) * error**2:
                # no parabola, as for an efficiency near 1: the error that the likelihood ratio gives
                error = abs(drift) / np.sqrt(gained) if gained > 0 else np.nan
    return Constancy(mean, found, ndf, p_value, how, drift, error, chance)
