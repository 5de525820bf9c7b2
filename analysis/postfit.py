"""Data and fitted templates bin by bin: what the template fit left over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.exceptions import AnalysisError, HistogramMismatchError
from analysis.templatefit.morphing import movable
from analysis.templatefit.result import FitResult, check_axes
from analysis.templates import Template

__all__ = ["PostFit", "postfit", "pulls"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PostFit:
    """Data and expectation per energy bin (n) and score bin (m); NaN where there was no fit.

    Attributes:
        region: ``fiducial`` or ``topfiducial``.
        e_min: (n,) lower edges, GeV.
        e_max: (n,) upper edges, GeV.
        omega_edges: (m + 1,) score edges.
        data: (n, m) counts.
        electrons: (n, m) expected electrons, with the fitted shift of the electrons if there is one.
        protons: (n, m) expected protons with the fitted shift and width.
        unshifted: (n, m) the same number of protons with the template as simulated.
        variance: (n, m) variance of ``electrons + protons`` from Σw² of the templates.
        pull: (n, m) from :func:`pulls`.
        outside: (n,) data beyond the score axis.
        shift: (n,) fitted proton shift, and its error.
        width: (n,) fitted proton width, and its error; 1 ± 0 if none was fitted.
        window: (n,) lower and upper border of the fitted score range.
        success: (n,) whether the energy bin has a fit.
    """

    region: str
    e_min: FloatArray
    e_max: FloatArray
    omega_edges: FloatArray
    data: FloatArray
    electrons: FloatArray
    protons: FloatArray
    unshifted: FloatArray
    variance: FloatArray
    pull: FloatArray
    outside: FloatArray
    shift: tuple[FloatArray, FloatArray]
    width: tuple[FloatArray, FloatArray]
    window: tuple[FloatArray, FloatArray]
    success: NDArray[np.bool_]

    @property
    def total(self) -> FloatArray:
        """Expected electrons and protons."""
        return self.electrons + self.protons


def postfit(
    result: FitResult,
    data: Template,
    electrons: Template,
    protons: Template,
    *,
    merge: int = 1,
) -> PostFit:
    """Templates as the fit left them, beside the data.

    Events beyond the score axis are not drawn: those of the data are counted. The errors of the fit are not in
    ``variance``: data and fitted sum are correlated, and the pull shows the statistics alone.

    Args:
        result: the fit.
        data: the data of the fit.
        electrons: its electron template.
        protons: its proton template.
        merge: bins of the score axis that are merged into one; figures merge further.

    Returns:
        Data, expectation and pulls.

    Raises:
        HistogramMismatchError: templates with other axes, or other energy bins than those of the fit.
        AnalysisError: ``merge`` does not divide the number of score bins.
    """
    check_axes(data, electrons, protons)
    if result.e_min.size != data.energy_edges.size - 1 or not np.allclose(
        result.e_min, data.energy_edges[:-1], rtol=1e-9
    ):
        msg = "the fit was made in other energy bins; fit these histograms"
        raise HistogramMismatchError(msg)
    n, bins = data.values.shape[0], data.omega_edges.size - 1
    good = result.success

    def number(pair: tuple[FloatArray, FloatArray], otherwise: float) -> FloatArray:
        return np.where(good, np.nan_to_num(pair[0], nan=otherwise), otherwise)

    edges = np.broadcast_to(data.omega_edges, (n, bins + 1))
    zero, one = np.zeros(n), np.ones(n)
    e_part, p_part = movable(electrons), movable(protons)
    moved_e = e_part.between(edges, number(result.electron_shift, 0.0), one)
    moved_p = p_part.between(edges, number(result.shift, 0.0), number(result.width, 1.0))
    still = p_part.between(edges, zero, one)
    scale_e, scale_p = (
        (number(yields, 0.0) / np.where(part.total > 0, part.total, 1.0))[:, None]
        for yields, part in ((result.electrons, e_part), (result.protons, p_part))
    )
    contents = {
        "data": data.values[:, 1:-1],
        "electrons": scale_e * moved_e.values,
        "protons": scale_p * moved_p.values,
        "unshifted": scale_p * still.values,
        "variance": scale_e**2 * moved_e.variances + scale_p**2 * moved_p.variances,
    }
    if merge < 1 or bins % merge:
        msg = f"{bins} score bins cannot be merged by {merge}; give a divisor of {bins}"
        raise AnalysisError(msg)
    merged = {k: v.reshape(n, -1, merge).sum(axis=2) for k, v in contents.items()}
    for name in contents.keys() - {"data"}:
        merged[name][~good] = np.nan
    return PostFit(
        region=data.region,
        e_min=result.e_min.copy(),
        e_max=result.e_max.copy(),
        omega_edges=data.omega_edges[::merge].copy(),
        pull=pulls(merged["data"], merged["electrons"] + merged["protons"], merged["variance"]),
        outside=data.values[:, 0] + data.values[:, -1],
        shift=result.shift,
        width=result.width,
        window=result.window,
        success=good.copy(),
        **merged,
    )


def pulls(data: FloatArray, mean: FloatArray, variance: FloatArray) -> FloatArray:
    """(data − mean)/√(mean + variance).

    Args:
        data: counts.
        mean: expectation, same shape.
        variance: its variance from the finite simulation.

    Returns:
        Pulls; NaN where nothing is seen nor expected, infinite where there are data and no expectation.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((data - mean) / np.sqrt(np.maximum(mean + variance, 0.0)))
