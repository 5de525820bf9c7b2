"""Figure of a calibration: offsets of all layers and of F_last against energy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from analysis.plots.style import COLOURS, PlotError, energy_axis, page

__all__ = ["OffsetCurve", "plot_calibration"]

FloatArray = NDArray[np.float64]

_COLUMNS = 5
_TICKS_GEV = (20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


@dataclass(frozen=True, eq=False)
class OffsetCurve:
    """Offsets of one variable of one species.

    Attributes:
        species: ``electron`` or ``proton``.
        energy_gev: Energies of the bins, shape (n,).
        offset: Measured offsets, NaN where a bin has none.
        error: Their standard errors.
        node_gev: Nodes of the table, shape (m,).
        node_offset: Values of the table.
        node_error: Their errors; 0 where a node was not measured.
        injected: Offsets that synthetic data were made with, at the nodes, or None.
    """

    species: str
    energy_gev: FloatArray
    offset: FloatArray
    error: FloatArray
    node_gev: FloatArray
    node_offset: FloatArray
    node_error: FloatArray
    injected: FloatArray | None = None


def plot_calibration(
    panels: Sequence[tuple[str, Sequence[OffsetCurve]]],
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Offsets against energy, one panel per variable: bins as points, the table as a band, both species.

    Args:
        panels: Title with unit, and the curves of both species.
        stem: Path without suffix.
        synthetic: Whether the data are simulated.
        title: Text at the top right.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: If no bin of any panel was measured.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    curves = [c for _, found in panels for c in found]
    measured = [c.energy_gev[np.isfinite(c.offset)] for c in curves]
    energies = np.concatenate([*measured, np.zeros(0)])
    if not energies.size:
        msg = "no offset was measured in any energy bin: nothing to draw"
        raise PlotError(msg)
    low, high = float(energies.min()), float(energies.max())
    rows = -(-len(panels) // _COLUMNS)
    with page(
        stem,
        (2.75 * _COLUMNS, 2.35 * rows + 0.3),
        synthetic=synthetic,
        title=title,
        overwrite=overwrite,
    ) as sheet:
        axes = sheet.figure.subplots(rows, _COLUMNS, sharex=True, squeeze=False)
        for ax in axes.flat[len(panels) :]:
            ax.set_visible(False)
        for k, (ax, (name, found)) in enumerate(zip(axes.flat, panels, strict=False)):
            for curve in found:
                colour = COLOURS[curve.species]
                good = np.isfinite(curve.offset)
                ax.errorbar(
                    curve.energy_gev[good],
                    curve.offset[good],
                    yerr=curve.error[good],
                    fmt="o",
                    ms=2.6,
                    elinewidth=0.9,
                    color=colour,
                )
                grid = np.geomspace(low, high, 200)
                log_nodes = np.log10(curve.node_gev)
                line, band = (
                    np.interp(np.log10(grid), log_nodes, y)
                    for y in (curve.node_offset, curve.node_error)
                )
                ax.plot(grid, line, color=colour, lw=1.2, label=f"{curve.species}: table")
                ax.fill_between(grid, line - band, line + band, color=colour, alpha=0.18, lw=0)
                if curve.injected is not None:
                    truth = np.interp(np.log10(grid), log_nodes, curve.injected)
                    label = f"{curve.species}: injected"
                    ax.plot(grid, truth, color=colour, lw=1.2, ls=":", label=label)
            ax.axhline(0.0, color="0.7", lw=0.7, zorder=0)
            _limits(ax, found)
            ax.set_title(name, fontsize=9.5)
            energy_axis(ax, low, high, "")
            ax.xaxis.set_minor_formatter(NullFormatter())
            ticks = [t for t in _TICKS_GEV if low * 0.95 < t < high * 1.05]
            ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
            ax.tick_params(labelsize=8.5)
            if k == 0:
                ax.legend(fontsize=7.0, handlelength=1.4)
        sheet.figure.supxlabel("Corrected energy (GeV)", fontsize=11)
        sheet.figure.supylabel(
            "RMS: Monte Carlo − data (mm)   F_last: data over Monte Carlo", fontsize=11
        )
    return sheet.paths


def _limits(ax: Axes, curves: Sequence[OffsetCurve]) -> None:
    """Range that shows the tables; bins with large errors may run out of it."""
    tables = np.concatenate(
        [
            np.concatenate([c.node_offset - c.node_error, c.node_offset + c.node_error])
            for c in curves
        ]
    )
    room = 0.35 * float(np.ptp(tables)) + 0.8
    ax.set_ylim(float(tables.min()) - room, float(tables.max()) + room)
