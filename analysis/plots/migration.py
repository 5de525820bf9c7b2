"""Energy migration: response matrix, bias and width of the energy, bin-by-bin factors, closure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.colors import LogNorm
from numpy.typing import ArrayLike, NDArray

from analysis.migration.binbybin import BinByBin
from analysis.migration.points import Unfolded
from analysis.migration.response import Response
from analysis.migration.smearing import energy_smearing
from analysis.plots.style import COLOURS, PlotError, energy_axis, outside_markers, page, points

__all__ = ["plot_bin_by_bin", "plot_closure", "plot_energy_smearing", "plot_response"]

FloatArray = NDArray[np.float64]

_STYLES = (("o", "#000000"), ("s", "#D55E00"), ("^", "#0072B2"), ("D", "#009E73"), ("v", "#CC79A7"))
_LINES = ("--", ":", "-.", (0, (4, 1, 1, 1, 1, 1)), (0, (1, 2)))
_SMALLEST = 1e-4  # of a column that is worth a colour


def plot_response(
    response: Response,
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Where the events of each true bin are reconstructed: columns normalised to their acceptance.

    Args:
        response: The response.
        stem: Path without suffix.
        synthetic: Whether the simulation is that of synthetic data.
        title: Text at the right of the top.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: No true bin has simulated events.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    shown = _filled(response)
    share = response.matrix / np.where(response.acceptance > 0, response.acceptance, 1.0)
    with page(stem, (7.4, 6.2), synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        ax = sheet.figure.subplots()
        image = ax.pcolormesh(
            response.true_edges,
            response.reco_edges,
            np.where(share > 0, share, np.nan),
            norm=LogNorm(_SMALLEST, 1.0),
            cmap="viridis",
            rasterized=True,
        )
        span = response.true_edges[shown[0]], response.true_edges[shown[1]]
        ax.plot(span, span, color=COLOURS["proton"], lw=0.9, ls="--")
        ax.set_yscale("log")
        energy_axis(ax, *span, label="True energy (GeV)")
        ax.set_ylim(span[0] * 0.92, span[1] * 1.09)
        ax.set_ylabel("Reconstructed energy (GeV)")
        sheet.figure.colorbar(image, ax=ax, extend="min", label="share of the true bin")
    return sheet.paths


def plot_energy_smearing(
    response: Response,
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Bias and width of the reconstructed energy, and the share that stays, per true bin.

    Args:
        response: The response.
        stem: Path without suffix.
        synthetic: Whether the simulation is that of synthetic data.
        title: Text at the right of the top.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: No true bin has simulated events.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    first, last = _filled(response)
    smearing = energy_smearing(response)
    border = response.true_edges[first : last + 1]
    part = slice(first, last)
    curves = (
        (
            "Per cent",
            (
                (100 * smearing.half_width, "68 % half width", COLOURS["electron"], "-"),
                (100 * smearing.bin_half_width, "bin width alone", COLOURS["total"], "--"),
                (100 * smearing.bias, "median − 1", COLOURS["data"], "-"),
            ),
        ),
        (
            "Share of the true bin",
            (
                (smearing.stays, "stays in its bin", COLOURS["electron"], "-"),
                (response.lost, "reconstructed outside the axis", COLOURS["proton"], "-"),
            ),
        ),
    )
    with page(stem, (7.4, 6.6), synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        axes = sheet.figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        for ax, (label, lines) in zip(axes, curves, strict=True):
            for values, name, colour, style in lines:
                ax.stairs(values[part], border, baseline=None, color=colour, ls=style, label=name)
            ax.set_ylabel(label)
            ax.grid(alpha=0.25, lw=0.6)
            ax.legend(loc="best")
        axes[0].axhline(0.0, color=COLOURS["total"], lw=0.7)
        axes[1].set_ylim(-0.03, 1.03)
        energy_axis(axes[1], border[0], border[-1], label="True energy (GeV)")
    return sheet.paths


def plot_bin_by_bin(
    factors: BinByBin,
    edges: ArrayLike,
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Bin-by-bin factors with the error of the simulation, and the band of other spectra.

    Args:
        factors: From :func:`analysis.migration.binbybin.bin_by_bin`.
        edges: (n + 1,) energy edges, GeV.
        stem: Path without suffix.
        synthetic: Whether the simulation is that of synthetic data.
        title: Text at the right of the top.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: No bin has a factor, or the edges do not fit.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    border = np.asarray(edges, np.float64)
    if border.shape != (factors.factor.size + 1,) or not factors.success.any():
        msg = f"no factor to draw: {factors.success.sum()} good bins, {border.size} edges"
        raise PlotError(msg)
    good = np.flatnonzero(factors.success)
    part, border = slice(good[0], good[-1] + 1), border[good[0] : good[-1] + 2]
    factor, error = factors.factor[part], factors.error[part]
    with page(stem, (7.4, 5.2), synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        ax = sheet.figure.subplots()
        ax.stairs(
            factor + factors.sys_p[part],
            border,
            baseline=factor - factors.sys_n[part],
            fill=True,
            color="#BBBBBB",
            alpha=0.6,
            label="other spectra",
        )
        for style, (name, values) in zip(cycle(_LINES), factors.variations.items(), strict=False):
            ax.stairs(values[part], border, baseline=None, ls=style, lw=0.9, label=name)
        centre = np.sqrt(border[:-1] * border[1:])
        points(
            ax,
            border[:-1],
            border[1:],
            centre,
            factor,
            (error, error),
            color=COLOURS["data"],
            label="target spectrum",
        )
        ax.axhline(1.0, color=COLOURS["synthetic"], ls="--", lw=1.0)
        # The limits that the band sets by itself end on its edges, or inside them.
        lowest = np.nanmin(factor - np.fmax(error, factors.sys_n[part]))
        highest = np.nanmax(factor + np.fmax(error, factors.sys_p[part]))
        low, high = min(float(lowest), 1.0), max(float(highest), 1.0)
        ax.set_ylim(low - 0.06 * (high - low), high + 0.24 * (high - low))
        ax.set_ylabel("Events in reconstructed bin / in true bin")
        ax.grid(alpha=0.25, lw=0.6)
        ax.legend(loc="upper right", ncols=3)
        energy_axis(ax, border[0], border[-1])
    return sheet.paths


def plot_closure(
    results: Mapping[str, Unfolded],
    truth: ArrayLike,
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    title: str = "",
    reach: float = 0.5,
    overwrite: bool = False,
) -> list[Path]:
    """Unfolded flux over the true one, per method, points side by side in each bin.

    Bins in which every method has an error above 100 % of the true flux are left out.

    Args:
        results: Name of the method → flux points; bins may fail.
        truth: (k,) true flux averaged over each bin.
        stem: Path without suffix.
        synthetic: Whether the data are simulated.
        title: Text at the right of the top.
        reach: Ratios up to this distance from 1 are drawn, others marked at the frame.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: Nothing to draw, or methods and truth have different bins.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    true = np.asarray(truth, np.float64)
    sizes = {name: u.dnde.shape for name, u in results.items()}
    if not results or any(size != true.shape for size in sizes.values()):
        msg = f"a closure plot needs results with {true.size} bins, got {sizes}"
        raise PlotError(msg)
    errors = [np.fmax(u.dnde_errn, u.dnde_errp) for u in results.values()]
    measured = np.any([e < true for e in errors], axis=0)
    if not measured.any():
        msg = "no bin of any result has a flux with an error below 100 %: nothing to draw"
        raise PlotError(msg)
    with page(stem, (9.0, 5.4), synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        ax = sheet.figure.subplots()
        ax.set_ylim(1 - reach, 1 + reach)
        for i, ((marker, colour), (name, u)) in enumerate(
            zip(cycle(_STYLES), results.items(), strict=False)
        ):
            at = u.e_min * (u.e_max / u.e_min) ** ((i + 1) / (len(results) + 1))
            ratio = np.where(measured, u.dnde / true, np.nan)
            ends = u.dnde_errn / true, u.dnde_errp / true
            points(ax, at, at, at, ratio, ends, color=colour, fmt=marker, label=name)
            outside_markers(ax, at, ratio, color=colour)
        ax.axhline(1.0, color=COLOURS["synthetic"], ls="--", lw=1.0)
        ax.set_ylabel("Unfolded flux / true flux")
        ax.grid(alpha=0.25, lw=0.6)
        sheet.figure.legend(loc="outside lower center", ncols=len(results))
        energy_axis(ax, u.e_min[measured].min(), u.e_max[measured].max())
    return sheet.paths


def _filled(response: Response) -> tuple[int, int]:
    """First true bin with events and one behind the last."""
    at = np.flatnonzero(response.acceptance > 0)
    if not at.size:
        msg = "no true bin has simulated events: nothing to draw"
        raise PlotError(msg)
    return int(at[0]), int(at[-1]) + 1
