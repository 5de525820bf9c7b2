"""Labels of logarithmic axes."""

from __future__ import annotations

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, NullFormatter

__all__ = ["few_labels"]


def few_labels(*axes: Axis) -> None:
    """Label the decades alone where there are two of them, else 2 and 5 between them too.

    The labels of matplotlib run into each other on axes of one to two decades.

    Args:
        *axes: logarithmic axes whose limits are set.
    """
    for axis in axes:
        low, high = np.log10(np.sort(axis.get_view_interval()))
        two = np.floor(high) > np.ceil(low)
        axis.set_minor_formatter(NullFormatter() if two else FuncFormatter(_between))


def _between(value: float, _: int | None = None) -> str:
    """Label of 2 and 5 times a power of ten, nothing for the others."""
    power = int(np.floor(np.log10(value) + 1e-9))
    digit = round(value / 10.0**power)
    return rf"${digit}\times10^{{{power}}}$" if digit in (2, 5) else ""
