"""Signal efficiency of the score cut, from the electron template."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.intervals import ONE_SIGMA, weighted_efficiency
from analysis.templatefit.morphing import movable
from analysis.templates import Sums, Template

__all__ = ["Efficiency", "signal_efficiency"]


@dataclass(frozen=True, eq=False)
class Efficiency:
    """Efficiency of ``omega >= cut`` per energy bin; every array has shape (n_energy,).

    Attributes:
        e_min: lower edges, GeV.
        e_max: upper edges, GeV.
        cut: (n_energy,) the score cut.
        value: efficiency; NaN where ``success`` is False.
        error: standard deviation from weighted binomial propagation.
        lower: lower end of the 68.27 % effective-count interval.
        upper: upper end.
        effective_counts: unweighted events with the same error.
        success: False for a bin without Monte Carlo, or in which nothing passes.
    """

    e_min: NDArray[np.float64]
    e_max: NDArray[np.float64]
    cut: NDArray[np.float64]
    value: NDArray[np.float64]
    error: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    effective_counts: NDArray[np.float64]
    success: NDArray[np.bool_]


def signal_efficiency(
    electrons: Template,
    cut: ArrayLike,
    level: float = ONE_SIGMA,
    *,
    shift: ArrayLike | None = None,
) -> Efficiency:
    """``eff = N_e^MC(omega >= cut) / N_e^MC`` per energy bin.

    Args:
        electrons: electron template; the denominator includes its score under- and overflow.
        cut: score cut on a bin edge, one or one per energy bin.
        level: probability content of the interval.
        shift: (n_energy,) shift of the electrons that a fit found; NaN counts as 0.

    Returns:
        Efficiency with errors as in :func:`analysis.intervals.weighted_efficiency`.

    Raises:
        CutNotOnEdgeError: the cut is inside a bin; the message names the nearest edges.
    """
    total = electrons.total()
    cuts = np.array(np.broadcast_to(cut, total.value.shape), np.float64)
    passed = electrons.above(cuts)
    if shift is not None:
        edges = np.stack([cuts, np.full(cuts.size, np.inf)], axis=1)
        moves = np.nan_to_num(np.broadcast_to(shift, cuts.shape))
        moved = movable(electrons).between(edges, moves, np.ones(cuts.size))
        passed = Sums(moved.values[:, 0], np.maximum(moved.variances[:, 0], 0.0))
    result = weighted_efficiency(*passed, *total, level=level)
    return Efficiency(
        e_min=electrons.energy_edges[:-1].copy(),
        e_max=electrons.energy_edges[1:].copy(),
        cut=cuts,
        value=result.value,
        error=result.error,
        lower=result.lower,
        upper=result.upper,
        effective_counts=result.effective_counts,
        success=np.isfinite(result.value) & (result.value > 0),
    )
