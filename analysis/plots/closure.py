"""Closure studies with toys: pulls, their coverage, and the bias of the flux."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from numpy.typing import ArrayLike, NDArray

from analysis.intervals import ONE_SIGMA, clopper_pearson
from analysis.plots.style import COLOURS, PlotError, distances, energy_axis, outside_markers, page
from analysis.plots.ticks import few_labels

__all__ = ["plot_flux_bias", "plot_migration_bias", "plot_pulls"]

FloatArray = NDArray[np.float64]

_SERIES = (
    ("o", "#0072B2"),
    ("s", "#D55E00"),
    ("^", "#009E73"),
    ("D", "#CC79A7"),
    ("v", "#8C6D1F"),
    ("p", "#56B4E9"),
)
_LINES = (("#D55E00", "--"), ("#0072B2", "-."), ("#009E73", "-"), ("#CC79A7", ":"))
_TWO_SIGMA = 0.9545
_WELL = 0.1  # error of a mean ratio that is worth its place on the axis
_SPREAD = 0.018  # of the energy, between series of points


def plot_pulls(
    e_min: ArrayLike,
    e_max: ArrayLike,
    pulls: Mapping[str, ArrayLike],
    stem: str | os.PathLike[str],
    *,
    above_gev: float = 1000.0,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Mean and width of pulls per energy bin, and the coverage of the errors at high energies.

    Errors of the mean are width/√n, of the width width/√(2(n − 1)), of the coverage those of Clopper and
    Pearson. Pulls that are not finite are left out.

    Args:
        e_min: (n_energy,) lower edges, GeV.
        e_max: (n_energy,) upper edges, GeV.
        pulls: quantity to (n_toys, n_energy) pulls, (measured − true)/error; six at most.
        stem: path without suffix.
        above_gev: coverage is that of the energy bins that start here or above.
        title: text over the figure; the number of toys is added.
        overwrite: replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: no quantities or too many, other shapes, fewer than two toys, or no finite pull above
            ``above_gev``.
        FileExistsError: a file exists and ``overwrite`` is not set.
    """
    low, high = (np.asarray(x, np.float64) for x in (e_min, e_max))
    arrays = {name: np.asarray(p, np.float64) for name, p in pulls.items()}
    if not 0 < len(arrays) <= len(_SERIES):
        msg = f"pulls of one to {len(_SERIES)} quantities can be drawn, got {len(arrays)}"
        raise PlotError(msg)
    for name, p in arrays.items():
        if p.ndim != 2 or p.shape[1] != low.size or p.shape[0] < 2:
            msg = f"pulls of {name!r} have shape {p.shape}: give (toys, {low.size} energy bins), 2 toys or more"
            raise PlotError(msg)
        if not np.isfinite(p[:, low >= above_gev * (1 - 1e-9)]).any():
            msg = f"no pull of {name!r} above {above_gev:g} GeV is finite: lower above_gev"
            raise PlotError(msg)
    e_ref = np.sqrt(low * high)
    toys = max(p.shape[0] for p in arrays.values())
    text = f"{title + ', ' if title else ''}{toys} toys"
    with page(stem, (11.0, 6.2), synthetic=True, overwrite=overwrite, title=text) as sheet:
        cells = sheet.figure.add_gridspec(2, 2, width_ratios=(2.6, 1))
        mean = sheet.figure.add_subplot(cells[0, 0])
        width = sheet.figure.add_subplot(cells[1, 0], sharex=mean)
        cover = sheet.figure.add_subplot(cells[:, 1])
        for k, ((name, p), (marker, colour)) in enumerate(
            zip(arrays.items(), _SERIES, strict=False)
        ):
            x = e_ref * (1 + _SPREAD * (k - 0.5 * (len(arrays) - 1)))
            n = np.isfinite(p).sum(axis=0)
            enough = n > 1
            safe = np.where(np.isfinite(p), p, np.nan)[:, enough]
            centre, spread = np.nanmean(safe, axis=0), np.nanstd(safe, axis=0, ddof=1)
            _series(mean, x[enough], centre, spread / np.sqrt(n[enough]), marker, colour, name)
            error = spread / np.sqrt(2.0 * (n[enough] - 1))
            _series(width, x[enough], spread, error, marker, colour, name)
        mean.axhline(0.0, color=COLOURS["total"], lw=0.9)
        width.axhline(1.0, color=COLOURS["total"], lw=0.9)
        _limits(mean, 0.0, 0.5)
        _limits(width, 1.0, 0.3)
        mean.set_ylabel("Mean of the pulls")
        width.set_ylabel("Width of the pulls")
        mean.tick_params(labelbottom=False)
        for ax in (mean, width):
            ax.grid(alpha=0.25, lw=0.6)
        some = np.any([np.isfinite(p).any(axis=0) for p in arrays.values()], axis=0)
        energy_axis(width, float(low[some].min()), float(high[some].max()))
        few_labels(width.xaxis)
        _coverage(cover, arrays, low >= above_gev * (1 - 1e-9), above_gev)
        handles, labels = mean.get_legend_handles_labels()
        sheet.figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return sheet.paths


