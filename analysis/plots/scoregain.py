"""Scores on the same events: what they leave of the protons, and the gain of one over the others."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from analysis.plots.classifiers import score_style, score_text
from analysis.plots.style import COLOURS, PlotError, distances, energy_axis, page
from analysis.plots.ticks import few_labels
from analysis.scoregain import Ranged, ScoreBackground, gain

__all__ = ["plot_score_gain"]

_RIVALS = ("cnn", "hamf")
_LOWEST_GAIN = 0.08
_NO_LIMIT = 0.01  # a lower limit of a gain below this is none
_FAR = 1e3  # times a value: an end that runs out of the frame


def plot_score_gain(
    narrow: Mapping[str, ScoreBackground],
    wide: Mapping[str, ScoreBackground],
    better: str,
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    rivals: Sequence[str] | None = None,
    energy_label: str = "Energy (GeV)",
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Share of the protons, background fraction and gain at equal efficiency; one column per efficiency.

    Args:
        narrow: Score to its protons in the energy ranges that are drawn as points.
        wide: The same in wide ranges, whose gains are drawn as open markers and written above.
        better: The score whose gain is drawn.
        stem: Path without suffix.
        synthetic: Whether the simulation is that of synthetic data.
        rivals: The scores that it is held against; default CNN and HAMF, or all others if none of them is there.
        energy_label: Label of the energy axis.
        title: Text at the right of the top.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: Fewer than two scores, or no range with electrons and protons.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    if better not in narrow or len(narrow) < 2 or not narrow[better].e_min.size:
        msg = (
            "a gain needs two scores of the same events, and electrons and protons: nothing to draw"
        )
        raise PlotError(msg)
    others = [n for n in narrow if n != better]
    against = [n for n in (rivals or _RIVALS) if n in others] or others
    first = narrow[better]
    efficiencies = first.efficiency
    numbers = {name: i for i, name in enumerate(narrow)}
    size = (1.3 + 4.0 * efficiencies.size, 10.2)
    with page(stem, size, synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        axes = sheet.figure.subplots(
            3,
            efficiencies.size,
            squeeze=False,
            sharex=True,
            sharey="row",
            height_ratios=(3, 3, 2.6),
        )
        seen: list[list[float]] = [[], [], []]
        for k, efficiency in enumerate(efficiencies):
            for row, what in enumerate(("share", "background_fraction")):
                for name, b in narrow.items():
                    values = getattr(b, what)()
                    seen[row] += _curve(axes[row, k], b, values, k, numbers[name], len(narrow))
            ax = axes[2, k]
            for i, name in enumerate(against):
                _wide(ax, wide[name], gain(wide[better], wide[name]), k, numbers[name], i)
                ratio = gain(first, narrow[name])
                seen[2] += _curve(ax, first, ratio, k, numbers[name], len(against), name=name)
            ax.axhline(1.0, color=COLOURS["total"], lw=0.9)
            axes[0, k].set_title(f"electron efficiency {100 * efficiency:.3g} %", loc="left")
        seen[2].append(1.0)
        for row, heights in enumerate(seen):
            good = [h for h in heights if np.isfinite(h) and h > 0] or [1.0]
            axes[row, 0].set_yscale("log")
            low, high = 0.6 * min(good), 1.7 * max(good)
            if row == 2:  # limits far below 1 say nothing; room for the numbers above
                low = max(low, _LOWEST_GAIN)
                high *= (high / low) ** 0.35
            axes[row, 0].set_ylim(low, max(high, 12 * low))
            few_labels(axes[row, 0].yaxis)
        for ax in axes.flat:
            ax.grid(alpha=0.25, lw=0.6)
        for ax in axes[2]:
            energy_axis(ax, float(first.e_min.min()), float(first.e_max.max()), energy_label)
            few_labels(ax.xaxis)
        axes[0, 0].set_ylabel("Share of the protons left")
        axes[1, 0].set_ylabel("Background fraction\nunder the target fluxes")
        axes[2, 0].set_ylabel(f"Background of the score\n/ background of {score_text(better)}")
        sheet.figure.align_ylabels(axes[:, 0])
        handles, labels = axes[0, 0].get_legend_handles_labels()
        arrow = axes[0, 0].plot([], [], "k", marker=r"$\downarrow$", ms=9, ls="none")
        look: dict[str, Any] = {"color": COLOURS["total"], "ls": "none", "mfc": "white"}
        open_marker = axes[2, 0].plot([], [], marker="o", ms=8, **look)
        handles += [arrow[0], open_marker[0]]
        labels += ["limit, 95 %", "gain in a wide range"]
        sheet.figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=len(labels),
            title="gain: intervals of independent samples, too wide because the events are the same",
        )
    return sheet.paths


def _curve(
    ax: Axes,
    b: ScoreBackground,
    values: Ranged,
    column: int,
    number: int,
    of: int,
    *,
    name: str | None = None,
) -> list[float]:
    """Points side by side within the ranges, arrows for limits; returns the heights to show."""
    text = name or b.name
    colour, marker = score_style(text, number)
    value, lower, upper = (x[:, column] for x in values)
    shift = 0.0 if of == 1 else (number % of / (of - 1) - 0.5) / 2
    x = np.sqrt(b.e_min * b.e_max) * (b.e_max / b.e_min) ** shift
    good = np.isfinite(value) & (value > 0)
    low, high = distances(value[good], lower[good], upper[good])
    high = np.where(np.isfinite(high), high, _FAR * value[good])
    style: dict[str, Any] = {"color": colour, "elinewidth": 1.1}
    ax.errorbar(
        x[good], value[good], yerr=[low, high], fmt=marker, ms=4.5, label=score_text(text), **style
    )
    for rows, end, up in ((np.isposinf(value), lower, True), (value == 0, upper, False)):
        at = rows & np.isfinite(end)
        if at.any():
            bar: dict[str, Any] = {
                "yerr": (0.35 if up else 0.3) * end[at],
                "lolims": up,
                "uplims": not up,
            }
            ax.errorbar(x[at], end[at], fmt="_", ms=5, capsize=2.5, **bar, **style)
    limits = np.where(value == 0, upper, np.where(np.isposinf(value), lower, np.nan))
    return [*value[good], *np.maximum(lower[good], 0.4 * value[good]), *limits]


def _wide(
    ax: Axes, b: ScoreBackground, values: Ranged, column: int, number: int, rank: int
) -> None:
    """Gain of a wide range as an open marker with a bar over the range, and as a number above."""
    colour, marker = score_style(b.name, number)
    value, lower, upper = (x[column] for x in (v.T for v in values))
    centre = np.sqrt(b.e_min * b.e_max)
    good = np.isfinite(value) & (value > 0)
    low, high = distances(value[good], lower[good], upper[good])
    high = np.where(np.isfinite(high), high, _FAR * value[good])
    x = centre * (b.e_max / b.e_min) ** (0.12 * (rank - 0.5))
    across = [(x - b.e_min)[good], (b.e_max - x)[good]]
    style: dict[str, Any] = {"color": colour, "alpha": 0.55, "elinewidth": 2.2, "mfc": "white"}
    ax.errorbar(x[good], value[good], yerr=[low, high], xerr=across, fmt=marker, ms=8, **style)
    for i in range(b.e_min.size):
        if good[i]:
            text = f"{value[i]:.2g} [{lower[i]:.2g}, {upper[i]:.2g}]"
        elif np.isposinf(value[i]):
            text = f"> {lower[i]:.2g}" if lower[i] > _NO_LIMIT else "no limit"
        elif value[i] == 0:
            text = f"< {upper[i]:.2g}"
        else:
            text = "no proton left"
        ax.text(
            float(centre[i]),
            0.965 - 0.085 * rank,
            f"{score_text(b.name)}: {text}",
            transform=ax.get_xaxis_transform(),
            ha="center",
            va="top",
            color=colour,
            fontsize=8.5,
            bbox={"facecolor": "white", "alpha": 0.85, "lw": 0, "pad": 1.0},
        )
