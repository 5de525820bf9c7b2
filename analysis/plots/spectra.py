"""The flux with published spectra."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from analysis.compare import Comparison
from analysis.fluxtable import FluxTable
from analysis.plots.style import COLOURS, PlotError, energy_axis, outside_markers, page, points
from analysis.published import PublishedSpectrum, load

__all__ = ["DEFAULT_PUBLISHED", "draw_published", "plot_flux", "vertical_range"]

FloatArray = NDArray[np.float64]

DEFAULT_PUBLISHED = (
    "dampe_2017_electron_positron",
    "calet_2023_electron_positron",
    "ams02_2021_electron_positron",
    "fermilat_2017_he_electron_positron",
    "hess_2008_electron_positron",
    "hess_2009_electron_positron",
    "veritas_2018_electron_positron",
)
_STYLES = (
    ("s", "#D55E00"),
    ("^", "#0072B2"),
    ("D", "#009E73"),
    ("v", "#CC79A7"),
    ("p", "#8C6D1F"),
    ("X", "#56B4E9"),
    ("h", "#7A5195"),
    ("<", "#666666"),
)
_Y_LABEL = "E³ dN/dE (GeV² m⁻² s⁻¹ sr⁻¹)"


def plot_flux(
    table: FluxTable,
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    label: str = "this analysis",
    published: Sequence[PublishedSpectrum] | None = None,
    curve: tuple[ArrayLike, ArrayLike] | None = None,
    curve_label: str = "injected",
    comparison: Comparison | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """E³-weighted flux; error bars are statistical, boxes systematic, arrows upper limits.

    Args:
        table: The flux. Good bins without a positive flux show ``dnde_ul``.
        stem: Path without suffix.
        synthetic: Whether the data are simulated.
        label: Legend entry of the table.
        published: Spectra to draw, statistical and systematic errors in quadrature; default:
            :data:`DEFAULT_PUBLISHED`.
        curve: Energies in GeV and dN/dE in GeV⁻¹ m⁻² s⁻¹ sr⁻¹ of a reference.
        curve_label: Its legend entry.
        comparison: The table against a reference: adds a panel with the ratio and χ².
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: No bin has a flux, or the curve has two lengths.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    if not table.success.any():
        msg = "no bin of the flux table has success: nothing to draw, see its meta['failed_bins']"
        raise PlotError(msg)
    spectra = [load(name) for name in DEFAULT_PUBLISHED] if published is None else published
    size = (10.4, 5.8) if comparison is None else (10.4, 7.4)
    with page(stem, size, synthetic=synthetic, overwrite=overwrite) as sheet:
        if comparison is None:
            main = bottom = sheet.figure.subplots()
        else:
            main, bottom = sheet.figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        span = (float(table.e_min[table.success].min()), float(table.e_max[table.success].max()))
        shown = min(span[0], 20.0), max(span[1], 7000.0)
        heights = [draw_published(main, s, i, shown) for i, s in enumerate(spectra)]
        if curve is not None:
            _curve(main, curve, span, curve_label)
        points_of_table, limits = _table(main, table, label)
        heights.append(points_of_table)
        vertical_range(main, np.concatenate(heights), limits)
        outside_markers(
            main, table.e_ref, limits, color=COLOURS["data"], label="upper limit outside the frame"
        )
        main.set_ylabel(_Y_LABEL)
        sheet.figure.legend(
            *_entries(main, label), loc="outside right upper", title="published: stat. and syst."
        )
        main.grid(alpha=0.25, lw=0.6)
        if comparison is not None:
            _ratio(bottom, comparison)
        energy_axis(bottom, *shown)
    return sheet.paths


def draw_published(
    ax: Axes, spectrum: PublishedSpectrum, number: int, shown: tuple[float, float]
) -> FloatArray:
    """Draw a published spectrum; returns the heights of the points in the energy range shown."""
    marker, colour = _STYLES[number % len(_STYLES)]
    e = spectrum.e_ref()
    low, high = spectrum.total_error()
    y = e**3 * spectrum.dnde
    ax.errorbar(
        e,
        y,
        yerr=[e**3 * low, e**3 * high],
        fmt=marker,
        color=colour,
        mfc="white",
        ms=4.5,
        elinewidth=0.8,
        mew=1.0,
        alpha=0.85,
        label=spectrum.label,
        zorder=2,
    )
    return np.asarray(y[(e >= shown[0]) & (e <= shown[1])])


