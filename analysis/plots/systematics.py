"""Errors of a flux by source: figure and table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analysis.fluxtable import FluxTable
from analysis.plots.style import COLOURS, PlotError, energy_axis, page
from analysis.plots.ticks import few_labels

__all__ = ["plot_systematics", "systematics_table"]

FloatArray = NDArray[np.float64]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8C6D1F", "#56B4E9", "#7A5195", "#000000")
_LINES = ("-", "--", "-.")
_DECADES = 3.5  # below the largest error, that are drawn at most


def plot_systematics(
    table: FluxTable,
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Relative errors of the flux: each source, all sources together, and the statistical error.

    Symmetric errors have one panel, in which the statistical error is the mean of both sides; others have one
    for each side.

    Args:
        table: flux table with ``sys_<source>`` columns.
        stem: path without suffix.
        synthetic: whether the data are simulated.
        title: text over the figure.
        overwrite: replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: no systematic errors, or no bin with a positive flux.
        FileExistsError: a file exists and ``overwrite`` is not set.
    """
    good = _good(table)
    if not good.any():
        msg = "no bin has a positive flux, so no relative error: nothing to draw"
        raise PlotError(msg)
    if not table.systematics:
        msg = "the flux table has no systematic errors; add them before drawing their breakdown"
        raise PlotError(msg)
    sources = {
        k: (_relative(table, n), _relative(table, p)) for k, (n, p) in table.systematics.items()
    }
    total = tuple(_relative(table, part) for part in table.total_systematic())
    statistical = _relative(table, table.dnde_errn), _relative(table, table.dnde_errp)
    symmetric = all(np.allclose(n[good], p[good], rtol=1e-6) for n, p in sources.values())
    panels = [(None, "")] if symmetric else [(1, "upwards"), (0, "downwards")]
    edges = np.append(table.e_min, table.e_max[-1])
    size = (7.6, 4.9) if symmetric else (7.6, 7.6)
    with page(stem, size, synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        axes = sheet.figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        limits = _limits([*sources.values(), total, statistical])
        for ax, (side, name) in zip(axes, panels, strict=True):
            ax.set_yscale("log")
            ax.set_ylim(*limits)
            _band(ax, edges, _side(statistical, side), limits[0])
            for k, (source, both) in enumerate(sources.items()):
                style: dict[str, Any] = {
                    "color": _COLOURS[k % len(_COLOURS)],
                    "ls": _LINES[k // len(_COLOURS) % len(_LINES)],
                    "lw": 1.6,
                }
                _stairs(ax, edges, _side(both, side), source.replace("_", " "), **style)
            if len(sources) > 1:
                black: dict[str, Any] = {"color": COLOURS["data"], "ls": ":", "lw": 2.2}
                _stairs(ax, edges, _side(total, side), "all sources in quadrature", **black)
            ax.set_ylabel(f"Relative error{', ' + name if name else ''} (%)")
            ax.grid(alpha=0.25, lw=0.6)
        energy_axis(axes[-1], float(table.e_min[good].min()), float(table.e_max[good].max()))
        few_labels(axes[-1].xaxis, *(ax.yaxis for ax in axes))
        handles, labels = axes[0].get_legend_handles_labels()
        columns = min(3, len(labels))
        sheet.figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    return sheet.paths


def systematics_table(table: FluxTable) -> str:
    """Relative errors per energy bin and source as an aligned Markdown table, per cent.

    Args:
        table: flux table.

    Returns:
        One line per energy bin with a flux: one number where both sides are the same to the digits shown, else down and up;
        a dash where there is no positive flux.
    """
    good = _good(table)
    columns = {
        "E (GeV)": [
            f"{low:.1f}–{high:.1f}" for low, high in zip(table.e_min, table.e_max, strict=True)
        ]
    }
    pairs = {"statistical": (table.dnde_errn, table.dnde_errp), **table.systematics}
    if table.systematics:
        pairs["all systematic"] = table.total_systematic()
    for name, (down, up) in pairs.items():
        both = zip(_relative(table, down), _relative(table, up), good, strict=True)
        columns[f"{name.replace('_', ' ')} (%)"] = [_cell(n, p) if ok else "–" for n, p, ok in both]
    bins = zip(*columns.values(), strict=True)
    rows = [list(columns), *(list(row) for row, ok in zip(bins, table.success, strict=True) if ok)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(columns))]
    lines = [
        "| " + " | ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (w + 1) + ":" for w in widths) + "|"
    head = ["SYNTHETIC data, not data of the experiment", ""] if table.meta.get("synthetic") else []
    return "\n".join([*head, lines[0], rule, *lines[1:]]) + "\n"


def _cell(down: float, up: float) -> str:
    low, high = _digits(down), _digits(up)
    return low if low == high else f"−{low} +{high}"


def _digits(value: float) -> str:
    """Per cent, two digits that count."""
    if not np.isfinite(value):
        return "–"
    if value <= 0:
        return "0"
    rounded = float(f"{value:.1e}")
    return f"{rounded:.{int(np.clip(1 - np.floor(np.log10(rounded)), 0, 4))}f}"


def _good(table: FluxTable) -> NDArray[np.bool_]:
    return np.asarray(table.success & (table.dnde > 0))


def _relative(table: FluxTable, error: FloatArray) -> FloatArray:
    """Per cent of the flux, NaN where there is none."""
    good = _good(table)
    return np.where(good, 100.0 * error / np.where(good, table.dnde, 1.0), np.nan)


def _side(both: tuple[FloatArray, ...], side: int | None) -> FloatArray:
    return np.asarray(0.5 * (both[0] + both[1])) if side is None else both[side]


def _limits(pairs: list[tuple[FloatArray, ...]]) -> tuple[float, float]:
    """From the smallest positive error, not too far below the largest, to above the largest."""
    everything = np.concatenate([np.concatenate(pair) for pair in pairs])
    positive = everything[np.isfinite(everything) & (everything > 0)]
    high = float(positive.max(initial=1e-3))
    low = max(float(positive.min(initial=high)), high / 10**_DECADES)
    return 0.6 * min(low, 0.1 * high), 1.6 * high


def _band(ax: Axes, edges: FloatArray, height: FloatArray, floor: float) -> None:
    """Grey area up to the statistical error."""
    label = "statistical"
    ax.stairs(
        height,
        edges,
        baseline=floor,
        fill=True,
        color=COLOURS["total"],
        alpha=0.3,
        lw=0,
        label=label,
    )


def _stairs(ax: Axes, edges: FloatArray, height: FloatArray, label: str, **style: Any) -> None:
    """Steps; parts at 0 are left out, for the axis is logarithmic."""
    ax.stairs(np.where(height > 0, height, np.nan), edges, baseline=None, label=label, **style)
