"""Cut and count: from counts, background, efficiency, acceptance and livetime to the flux."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.energy import lafferty_wyatt
from analysis.exceptions import AnalysisError
from analysis.fluxtable import FluxTable
from analysis.intervals import ONE_SIGMA, garwood, upper_limit

__all__ = ["FluxTable", "flux"]


def flux(
    n_data: ArrayLike,
    background_fraction: ArrayLike,
    background_fraction_err: ArrayLike,
    efficiency: ArrayLike,
    efficiency_err: ArrayLike,
    acceptance: ArrayLike,
    acceptance_err: ArrayLike,
    livetime_s: ArrayLike,
    e_min: ArrayLike,
    e_max: ArrayLike,
    *,
    index: float = -3.0,
    level: float = ONE_SIGMA,
    ul_level: float = 0.95,
    meta: Mapping[str, Any] | None = None,
) -> FluxTable:
    r"""Flux per energy bin: ``counts = (1 − bkg) N / eff``, ``flux = counts / (A T ΔE)``.

    A is the acceptance **before** the score cut; an acceptance that already contains the cut goes
    with ``efficiency = 1``.

    Errors. ``dnde_errn`` and ``dnde_errp`` add in quadrature, each as a change of the flux: the
    distance of N to its Garwood end on that side; the background, :math:`N\,\sigma_{bkg}`; the
    efficiency, :math:`(1-bkg)\,N\,\sigma_{eff}/eff`. The statistical error of the simulated acceptance,
    the same for all data, is kept apart as ``sys_acceptance_n/p`` = flux σ_A / A.

    Zero counts: the background fraction is undefined there and not used; the flux is 0 with the
    Garwood error upwards. ``dnde_ul`` is given in every good bin: the Helene-Zech limit for N
    counts over bkg·N, with background, efficiency and acceptance taken as exact. A background
    fraction above 1 gives a negative flux; quote ``dnde_ul`` there.

    A bin with a non-finite input, or an efficiency or acceptance that is not positive, fails alone:
    ``success`` False, NaN, and a sentence in ``meta["failed_bins"]``.

    Args:
        n_data: (n,) data events above the score cut; scalars broadcast for all inputs.
        background_fraction: share of N that is background.
        background_fraction_err: its error at fixed N.
        efficiency: efficiency of the score cut, > 0.
        efficiency_err: its error.
        acceptance: m² sr, > 0.
        acceptance_err: its error, m² sr.
        livetime_s: s, > 0.
        e_min: (n,) lower edges, GeV.
        e_max: (n,) upper edges, GeV.
        index: spectral index of the Lafferty-Wyatt reference energy.
        level: probability content of the Garwood interval.
        ul_level: confidence level of ``dnde_ul``.
        meta: carried into the table.

    Returns:
        The flux table, flux in GeV⁻¹ m⁻² s⁻¹ sr⁻¹.

    Raises:
        AnalysisError: livetime not positive, or negative counts.
        ValueError: shapes that do not broadcast, edges not ascending, levels outside (0, 1).
    """
    low = np.atleast_1d(np.asarray(e_min, dtype=np.float64))
    e_ref = lafferty_wyatt(low, e_max, index)
    inputs = (n_data, background_fraction, background_fraction_err, efficiency, efficiency_err)
    n, bkg, bkg_err, eff, eff_err, acc, acc_err, time, high = (
        np.broadcast_to(np.asarray(x, dtype=np.float64), low.shape)
        for x in (*inputs, acceptance, acceptance_err, livetime_s, e_max)
    )
    if not np.all((time > 0) & np.isfinite(time)):
        msg = f"livetime must be positive and finite, got {livetime_s!r} s"
        raise AnalysisError(msg)
    if np.any(n < 0):
        msg = f"counts above the cut must not be negative, got {n[n < 0][0]!r}"
        raise AnalysisError(msg)

    failed = _failures(n, bkg, bkg_err, eff, eff_err, acc, acc_err)
    good = np.array([reason is None for reason in failed])
    n_safe = np.where(good, n, 0.0)
    used, used_err = (np.where(good & (n > 0), x, 0.0) for x in (bkg, bkg_err))
    eff_safe = np.where(good, eff, 1.0)
    exposure = eff_safe * np.where(good, acc, 1.0) * time * (high - low)

    excess = (1.0 - used) * n_safe
    interval = garwood(n_safe, level)
    other = (n_safe * used_err) ** 2 + (excess * np.where(good, eff_err, 0.0) / eff_safe) ** 2
    limit = upper_limit(n_safe, np.maximum(used * n_safe, 0.0), ul_level)
    dnde = excess / exposure
    sys_acceptance = np.abs(dnde) * np.where(good, acc_err, 0.0) / np.where(good, acc, 1.0)

    def kept(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(good, values, np.nan)

    return FluxTable(
        e_min=low,
        e_max=high,
        e_ref=e_ref,
        dnde=kept(dnde),
        dnde_errn=kept(np.sqrt((n_safe - interval.lower) ** 2 + other) / exposure),
        dnde_errp=kept(np.sqrt((interval.upper - n_safe) ** 2 + other) / exposure),
        dnde_ul=kept(limit / exposure),
        n_data=n,
        counts=kept(excess / eff_safe),
        background_fraction=bkg,
        background_fraction_err=bkg_err,
        efficiency=eff,
        efficiency_err=eff_err,
        acceptance=acc,
        acceptance_err=acc_err,
        livetime=time,
        success=good,
        systematics={"acceptance": (kept(sys_acceptance), kept(sys_acceptance))},
        meta={
            **(meta or {}),
            "e_ref": {"rule": "Lafferty-Wyatt", "index": index},
            "errors": {
                "level": level,
                "method": "Garwood on n_data, background and efficiency in quadrature",
            },
            "upper_limit": {"level": ul_level, "method": "Helene-Zech (CLs), inputs exact"},
            "failed_bins": [
                {"bin": i, "e_min_gev": low[i], "e_max_gev": high[i], "reason": reason}
                for i, reason in enumerate(failed)
                if reason is not None
            ],
        },
    )


def _failures(
    n: NDArray[np.float64],
    bkg: NDArray[np.float64],
    bkg_err: NDArray[np.float64],
    eff: NDArray[np.float64],
    eff_err: NDArray[np.float64],
    acc: NDArray[np.float64],
    acc_err: NDArray[np.float64],
) -> list[str | None]:
    """Return the reason why each bin has no flux, None where it has one."""
    checks = (
        (np.isfinite(n), "counts are not finite"),
        (
            (acc > 0) & np.isfinite(acc),
            "no acceptance: outside the energy range, or no selected electron simulation",
        ),
        ((eff > 0) & np.isfinite(eff), "no efficiency: no electron simulation above the cut"),
        (
            (n == 0) | np.isfinite(bkg),
            "no background: data or proton simulation empty in the control region",
        ),
        (np.isfinite(acc_err) & (acc_err >= 0), "acceptance error is not a number >= 0"),
        (np.isfinite(eff_err) & (eff_err >= 0), "efficiency error is not a number >= 0"),
        (
            (n == 0) | (np.isfinite(bkg_err) & (bkg_err >= 0)),
            "background error is not a number >= 0",
        ),
    )
    return [next((why for ok, why in checks if not ok[i]), None) for i in range(n.size)]
