r"""Analytic score shapes: a peak with exponential tails, its cumulative and density.

The peak is a Gaussian with different widths left and right of its mode μ. At k widths from the mode it goes
over, with continuous slope, into an exponential of slope k/σ (ExpGaussExp: S. Das, arXiv:1603.08591). Each
tail may break, any number of times, into an exponential of another slope, the density staying continuous:
with distance t from the mode and breaks at :math:`t_1 = k\sigma + d_1, t_2 = t_1 + d_2 \ldots` the density
falls as :math:`e^{-t k/\sigma}, e^{-\lambda_1 t}, e^{-\lambda_2 t} \ldots` One family serves scores that are logits and
the classical one. Everything is a closed form, normalised to 1 over the real line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf

from analysis.exceptions import AnalysisError

__all__ = ["Form", "ShapeError", "cdf", "density"]

FloatArray = NDArray[np.float64]

_MAX_BREAKS = 4


class ShapeError(AnalysisError):
    """Parameters that describe no shape."""


@dataclass(frozen=True)
class Form:
    """Which member of the family.

    Attributes:
        left_breaks: breaks of the left tail.
        right_breaks: breaks of the right tail.
    """

    left_breaks: int = 0
    right_breaks: int = 0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ShapeError: a number of breaks is negative or above 4.
        """
        counts: tuple[Any, ...] = (self.left_breaks, self.right_breaks)
        for count in counts:
            if not (isinstance(count, int) and 0 <= count <= _MAX_BREAKS):
                msg = f"a tail has 0 to {_MAX_BREAKS} breaks, got {count!r}"
                raise ShapeError(msg)

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters: ``mu`` in units of the score, then natural logarithms of positive numbers.

        ``sigma`` and break distances ``d`` in units of the score, slopes ``lambda`` in their inverse,
        ``k`` in widths.
        """
        core = ("mu", "ln_sigma_left", "ln_sigma_right", "ln_k_left", "ln_k_right")
        return (
            *core,
            *(f"ln_{p}{j}_left" for j in range(1, self.left_breaks + 1) for p in ("d", "lambda")),
            *(f"ln_{p}{j}_right" for j in range(1, self.right_breaks + 1) for p in ("d", "lambda")),
        )


@dataclass(frozen=True, eq=False)
class _Side:
    """One side of the mode; every array has shape (n, 1), lists run over the exponentials."""

    sigma: FloatArray
    k: FloatArray
    start: list[FloatArray]
    length: list[FloatArray]  # one less than exponentials, the last has no end
    slope: list[FloatArray]
    height: list[FloatArray]  # density at the start of each exponential, 1 at the mode

    @property
    def core(self) -> FloatArray:
        """Integral of the Gaussian part."""
        return np.asarray(self.sigma * np.sqrt(np.pi / 2) * erf(self.k / np.sqrt(2)))

    @property
    def total(self) -> FloatArray:
        """Integral from the mode to infinity."""
        out = np.asarray(self.core + self.height[-1] / self.slope[-1])
        for length, slope, height in zip(self.length, self.slope, self.height, strict=False):
            out = out - height * np.expm1(-slope * length) / slope
        return out

    def integral(self, t: FloatArray) -> FloatArray:
        """Integral from the mode to the distance t >= 0, shape (n, m)."""
        reach = np.minimum(t, self.start[0])
        out = self.sigma * np.sqrt(np.pi / 2) * erf(reach / (np.sqrt(2) * self.sigma))
        ends: list[Any] = [*self.length, np.inf]
        for start, length, slope, height in zip(
            self.start, ends, self.slope, self.height, strict=True
        ):
            inside = np.minimum(np.maximum(t - start, 0.0), length)
            out -= height * np.expm1(-slope * inside) / slope
        return np.asarray(out)

    def density(self, t: FloatArray) -> FloatArray:
        """Density at the distance t >= 0 over that at the mode, shape (n, m)."""
        out = np.exp(-0.5 * (t / self.sigma) ** 2)
        for start, slope, height in zip(self.start, self.slope, self.height, strict=True):
            out = np.where(t > start, height * np.exp(-slope * np.maximum(t - start, 0.0)), out)
        return out


def cdf(form: Form, x: ArrayLike, parameters: ArrayLike) -> FloatArray:
    """Cumulative of a shape.

    Args:
        form: member of the family.
        x: (m,) or (n, m) scores; infinite values are allowed.
        parameters: (n, p) or (p,) parameters in the order of ``form.names``.

    Returns:
        (n, m) probabilities from 0 to 1.

    Raises:
        ShapeError: the number of parameters is wrong, or one is not finite.
    """
    mu, left, right = _sides(form, parameters)
    t = np.asarray(x, dtype=np.float64) - mu
    below = left.total
    whole = below + right.total
    out = below - left.integral(np.maximum(-t, 0.0)) + right.integral(np.maximum(t, 0.0))
    return np.asarray(np.minimum(np.maximum(out / whole, 0.0), 1.0))


def density(form: Form, x: ArrayLike, parameters: ArrayLike) -> FloatArray:
    """Derivative of :func:`cdf`.

    Args:
        form: member of the family.
        x: (m,) or (n, m) scores.
        parameters: (n, p) or (p,) parameters in the order of ``form.names``.

    Returns:
        (n, m) probability per unit of the score.

    Raises:
        ShapeError: the number of parameters is wrong, or one is not finite.
    """
    mu, left, right = _sides(form, parameters)
    t = np.asarray(x, dtype=np.float64) - mu
    shape = np.where(t < 0, left.density(np.abs(t)), right.density(np.abs(t)))
    return np.asarray(shape / (left.total + right.total))


def _sides(form: Form, parameters: ArrayLike) -> tuple[FloatArray, _Side, _Side]:
    """Mode, shape (n, 1), and both sides of it."""
    values = np.atleast_2d(np.asarray(parameters, dtype=np.float64))
    if values.ndim != 2 or values.shape[1] != len(form.names):
        msg = (
            f"the shape has {len(form.names)} parameters ({', '.join(form.names)}), "
            f"got an array of shape {values.shape}"
        )
        raise ShapeError(msg)
    if not np.isfinite(values).all():
        at = form.names[int(np.argwhere(~np.isfinite(values))[0, 1])]
        msg = f"parameter {at} of a shape is not finite"
        raise ShapeError(msg)
    # e^±40 is beyond every score: keeps a search that goes astray finite
    positive = np.exp(np.clip(values[:, 1:, None], -40.0, 40.0))
    sigma_left, sigma_right, k_left, k_right = (positive[:, i] for i in range(4))
    split = 4 + 2 * form.left_breaks
    return (
        values[:, :1],
        _side(sigma_left, k_left, positive[:, 4:split]),
        _side(sigma_right, k_right, positive[:, split:]),
    )


def _side(sigma: FloatArray, k: FloatArray, breaks: FloatArray) -> _Side:
    """One side from its width, where its exponential starts, and distances and slopes of breaks."""
    start, slope, height = [k * sigma], [k / sigma], [np.exp(-0.5 * k**2)]
    length = [breaks[:, j] for j in range(0, breaks.shape[1], 2)]
    for j, reach in enumerate(length):
        start.append(start[-1] + reach)
        height.append(height[-1] * np.exp(-slope[-1] * reach))
        slope.append(breaks[:, 2 * j + 1])
    return _Side(sigma, k, start, length, slope, height)
