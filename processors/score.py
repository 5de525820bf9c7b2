"""Scores that separate electrons from protons; omega is the score of the chosen name, electron high."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SCORES", "Score", "zeta_omega"]

Values = npt.NDArray[Any]


def zeta_omega(zeta: Values) -> Values:
    """Omega of the classical score: -log10(zeta).

    Args:
        zeta: Shape (n,).

    Returns:
        Shape (n,), float64; NaN where zeta is NaN or negative, and 2 (the best value) where it is 0,
        which happens when every layer has one bar.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.minimum(-np.log10(np.asarray(zeta, np.float64)), 2.0 - 1e-9)


@dataclass(frozen=True)
class Score:
    """How a score is computed and binned.

    Attributes:
        function: From fields of the ntuple to omega.
        fields: The fields, in order.
        bins: Number of bins of omega.
        low: Lower edge of the axis.
        high: Upper edge of the axis.
        label: Axis label.
    """

    function: Callable[..., Values]
    fields: tuple[str, ...]
    bins: int
    low: float
    high: float
    label: str


SCORES: Mapping[str, Score] = {
    "zeta": Score(zeta_omega, ("zeta",), 800, -6.0, 2.0, "Ω = −log10 ζ"),
}
