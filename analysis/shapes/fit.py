r"""Fit of analytic shapes to weighted histograms in several energy bins together.

Likelihood: scaled Poisson (G. Bohm and G. Zech, NIM A 748 (2014) 1). With s = Σw²/Σw, the mean squared over
the mean weight, there are n = Σw/s effective counts and m = N p/s expected ones; p is the probability of
the bin and N, the yield of the energy bin, takes its best value :math:`\sum n / \sum (p/s)`. s is taken from
the bin and its neighbours: from the bin alone it would follow the fluctuation of the content and pull the fit.
The sum is the Poisson deviance 2 Σ [m − n + n ln(n/m)] (S. Baker and R. D. Cousins, NIM 221 (1984) 437).

Search: Fisher scoring with Levenberg-Marquardt damping. Each shape parameter of an energy bin is a linear
function of the coefficients, so that gradient and expected information follow from one numerical derivative
per shape parameter, however many coefficients there are. Covariance: the inverse of the expected information.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from analysis.shapes.forms import Form, cdf
from analysis.templates import Template

__all__ = ["Counts", "ShapeFit", "effective_counts", "fit_shapes", "merged_chi2"]

FloatArray = NDArray[np.float64]

_PEDESTAL = 1e-12  # probability added to every bin: data where the shape is 0 stay finite
_STEP = 1e-5  # of the numerical derivative
_LARGEST_STEP = 0.7  # of a coefficient in one iteration
_EDM = 0.01  # estimated distance to the minimum of the deviance at which the search ends
_PATIENCE = 5  # steps that together gain less than that: the search stands at the minimum
_STUCK = 1e8  # damping at which no step of any length lowers the deviance
_MAX_ITERATIONS = 300
_WINDOW = 8  # neighbours on either side from which the mean weight is taken


@dataclass(frozen=True, eq=False)
class Counts:
    """Effective counts of a template.

    Attributes:
        borders: (m + 1,) score borders with −inf and inf at the ends.
        n: (b, m) effective counts, flow bins included.
        scale: (b, m) weight of one effective count.
    """

    borders: FloatArray
    n: FloatArray
    scale: FloatArray

    def rows(self, chosen: NDArray[np.intp]) -> Counts:
        """Some energy bins."""
        return Counts(self.borders, self.n[chosen], self.scale[chosen])


@dataclass(frozen=True, eq=False)
class ShapeFit:
    """Outcome of a fit.

    Attributes:
        coefficients: (k,).
        covariance: (k, k).
        expected: (b, m) expected effective counts at the minimum.
        deviance: (b,) twice the negative log-likelihood ratio per energy bin.
        converged: whether the search ended at a minimum.
        iterations: of the search.
    """

    coefficients: FloatArray
    covariance: FloatArray
    expected: FloatArray
    deviance: FloatArray
    converged: bool
    iterations: int


def effective_counts(template: Template) -> Counts:
    """Effective counts of a template; negative contents count as none.

    Args:
        template: score distribution with Σw².

    Returns:
        Counts; energy bins without events have n = 0 and scale 1.
    """
    value = np.maximum(template.values, 0.0)
    kernel = np.ones(2 * _WINDOW + 1)
    near = [
        np.array([np.convolve(row, kernel, "same")[: row.size] for row in part])
        for part in (value, template.variances)
    ]
    filled = near[0] > 0
    scale = np.ones_like(value)
    scale[filled] = near[1][filled] / near[0][filled]
    for row, known in zip(scale, filled, strict=True):
        if known.any():
            at = np.flatnonzero(known)
            middle = (at[1:] + at[:-1] + 1) // 2  # from here the next filled bin is nearer
            row[:] = row[at[np.searchsorted(middle, np.arange(row.size), side="right")]]
    borders = np.concatenate([[-np.inf], template.omega_edges, [np.inf]])
    return Counts(borders, value / scale, scale)


def fit_shapes(
    counts: Counts,
    form: Form,
    design: Sequence[FloatArray],
    start: FloatArray,
    centre: FloatArray,
    width: FloatArray,
) -> ShapeFit:
    """Fit the coefficients of all shape parameters.

    Args:
        counts: effective counts of b energy bins.
        form: the shape.
        design: per shape parameter a (b, k_p) matrix; parameter = matrix @ its coefficients.
        start: (k,) coefficients at which the search starts, parameter after parameter.
        centre: (k,) centre of a Gaussian constraint on each coefficient.
        width: (k,) its width, inf for none. Wide constraints keep what the data do not determine in
            place; they are part of the covariance.

    Returns:
        The fit; look at ``converged``.
    """
    matrix = _full(design)
    weight = np.where(np.isfinite(width), 1.0 / width**2, 0.0)
    c = np.array(start, dtype=np.float64)
    value, gradient, information = _evaluate(counts, form, matrix, c, centre, weight)
    damping, converged, iteration = 1e-2, False, 0
    gains: list[float] = []
    while iteration < _MAX_ITERATIONS and not converged:
        iteration += 1
        diagonal = np.diag(np.diag(information) + 1e-12)
        step = -_solve(information + damping * diagonal, gradient)
        step = np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
        tried = _value(counts, form, matrix, c + step, centre, weight)
        if tried <= value:
            gain = value - tried
            c, damping = c + step, max(damping / 5, 1e-9)
            value, gradient, information = _evaluate(counts, form, matrix, c, centre, weight)
            edm = float(gradient @ _solve(information + 1e-9 * diagonal, gradient))
            # kinks of the shapes may keep the slope from vanishing: also stop where nothing is gained
            gains.append(gain)
            still = len(gains) >= _PATIENCE and sum(gains[-_PATIENCE:]) < _EDM
            converged = edm < _EDM or still
        else:
            damping *= 4
            converged = damping > _STUCK
    _, expected = _expected(counts, form, matrix @ c)
    return ShapeFit(
        coefficients=c,
        covariance=_inverse(information),
        expected=expected,
        deviance=_deviance(counts.n, expected),
        converged=bool(converged),
        iterations=iteration,
    )


def merged_chi2(
    n: FloatArray, expected: FloatArray, minimum: float = 10.0
) -> tuple[float, int, list[int]]:
    """Pearson's χ² on neighbouring bins merged until each expects so many effective counts.

    Args:
        n: (m,) effective counts.
        expected: (m,) expected ones with the same sum.
        minimum: expectation of a merged bin.

    Returns:
        χ², the number of merged bins and the first bin of each.
    """
    first, sums = [0], [0.0]
    for i, value in enumerate(expected):
        if sums[-1] >= minimum and expected[i:].sum() >= minimum:
            first.append(i)
            sums.append(0.0)
        sums[-1] += value
    observed = np.add.reduceat(n, first)
    mean = np.maximum(np.add.reduceat(expected, first), 1e-12)
    return float(np.sum((observed - mean) ** 2 / mean)), len(first), first


def _full(design: Sequence[FloatArray]) -> FloatArray:
    """Parameters (b, p) from coefficients: a matrix (b, p, k)."""
    return np.stack([block_diag(*(m[i : i + 1] for m in design)) for i in range(len(design[0]))])


def _expected(counts: Counts, form: Form, parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
    """p/s and m, shape (b, m)."""
    p = np.diff(cdf(form, counts.borders, parameters), axis=1) + _PEDESTAL
    share = p / counts.scale
    total = counts.n.sum(axis=1, keepdims=True) / share.sum(axis=1, keepdims=True)
    return share, total * share


def _deviance(n: FloatArray, m: FloatArray) -> FloatArray:
    """Per energy bin; the yields are the best, so Σm = Σn."""
    ratio = np.where(n > 0, n, 1.0) / np.where(n > 0, np.maximum(m, 1e-300), 1.0)
    return np.asarray(2.0 * np.sum(n * np.log(ratio), axis=1))


def _value(
    counts: Counts,
    form: Form,
    matrix: FloatArray,
    c: FloatArray,
    centre: FloatArray,
    weight: FloatArray,
) -> float:
    _, m = _expected(counts, form, matrix @ c)
    return float(_deviance(counts.n, m).sum() + np.sum(weight * (c - centre) ** 2))


def _evaluate(
    counts: Counts,
    form: Form,
    matrix: FloatArray,
    c: FloatArray,
    centre: FloatArray,
    weight: FloatArray,
) -> tuple[float, FloatArray, FloatArray]:
    """Deviance with constraints, half its gradient, expected information (of the log-likelihood)."""
    parameters = matrix @ c
    share, m = _expected(counts, form, parameters)
    # d m at fixed yield; the yield has its best value, its own derivative drops out of the gradient
    slopes = np.empty((parameters.shape[1], *m.shape))
    for i in range(parameters.shape[1]):
        moved = parameters.copy()
        moved[:, i] += _STEP
        p = np.diff(cdf(form, counts.borders, moved), axis=1) + _PEDESTAL
        slopes[i] = (p / counts.scale / share - 1.0) / _STEP  # d ln m
    pull = np.einsum("pbm,bm->bp", slopes, m - counts.n)
    weighted = slopes * m
    block = np.matmul(weighted.transpose(1, 0, 2), slopes.transpose(1, 2, 0))
    by_yield = weighted.sum(axis=2).T
    total = np.maximum(m.sum(axis=1), 1e-300)
    block -= by_yield[:, :, None] * by_yield[:, None, :] / total[:, None, None]
    k = c.size
    gradient = np.einsum("bpk,bp->k", matrix, pull) + weight * (c - centre)
    information = matrix.reshape(-1, k).T @ (block @ matrix).reshape(-1, k) + np.diag(weight)
    value = float(_deviance(counts.n, m).sum() + np.sum(weight * (c - centre) ** 2))
    return value, gradient, information


def _solve(matrix: FloatArray, right: FloatArray) -> FloatArray:
    """Least-squares solution, scaled to unit diagonal: coefficients differ by orders of magnitude."""
    size = 1.0 / np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    scaled = matrix * size[:, None] * size
    return np.asarray(size * np.linalg.lstsq(scaled, right * size, rcond=1e-13)[0])


def _inverse(matrix: FloatArray) -> FloatArray:
    """Symmetric pseudo-inverse, scaled to unit diagonal."""
    size = 1.0 / np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    inverse = np.linalg.pinv(matrix * size[:, None] * size, rcond=1e-13, hermitian=True)
    out = inverse * size[:, None] * size
    return np.asarray(0.5 * (out + out.T))
