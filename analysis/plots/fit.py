"""What the template fit found against energy: proton shift, width, background fraction."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from analysis.background import Background
from analysis.plots.postfit import plot_postfit, plot_postfit_bins
from analysis.plots.style import COLOURS, PlotError, energy_axis, outside_markers, page
from analysis.plots.ticks import few_labels
from analysis.templatefit.result import FitResult

__all__ = ["plot_background_methods", "plot_postfit", "plot_postfit_bins", "plot_shift"]

FloatArray = NDArray[np.float64]

_PULLS = 4.0
_TRUE: Any = {"color": COLOURS["synthetic"], "ls": "--", "lw": 1.4, "zorder": 4}
_APART = 1.012  # two series of points beside each other on the energy axis


def plot_shift(
    result: FitResult,
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    single: FitResult | None = None,
    injected: tuple[ArrayLike, ArrayLike] | None = None,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Proton shift s(E) with its 68 % band, and the width w(E) if it was fitted.

    The lower panel has (shift of the bin alone − curve)/error of the bin alone; the curve is made of the same
    data, so that their spread is a little below 1.

    Args:
        result: fit with a shift that energy bins share.
        stem: path without suffix.
        synthetic: whether the data are simulated; they are if ``injected`` is given.
        single: fit of each energy bin alone (``per_bin``).
        injected: energies in GeV and shifts that were put into the data.
        title: text over the figure.
        overwrite: replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: the fit has no shift, or one per energy bin; or other energy bins than ``single``.
        FileExistsError: a file exists and ``overwrite`` is not set.
    """
    if not result.shift_design.shape[1] or result.settings.get("method") == "per_bin":
        msg = "s(E) is drawn from a fit with a shift that the energy bins share; fit 'simultaneous' or 'smooth'"
        raise PlotError(msg)
    if not result.success.any():
        msg = "no energy bin has a fit: nothing to draw; the reasons stand in the fit result"
        raise PlotError(msg)
    if single is not None and not np.array_equal(single.e_min, result.e_min):
        msg = "the fit of single bins has other energy bins: fit the same histograms"
        raise PlotError(msg)
    e_ref = np.sqrt(result.e_min * result.e_max)
    wide = result.width_design.shape[1] > 0
    quantities = [("Proton shift s", result.shift, None if single is None else single.shift)]
    if wide:
        own = single.width if single is not None and single.width_design.shape[1] else None
        quantities.append(("Proton width w", result.width, own))
    ratios = [3.0] * len(quantities) + [1.6] + ([1.2] if single is not None else [])
    size = (6.6, 1.0 + 1.2 * sum(ratios))
    synthetic = synthetic or injected is not None
    with page(stem, size, synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        axes = sheet.figure.subplots(
            len(ratios), 1, sharex=True, height_ratios=ratios, squeeze=False
        )[:, 0]
        for ax, (label, curve, points) in zip(axes, quantities, strict=False):
            _band(ax, e_ref, *curve)
            if points is not None:
                _points(ax, e_ref, *points, color=COLOURS["data"], label="each bin alone")
            ax.set_ylabel(label)
            _room(ax, curve, points)
        if injected is not None:
            axes[0].plot(*(np.asarray(x, np.float64) for x in injected), label="injected", **_TRUE)
        _difference(axes[len(quantities)], e_ref, result, single, injected)
        if single is not None:
            value, error = single.shift
            pull = (value - result.shift[0]) / _nonzero(error)
            _pulls(axes[-1], e_ref, [(pull, COLOURS["data"], "o")])
        for ax in axes:
            ax.grid(alpha=0.25, lw=0.6)
        axes[0].legend(loc="upper left", ncols=3)
        span = (result.e_min[result.success].min(), result.e_max[result.success].max())
        energy_axis(axes[-1], float(span[0]), float(span[1]))
        few_labels(axes[-1].xaxis)
        sheet.figure.align_ylabels(axes)
    return sheet.paths


def plot_background_methods(
    fitted: Background,
    sideband: Background,
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    truth: ArrayLike | None = None,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Background fraction from the template fit and from the control region.

    Bins without simulated protons above the cut show the one-sided 68 % limit as an arrow. The lower panel has
    the difference of each method from the truth over its error; without truth the difference of the two over
    both errors in quadrature, though they share data and simulation.

    Args:
        fitted: from :func:`analysis.background.fitted_background`.
        sideband: from :func:`analysis.background.proton_background`, same energy bins.
        stem: path without suffix.
        synthetic: whether the data are simulated; they are if ``truth`` is given.
        truth: (n,) true fraction.
        title: text over the figure.
        overwrite: replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: the energy bins or cuts differ, the truth has another length, or there is nothing to draw.
        FileExistsError: a file exists and ``overwrite`` is not set.
    """
    if not all(np.array_equal(getattr(fitted, k), getattr(sideband, k)) for k in ("e_min", "cut")):
        msg = "the two backgrounds have different energy bins or cuts: make them from one file with one cut"
        raise PlotError(msg)
    used = (fitted.success | sideband.success) & (fitted.n_data > 0)
    if not used.any():
        msg = "no energy bin has a background: nothing to draw"
        raise PlotError(msg)
    true = None if truth is None else np.asarray(truth, np.float64)
    if true is not None and true.shape != fitted.e_min.shape:
        msg = f"the truth has shape {true.shape}: give one fraction per energy bin ({fitted.e_min.size})"
        raise PlotError(msg)
    e_ref = np.sqrt(fitted.e_min * fitted.e_max)
    methods = (
        (fitted, "template fit with proton shift", COLOURS["electron"], "o", 1 / _APART),
        (sideband, "control region, no shift", COLOURS["proton"], "s", _APART),
    )
    synthetic = synthetic or true is not None
    with page(stem, (6.6, 6.2), synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        main, below = sheet.figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 1))
        heights = [] if true is None else [true[used]]
        limited = False
        for bkg, label, colour, marker, apart in methods:
            drawn, limits = _method(main, apart * e_ref, bkg, label, colour, marker)
            heights.append(drawn)
            limited |= limits
        if true is not None:
            main.plot(e_ref, true, color=COLOURS["synthetic"], ls="--", lw=1.4, label="true")
            series = [
                ((b.fraction - true) / _nonzero(b.fraction_error), colour, marker)
                for b, _, colour, marker, _ in methods
            ]
            below.set_ylabel("(Method − true)\n/ error")
        else:
            both = np.hypot(fitted.fraction_error, sideband.fraction_error)
            away = (fitted.fraction - sideband.fraction) / _nonzero(both)
            away[fitted.mc_limited & sideband.mc_limited] = np.nan  # 0 by definition
            series = [(away, COLOURS["data"], "o")]
            below.set_ylabel("(Fit − control)\n/ error")
        _pulls(below, e_ref, series, label=False)
        if limited:
            text = "68 % limit, no simulated proton above the cut"
            grey = COLOURS["total"]
            main.plot([], [], color=grey, marker=r"$\downarrow$", ms=9, ls="none", label=text)
        main.set_yscale("log")
        drawn = np.concatenate(heights)
        drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
        if drawn.size:
            low, high = float(drawn.min()), float(drawn.max())
            main.set_ylim(0.4 * low, high * (high / low) ** 0.35 * 3.0)
        main.set_ylabel("Background fraction")
        main.legend(loc="upper left")
        for ax in (main, below):
            ax.grid(alpha=0.25, lw=0.6)
        span = fitted.e_min[used].min(), fitted.e_max[used].max()
        energy_axis(below, float(span[0]), float(span[1]))
        few_labels(below.xaxis, main.yaxis)
        sheet.figure.align_ylabels((main, below))
    return sheet.paths


def _room(
    ax: Axes,
    curve: tuple[FloatArray, FloatArray],
    points: tuple[FloatArray, FloatArray] | None,
) -> None:
    """Range of the curve and the points, long error bars cut, and room for the legend."""
    ends = [curve[0] - curve[1], curve[0] + curve[1]]
    if points is not None and np.isfinite(points[0]).any():
        bars = np.minimum(points[1], 3.0 * np.nanmedian(points[1]))
        ends += [points[0] - bars, points[0] + bars]
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    size = max(high - low, 1e-6)
    ax.set_ylim(low - 0.06 * size, high + 0.2 * size)


def _difference(
    ax: Axes,
    e_ref: FloatArray,
    result: FitResult,
    single: FitResult | None,
    injected: tuple[ArrayLike, ArrayLike] | None,
) -> None:
    """Shifts less the fitted curve, where its band can be seen."""
    middle, spread = result.shift
    _band(ax, e_ref, np.where(np.isfinite(middle), 0.0, np.nan), spread)
    good = np.isfinite(middle)
    scale = [3.0 * float(np.nanmax(spread)), 1e-6]
    if single is not None:
        away = single.shift[0] - middle
        _points(ax, e_ref, away, single.shift[1], color=COLOURS["data"])
        some = np.isfinite(away)
        scale.append(1.5 * float(np.quantile(np.abs(away[some]), 0.9)) if some.any() else 0.0)
        outside = np.nan_to_num(away)
    if injected is not None:
        energies, s = (np.asarray(x, np.float64) for x in injected)
        true = np.interp(np.log(e_ref[good]), np.log(energies), s) - middle[good]
        ax.plot(e_ref[good], true, **_TRUE)
        scale.append(1.3 * float(np.max(np.abs(true))))
    ax.set_ylim(-max(scale), max(scale))
    if single is not None:
        outside_markers(ax, e_ref, outside, color=COLOURS["data"])
    ax.set_ylabel("s − fit")


def _method(
    ax: Axes, x: FloatArray, bkg: Background, label: str, colour: str, marker: str
) -> tuple[FloatArray, bool]:
    """Points and limits of one method; returns their heights, and whether there are limits."""
    measured = bkg.success & ~bkg.mc_limited & (bkg.fraction > 0)
    value = np.where(measured, bkg.fraction, np.nan)
    _points(ax, x, value, bkg.fraction_error, color=colour, fmt=marker, label=label)
    limit = bkg.success & bkg.mc_limited & np.isfinite(bkg.fraction_error)
    height = bkg.fraction_error[limit]
    if limit.any():
        bars: dict[str, Any] = {"yerr": 0.35 * height, "uplims": True, "capsize": 2.5}
        ax.errorbar(x[limit], height, fmt="_", color=colour, **bars)
    return np.append(value[measured], height), bool(limit.any())


def _band(ax: Axes, e_ref: FloatArray, value: FloatArray, error: FloatArray) -> None:
    good = np.isfinite(value)
    x, y, spread = e_ref[good], value[good], np.nan_to_num(error[good])
    ax.fill_between(x, y - spread, y + spread, color=COLOURS["electron"], alpha=0.3, lw=0)
    ax.plot(x, y, color=COLOURS["electron"], label="fit of all bins, 68 % band")


def _points(
    ax: Axes, x: FloatArray, y: FloatArray, error: FloatArray, *, fmt: str = "o", **style: Any
) -> None:
    good = np.isfinite(y)
    bars = np.nan_to_num(error[good])
    ax.errorbar(x[good], y[good], yerr=bars, fmt=fmt, ms=4, elinewidth=1.0, **style)


def _pulls(
    ax: Axes, x: FloatArray, series: list[tuple[FloatArray, str, str]], *, label: bool = True
) -> None:
    ax.axhspan(-1, 1, color=COLOURS["total"], alpha=0.2, lw=0)
    ax.axhline(0.0, color=COLOURS["total"], lw=0.8)
    ax.set_ylim(-_PULLS, _PULLS)
    for pull, colour, marker in series:
        inside = np.where(np.abs(pull) <= _PULLS, pull, np.nan)
        ax.plot(x, inside, marker, ms=3.5, color=colour)
        outside_markers(ax, x, np.nan_to_num(pull), color=colour)
    if label:
        ax.set_ylabel("Pull")


def _nonzero(values: FloatArray) -> FloatArray:
    return np.where(values > 0, values, np.nan)
