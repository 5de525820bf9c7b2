"""Fits of spectral models to a flux, their profiles and contours.

Minuit (F. James and M. Roos, Comput. Phys. Commun. 10 (1975) 343) through iminuit; start values from
a search over many starts, so that a second minimum is not missed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from iminuit import Minuit
from numpy.typing import NDArray

from analysis.exceptions import AnalysisError
from analysis.spectrum.cost import (
    Cost,
    FitOptions,
    Response,
    counting_deviance,
    make_cost,
    minimise,
)
from analysis.spectrum.data import BreakData
from analysis.spectrum.models import SpectralModel
from analysis.spectrum.search import bounds, first_minimum, null_model

__all__ = [
    "BreakFit",
    "contour",
    "fit",
    "profile",
]

FloatArray = NDArray[np.float64]

_AT_LIMIT = 1e-6


@dataclass(frozen=True, eq=False)
class BreakFit:
    """A fit of one model; arrays of parameters have shape (n_par,), of bins (n_bins,).

    Attributes:
        model: the spectral model.
        options: what was minimised.
        data: the bins that were used.
        values: parameters, in the order of ``model.parameters``.
        errors: standard errors from the second derivatives; NaN for a parameter at its limit.
        minos: (n_par, 2) distances to the lower and upper end of the profile-likelihood interval;
            NaN where there is no end inside the limits.
        covariance: (n_par, n_par).
        cost: χ², or −2 ln of the likelihood ratio, with the prior terms.
        ndf: bins less parameters, nuisance parameters counted.
        valid: Minuit found a minimum with a positive definite, accurate covariance.
        at_limit: parameters at a limit of the search.
        nuisances: (n_nuisances,) fitted scale factors.
        nuisance_sigma: (n_nuisances,) widths of their priors.
        expected: fitted model in the units of the data: flux, or counts for the Poisson fit.
        pulls: (data − expected)/error; the signed root of the deviance for the Poisson fit.
        message: why the fit is not valid, else empty.
    """

    model: SpectralModel
    options: FitOptions
    data: BreakData
    values: FloatArray
    errors: FloatArray
    minos: FloatArray
    covariance: FloatArray
    cost: float
    ndf: int
    valid: bool
    at_limit: tuple[str, ...]
    nuisances: FloatArray
    nuisance_sigma: FloatArray
    expected: FloatArray
    pulls: FloatArray
    message: str = ""

    @property
    def theta(self) -> FloatArray:
        """Internal parameters, then nuisance parameters."""
        return np.concatenate((self.model.internal(self.values), self.nuisances))

    def band(self, energy_gev: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Flux of the model and its standard error, by linear propagation of the covariance.

        Args:
            energy_gev: (n,) energies.

        Returns:
            Flux and error, (n,) each; the nuisance parameters are not applied.
        """
        theta = self.model.internal(self.values)
        log_flux, gradient = self.model.log_flux(theta, np.log(energy_gev))
        scale = np.where(self.model.logarithmic, self.values, 1.0)
        inner = np.nan_to_num(self.covariance) / np.outer(scale, scale)
        flux = np.exp(log_flux)
        variance = np.einsum("in,ij,jn->n", gradient, inner, gradient)
        return flux, flux * np.sqrt(np.maximum(variance, 0.0))


