"""Analytic score shapes against the simulation, and their parameters against energy."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.gridspec import SubplotSpec
from numpy.typing import NDArray

from analysis.plots.style import (
    COLOURS,
    Page,
    PlotError,
    energy_axis,
    energy_text,
    grid,
    outside_markers,
    page,
)
from analysis.shapes.fit import effective_counts, merged_chi2
from analysis.shapes.forms import density
from analysis.shapes.parametrisation import Parametrisation
from analysis.templates import Template

__all__ = ["plot_parameters", "plot_shapes"]

FloatArray = NDArray[np.float64]

_PANELS = 9
_SMALLEST = 3e-7  # density over its maximum that is still drawn


def plot_shapes(
    template: Template,
    parametrisation: Parametrisation,
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    score_label: str = "score",
    cut: float | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Simulation and shape in up to nine energy bins, with pulls of merged bins.

    Args:
        template: the simulation that was parametrised.
        parametrisation: of both kinds; that of ``template.kind`` is drawn.
        stem: path without suffix.
        synthetic: whether the simulation is the parametric one.
        score_label: label of the score axis.
        cut: score cut to mark.
        overwrite: replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: no energy bin was fitted.
        FileExistsError: a file exists and ``overwrite`` is not set.
    """
    used = np.flatnonzero(parametrisation.smooth(template.kind).goodness.used)
    if not used.size:
        msg = f"no energy bin of the {template.kind} template was fitted: nothing to draw"
        raise PlotError(msg)
    bins = used[np.unique(np.linspace(0, used.size - 1, _PANELS).round().astype(int))]
    rows, columns = grid(len(bins))
    title = f"{template.kind}s, {template.region}, {parametrisation.score}"
    size = (0.8 + 4.2 * columns, 0.9 + 3.7 * rows)
    with page(stem, size, synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        cells = sheet.figure.add_gridspec(rows, columns)
        for i, b in enumerate(bins):
            cell = cells[i // columns, i % columns]
            main, below = _panel(sheet, cell, template, parametrisation, int(b), cut)
            if i % columns == 0:
                main.set_ylabel("probability density")
                below.set_ylabel("pull")
            if i + columns >= len(bins):
                below.set_xlabel(score_label)
    return sheet.paths


def plot_parameters(
    template: Template,
    parametrisation: Parametrisation,
    single: tuple[FloatArray, FloatArray],
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    overwrite: bool = False,
) -> list[Path]:
    """Shape parameters against energy: the smooth ones with their error, and fits of single bins.

    Args:
        template: the simulation that was parametrised.
        parametrisation: of both kinds; that of ``template.kind`` is drawn.
        single: values and errors of :func:`analysis.shapes.parametrisation.bin_fits`, (n_energy, p).
        stem: path without suffix.
        synthetic: whether the simulation is the parametric one.
        overwrite: replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        FileExistsError: a file exists and ``overwrite`` is not set.
    """
    smooth = parametrisation.smooth(template.kind)
    edges = template.energy_edges
    middle = np.sqrt(edges[1:] * edges[:-1])
    energy = np.geomspace(edges[0], edges[-1], 200)
    curve, band = smooth.parameters(energy), smooth.errors(energy)
    names = smooth.form.names
    rows, columns = grid(len(names))
    title = f"{template.kind}s, {template.region}, {parametrisation.score}"
    size = (0.8 + 4.2 * columns, 0.9 + 2.6 * rows)
    with page(stem, size, synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        for i, name in enumerate(names):
            ax = sheet.figure.add_subplot(rows, columns, i + 1)
            good = np.isfinite(single[0][:, i])
            colour = COLOURS[template.kind]
            ax.plot(energy, curve[:, i], color=colour)
            low, high = curve[:, i] - band[:, i], curve[:, i] + band[:, i]
            ax.fill_between(energy, low, high, color=colour, alpha=0.25, lw=0)
            ax.plot(
                10 ** np.array(smooth.knots[i]) * 1000.0,
                np.interp(np.array(smooth.knots[i]) + 3.0, np.log10(energy), curve[:, i]),
                "|",
                color=colour,
                ms=9,
            )
            room = 0.15 * float(np.ptp(curve[:, i])) + 2.0 * float(np.median(band[:, i])) + 0.3
            ax.set_ylim(curve[:, i].min() - room, curve[:, i].max() + room)
            ax.errorbar(
                middle[good],
                single[0][good, i],
                single[1][good, i],
                fmt="o",
                ms=3,
                color=COLOURS["total"],
                elinewidth=0.8,
                zorder=0,
            )
            outside_markers(ax, middle[good], single[0][good, i], color=COLOURS["total"])
            energy_axis(ax, float(edges[0]), float(edges[-1]))
            ax.set_ylabel(name.replace("_", " "))
    return sheet.paths


def _panel(
    sheet: Page,
    cell: SubplotSpec,
    template: Template,
    parametrisation: Parametrisation,
    b: int,
    cut: float | None,
) -> tuple[Axes, Axes]:
    """One energy bin."""
    split = cell.subgridspec(2, 1, height_ratios=(3, 1), hspace=0.03)
    main = sheet.figure.add_subplot(split[0])
    below = sheet.figure.add_subplot(split[1], sharex=main)
    smooth = parametrisation.smooth(template.kind)
    edges = template.energy_edges
    energy = float(np.sqrt(edges[b] * edges[b + 1]))
    counts = effective_counts(template)
    n, scale = counts.n[b], counts.scale[b]
    p = np.diff(parametrisation.cumulative(template.kind, [energy], counts.borders)[0])
    share = p / scale
    expected = n.sum() * share / share.sum()
    first = merged_chi2(n, expected)[2]
    borders = np.clip(counts.borders, template.omega_edges[0], template.omega_edges[-1])
    low, high = borders[first], np.append(borders[first[1:]], borders[-1])
    filled = np.flatnonzero(n)
    inner = (borders[filled[0]], borders[filled[-1] + 1])
    low, high = np.maximum(low, inner[0]), np.minimum(high, inner[1])
    width = np.maximum(high - low, np.diff(template.omega_edges).min())
    middle = 0.5 * (low + high)
    total = template.values[b].sum()
    value = np.add.reduceat(template.values[b], first) / total / width
    error = np.sqrt(np.add.reduceat(template.variances[b], first)) / total / width
    colour = COLOURS[template.kind]
    main.errorbar(
        middle, value, error, 0.5 * width, fmt="o", ms=2.5, color=COLOURS["total"], elinewidth=0.8
    )
    room = 0.1 * (inner[1] - inner[0])
    x = np.linspace(inner[0] - room, inner[1] + room, 600)
    y = density(smooth.form, x, smooth.parameters([energy]))[0]
    main.plot(x, y, color=colour)
    main.set_yscale("log")
    main.set_ylim(max(y.max() * _SMALLEST, value[value > 0].min() / 30), y.max() * 4)
    chi2, ndf = smooth.goodness.chi2[b], smooth.goodness.ndf[b]
    main.set_title(
        f"{energy_text(edges[b], edges[b + 1])}, χ²/ndf {chi2:.0f}/{ndf:.0f}", loc="right"
    )
    observed, mean = np.add.reduceat(n, first), np.add.reduceat(expected, first)
    pull = (observed - mean) / np.sqrt(np.maximum(mean, 1e-12))
    below.axhline(0, color=colour, lw=0.8)
    below.plot(middle, pull, "o", ms=2.5, color=COLOURS["total"])
    below.set_ylim(-5, 5)
    outside_markers(below, middle, pull, color=COLOURS["total"])
    main.tick_params(labelbottom=False)
    if cut is not None:
        for ax in (main, below):
            ax.axvline(cut, color=COLOURS["cut"], ls="--", lw=1)
    return main, below
