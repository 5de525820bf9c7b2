"""Detector geometry (mm, z downwards from the STK to the BGO) and the fiducial regions.

Numbers: layer and bar positions from the DAMPE software geometry files; the sensitive volume and the
280 mm fiducial square from the public analysis code of the collaboration (see ``docs/physics.md``).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = [
    "BAR_MM",
    "BAR_PITCH_MM",
    "BAR_U_MM",
    "BGO_BOTTOM_MM",
    "BGO_HALF_WIDTH_MM",
    "BGO_TOP_MM",
    "BGO_X0_MM",
    "FIDUCIAL_HALF_WIDTH_MM",
    "GENERATION_RADIUS_M",
    "LAYER_MEASURES_Y",
    "LAYER_PITCH_MM",
    "LAYER_Z_MM",
    "N_BARS",
    "N_LAYERS",
    "N_STK_LAYERS",
    "PSD_BOTTOM_MM",
    "PSD_TOP_MM",
    "bar_of_id",
    "global_bar_id",
    "in_square",
    "layer_of_id",
    "path_mm",
    "path_x0",
]

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]

N_LAYERS = 14
N_BARS = 22
BAR_PITCH_MM = 27.5
LAYER_PITCH_MM = 29.0
#: Centres of the layers along z, from the top; shape (14,).
LAYER_Z_MM = 58.5 + LAYER_PITCH_MM * np.arange(N_LAYERS)
#: Centres of the bars along the coordinate that their layer measures; shape (22,).
BAR_U_MM = (np.arange(N_BARS) - (N_BARS - 1) / 2) * BAR_PITCH_MM
#: Even layers (0, 2, …) measure y, odd layers x.
LAYER_MEASURES_Y = np.arange(N_LAYERS) % 2 == 0
#: The sensitive volume: 58.5 - 12.5, 435.5 + 12.5 and (21 * 27.5 + 25) / 2.
BGO_TOP_MM = 46.0
BGO_BOTTOM_MM = 448.0
BGO_HALF_WIDTH_MM = 301.25
FIDUCIAL_HALF_WIDTH_MM = 280.0
#: Radiation length of BGO, and thickness of its bars.
BGO_X0_MM = 11.2
BAR_MM = 25.0
#: Six planes of the STK with an x and a y layer each.
N_STK_LAYERS = 12
#: Outer sublayers of the plastic scintillator detector (half width 410 mm).
PSD_TOP_MM = -324.7
PSD_BOTTOM_MM = -284.5
#: Radius of the half sphere from which Monte Carlo primaries start: pi R^2 = 6 m^2.
GENERATION_RADIUS_M = 1.381976597885


def global_bar_id(layer: npt.ArrayLike, bar: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """Bar identifier of the collaboration's files.

    Args:
        layer: Layer number, 0 (top) to 13.
        bar: Bar number, 0 to 21.

    Returns:
        ``layer << 11 | bar << 6``, int32, broadcast shape of the inputs.
    """
    return (np.asarray(layer, np.int32) << 11) | (np.asarray(bar, np.int32) << 6)


def layer_of_id(bar_id: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """Layer number in a bar identifier (bits 11 to 14)."""
    return (np.asarray(bar_id, np.int32) >> 11) & 0xF


def bar_of_id(bar_id: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """Bar number in a bar identifier (bits 6 to 10)."""
    return (np.asarray(bar_id, np.int32) >> 6) & 0x1F


def in_square(
    slope_x: FloatArray,
    slope_y: FloatArray,
    intercept_x_mm: FloatArray,
    intercept_y_mm: FloatArray,
    z_mm: float,
    half_width_mm: float,
) -> BoolArray:
    """Whether straight axes pass within a centred square at one depth.

    Args:
        slope_x: dx/dz, shape (n,).
        slope_y: dy/dz, shape (n,).
        intercept_x_mm: x at z = 0, shape (n,).
        intercept_y_mm: y at z = 0, shape (n,).
        z_mm: Depth of the plane.
        half_width_mm: Half width of the square; the border is outside.

    Returns:
        Boolean array of shape (n,); False for NaN axes.
    """
    return (np.abs(intercept_x_mm + slope_x * z_mm) < half_width_mm) & (
        np.abs(intercept_y_mm + slope_y * z_mm) < half_width_mm
    )


def path_mm(
    slope_x: npt.ArrayLike,
    slope_y: npt.ArrayLike,
    intercept_x_mm: npt.ArrayLike,
    intercept_y_mm: npt.ArrayLike,
) -> npt.NDArray[np.float64]:
    """Length of straight axes inside the BGO sensitive box.

    The box is 46 < z < 448 mm, |x| and |y| < 301.25 mm; the axis is clipped in closed form by the three
    pairs of planes.

    Args:
        slope_x: dx/dz, shape (n,).
        slope_y: dy/dz, shape (n,).
        intercept_x_mm: x at z = 0, shape (n,).
        intercept_y_mm: y at z = 0, shape (n,).

    Returns:
        mm, shape (n,); 0 for axes that miss the box, NaN for NaN axes.
    """
    sx, sy = np.asarray(slope_x, np.float64), np.asarray(slope_y, np.float64)
    first, last = np.full(sx.shape, BGO_TOP_MM), np.full(sx.shape, BGO_BOTTOM_MM)
    for slope, start in ((sx, intercept_x_mm), (sy, intercept_y_mm)):
        u = np.asarray(start, np.float64)
        flat = slope == 0
        # An axis along z is inside the slab everywhere or nowhere.
        never = np.where(np.abs(u) < BGO_HALF_WIDTH_MM, -np.inf, np.inf)
        safe = np.where(flat, 1.0, slope)
        with np.errstate(over="ignore"):
            one, other = (-BGO_HALF_WIDTH_MM - u) / safe, (BGO_HALF_WIDTH_MM - u) / safe
        first = np.maximum(first, np.where(flat, never, np.minimum(one, other)))
        last = np.minimum(last, np.where(flat, np.inf, np.maximum(one, other)))
        first = np.where(np.isnan(u), np.nan, first)
    depth = np.maximum(last - first, 0.0)
    return np.asarray(depth * np.sqrt(1.0 + sx**2 + sy**2))


def path_x0(
    slope_x: npt.ArrayLike,
    slope_y: npt.ArrayLike,
    intercept_x_mm: npt.ArrayLike,
    intercept_y_mm: npt.ArrayLike,
) -> npt.NDArray[np.float64]:
    """BGO along straight axes, in radiation lengths.

    The length in the sensitive box times the share of its depth that is bars, 14 · 25 mm of 402 mm: 31.25 X0
    for a vertical axis. Gaps between bars of one layer are left out of account.

    Args:
        slope_x: dx/dz, shape (n,).
        slope_y: dy/dz, shape (n,).
        intercept_x_mm: x at z = 0, shape (n,).
        intercept_y_mm: y at z = 0, shape (n,).

    Returns:
        X0, shape (n,); as :func:`path_mm`.
    """
    filled = N_LAYERS * BAR_MM / (BGO_BOTTOM_MM - BGO_TOP_MM)
    path = path_mm(slope_x, slope_y, intercept_x_mm, intercept_y_mm)
    return np.asarray(path * filled / BGO_X0_MM)