def _curve(
    ax: Axes, curve: tuple[ArrayLike, ArrayLike], span: tuple[float, float], label: str
) -> None:
    e, dnde = (np.asarray(x, np.float64) for x in curve)
    if e.shape != dnde.shape or e.ndim != 1:
        msg = f"the curve has {e.shape} energies and {dnde.shape} fluxes: give as many of both"
        raise PlotError(msg)
    inside = (e >= span[0]) & (e <= span[1])
    y = e[inside] ** 3 * dnde[inside]
    ax.plot(e[inside], y, color=COLOURS["synthetic"], ls="--", lw=1.4, label=label, zorder=4)


def _table(ax: Axes, table: FluxTable, label: str) -> tuple[FloatArray, FloatArray]:
    """Draw our flux; returns the heights of its points, and of its limits with NaN for other bins."""
    weight = table.e_ref**3
    limit = table.success & ~(table.dnde > 0)
    y = np.where(table.success & ~limit, weight * table.dnde, np.nan)
    errors = (weight * table.dnde_errn, weight * table.dnde_errp)
    black = COLOURS["data"]
    points(
        ax,
        table.e_min,
        table.e_max,
        table.e_ref,
        y,
        errors,
        color=black,
        ms=5.0,
        label=label,
        zorder=5,
    )
    down, up = (weight * part for part in table.total_systematic())
    boxed = np.isfinite(y) & (down + up > 0)
    if boxed.any():
        ax.bar(
            table.e_min[boxed],
            (down + up)[boxed],
            (table.e_max - table.e_min)[boxed],
            bottom=(y - down)[boxed],
            align="edge",
            color=black,
            alpha=0.18,
            lw=0,
            zorder=3,
            label="systematic errors",
        )
    if limit.any():
        top = (weight * table.dnde_ul)[limit]
        ax.errorbar(
            table.e_ref[limit],
            top,
            yerr=0.3 * top,
            uplims=True,
            fmt="_",
            color=black,
            capsize=3,
            zorder=5,
            xerr=[(table.e_ref - table.e_min)[limit], (table.e_max - table.e_ref)[limit]],
        )
        text = f"upper limit, {_confidence(table)}"
        ax.plot([], [], color=black, marker=r"$\downarrow$", ms=9, ls="none", label=text)
    return y[np.isfinite(y)], np.where(limit, weight * table.dnde_ul, np.nan)


def _entries(ax: Axes, first: str) -> tuple[list[Artist], list[str]]:
    """Legend entries, ours first, then in the order drawn."""
    handles, labels = ax.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: labels[i] != first)
    return [handles[i] for i in order], [labels[i] for i in order]


def _confidence(table: FluxTable) -> str:
    rule = table.meta.get("upper_limit")
    level = rule.get("level") if isinstance(rule, dict) else None
    return f"{100 * level:.0f} % CL" if isinstance(level, float) else "see table"


def vertical_range(ax: Axes, heights: FloatArray, limits: FloatArray) -> None:
    """Logarithmic over all points; limits far above them stay outside, marked on the frame."""
    ax.set_yscale("log")
    positive = heights[heights > 0]
    if not positive.size:
        positive = limits[np.isfinite(limits)]
    highest = float(positive.max())
    if np.isfinite(limits).any():
        highest = max(highest, min(float(np.nanmax(limits)), 4.0 * highest))
    ax.set_ylim(0.4 * float(positive.min()), 2.2 * highest)


def _ratio(ax: Axes, comparison: Comparison) -> None:
    """Ratio to a reference; bins that are not in the χ² are open."""
    c = comparison
    errors = (c.ratio_errn, c.ratio_errp)
    for used, face in ((c.used, COLOURS["data"]), (~c.used & (c.ratio > 0), "white")):
        part = np.where(used, c.ratio, np.nan)
        points(ax, c.e_min, c.e_max, c.e_ref, part, errors, color=COLOURS["data"], mfc=face)
    ax.axhline(1.0, color=COLOURS["synthetic"], ls="--", lw=1.2)
    ax.set_ylim(0.0, 2.0)
    outside_markers(ax, c.e_ref, c.ratio, color=COLOURS["data"])
    ax.set_ylabel(f"Ratio to\n{c.name}")
    text = f"χ²/dof = {c.chi2:.1f}/{c.ndf}"
    ax.text(0.02, 0.9, text, transform=ax.transAxes, va="top", fontsize=10)
    ax.grid(alpha=0.25, lw=0.6)
