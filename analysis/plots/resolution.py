"""Bias and containment of the energy estimates against true energy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from analysis.plots.style import COLOURS, PlotError, energy_axis, page
from analysis.plots.ticks import few_labels
from analysis.resolution import Resolution

__all__ = ["plot_energy_reconstruction"]

FloatArray = NDArray[np.float64]

#: Estimator to text, colour and marker.
_ESTIMATORS = {
    "e_corr": ("corrected energy", COLOURS["total"], "s"),
    "cnn": ("CNN energy", COLOURS["proton"], "o"),
}
_OTHER = ("^", "D", "v", "p")
_APART = 0.16  # of a bin on either side of its centre, shared by the estimators
_FAR = 1e3  # times a value: a bar that runs out of the frame


def plot_energy_reconstruction(
    results: Sequence[Resolution],
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Energy reconstruction before and after the network: bias above, containment below, one column per region.

    Full markers are half the central 68.27 %, open ones half the central 95.45 %; arrows are lower limits where an
    end of the interval lies beyond the axis of the histogram.

    Args:
        results: Regions and estimators, of :func:`analysis.resolution.resolutions`.
        stem: Path without suffix.
        synthetic: Whether the simulation is that of synthetic data.
        title: Text at the right of the top.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: No bin has enough events.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    shown = [r for r in results if np.any(~np.isnan(r.half_68))]
    if not shown:
        msg = "no bin of true energy has enough simulated electrons: nothing to draw"
        raise PlotError(msg)
    regions = list(dict.fromkeys(r.region for r in shown))
    size = (1.4 + 5.8 * len(regions), 7.6)
    with page(stem, size, synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        axes = sheet.figure.subplots(
            2, len(regions), squeeze=False, sharex="col", sharey="row", height_ratios=(2, 3)
        )
        axes[1, 0].set_yscale("log")
        bias_ends, width_ends = [np.array([-0.02, 0.02])], [np.zeros(0)]
        for (top, bottom), region in zip(axes.T, regions, strict=True):
            here = [r for r in shown if r.region == region]
            for number, r in enumerate(here):
                text, colour, marker = _look(r.estimator, number)
                shift = 0.0 if len(here) == 1 else _APART * (2 * number / (len(here) - 1) - 1)
                style: dict[str, Any] = {"color": colour, "fmt": marker, "ms": 4.5}
                finite = np.isfinite(r.bias) & (r.bias > -1)
                _points(
                    top,
                    r,
                    shift,
                    np.where(finite, r.bias, np.nan),
                    r.bias_error,
                    label=text,
                    **style,
                )
                for name, face in (("68", colour), ("95", "white")):
                    value, error, least = (
                        getattr(r, f"half_{name}{end}") for end in ("", "_error", "_least")
                    )
                    open_style = {**style, "mfc": face, "label": f"{text}, {name} %"}
                    _points(bottom, r, shift, value, error, **open_style)
                    _limits(bottom, r, shift, np.where(np.isposinf(value), least, np.nan), colour)
                    width_ends += [value[np.isfinite(value)], least[np.isposinf(value)]]
                bias_ends.append(_within(r.bias, r.bias_error)[:, finite].ravel())
            top.axhline(0.0, color=COLOURS["total"], lw=0.8)
            top.axhspan(-1.0, 1.0, color=COLOURS["cut"], alpha=0.12, lw=0)
            top.set_title(region, loc="right")
            for ax in (top, bottom):
                ax.grid(alpha=0.25, lw=0.6)
            used = np.any([~np.isnan(r.half_68) for r in here], axis=0)
            span = float(here[0].e_min[used].min()), float(here[0].e_max[used].max())
            energy_axis(bottom, *span, "True energy (GeV)")
        low, high = (100 * f(np.concatenate(bias_ends)) for f in (np.min, np.max))
        axes[0, 0].set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
        widths = 100 * np.concatenate(width_ends)
        axes[1, 0].set_ylim(0.6 * widths.min(), 1.6 * widths.max())
        axes[1, 0].yaxis.set_major_formatter(FuncFormatter(_percent))
        axes[1, 0].yaxis.set_minor_formatter(FuncFormatter(_percent))
        for ax in axes[1]:
            few_labels(ax.xaxis)
        axes[0, 0].set_ylabel("Bias: median of E/E$_{true}$ − 1 (%)")
        axes[1, 0].set_ylabel("Half width of the central interval (%)")
        sheet.figure.align_ylabels(axes[:, 0])
        _legend(sheet.figure.legend, axes[1])
    return sheet.paths


def _percent(value: float, _: int | None = None) -> str:
    """Label of 1, 2 and 5 times a power of ten, nothing for the others."""
    digits = f"{value:.0e}"
    return f"{value:g}" if digits[0] in "125" else ""


def _look(estimator: str, number: int) -> tuple[str, str, str]:
    """Text, colour and marker of an estimator."""
    if estimator in _ESTIMATORS:
        return _ESTIMATORS[estimator]
    return estimator, COLOURS["electron"], _OTHER[number % len(_OTHER)]


def _centres(r: Resolution, shift: float) -> FloatArray:
    return np.asarray(np.sqrt(r.e_min * r.e_max) * (r.e_max / r.e_min) ** shift)


def _within(value: FloatArray, error: FloatArray) -> FloatArray:
    """Ends of the bars; an infinite one counts as the point."""
    bar = np.where(np.isfinite(error), error, 0.0)
    return np.stack([value - bar, value + bar])


def _points(
    ax: Axes, r: Resolution, shift: float, value: FloatArray, error: FloatArray, **style: Any
) -> None:
    """Per cent with errors; what is not finite is left out."""
    good = np.isfinite(value)
    bar = np.where(np.isfinite(error), error, _FAR * np.abs(value))[good]
    x = _centres(r, shift)[good]
    ax.errorbar(x, 100 * value[good], yerr=100 * bar, elinewidth=1.0, **style)


def _limits(ax: Axes, r: Resolution, shift: float, least: FloatArray, colour: str) -> None:
    """Arrows upwards from lower limits."""
    rows = np.isfinite(least)
    if rows.any():
        y = 100 * least[rows]
        style: dict[str, Any] = {"fmt": "_", "color": colour, "capsize": 2.5}
        ax.errorbar(_centres(r, shift)[rows], y, yerr=0.2 * y, lolims=True, **style)


def _legend(legend: Any, axes: NDArray[Any]) -> None:
    """One legend for all panels."""
    named: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    legend(
        list(named.values()),
        list(named),
        loc="outside lower center",
        ncols=4 if axes.size > 1 else 2,
    )
