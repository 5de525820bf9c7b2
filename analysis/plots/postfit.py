"""Data with the fitted templates, per energy bin, and the pulls."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from analysis.intervals import garwood
from analysis.plots.panels import merged, used_bins
from analysis.plots.style import (
    COLOURS,
    Page,
    PlotError,
    distances,
    energy_text,
    grid,
    outside_markers,
    page,
)
from analysis.postfit import PostFit, pulls

__all__ = ["plot_postfit", "plot_postfit_bins"]

FloatArray = NDArray[np.float64]

_PANELS = 9
_BINS = 100  # drawn at most: a proton peak can be much narrower than the score range
_PULLS = 5.0


def plot_postfit(
    fit: PostFit,
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    cut: ArrayLike | None = None,
    score_label: str = "Score Ω",
    where: str | None = None,
    bins: Sequence[int] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Several energy bins on one page: data, fitted electrons and protons, pulls.

    Args:
        fit: data and templates after the fit.
        stem: path without suffix.
        synthetic: whether the data are simulated.
        cut: score cut to mark, one or one per energy bin.
        score_label: label of the score axis.
        where: text of the selection; default the region.
        bins: energy bins to draw; default: nine at most, spread over those with a fit.
        overwrite: replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: no energy bin has a fit, or one that is asked for has none.
        FileExistsError: a file exists and ``overwrite`` is not set.
    """
    chosen = _chosen(fit, bins, _PANELS)
    return _page(fit, chosen, stem, _cuts(fit, cut), score_label, where, synthetic, overwrite)


