"""Where in a wide energy bin a flux point stands.

Source: G. D. Lafferty and T. R. Wyatt, NIM A 355 (1995) 541: the point at which the density equals
its bin average, here for a power law.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["geometric_mean", "lafferty_wyatt"]

_FLAT = 1e-8  # closer to index 0 than this, the limit is more exact than the formula


def lafferty_wyatt(e_min: ArrayLike, e_max: ArrayLike, index: float = -3.0) -> NDArray[np.float64]:
    r"""Energy at which E^index equals its average over the bin.

    .. math:: E = \left[\frac{E_2^{n+1} - E_1^{n+1}}{(n+1)(E_2-E_1)}\right]^{1/n}

    with the limits for n = −1 (logarithmic mean) and n = 0 (identric mean).

    Args:
        e_min: lower bin edges, GeV (or any unit), > 0.
        e_max: upper bin edges, same unit, > e_min.
        index: spectral index n, with its sign: −3 for a flux falling as E⁻³.

    Returns:
        Reference energies in the unit of the edges, inside their bins.

    Raises:
        ValueError: edges not positive and ascending, or index not finite.
    """
    low, high = _edges(e_min, e_max)
    if not np.isfinite(index):
        msg = f"spectral index must be a finite number, got {index!r}"
        raise ValueError(msg)
    # With r = E2/E1 and l = ln r, everything is a function of l alone; expm1 keeps narrow bins exact.
    length = np.log(high / low)
    width = np.expm1(length)
    if abs(index) < _FLAT:
        log_mean = length * (1.0 + 1.0 / width) - 1.0
        return np.asarray(low * np.exp(log_mean), dtype=np.float64)
    power = index + 1.0
    integral = length if power == 0.0 else np.expm1(power * length) / power
    energy = low * (integral / width) ** (1.0 / index)
    return np.asarray(np.clip(energy, low, high), dtype=np.float64)


def geometric_mean(e_min: ArrayLike, e_max: ArrayLike) -> NDArray[np.float64]:
    """Logarithmic bin centre, sqrt(e_min e_max): the Lafferty-Wyatt point of index −2.

    Args:
        e_min: lower bin edges, > 0.
        e_max: upper bin edges, same unit, > e_min.

    Returns:
        Energies in the unit of the edges.

    Raises:
        ValueError: edges not positive and ascending.
    """
    low, high = _edges(e_min, e_max)
    return np.sqrt(low * high)


def _edges(e_min: ArrayLike, e_max: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both edges as arrays after checking 0 < e_min < e_max < inf."""
    low = np.asarray(e_min, dtype=np.float64)
    high = np.asarray(e_max, dtype=np.float64)
    if not np.all((low > 0) & (low < high) & np.isfinite(high)):
        msg = f"energy bins need 0 < e_min < e_max, got e_min={low!r}, e_max={high!r}"
        raise ValueError(msg)
    return low, high
