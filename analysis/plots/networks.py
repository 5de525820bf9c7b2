"""Figures of what networks give: score distributions, attention weights, energies, from plain arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.plots.classifiers import score_style, score_text
from analysis.plots.panels import merge_factor, merged
from analysis.plots.style import COLOURS, PlotError, energy_axis, grid, page

__all__ = [
    "Distribution",
    "EnergyCurve",
    "plot_attention",
    "plot_distributions",
    "plot_efficiencies",
    "plot_energy_quality",
]

FloatArray = NDArray[np.float64]

_SAMPLES = {
    "electrons": ("electron", "-", "fill"),
    "protons": ("proton", "-", "fill"),
    "electrons, Geant4": ("electron", "o", "points"),
    "protons, Geant4": ("proton", "s", "points"),
    "data": ("data", "o", "points"),
}


@dataclass(frozen=True, eq=False)
class Distribution:
    """Weights of one sample in bins of a score.

    Attributes:
        value: Σw per bin, shape (n_bins,).
        variance: Σw², same shape.
    """

    value: FloatArray
    variance: FloatArray


def plot_distributions(
    panels: Mapping[str, Mapping[str, Distribution]],
    edges: ArrayLike,
    stem: str | os.PathLike[str],
    *,
    label: str,
    synthetic: bool,
    cuts: Mapping[str, float] | None = None,
    notes: Mapping[str, str] | None = None,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Normalised distributions of a score, one panel per energy range.

    Args:
        panels: Text of the energy range to sample name to its distribution. ``electrons`` and
            ``protons`` are filled, samples ending in ``Geant4`` and ``data`` are points.
        edges: Edges of the score's bins, shape (n_bins + 1,).
        stem: Path without suffix.
        label: Label of the score axis.
        synthetic: Whether the events are simulated.
        cuts: Text of the energy range to a score that is marked, such as that of 90 % efficiency.
        notes: Text of the energy range to a remark in its panel.
        title: Text over the figure.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: There is nothing to draw.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    if not any(d.value.sum() > 0 for part in panels.values() for d in part.values()):
        msg = f"no event has a score to draw ({label})"
        raise PlotError(msg)
    border = np.asarray(edges, np.float64)
    used = np.flatnonzero(sum(d.value for part in panels.values() for d in part.values()) > 0)
    first, stop = int(used[0]), int(used[-1]) + 1
    factor = merge_factor(border.size - 1, stop - first)
    rows, columns = grid(len(panels))
    size = (1.0 + 4.2 * columns, 1.2 + 3.5 * rows)
    with page(stem, size, synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        axes = sheet.figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
        for ax in axes[len(panels) :]:
            ax.remove()
        named: dict[str, Any] = {}
        for i, (ax, (text, samples)) in enumerate(zip(axes, panels.items(), strict=False)):
            lowest, highest = 1.0, 0.0
            for name, d in samples.items():
                colour, marker, how = _SAMPLES.get(name, ("total", "D", "points"))
                total = float(d.value.sum())
                if total <= 0:
                    continue
                wide = border[::factor]
                y = merged(d.value, factor) / total
                error = np.sqrt(merged(d.variance, factor)) / total
                lowest, highest = min(lowest, float(y[y > 0].min())), max(highest, float(y.max()))
                shade = COLOURS[colour]
                if how == "fill":
                    artist: Any = ax.stairs(y, wide, fill=True, color=shade, alpha=0.3, label=name)
                    ax.stairs(y, wide, color=shade, lw=1.1)
                else:
                    x, shown = (wide[1:] + wide[:-1]) / 2, y > 0
                    low = np.minimum(error, 0.999 * y)
                    artist = ax.errorbar(
                        x[shown], y[shown], yerr=[low[shown], error[shown]], fmt=marker,
                        color=shade, mfc="white", elinewidth=1.0, label=name,
                    )  # fmt: skip
                named.setdefault(name, artist)
            if cuts and text in cuts and np.isfinite(cuts[text]):
                line = ax.axvline(cuts[text], color=COLOURS["cut"], ls="--", lw=1.4)
                named.setdefault("90 % of the electrons above", line)
            if notes and text in notes:
                ax.text(0.03, 0.96, notes[text], transform=ax.transAxes, va="top", fontsize=9)
            ax.set_yscale("log")
            ax.set_ylim(max(0.5 * lowest, 1e-8), (20.0 if notes else 3.0) * highest)
            ax.set_title(text, loc="left", fontsize=10.5)
            ax.grid(alpha=0.2, lw=0.6)
            if i % columns == 0:
                ax.set_ylabel("Share of the sample / bin")
            if i + columns >= len(panels):
                ax.set_xlabel(label)
                ax.tick_params(labelbottom=True)
        axes[0].set_xlim(border[max(first - 2, 0)], border[min(stop + 2, border.size - 1)])
        sheet.figure.legend(
            list(named.values()), list(named), loc="outside lower center", ncols=len(named)
        )
    return sheet.paths


def plot_efficiencies(
    scores: Mapping[str, tuple[tuple[float, float, float], tuple[float, float, float]]],
    stem: str | os.PathLike[str],
    *,
    names: tuple[str, str] = ("simulation", "Geant4"),
    label: str,
    synthetic: bool,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Electron efficiency of every score in two samples, side by side.

    Args:
        scores: Score name to (efficiency, lower end, upper end) of the first and of the second sample.
        stem: Path without suffix.
        names: Of the samples.
        label: Of the axis.
        synthetic: Whether the events are simulated.
        title: Text over the figure.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: There is nothing to draw.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    if not scores:
        msg = "no score was evaluated: nothing to draw"
        raise PlotError(msg)
    with page(stem, (6.4, 4.2), synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        ax = sheet.figure.subplots()
        for i, (name, pair) in enumerate(scores.items()):
            colour, _ = score_style(name, i)
            for k, (value, low, high) in enumerate(pair):
                ends = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
                face = colour if k == 0 else "white"
                ax.errorbar(
                    [i - 0.12 + 0.24 * k], [value], yerr=ends, fmt="os"[k], color=colour, mfc=face,
                    ms=6, label=names[k] if i == 0 else None,
                )  # fmt: skip
        ax.set_xticks(range(len(scores)), [score_text(name) for name in scores])
        ax.tick_params(axis="x", which="minor", bottom=False, top=False)
        ax.set_xlim(-0.6, len(scores) - 0.4)
        ax.set_ylabel(label)
        ax.margins(y=0.2)
        ax.grid(axis="y", alpha=0.25, lw=0.6)
        sheet.figure.legend(loc="outside lower center", ncols=2)
    return sheet.paths


@dataclass(frozen=True, eq=False)
class EnergyCurve:
    """Quality of an energy estimate per bin; ``edges`` has one entry more than the others.

    Attributes:
        edges: Bin edges.
        bias: Median of (E − E_true)/E_true.
        bias_error: Its error.
        half_68: Half width of the central 68 %.
        half_68_error: Its error.
        half_95: Half width of the central 95 %.
        half_95_error: Its error.
    """

    edges: FloatArray
    bias: FloatArray
    bias_error: FloatArray
    half_68: FloatArray
    half_68_error: FloatArray
    half_95: FloatArray
    half_95_error: FloatArray


def plot_energy_quality(
    columns: Mapping[str, Mapping[str, EnergyCurve]],
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    logarithmic: Sequence[str] = (),
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Bias and containment of energy estimates, one column per abscissa.

    Args:
        columns: Label of the abscissa to name of the estimate to its curve.
        stem: Path without suffix.
        synthetic: Whether the events are simulated.
        logarithmic: Labels of abscissas that are logarithmic.
        title: Text over the figure.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: There is nothing to draw.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    if not any(columns.values()):
        msg = "no energy estimate was evaluated: nothing to draw"
        raise PlotError(msg)
    size = (1.2 + 4.6 * len(columns), 7.6)
    with page(stem, size, synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        axes = sheet.figure.subplots(3, len(columns), squeeze=False, sharex="col", sharey="row")
        rows = (
            ("bias", "Bias (median) (%)"),
            ("half_68", "68 % half width (%)"),
            ("half_95", "95 % half width (%)"),
        )
        for c, (x_label, curves) in enumerate(columns.items()):
            for r, (field, y_label) in enumerate(rows):
                ax = axes[r, c]
                for (name, curve), (colour, marker) in zip(
                    curves.items(), _ESTIMATES, strict=False
                ):
                    y = 100 * np.asarray(getattr(curve, field))
                    error = 100 * np.asarray(getattr(curve, f"{field}_error"))
                    log = x_label in logarithmic
                    low, high = curve.edges[:-1], curve.edges[1:]
                    x = np.sqrt(low * high) if log else (low + high) / 2
                    good = np.isfinite(y)
                    across = [(x - low)[good], (high - x)[good]]
                    ax.errorbar(
                        x[good], y[good], yerr=error[good], xerr=across, fmt=marker, color=colour,
                        elinewidth=1.0, label=name,
                    )  # fmt: skip
                ax.grid(alpha=0.25, lw=0.6)
                if log and curves:
                    edges = next(iter(curves.values())).edges
                    energy_axis(ax, float(edges[0]), float(edges[-1]), "")
                if field == "bias":
                    ax.axhline(0.0, color=COLOURS["total"], lw=0.8)
                    ax.axhspan(-1.0, 1.0, color=COLOURS["cut"], alpha=0.12, lw=0)
                if c == 0:
                    ax.set_ylabel(y_label)
            axes[2, c].set_xlabel(x_label)
        for ax in axes[1:, 0]:
            ax.set_ylim(bottom=0.0)
        axes[1, 0].legend()
    return sheet.paths


_ESTIMATES = (("#555555", "s"), ("#D55E00", "o"), ("#0072B2", "^"))


def plot_attention(
    classes: Mapping[str, tuple[ArrayLike, ArrayLike]],
    edges_gev: ArrayLike,
    modalities: Sequence[str],
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Mean attention weight of each modality against energy, one panel per class.

    Args:
        classes: Class to mean weights and their errors, both of shape (n_bins, n_modalities).
        edges_gev: Energy bins, shape (n_bins + 1,).
        modalities: Names in the order of the columns.
        stem: Path without suffix.
        synthetic: Whether the events are simulated.
        title: Text over the figure.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: No class, or shapes that do not fit.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    edges = np.asarray(edges_gev, np.float64)
    shape = (edges.size - 1, len(modalities))
    if not classes or any(np.shape(part) != shape for pair in classes.values() for part in pair):
        msg = f"attention weights need shape {shape} for each class: bins of energy by modalities"
        raise PlotError(msg)
    x = np.sqrt(edges[1:] * edges[:-1])
    size = (0.8 + 4.6 * len(classes), 4.4)
    with page(stem, size, synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        axes = sheet.figure.subplots(1, len(classes), sharey=True, squeeze=False)[0]
        for ax, (name, (mean, error)) in zip(axes, classes.items(), strict=True):
            m, s = np.asarray(mean, np.float64), np.asarray(error, np.float64)
            for k, modality in enumerate(modalities):
                colour, marker = _MODALITIES[k % len(_MODALITIES)]
                good = np.isfinite(m[:, k])
                ax.errorbar(
                    x[good],
                    m[good, k],
                    yerr=s[good, k],
                    fmt=f"-{marker}",
                    color=colour,
                    label=modality,
                )
            energy_axis(ax, float(edges[0]), float(edges[-1]))
            ax.set_ylim(0.0, 1.0)
            ax.set_title(name, loc="left", fontsize=10.5)
            ax.grid(alpha=0.25, lw=0.6)
        axes[0].set_ylabel("Mean attention weight")
        axes[0].legend()
    return sheet.paths


_MODALITIES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "v"))
