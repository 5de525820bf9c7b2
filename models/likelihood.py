"""The likelihood ratio of two networks: a smooth, never-falling grid from weighted simulated events."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from models.evaluation import effective_number, weighted_quantile
from models.scored import Scored, shares
from processors.exceptions import ModelError
from processors.omega import LikelihoodRatio

__all__ = ["GRID", "fit_likelihood_ratio"]

FloatArray = npt.NDArray[np.float64]

#: Nodes of a grid along each logit.
GRID = 61


def fit_likelihood_ratio(
    sample: Scored, x: str, y: str, nodes_gev: Sequence[float], *, size: int = GRID
) -> LikelihoodRatio:
    """Grids of ln(p_e/p_p) of two networks.

    At each energy node the two densities are Gaussian kernel estimates (Scott's bandwidth for the
    effective number of events) on a grid from the 0.1 % quantile of protons to the 99.9 % quantile of
    electrons; events beyond it count at its border, as the evaluation will place them. Half an effective
    event is added to each density. Cells that hold less than one of either kind are filled from their
    neighbours, and the result is the mean of the largest never-falling function below and the smallest
    above the estimate.

    Args:
        sample: The events.
        x: One network.
        y: The other.
        nodes_gev: Energy nodes.
        size: Grid nodes along each logit.

    Returns:
        The grids.
    """
    weights = sample.balanced()
    share = shares(sample.e_corr, nodes_gev)
    x_nodes, y_nodes, grids = [], [], []
    for k in range(len(nodes_gev)):
        w = weights * share[:, k]
        nodes = []
        for name in (x, y):
            low = weighted_quantile(
                sample.logits[name][~sample.electron], w[~sample.electron], 0.001
            )
            high = weighted_quantile(
                sample.logits[name][sample.electron], w[sample.electron], 0.999
            )
            if high <= low:
                msg = f"network {name!r} does not separate electrons from protons near {nodes_gev[k]:g} GeV"
                raise ModelError(msg)
            nodes.append(np.round(np.linspace(float(low), float(high), size), 6))
        parts = []
        for rows in (
            np.flatnonzero(sample.electron & (w > 0)),
            np.flatnonzero(~sample.electron & (w > 0)),
        ):
            points = [sample.logits[n][rows] for n in (x, y)]
            parts.append(_density(points, w[rows], nodes))
        (p_e, own_e), (p_p, own_p) = parts  # densities, and the density that one event makes
        ratio = np.log((p_e + 0.5 * own_e) / (p_p + 0.5 * own_p))
        ratio[(p_e < own_e) & (p_p < own_p)] = np.nan
        grid = np.round(_monotone(ratio), 4)
        x_nodes.append(tuple(nodes[0].tolist()))
        y_nodes.append(tuple(nodes[1].tolist()))
        grids.append(tuple(tuple(row) for row in grid.tolist()))
    return LikelihoodRatio(
        energies_gev=tuple(nodes_gev),
        x=x,
        y=y,
        x_nodes=tuple(x_nodes),
        y_nodes=tuple(y_nodes),
        grids=tuple(grids),
    )


def _density(
    points: Sequence[FloatArray], w: FloatArray, nodes: Sequence[FloatArray]
) -> tuple[FloatArray, float]:
    """Kernel estimate on a grid, sum 1, and the height of a single effective event in it."""
    number = effective_number(w)
    cells, sigmas = [], []
    for values, grid in zip(points, nodes, strict=True):
        step = grid[1] - grid[0]
        clipped = np.clip((values - grid[0]) / step, 0, len(grid) - 1)
        below, above = weighted_quantile(clipped, w, [0.158655, 0.841345])
        sigmas.append(max(0.5, float(above - below) / 2 * number ** (-1 / 6)))
        cells.append(clipped)
    table = np.zeros((len(nodes[0]), len(nodes[1])))
    lows = [np.minimum(c.astype(np.intp), len(g) - 2) for c, g in zip(cells, nodes, strict=True)]
    parts = [c - low for c, low in zip(cells, lows, strict=True)]
    for i in (0, 1):
        for j in (0, 1):
            u = parts[0] if i else 1 - parts[0]
            v = parts[1] if j else 1 - parts[1]
            np.add.at(table, (lows[0] + i, lows[1] + j), w * u * v)
    smooth = gaussian_filter(table / table.sum(), sigmas, mode="nearest")
    return smooth / smooth.sum(), 1.0 / (number * 4 * math.pi * sigmas[0] * sigmas[1])


def _monotone(table: FloatArray) -> FloatArray:
    """Never-falling along both axes: mean of the running maximum from below and minimum from above.

    NaN cells take what their neighbours allow; a table that never falls is not changed.
    """
    lower = np.where(np.isnan(table), -np.inf, table)
    upper = np.where(np.isnan(table), np.inf, table)
    for axis in (0, 1):
        lower = np.maximum.accumulate(lower, axis=axis)
        upper = np.flip(np.minimum.accumulate(np.flip(upper, axis), axis=axis), axis)
    mean = (lower + upper) / 2
    mean[np.isinf(lower)] = upper[np.isinf(lower)]
    mean[np.isinf(upper)] = lower[np.isinf(upper)]
    # where nothing lies below or above, the bound that exists may fall against its neighbours
    for axis in (0, 1):
        mean = np.maximum.accumulate(mean, axis=axis)
    return mean
