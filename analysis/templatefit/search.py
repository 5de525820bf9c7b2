"""Search of the minimum with MINUIT, and its covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from iminuit import Minuit
from numpy.typing import NDArray

from analysis.templatefit.model import FitModel
from analysis.templatefit.problem import FitSettings, Problem

__all__ = ["Minimum", "minimise"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Minimum:
    """Where the search ended."""

    parameters: FloatArray
    covariance: FloatArray
    raw: FloatArray
    deviance: float
    edm: float
    valid: bool
    bounded: NDArray[np.bool_]

    @property
    def determined(self) -> bool:
        """Whether the data fix all parameters that were free."""
        return bool(np.isfinite(self.covariance).all())


def minimise(
    problem: Problem, settings: FitSettings, coefficients: FloatArray | None = None
) -> Minimum:
    """Search the minimum; ``coefficients`` of shifts and width are kept if given."""
    model, start = problem.model, problem.start
    n, shared, k = model.size, model.n_shared, model.shift.shape[1]
    first = np.zeros(shared)
    if k:
        weight = np.sqrt(np.maximum(start[1], 1.0))[:, None]
        first[:k] = np.linalg.lstsq(weight * model.shift, weight[:, 0] * start[2], rcond=None)[0]
    if model.width.shape[1]:
        first[k] = 1.0
    kept = np.zeros(2 * n + shared, dtype=np.bool_)
    if settings.fixed is not None:
        first[:k], kept[2 * n : 2 * n + k] = settings.fixed, True
    if coefficients is not None:
        first, kept[2 * n :] = coefficients, True
    parameters = np.concatenate([start[0], start[1], first])
    search = _search(model, parameters, kept, clamped=settings.clamped)
    parameters = np.array(search.values)
    bounded = np.zeros(parameters.size, dtype=np.bool_)
    if settings.clamped:
        bounded[: 2 * n] = parameters[: 2 * n] <= 1e-2
    raw, covariance = model.covariances(parameters, ~(kept | bounded))
    return Minimum(
        parameters=parameters,
        covariance=covariance,
        raw=raw,
        deviance=model.evaluate(parameters)[0],
        edm=float(search.fmin.edm),
        valid=bool(search.valid) and bool(np.isfinite(covariance).all()),
        bounded=bounded,
    )


def _search(
    model: FitModel, parameters: FloatArray, kept: NDArray[np.bool_], *, clamped: bool
) -> Minuit:
    """Run MIGRAD with the analytic gradient, and again from where it stopped if it did not converge."""
    seen: dict[bytes, tuple[float, FloatArray]] = {}

    def at(p: FloatArray) -> tuple[float, FloatArray]:
        key = p.tobytes()
        if key not in seen:  # value and gradient of a point are asked for one after the other
            seen.clear()
            seen[key] = model.evaluate(p)
        return seen[key]

    n = model.size
    search = Minuit(lambda p: at(p)[0], parameters, grad=lambda p: at(p)[1])
    search.errordef = Minuit.LEAST_SQUARES
    search.strategy = 0
    search.print_level = -1  # a failure is told by the result, not on the terminal
    curvature = np.diag(model.curvature(parameters))
    search.errors = np.sqrt(2.0 / np.maximum(curvature, 1e-12))
    search.fixed = kept
    if clamped:
        search.limits = [(0.0, None)] * (2 * n) + [(None, None)] * model.n_shared
    search.migrad()
    if not search.valid:
        search.strategy = 1
        search.migrad()
    return search