def fit(
    data: BreakData,
    model: SpectralModel,
    options: FitOptions | None = None,
    *,
    response: Response | None = None,
    minos: bool = True,
) -> BreakFit:
    """Fit a spectral model.

    Args:
        data: the bins to be fitted, see :func:`analysis.spectrum.data.select`.
        model: spectral model.
        options: what is minimised; default least squares with errors in quadrature.
        response: migration of energies, Poisson only.
        minos: also find the profile-likelihood interval of each parameter.

    Returns:
        The fit; one that did not converge has ``valid`` False.

    Raises:
        AnalysisError: too few bins, or a column that the method needs is missing.
    """
    options = options or FitOptions()
    cost = make_cost(data, model, options, response)
    theta = first_minimum(data, cost, make_cost(data, null_model(model), options, response))
    low, high = bounds(cost, data)
    at_limit = (theta - low < _AT_LIMIT) | (high - theta < _AT_LIMIT)
    names = [*model.parameters, *(f"w{j}" for j in range(cost.sigma.size))]

    def value(x: FloatArray) -> float:
        return float(cost.evaluate(x, cost.target, cost.error)[0])

    def gradient(x: FloatArray) -> FloatArray:
        return 2 * cost.evaluate(x, cost.target, cost.error)[1]

    minuit = Minuit(value, theta, grad=gradient, name=names)
    minuit.errordef = Minuit.LEAST_SQUARES
    minuit.strategy = 2
    for i, name in enumerate(names):
        # Limits far away would only bend the coordinates of Minuit.
        if name.startswith(("break", "cutoff", "smoothness")):
            minuit.limits[name] = (low[i], high[i])
        elif name not in model.parameters:
            minuit.limits[name] = (low[i], None)
        minuit.fixed[name] = bool(at_limit[i])
    minuit.tol = 1e-3
    minuit.migrad(ncall=20_000)
    minuit.hesse()
    p = len(model.parameters)
    x = np.array(minuit.values)
    inner = _covariance(gradient, x, ~at_limit)[:p, :p]
    positive = bool(np.all(np.diag(inner)[~at_limit[:p]] > 0))
    valid = bool(minuit.valid and minuit.accurate and positive)
    values = model.external(x[:p])
    scale = np.where(model.logarithmic, values, 1.0)
    covariance = inner * np.outer(scale, scale)
    expected = cost.predict(x)[0]
    return BreakFit(
        model=model,
        options=options,
        data=data,
        values=values,
        errors=np.sqrt(np.where(np.diag(covariance) > 0, np.diag(covariance), np.nan)),
        minos=_minos(minuit, model, values, valid and minos),
        covariance=covariance,
        cost=float(minuit.fval),
        ndf=cost.ndf,
        valid=valid,
        at_limit=tuple(name for name, at in zip(names, at_limit, strict=True) if at),
        nuisances=x[p:],
        nuisance_sigma=cost.sigma,
        expected=expected,
        pulls=_pulls(cost, expected),
        message="" if valid else _why(minuit),
    )


def profile(
    found: BreakFit, parameter: str, values: FloatArray, *, response: Response | None = None
) -> FloatArray:
    """Smallest cost with one parameter held, less the cost of the fit.

    Args:
        found: the fit.
        parameter: name of a parameter of its model.
        values: (n,) where to hold it.
        response: that of the fit.

    Returns:
        (n,) Δχ² or −2 Δ ln L; not below 0 unless the fit missed its minimum.
    """
    return _held(found, {parameter: np.asarray(values, np.float64)}, response)


def contour(
    found: BreakFit,
    parameters: tuple[str, str],
    x: FloatArray,
    y: FloatArray,
    *,
    response: Response | None = None,
) -> FloatArray:
    """Smallest cost with two parameters held, less the cost of the fit.

    Args:
        found: the fit.
        parameters: two names of parameters of its model.
        x: (nx,) values of the first.
        y: (ny,) values of the second.
        response: that of the fit.

    Returns:
        (ny, nx) Δχ² or −2 Δ ln L.
    """
    xx, yy = np.meshgrid(x, y)
    held = {parameters[0]: xx.ravel(), parameters[1]: yy.ravel()}
    return _held(found, held, response).reshape(xx.shape)


