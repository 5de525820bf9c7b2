"""The best minimum of a spectral fit, searched from many starts, for many data sets at once."""

from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from analysis.exceptions import AnalysisError
from analysis.spectrum.cost import Cost, Minimum, minimise
from analysis.spectrum.data import BreakData
from analysis.spectrum.models import SpectralModel

__all__ = ["bounds", "first_minimum", "null_model", "power_law_guess", "search"]

FloatArray = NDArray[np.float64]

# The search tries break energies equally spaced in log E (for one break and for two) with changes of
# index, softening and hardening, goes a few steps from each and on from the best of either direction.
_PLACES = {1: 12, 2: 4}
_CHANGES = (0.3, 1.2, -0.3, -1.2)
_FIRST_STEPS = 8
_KEPT = 4
_LOW_SIDE = 0.2


def null_model(model: SpectralModel) -> SpectralModel:
    """Power law that a model contains."""
    return SpectralModel("power_law", e0_gev=model.e0_gev)


def bounds(cost: Cost, data: BreakData) -> tuple[FloatArray, FloatArray]:
    """Limits of the search: breaks with a bin on either side, cut-offs to 1000 times the range.

    Indices from -2 to 10: beyond, a break next to an end of the range frees a single bin.

    Args:
        cost: the cost function.
        data: the fitted bins.

    Returns:
        Lower and upper limits, (size,) each, internal coordinates.
    """
    low, high = np.log(data.e_min.min()), np.log(data.e_max.max())
    inside = (np.log(data.e_max.min()), np.log(data.e_min.max()))
    limits = {
        "break_gev": inside,
        "break2_gev": inside,
        "cutoff_gev": (low, high + np.log(1e3)),
        "smoothness": (np.log(0.01), np.log(2.0)),
        "norm": (-300.0, 300.0),
    }
    pairs = [limits.get(name, (-2.0, 10.0)) for name in cost.model.parameters]
    # A scale factor must stay positive, else counts would not.
    pairs += [(1e-3, 1e3)] * cost.sigma.size
    lower, upper = np.array(pairs).T
    return lower, upper


def search(
    null: Cost,
    cost: Cost,
    data: BreakData,
    start: FloatArray,
    target: FloatArray,
    error: FloatArray,
) -> tuple[Minimum, Minimum, Minimum]:
    """Minima of the power law and of a model that contains it, for a batch of data sets.

    Args:
        null: cost of the power law.
        cost: cost of the model; same data.
        data: the fitted bins.
        start: (2,) internal parameters of the power law to start from.
        target: (batch, n_bins) data.
        error: (batch, n_bins) errors.

    Returns:
        The power law; the model, never worse than the power law; the model with its last index not
        below the first (a softening), never worse either.
    """
    batch = len(target)
    begin = np.concatenate((start, np.ones(null.sigma.size)))
    low, high = bounds(null, data)
    shape = (batch, null.size)
    base = minimise(
        null, np.tile(begin, (batch, 1)), target, error,
        np.broadcast_to(low, shape), np.broadcast_to(high, shape),
    )  # fmt: skip
    several = _starts(cost, data, base.theta)
    starts = several.reshape(batch, -1, cost.size)
    if starts.shape[1] > 2 * _KEPT:
        first = _minimise_all(cost, data, starts, target, error, iterations=_FIRST_STEPS)
        starts = _promising(cost, first, several.shape)
    found = _minimise_all(cost, data, starts, target, error)
    many = starts.shape[1]
    theta = found.theta.reshape(starts.shape)
    values = found.cost.reshape(batch, many)
    flags = found.converged.reshape(batch, many)
    softer = _softer(cost, theta)
    nested = _nested(cost, data, base.theta)
    out = []
    for allowed in (np.ones_like(softer), softer):
        best = np.where(allowed, values, np.inf).argmin(axis=1)
        rows = np.arange(batch)
        ok = allowed[rows, best] & (values[rows, best] < base.cost)
        out.append(
            Minimum(
                np.where(ok[:, None], theta[rows, best], nested),
                np.where(ok, values[rows, best], base.cost),
                np.where(ok, flags[rows, best], base.converged),
            )
        )
    return base, out[0], out[1]


def _minimise_all(
    cost: Cost,
    data: BreakData,
    starts: FloatArray,
    target: FloatArray,
    error: FloatArray,
    iterations: int = 100,
) -> Minimum:
    """Minimise from every start, (batch, n_starts, size); the result is flat."""
    many = starts.shape[1]
    shape = (len(starts) * many, cost.size)
    low, high = bounds(cost, data)
    return minimise(
        cost, starts.reshape(shape), np.repeat(target, many, axis=0),
        np.repeat(error, many, axis=0), np.broadcast_to(low, shape), np.broadcast_to(high, shape),
        iterations=iterations,
    )  # fmt: skip