def plot_flux_bias(
    e_min: ArrayLike,
    e_max: ArrayLike,
    ratios: Mapping[str, tuple[ArrayLike, ArrayLike]],
    stem: str | os.PathLike[str],
    *,
    quantity: str = "flux",
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Mean flux (or another quantity) of toys over the injected one, per method.

    Args:
        e_min: (n_energy,) lower edges, GeV.
        e_max: (n_energy,) upper edges, GeV.
        ratios: method to mean ratio and its error, (n_energy,) each; six at most.
        stem: path without suffix.
        quantity: what it is, for the label.
        title: text over the figure, such as the number of toys.
        overwrite: replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: no methods or too many, other shapes, or nothing finite.
        FileExistsError: a file exists and ``overwrite`` is not set.
    """
    low, high = (np.asarray(x, np.float64) for x in (e_min, e_max))
    arrays = {
        k: (np.asarray(m, np.float64), np.asarray(s, np.float64)) for k, (m, s) in ratios.items()
    }
    if not 0 < len(arrays) <= len(_SERIES):
        msg = f"the bias of one to {len(_SERIES)} methods can be drawn, got {len(arrays)}"
        raise PlotError(msg)
    for name, (value, error) in arrays.items():
        if value.shape != low.shape or error.shape != low.shape:
            msg = f"{name!r} has shapes {value.shape} and {error.shape}: one per energy bin ({low.size})"
            raise PlotError(msg)
    if not any(np.isfinite(value).any() for value, _ in arrays.values()):
        msg = "no ratio is finite: nothing to draw"
        raise PlotError(msg)
    e_ref = np.sqrt(low * high)
    with page(stem, (6.6, 4.8), synthetic=True, overwrite=overwrite, title=title) as sheet:
        ax = sheet.figure.subplots()
        for k, ((name, (value, error)), (marker, colour)) in enumerate(
            zip(arrays.items(), _SERIES, strict=False)
        ):
            x = e_ref * (1 + _SPREAD * (k - 0.5 * (len(arrays) - 1)))
            _series(ax, x, value, error, marker, colour, name)
        ax.axhline(1.0, color=COLOURS["total"], lw=0.9)
        ends, errors = (
            np.concatenate(x)
            for x in zip(*((np.abs(v - 1) + s, s) for v, s in _known(arrays)), strict=True)
        )
        # the points that are measured well set the scale, if there are any
        most = float(ends[(errors <= max(_WELL, errors.min()))].max(initial=0.005))
        ax.set_ylim(1 - 1.15 * most, 1 + 1.6 * most)
        some = np.any([np.isfinite(v) for v, _ in arrays.values()], axis=0)
        energy_axis(ax, float(low[some].min()), float(high[some].max()))
        for k, ((value, _), (_, colour)) in enumerate(zip(arrays.values(), _SERIES, strict=False)):
            x = e_ref * (1 + _SPREAD * (k - 0.5 * (len(arrays) - 1)))
            outside_markers(ax, x, value, color=colour)
        few_labels(ax.xaxis)
        ax.set_ylabel(f"Mean {quantity} / injected {quantity}")
        ax.grid(alpha=0.25, lw=0.6)
        ax.legend(loc="upper left")
    return sheet.paths


def plot_migration_bias(
    e_min: ArrayLike,
    e_max: ArrayLike,
    bias: Mapping[str, ArrayLike],
    toys: tuple[str, ArrayLike, ArrayLike],
    spread: ArrayLike,
    injected: ArrayLike,
    target: ArrayLike,
    stem: str | os.PathLike[str],
    *,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Injected spectrum, and the flux over it by each correction of energy migration.

    Args:
        e_min: (n_energy,) lower edges, GeV.
        e_max: (n_energy,) upper edges, GeV.
        bias: correction to the ratio (n_energy,) that it gives if nothing fluctuates; four at most.
        toys: name of a correction, mean ratio of its toys and its error, (n_energy,) each.
        spread: (n_energy,) standard deviation of the ratio in single toys, drawn as a band.
        injected: (n_energy,) mean flux in each bin, GeV⁻¹ m⁻² s⁻¹ sr⁻¹.
        target: (n_energy,) that of the target spectrum of the simulation.
        stem: path without suffix.
        title: text over the figure.
        overwrite: replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: no corrections or too many, other shapes, or nothing finite.
        FileExistsError: a file exists and ``overwrite`` is not set.
    """
    low, high = (np.asarray(x, np.float64) for x in (e_min, e_max))
    lines = {name: np.asarray(v, np.float64) for name, v in bias.items()}
    value, error, band, true, reference = (
        np.asarray(x, np.float64) for x in (*toys[1:], spread, injected, target)
    )
    if not 0 < len(lines) <= len(_LINES):
        msg = f"the bias of one to {len(_LINES)} corrections can be drawn, got {len(lines)}"
        raise PlotError(msg)
    if any(v.shape != low.shape for v in (*lines.values(), value, error, band, true, reference)):
        msg = f"one number per energy bin ({low.size}) is needed of each ratio and spectrum"
        raise PlotError(msg)
    here = np.isfinite(value) & np.isfinite(np.array(list(lines.values()))).all(axis=0)
    if not here.any():
        msg = "no ratio is finite: nothing to draw"
        raise PlotError(msg)
    first, last = np.flatnonzero(here)[[0, -1]]
    part = slice(first, last + 1)
    edges = np.append(low[part], high[last])
    e_ref = np.sqrt(low * high)
    with page(stem, (6.8, 6.0), synthetic=True, overwrite=overwrite, title=title) as sheet:
        top, ax = sheet.figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
        for flux, colour, style, name in (
            (true, COLOURS["data"], "-", "injected"),
            (reference, COLOURS["total"], ":", "target of the simulation"),
        ):
            scaled = flux[part] * e_ref[part] ** 3
            top.stairs(scaled, edges, baseline=None, color=colour, ls=style, label=name)
        top.set_ylabel("E³ × flux\n(GeV² m⁻² s⁻¹ sr⁻¹)")
        top.set_ylim(bottom=0.0)
        top.tick_params(labelbottom=False)
        top.legend(loc="lower left")
        ax.fill_between(
            np.repeat(edges, 2)[1:-1],
            np.repeat(1 - np.nan_to_num(band[part]), 2),
            np.repeat(1 + np.nan_to_num(band[part]), 2),
            color="#BBBBBB",
            alpha=0.45,
            lw=0,
            label="spread of one toy",
        )
        for (name, ratio), (colour, style) in zip(lines.items(), _LINES, strict=False):
            ax.stairs(ratio[part], edges, baseline=None, color=colour, ls=style, label=name)
        shown = np.where(here, value, np.nan)
        _series(ax, e_ref, shown, error, "o", COLOURS["data"], f"{toys[0]}, mean of toys")
        ax.axhline(1.0, color=COLOURS["total"], lw=0.7)
        away = np.concatenate([np.abs(v[part] - 1) for v in lines.values()])
        half = max(0.02, 1.3 * float(np.nanmax(away)))
        ax.set_ylim(1 - half, 1 + 1.9 * half)
        outside_markers(ax, e_ref[here], value[here], color=COLOURS["data"])
        energy_axis(ax, float(edges[0]), float(edges[-1]))
        few_labels(ax.xaxis)
        ax.set_ylabel("Flux / injected flux")
        ax.grid(alpha=0.25, lw=0.6)
        ax.legend(loc="upper left", ncols=2)
    return sheet.paths


def _series(
    ax: Axes, x: FloatArray, y: FloatArray, error: FloatArray, marker: str, colour: str, label: str
) -> None:
    good = np.isfinite(y)
    bars = np.nan_to_num(error[good])
    style: dict[str, Any] = {"ms": 3.6, "elinewidth": 0.9, "color": colour}
    ax.errorbar(x[good], y[good], yerr=bars, fmt=marker, label=label, **style)


def _known(arrays: Mapping[str, tuple[FloatArray, FloatArray]]) -> list[tuple[FloatArray, ...]]:
    """Finite ratios with their errors, 0 where there is none."""
    return [(v[np.isfinite(v)], np.nan_to_num(s)[np.isfinite(v)]) for v, s in arrays.values()]


def _limits(ax: Axes, centre: float, least: float) -> None:
    """Symmetric about the centre, over the bulk of the points; others become triangles on the frame."""
    lines = [c.lines[0] for c in ax.containers if isinstance(c, ErrorbarContainer)]
    points = [(line.get_xdata(), line.get_ydata(), line) for line in lines]
    away = np.concatenate([np.abs(np.asarray(y) - centre) for _, y, _ in points])
    half = max(least, 1.25 * float(np.quantile(away, 0.97)))
    ax.set_ylim(centre - half, centre + half)
    for x, y, line in points:
        outside_markers(ax, np.asarray(x), np.asarray(y), color=line.get_color())


def _coverage(
    ax: Axes, arrays: Mapping[str, FloatArray], here: NDArray[np.bool_], above_gev: float
) -> None:
    for wanted, ls in ((ONE_SIGMA, "-"), (_TWO_SIGMA, "--")):
        ax.axvline(wanted, color=COLOURS["total"], ls=ls, lw=1.0)
    names = list(arrays)
    for k, (p, (_, colour)) in enumerate(zip(arrays.values(), _SERIES, strict=False)):
        part = p[:, here]
        finite = np.abs(part[np.isfinite(part)])
        for most, face in ((1.0, colour), (2.0, "white")):
            inside = int((finite < most).sum())
            share = np.array([inside / finite.size])
            ends = clopper_pearson([inside], [finite.size])
            bars = np.array(distances(share, ends.lower, ends.upper))
            ax.errorbar(
                share, [-k], xerr=bars, fmt="o", color=colour, mfc=face, ms=5.5, elinewidth=1.2
            )
    ax.plot([], [], "o", color=COLOURS["total"], label="|pull| < 1 (68.3 %)")
    ax.plot([], [], "o", color=COLOURS["total"], mfc="white", label="|pull| < 2 (95.5 %)")
    ax.set_yticks(-np.arange(len(names)), names)
    ax.tick_params(axis="y", which="both", left=False, right=False)
    ax.minorticks_off()
    ax.set_ylim(-len(names) + 0.4, 1.0)
    ax.set_xlim(0.0, 1.05)
    ax.set_xlabel(f"Share of pulls, E ≥ {above_gev:g} GeV")
    ax.legend(loc="upper left", frameon=True, framealpha=1.0, edgecolor="none")
