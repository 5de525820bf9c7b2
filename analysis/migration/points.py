"""What forward folding and iterative unfolding share: counts in, corrected flux points out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.exceptions import AnalysisError, HistogramMismatchError
from analysis.migration.response import Response, inside, outcome, ratio

__all__ = ["Counts", "Unfolded", "checked_counts", "fold", "migration_factor", "placed"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Unfolded:
    """Flux points corrected for energy migration; k bins, NaN in bins without success.

    Attributes:
        method: ``forward folding`` or ``iterative``.
        e_min: (k,) lower edges, GeV.
        e_max: (k,) upper edges, GeV.
        dnde: (k,) flux, GeV⁻¹ m⁻² s⁻¹ sr⁻¹.
        dnde_errn: (k,) error downwards: counts, background and efficiency.
        dnde_errp: (k,) error upwards.
        covariance: (k, k) of ``dnde`` from counts, background and efficiency.
        covariance_simulation: (k, k) of ``dnde`` from the statistics of the simulated response; it
            contains the error of the acceptance.
        factor: (k,) events in reco bin / events in true bin for this flux, as
            :class:`analysis.migration.binbybin.BinByBin`; NaN if true and reco bins differ.
        folded: (n,) expected counts above the cut per reco bin, background included (fit: profiled).
        chi2: deviance of the counts, -2 ln of the likelihood ratio to the saturated one.
        ndf: reco bins less parameters; for the iterative method reco bins.
        valid: the fit converged.
        success: (k,) bins with a flux.
        reasons: why a bin has none; empty for the others.
        parameters: of the fitted model; None for the iterative method.
        parameter_covariance: from the fit; None for the iterative method.
        bias: (k,) estimated bias of ``dnde`` from the finite number of iterations; None for the fit.
    """

    method: str
    e_min: FloatArray
    e_max: FloatArray
    dnde: FloatArray
    dnde_errn: FloatArray
    dnde_errp: FloatArray
    covariance: FloatArray
    covariance_simulation: FloatArray
    factor: FloatArray
    folded: FloatArray
    chi2: float
    ndf: int
    valid: bool
    success: BoolArray
    reasons: tuple[str, ...]
    parameters: FloatArray | None = None
    parameter_covariance: FloatArray | None = None
    bias: FloatArray | None = None


class Counts(NamedTuple):
    """Inputs per reco bin, (n,), and which bins can be used."""

    n: FloatArray
    background: FloatArray
    background_error: FloatArray
    efficiency: FloatArray
    efficiency_error: FloatArray
    exposure: FloatArray
    used: BoolArray
    reasons: list[str]


def fold(
    response: Response, flux_integral: ArrayLike, livetime_s: ArrayLike, efficiency: ArrayLike = 1.0
) -> FloatArray:
    """Expected signal counts: T eff_i Σ_j R_ij Φ_j, with what migrates from outside the axis.

    Args:
        response: the response.
        flux_integral: (m,) ∫Φ dE per true bin, m⁻² s⁻¹ sr⁻¹.
        livetime_s: s, one or (n,).
        efficiency: of the score cut, one or (n,).

    Returns:
        (n,) counts above the score cut.

    Raises:
        HistogramMismatchError: lengths do not fit.
    """
    flux = np.asarray(flux_integral, np.float64)
    if flux.shape != response.target.shape:
        msg = f"folding needs {response.target.size} flux integrals, got shape {flux.shape}"
        raise HistogramMismatchError(msg)
    rate = response.kernel()[0] @ flux
    return (
        rate
        * _per_bin(livetime_s, rate.size, "livetime_s")
        * _per_bin(efficiency, rate.size, "efficiency")
    )


def checked_counts(
    counts: ArrayLike,
    background: ArrayLike,
    background_error: ArrayLike,
    efficiency: ArrayLike,
    efficiency_error: ArrayLike,
    response: Response,
    livetime_s: ArrayLike,
) -> Counts:
    """Inputs as arrays, and which reco bins can be used.

    Args:
        counts: (n,) data above the score cut; scalars broadcast for all inputs.
        background: background among them.
        background_error: its error.
        efficiency: of the score cut.
        efficiency_error: its error.
        response: the response.
        livetime_s: s.

    Returns:
        The inputs; where a bin cannot be used they are NaN or whatever was given.

    Raises:
        AnalysisError: a negative number, or livetime not positive and finite.
        HistogramMismatchError: lengths do not fit.
    """
    size = response.reco_edges.size - 1
    given = {
        "counts": counts,
        "background": background,
        "background_error": background_error,
        "efficiency": efficiency,
        "efficiency_error": efficiency_error,
        "livetime_s": livetime_s,
    }
    arrays = {name: _per_bin(values, size, name) for name, values in given.items()}
    for name, values in arrays.items():
        if np.any(values < 0):
            msg = f"{name} must not be negative, got {values[values < 0][0]!r}"
            raise AnalysisError(msg)
    time = arrays.pop("livetime_s")
    if not np.all((time > 0) & np.isfinite(time)):
        msg = f"livetime must be positive and finite, got {livetime_s!r} s"
        raise AnalysisError(msg)
    used, reasons = outcome(response)
    eff = arrays["efficiency"]
    for name, values in arrays.items():
        for i in np.flatnonzero(~np.isfinite(values) & used):
            reasons[i] = f"{name} is not finite"
            used[i] = False
    for i in np.flatnonzero(used & (eff == 0)):
        reasons[i] = "no efficiency: no electron simulation above the cut"
        used[i] = False
    return Counts(
        n=arrays["counts"],
        background=arrays["background"],
        background_error=arrays["background_error"],
        efficiency=eff,
        efficiency_error=arrays["efficiency_error"],
        exposure=time * eff,
        used=used,
        reasons=reasons,
    )


def migration_factor(response: Response, flux_integral: FloatArray, rate: FloatArray) -> FloatArray:
    """Events in each reco bin over events in the true bins that make it up, for a flux.

    Args:
        response: the response.
        flux_integral: (m,) ∫Φ dE per true bin.
        rate: (n,) events per second of this flux in the reco bins.

    Returns:
        (n,) factor; NaN for reco bins whose edges are no edges of true bins.
    """
    own = inside(response)
    same = np.isclose(response.reco_edges[:, None], response.true_edges, rtol=1e-9)
    nested = np.asarray(same.any(axis=1))
    factor = ratio(rate, own @ (response.acceptance * flux_integral))
    return np.where(nested[:-1] & nested[1:], factor, np.nan)


def placed(values: FloatArray, used: BoolArray, good: BoolArray) -> FloatArray:
    """Values of the used bins at their places among all.

    Args:
        values: (k,) or (k, k), one per used bin.
        used: (n,) which bins they are.
        good: (n,) bins to keep.

    Returns:
        (n,) or (n, n), NaN in bins that are not used or not good.
    """
    full = np.full((used.size,) * values.ndim, np.nan)
    full[np.ix_(*[used] * values.ndim)] = values
    full[~good] = np.nan
    full[..., ~good] = np.nan
    return full


def _per_bin(values: ArrayLike, size: int, name: str) -> FloatArray:
    """One number per bin."""
    array = np.asarray(values, np.float64)
    if array.shape not in {(), (1,), (size,)}:
        msg = f"{name} has shape {array.shape}, the response has {size} reconstructed bins"
        raise HistogramMismatchError(msg)
    return np.broadcast_to(array, (size,))
