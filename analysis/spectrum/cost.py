r"""The cost that a spectral fit minimises, and its minimum for many data sets at once.

Three methods, with the model m_i, flux F_i and nuisance parameters w_j, one per interval in log E:

* ``quadrature``: Σ (m − F)²/(stat² + sys²);
* ``nuisance``: Σ (m w_j − F)²/stat² + Σ ((1 − w_j)/σ_j)²;
* ``poisson``: 2 Σ (μ − N + N ln(N/μ)) + Σ ((1 − w_j)/σ_j)², the likelihood ratio of S. Baker and
  R. D. Cousins, NIM 221 (1984) 437, with μ = A ε T ∫Φ dE · w_j + f N, or without f N and over 1 − f.

Nuisance parameters as scale factors of energy intervals follow the Fermi-LAT collaboration, PRD 95,
082007 (2017).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from analysis.exceptions import AnalysisError
from analysis.spectrum.data import BreakData
from analysis.spectrum.models import SpectralModel, quadrature

__all__ = [
    "METHODS",
    "Cost",
    "FitOptions",
    "Minimum",
    "Response",
    "counting_deviance",
    "make_cost",
    "minimise",
]

FloatArray = NDArray[np.float64]
Method = Literal["quadrature", "nuisance", "poisson"]

METHODS: tuple[Method, ...] = ("quadrature", "nuisance", "poisson")

_TINY = 1e-12  # expected counts below this are as good as none
_EXACT = 1e-7  # a smaller relative error of an expectation is none
_LARGEST = 100.0  # of ln flux: squares of more would overflow far from any minimum


@dataclass(frozen=True)
class FitOptions:
    """What is minimised.

    Attributes:
        method: one of :data:`METHODS`.
        nuisances: number of intervals, equal in log E between the first and the last edge.
        systematics: False: statistical errors only (no nuisance parameters).
        bin_average: compare the flux with the model averaged over the bin, not at ``e_ref``; the
            Poisson fit always integrates.
        background: of the Poisson fit. ``additive``: f N protons, known, beside the electrons, as in
            the error of the flux, for f N comes from the control region and does not move with N;
            ``factor``: a fixed share, μ = S/(1 − f).
    """

    method: Method = "quadrature"
    nuisances: int = 6
    systematics: bool = True
    bin_average: bool = False
    background: Literal["additive", "factor"] = "additive"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            msg = f"no fit method {self.method!r}; there are: {', '.join(METHODS)}"
            raise AnalysisError(msg)
        if self.nuisances < 0:
            msg = f"the number of nuisance parameters must not be negative, got {self.nuisances}"
            raise AnalysisError(msg)


@dataclass(frozen=True, eq=False)
class Response:
    """Migration of selected events, for the Poisson fit.

    Attributes:
        acceptance: (n_reco, n_true) m² sr: acceptance for a flux in a true bin to be reconstructed
            in a bin of the table, before the score cut; replaces the acceptance column.
        true_edges_gev: (n_true + 1,) true energies, ascending.
    """

    acceptance: FloatArray
    true_edges_gev: FloatArray


def equivalent_events(relative_error: FloatArray) -> FloatArray:
    """Simulated events with the same relative error, 1/σ²; very many for none."""
    return np.asarray(1 / np.maximum(relative_error, _EXACT) ** 2)


def counting_deviance(
    counts: FloatArray, mean: FloatArray, relative_error: FloatArray
) -> FloatArray:
    """Deviance of counts with an expectation that has an error of its own, profiled.

    With k equivalent events behind the expectation (H. Dembinski and A. Abdelmotteleb, EPJC 82 (2022)
    1043); the Poisson deviance for none.

    Args:
        counts: observed.
        mean: expected, > 0.
        relative_error: of the expectation.

    Returns:
        Broadcast shape.
    """
    k = equivalent_events(relative_error)
    profiled = (counts + k) * np.log1p((counts - mean) / (mean + k))
    return np.asarray(2 * (special.xlogy(counts, counts / mean) - profiled))


@dataclass(frozen=True, eq=False)
class Cost:
    """A cost function of internal parameters and nuisance parameters, for one or many data sets.

    Attributes:
        model: spectral model; its parameters come first.
        poisson: Poisson counts, else Gaussian errors.
        ln_e: (n_nodes,) where the model is computed.
        weights: (n_bins, n_nodes), None: the model at ``ln_e``, one node per bin.
        offset: (n_bins,) added to the prediction.
        intervals: (n_bins, n_nuisances) 1 where a bin lies in an interval.
        sigma: (n_nuisances,) width of each prior around 1.
        target: (n_bins,) the data.
        error: (n_bins,) Gaussian errors; for Poisson counts the relative error of each expectation by itself.
    """

    model: SpectralModel
    poisson: bool
    ln_e: FloatArray
    weights: FloatArray | None
    offset: FloatArray
    intervals: FloatArray
    sigma: FloatArray
    target: FloatArray
    error: FloatArray

    @property
    def size(self) -> int:
        """Number of parameters, nuisance parameters included."""
        return len(self.model.parameters) + self.sigma.size

    @property
    def ndf(self) -> int:
        """Bins less parameters; every nuisance parameter counts, as in the 2017 publication."""
        return self.target.size - self.size

    def predict(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Expected data and their derivatives.

        Args:
            theta: (..., size) internal parameters, then nuisance parameters.

        Returns:
            (..., n_bins) and (..., size, n_bins).
        """
        p = len(self.model.parameters)
        log_flux, gradient = self.model.log_flux(theta[..., :p], self.ln_e)
        flux = np.exp(np.minimum(log_flux, _LARGEST))
        slopes = gradient * flux[..., None, :]
        if self.weights is not None:
            flux, slopes = flux @ self.weights.T, slopes @ self.weights.T
        if self.sigma.size:
            scale = 1.0 + (theta[..., p:] - 1.0) @ self.intervals.T
            slopes = np.concatenate(
                (slopes * scale[..., None, :], flux[..., None, :] * self.intervals.T), axis=-2
            )
            flux = flux * scale
        return flux + self.offset, slopes

    def evaluate(
        self, theta: FloatArray, target: FloatArray, error: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Cost, half its gradient and half its expected second derivatives.

        Args:
            theta: (..., size).
            target: (..., n_bins) data.
            error: (..., n_bins) Gaussian errors; relative ones of the expectation for Poisson.

        Returns:
            (...), (..., size), (..., size, size).
        """
        mu, slopes = self.predict(theta)
        if self.poisson:
            mu = np.maximum(mu, _TINY)
            k = equivalent_events(error)
            value = np.sum(counting_deviance(target, mu, error), axis=-1)
            pull = 1 + (target - mu) / (mu + k) - target / mu
            information = k / (mu * (mu + k))
        else:
            information = 1 / error**2
            value = np.sum((mu - target) ** 2 * information, axis=-1)
            pull = (mu - target) * information
        half = (slopes @ pull[..., None])[..., 0]
        fisher = (slopes * information[..., None, :]) @ np.swapaxes(slopes, -1, -2)
        if self.sigma.size:
            p = len(self.model.parameters)
            shift = (theta[..., p:] - 1) / self.sigma
            value = value + np.sum(shift**2, axis=-1)
            half[..., p:] += shift / self.sigma
            at = np.arange(p, self.size)
            fisher[..., at, at] += 1 / self.sigma**2
        return value, half, fisher


def make_cost(
    data: BreakData, model: SpectralModel, options: FitOptions, response: Response | None = None
) -> Cost:
    """Set up the cost function of a fit.

    The prior width σ_j is the mean of the relative systematic errors of the bins whose ``e_ref`` lies
    in interval j; intervals without a bin or without a systematic error have no parameter.

    Args:
        data: the bins to be fitted.
        model: spectral model.
        options: what is minimised.
        response: migration, Poisson only.

    Returns:
        The cost function.

    Raises:
        AnalysisError: too few bins, no counts or exposure for the Poisson fit, no statistical error
            for the others, or a response that does not fit.
    """
    poisson = options.method == "poisson"
    if response is not None and not poisson:
        msg = f"a response folds expected counts; the method {options.method!r} fits a flux"
        raise AnalysisError(msg)
    weights: FloatArray | None
    offset = np.zeros(len(data))
    error = data.stat
    if poisson:
        error = data.simulation
        ln_e, weights, offset = _counting(data, options, response)
        target, relative = data.counts, data.relative_sys
    else:
        _need(data, np.isfinite(data.stat) & (data.stat > 0), "no statistical error > 0")
        ln_e, weights = np.log(data.e_ref), None
        if options.bin_average:
            rule = quadrature(data.e_min, data.e_max)
            ln_e, weights = rule.ln_e, rule.weights / (data.e_max - data.e_min)[:, None]
        target = data.dnde
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(data.dnde > 0, data.sys / data.dnde, np.nan)
        if options.method == "quadrature" and options.systematics:
            error = np.hypot(data.stat, data.sys)
    count = options.nuisances if options.systematics and options.method != "quadrature" else 0
    intervals, sigma = _intervals(data, relative, count)
    cost = Cost(model, poisson, ln_e, weights, offset, intervals, sigma, target, error)
    if cost.ndf < 0 or len(data) < (4 if model.breaks else 2):
        msg = (
            f"{len(data)} bins are too few for the {cost.size} parameters of {model.name} "
            f"({sigma.size} of them nuisance parameters); widen the range or take fewer nuisances"
        )
        raise AnalysisError(msg)
    return cost


def _counting(
    data: BreakData, options: FitOptions, response: Response | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Nodes, weights from flux to counts, and additive background of the Poisson fit."""
    good = np.isfinite(data.counts) & np.isfinite(data.background_fraction)
    _need(data, good, "no counts with a background fraction")
    if options.background == "factor":
        _need(data, data.background_fraction < 1, "no background fraction below 1")
    _need(data, np.isfinite(data.exposure) & (data.exposure > 0), "no acceptance and livetime")
    if response is None:
        rule = quadrature(data.e_min, data.e_max)
        weights = data.exposure[:, None] * rule.weights
    else:
        edges = np.asarray(response.true_edges_gev, np.float64)
        shape = (len(data), edges.size - 1)
        if np.shape(response.acceptance) != shape:
            msg = (
                f"the response has shape {np.shape(response.acceptance)}; {shape[0]} fitted bins and "
                f"{edges.size} true edges need {shape}"
            )
            raise AnalysisError(msg)
        rule = quadrature(edges[:-1], edges[1:])
        _need(data, np.isfinite(data.acceptance) & (data.acceptance > 0), "no acceptance")
        per_area = data.exposure / data.acceptance
        weights = per_area[:, None] * (np.asarray(response.acceptance) @ rule.weights)
    if options.background == "additive":
        return rule.ln_e, weights, data.background_fraction * data.counts
    return rule.ln_e, weights / (1 - data.background_fraction)[:, None], np.zeros(len(data))


def _need(data: BreakData, good: NDArray[np.bool_], what: str) -> None:
    """Refuse bins that lack something, and say which."""
    if not good.all():
        i = int(np.flatnonzero(~good)[0])
        msg = (
            f"{data.name}: {int((~good).sum())} of {len(data)} bins have {what}, the first is "
            f"{data.e_min[i]:g}-{data.e_max[i]:g} GeV; choose another method, range or table"
        )
        raise AnalysisError(msg)


def _intervals(data: BreakData, relative: FloatArray, count: int) -> tuple[FloatArray, FloatArray]:
    """Membership of bins in the intervals, and the prior width of each."""
    if count == 0 or len(data) == 0:
        return np.zeros((len(data), 0)), np.zeros(0)
    edges = np.geomspace(data.e_min.min(), data.e_max.max(), count + 1)
    number = np.clip(np.searchsorted(edges, data.e_ref, side="right") - 1, 0, count - 1)
    columns, widths = [], []
    for j in range(count):
        inside = number == j
        known = relative[inside & np.isfinite(relative)]
        if known.size and known.mean() > 0:
            columns.append(inside.astype(np.float64))
            widths.append(float(known.mean()))
    if not widths:
        return np.zeros((len(data), 0)), np.zeros(0)
    return np.column_stack(columns), np.array(widths)


class Minimum(NamedTuple):
    """Minima of a batch of fits.

    Attributes:
        theta: (batch, size) internal parameters, then nuisance parameters.
        cost: (batch,) value there.
        converged: (batch,) no further decrease was to be expected.
    """

    theta: FloatArray
    cost: FloatArray
    converged: NDArray[np.bool_]


def minimise(
    cost: Cost,
    start: FloatArray,
    target: FloatArray,
    error: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    *,
    tolerance: float = 1e-5,
    iterations: int = 100,
) -> Minimum:
    """Minimise a batch of fits by Levenberg's and Marquardt's damped scoring, with bounds.

    Args:
        cost: the cost function.
        start: (batch, size) start values.
        target: (batch, n_bins) data of each fit.
        error: (batch, n_bins) Gaussian errors.
        lower: (batch, size) bounds; a parameter with equal bounds is fixed.
        upper: (batch, size).
        tolerance: a fit has converged when a step promises less than this.
        iterations: at most.

    Returns:
        The minima; local ones, so give several starts where there can be more than one.
    """
    theta = np.clip(start, lower, upper)
    value, half, fisher = cost.evaluate(theta, target, error)
    best, out, damping = value.copy(), theta.copy(), np.full(len(theta), 1e-3)
    converged = np.zeros(len(theta), dtype=np.bool_)
    run = np.arange(len(theta))  # the fits that still move; the arrays above hold these only
    diagonal = np.arange(cost.size)
    for _ in range(iterations):
        low, high = lower[run], upper[run]
        held = ((theta <= low) & (half >= 0)) | ((theta >= high) & (half <= 0))
        slope = np.where(held, 0.0, half)
        matrix = np.where(held[:, :, None] | held[:, None, :], 0.0, fisher)
        scale = matrix[:, diagonal, diagonal]
        matrix[:, diagonal, diagonal] = np.where(
            held,
            1.0,
            scale * (1 + damping[:, None]) + 1e-9 * (1 + scale.max(axis=1, keepdims=True)),
        )
        step = -np.linalg.solve(matrix, slope[..., None])[..., 0]
        outside = (theta + step < low) | (theta + step > high)
        if outside.any():
            # Parameters that would leave go to their limit, and the others know it.
            matrix = np.where(outside[:, :, None], np.eye(cost.size), matrix)
            to_limit = np.where(outside, np.clip(theta + step, low, high) - theta, -slope)
            step = np.linalg.solve(matrix, to_limit[..., None])[..., 0]
        trial = np.clip(theta + step, low, high)
        new, new_half, new_fisher = cost.evaluate(trial, target[run], error[run])
        promise = -np.sum(step * slope, axis=1)
        better = new < value
        # A damped step promises little wherever it is; only where it fails, too, is this a minimum.
        done = (promise < tolerance) & ((damping <= 1.0) | ~better) | (damping > 1e8)
        take = better[:, None]
        theta = np.where(take, trial, theta)
        value = np.where(better, new, value)
        half = np.where(take, new_half, half)
        fisher = np.where(take[..., None], new_fisher, fisher)
        damping = np.where(better, np.maximum(damping * 0.2, 1e-9), damping * 8)
        out[run], best[run], converged[run] = theta, value, done
        keep = ~done
        run, theta, value, half = run[keep], theta[keep], value[keep], half[keep]
        fisher, damping = fisher[keep], damping[keep]
        if not run.size:
            break
    return Minimum(out, best, converged)
