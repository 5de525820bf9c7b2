"""Flux, efficiency, background and expected error against the score cut, and the stability of the flux."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from analysis.cutscan import CutScan, cut_index
from analysis.cutstability import CutSystematic, flux_change
from analysis.plots.style import (
    COLOURS,
    PlotError,
    energy_axis,
    energy_text,
    outside_markers,
    page,
)
from analysis.plots.ticks import few_labels

__all__ = ["plot_cut_scan", "plot_cut_stability"]

FloatArray = NDArray[np.float64]

_COLUMNS = 4
_ROWS = (
    "Flux / flux at\nthe chosen cut",
    "Electron\nefficiency",
    "Background\nfraction",
    "Expected relative\nerror of the flux",
)


def plot_cut_scan(
    scan: CutScan,
    stem: str | os.PathLike[str],
    *,
    chosen: ArrayLike,
    synthetic: bool,
    bins: Sequence[int] | None = None,
    score_label: str = "Score Ω",
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """What changes with the cut, in a few energy bins, with the chosen cut.

    Error bars of the flux are those of the change from the chosen cut; the grey band is the statistical error at
    the chosen cut.

    Args:
        scan: the scan.
        stem: path without suffix.
        chosen: the chosen cut, one or one per energy bin.
        synthetic: whether the data are simulated.
        bins: energy bins to draw, four at most; default: four spread over those with a flux at the chosen cut.
        score_label: label of the score axis.
        title: text over the figure.
        overwrite: replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: no energy bin has a flux at the chosen cut, or other than one to four existing bins are asked for.
        AnalysisError: a chosen cut was not scanned.
        FileExistsError: a file exists and ``overwrite`` is not set.
    """
    at = cut_index(scan, chosen)
    shown = _chosen_bins(scan, at, bins)
    change, error = flux_change(scan, chosen)
    size = (max(1.0 + 3.3 * len(shown), 6.6), 9.6)
    with page(stem, size, synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        axes = sheet.figure.subplots(len(_ROWS), len(shown), sharex=True, squeeze=False)
        for column, i in enumerate(shown):
            top, eff, bkg, merit = axes[:, column]
            text = energy_text(scan.e_min[i], scan.e_max[i])
            top.set_title(text, loc="right")
            _flux(top, scan, i, int(at[i]), change[i], error[i])
            _line(eff, scan.cuts, scan.efficiency[i], scan.efficiency_error[i], "electron")
            eff.set_ylim(min(0.95, 0.9 * float(np.nanmin(scan.efficiency[i]))), 1.02)
            _background(bkg, scan, i)
            finite = np.where(np.isfinite(scan.expected_error[i]), scan.expected_error[i], np.nan)
            merit.plot(scan.cuts, finite, "o-", ms=3, lw=1.0, color=COLOURS["data"])
            best = float(np.nanmin(finite))
            merit.set_ylim(0.85 * best, 2.2 * best)
            outside_markers(merit, scan.cuts, np.nan_to_num(finite, nan=best), color="black")
            merit.set_xlabel(score_label)
            for ax in axes[:, column]:
                ax.axvline(scan.cuts[at[i]], color=COLOURS["cut"], ls="--", lw=1.4)
                ax.grid(alpha=0.25, lw=0.6)
        for ax, label in zip(axes[:, 0], _ROWS, strict=True):
            ax.set_ylabel(label)
        sheet.figure.align_ylabels(axes[:, 0])
        _legend(sheet.figure.legend, axes)
    return sheet.paths


def plot_cut_stability(
    systematic: CutSystematic,
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    score_label: str = "Score Ω",
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """The cuts, the change of the flux with them, and half the spread beside its fluctuation.

    Args:
        systematic: from :func:`analysis.cutstability.cut_systematic`.
        stem: path without suffix.
        synthetic: whether the data are simulated.
        score_label: label of the score axis.
        title: text over the figure.
        overwrite: replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: no energy bin has a result.
        FileExistsError: a file exists and ``overwrite`` is not set.
    """
    s = systematic
    if not s.success.any():
        msg = "no energy bin has a flux at a looser and a tighter cut: scan more cuts"
        raise PlotError(msg)
    e_ref = np.sqrt(s.e_min * s.e_max)
    grey = COLOURS["total"]
    with page(stem, (7.2, 8.6), synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        cuts, change, spread = sheet.figure.subplots(
            3, 1, sharex=True, height_ratios=(1.1, 1.4, 1.4)
        )
        for k, (name, colour, marker, apart) in enumerate(
            (
                ("looser cut", COLOURS["electron"], "v", 0.985),
                ("chosen cut", COLOURS["cut"], "o", 1.0),
                ("tighter cut", COLOURS["proton"], "^", 1.015),
            )
        ):
            style: dict[str, Any] = {"ms": 4, "color": colour, "label": name}
            cuts.plot(e_ref, s.cut[:, k], marker, ls="none", **style)
            if k == 1:
                continue
            y, bars = 100.0 * s.change[:, k], 100.0 * s.change_error[:, k]
            good = np.isfinite(y)
            x = apart * e_ref[good]
            change.errorbar(x, y[good], yerr=bars[good], fmt=marker, elinewidth=1.0, **style)
        change.axhline(0.0, color=grey, lw=0.8)
        away = np.abs(100.0 * s.change[:, ::2][s.success]).ravel()
        half = 1.6 * max(float(np.quantile(away, 0.95)), 0.1)
        change.set_ylim(-half, half)
        for k, colour in ((0, COLOURS["electron"]), (2, COLOURS["proton"])):
            outside_markers(change, e_ref, np.nan_to_num(100.0 * s.change[:, k]), color=colour)
        edges = np.append(s.e_min, s.e_max[-1])
        spread.stairs(
            100.0 * s.fluctuation, edges, fill=True, color=grey, alpha=0.3, label="its fluctuation"
        )
        y = 100.0 * s.half_spread
        spread.plot(e_ref, y, "o", ms=4.5, color=COLOURS["data"], label="half spread of the flux")
        y = np.where(s.excess > 0, 100.0 * s.excess, np.nan)
        open_style: dict[str, Any] = {"color": COLOURS["synthetic"], "mfc": "white", "ms": 4.5}
        spread.plot(e_ref, y, "D", label="what exceeds the fluctuation", **open_style)
        spread.set_yscale("log")
        drawn = 100.0 * np.concatenate([s.half_spread, s.fluctuation])
        drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
        high = float(drawn.max(initial=0.1))
        spread.set_ylim(max(0.5 * float(drawn.min(initial=high)), 1e-4 * high), 4.0 * high)
        cuts.set_ylabel(score_label)
        change.set_ylabel("Change of the flux (%)")
        spread.set_ylabel("Relative error (%)")
        cuts.legend(loc="best", ncols=3)
        spread.legend(loc="upper left")
        for ax in (cuts, change, spread):
            ax.grid(alpha=0.25, lw=0.6)
        span = s.e_min[s.success].min(), s.e_max[s.success].max()
        energy_axis(spread, float(span[0]), float(span[1]))
        few_labels(spread.xaxis, spread.yaxis)
        sheet.figure.align_ylabels((cuts, change, spread))
    return sheet.paths


def _chosen_bins(scan: CutScan, at: NDArray[np.intp], bins: Sequence[int] | None) -> list[int]:
    n = scan.e_min.size
    positive = np.flatnonzero(scan.success[np.arange(n), at] & (scan.dnde[np.arange(n), at] > 0))
    if bins is not None:
        wrong = [i for i in bins if i not in positive]
        if wrong or not 0 < len(bins) <= _COLUMNS:
            which = (
                f"energy bin {wrong[0]} has no flux at the chosen cut" if wrong else f"{len(bins)}"
            )
            msg = f"a cut scan is drawn for one to {_COLUMNS} energy bins with a flux, got {which}"
            raise PlotError(msg)
        return [int(i) for i in bins]
    if not positive.size:
        msg = "no energy bin has a flux at the chosen cut: nothing to draw"
        raise PlotError(msg)
    places = np.linspace(0, positive.size - 1, min(_COLUMNS, positive.size)).round().astype(int)
    return [int(i) for i in positive[places]]


def _flux(ax: Axes, scan: CutScan, i: int, at: int, change: FloatArray, error: FloatArray) -> None:
    reference = scan.dnde[i, at]
    low, high = scan.dnde_errn[i, at] / reference, scan.dnde_errp[i, at] / reference
    ax.axhspan(
        1 - low,
        1 + high,
        color=COLOURS["total"],
        alpha=0.2,
        lw=0,
        label="statistical error, chosen",
    )
    good = np.isfinite(change)
    bars = np.nan_to_num(error[good])
    style: dict[str, Any] = {"ms": 3, "elinewidth": 0.9, "color": COLOURS["data"]}
    ax.errorbar(
        scan.cuts[good],
        1 + change[good],
        yerr=bars,
        fmt="o",
        label="flux, error of the change",
        **style,
    )
    half = max(1.6 * max(low, high), 2.0 * float(np.quantile(np.abs(change[good]), 0.6)))
    ax.set_ylim(max(1 - half, -0.1), 1 + half)
    outside_markers(ax, scan.cuts, np.nan_to_num(1 + change, nan=1.0), color=COLOURS["data"])


def _line(ax: Axes, x: FloatArray, y: FloatArray, error: FloatArray, colour: str) -> None:
    good = np.isfinite(y)
    bars = np.nan_to_num(error[good])
    style: dict[str, Any] = {"ms": 3, "elinewidth": 0.9, "lw": 1.0, "color": COLOURS[colour]}
    ax.errorbar(x[good], y[good], yerr=bars, fmt="o-", **style)


def _background(ax: Axes, scan: CutScan, i: int) -> None:
    fraction, error = scan.background_fraction[i], scan.background_fraction_error[i]
    limited = scan.mc_limited[i] & np.isfinite(error)
    measured = np.where(limited | ~(fraction > 0), np.nan, fraction)
    _line(ax, scan.cuts, measured, error, "proton")
    if limited.any():
        height = error[limited]
        bars: dict[str, Any] = {
            "yerr": 0.35 * height,
            "uplims": True,
            "capsize": 2.0,
            "elinewidth": 0.8,
        }
        ax.errorbar(scan.cuts[limited], height, fmt="_", color=COLOURS["proton"], **bars)
    ax.set_yscale("log")
    drawn = np.append(measured[np.isfinite(measured)], error[limited])
    if drawn.size:
        high = 2.5 * float(drawn.max())
        decade = 10 ** (np.floor(np.log10(high)) - 1)  # two labels at least
        ax.set_ylim(min(0.4 * float(drawn.min()), decade), high)
        few_labels(ax.yaxis)


def _legend(legend: Any, axes: NDArray[Any]) -> None:
    """One legend for all panels."""
    handles, labels = axes[0, 0].get_legend_handles_labels()
    (cut,) = axes[0, 0].plot([], [], color=COLOURS["cut"], ls="--", lw=1.4)
    arrow = axes[0, 0].plot(
        [], [], color=COLOURS["proton"], marker=r"$\downarrow$", ms=9, ls="none"
    )
    text = "68 % limit, no simulated proton above the cut"
    legend(
        [*handles, cut, arrow[0]],
        [*labels, "chosen cut", text],
        loc="outside lower center",
        ncols=2 if axes.shape[1] < 3 else 4,
    )
