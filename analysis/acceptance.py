"""Acceptance before the score cut, from weighted Monte Carlo in true energy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from hist import Hist
from numpy.typing import ArrayLike, NDArray

from analysis.exceptions import HistogramMismatchError
from analysis.templates import inner_bins, select

__all__ = ["Acceptance", "acceptance", "acceptance_from_histogram"]


@dataclass(frozen=True, eq=False)
class Acceptance:
    """Acceptance per bin of true energy; every array has shape (n_energy,).

    Attributes:
        e_min: lower edges, GeV.
        e_max: upper edges, GeV.
        value: m² sr; NaN where ``success`` is False.
        error: statistical error of the simulation, m² sr.
        effective_counts: (Σw)²/Σw² of the selected events.
        success: False for a bin without selected events or without target flux.
    """

    e_min: NDArray[np.float64]
    e_max: NDArray[np.float64]
    value: NDArray[np.float64]
    error: NDArray[np.float64]
    effective_counts: NDArray[np.float64]
    success: NDArray[np.bool_]


def acceptance(
    content: ArrayLike, variance: ArrayLike, flux_integral: ArrayLike, edges: ArrayLike
) -> Acceptance:
    r"""Acceptance averaged over each bin with the target flux f.

    Each selected event carries :math:`w = f(E)\,G\,/\,(dN_\mathrm{gen}/dE)` with G the étendue of
    the generation surface, so that :math:`A = \sum w / \int f\,dE`. The error is
    :math:`\sqrt{\sum w^2}/\int f\,dE`: the binomial correction is left out, being below A/G ≈ 1 %.

    Args:
        content: (n,) Σw of selected events, s⁻¹.
        variance: (n,) Σw², s⁻².
        flux_integral: (n,) ∫f dE over each bin, m⁻² s⁻¹ sr⁻¹.
        edges: (n + 1,) edges of true energy, GeV.

    Returns:
        Acceptance with failed bins flagged.

    Raises:
        HistogramMismatchError: the lengths do not fit.
    """
    total, total2, flux, border = (
        np.asarray(x, dtype=np.float64) for x in (content, variance, flux_integral, edges)
    )
    if not total.shape == total2.shape == flux.shape == (border.size - 1,):
        msg = (
            f"acceptance needs one content, variance and flux integral per energy bin, got shapes "
            f"{total.shape}, {total2.shape}, {flux.shape} for {border.size - 1} bins"
        )
        raise HistogramMismatchError(msg)
    good = (total > 0) & (total2 > 0) & (flux > 0) & np.isfinite(flux)
    safe = np.where(good, flux, 1.0)
    return Acceptance(
        e_min=border[:-1].copy(),
        e_max=border[1:].copy(),
        value=np.where(good, total / safe, np.nan),
        error=np.where(good, np.sqrt(np.where(good, total2, 0.0)) / safe, np.nan),
        effective_counts=np.where(good, total**2 / np.where(good, total2, 1.0), 0.0),
        success=good,
    )


def acceptance_from_histogram(
    passed: Hist[Any],
    flux_integral: ArrayLike,
    *,
    kind: str = "electron",
    region: str = "fiducial",
) -> Acceptance:
    """Acceptance of one kind and region from the ``passed`` histogram.

    Args:
        passed: histogram with axes kind, region, energy_true, filled as :func:`acceptance` says.
        flux_integral: integral of the target flux per energy bin, m⁻² s⁻¹ sr⁻¹.
        kind: ``electron`` or ``proton``.
        region: ``fiducial`` or ``topfiducial``.

    Returns:
        Acceptance per bin of true energy.

    Raises:
        HistogramMismatchError: missing axis or category, no variances, or lengths that do not fit.
    """
    part = select(passed, "passed", ("energy_true",), kind=kind, region=region)
    values, variances = inner_bins(part, "passed")
    return acceptance(values, variances, flux_integral, part.axes[0].edges)
