"""Quantities against energy: efficiency, background, acceptance, cut flow."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hist import Hist
from matplotlib import colormaps
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analysis.acceptance import Acceptance
from analysis.background import Background
from analysis.efficiency import Efficiency
from analysis.intervals import weighted_efficiency
from analysis.plots.style import (
    COLOURS,
    PlotError,
    distances,
    energy_axis,
    outside_markers,
    page,
    points,
)
from analysis.templates import inner_bins, select

__all__ = ["axis_label", "plot_acceptance", "plot_cut_flow", "plot_efficiency_and_background"]

FloatArray = NDArray[np.float64]

#: Acceptance of the fiducial cut alone, m² sr: geometry of the 280 mm square, top and bottom.
GEOMETRIC_FIDUCIAL_M2SR = 0.2918
_LARGE_SPAN = 50.0  # of background fractions, beyond which their axis is logarithmic
_LINES = ("-", "--", ":", "-.")
_MARKERS = "osD^v<>pXP"


def axis_label(axis: Any) -> str:
    """Label of a histogram axis with a capital, such as ``Corrected energy (GeV)`` or ``CNN energy (GeV)``."""
    text = str(axis.label or axis.name)
    return text[:1].upper() + text[1:]


def plot_efficiency_and_background(
    efficiency: Efficiency,
    background: Background,
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    energy_label: str = "Energy (GeV)",
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Electron efficiency of the score cut, and the background fraction above it.

    Bins without simulated protons above the cut show the one-sided limit as an arrow.

    Args:
        efficiency: Efficiency with its interval.
        background: Background in the same bins.
        stem: Path without suffix.
        synthetic: Whether the data are simulated.
        energy_label: Label of the energy axis, see :func:`axis_label`.
        title: Text over the figure, e.g. the region.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: The energy bins differ, or no bin succeeded.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    if not np.array_equal(efficiency.e_min, background.e_min):
        msg = "efficiency and background have different energy bins: take both from one file"
        raise PlotError(msg)
    e_min, e_max = efficiency.e_min, efficiency.e_max
    e_ref = np.sqrt(e_min * e_max)
    used = efficiency.success | background.success
    span = _span(e_min, e_max, used, "efficiency or background")
    with page(stem, (6.6, 6.2), synthetic=synthetic, overwrite=overwrite) as sheet:
        top, bottom = sheet.figure.subplots(2, 1, sharex=True)
        eff = np.where(efficiency.success, efficiency.value, np.nan)
        errors = distances(eff, efficiency.lower, efficiency.upper)
        points(top, e_min, e_max, e_ref, eff, errors, color=COLOURS["electron"])
        top.set_ylabel("Electron efficiency")
        low = np.nanmin(np.append(efficiency.lower[efficiency.success], 1.0))
        floor = max(0.0, low - 0.3 * (1 - low) - 0.02)
        top.set_ylim(floor, 1.0 + 0.15 * (1.0 - floor))
        top.set_title(title, loc="right")
        measured = background.success & ~background.mc_limited
        fraction = np.where(measured, background.fraction, np.nan)
        errors = (background.fraction_error, background.fraction_error)
        points(bottom, e_min, e_max, e_ref, fraction, errors, color=COLOURS["proton"])
        limit = background.success & background.mc_limited & np.isfinite(background.fraction_error)
        if limit.any():
            height = background.fraction_error[limit]
            bottom.errorbar(
                e_ref[limit],
                height,
                yerr=0.25 * height,
                uplims=True,
                fmt="_",
                color=COLOURS["proton"],
                mfc="none",
                capsize=2.5,
                label="upper limit, no simulated proton above the cut",
            )
            bottom.legend(loc="upper left")
        bottom.set_ylabel("Background fraction")
        ends = np.append((fraction + background.fraction_error)[measured], 0.01)
        limits = np.where(limit, background.fraction_error, np.nan)
        _fraction_range(bottom, float(np.nanmax(ends)), fraction, limits)
        outside_markers(bottom, e_ref, limits, color=COLOURS["proton"])
        if not background.success.any():
            place: dict[str, Any] = {"transform": bottom.transAxes, "ha": "center", "va": "center"}
            bottom.text(0.5, 0.5, "no data that fix the number of protons", **place)
        for ax in (top, bottom):
            ax.grid(alpha=0.25, lw=0.6)
        energy_axis(bottom, *span, energy_label)
    return sheet.paths


def plot_acceptance(
    acceptances: Mapping[str, Acceptance],
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    geometric_m2sr: Mapping[str, float] | None = None,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Acceptance before the score cut against true energy.

    Args:
        acceptances: Legend entry to acceptance.
        stem: Path without suffix.
        synthetic: Whether the events are simulated by this program.
        geometric_m2sr: Legend entry to a value drawn as a line; default: the fiducial cut alone.
        title: Text over the figure.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: There is nothing to draw.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    if not acceptances:
        msg = "no acceptance was given: nothing to draw"
        raise PlotError(msg)
    spans = [_span(a.e_min, a.e_max, a.success, label) for label, a in acceptances.items()]
    if geometric_m2sr is None:
        text = f"fiducial cut alone, {GEOMETRIC_FIDUCIAL_M2SR} m² sr"
        geometric_m2sr = {text: GEOMETRIC_FIDUCIAL_M2SR}
    colours = [COLOURS[k] for k in ("electron", "proton", "cut", "data")]
    with page(stem, (6.6, 4.8), synthetic=synthetic, overwrite=overwrite) as sheet:
        ax = sheet.figure.subplots()
        for i, (label, a) in enumerate(acceptances.items()):
            value = np.where(a.success, a.value, np.nan)
            e_ref = np.sqrt(a.e_min * a.e_max)
            style = {"color": colours[i % len(colours)], "fmt": _MARKERS[i % len(_MARKERS)]}
            points(ax, a.e_min, a.e_max, e_ref, value, (a.error, a.error), label=label, **style)
        for i, (label, height) in enumerate(geometric_m2sr.items()):
            ax.axhline(height, color=COLOURS["total"], ls=_LINES[(i + 1) % 4], lw=1.2, label=label)
        energy_axis(ax, min(s[0] for s in spans), max(s[1] for s in spans), "True energy (GeV)")
        ax.set_ylabel("Acceptance (m² sr)")
        ax.set_ylim(0.0, 1.32 * ax.get_ylim()[1])
        ax.grid(alpha=0.25, lw=0.6)
        ax.legend(loc="upper left", ncols=1 if len(acceptances) < 3 else 2)
        ax.set_title(title, loc="right")
    return sheet.paths


def plot_cut_flow(
    cutflow: Hist[Any],
    stem: str | os.PathLike[str],
    *,
    kind: str,
    region: str,
    synthetic: bool,
    where: str | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Efficiency of each cut against energy: after it and all before (left), N-1 (right).

    The cumulative efficiency is relative to all events of the energy bin; the N-1 efficiency of a
    cut is the share of the events passing all other cuts that pass it too. Errors from the
    effective-count interval of :func:`analysis.intervals.weighted_efficiency`.

    Args:
        cutflow: The ``cutflow`` histogram.
        stem: Path without suffix.
        kind: ``data``, ``electron`` or ``proton``.
        region: ``fiducial`` or ``topfiducial``.
        synthetic: Whether the data are simulated.
        where: Text of the selection; default the region.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        HistogramMismatchError: Axes, categories or variances are missing.
        PlotError: No events of this kind in this region.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    cuts = [str(c) for c in cutflow.axes["cut"]]
    edges = np.asarray(cutflow.axes["energy"].edges, np.float64)
    e_min, e_max = edges[:-1], edges[1:]

    def sums(cut: str, stat: str) -> tuple[FloatArray, FloatArray]:
        at = {"kind": kind, "region": region, "cut": cut, "stat": stat}
        return inner_bins(select(cutflow, "cutflow", ("energy",), **at), "cutflow")

    everything = sums(cuts[0], "evaluated")
    span = _span(e_min, e_max, everything[0] > 0, f"{kind}, {region}")
    last = sums(cuts[-1], "cumulative")
    after = [_share(sums(cut, "cumulative"), everything) for cut in cuts]
    alone = [_share(last, sums(cut, "n_minus_1")) for cut in cuts]
    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    e_ref = np.sqrt(e_min * e_max)
    with page(stem, (12.6, 6.0), synthetic=synthetic, overwrite=overwrite) as sheet:
        left, right = sheet.figure.subplots(1, 2)
        for ax, shares in ((left, after), (right, alone)):
            for i, (cut, (y, low, high)) in enumerate(zip(cuts, shares, strict=True)):
                good = np.isfinite(y)
                ax.errorbar(
                    e_ref[good],
                    y[good],
                    yerr=[part[good] for part in distances(y, low, high)],
                    fmt=f"-{_MARKERS[i % len(_MARKERS)]}",
                    color=colours[i % len(colours)],
                    mfc="white" if i >= len(colours) else None,
                    ms=4.5,
                    lw=0.8,
                    elinewidth=0.8,
                    label=cut,
                )
            energy_axis(ax, *span, axis_label(cutflow.axes["energy"]))
            ax.grid(alpha=0.25, lw=0.6)
        left.set_ylabel("Cumulative efficiency")
        left.set_yscale("log")
        _log_range(left, after)
        right.set_ylabel("N − 1 efficiency")
        smallest = np.nanmin([np.nanmin(np.append(y, 1.0)) for y, _, _ in alone])
        right.set_ylim(max(0.0, smallest - 0.1 * (1 - smallest) - 0.02), 1.02)
        right.set_title(f"{kind}, {where or region}", loc="right")
        handles, labels = left.get_legend_handles_labels()
        sheet.figure.legend(handles, labels, loc="outside right upper", title="Cuts in order")
    return sheet.paths


def _fraction_range(ax: Axes, highest: float, fraction: FloatArray, limits: FloatArray) -> None:
    """Up to all points and to limits below 1, logarithmic where small fractions would lie on the axis."""
    seen = np.concatenate([fraction, limits])
    seen = seen[np.isfinite(seen) & (seen > 0)]
    top = max(highest, float(seen[seen <= 1.0].max(initial=0.0)))
    if seen.size and top > _LARGE_SPAN * seen.min():
        ax.set_yscale("log")
        ax.set_ylim(0.4 * float(seen.min()), max(4.0 * top, 40.0 * float(seen.min())))
    else:
        ax.set_ylim(0.0, 1.25 * top)


def _share(
    passed: tuple[FloatArray, FloatArray], total: tuple[FloatArray, FloatArray]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Efficiency and its ends; NaN where there are no events."""
    result = weighted_efficiency(*passed, *total)
    return result.value, result.lower, result.upper


def _log_range(ax: Any, shares: Sequence[tuple[FloatArray, FloatArray, FloatArray]]) -> None:
    """Log range from the smallest positive efficiency to 1, one decade at least."""
    positive = np.concatenate([y[np.isfinite(y) & (y > 0)] for y, _, _ in shares])
    ax.set_ylim(min(0.1, 0.6 * float(positive.min(initial=1.0))), 1.5)


def _span(
    e_min: FloatArray, e_max: FloatArray, used: NDArray[np.bool_], what: str
) -> tuple[float, float]:
    """Energies from the first to the last used bin."""
    if not used.any():
        msg = f"no energy bin of {what} has a value: nothing to draw"
        raise PlotError(msg)
    return float(e_min[used].min()), float(e_max[used].max())
