"""Figures of the classifiers: how well scores separate electrons from protons, from plain arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from analysis.plots.style import COLOURS, PlotError, distances, energy_axis, grid, page
from analysis.plots.training import draw_training

__all__ = [
    "Curve",
    "draw_training",
    "plot_auc",
    "plot_comparison",
    "plot_rejection",
    "plot_roc",
    "score_style",
    "score_text",
]

FloatArray = NDArray[np.float64]

_SCORES = {
    "zeta": ("ζ", "#555555", "s"),
    "dnn": ("DNN", "#0072B2", "^"),
    "cnn": ("CNN", "#009E73", "v"),
    "hamf": ("HAMF", "#D55E00", "o"),
    "omega": ("Ω", "#000000", "D"),
}
#: 1 − AUC below this is rounding.
_TINY = 1e-12
_OTHERS = (("#CC79A7", "p"), ("#56B4E9", "X"), ("#8C6D1F", "h"), ("#7A5195", "<"))


@dataclass(frozen=True, eq=False)
class Curve:
    """A quantity of one score per energy bin; every array has shape (n_bins,).

    Attributes:
        e_min: Lower edges, GeV.
        e_max: Upper edges, GeV.
        value: The quantity; NaN draws nothing, inf with a finite ``lower`` draws a lower limit.
        lower: Lower end of its interval.
        upper: Upper end.
    """

    e_min: FloatArray
    e_max: FloatArray
    value: FloatArray
    lower: FloatArray
    upper: FloatArray


def score_text(name: str) -> str:
    """How a score is called in a figure."""
    return _SCORES[name][0] if name in _SCORES else name


def score_style(name: str, number: int) -> tuple[str, str]:
    """Colour and marker of a score; ``number`` chooses those of a user's own."""
    return _SCORES[name][1:] if name in _SCORES else _OTHERS[number % len(_OTHERS)]


