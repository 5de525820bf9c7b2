"""Detector geometry (mm, z downwards from the STK to the BGO) and the fiducial regions.

Numbers: layer and bar positions from the DAMPE software geometry files; the sensitive volume and the
280 mm fiducial square from the public analysis code of the collaboration (see ``docs/physics.md``).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = [
    "BAR_PITCH_MM",
    "BAR_U_MM",
    "BGO_BOTTOM_MM",
    "BGO_HALF_WIDTH_MM",
    "BGO_TOP_MM",
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
