r"""Lateral profile of electromagnetic showers, fitted to full Geant4 showers.

Across the axis the energy follows three terms whose one-dimensional marginals are
:math:`\exp(-|u|/a)/2a`, so that bars integrate in closed form; the radial density of a term is
:math:`K_0(r/a)/2\pi a^2`. Radii and shares depend on the age of the shower, tau. The published terms in
:math:`2 r R^2/(r^2+R^2)^2` fall too slowly far from the axis.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from simulation.compiled import compiled

__all__ = ["lateral_terms", "strip_share"]

Table = npt.NDArray[np.float64]

#: Fit of the lateral terms to Geant4: ln a_i = sum_k c_k tau^k (mm), tau = t / mean t of the shower.
_LN_RADIUS = np.array([[0.454, 1.206, -0.2606], [2.704, -0.3084, 0.2540], [3.910, -0.6654, 0.2500]])
#: ln of the share of terms 2 and 3 over term 1: polynomial in tau, for term 2 also exp(-tau / 0.25).
_LN_SHARE = np.array([[-1.489, -1.053, 1.218], [-4.910, 0.981, 0.988]])
_LN_SHARE_EARLY = -2.816
#: The terms are tabulated up to tau = 3, beyond which the fit does not reach.
_TAU_ROWS, _TAU_STEP = 150, 0.02


@compiled
def strip_share(low: float, high: float, radius: float) -> float:
    r"""Share of a lateral term :math:`\exp(-|u|/a)/2a` between two parallel lines.

    Args:
        low: Distance of the first line from the axis, mm, signed.
        high: Distance of the second.
        radius: a in mm.

    Returns:
        The share, 0 to 1.
    """
    if low >= 0.0:
        return 0.5 * (math.exp(-low / radius) - math.exp(-high / radius))
    if high <= 0.0:
        return 0.5 * (math.exp(high / radius) - math.exp(low / radius))
    return 1.0 - 0.5 * (math.exp(-high / radius) + math.exp(low / radius))


def _tabulate_terms() -> Table:
    """Radii (mm) and shares of the lateral terms on the grid of tau, shape (rows, 6)."""
    tau = np.arange(0.5, _TAU_ROWS) * _TAU_STEP
    powers = np.stack([np.ones_like(tau), tau, tau**2])
    radii = np.exp(_LN_RADIUS @ powers)
    early = _LN_SHARE_EARLY * np.exp(-tau / 0.25)
    over = np.exp(_LN_SHARE @ powers + np.stack([early, np.zeros_like(tau)]))
    shares = np.vstack([np.ones_like(tau), over]) / (1.0 + over.sum(axis=0))
    return np.ascontiguousarray(np.vstack([radii, shares]).T)


_TERMS = _tabulate_terms()


@compiled
def lateral_terms(tau: float, width: float) -> tuple[float, float, float, float, float, float]:
    """Radii (mm) and shares of the three lateral terms at an age of the shower.

    Args:
        tau: Depth over the mean depth of the shower.
        width: Factor on the radii.

    Returns:
        Three radii and three shares; the shares sum to 1.
    """
    row = min(int(max(tau, 0.0) / _TAU_STEP), _TAU_ROWS - 1)
    return (
        width * _TERMS[row, 0],
        width * _TERMS[row, 1],
        width * _TERMS[row, 2],
        _TERMS[row, 3],
        _TERMS[row, 4],
        _TERMS[row, 5],
    )
