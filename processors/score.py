"""Scores that separate electrons from protons, electron high: their names and how they are binned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SCORES", "ScoreAxis", "score_axis", "zeta_omega"]

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
class ScoreAxis:
    """How a score is binned.

    Attributes:
        bins: Number of bins.
        low: Lower edge of the axis.
        high: Upper edge of the axis.
        label: Axis label.
    """

    bins: int
    low: float
    high: float
    label: str


#: Scores that need no network.
SCORES: Mapping[str, ScoreAxis] = {"zeta": ScoreAxis(800, -6.0, 2.0, "Ω = −log10 ζ")}


def score_axis(name: str, strategy: str) -> ScoreAxis:
    """The axis of a score.

    Args:
        name: ``zeta``, ``omega`` or the name of a network.
        strategy: How omega combines the networks.

    Returns:
        640 bins from -40 to 24 for logits and logarithms of likelihood ratios, 480 from -24 to 24 for
        scores in widths of the electron peak.
    """
    if name in SCORES:
        return SCORES[name]
    if name != "omega":
        return ScoreAxis(640, -40.0, 24.0, f"{name} logit")
    if strategy == "standardised":
        return ScoreAxis(480, -24.0, 24.0, "Ω (widths of the electron peak)")
    what = "log likelihood ratio" if strategy == "likelihood_ratio" else "logit"
    return ScoreAxis(640, -40.0, 24.0, f"Ω ({what})")
