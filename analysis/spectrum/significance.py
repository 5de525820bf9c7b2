"""How significant a break is: asymptotic formulas, and toys of the power law.

The break energy means nothing when there is no break, so that the theorem of S. S. Wilks (Ann. Math.
Statist. 9 (1938) 60) does not hold for a broken against a single power law (R. B. Davies, Biometrika 74
(1987) 33): the asymptotic value is a convention, the toys give the probability.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from analysis.exceptions import AnalysisError
from analysis.intervals import clopper_pearson
from analysis.spectrum.cost import Cost, Response, make_cost
from analysis.spectrum.data import BreakData
from analysis.spectrum.fit import BreakFit
from analysis.spectrum.search import search

__all__ = ["Significance", "Toys", "run_toys", "sigmas", "significance"]

FloatArray = NDArray[np.float64]

_CHUNK = 250  # toys fitted together; bounds the memory
_LIMIT_LEVEL = 0.95
_TAIL_TOYS = 100  # at least, for the slope of the tail


@dataclass(frozen=True)
class Significance:
    """A difference of two fits as a significance, by the asymptotic formula.

    Attributes:
        delta: χ² (or −2 ln L) of the power law less that of the model.
        extra: parameters that the model has more.
        p_value: probability that χ² with ``extra`` degrees of freedom exceeds delta.
        two_sided: standard deviations with that probability on both sides of a Gaussian.
        one_sided: the same on one side.
    """

    delta: float
    extra: int
    p_value: float
    two_sided: float
    one_sided: float


@dataclass(frozen=True, eq=False)
class Toys:
    """Δχ² of data sets drawn from the fitted power law.

    Attributes:
        observed: Δχ² of the data.
        delta: (n_toys,) Δχ² of the toys, >= 0; with breaks, in either direction.
        softening: (n_toys,) the same with the last index not below the first.
        extra: parameters that the model has more than the power law.
        exceeding: toys with delta >= observed.
        p_value: their share.
        interval: Clopper-Pearson interval of the share, 68.27 %.
        upper_limit: 95 % upper limit of the share.
        exceeding_softening: toys with softening >= observed.
        effective_ndf: mean of delta: the degrees of freedom of a χ² with that mean.
        effective_ndf_tail: degrees of freedom of the χ² with the same 95 % quantile.
        p_extrapolated: probability of observed if the highest toys fall exponentially, as χ² with two
            degrees of freedom does; NaN with fewer than 1000 toys or where observed is among them.
        p_extrapolated_interval: the same with the slope one standard error steeper and flatter; that
            the tail goes on as it began is an assumption.
        ks_p_value: Kolmogorov-Smirnov probability that delta follows χ² with ``extra``.
        not_converged: toys of which a fit did not converge; they are kept.
        seed: of the random numbers.
        errors: ``fixed`` or ``counts``, see :func:`run_toys`.
    """

    observed: float
    delta: FloatArray
    softening: FloatArray
    extra: int
    exceeding: int
    p_value: float
    interval: tuple[float, float]
    upper_limit: float
    exceeding_softening: int
    effective_ndf: float
    effective_ndf_tail: float
    p_extrapolated: float
    p_extrapolated_interval: tuple[float, float]
    ks_p_value: float
    not_converged: int
    seed: int
    errors: str


def sigmas(p_value: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Gaussian equivalents of a probability: two-sided and one-sided.

    Args:
        p_value: probabilities in (0, 1].

    Returns:
        z with P(|x| > z) = p, and z with P(x > z) = p, not below 0.
    """
    p = np.asarray(p_value, np.float64)
    return stats.norm.isf(p / 2), np.maximum(stats.norm.isf(p), 0.0)


