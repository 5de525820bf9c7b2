"""Picture of one event in the calorimeter."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from analysis.plots.style import COLOURS, PlotError, page

__all__ = ["plot_event"]

FloatArray = NDArray[np.float64]

_LAYERS, _BARS = 14, 22


def plot_event(
    image_mev: ArrayLike,
    stem: str | os.PathLike[str],
    *,
    bar_u_mm: ArrayLike,
    layer_z_mm: ArrayLike,
    slope: tuple[float, float],
    intercept_mm: tuple[float, float],
    e_corr_gev: float,
    zeta: float,
    synthetic: bool,
    bar_size_mm: float = 25.0,
    title: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Bar energies of one event in two views with the reconstructed axis.

    Odd layers measure x and make the x-z view, even layers measure y and make the y-z view.

    Args:
        image_mev: Energy per layer and bar in MeV, shape (14, 22); 0 where a bar did not fire.
        stem: Path without suffix.
        bar_u_mm: Centres of the bars along the measured coordinate, shape (22,).
        layer_z_mm: Centres of the layers along z, downwards, shape (14,).
        slope: dx/dz and dy/dz of the axis; a view with slope and intercept 0 has none.
        intercept_mm: x and y of the axis at z = 0.
        e_corr_gev: Corrected energy.
        zeta: Classical score.
        synthetic: Whether the event is simulated.
        bar_size_mm: Side of a bar.
        title: Text before energy and zeta, e.g. the event number.
        overwrite: Replace files that exist.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: Wrong shapes, negative or non-finite energies, or no bar with energy.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    image, u, z = (np.asarray(x, np.float64) for x in (image_mev, bar_u_mm, layer_z_mm))
    if image.shape != (_LAYERS, _BARS) or u.shape != (_BARS,) or z.shape != (_LAYERS,):
        msg = (
            f"an event is an image of (14, 22) with 22 bar and 14 layer positions, "
            f"got {image.shape}, {u.shape} and {z.shape}"
        )
        raise PlotError(msg)
    if not np.isfinite(image).all() or (image < 0).any():
        msg = "bar energies must be finite and not negative; give 0 for bars that did not fire"
        raise PlotError(msg)
    if not (image > 0).any():
        msg = "no bar of the event has energy: nothing to draw"
        raise PlotError(msg)
    fired = image[image > 0]
    norm = LogNorm(max(float(fired.min()), 1e-6 * float(fired.max())), float(fired.max()) * 1.001)
    text = f"E$_{{corr}}$ = {e_corr_gev:.4g} GeV, ζ = {zeta:.3g}"
    text = f"{title}, {text}" if title else text
    size = (10.8, 5.6)
    with page(stem, size, synthetic=synthetic, overwrite=overwrite, title=text) as sheet:
        axes = sheet.figure.subplots(1, 2, sharey=True)
        named = False
        for i, (ax, name, first) in enumerate(zip(axes, "xy", (1, 0), strict=True)):
            rows = slice(first, None, 2)
            bars = _bars(ax, image[rows], u, z[rows], bar_size_mm, norm)
            drawn = _axis_line(ax, slope[i], intercept_mm[i], z, name)
            if drawn and not named:
                red = COLOURS["synthetic"]
                ax.set_title("line: reconstructed axis", loc="right", fontsize=10, color=red)
                named = True
            ax.set_xlabel(f"{name} (mm)")
            ax.set_xlim(u[0] - 45, u[-1] + 45)
        axes[0].set_ylim(z[-1] + 45, z[0] - 45)
        axes[0].set_ylabel("z, downwards (mm)")
        axes[0].set_title("x–z view, odd layers", loc="left", fontsize=10)
        axes[1].set_title("y–z view, even layers", loc="left", fontsize=10)
        sheet.figure.colorbar(bars, ax=axes, label="Energy in the bar (MeV)", pad=0.01)
    return sheet.paths


def _bars(
    ax: Axes, energy: FloatArray, u: FloatArray, z: FloatArray, size: float, norm: LogNorm
) -> PatchCollection:
    """All bars of one view as outlines, fired bars filled."""
    corners = [[(x - size / 2, y - size / 2) for x in u] for y in z]
    outlines = [Rectangle(c, size, size) for row in corners for c in row]
    ax.add_collection(PatchCollection(outlines, fc="none", ec="#D0D0D0", lw=0.5))
    fired = [Rectangle(corners[j][i], size, size) for j, i in np.argwhere(energy > 0)]
    filled = PatchCollection(fired, cmap=colormaps["viridis_r"], norm=norm, lw=0)
    filled.set_array(energy[energy > 0])
    ax.add_collection(filled)
    return filled


def _axis_line(ax: Axes, slope: float, intercept: float, z: FloatArray, name: str) -> bool:
    """Draw the reconstructed axis, or a note that this view has none."""
    if slope == 0 and intercept == 0:
        ax.text(0.03, 0.03, f"no axis in {name}", transform=ax.transAxes, fontsize=10)
        return False
    along = np.array([z[0] - 40, z[-1] + 40])
    line = intercept + slope * along
    ax.plot(line, along, color=COLOURS["synthetic"], lw=1.3)
    return True
