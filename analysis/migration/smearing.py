"""Bias and width of the reconstructed energy, as far as a binned response shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.migration.response import Response, inside

__all__ = ["Smearing", "energy_smearing"]

FloatArray = NDArray[np.float64]

_TAIL = 0.158655253931457  # below, or above, the central 68.27 %


@dataclass(frozen=True, eq=False)
class Smearing:
    """Reconstructed over true energy per true bin, from a matrix; arrays (m,).

    Attributes:
        bias: median of E_reco / E_true − 1.
        half_width: half the central 68.27 % of ln E_reco, the width of the true bin included.
        bin_half_width: what the width of the true bin alone makes of it.
        stays: share of the events reconstructed in their own bin.
    """

    bias: FloatArray
    half_width: FloatArray
    bin_half_width: FloatArray
    stays: FloatArray


def energy_smearing(response: Response) -> Smearing:
    """Bias and width of the energy per true bin, from the cumulative of each column.

    Quantiles are interpolated in ln E within reco bins, and compared with those of a perfect energy
    treated alike. A width well below the bins (1 % in bins of 15 %) cannot be seen; ``stays`` can.

    Args:
        response: the response.

    Returns:
        Bias and widths; NaN where a quantile lies outside the axis or the true bin has no events.
    """
    log_reco, log_true = np.log(response.reco_edges), np.log(response.true_edges)
    wanted = np.array([_TAIL, 0.5, 1 - _TAIL])
    m = response.acceptance.size
    quantiles = np.full((m, 3), np.nan)
    stays = np.full(m, np.nan)
    own = inside(response)
    for j in np.flatnonzero(response.acceptance > 0):
        column = response.matrix[:, j] / response.acceptance[j]
        below = response.lost_low[j] / response.acceptance[j]
        steps = np.cumsum(np.concatenate([[below], column]))
        at = np.searchsorted(steps, wanted)  # steps[at - 1] < wanted <= steps[at]
        held = (at > 0) & (at < steps.size)
        high = np.clip(at, 1, steps.size - 1)
        part = (wanted - steps[high - 1]) / np.where(held, column[high - 1], 1.0)
        step = np.diff(log_reco)[high - 1]
        quantiles[j] = np.where(held, log_reco[high - 1] + part * step, np.nan)
        stays[j] = column[own[:, j]].sum()
    middle = (log_true[:-1] + log_true[1:]) / 2
    return Smearing(
        bias=np.expm1(quantiles[:, 1] - middle),
        half_width=(quantiles[:, 2] - quantiles[:, 0]) / 2,
        bin_half_width=np.diff(log_true) * (0.5 - _TAIL),
        stays=stays,
    )
