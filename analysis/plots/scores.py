"""Distributions of data against Monte Carlo with a ratio panel: scores and control variables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hist import Hist
from numpy.typing import ArrayLike, NDArray

from analysis.exceptions import HistogramMismatchError
from analysis.plots.panels import Panel, draw_grid, merge_factor, merged, used_bins
from analysis.plots.style import PlotError, energy_text
from analysis.templates import Template, inner_bins, select

__all__ = ["plot_control", "plot_score_bins", "plot_score_overview"]

FloatArray = NDArray[np.float64]

_KINDS = ("data", "electron", "proton")


def plot_score_overview(
    data: Template,
    electron: Template,
    proton: Template,
    stem: str | os.PathLike[str],
    *,
    electron_scale: ArrayLike,
    proton_scale: ArrayLike,
    cut: ArrayLike,
    control: tuple[ArrayLike, ArrayLike],
    synthetic: bool,
    score_label: str = "Score Ω",
    where: str | None = None,
    bins: Sequence[int] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Score distributions of several energy bins on one page.

    Args:
        data: Score distribution of the data, in counts.
        electron: Electron Monte Carlo, same axes.
        proton: Proton Monte Carlo, same axes.
        stem: Path without suffix.
        electron_scale: Factor that turns electron weights into counts, scalar or (n_energy,):
            the livetime in s for weights per second.
        proton_scale: The same for protons, usually ``Background.scale``; NaN draws none.
        cut: Score cut, one or (n_energy,); events above it are electron candidates.
        control: Lower and upper border of the control region, each one or (n_energy,).
        synthetic: Whether the data are simulated.
        score_label: Label of the score axis.
        where: Text of the selection; default the region.
        bins: Energy bins to draw; default: nine at most, spread over those with data.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        HistogramMismatchError: The axes of the three differ.
        PlotError: No energy bin has data, or a bin number does not exist.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    mc = (electron, electron_scale), (proton, proton_scale)
    panels = _score_panels(data, mc, _chosen(data, bins, most=9), cut, control)
    return draw_grid(
        panels, score_label, where or data.region, stem, synthetic=synthetic, overwrite=overwrite
    )


def plot_score_bins(
    data: Template,
    electron: Template,
    proton: Template,
    folder: str | os.PathLike[str],
    *,
    electron_scale: ArrayLike,
    proton_scale: ArrayLike,
    cut: ArrayLike,
    control: tuple[ArrayLike, ArrayLike],
    synthetic: bool,
    score_label: str = "Score Ω",
    where: str | None = None,
    bins: Sequence[int] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Score distributions, one page per energy bin, named ``bin_<number>_<e_min>_<e_max>_gev``.

    Args:
        data: Score distribution of the data, in counts.
        electron: Electron Monte Carlo, same axes.
        proton: Proton Monte Carlo, same axes.
        folder: Where the files go.
        electron_scale: As in :func:`plot_score_overview`.
        proton_scale: As in :func:`plot_score_overview`.
        cut: Score cut, one or (n_energy,).
        control: Control region.
        synthetic: Whether the data are simulated.
        score_label: Label of the score axis.
        where: Text of the selection; default the region.
        bins: Energy bins to draw; default: all with data.
        overwrite: Replace files that exist.

    Returns:
        Paths of all files, PNG and PDF of each bin.

    Raises:
        HistogramMismatchError: The axes of the three differ.
        PlotError: No energy bin has data, or a bin number does not exist.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    mc = (electron, electron_scale), (proton, proton_scale)
    chosen = _chosen(data, bins, most=None)
    paths = []
    for i, panel in zip(chosen, _score_panels(data, mc, chosen, cut, control), strict=True):
        low, high = data.energy_edges[i : i + 2]
        stem = Path(folder) / f"bin_{i:02d}_{low:.0f}_{high:.0f}_gev"
        paths += draw_grid(
            [panel],
            score_label,
            where or data.region,
            stem,
            synthetic=synthetic,
            overwrite=overwrite,
        )
    return paths


def plot_control(
    histogram: Hist[Any],
    stem: str | os.PathLike[str],
    *,
    region: str,
    electron_scale: ArrayLike,
    proton_scale: ArrayLike,
    synthetic: bool,
    ranges_gev: Sequence[tuple[float, float]] | None = None,
    where: str | None = None,
    name: str = "control",
    overwrite: bool = False,
) -> list[Path]:
    """Distribution of an input variable, data against Monte Carlo, per energy range.

    Args:
        histogram: A ``control_*`` histogram with axes kind, region, energy and value.
        stem: Path without suffix.
        region: ``fiducial`` or ``topfiducial``.
        electron_scale: Factor that turns electron weights into counts, scalar or (n_energy,).
        proton_scale: The same for protons; energy bins in which it is NaN count as 0.
        synthetic: Whether the data are simulated.
        ranges_gev: Energy ranges, one panel each, made of the bins that lie inside; default: four
            at most with about the same number of filled bins.
        where: Text of the selection; default the region.
        name: Name of the histogram, for messages.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        HistogramMismatchError: Axes, categories or variances are missing.
        PlotError: No data, or no energy bin inside a range.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    parts = [select(histogram, name, ("energy", "value"), kind=k, region=region) for k in _KINDS]
    energy, axis = (parts[0].axes[i] for i in (0, 1))
    edges = np.asarray(energy.edges, np.float64)
    scales = dict(zip(_KINDS, (1.0, electron_scale, proton_scale), strict=True))
    first = 1 if axis.traits.underflow else 0
    inner = slice(first, first + axis.size)
    value, variance, outside = {}, {}, np.zeros(edges.size - 1)
    for kind, part in zip(_KINDS, parts, strict=True):
        content, squares = inner_bins(part, name)
        scale = np.nan_to_num(_per_bin(scales[kind], edges.size - 1, kind))[:, None]
        value[kind], variance[kind] = content[:, inner] * scale, squares[:, inner] * scale**2
        if kind == "data":
            outside = content.sum(axis=1) - content[:, inner].sum(axis=1)
    filled = np.flatnonzero(value["data"].sum(axis=1) + outside > 0)
    if not filled.size:
        msg = f"histogram {name!r} has no data in region {region!r}: nothing to draw"
        raise PlotError(msg)
    if ranges_gev is None:
        groups = [g for g in np.array_split(filled, min(4, filled.size)) if g.size]
    else:
        groups = [_bins_inside(edges, low, high) for low, high in ranges_gev]
    merge = merge_factor(axis.size)
    panels = [
        Panel(
            energy_text(edges[g[0]], edges[g[-1] + 1]),
            np.asarray(axis.edges, np.float64)[::merge],
            {k: merged(v[g].sum(axis=0), merge) for k, v in value.items()},
            {k: merged(v[g].sum(axis=0), merge) for k, v in variance.items()},
            float(outside[g].sum()),
        )
        for g in groups
    ]
    label = axis.label or axis.name
    return draw_grid(panels, label, where or region, stem, synthetic=synthetic, overwrite=overwrite)