def _softer(cost: Cost, theta: FloatArray) -> NDArray[np.bool_]:
    """Whether the last index is not below the first."""
    return np.asarray(theta[..., 1 + cost.model.breaks] >= theta[..., 1])


def _promising(cost: Cost, found: Minimum, shape: tuple[int, ...]) -> FloatArray:
    """The best points of either direction, from different places, (batch, 2 * kept, size)."""
    theta, values = found.theta.reshape(shape), found.cost.reshape(shape[:3])
    softer = _softer(cost, theta)
    out = []
    for side in (softer, ~softer):
        allowed = np.where(side, values, np.inf)
        best = allowed.argmin(axis=2)[:, :, None]
        points = np.take_along_axis(theta, best[..., None], axis=2)[:, :, 0]
        order = np.take_along_axis(allowed, best, axis=2)[..., 0].argsort(axis=1, kind="stable")
        out.append(np.take_along_axis(points, order[:, :_KEPT, None], axis=1))
    return np.concatenate(out, axis=1)


def _nested(cost: Cost, data: BreakData, theta: FloatArray) -> FloatArray:
    """The power law as a point of the model: all indices equal, cut-off at its limit."""
    model = cost.model
    out = np.empty((len(theta), cost.size))
    out[:, 0] = theta[:, 0] + model.breaks * model.smoothness * np.log(2.0)
    out[:, 1 : model.breaks + 2] = theta[:, 1, None]
    low, high = bounds(cost, data)
    for at, name in enumerate(model.parameters):
        if name.startswith("break"):
            out[:, at] = (low[at] + high[at]) / 2
        elif name == "cutoff_gev":
            out[:, at] = high[at]
        elif name == "smoothness":
            out[:, at] = np.log(model.smoothness)
    out[:, len(model.parameters) :] = theta[:, 2:]
    return out


def _starts(cost: Cost, data: BreakData, theta: FloatArray) -> FloatArray:
    """Start values around the power law of each data set, (batch, n_places, n_per_place, size)."""
    model = cost.model
    low, high = np.log(data.e_min.min()), np.log(data.e_max.max())
    shares = np.linspace(0.02, 0.98, _PLACES[model.breaks]) if model.breaks else np.zeros(0)
    cuts = [high, high + np.log(10.0)] if model.cutoff else [0.0]
    places = []
    for where in combinations(shares, model.breaks):
        rows = []
        energies = [low + (high - low) * share for share in where]
        for changes in product(_CHANGES, repeat=model.breaks):
            for cut in cuts:
                row = _nested(cost, data, theta)
                row[:, 0] = theta[:, 0]
                for k, (energy, change, share) in enumerate(
                    zip(energies, changes, where, strict=True)
                ):
                    row[:, model.breaks + 2 + k] = energy
                    if share > _LOW_SIDE:
                        row[:, k + 2 : model.breaks + 2] += change
                    else:  # the index changes below the break, the flux stays above
                        row[:, 1 : k + 2] -= change
                        row[:, 0] -= change * (energy - np.log(model.e0_gev))
                if model.cutoff:
                    row[:, 2 * model.breaks + 2] = cut
                rows.append(row)
        places.append(np.stack(rows, axis=1))
    return np.stack(places, axis=1)


def first_minimum(data: BreakData, cost: Cost, null: Cost) -> FloatArray:
    """Best point of the search on the data themselves, (size,)."""
    start = power_law_guess(data, cost.model.e0_gev)
    target, error = cost.target[None], cost.error[None]
    if cost.model == null.model:
        low, high = bounds(null, data)
        first = np.concatenate((start, np.ones(null.sigma.size)))
        only = minimise(null, first[None], target, error, low[None], high[None])
        return np.asarray(only.theta[0])
    found = np.asarray(search(null, cost, data, start, target, error)[1].theta[0])
    breaks = cost.model.breaks
    if breaks == 2 and found[4] > found[5]:  # the same function with the breaks in ascending order
        steps = np.diff(found[1:4])[::-1]
        found[2] = found[1] + steps[0]
        found[4], found[5] = found[5], found[4]
    return found


def power_law_guess(data: BreakData, e0_gev: float) -> FloatArray:
    """Straight line through the logarithms of the positive fluxes, weighted by their errors.

    Args:
        data: the bins to be fitted.
        e0_gev: energy of the norm.

    Returns:
        ln norm and index.

    Raises:
        AnalysisError: fewer than two bins with a positive flux.
    """
    good = (data.dnde > 0) & (data.stat > 0)
    if np.count_nonzero(good) < 2:
        msg = f"{data.name} has {np.count_nonzero(good)} bins with a flux in the range; two are needed"
        raise AnalysisError(msg)
    x = np.log(data.e_ref[good] / e0_gev)
    weight = data.dnde[good] / data.stat[good]
    slope, norm = np.polyfit(x, np.log(data.dnde[good]), 1, w=weight)
    return np.array([norm, -slope])
