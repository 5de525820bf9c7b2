"""Both regions beside each other: acceptance against the pure geometry, flux with published spectra."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator

from analysis.acceptance import Acceptance
from analysis.compare import Comparison
from analysis.exceptions import HistogramMismatchError
from analysis.fluxtable import FluxTable
from analysis.plots.energies import GEOMETRIC_FIDUCIAL_M2SR
from analysis.plots.spectra import DEFAULT_PUBLISHED, draw_published, vertical_range
from analysis.plots.style import COLOURS, PlotError, energy_axis, outside_markers, page, points
from analysis.published import PublishedSpectrum, load

__all__ = [
    "GEOMETRIC_M2SR",
    "bgo_path_cut",
    "geometry_lines",
    "plot_region_acceptance",
    "plot_region_fluxes",
    "top_geometry_m2sr",
    "total_acceptance",
]

FloatArray = NDArray[np.float64]

#: Acceptance of straight axes, m² sr: through a square of 560 mm at the top of the BGO (z = 46 mm), and through
#: the one at its bottom (z = 448 mm) or not.
GEOMETRIC_M2SR = {"fiducial": GEOMETRIC_FIDUCIAL_M2SR, "topfiducial": 0.693}
#: The second with at least so many radiation lengths of BGO along the axis.
_TOP_WITH_PATH = {0.0: 0.693, 10.0: 0.571, 15.0: 0.484, 20.0: 0.400, 25.0: 0.319}
_NAMES = {"fiducial": "fiducial", "topfiducial": "top-fiducial"}
_LOOKS = {"fiducial": (COLOURS["electron"], "o"), "topfiducial": (COLOURS["proton"], "s")}
_NOTE: dict[str, Any] = {
    "fontsize": 9.5,
    "zorder": 10,
    "bbox": {"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1.0},
}
_SUM = (COLOURS["data"], "D")
_DISPLACED = 0.012  # of the energy, downwards and upwards, so that the points of two regions do not cover each other


def top_geometry_m2sr(min_x0: float) -> float:
    """Geometric acceptance of the top-fiducial region with a shortest path in the BGO, m² sr.

    Args:
        min_x0: Radiation lengths of BGO along the axis.

    Returns:
        The integral over straight axes, between 0 and 25 radiation lengths, interpolated.

    Raises:
        PlotError: Outside these.
    """
    x, y = zip(*_TOP_WITH_PATH.items(), strict=True)
    if not x[0] <= min_x0 <= x[-1]:
        msg = f"the geometry of the top-fiducial region is known for paths of 0 to {x[-1]:g} X0, not {min_x0:g}"
        raise PlotError(msg)
    return float(PchipInterpolator(x, y)(min_x0))


def bgo_path_cut(meta: Mapping[str, Any]) -> float | None:
    """Shortest path in the BGO that the card of a run asks for.

    Args:
        meta: Metadata of a histogram file.

    Returns:
        Radiation lengths; None without such a cut.
    """
    card = meta.get("card")
    cuts = card.get("cuts") if isinstance(card, Mapping) else None
    for entry in cuts or ():
        values = entry.get("bgo_path") if isinstance(entry, Mapping) else None
        if isinstance(values, Mapping) and values.get("min_x0") is not None:
            return float(values["min_x0"])
    return None


def geometry_lines(regions: Sequence[str], meta: Mapping[str, Any]) -> dict[str, float]:
    """Legend entries and heights of the pure geometry of some regions.

    Args:
        regions: Regions to be drawn.
        meta: Metadata, for the cut on the path in the BGO.

    Returns:
        Text to m² sr.
    """
    lines = {
        f"{_NAMES[r]} cut alone, {GEOMETRIC_M2SR[r]} m² sr": GEOMETRIC_M2SR[r] for r in regions
    }
    path = bgo_path_cut(meta)
    if "topfiducial" in regions and path is not None and 0 < path <= max(_TOP_WITH_PATH):
        height = top_geometry_m2sr(path)
        lines[f"with {path:g} X$_0$ of BGO, {height:.3f} m² sr"] = height
    return lines


def total_acceptance(parts: Sequence[Acceptance]) -> Acceptance:
    """Sum of the acceptances of regions without common events; errors in quadrature.

    Args:
        parts: Acceptances in the same bins.

    Returns:
        The sum; ``success`` where all have one.

    Raises:
        HistogramMismatchError: No acceptance, or other bins.
    """
    if not parts or any(
        not np.allclose(p.e_min, parts[0].e_min) or not np.allclose(p.e_max, parts[0].e_max)
        for p in parts
    ):
        msg = (
            "acceptances are added in the same energy bins only: run both regions with one binning"
        )
        raise HistogramMismatchError(msg)
    good = np.logical_and.reduce([p.success for p in parts])
    value, squares = (
        sum(np.where(good, x, 0.0) for x in xs)
        for xs in ([p.value for p in parts], [p.error**2 for p in parts])
    )
    error = np.sqrt(squares)
    safe = np.where(good & (error > 0), error, 1.0)
    return Acceptance(
        e_min=parts[0].e_min.copy(),
        e_max=parts[0].e_max.copy(),
        value=np.where(good, value, np.nan),
        error=np.where(good, error, np.nan),
        effective_counts=np.where(good & (error > 0), (value / safe) ** 2, 0.0),
        success=good,
    )


def plot_region_acceptance(
    acceptances: Mapping[str, Acceptance],
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    min_x0: float | None = None,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Acceptance of both regions before the score cut and their sum, against the pure geometry.

    Args:
        acceptances: Region to acceptance.
        stem: Path without suffix.
        synthetic: Whether the simulation is that of synthetic data.
        min_x0: Cut on the path in the BGO of the top-fiducial region; its geometry is marked.
        title: Text over the figure.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: No region, or one without simulated events.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    empty = [r for r, a in acceptances.items() if not a.success.any()]
    if not acceptances or empty:
        which = f"region {empty[0]!r} has no selected electron simulation" if empty else "no region"
        msg = f"{which}: nothing to draw"
        raise PlotError(msg)
    drawn = [(_NAMES[r], a, _LOOKS[r]) for r, a in acceptances.items()]
    if len(acceptances) > 1:
        drawn.append(("sum", total_acceptance(list(acceptances.values())), _SUM))
    with page(stem, (7.6, 5.6), synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        ax = sheet.figure.subplots()
        for name, a, (colour, marker) in drawn:
            value = np.where(a.success, a.value, np.nan)
            at = np.sqrt(a.e_min * a.e_max)
            style = {"color": colour, "fmt": marker, "ms": 4.5, "label": name}
            points(ax, a.e_min, a.e_max, at, value, (a.error, a.error), **style)
        used = np.any([a.success for a in acceptances.values()], axis=0)
        first = next(iter(acceptances.values()))
        low, high = float(first.e_min[used].min()), float(first.e_max[used].max())
        energy_axis(ax, low, high, "True energy (GeV)")
        for region in acceptances:
            height, (colour, _) = GEOMETRIC_M2SR[region], _LOOKS[region]
            text = f"{_NAMES[region]} cut alone, {height} m² sr"
            ax.axhline(height, color=colour, ls="--", lw=1.2, label=text)
        if "topfiducial" in acceptances:
            _path_lines(ax, min_x0)
        ax.set_ylim(0.0, 1.3 * max(GEOMETRIC_M2SR["topfiducial"], ax.get_ylim()[1] / 1.1))
        ax.set_ylabel("Acceptance before the score cut (m² sr)")
        ax.grid(alpha=0.25, lw=0.6)
        ax.legend(loc="upper left", ncols=2)
    return sheet.paths


def plot_region_fluxes(
    tables: Mapping[str, FluxTable],
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    published: Sequence[PublishedSpectrum] | None = None,
    curve: tuple[ArrayLike, ArrayLike] | None = None,
    curve_label: str = "injected",
    comparisons: Mapping[str, Comparison] | None = None,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """E³-weighted flux of both regions with published spectra, points slightly displaced in energy.

    Bars are statistical, boxes systematic, arrows upper limits. Below: the ratios to the reference if they are
    given, else that of the regions, with statistical errors of disjoint events.

    Args:
        tables: Region to flux.
        stem: Path without suffix.
        synthetic: Whether the data are simulated.
        published: Spectra to draw; default :data:`analysis.plots.spectra.DEFAULT_PUBLISHED`.
        curve: Energies in GeV and dN/dE of a reference.
        curve_label: Its legend entry.
        comparisons: Region to its comparison with the reference.
        title: Text over the figure.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: A table without a flux, or regions with other energy bins and no comparison.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    empty = [r for r, t in tables.items() if not t.success.any()]
    if not tables or empty:
        which = (
            f"no bin of the flux table of region {empty[0]!r} has success" if empty else "no flux"
        )
        msg = f"{which}: nothing to draw"
        raise PlotError(msg)
    spectra = [load(name) for name in DEFAULT_PUBLISHED] if published is None else published
    lowest = min(float(t.e_min[t.success].min()) for t in tables.values())
    highest = max(float(t.e_max[t.success].max()) for t in tables.values())
    shown = min(lowest, 20.0), max(highest, 7000.0)
    shifts = np.linspace(1 - _DISPLACED, 1 + _DISPLACED, len(tables)) if len(tables) > 1 else [1.0]
    with page(stem, (10.8, 7.6), synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        main, below = sheet.figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        ours: list[Any] = []
        heights, limits = [], [np.array([np.nan])]
        for (region, table), shift in zip(tables.items(), shifts, strict=True):
            handle, y, limit = _table(main, table, region, float(shift))
            ours.append(handle)
            heights.append(y)
            limits.append(limit)
        heights += [draw_published(main, s, i + 2, shown) for i, s in enumerate(spectra)]
        if curve is not None:
            e, dnde = (np.asarray(x, np.float64) for x in curve)
            inside = (e >= lowest) & (e <= highest)
            style: dict[str, Any] = {
                "color": COLOURS["synthetic"],
                "ls": "--",
                "lw": 1.4,
                "zorder": 4,
            }
            main.plot(e[inside], (e**3 * dnde)[inside], label=curve_label, **style)
        vertical_range(main, np.concatenate(heights), np.concatenate(limits))
        main.set_ylabel("E³ dN/dE (GeV² m⁻² s⁻¹ sr⁻¹)")
        main.grid(alpha=0.25, lw=0.6)
        # the title of the page stands above the legend
        above = "\n" if title else ""
        sheet.figure.legend(loc="outside right upper", title=f"{above}published: stat. and syst.")
        if comparisons:
            _ratios(below, comparisons, shifts)
        else:
            _region_ratio(below, tables)
        below.grid(alpha=0.25, lw=0.6)
        energy_axis(below, *shown)
    return sheet.paths


def _path_lines(ax: Axes, min_x0: float | None) -> None:
    """Geometry of the top-fiducial region for several shortest paths, that of the card marked."""
    colour, _ = _LOOKS["topfiducial"]
    right = ax.get_yaxis_transform()
    for path, height in _TOP_WITH_PATH.items():
        if path and path != min_x0:
            ax.axhline(height, color=colour, ls=":", lw=0.8, alpha=0.7)
            text = f"{path:g} X$_0$"
            ax.text(0.995, height, text, transform=right, ha="right", va="bottom", fontsize=8)
    if min_x0 is not None and 0 < min_x0 <= max(_TOP_WITH_PATH):
        height = top_geometry_m2sr(min_x0)
        text = f"top-fiducial, {min_x0:g} X$_0$ of BGO, {height:.3f} m² sr"
        ax.axhline(height, color=colour, ls="-.", lw=1.6, label=text)


def _table(
    ax: Axes, table: FluxTable, region: str, shift: float
) -> tuple[Any, FloatArray, FloatArray]:
    """Draw a flux; its artist, the heights of its points, and its limits with NaN for other bins."""
    colour, marker = _LOOKS[region]
    weight = table.e_ref**3
    limited = table.success & ~(table.dnde > 0)
    y = np.where(table.success & ~limited, weight * table.dnde, np.nan)
    good = np.isfinite(y)
    bars = [np.nan_to_num(weight * e)[good] for e in (table.dnde_errn, table.dnde_errp)]
    at = table.e_ref * shift
    style: dict[str, Any] = {"color": colour, "elinewidth": 1.1, "zorder": 5}
    label = f"this analysis, {_NAMES[region]}"
    handle = ax.errorbar(at[good], y[good], yerr=bars, fmt=marker, ms=5, label=label, **style)
    down, up = (weight * part for part in table.total_systematic())
    boxed = good & (down + up > 0)
    if boxed.any():
        ax.bar(
            at[boxed],
            (down + up)[boxed],
            0.022 * at[boxed],
            bottom=(y - down)[boxed],
            color=colour,
            alpha=0.25,
            lw=0,
            zorder=3,
            label=f"systematic errors, {_NAMES[region]}",
        )
    limit = np.where(limited, weight * table.dnde_ul, np.nan)
    rows = np.isfinite(limit)
    if rows.any():
        top = limit[rows]
        ax.errorbar(at[rows], top, yerr=0.3 * top, uplims=True, fmt="_", capsize=3, **style)
    return handle, y[good], limit


def _ratios(ax: Axes, comparisons: Mapping[str, Comparison], shifts: ArrayLike) -> None:
    """Ratios to the reference; bins that are not in the χ² are open."""
    ax.set_ylim(0.5, 1.5)
    words = []
    for (region, c), shift in zip(comparisons.items(), np.asarray(shifts), strict=True):
        colour, marker = _LOOKS[region]
        x = c.e_ref * float(shift)
        for used, face in ((c.used, colour), (~c.used & (c.ratio > 0), "white")):
            y, errors = np.where(used, c.ratio, np.nan), (c.ratio_errn, c.ratio_errp)
            points(ax, x, x, x, y, errors, color=colour, fmt=marker, mfc=face)
        outside_markers(ax, x, np.where(c.ratio > 0, c.ratio, 1.0), color=colour)
        words.append(f"{_NAMES[region]} χ²/dof = {c.chi2:.1f}/{c.ndf}")
    ax.axhline(1.0, color=COLOURS["synthetic"], ls="--", lw=1.2)
    ax.set_ylabel(f"Ratio to\n{next(iter(comparisons.values())).name}")
    ax.text(0.02, 0.93, ", ".join(words), va="top", **_NOTE, transform=ax.transAxes)


def _region_ratio(ax: Axes, tables: Mapping[str, FluxTable]) -> None:
    """Second region over the first, with χ² from the statistical errors."""
    if len(tables) != 2:
        msg = "without a reference the ratio of two regions is drawn: give two flux tables"
        raise PlotError(msg)
    one, two = tables.values()
    if one.e_min.shape != two.e_min.shape or not np.allclose(one.e_min, two.e_min, rtol=1e-6):
        msg = "the two flux tables have different energy bins: their ratio cannot be drawn"
        raise PlotError(msg)
    good = one.success & two.success & (one.dnde > 0) & (two.dnde > 0)
    safe = np.where(good, one.dnde, 1.0)
    ratio = np.where(good, two.dnde / safe, np.nan)
    # a larger ratio: the second is larger or the first smaller
    low = ratio * np.hypot(two.dnde_errn / np.where(good, two.dnde, 1.0), one.dnde_errp / safe)
    high = ratio * np.hypot(two.dnde_errp / np.where(good, two.dnde, 1.0), one.dnde_errn / safe)
    ax.set_ylim(0.5, 1.5)
    points(ax, one.e_min, one.e_max, one.e_ref, ratio, (low, high), color=COLOURS["data"])
    outside_markers(ax, one.e_ref, np.nan_to_num(ratio, nan=1.0), color=COLOURS["data"])
    ax.axhline(1.0, color=COLOURS["total"], ls="--", lw=1.2)
    names = [_NAMES[r] for r in tables]
    ax.set_ylabel(f"{names[1]}\n/ {names[0]}")
    pull = (ratio - 1) / np.where(ratio > 1, low, high)
    text = f"χ²/dof = {np.nansum(pull[good] ** 2):.1f}/{int(good.sum())} (statistical)"
    ax.text(0.02, 0.93, text, va="top", **_NOTE, transform=ax.transAxes)