def _bins_inside(edges: FloatArray, low: float, high: float) -> NDArray[np.intp]:
    inside = np.flatnonzero((edges[:-1] >= low * (1 - 1e-9)) & (edges[1:] <= high * (1 + 1e-9)))
    if not inside.size:
        msg = f"no energy bin lies between {low} and {high} GeV"
        raise PlotError(msg)
    return inside


def _chosen(data: Template, bins: Sequence[int] | None, most: int | None) -> list[int]:
    """Energy bins to draw."""
    n = data.values.shape[0]
    if bins is not None and not len(bins):
        msg = "no energy bins were asked for: nothing to draw"
        raise PlotError(msg)
    if bins is not None:
        wrong = [i for i in bins if not 0 <= i < n]
        if wrong:
            msg = f"there is no energy bin {wrong[0]}: bins are numbered 0 to {n - 1}"
            raise PlotError(msg)
        return list(bins)
    filled = np.flatnonzero(data.values.sum(axis=1) > 0)
    if not filled.size:
        msg = f"no energy bin has data in region {data.region!r}: nothing to draw"
        raise PlotError(msg)
    if most is not None and filled.size > most:
        filled = filled[np.linspace(0, filled.size - 1, most).round().astype(int)]
    return [int(i) for i in filled]


def _per_bin(scale: ArrayLike, n: int, kind: str) -> FloatArray:
    values = np.asarray(scale, np.float64)
    if values.shape not in {(), (n,)}:
        msg = f"{kind} scale has shape {values.shape}: give one number or one per energy bin ({n})"
        raise PlotError(msg)
    return np.broadcast_to(values, (n,))


def _score_panels(
    data: Template,
    mc: tuple[tuple[Template, ArrayLike], ...],
    bins: Sequence[int],
    cut: ArrayLike,
    control: tuple[ArrayLike, ArrayLike],
) -> list[Panel]:
    for other, _ in mc:
        for axis in ("energy_edges", "omega_edges"):
            if not np.array_equal(getattr(data, axis), getattr(other, axis)):
                msg = f"{axis} of {other.kind!r} and {data.kind!r} differ: draw one file at a time"
                raise HistogramMismatchError(msg)
    n = data.values.shape[0]
    cuts, low, high = (np.broadcast_to(np.asarray(x, np.float64), (n,)) for x in (cut, *control))
    parts: list[tuple[str, Template, FloatArray]] = [("data", data, np.ones(n))]
    for kind, (part, scale) in zip(("electron", "proton"), mc, strict=True):
        parts.append((kind, part, np.nan_to_num(_per_bin(scale, n, kind))))
    expected = sum(t.values[bins, 1:-1] * s[bins, None] for _, t, s in parts[1:])
    first, stop = used_bins(data.values[bins, 1:-1], np.asarray(expected))
    merge = merge_factor(data.omega_edges.size - 1, stop - first)
    return [
        Panel(
            energy_text(data.energy_edges[i], data.energy_edges[i + 1]),
            data.omega_edges[::merge],
            {k: merged(t.values[i, 1:-1], merge) * s[i] for k, t, s in parts},
            {k: merged(t.variances[i, 1:-1], merge) * s[i] ** 2 for k, t, s in parts},
            float(data.values[i, 0] + data.values[i, -1]),
            float(cuts[i]),
            (float(low[i]), float(high[i])),
        )
        for i in bins
    ]
