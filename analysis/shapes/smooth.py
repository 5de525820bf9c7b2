r"""One kind of template: shape parameters as natural cubic splines in log10(E/TeV), with their covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from analysis.exceptions import AnalysisError
from analysis.shapes.forms import Form

__all__ = ["Goodness", "ParametrisationError", "Smooth", "log_tev", "spline_matrix"]

FloatArray = NDArray[np.float64]


class ParametrisationError(AnalysisError):
    """Templates that cannot be described, or a description that is malformed."""


def log_tev(energy_gev: ArrayLike) -> FloatArray:
    """log10(E/TeV)."""
    return np.log10(np.asarray(energy_gev, dtype=np.float64) / 1000.0)


def spline_matrix(knots: ArrayLike, x: ArrayLike) -> FloatArray:
    """Natural cubic spline as a matrix that acts on its values at the knots; linear outside them.

    Args:
        knots: (k,) ascending.
        x: (n,) places.

    Returns:
        (n, k).
    """
    at, place = np.asarray(knots, dtype=np.float64), np.asarray(x, dtype=np.float64)
    if at.size == 1:
        return np.ones((place.size, 1))
    inside = np.clip(place, at[0], at[-1])
    if at.size == 2:
        share = (place - at[0]) / (at[1] - at[0])
        return np.stack([1 - share, share], axis=1)
    spline = CubicSpline(at, np.eye(at.size), bc_type="natural")
    beyond = place - inside
    return np.asarray(spline(inside) + beyond[:, None] * spline(inside, 1))


@dataclass(frozen=True, eq=False)
class Goodness:
    """Fit against simulation per energy bin; every array has shape (n_energy,).

    Attributes:
        effective: effective counts of the bin.
        chi2: of the joint fit on merged bins; NaN where the bin was left out.
        ndf: merged bins minus the yield.
        used: whether the bin was fitted.
    """

    effective: FloatArray
    chi2: FloatArray
    ndf: FloatArray
    used: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Smooth:
    """Shapes of one kind as functions of energy.

    Attributes:
        form: the analytic form.
        knots: per shape parameter the knots in log10(E/TeV).
        coefficients: (k,) values at the knots, parameter after parameter.
        covariance: (k, k), multiplied by ``scale``.
        scale: χ²/ndf of all merged bins where above 1, else 1.
        goodness: per energy bin.
    """

    form: Form
    knots: tuple[tuple[float, ...], ...]
    coefficients: FloatArray
    covariance: FloatArray
    scale: float
    goodness: Goodness

    def parameters(self, energies_gev: ArrayLike) -> FloatArray:
        """Shape parameters, shape (n, p)."""
        x = np.atleast_1d(log_tev(energies_gev))
        parts = np.split(self.coefficients, np.cumsum([len(k) for k in self.knots])[:-1])
        return np.stack(
            [spline_matrix(k, x) @ c for k, c in zip(self.knots, parts, strict=True)], axis=1
        )

    def errors(self, energies_gev: ArrayLike) -> FloatArray:
        """Standard deviations of the shape parameters, shape (n, p)."""
        x = np.atleast_1d(log_tev(energies_gev))
        out, first = [], 0
        for knots in self.knots:
            block = slice(first, first := first + len(knots))
            matrix = spline_matrix(knots, x)
            variance = np.einsum("nk,kl,nl->n", matrix, self.covariance[block, block], matrix)
            out.append(np.sqrt(np.maximum(variance, 0.0)))
        return np.stack(out, axis=1)

    def direction(self, k: int) -> FloatArray:
        """Eigenvector of the covariance with the length of its standard deviation, largest first.

        Raises:
            ParametrisationError: there is no such direction.
        """
        if not 0 <= k < self.coefficients.size:
            msg = f"direction {k!r}: the covariance has 0 to {self.coefficients.size - 1}"
            raise ParametrisationError(msg)
        value, vector = np.linalg.eigh(self.covariance)
        column = vector[:, -1 - k]
        # eigenvectors have no sign of their own: the largest component is positive
        column = column * np.sign(column[np.argmax(np.abs(column))])
        return np.asarray(column * np.sqrt(max(value[-1 - k], 0.0)))
