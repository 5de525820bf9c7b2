"""Figures of a measurement with a template fit: what was fitted, the shift, the background by two methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from hist import Hist
from numpy.typing import NDArray

from analysis.background import proton_background
from analysis.cutstability import cut_systematic
from analysis.exceptions import AnalysisError
from analysis.fluxsettings import FluxSettings
from analysis.measurement import Measurement, scan
from analysis.plots.cutscan import plot_cut_scan, plot_cut_stability
from analysis.plots.fit import plot_background_methods, plot_shift
from analysis.plots.postfit import plot_postfit, plot_postfit_bins
from analysis.postfit import postfit
from analysis.selection import selection_text
from analysis.templatefit import FitResult, fit_templates

__all__ = ["draw_fit", "injected_shift"]


def injected_shift(
    meta: Mapping[str, Any], low_gev: float, high_gev: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Energies and shift with which toy data were drawn; None if the data are no toys."""
    toy = meta.get("toy")
    if not isinstance(toy, Mapping) or "shift" not in toy:
        return None
    s0, s1 = toy["shift"]
    energies = np.geomspace(low_gev, high_gev, 200)
    return energies, s0 + s1 * np.log10(energies / float(toy["e0_gev"]))


def draw_fit(
    hists: Mapping[str, Hist[Any]],
    meta: Mapping[str, Any],
    found: Measurement,
    settings: FluxSettings,
    folder: Path,
    *,
    pages: bool,
    overwrite: bool,
) -> list[Path]:
    """Draw a template fit.

    Args:
        hists: Histograms of the file, for the label of the score.
        meta: Their metadata.
        found: The measurement.
        settings: How it was made.
        folder: Where the figures go.
        pages: Also one page per energy bin.
        overwrite: Replace files.

    Returns:
        Paths of the figures; none if the background comes from the control region.
    """
    result = found.fit
    if result is None or not result.success.any():
        return []
    common: dict[str, Any] = {"synthetic": bool(meta.get("synthetic")), "overwrite": overwrite}
    where = selection_text(settings.region, {**found.table.meta["flux"], "toy": meta.get("toy")})
    name = "score" if settings.score_name is None else f"score_{settings.score_name}"
    label = str(hists[name if name in hists else "score"].axes["omega"].label)
    shown: dict[str, Any] = {"cut": found.cut, "score_label": label, "where": where}
    fitted = postfit(result, found.data, found.electrons, found.protons)
    out = plot_postfit(fitted, folder / "postfit", **shown, **common)
    if pages:
        out += plot_postfit_bins(fitted, folder / "postfit", **shown, **common)
    energies = result.e_min[result.success].min(), result.e_max[result.success].max()
    shared, single = _both_ways(found, settings, result)
    if shared is not None:
        out += plot_shift(
            shared,
            folder / "shift",
            single=single,
            injected=injected_shift(meta, *energies),
            title=where,
            **common,
        )
    if np.all(found.control[1] <= found.cut):
        sideband = proton_background(found.data, found.protons, found.cut, found.control)
        truth = _true_fraction(meta, found)
        out += plot_background_methods(
            found.background, sideband, folder / "background", truth=truth, title=where, **common
        )
    else:
        click.echo(
            "no figure of the background: the control region reaches above the cut", err=True
        )
    return out + _draw_cuts(
        found, settings, folder, {"score_label": label, "title": where, **common}
    )


def _draw_cuts(
    found: Measurement, settings: FluxSettings, folder: Path, common: Mapping[str, Any]
) -> list[Path]:
    """What changes with the cut; nothing where no energy bin has counts above it."""
    table = found.table
    if not np.any(table.success & (table.n_data > 0)):
        return []
    tried = scan(found, index=settings.index)
    out = plot_cut_scan(tried, folder / "cut_scan", chosen=found.cut, **common)
    stability = cut_systematic(tried, found.cut)
    if stability.success.any():
        out += plot_cut_stability(stability, folder / "cut_stability", **common)
    return out


def _true_fraction(meta: Mapping[str, Any], found: Measurement) -> NDArray[np.float64] | None:
    """True background of toy data over the counts that were drawn, for the cut of the toy's table."""
    toy = meta.get("toy")
    truth = toy.get("truth") if isinstance(toy, Mapping) else None
    if not isinstance(truth, Mapping) or not np.all(found.cut == truth.get("cut")):
        return None
    counts = np.where(found.table.n_data > 0, found.table.n_data, np.nan)
    return np.asarray(truth["background"], np.float64) / counts


def _both_ways(
    found: Measurement, settings: FluxSettings, result: FitResult
) -> tuple[FitResult | None, FitResult | None]:
    """The shift shared by all energy bins, and that of each alone; None for what cannot be fitted."""
    if not result.shift_design.shape[1]:
        return None, None
    alone = result.settings["method"] == "per_bin"
    order = settings.fit.shift_order
    other = replace(
        settings.fit,
        method="simultaneous" if alone else "per_bin",
        shift_order=order if alone or order != "auto" else 0,
        window=result.window,
        e_min_gev=float(result.e_min[result.used].min()),
        e_max_gev=float(result.e_max[result.used].max()),
    )
    try:
        second = fit_templates(found.data, found.electrons, found.protons, other, cut=found.cut)
    except AnalysisError:  # too few energy bins for a common curve
        return (None, result) if alone else (result, None)
    return (second, result) if alone else (result, second)
