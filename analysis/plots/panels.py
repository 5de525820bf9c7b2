"""Panels that show data against stacked Monte Carlo with a ratio below, one or several on a page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from analysis.intervals import garwood
from analysis.plots.style import COLOURS, Page, outside_markers, page

__all__ = ["Panel", "draw_grid", "merge_factor", "merged", "used_bins"]

FloatArray = NDArray[np.float64]

_MOST_BINS = 64  # more would be narrower than a marker
_MANY_EXPECTED = 0.1  # events in a bin that are worth drawing
_RATIO = (0.0, 2.0)


@dataclass(frozen=True, eq=False)
class Panel:
    """One distribution; value and variance per kind, MC already in data counts, flow left out.

    ``cut`` and ``control`` are marked if given.
    """

    title: str
    edges: FloatArray
    value: dict[str, FloatArray]
    variance: dict[str, FloatArray]
    outside: float
    cut: float | None = None
    control: tuple[float, float] | None = None


def merge_factor(n: int, used: int | None = None) -> int:
    """Smallest divisor of n (so that no bin is cut off) that leaves at most 64 of the used bins."""
    return next(k for k in range(1, n + 1) if n % k == 0 and (used or n) <= _MOST_BINS * k)


def used_bins(data: FloatArray, expected: FloatArray) -> tuple[int, int]:
    """First bin, and one behind the last, that has data or a tenth of an event expected.

    Args:
        data: Counts, last axis over the bins.
        expected: Expected counts, same shape.

    Returns:
        The range; all bins if none has any.
    """
    filled = (data > 0) | (expected > _MANY_EXPECTED)
    at = np.flatnonzero(filled.reshape(-1, filled.shape[-1]).any(axis=0))
    return (int(at[0]), int(at[-1]) + 1) if at.size else (0, filled.shape[-1])


def merged(values: FloatArray, factor: int) -> FloatArray:
    """Sums of neighbouring bins."""
    return np.asarray(values.reshape(-1, factor).sum(axis=1))


def draw_grid(
    panels: Sequence[Panel],
    x_label: str,
    region: str,
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    overwrite: bool,
) -> list[Path]:
    """Panels on one page, three in a row, one legend."""
    columns = min(3, len(panels)) if len(panels) != 4 else 2
    rows = -(-len(panels) // columns)
    size = (6.6, 5.8) if len(panels) == 1 else (0.8 + 4.2 * columns, 0.9 + 3.7 * rows)
    one_cut = len({panel.cut for panel in panels}) == 1
    with page(stem, size, synthetic=synthetic, overwrite=overwrite) as sheet:
        cells = sheet.figure.add_gridspec(rows, columns)
        for i, panel in enumerate(panels):
            cell = cells[i // columns, i % columns]
            last = i + columns >= len(panels)
            first = i % columns == 0
            main = _draw(sheet, cell, panel, x_label, one_cut=one_cut, left=first, bottom=last)
            main.set_title(f"{region}, {panel.title}" if i == 0 else panel.title, loc="right")
            if i == 0:
                handles, labels = main.get_legend_handles_labels()
        wide = len(panels) > 1
        sheet.figure.legend(
            handles,
            labels,
            loc="outside upper right" if wide else "outside lower center",
            ncols=len(labels) if wide else 3,
        )
    return sheet.paths


def _draw(
    sheet: Page,
    cell: SubplotSpec,
    panel: Panel,
    x_label: str,
    *,
    one_cut: bool,
    left: bool,
    bottom: bool,
) -> Axes:
    """One distribution with its ratio."""
    split = cell.subgridspec(2, 1, height_ratios=(3, 1), hspace=0.03)
    main = sheet.figure.add_subplot(split[0])
    below = sheet.figure.add_subplot(split[1], sharex=main)
    _distributions(main, panel)
    _ratio(below, panel)
    for ax in (main, below):
        if panel.control is not None:
            label = "control region" if ax is main else None
            ax.axvspan(*panel.control, color="#BBBBBB", alpha=0.35, lw=0, label=label, zorder=0)
        if panel.cut is not None:
            symbol = "Ω" if "Ω" in x_label else "score"
            value = f"cut, {symbol} ≥ {panel.cut:.3g}".replace("-", "−")
            label = None if ax is below else value if one_cut else "cut"
            ax.axvline(panel.cut, color=COLOURS["cut"], ls="--", lw=1.4, label=label)
    main.set_xlim(*_x_range(panel))
    main.tick_params(labelbottom=False)
    below.xaxis.set_major_locator(MaxNLocator(6))
    if panel.outside > 0:
        text = f"data beyond the axis: {panel.outside:.0f}"
        main.text(0.03, 0.95, text, transform=main.transAxes, va="top", fontsize=8.5)
    if left:
        main.set_ylabel("Events / bin")
        below.set_ylabel("Data / MC")
    if bottom:
        below.set_xlabel(x_label)
    return main


def _x_range(panel: Panel) -> tuple[float, float]:
    """The used bins and one on either side, and all that is marked."""
    first, stop = used_bins(panel.value["data"], panel.value["electron"] + panel.value["proton"])
    low, high = panel.edges[max(first - 1, 0)], panel.edges[min(stop + 1, panel.edges.size - 1)]
    marked = [m for m in (panel.cut, *(panel.control or ())) if m is not None]
    pad = 0.03 * (high - low)
    return float(min([low, *marked]) - pad), float(max([high, *marked]) + pad)


def _distributions(ax: Axes, panel: Panel) -> None:
    value, variance, edges = panel.value, panel.variance, panel.edges
    total, error = _total(panel)
    # The error of the Monte Carlo is the band, so no bars here.
    common: dict[str, Any] = {"ax": ax, "flow": "none", "yerr": False}
    step = {**common, "histtype": "step", "edges": False}
    mplhep.histplot(
        value["proton"],
        edges,
        histtype="fill",
        color=COLOURS["proton"],
        alpha=0.3,
        label="protons (MC, scaled)",
        **common,
    )
    mplhep.histplot(total, edges, color=COLOURS["total"], label="sum of MC", **step)
    electron = {"color": COLOURS["electron"], "linestyle": "--", "label": "electrons (MC)"}
    mplhep.histplot(value["electron"], edges, **electron, **step)
    _band(ax, edges, total - error, total + error)
    data = value["data"]
    shown = np.where(data > 0, data, np.nan)
    mplhep.histplot(
        shown,
        edges,
        yerr=_data_errors(data, variance["data"]),
        histtype="errorbar",
        color=COLOURS["data"],
        ax=ax,
        flow="none",
        label="data",
        markersize=4,
        elinewidth=1.0,
    )
    ax.set_yscale("log")
    positive = data[data > 0] if (data > 0).any() else total[total > 0]
    if positive.size:
        top = max(float(positive.max()), float(total.max()))
        bottom = 0.3 * float(positive.min())
        ax.set_ylim(
            bottom, max(4.0 * top, 100.0 * bottom)
        )  # two decades, so that ticks have labels


def _ratio(ax: Axes, panel: Panel) -> None:
    total, error = _total(panel)
    data = panel.value["data"]
    good = total > 0
    safe = np.where(good, total, 1.0)
    low, high = _data_errors(data, panel.variance["data"])
    shown = good & (data > 0)
    ratio = np.where(shown, data / safe, np.nan)
    band = np.where(good, error / safe, 0.0)
    _band(ax, panel.edges, 1 - band, 1 + band)
    mplhep.histplot(
        ratio,
        panel.edges,
        yerr=np.array([low / safe, high / safe]),
        histtype="errorbar",
        color=COLOURS["data"],
        ax=ax,
        flow="none",
        markersize=4,
        elinewidth=1.0,
    )
    ax.axhline(1.0, color=COLOURS["total"], lw=0.8)
    ax.set_ylim(*_RATIO)
    outside_markers(ax, (panel.edges[1:] + panel.edges[:-1]) / 2, ratio, color=COLOURS["data"])


def _band(ax: Axes, edges: FloatArray, low: FloatArray, high: FloatArray) -> None:
    """Grey band over the bins: the statistical error of the Monte Carlo."""
    low, high = np.append(low, low[-1]), np.append(high, high[-1])
    ax.fill_between(edges, low, high, step="post", color=COLOURS["total"], alpha=0.3, lw=0)


def _total(panel: Panel) -> tuple[FloatArray, FloatArray]:
    """Sum of the Monte Carlo and its statistical error."""
    total = panel.value["electron"] + panel.value["proton"]
    return total, np.sqrt(panel.variance["electron"] + panel.variance["proton"])


def _data_errors(value: FloatArray, variance: FloatArray) -> NDArray[np.float64]:
    """Distances to the Garwood ends for counts, else the square root of the variance."""
    if np.array_equal(value, variance) and (value >= 0).all():
        interval = garwood(value)
        return np.array([value - interval.lower, interval.upper - value])
    return np.array([np.sqrt(variance)] * 2)
