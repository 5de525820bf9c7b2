r"""Spectral models of a cosmic-ray flux: power law, with up to two smooth breaks and a cut-off.

.. math:: \Phi(E) = \Phi_0 (E/E_0)^{-\gamma_1}
   \prod_k \left[1+(E/E_k)^{|\delta_k|/D}\right]^{-D\,\mathrm{sgn}\,\delta_k} e^{-E/E_c},
   \quad \delta_k = \gamma_{k+1} - \gamma_k

For a softening (δ > 0) this is the smoothly broken power law of the DAMPE collaboration, Nature 552,
63 (2017); the sign makes δ < 0 a hardening with the same meaning of Φ0 and γ1.

Models work in internal coordinates: the natural logarithm of every positive parameter, indices as
they are. All functions broadcast over leading axes of the parameters, so that thousands of parameter
sets cost one call.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.exceptions import AnalysisError

__all__ = ["MODELS", "Quadrature", "SpectralModel", "quadrature", "spectral_model"]

FloatArray = NDArray[np.float64]

#: Name → number of breaks, cut-off.
MODELS: dict[str, tuple[int, bool]] = {
    "power_law": (0, False),
    "smoothly_broken_power_law": (1, False),
    "power_law_cutoff": (0, True),
    "smoothly_broken_power_law_cutoff": (1, True),
    "double_broken_power_law": (2, False),
}

# Gauss-Legendre nodes, and the widest panel in ln E: exact to 1e-10 for breaks as sharp as D = 0.1.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(6)
_PANEL = 0.15


@dataclass(frozen=True)
class SpectralModel:
    """A power law with smooth breaks and, optionally, an exponential cut-off.

    Attributes:
        name: key of :data:`MODELS`.
        breaks: number of breaks.
        cutoff: whether there is a cut-off.
        smoothness: width D of the breaks (0.1 in the 2017 publication).
        free_smoothness: D is a parameter, the same for all breaks.
        e0_gev: energy at which the norm is given.
    """

    name: str
    breaks: int = 0
    cutoff: bool = False
    smoothness: float = 0.1
    free_smoothness: bool = False
    e0_gev: float = 100.0

    def __post_init__(self) -> None:
        for key in ("smoothness", "e0_gev"):
            value = getattr(self, key)
            if not (math.isfinite(value) and value > 0):
                msg = f"{key} must be a positive number, got {value!r}"
                raise AnalysisError(msg)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names in order: norm, indices, break energies, cut-off, smoothness."""
        numbered = range(1, self.breaks + 2)
        indices = [f"index{k}" for k in numbered] if self.breaks else ["index"]
        breaks = ["break_gev", "break2_gev"][: self.breaks]
        return (
            "norm",
            *indices,
            *breaks,
            *(["cutoff_gev"] if self.cutoff else []),
            *(["smoothness"] if self.breaks and self.free_smoothness else []),
        )

    @property
    def logarithmic(self) -> NDArray[np.bool_]:
        """(n_par,) whether the internal coordinate is the logarithm of the parameter."""
        return np.array([not name.startswith("index") for name in self.parameters])

    def internal(self, values: ArrayLike) -> FloatArray:
        """Internal coordinates of parameters.

        Args:
            values: (..., n_par) in the units of :attr:`parameters`, norm in GeV⁻¹ m⁻² s⁻¹ sr⁻¹.

        Returns:
            (..., n_par).

        Raises:
            AnalysisError: wrong number, not finite, or a parameter that must be positive is not.
        """
        x = np.asarray(values, dtype=np.float64)
        if x.shape[-1:] != (len(self.parameters),):
            msg = f"{self.name} has {len(self.parameters)} parameters, got shape {x.shape}"
            raise AnalysisError(msg)
        log = self.logarithmic
        if not np.all(np.isfinite(x)) or np.any(x[..., log] <= 0):
            names = ", ".join(self.parameters)
            msg = f"{names} must be finite and, but for indices, positive; got {x.tolist()}"
            raise AnalysisError(msg)
        return np.where(log, np.log(np.where(log, x, 1.0)), x)

    def external(self, theta: ArrayLike) -> FloatArray:
        """Parameters of internal coordinates, the inverse of :meth:`internal`."""
        x = np.asarray(theta, dtype=np.float64)
        log = self.logarithmic
        return np.where(log, np.exp(np.where(log, x, 0.0)), x)

    def flux(self, energy_gev: ArrayLike, values: ArrayLike) -> FloatArray:
        """Differential flux.

        Args:
            energy_gev: (n,) energies in GeV.
            values: (..., n_par) parameters.

        Returns:
            (..., n) GeV⁻¹ m⁻² s⁻¹ sr⁻¹.
        """
        ln_e = np.log(np.asarray(energy_gev, dtype=np.float64))
        return np.exp(self.log_flux(self.internal(values), ln_e)[0])

    def log_flux(self, theta: FloatArray, ln_e: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Logarithm of the flux and its gradient.

        Args:
            theta: (..., n_par) internal coordinates.
            ln_e: (n,) ln(E/GeV).

        Returns:
            ln Φ (..., n), and its derivatives by theta (..., n_par, n).
        """
        n = self.breaks
        steps = ln_e - math.log(self.e0_gev)
        gradient = np.zeros((*theta.shape, ln_e.size))
        gradient[..., 0, :] = 1.0
        gradient[..., 1, :] = -steps
        out = theta[..., 0, None] - theta[..., 1, None] * steps
        free = n > 0 and self.free_smoothness
        d = np.exp(theta[..., -1, None]) if free else np.asarray(self.smoothness)
        for k in range(n):
            delta = theta[..., k + 2, None] - theta[..., k + 1, None]
            sign = np.where(delta < 0, -1.0, 1.0)
            distance = ln_e - theta[..., n + 2 + k, None]
            u = np.abs(delta) / d * distance
            soft = np.logaddexp(0.0, u)
            share = np.exp(u - soft)  # 1/(1 + e^-u) without overflow
            out -= sign * d * soft
            gradient[..., k + 1, :] += share * distance
            gradient[..., k + 2, :] -= share * distance
            gradient[..., n + 2 + k, :] = delta * share
            if free:
                gradient[..., -1, :] -= sign * d * (soft - u * share)
        if self.cutoff:
            at = 2 * n + 2
            ratio = np.exp(ln_e - theta[..., at, None])
            out -= ratio
            gradient[..., at, :] = ratio
        return out, gradient


def spectral_model(
    name: str, *, smoothness: float = 0.1, free_smoothness: bool = False, e0_gev: float = 100.0
) -> SpectralModel:
    """Model by its name.

    Args:
        name: key of :data:`MODELS`.
        smoothness: width D of the breaks.
        free_smoothness: fit D.
        e0_gev: energy of the norm, GeV.

    Returns:
        The model.

    Raises:
        AnalysisError: unknown name, or a number that is not positive.
    """
    if name not in MODELS:
        msg = f"no spectral model {name!r}; there are: {', '.join(MODELS)}"
        raise AnalysisError(msg)
    breaks, cutoff = MODELS[name]
    return SpectralModel(name, breaks, cutoff, smoothness, free_smoothness and breaks > 0, e0_gev)


@dataclass(frozen=True, eq=False)
class Quadrature:
    """Nodes and weights that turn a flux into its integrals over energy bins.

    Attributes:
        ln_e: (n_nodes,) ln(E/GeV).
        weights: (n_bins, n_nodes); weights @ flux is the integral over each bin, flux times GeV.
    """

    ln_e: FloatArray
    weights: FloatArray


def quadrature(e_min: ArrayLike, e_max: ArrayLike) -> Quadrature:
    """Gauss-Legendre rule in ln E for the integrals over energy bins.

    Args:
        e_min: (n_bins,) lower edges, GeV.
        e_max: (n_bins,) upper edges.

    Returns:
        Nodes of all bins, and their weights.

    Raises:
        AnalysisError: edges not positive and ascending.
    """
    low, high = np.asarray(e_min, np.float64), np.asarray(e_max, np.float64)
    if not np.all((low > 0) & (low < high) & np.isfinite(high)):
        msg = f"energy bins need 0 < e_min < e_max, got e_min={low!r}, e_max={high!r}"
        raise AnalysisError(msg)
    nodes, weights, owner = [], [], []
    for i, (a, b) in enumerate(zip(np.log(low), np.log(high), strict=True)):
        panels = max(1, math.ceil((b - a) / _PANEL))
        half = (b - a) / (2 * panels)
        x = (a + half * (2 * np.arange(panels) + 1)[:, None] + half * _NODES).ravel()
        nodes.append(x)
        weights.append(np.tile(half * _WEIGHTS, panels) * np.exp(x))
        owner.append(np.full(x.size, i))
    matrix = np.zeros((low.size, sum(x.size for x in nodes)))
    matrix[np.concatenate(owner), np.arange(matrix.shape[1])] = np.concatenate(weights)
    return Quadrature(np.concatenate(nodes), matrix)