def _held(found: BreakFit, held: dict[str, FloatArray], response: Response | None) -> FloatArray:
    names = found.model.parameters
    unknown = [name for name in held if name not in names]
    if unknown:
        msg = f"{found.model.name} has no parameter {unknown[0]!r}; it has: {', '.join(names)}"
        raise AnalysisError(msg)
    cost = make_cost(found.data, found.model, found.options, response)
    starts = [found.theta]
    if found.model.breaks == 1:
        starts += _other_starts(found, cost, held)
    size = len(next(iter(held.values())))
    best = np.full(size, np.inf)
    for start in starts:
        low, high = (np.tile(limit, (size, 1)) for limit in bounds(cost, found.data))
        for name, values in held.items():
            at = names.index(name)
            inner = np.log(values) if found.model.logarithmic[at] else values
            low[:, at] = high[:, at] = inner
        data = (np.tile(cost.target, (size, 1)), np.tile(cost.error, (size, 1)))
        best = np.minimum(best, minimise(cost, np.tile(start, (size, 1)), *data, low, high).cost)
    return best - found.cost


def _other_starts(found: BreakFit, cost: Cost, held: dict[str, FloatArray]) -> list[FloatArray]:
    """Starts away from the best fit: far from it another break can be the best one."""
    at = found.model.parameters.index("break_gev")
    low, high = (limit[at] for limit in bounds(cost, found.data))
    below, above = found.theta[1:3]
    starts = []
    for index1, index2 in ((below, below + 0.6), (below, below - 0.6), (above + 0.3, above)):
        for share in (0.5,) if "break_gev" in held else (0.1, 0.35, 0.6, 0.8, 0.95):
            start = found.theta.copy()
            start[1:3], start[at] = (index1, index2), low + share * (high - low)
            starts.append(start)
    return starts


def _covariance(
    gradient: Callable[[FloatArray], FloatArray], x: FloatArray, free: NDArray[np.bool_]
) -> FloatArray:
    """Twice the inverse of the second derivatives of a χ², (size, size); NaN where not free.

    Central differences of the exact gradient: Minuit's own are good to a few per cent only.
    """
    out = np.full((x.size, x.size), np.nan)
    places = np.flatnonzero(free)
    step = 1e-5
    columns = []
    for i in places:
        shift = np.zeros(x.size)
        shift[i] = step
        columns.append((gradient(x + shift) - gradient(x - shift))[places] / (2 * step))
    hessian = np.array(columns)
    if np.linalg.cond(hessian) < 1e14:
        out[np.ix_(places, places)] = 2 * np.linalg.inv((hessian + hessian.T) / 2)
    return out


def _minos(minuit: Minuit, model: SpectralModel, values: FloatArray, wanted: bool) -> FloatArray:
    """Distances to the ends of the profile-likelihood intervals, (n_par, 2)."""
    out = np.full((len(values), 2), np.nan)
    if not wanted:
        return out
    for i, name in enumerate(model.parameters):
        if minuit.fixed[name]:
            continue
        minuit.minos(name)
        error = minuit.merrors[name]
        for side, (ok, step) in enumerate(
            ((error.lower_valid, error.lower), (error.upper_valid, error.upper))
        ):
            if ok:
                end = values[i] * np.exp(step) if model.logarithmic[i] else values[i] + step
                out[i, side] = abs(end - values[i])
    return out


def _pulls(cost: Cost, expected: FloatArray) -> FloatArray:
    """Deviation of each bin in standard deviations."""
    if not cost.poisson:
        return np.asarray((cost.target - expected) / cost.error)
    n, mu = cost.target, np.maximum(expected, 1e-12)
    deviance = counting_deviance(n, mu, cost.error)
    return np.asarray(np.sign(n - mu) * np.sqrt(np.maximum(deviance, 0.0)))


def _why(minuit: Minuit) -> str:
    """What is wrong with a minimum."""
    state = minuit.fmin
    reasons: Sequence[tuple[bool, str]] = (
        (state.has_reached_call_limit, "call limit reached"),
        (state.is_above_max_edm, f"estimated distance to the minimum {state.edm:.2g} is too large"),
        (not state.has_posdef_covar, "second derivatives are not positive definite"),
        (not state.has_accurate_covar, "covariance is not accurate"),
    )
    return "; ".join(text for wrong, text in reasons if wrong) or "no error could be computed"