def significance(null: BreakFit, alternative: BreakFit) -> Significance:
    """Significance of a model over the power law that it contains.

    Args:
        null: fit of the power law.
        alternative: fit of the model, same data and options.

    Returns:
        The significance; a negative difference counts as 0.

    Raises:
        AnalysisError: the fits differ in more than the model.
    """
    if null.options != alternative.options or not np.array_equal(
        null.data.e_min, alternative.data.e_min
    ):
        msg = "the two fits use other bins or options; compare fits that differ in the model alone"
        raise AnalysisError(msg)
    extra = len(alternative.values) - len(null.values)
    if extra < 1:
        msg = f"{alternative.model.name} has no more parameters than {null.model.name}"
        raise AnalysisError(msg)
    delta = max(null.cost - alternative.cost, 0.0)
    p_value = float(stats.chi2.sf(delta, extra))
    # 1e-300 and below: more than 37 standard deviations, all the same.
    two, one = sigmas(max(p_value, 1e-300))
    return Significance(delta, extra, p_value, float(two), float(one))


def run_toys(
    null: BreakFit,
    alternative: BreakFit,
    n_toys: int,
    seed: int,
    *,
    errors: Literal["fixed", "counts"] = "fixed",
    response: Response | None = None,
) -> Toys:
    """Draw data sets from the fitted power law and fit both models to each.

    Nuisance parameters are drawn from their priors (again where one is not positive) and the fit
    keeps the priors around 1. Without nuisance parameters the systematic errors of ``quadrature``
    fluctuate with the statistical ones, bin by bin. ``fixed`` errors: Gaussian fluxes with the errors
    of the data. ``counts``: Poisson counts around the power law, turned into fluxes whose errors come
    from the drawn counts, as in a measurement: low fluctuations get small errors.
    A Poisson fit always draws counts.

    Args:
        null: fit of the power law to the data.
        alternative: fit of the model that contains it.
        n_toys: number of data sets.
        seed: of the random numbers; the same seed gives the same toys.
        errors: where the errors of a least-squares fit come from.
        response: that of the fits.

    Returns:
        Δχ² of all toys with the share that exceeds that of the data.

    Raises:
        AnalysisError: no toys asked for, or no counts in the table for ``counts``.
    """
    if n_toys < 1:
        msg = f"the number of toys must be positive, got {n_toys}"
        raise AnalysisError(msg)
    if seed < 0:
        msg = f"the seed must not be negative, got {seed}"
        raise AnalysisError(msg)
    observed = significance(null, alternative)
    data = null.data
    base = make_cost(data, null.model, null.options, response)
    cost = make_cost(data, alternative.model, null.options, response)
    truth = null.model.internal(null.values)
    rng = np.random.default_rng(seed)
    delta, softening, lost = [], [], 0
    for first in range(0, n_toys, _CHUNK):
        size = min(_CHUNK, n_toys - first)
        target, error = _draw(base, data, null, truth, size, rng, errors)
        low, best, soft = search(base, cost, data, truth, target, error)
        delta.append(low.cost - best.cost)
        softening.append(low.cost - soft.cost)
        lost += int(np.count_nonzero(~(low.converged & best.converged)))
    return _summary(observed, np.concatenate(delta), np.concatenate(softening), lost, seed, errors)


