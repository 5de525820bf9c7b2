"""Fits of broken power laws: the flux with its fits, profiles and contour, toys."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy import stats

from analysis.plots.style import COLOURS, PlotError, energy_axis, outside_markers, page, points
from analysis.spectrum.data import BreakData
from analysis.spectrum.fit import BreakFit
from analysis.spectrum.significance import Toys

__all__ = ["LABELS", "plot_break_fits", "plot_break_profiles", "plot_break_toys"]

FloatArray = NDArray[np.float64]

LABELS = {
    "norm": "Φ₀ (GeV⁻¹ m⁻² s⁻¹ sr⁻¹)",
    "index": "γ",
    "index1": "γ₁",
    "index2": "γ₂",
    "index3": "γ₃",
    "break_gev": "E$_b$ (GeV)",
    "break2_gev": "E$_{b2}$ (GeV)",
    "cutoff_gev": "E$_c$ (GeV)",
    "smoothness": "Δ",
}
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8C6D1F")
_ONE, _TWO = 2.2957, 6.1801  # Δχ² of 68.27 and 95.45 % for two parameters

_FAR = 3.0  # times the range of the toys: the data are told by an arrow, not drawn


def plot_break_fits(
    data: BreakData,
    fits: Mapping[str, BreakFit],
    stem: str | os.PathLike[str],
    *,
    outside: BreakData | None = None,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """E³-weighted flux with the fits and their standard errors; below, the pulls of each fit.

    Args:
        data: the fitted bins.
        fits: label to fit.
        stem: path without suffix.
        outside: all bins; those not fitted are drawn open.
        title: text over the figure.
        overwrite: replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: nothing to draw.
        FileExistsError: a file exists and ``overwrite`` is not set.
    """
    if not fits or not len(data):
        msg = "there is no fit to draw"
        raise PlotError(msg)
    shown = data if outside is None else outside
    common = {"synthetic": data.synthetic, "overwrite": overwrite, "title": title}
    with page(stem, (8.6, 7.4), **common) as sheet:  # type: ignore[arg-type]
        main, low = sheet.figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 1))
        if outside is not None:
            rest = ~np.isin(outside.e_min, data.e_min)
            _flux_points(main, outside, rest, mfc="white", label="not fitted")
        everything = np.ones(len(data), dtype=np.bool_)
        _flux_points(main, data, everything, mfc=COLOURS["data"], label=f"{data.name}, fitted")
        energy = np.geomspace(data.e_min.min(), data.e_max.max(), 400)
        worst = 3.0
        for k, (label, one) in enumerate(fits.items()):
            colour = _PALETTE[k % len(_PALETTE)]
            flux, error = one.band(energy)
            y, dy = energy**3 * flux, energy**3 * error
            text = f"{label}: {one.cost:.1f} / {one.ndf}" + ("" if one.valid else " (not valid)")
            main.plot(energy, y, color=colour, label=text, zorder=3)
            main.fill_between(energy, y - dy, y + dy, color=colour, alpha=0.2, lw=0)
            offset = np.exp(0.012 * (k - (len(fits) - 1) / 2))
            low.plot(
                data.e_ref * offset, one.pulls, "os^Dv"[k % 5], color=colour, ms=4.5, mfc="none"
            )
            worst = max(worst, float(np.abs(one.pulls).max()))
        used = data.e_ref**3 * data.dnde
        main.set_yscale("log")
        main.set_ylim(0.5 * float(used[used > 0].min()), 1.8 * float(used.max()))
        main.set_ylabel("E³ dN/dE (GeV² m⁻² s⁻¹ sr⁻¹)")
        main.legend(title="χ² or −2 ln L, degrees of freedom", loc="lower left")
        main.grid(alpha=0.25, lw=0.6)
        low.axhline(0.0, color=COLOURS["total"], lw=0.8)
        for edge in (-2, 2):
            low.axhline(edge, color=COLOURS["total"], lw=0.7, ls=":")
        low.set_ylim(-min(worst * 1.1, 8), min(worst * 1.1, 8))
        low.set_ylabel("Pull")
        for one in fits.values():
            outside_markers(low, data.e_ref, one.pulls, color=COLOURS["total"])
        energy_axis(low, float(shown.e_min.min()), float(shown.e_max.max()))
    return sheet.paths


def plot_break_profiles(
    profiles: Mapping[str, Mapping[str, tuple[FloatArray, FloatArray]]],
    contours: Mapping[str, tuple[FloatArray, FloatArray, FloatArray]],
    fits: Mapping[str, BreakFit],
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Profile likelihoods of the parameters, and contours of two of them.

    Args:
        profiles: label → parameter → (values, Δχ²).
        contours: label → (break energies, indices above, Δχ² of shape (n_index, n_energy)).
        fits: label → fit.
        stem: path without suffix.
        synthetic: whether the events are simulated.
        title: text over the figure.
        overwrite: replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: nothing to draw.
        FileExistsError: a file exists and ``overwrite`` is not set.
    """
    if not profiles:
        msg = "there is no profile to draw"
        raise PlotError(msg)
    names = list(dict.fromkeys(name for one in profiles.values() for name in one))
    panels = len(names) + bool(contours)
    columns = 2 if panels > 1 else 1
    size = (4.6 * columns, 3.7 * -(-panels // columns) + 0.4)
    with page(stem, size, synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        axes = np.atleast_1d(sheet.figure.subplots(-(-panels // columns), columns)).ravel()
        for ax, name in zip(axes, names, strict=False):
            for k, (label, one) in enumerate(profiles.items()):
                if name in one:
                    ax.plot(*one[name], color=_PALETTE[k % len(_PALETTE)], label=label)
            for level in (1, 4, 9):
                ax.axhline(level, color=COLOURS["total"], lw=0.7, ls=":")
            ax.set_ylim(0, 12)
            ax.set_xlabel(LABELS.get(name, name))
            ax.set_ylabel("Δχ² or −2 Δ ln L")
        axes[0].legend(loc="upper center")
        if contours:
            _contours(axes[len(names)], contours, fits)
        for ax in axes[panels:]:
            ax.axis("off")
    return sheet.paths


def plot_break_toys(
    toys: Mapping[str, Toys],
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Distribution of Δχ² of toys of the power law, with χ² and the value of the data.

    Args:
        toys: label → toys.
        stem: path without suffix.
        synthetic: whether the data are simulated; toys always are.
        title: text over the figure.
        overwrite: replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: nothing to draw.
        FileExistsError: a file exists and ``overwrite`` is not set.
    """
    if not toys:
        msg = "there are no toys to draw"
        raise PlotError(msg)
    size = (4.6 * len(toys) + 0.6, 4.6)
    with page(stem, size, synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        axes = np.atleast_1d(sheet.figure.subplots(1, len(toys), sharey=True))
        for ax, (label, one) in zip(axes, toys.items(), strict=True):
            most = max(float(one.delta.max()) + 2, 12.0)
            far = one.observed > _FAR * most  # would squeeze the toys to a line
            top = 1.6 * most if far else max(1.05 * one.observed, most)
            x = np.linspace(1e-2, top, 500)
            ordered = np.sort(one.delta)
            share = 1 - np.arange(ordered.size) / ordered.size
            ax.step(
                ordered, share, where="pre", color=COLOURS["electron"], label="toys (simulated)"
            )
            law = f"χ², {one.extra} d.o.f."
            ax.plot(x, stats.chi2.sf(x, one.extra), color=COLOURS["total"], ls="--", label=law)
            law = f"χ², {one.effective_ndf:.2f} d.o.f. (mean of toys)"
            ax.plot(x, stats.chi2.sf(x, one.effective_ndf), color=COLOURS["cut"], ls=":", label=law)
            text = f"data, Δχ² = {one.observed:.1f}"
            if far:
                ax.plot([], [], color=COLOURS["synthetic"], marker=">", ls="", label=text)
                ax.plot(
                    [0.985],
                    [0.5],
                    color=COLOURS["synthetic"],
                    marker=">",
                    ms=9,
                    transform=ax.transAxes,
                )
            else:
                ax.axvline(one.observed, color=COLOURS["synthetic"], lw=1.4, label=text)
            ax.set_yscale("log")
            ax.set_ylim(0.3 / ordered.size, 2)
            ax.set_xlim(0, top)
            ax.set_xlabel("Δχ² or −2 Δ ln L")
            ax.set_title(f"{label}: {one.exceeding} of {ordered.size} toys ≥ data")
            ax.legend(loc="upper right", bbox_to_anchor=(0.93, 1.0), fontsize=8)
        axes[0].set_ylabel("Share of toys with at least this")
    return sheet.paths


def _flux_points(ax: Axes, data: BreakData, which: NDArray[np.bool_], mfc: str, label: str) -> None:
    """Points with statistical and systematic errors in quadrature."""
    empty = int(np.count_nonzero(which & ~(data.dnde > 0)))
    if empty:  # on a logarithmic axis they have no place
        label = f"{label} ({empty} without flux not drawn)"
    which = which & (data.dnde > 0)
    if not which.any():
        return
    weight = data.e_ref[which] ** 3
    error = weight * np.hypot(data.stat, data.sys)[which]
    points(
        ax,
        data.e_min[which],
        data.e_max[which],
        data.e_ref[which],
        weight * data.dnde[which],
        (error, error),
        color=COLOURS["data"],
        mfc=mfc,
        label=label,
        zorder=4,
    )


def _contours(
    ax: Axes,
    contours: Mapping[str, tuple[FloatArray, FloatArray, FloatArray]],
    fits: Mapping[str, BreakFit],
) -> None:
    for k, (label, (x, y, delta)) in enumerate(contours.items()):
        colour = _PALETTE[k % len(_PALETTE)]
        ax.contour(x, y, delta, levels=[_ONE, _TWO], colors=colour, linestyles=["solid", "dashed"])
        names = fits[label].model.parameters
        best = fits[label].values
        at = best[names.index("break_gev")], best[names.index("index2")]
        ax.plot(*at, "+", color=colour, ms=9, mew=1.6, ls="none", label=label)
    ax.set_xlabel(LABELS["break_gev"])
    ax.set_ylabel(LABELS["index2"])
    ax.set_title("68.3 % (solid), 95.4 % (dashed)")
    ax.legend(loc="best")
