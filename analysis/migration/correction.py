"""The flux table after the correction for energy migration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from hist import Hist
from numpy.typing import NDArray

from analysis.background import Background
from analysis.efficiency import Efficiency
from analysis.fluxtable import FluxTable
from analysis.migration.binbybin import bin_by_bin
from analysis.migration.folding import forward_fold
from analysis.migration.response import response_matrix

__all__ = ["Way", "migrated"]

FloatArray = NDArray[np.float64]

Way = Literal["auto", "bin_by_bin", "folding", "none"]


def migrated(
    table: FluxTable,
    background: Background,
    signal: Efficiency,
    hists: Mapping[str, Hist[Any]],
    meta: Mapping[str, Any],
    region: str,
    way: Way = "auto",
) -> FluxTable:
    """Correct a flux for events that are reconstructed in another bin than that of their energy.

    The flux, its errors and its limit are divided by the migration factor, events in the reco bin over
    events in the true bin. ``sys_acceptance`` becomes the statistical error of acceptance and factor
    together, which are made of the same events; ``sys_migration`` is what other spectra do to the factor,
    for folding the difference to the factor of the target spectrum.

    Args:
        table: flux without correction.
        background: protons above the cut.
        signal: efficiency of the cut.
        hists: ``response`` and ``passed``, without the axes bgo and edge.
        meta: metadata of the file.
        region: ``fiducial`` or ``topfiducial``.
        way: ``bin_by_bin``, ``folding``, ``none``, or ``auto``: bin by bin for fiducial, where the bins are
            much wider than the resolution, else folding.

    Returns:
        The table; ``meta["flux"]["migration"]`` has the factors. Bins without a factor fail.

    Raises:
        HistogramMismatchError: the histograms do not fit.
    """
    if way == "auto":
        way = "bin_by_bin" if region == "fiducial" else "folding"
    notes: dict[str, Any] = {"method": way}
    if way == "none":
        return _noted(table, notes)
    response = response_matrix(hists, meta, region=region)
    factors = bin_by_bin(response)
    if way == "bin_by_bin":
        factor, valid = factors.factor, factors.success
        reasons, errors = factors.reasons, None
        relative = factors.acceptance_error / np.where(valid, factors.acceptance, 1.0)
        safe = np.where(valid, factor, 1.0)
        low, high = np.nan_to_num(factors.sys_n / safe), np.nan_to_num(factors.sys_p / safe)
    else:
        n, good = table.n_data, table.success
        # what the fitted shift adds is a systematic error of its own
        shift = np.nan_to_num(background.parts.get("shift", np.zeros(n.size))) * n
        still = np.sqrt(np.maximum(background.error**2 - shift**2, 0.0))
        b, b_err = (np.where(good & np.isfinite(x), x, 0.0) for x in (background.value, still))
        folded = forward_fold(
            n,
            np.maximum(b, 0.0),
            b_err,
            np.where(good, signal.value, np.nan),
            response,
            table.livetime,
            efficiency_error=np.where(good, signal.error, 0.0),
        )
        factor, valid, reasons = folded.factor, folded.success, folded.reasons
        errors = folded.dnde_errn, folded.dnde_errp
        safe = np.where(valid & (folded.dnde != 0), folded.dnde, 1.0)
        relative = np.sqrt(np.maximum(np.diag(folded.covariance_simulation), 0.0)) / np.abs(safe)
        notes |= {"chi2": folded.chi2, "ndf": folded.ndf, "valid": folded.valid}
        # another treatment of the same migration
        low = high = np.abs(np.nan_to_num(factors.factor / np.where(valid, factor, 1.0) - 1.0))
    keep = table.success & valid
    scale = np.where(keep, 1.0 / np.where(keep, factor, 1.0), np.nan)
    flux_value = table.dnde * scale
    columns: dict[str, Any] = {"dnde": flux_value, "dnde_ul": table.dnde_ul * scale}
    for side, column in enumerate(("dnde_errn", "dnde_errp")):
        own = getattr(table, column) * scale
        columns[column] = own if errors is None else np.where(keep, errors[side], np.nan)
    systematics = {
        name: (down * scale, up * scale) for name, (down, up) in table.systematics.items()
    }
    by_simulation = np.where(keep, np.abs(flux_value) * relative, np.nan)
    systematics["acceptance"] = (by_simulation, by_simulation)
    # a larger factor is a smaller flux
    systematics["migration"] = (
        np.where(keep, np.abs(flux_value) * high, np.nan),
        np.where(keep, np.abs(flux_value) * low, np.nan),
    )
    notes["factor"] = np.where(keep, factor, np.nan)
    lost = [
        {"bin": i, "e_min_gev": table.e_min[i], "e_max_gev": table.e_max[i], "reason": reasons[i]}
        for i in np.flatnonzero(table.success & ~valid).tolist()
    ]
    counts = np.where(keep, table.counts, np.nan)
    table = replace(table, **columns, counts=counts, systematics=systematics, success=keep)
    failed = [*table.meta["failed_bins"], *lost]
    return _noted(
        replace(table, meta={**table.meta, "failed_bins": sorted(failed, key=lambda f: f["bin"])}),
        notes,
    )


def _noted(table: FluxTable, notes: Mapping[str, Any]) -> FluxTable:
    return replace(
        table, meta={**table.meta, "flux": {**table.meta["flux"], "migration": dict(notes)}}
    )
