"""The fluxes of regions, their combination, how they agree and what is gained."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from numpy.typing import ArrayLike, NDArray

from analysis.combination import Combination
from analysis.consistency import Consistency
from analysis.plots.style import (
    COLOURS,
    PlotError,
    energy_axis,
    outside_markers,
    page,
    points,
)
from analysis.plots.ticks import few_labels
from analysis.published import PublishedSpectrum, load

__all__ = ["plot_combination", "plot_gain"]

FloatArray = NDArray[np.float64]

_STYLES = (("s", "#0072B2"), ("^", "#D55E00"), ("D", "#009E73"), ("v", "#CC79A7"))
_STEP = 0.022  # by which regions are moved apart, in ln E
_PUBLISHED = "dampe_2017_electron_positron"


def plot_combination(
    combined: Combination,
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    published: PublishedSpectrum | None = None,
    curve: tuple[ArrayLike, ArrayLike] | None = None,
    curve_label: str = "injected",
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """E³-weighted fluxes of the regions and of their combination; below, their ratio to the first region.

    Error bars are statistical. Ratios are those of the consistency test, with the statistical error as bar and
    all errors as box; open ones lie below the combined energies. The band is the ratio over all combined bins.

    Args:
        combined: the combination.
        stem: path without suffix.
        synthetic: whether the data are simulated.
        published: a spectrum to compare with; default DAMPE 2017.
        curve: energies in GeV and dN/dE in GeV⁻¹ m⁻² s⁻¹ sr⁻¹ of a reference.
        curve_label: its legend entry.
        title: text over the figure.
        overwrite: replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: no bin has a positive flux, or the curve has two lengths.
        FileExistsError: a file exists and ``overwrite`` is not set.
    """
    table = combined.table
    good = table.success & (table.dnde > 0)
    if not good.any():
        msg = "no bin of the combined flux is positive: nothing to draw"
        raise PlotError(msg)
    span = float(table.e_min[good].min()), float(table.e_max[good].max())
    page_options = {"synthetic": synthetic, "overwrite": overwrite, "title": title}
    with page(stem, (11.0, 7.6), **page_options) as sheet:  # type: ignore[arg-type]
        main, low = sheet.figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1))
        _published(main, published or load(_PUBLISHED), span)
        if curve is not None:
            _curve(main, curve, span, curve_label)
        heights = []
        several = combined.used.sum(axis=0) > 1
        for r, (name, part) in enumerate(zip(combined.regions, combined.parts, strict=True)):
            marker, colour = _STYLES[r % len(_STYLES)]
            at = table.e_ref * np.exp(_STEP * (2 * r - len(combined.parts) + 1))
            y = np.where(part.success & (part.dnde > 0), table.e_ref**3 * part.dnde, np.nan)
            errors = (table.e_ref**3 * part.dnde_errn, table.e_ref**3 * part.dnde_errp)
            points(
                main, at, at, at, y, errors,
                fmt=marker, color=colour, mfc="white", ms=4.5, label=name, zorder=3,
            )  # fmt: skip
            heights.append(y)
        y = np.where(good & several, table.e_ref**3 * table.dnde, np.nan)
        errors = (table.e_ref**3 * table.dnde_errn, table.e_ref**3 * table.dnde_errp)
        label = f"combination, {' + '.join(combined.regions)}"
        points(
            main, table.e_min, table.e_max, table.e_ref, y, errors,
            color=COLOURS["data"], ms=5.5, elinewidth=1.5, label=label, zorder=5,
        )  # fmt: skip
        limit = table.success & several & ~good
        if limit.any():
            top = (table.e_ref**3 * table.dnde_ul)[limit]
            main.errorbar(
                table.e_ref[limit], top, yerr=0.3 * top, uplims=True, fmt="_", capsize=3,
                color=COLOURS["data"], label="upper limit of the combination",
            )  # fmt: skip
            heights.append(top)
        shown = np.concatenate([*heights, y])
        main.set_yscale("log")
        main.set_ylim(0.45 * float(np.nanmin(shown)), 1.8 * float(np.nanmax(shown)))
        main.set_ylabel("E³ dN/dE (GeV² m⁻² s⁻¹ sr⁻¹)")
        main.legend(
            title="statistical errors\n(published: stat. and syst.)",
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
            borderaxespad=0.0,
        )
        main.grid(alpha=0.25, lw=0.6)
        few_labels(main.yaxis)
        _ratios(low, combined)
        energy_axis(low, *span)
        if span[1] / span[0] < 100:
            few_labels(low.xaxis)
    return sheet.paths


def plot_gain(
    combined: Combination,
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Statistical errors of first region and combination, relative to the combined flux; below, their ratio.

    Args:
        combined: the combination.
        stem: path without suffix.
        synthetic: whether the data are simulated.
        title: text over the figure.
        overwrite: replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: no bin holds more than one region.
        FileExistsError: a file exists and ``overwrite`` is not set.
    """
    table, first = combined.table, combined.parts[0]
    several = (combined.used.sum(axis=0) > 1) & combined.used[0] & (table.dnde > 0)
    if not several.any():
        msg = "no bin holds more than one region: there is no gain to draw"
        raise PlotError(msg)
    span = float(table.e_min[several].min()), float(table.e_max[several].max())
    page_options = {"synthetic": synthetic, "overwrite": overwrite, "title": title}
    with page(stem, (7.6, 6.4), **page_options) as sheet:  # type: ignore[arg-type]
        main, low = sheet.figure.subplots(2, 1, sharex=True, height_ratios=(1.5, 1))
        marker, colour = _STYLES[0]
        none = (np.zeros(len(table)), np.zeros(len(table)))
        for part, style in (
            (first, {"fmt": marker, "color": colour, "mfc": "white"}),
            (table, {"fmt": "o", "color": COLOURS["data"]}),
        ):
            label = f"{combined.regions[0]} alone" if part is first else "combination"
            error = (part.dnde_errn + part.dnde_errp) / 2
            # Of the same flux for both, or a region that fluctuates down has a large relative error.
            some = several & (part.n_data > 0)
            y = np.where(some, 100 * error / np.where(some, table.dnde, 1.0), np.nan)
            points(main, table.e_min, table.e_max, table.e_ref, y, none, label=label, **style)
        main.set_yscale("log")
        main.set_ylabel("Statistical error / combined flux (%)")
        main.legend(loc="upper left")
        main.grid(alpha=0.25, lw=0.6)
        gain = np.where(several, combined.gain, np.nan)
        points(low, table.e_min, table.e_max, table.e_ref, gain, none, color=COLOURS["data"],
            label="found")  # fmt: skip
        predicted = np.where(several, combined.predicted, np.nan)
        low.stairs(
            predicted, np.append(table.e_min, table.e_max[-1]), baseline=None,
            color=COLOURS["cut"], lw=1.6, label=f"√(exposure of {combined.regions[0]} / all)",
        )  # fmt: skip
        low.axhline(1.0, color=COLOURS["total"], lw=0.8)
        low.set_ylim(0.0, 1.25)
        outside_markers(low, table.e_ref, gain, color=COLOURS["data"])
        low.set_ylabel(f"Error over that of\n{combined.regions[0]} alone")
        low.legend(loc="lower left", ncols=2)
        low.grid(alpha=0.25, lw=0.6)
        energy_axis(low, *span)
        main.yaxis.set_major_formatter("{x:g}")
        main.yaxis.set_minor_formatter(FuncFormatter(_two_and_five))
        if span[1] / span[0] < 100:
            few_labels(low.xaxis)
    return sheet.paths