def plot_postfit_bins(
    fit: PostFit,
    folder: str | os.PathLike[str],
    *,
    synthetic: bool,
    cut: ArrayLike | None = None,
    score_label: str = "Score Ω",
    where: str | None = None,
    bins: Sequence[int] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """One page per energy bin, named ``fit_<number>_<e_min>_<e_max>_gev``.

    Args:
        fit: data and templates after the fit.
        folder: where the files go.
        synthetic: whether the data are simulated.
        cut: score cut to mark, one or one per energy bin.
        score_label: label of the score axis.
        where: text of the selection; default the region.
        bins: energy bins to draw; default: all with a fit.
        overwrite: replace files that exist.

    Returns:
        Paths of all files.

    Raises:
        PlotError: no energy bin has a fit, or one that is asked for has none.
        FileExistsError: a file exists and ``overwrite`` is not set.
    """
    cuts, out = _cuts(fit, cut), []
    for i in _chosen(fit, bins, None):
        stem = Path(folder) / f"fit_{i:02d}_{fit.e_min[i]:.0f}_{fit.e_max[i]:.0f}_gev"
        out += _page(fit, [i], stem, cuts, score_label, where, synthetic, overwrite)
    return out


def _page(
    fit: PostFit,
    bins: Sequence[int],
    stem: str | os.PathLike[str],
    cuts: FloatArray | None,
    score_label: str,
    where: str | None,
    synthetic: bool,
    overwrite: bool,
) -> list[Path]:
    rows, columns = grid(len(bins))
    single = len(bins) == 1
    size = (6.6, 6.0) if single else (0.8 + 4.2 * columns, 1.0 + 3.7 * rows)
    title = f"{where or fit.region}" if not single else ""
    with page(stem, size, synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        cells = sheet.figure.add_gridspec(rows, columns)
        for k, i in enumerate(bins):
            cut = None if cuts is None else float(cuts[i])
            main, below = _panel(sheet, cells[k // columns, k % columns], fit, i, cut)
            text = energy_text(fit.e_min[i], fit.e_max[i])
            main.set_title(f"{where or fit.region}, {text}" if single else text, loc="right")
            if k % columns == 0:
                main.set_ylabel("Events / bin")
                below.set_ylabel("Pull")
            if k + columns >= len(bins):
                below.set_xlabel(score_label)
            if k == 0:
                handles, labels = main.get_legend_handles_labels()
        sheet.figure.legend(
            handles, labels, loc="outside lower center", ncols=3 if single else len(labels)
        )
    return sheet.paths


def _panel(
    sheet: Page, cell: SubplotSpec, fit: PostFit, i: int, cut: float | None
) -> tuple[Axes, Axes]:
    split = cell.subgridspec(2, 1, height_ratios=(3, 1), hspace=0.03)
    main = sheet.figure.add_subplot(split[0])
    below = sheet.figure.add_subplot(split[1], sharex=main)
    first, stop = used_bins(fit.data[i], np.nan_to_num(fit.total[i]))
    if cut is not None:
        at = int(np.searchsorted(fit.omega_edges, cut))
        first, stop = min(first, at), max(stop, at)
    size = fit.data.shape[1]
    factor = next(k for k in range(1, size + 1) if size % k == 0 and stop - first <= _BINS * k)
    edges = fit.omega_edges[::factor]
    data, electrons, protons, unshifted, variance = (
        merged(part[i], factor)
        for part in (fit.data, fit.electrons, fit.protons, fit.unshifted, fit.variance)
    )
    centre = 0.5 * (edges[1:] + edges[:-1])
    total, error = electrons + protons, np.sqrt(variance)
    main.stairs(
        protons,
        edges,
        color=COLOURS["proton"],
        fill=True,
        alpha=0.3,
        label="protons, fitted",
    )
    dashed: dict[str, Any] = {"color": COLOURS["proton"], "ls": (0, (4, 2)), "lw": 1.2}
    main.stairs(unshifted, edges, label="protons, not shifted", **dashed)
    main.stairs(electrons, edges, color=COLOURS["electron"], lw=1.4, label="electrons, fitted")
    main.stairs(total, edges, color=COLOURS["total"], lw=1.2, label="sum")
    low, high = np.maximum(total - error, 1e-9), total + error
    main.stairs(high, edges, baseline=low, fill=True, color=COLOURS["total"], alpha=0.35, lw=0)
    ends = garwood(data)
    some = data > 0
    bars = [part[some] for part in distances(data, ends.lower, ends.upper)]
    black: dict[str, Any] = {"color": COLOURS["data"], "fmt": "o", "ms": 2.8, "elinewidth": 0.9}
    main.errorbar(centre[some], data[some], yerr=bars, label="data", zorder=5, **black)
    main.set_yscale("log")
    top = max(float(data.max()), float(np.nanmax(total)), 1.0)
    main.set_ylim(0.3, max(top * (top / 0.3) ** 0.22, 30.0))  # room for the text
    low_x, high_x = (fit.omega_edges[k] for k in (first, stop))
    pad = 0.03 * (high_x - low_x)
    main.set_xlim(low_x - pad, high_x + pad)
    main.tick_params(labelbottom=False)
    main.text(0.03, 0.96, _found(fit, i), transform=main.transAxes, va="top", fontsize=8.5)

    pull = pulls(data, total, variance)
    below.axhspan(-1, 1, color=COLOURS["total"], alpha=0.2, lw=0)
    below.axhline(0.0, color=COLOURS["total"], lw=0.8)
    below.plot(centre, pull, "o", ms=2.4, color=COLOURS["data"])
    below.set_ylim(-_PULLS, _PULLS)
    below.xaxis.set_major_locator(MaxNLocator(6))
    outside_markers(below, centre, np.nan_to_num(pull, nan=0.0, posinf=1e9), color=COLOURS["data"])
    if cut is not None:
        label = "cut"
        for ax in (main, below):
            ax.axvline(cut, color=COLOURS["cut"], ls="--", lw=1.4, label=label)
    for at in (fit.window[0][i], fit.window[1][i]):
        if np.isfinite(at):
            main.axvline(at, color=COLOURS["total"], ls=":", lw=1.2)
    return main, below


def _found(fit: PostFit, i: int) -> str:
    """Shift and width of an energy bin, and the data that are not drawn."""
    lines = []
    for symbol, (value, error) in (("s", fit.shift), ("w", fit.width)):
        if error[i] > 0:
            digits = int(np.clip(np.ceil(-np.log10(error[i])) + 1, 0, 5))
            text = f"{symbol} = {value[i]:.{digits}f} ± {error[i]:.{digits}f}"
            lines.append(text.replace("-", "−"))
    if fit.outside[i] > 0:
        lines.append(f"beyond the axis: {fit.outside[i]:.0f}")
    return "\n".join(lines)


def _chosen(fit: PostFit, bins: Sequence[int] | None, most: int | None) -> list[int]:
    fitted = np.flatnonzero(fit.success)
    if bins is not None:
        wrong = [i for i in bins if i not in fitted]
        if wrong or not len(bins):
            msg = f"energy bin {wrong[0]} has no fit" if wrong else "no energy bins were asked for"
            raise PlotError(msg)
        return [int(i) for i in bins]
    if not fitted.size:
        msg = "no energy bin has a fit: nothing to draw; the reasons stand in the fit result"
        raise PlotError(msg)
    if most is not None and fitted.size > most:
        fitted = fitted[np.linspace(0, fitted.size - 1, most).round().astype(int)]
    return [int(i) for i in fitted]


def _cuts(fit: PostFit, cut: ArrayLike | None) -> FloatArray | None:
    return None if cut is None else np.broadcast_to(np.asarray(cut, np.float64), fit.e_min.shape)
