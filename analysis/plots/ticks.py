"""Labels of logarithmic axes."""

from __future__ import annotations

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import NullFormatter

__all__ = ["decades_only"]


def decades_only(*axes: Axis) -> None:
    """Leave out the labels between decades of axes that show two of them: they would run into each other.

    Args:
        *axes: logarithmic axes whose limits are set.
    """
    for axis in axes:
        low, high = np.log10(np.sort(axis.get_view_interval()))
        if np.floor(high) > np.ceil(low):
            axis.set_minor_formatter(NullFormatter())
