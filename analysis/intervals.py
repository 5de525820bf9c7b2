r"""Confidence intervals for counts and efficiencies, all vectorised.

Counts: F. Garwood, Biometrika 28 (1936) 437. Unweighted efficiencies: C. J. Clopper and
E. S. Pearson, Biometrika 26 (1934) 404. Upper limit with background: O. Helene, NIM 212 (1983) 319
and G. Zech, NIM A 277 (1989) 608.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

__all__ = [
    "ONE_SIGMA",
    "Interval",
    "WeightedEfficiency",
    "clopper_pearson",
    "garwood",
    "upper_limit",
    "weighted_efficiency",
]

ONE_SIGMA = math.erf(1.0 / math.sqrt(2.0))
"""Probability within one standard deviation of a Gaussian, 0.6827."""

_SMALLEST = 1e-280  # below this the regularised gamma function is about to underflow
_NO_COUNT = 1e-9  # fewer counts than this have the lower end 0 to the precision of a float


class Interval(NamedTuple):
    """Lower and upper end of a confidence interval, same shape as the input."""

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


class WeightedEfficiency(NamedTuple):
    """A ratio of weighted sums with its error; every field has the shape of the input.

    Attributes:
        value: Σw(passed) / Σw(all); NaN where Σw(all) is not positive.
        error: standard deviation; where the sample cannot show it (0 or 100 %), the distance to the
            far end of the effective-count interval.
        lower: lower end of the effective-count Clopper-Pearson interval.
        upper: upper end.
        effective_counts: number of unweighted events with the same binomial error.
    """

    value: NDArray[np.float64]
    error: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    effective_counts: NDArray[np.float64]


def garwood(counts: ArrayLike, level: float = ONE_SIGMA) -> Interval:
    r"""Central interval of a Poisson mean: probability (1 − level)/2 on either side.

    The ends are :math:`\tfrac12\chi^2_{\alpha/2}(2n)` and
    :math:`\tfrac12\chi^2_{1-\alpha/2}(2n+2)` (Garwood 1936), written with incomplete gamma
    functions, so that non-integer counts (an Asimov sample) are allowed. Zero counts: lower end 0.

    Args:
        counts: observed counts, any shape, finite and >= 0.
        level: probability content, default 68.27 %.

    Returns:
        Interval of the mean, in counts.

    Raises:
        ValueError: a count is negative or not finite, or level is not in (0, 1).
    """
    n = _counts(counts)
    tail = (1.0 - _level(level)) / 2.0
    some = n > _NO_COUNT
    lower = np.where(some, special.gammaincinv(np.where(some, n, 1.0), tail), 0.0)
    return Interval(lower, np.asarray(special.gammainccinv(n + 1.0, tail), dtype=np.float64))


def upper_limit(
    counts: ArrayLike, background: ArrayLike = 0.0, level: float = 0.95
) -> NDArray[np.float64]:
    r"""Upper limit on a Poisson signal over a known background.

    Solves :math:`P(k \le n; s+b) = (1-\mathrm{level})\,P(k \le n; b)`: the limit of Helene and Zech,
    equal to CLs for a counting experiment and to the Bayesian limit with a flat prior in s >= 0.
    It is never negative and over-covers when n fluctuates below b. The background is taken as
    exactly known.

    Args:
        counts: observed counts, finite and >= 0.
        background: expected background counts, >= 0, broadcast against counts.
        level: confidence level.

    Returns:
        Limit on the signal in counts. Where P(k <= n; b) is too small for a float (n many standard
        deviations below b) the bound −ln(1 − level)/(1 − n/b), slightly above the exact limit.

    Raises:
        ValueError: negative or non-finite input, or level not in (0, 1).
    """
    n, b = np.broadcast_arrays(_counts(counts), _counts(background, "background"))
    alpha = 1.0 - _level(level)
    below = special.gammaincc(n + 1.0, b)
    deep = below < _SMALLEST
    exact = special.gammainccinv(n + 1.0, np.where(deep, 1.0, alpha * below)) - b
    bound = -math.log(alpha) / (1.0 - n / np.where(deep, b, np.inf))
    return np.asarray(np.where(deep, bound, exact), dtype=np.float64)


def clopper_pearson(passed: ArrayLike, total: ArrayLike, level: float = ONE_SIGMA) -> Interval:
    """Central interval of an efficiency from unweighted counts (Clopper and Pearson 1934).

    Not for sums of weights: use :func:`weighted_efficiency` there.

    Args:
        passed: events that passed, 0 <= passed <= total.
        total: all events, same or broadcastable shape.
        level: probability content, default 68.27 %.

    Returns:
        Interval of the efficiency; (0, 1) where total is 0.

    Raises:
        ValueError: negative or non-finite counts, passed > total, or level not in (0, 1).
    """
    k, n = np.broadcast_arrays(_counts(passed, "passed"), _counts(total, "total"))
    if np.any(k > n):
        msg = f"passed counts exceed the total in {np.count_nonzero(k > n)} entries; swap them?"
        raise ValueError(msg)
    tail = (1.0 - _level(level)) / 2.0
    failed = n - k
    lower = special.betaincinv(np.where(k > 0, k, 1.0), failed + 1.0, tail)
    upper = special.betainccinv(k + 1.0, np.where(failed > 0, failed, 1.0), tail)
    return Interval(
        np.asarray(np.where(k > 0, lower, 0.0), dtype=np.float64),
        np.asarray(np.where(failed > 0, upper, 1.0), dtype=np.float64),
    )


def weighted_efficiency(
    passed: ArrayLike,
    passed_sumw2: ArrayLike,
    total: ArrayLike,
    total_sumw2: ArrayLike,
    level: float = ONE_SIGMA,
) -> WeightedEfficiency:
    r"""Efficiency of a cut from weighted events.

    Passed events are part of all events, so the two sums are correlated. With the independent
    passed and failed sums, :math:`V_f = V_t - V_p`, linear propagation gives

    .. math:: \sigma^2 = [(1-\varepsilon)^2 V_p + \varepsilon^2 V_f] / W^2,

    which is the binomial :math:`\varepsilon(1-\varepsilon)/n` for unit weights. The interval is the
    Clopper-Pearson one with :math:`n_\mathrm{eff} = \varepsilon(1-\varepsilon)/\sigma^2` effective
    events (W²/V_t where σ vanishes). For weights this is an approximation: its coverage is not
    guaranteed, in particular with few events of very different weight.

    Args:
        passed: Σw of passed events.
        passed_sumw2: Σw² of passed events.
        total: Σw of all events.
        total_sumw2: Σw² of all events.
        level: probability content of the interval.

    Returns:
        Value, error, interval and effective counts; NaN where ``total`` is not positive.

    Raises:
        ValueError: passed > total, passed Σw² > total Σw² or negative or non-finite input.
    """
    names = ("passed", "passed_sumw2", "total", "total_sumw2")
    sums = (passed, passed_sumw2, total, total_sumw2)
    wp, vp, wt, vt = np.broadcast_arrays(
        *(_counts(x, name) for x, name in zip(sums, names, strict=True))
    )
    slack = 1.0 + 1e-9  # sums of the same numbers in another order
    if np.any(wp > wt * slack) or np.any(vp > vt * slack):
        msg = "passed sums of weights exceed those of all events; passed must be a subset of all"
        raise ValueError(msg)
    good = (wt > 0) & (vt > 0)
    w, v = np.where(good, wt, 1.0), np.where(good, vt, 1.0)
    value = np.clip(wp / w, 0.0, 1.0)
    variance = ((1.0 - value) ** 2 * vp + value**2 * np.maximum(v - vp, 0.0)) / w**2
    inside = good & (variance > 0) & (value > 0) & (value < 1)
    n_eff = np.where(inside, value * (1 - value) / np.where(inside, variance, 1.0), w**2 / v)
    lower, upper = clopper_pearson(value * n_eff, n_eff, level)
    error = np.where(inside, np.sqrt(variance), np.maximum(value - lower, upper - value))
    return WeightedEfficiency(
        *(np.where(good, x, np.nan) for x in (value, error, lower, upper, n_eff))
    )


def _counts(values: ArrayLike, name: str = "counts") -> NDArray[np.float64]:
    """Return a float array after checking that it is finite and not negative."""
    array = np.asarray(values, dtype=np.float64)
    bad = ~np.isfinite(array) | (array < 0)
    if np.any(bad):
        msg = f"{name} must be finite and >= 0, got {array[bad].flat[0]!r}"
        raise ValueError(msg)
    return array


def _level(level: float) -> float:
    """Return the probability after checking that it lies inside (0, 1)."""
    if not 0.0 < level < 1.0:
        msg = f"level must lie between 0 and 1, got {level!r}"
        raise ValueError(msg)
    return level
