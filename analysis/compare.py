"""A flux table against a published spectrum or against the injected one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.exceptions import AnalysisError
from analysis.fluxtable import FluxTable
from analysis.published import PublishedSpectrum

__all__ = ["Comparison", "compare_to_published", "compare_to_spectrum"]

_SAME_EDGE = 3e-3  # relative: edges printed with one decimal, 23.988 as 24.0 and 1737.80 as 1737.8
_RANGE_SLACK = 2e-3


@dataclass(frozen=True, eq=False)
class Comparison:
    """Measured against reference flux per energy bin; every array has shape (n_bins,).

    Attributes:
        name: of the reference.
        e_min: lower edges, GeV.
        e_max: upper edges, GeV.
        e_ref: reference energies, GeV.
        dnde: measured flux, GeV⁻¹ m⁻² s⁻¹ sr⁻¹.
        reference: reference flux in the same bins; NaN outside its range.
        ratio: measured / reference.
        ratio_errn: error of the ratio downwards, from the measurement alone.
        ratio_errp: the same upwards.
        pull: (measured − reference) / error, each error on the side that faces the other value.
        used: bins that enter chi2.
        interpolated: reference interpolated because no reference bin has these edges.
        chi2: Σ pull² over ``used``; correlations between bins are ignored.
        ndf: number of used bins.
    """

    name: str
    e_min: NDArray[np.float64]
    e_max: NDArray[np.float64]
    e_ref: NDArray[np.float64]
    dnde: NDArray[np.float64]
    reference: NDArray[np.float64]
    ratio: NDArray[np.float64]
    ratio_errn: NDArray[np.float64]
    ratio_errp: NDArray[np.float64]
    pull: NDArray[np.float64]
    used: NDArray[np.bool_]
    interpolated: NDArray[np.bool_]
    chi2: float
    ndf: int

    @property
    def chi2_per_ndf(self) -> float:
        """chi2/ndf, NaN without a used bin."""
        return self.chi2 / self.ndf if self.ndf else float("nan")


def compare_to_spectrum(
    table: FluxTable,
    reference: ArrayLike,
    *,
    name: str = "injected",
    e_min_gev: float | None = None,
    e_max_gev: float | None = None,
    systematics: bool = False,
) -> Comparison:
    """Compare with a spectrum that is known exactly, averaged over the table's bins.

    Args:
        table: the measurement.
        reference: (n_bins,) bin average of the spectrum, GeV⁻¹ m⁻² s⁻¹ sr⁻¹.
        name: of the reference.
        e_min_gev: use bins that start at or above this energy only.
        e_max_gev: use bins that end at or below this energy only.
        systematics: add the table's systematic errors in quadrature.

    Returns:
        The comparison; no fitted parameter, so ndf is the number of bins.

    Raises:
        AnalysisError: wrong length.
    """
    values = np.asarray(reference, dtype=np.float64)
    zero = np.zeros(values.shape)
    flags = np.zeros(len(table), dtype=np.bool_)
    return _compare(table, name, values, (zero, zero), flags, e_min_gev, e_max_gev, systematics)


def compare_to_published(
    table: FluxTable,
    spectrum: PublishedSpectrum,
    *,
    e_min_gev: float | None = None,
    e_max_gev: float | None = None,
    systematics: bool = True,
) -> Comparison:
    """Compare with a published spectrum.

    Where a published bin has the edges of a bin of the table (within 0.3 %, the rounding of printed
    edges) its value is taken. Elsewhere the published points are interpolated at ``e_ref``, linearly
    in log flux against log energy, their relative errors linearly in log energy; neighbouring
    bins then share a published point, so chi2 counts it more than once. No extrapolation.

    Args:
        table: the measurement.
        spectrum: the published set.
        e_min_gev: use bins that start at or above this energy only.
        e_max_gev: use bins that end at or below this energy only.
        systematics: add the systematic errors of both sides in quadrature.

    Returns:
        The comparison.
    """
    low, high = (
        spectrum.total_error()
        if systematics
        else (np.nan_to_num(spectrum.stat_n), np.nan_to_num(spectrum.stat_p))
    )
    order = np.argsort(spectrum.e_ref())
    x = np.log(spectrum.e_ref()[order])
    at = np.log(table.e_ref)
    value = np.exp(_interpolate(at, x, np.log(spectrum.dnde[order])))
    errn = value * _interpolate(at, x, (low / spectrum.dnde)[order])
    errp = value * _interpolate(at, x, (high / spectrum.dnde)[order])

    same = np.abs(spectrum.e_min[:, None] / table.e_min - 1) < _SAME_EDGE
    same &= np.abs(spectrum.e_max[:, None] / table.e_max - 1) < _SAME_EDGE
    direct, row = same.any(axis=0), same.argmax(axis=0)
    value = np.where(direct, spectrum.dnde[row], value)
    errors = (np.where(direct, low[row], errn), np.where(direct, high[row], errp))
    interpolated = ~direct & np.isfinite(value)
    return _compare(
        table, spectrum.name, value, errors, interpolated, e_min_gev, e_max_gev, systematics
    )


def _compare(
    table: FluxTable,
    name: str,
    reference: NDArray[np.float64],
    reference_errors: tuple[NDArray[np.float64], NDArray[np.float64]],
    interpolated: NDArray[np.bool_],
    e_min_gev: float | None,
    e_max_gev: float | None,
    systematics: bool,
) -> Comparison:
    """Build ratios, pulls and chi2 from the reference in the table's bins."""
    if reference.shape != (len(table),):
        msg = f"reference has shape {reference.shape}; the table has {len(table)} bins"
        raise AnalysisError(msg)
    errn, errp = table.dnde_errn, table.dnde_errp
    if systematics:
        sysn, sysp = table.total_systematic()
        errn, errp = np.hypot(errn, sysn), np.hypot(errp, sysp)
    above = table.dnde > reference
    sigma = np.hypot(
        np.where(above, errn, errp), np.where(above, reference_errors[1], reference_errors[0])
    )
    known = table.success & np.isfinite(reference) & (reference > 0)
    divisor = np.where(known, reference, np.nan)
    pull = (table.dnde - divisor) / np.where(sigma > 0, sigma, np.nan)
    used = known & np.isfinite(pull)
    # Two per mille: a range typed as 24 to 27.5 GeV includes the bin 23.988 to 27.542 GeV.
    if e_min_gev is not None:
        used &= table.e_min >= e_min_gev * (1 - _RANGE_SLACK)
    if e_max_gev is not None:
        used &= table.e_max <= e_max_gev * (1 + _RANGE_SLACK)
    return Comparison(
        name=name,
        e_min=table.e_min,
        e_max=table.e_max,
        e_ref=table.e_ref,
        dnde=table.dnde,
        reference=reference,
        ratio=table.dnde / divisor,
        ratio_errn=errn / divisor,
        ratio_errp=errp / divisor,
        pull=pull,
        used=used,
        interpolated=interpolated,
        chi2=float(np.sum(pull[used] ** 2)),
        ndf=int(np.count_nonzero(used)),
    )


def _interpolate(
    at: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Interpolate linearly, NaN outside the range of x."""
    return np.asarray(np.interp(at, x, y, left=np.nan, right=np.nan), dtype=np.float64)