def _draw(
    base: Cost,
    data: BreakData,
    null: BreakFit,
    truth: FloatArray,
    size: int,
    rng: np.random.Generator,
    errors: str,
) -> tuple[FloatArray, FloatArray]:
    """Data and errors of toys, (size, n_bins) each."""
    theta = np.tile(np.concatenate((truth, np.ones(base.sigma.size))), (size, 1))
    theta[:, truth.size :] = _priors(base.sigma, size, rng)
    error = np.broadcast_to(base.error, (size, base.target.size))
    if base.poisson:
        expected = base.predict(theta)[0] * _priors(np.maximum(base.error, 0.0), size, rng)
        return rng.poisson(expected).astype(np.float64), error
    if errors == "fixed":
        return rng.normal(base.predict(theta)[0], error), error
    if not np.all(np.isfinite(data.counts) & np.isfinite(data.exposure) & (data.exposure > 0)):
        msg = f"{data.name} lacks counts or exposure; draw its toys with errors 'fixed'"
        raise AnalysisError(msg)
    exposure = data.exposure * (data.e_max - data.e_min)
    background = data.background_fraction * data.counts
    signal = base.predict(theta)[0] * exposure
    spread = np.zeros(len(data))
    if null.options.method == "quadrature" and null.options.systematics:
        spread = np.where(data.dnde > 0, data.sys / np.where(data.dnde > 0, data.dnde, 1.0), 0.0)
        signal = np.maximum(signal * rng.normal(1.0, spread, signal.shape), 0.0)
    counts = rng.poisson(signal + background)
    flux = (counts - background) / exposure
    # No count: the error of one, else the bin would have infinite weight.
    return flux, np.hypot(np.sqrt(np.maximum(counts, 1)) / exposure, spread * flux)


def _priors(sigma: FloatArray, size: int, rng: np.random.Generator) -> FloatArray:
    """Scale factors drawn from their priors, positive ones only."""
    out = rng.normal(1.0, sigma, (size, sigma.size))
    while np.any(bad := out <= 0):
        out[bad] = rng.normal(1.0, np.broadcast_to(sigma, out.shape)[bad])
    return out


def _summary(
    observed: Significance,
    delta: FloatArray,
    softening: FloatArray,
    lost: int,
    seed: int,
    errors: str,
) -> Toys:
    """Shares, limits and comparison with χ²."""
    n = delta.size
    above = int(np.count_nonzero(delta >= observed.delta))
    inner = clopper_pearson(above, n)
    # A one-sided limit is the upper end of a central interval with half the probability outside.
    limit = clopper_pearson(above, n, 2 * _LIMIT_LEVEL - 1).upper
    tail = float(np.quantile(delta, 0.95))
    tail_p = _extrapolated(delta, observed.delta)
    return Toys(
        observed=observed.delta,
        delta=delta,
        softening=softening,
        extra=observed.extra,
        exceeding=above,
        p_value=above / n,
        interval=(float(inner.lower), float(inner.upper)),
        upper_limit=float(limit),
        exceeding_softening=int(np.count_nonzero(softening >= observed.delta)),
        effective_ndf=float(delta.mean()),
        effective_ndf_tail=_ndf_of_quantile(tail, 0.95),
        p_extrapolated=tail_p[0],
        p_extrapolated_interval=tail_p[1:],
        ks_p_value=float(stats.kstest(delta, stats.chi2(observed.extra).cdf).pvalue),
        not_converged=lost,
        seed=seed,
        errors=errors,
    )


def _extrapolated(delta: FloatArray, observed: float) -> tuple[float, float, float]:
    """Exponential through the highest toys: probability of observed, and its range.

    The slope is the mean excess over the threshold, the maximum-likelihood estimate (closed form).
    """
    highest = max(_TAIL_TOYS, delta.size // 100)
    ordered = np.sort(delta)
    threshold = float(ordered[-highest - 1]) if delta.size > highest else np.inf
    if delta.size < 10 * _TAIL_TOYS or observed <= ordered[-1]:
        return np.nan, np.nan, np.nan
    excess = float((ordered[-highest:] - threshold).mean())
    slopes = excess * (1 + np.array([0.0, -1.0, 1.0]) / np.sqrt(highest))
    best, low, high = highest / delta.size * np.exp(-(observed - threshold) / slopes)
    return float(best), float(low), float(high)


def _ndf_of_quantile(value: float, level: float) -> float:
    """Degrees of freedom of the χ² that has a quantile, by bisection in their logarithm."""
    low, high = np.log(1e-3), np.log(1e4)
    for _ in range(60):
        middle = (low + high) / 2
        if stats.chi2.ppf(level, np.exp(middle)) < value:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))
