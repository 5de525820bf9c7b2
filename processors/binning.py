"""Energy bins of the analysis, and axes of categories."""

from __future__ import annotations

from collections.abc import Sequence

import hist
import numpy as np
import numpy.typing as npt

__all__ = ["category", "energy_edges_gev"]


def energy_edges_gev(*, extended: bool = False) -> npt.NDArray[np.float64]:
    """Edges of the energy bins: 10^(1.38 + 0.06 k) GeV, with merged bins at the highest energies.

    38 bins from 23.99 to 4570.88 GeV as in the 2017 measurement (Nature 552, 63; one of them is
    1513.56-1737.80 GeV), then edges at 6025.6, 7943.3 and 10471.3 GeV (k = 40, 42, 44).

    Args:
        extended: Two more bins, to 13803.8 and 18197.0 GeV (k = 46, 48).

    Returns:
        Edges in GeV, shape (42,) or (44,).
    """
    k = [*range(39), 40, 42, 44, *((46, 48) if extended else ())]
    return np.asarray(10.0 ** (1.38 + 0.06 * np.array(k)), np.float64)


def category(names: Sequence[str], name: str, label: str) -> hist.axis.StrCategory:
    """Axis of categories without overflow, which would always be empty: every chunk pays for the size."""
    return hist.axis.StrCategory(names, name=name, label=label, overflow=False)