def _two_and_five(value: float, _: int | None = None) -> str:
    """Labels between the decades of an axis in per cent."""
    digit = round(value / 10.0 ** np.floor(np.log10(value) + 1e-9))
    return f"{value:g}" if digit in (2, 5) else ""


def _published(ax: Axes, spectrum: PublishedSpectrum, span: tuple[float, float]) -> None:
    e = spectrum.e_ref()
    inside = (e >= span[0]) & (e <= span[1])
    low, high = spectrum.total_error()
    ax.errorbar(
        e[inside],
        (e**3 * spectrum.dnde)[inside],
        yerr=[(e**3 * side)[inside] for side in (low, high)],
        fmt="o",
        color="#888888",
        mfc="white",
        ms=3.5,
        elinewidth=0.8,
        label=spectrum.label,
        zorder=2,
    )


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


def _ratios(ax: Axes, combined: Combination) -> None:
    """Ratios of the consistency tests, and the mean ratio of the combined bins."""
    ax.axhline(1.0, color=COLOURS["total"], lw=0.8)
    test = combined.consistency
    ends = []
    for found, face in ((combined.below, "white"), (test, None)):
        if found is None:
            continue
        for r in range(found.ratio.shape[0]):
            marker, colour = _STYLES[(r + 1) % len(_STYLES)]
            ends.append(_ratio(ax, found, r, marker, colour, face))
    ax.set_ylabel(f"Ratio to\n{combined.regions[0]}")
    ax.grid(alpha=0.25, lw=0.6)
    if not ends:
        ax.text(0.02, 0.9, "too few events to compare", transform=ax.transAxes, va="top")
        return
    far = min(max(0.3, 1.1 * float(np.nanmax(np.concatenate(ends)))), 1.5)
    ax.set_ylim(1 - min(far, 1.0), 1 + far)
    for found in (combined.below, test):
        if found is not None:
            middle = np.sqrt(found.e_min * found.e_max)
            for r, ratio in enumerate(found.ratio):
                outside_markers(ax, middle, ratio, color=_STYLES[(r + 1) % len(_STYLES)][1])
    if test is None:
        return
    said = [f"χ²/dof = {test.chi2:.1f}/{test.ndf}, p = {test.p_value:.2g}"]
    for r, name in enumerate(test.regions[1:]):
        value = test.total_ratio[r]
        error = float(np.hypot(test.total_stat[r], test.total_sys[r]))
        colour = _STYLES[(r + 1) % len(_STYLES)][1]
        band = (value - error, value + error)
        ax.fill_between([test.e_min[0], test.e_max[-1]], *band, color=colour, alpha=0.2, lw=0)
        said.append(f"{name} / {test.regions[0]} = {value:.3f} ± {error:.3f}")
    ax.text(
        0.02, 0.94, "above " + f"{test.e_min[0]:.0f} GeV: " + "; ".join(said),
        transform=ax.transAxes, va="top", fontsize=9.5, zorder=10,
        bbox={"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1.0},
    )  # fmt: skip


def _ratio(
    ax: Axes, found: Consistency, r: int, marker: str, colour: str, face: str | None
) -> FloatArray:
    """Ratios of one region; returns how far they and their errors reach from 1."""
    middle, y = np.sqrt(found.e_min * found.e_max), found.ratio[r]
    stat, every = found.ratio_stat[r], np.hypot(found.ratio_stat[r], found.ratio_sys[r])
    style = {"fmt": marker, "color": colour, "ms": 4.5, **({"mfc": face} if face else {})}
    points(ax, found.e_min, found.e_max, middle, y, (stat, stat), **style)
    if found.ratio_sys[r].any():
        ax.bar(
            found.e_min, 2 * every, found.e_max - found.e_min, bottom=y - every, align="edge",
            color=colour, alpha=0.15, lw=0,
        )  # fmt: skip
    return np.asarray(np.abs(y - 1) + 0.5 * every)
