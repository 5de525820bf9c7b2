"""Numbers of a card that may depend on energy: one for all, or steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.exceptions import AnalysisError

__all__ = ["PerEnergy", "per_energy"]

#: A number, or pairs of an energy (GeV) and the number from there on.
PerEnergy = float | Sequence[Sequence[float]]


def per_energy(value: PerEnergy | ArrayLike, edges_gev: ArrayLike) -> NDArray[np.float64]:
    """A number per energy bin.

    Args:
        value: a number; pairs ``[energy_gev, number]`` with ascending energies, each valid for the bins
            that start there or above, the first also below; or an array with one number per bin.
        edges_gev: (n + 1,) edges of the energy bins.

    Returns:
        (n,) numbers.

    Raises:
        AnalysisError: neither of these.
    """
    low = np.asarray(edges_gev, np.float64)[:-1]
    array = np.asarray(value, np.float64)
    if array.ndim == 0 or array.shape == low.shape:
        return np.array(np.broadcast_to(array, low.shape))
    if array.ndim != 2 or array.shape[1] != 2 or np.any(np.diff(array[:, 0]) <= 0):
        msg = f"{value!r} is neither a number nor a list of [energy_gev, number] with ascending energies"
        raise AnalysisError(msg)
    step = np.searchsorted(array[:, 0] * (1 - 1e-9), low, side="right") - 1
    return np.asarray(array[np.maximum(step, 0), 1])