def plot_roc(
    panels: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]],
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Proton rejection against electron efficiency, one panel per energy range.

    Args:
        panels: Text of the energy range to score name to (electron efficiency, proton efficiency).
        stem: Path without suffix.
        synthetic: Whether the events are simulated.
        title: Text over the figure.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: There is nothing to draw.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    if not panels:
        msg = "no energy range has both electrons and protons: nothing to draw"
        raise PlotError(msg)
    rows, columns = grid(len(panels))
    size = (1.2 + 4.1 * columns, 0.7 + 4.0 * rows)
    with page(stem, size, synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        axes = sheet.figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes[len(panels) :]:
            ax.remove()
        for i, (ax, (text, curves)) in enumerate(zip(axes, panels.items(), strict=False)):
            for number, (name, (electrons, protons)) in enumerate(curves.items()):
                colour, _ = score_style(name, number)
                p = np.asarray(protons, np.float64)
                left = p > 0  # the curve ends where no proton is left
                x = np.asarray(electrons, np.float64)[left]
                ax.plot(x, 1 / p[left], color=colour, label=score_text(name))
            ax.set_yscale("log")
            ax.set_xlim(0.5, 1.0)
            ax.set_ylim(bottom=1.0)
            ax.axvline(0.9, color=COLOURS["cut"], ls=":", lw=1.0)
            ax.grid(alpha=0.25, lw=0.6)
            ax.set_title(text, loc="left", fontsize=10.5)
            ax.set_xlabel("Electron efficiency")
            if i % columns == 0:
                ax.set_ylabel("Proton rejection")
            if i == 0:
                ax.legend(loc="lower left")
    return sheet.paths


def plot_rejection(
    panels: Mapping[float, Mapping[str, Curve]],
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Proton rejection of all scores against energy, one panel per electron efficiency.

    Args:
        panels: Electron efficiency to score name to its rejection; arrows are lower limits.
        stem: Path without suffix.
        synthetic: Whether the events are simulated.
        title: Text over the figure.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: There is nothing to draw.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    if not panels:
        msg = "no electron efficiency was asked for: nothing to draw"
        raise PlotError(msg)
    rows, columns = grid(len(panels), most=2)
    size = (0.9 + 5.4 * columns, 0.7 + 3.5 * rows)
    with page(stem, size, synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        axes = sheet.figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for ax in axes.ravel()[len(panels) :]:
            ax.remove()
        for i, (ax, (efficiency, curves)) in enumerate(
            zip(axes.flat, panels.items(), strict=False)
        ):
            _curves(ax, curves)
            ax.set_yscale("log")
            ax.set_title(f"electron efficiency {100 * efficiency:.3g} %", loc="left", fontsize=10.5)
            if i % columns == 0:
                ax.set_ylabel("Proton rejection")
            if i + columns >= len(panels):
                ax.set_xlabel("Energy (GeV)")
        axes.flat[0].legend(loc="lower right", ncols=2)
    return sheet.paths


def plot_comparison(
    rejection: Mapping[str, Curve],
    background: Mapping[str, Curve],
    auc: Mapping[str, Curve],
    stem: str | os.PathLike[str],
    *,
    efficiency: float,
    synthetic: bool,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """All scores on the same events: 1 − AUC, rejection and background fraction against energy.

    Args:
        rejection: Score to proton rejection at ``efficiency``.
        background: Score to background fraction at ``efficiency``; empty draws no such panel.
        auc: Score to 1 − AUC.
        stem: Path without suffix.
        efficiency: Electron efficiency.
        synthetic: Whether the events are simulated.
        title: Text over the figure.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: There is nothing to draw.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    at = f"at {100 * efficiency:.3g} %"
    panels = [
        ("1 − AUC", auc),
        (f"Proton rejection {at}", rejection),
        (f"Background fraction {at}", background),
    ]
    panels = [(text, curves) for text, curves in panels if curves]
    if not panels:
        msg = "no score was evaluated: nothing to draw"
        raise PlotError(msg)
    size = (7.2, 0.9 + 2.9 * len(panels))
    with page(stem, size, synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        axes = sheet.figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for ax, (text, curves) in zip(axes, panels, strict=True):
            _curves(ax, curves)
            ax.set_yscale("log")
            ax.set_ylabel(text)
        axes[-1].set_xlabel("Energy (GeV)")
        handles, labels = axes[0].get_legend_handles_labels()
        sheet.figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return sheet.paths


def _curves(ax: Axes, curves: Mapping[str, Curve]) -> None:
    """Points of all scores, side by side within the bins; arrows where only a lower limit is known."""
    n = len(curves)
    for number, (name, c) in enumerate(curves.items()):
        colour, marker = score_style(name, number)
        # a sixth of the bin on either side of its centre is shared by the scores
        shift = 0.0 if n == 1 else (number / (n - 1) - 0.5) / 3
        x = np.sqrt(c.e_min * c.e_max) * (c.e_max / c.e_min) ** shift
        good = np.isfinite(c.value) & (c.value > 0)
        low, high = distances(c.value[good], c.lower[good], c.upper[good])
        # an infinite end runs out of the frame
        high = np.where(np.isfinite(high), high, 1e3 * c.value[good])
        style: dict[str, Any] = {"color": colour, "ms": 4.5, "elinewidth": 1.1}
        ax.errorbar(
            x[good], c.value[good], yerr=[low, high], fmt=marker, label=score_text(name), **style
        )
        for rows, end, up in (
            (np.isposinf(c.value) & np.isfinite(c.lower), c.lower, True),
            ((c.value == 0) & np.isfinite(c.upper) & (c.upper > 0), c.upper, False),
        ):
            ax.errorbar(
                x[rows],
                end[rows],
                yerr=(0.4 if up else 0.3) * end[rows],
                lolims=up,
                uplims=not up,
                fmt="none",
                capsize=2.5,
                color=colour,
                elinewidth=1.1,
            )
    # where there is no value, its limit; intervals that reach towards 0 run out of the frame
    heights = []
    for c in curves.values():
        known = np.isfinite(c.value) & (c.value > 0)
        limit = np.where(c.value == 0, c.upper, c.lower)
        heights += [c.upper[known], np.where(known, c.value, limit)]
        heights.append(np.maximum(c.lower, 0.3 * c.value)[known])
    seen = np.concatenate(heights) if heights else np.zeros(0)
    seen = seen[np.isfinite(seen) & (seen > 0)]
    if seen.size:
        ax.set_ylim(0.6 * seen.min(), 2.2 * seen.max())
    spans = [(c.e_min.min(), c.e_max.max()) for c in curves.values() if c.e_min.size]
    if spans:
        energy_axis(ax, min(s[0] for s in spans), max(s[1] for s in spans), "")
    ax.grid(alpha=0.25, lw=0.6)


def plot_auc(
    values: Mapping[str, Mapping[str, tuple[float, float, float]]],
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Table of the AUC of all scores in all energy ranges, and 1 − AUC with intervals beside it.

    Args:
        values: Text of the energy range to score name to (AUC, lower end, upper end).
        stem: Path without suffix.
        synthetic: Whether the events are simulated.
        title: Text over the figure.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: There is nothing to draw.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    rows = [(text, name) for text, scores in values.items() for name in scores]
    if not rows:
        msg = "no AUC was computed: nothing to draw"
        raise PlotError(msg)
    names = list(dict.fromkeys(name for _, name in rows))
    size = (9.6, 1.4 + 0.27 * (len(rows) + len(values)))
    with page(stem, size, synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        words, ax = sheet.figure.subplots(1, 2, sharey=True, width_ratios=(1.0, 1.3))
        y = 0.0
        for text, scores in values.items():
            words.text(0.0, y, text, va="center", fontweight="bold", fontsize=10)
            y += 1.0
            for name, (value, low, high) in scores.items():
                colour, marker = score_style(name, names.index(name))
                words.text(0.05, y, score_text(name), va="center", color=colour, fontsize=10)
                line = f"{value:.6f}   (−{value - low:.6f}  +{high - value:.6f})"
                if 1 - value < 5e-6:  # all digits would be nines
                    line = f"1 − {1 - value:.1e}   (−{value - low:.1e}  +{high - value:.1e})"
                words.text(0.27, y, line, va="center", fontsize=10)
                x = max(1 - value, _TINY)
                ends = [[max(x - (1 - high), 0.0)], [max((1 - low) - x, 0.0)]]
                ax.errorbar([x], [y], xerr=ends, fmt=marker, color=colour, ms=5)
                y += 1.0
        known = [1 - v for s in values.values() for v, _, _ in s.values() if 1 - v > _TINY]
        if known:
            ax.set_xlim(left=0.2 * min(known))
        ax.set_ylim(y - 0.3, -0.7)
        ax.set_xscale("log")
        ax.set_xlabel("1 − AUC")
        ax.tick_params(axis="y", which="both", left=False, right=False, labelleft=False)
        ax.grid(axis="x", alpha=0.3, lw=0.6)
        words.set_axis_off()
        words.set_xlim(0, 1)
        words.set_title("AUC (68 % interval)", loc="left", fontsize=10.5)
    return sheet.paths
