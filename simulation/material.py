"""The block of BGO and the layers above it, as the shower kernels see them.

Bars and carbon fibre are one block of average material from z = 44 to 450 mm; the planes of the PSD
and the STK above it are thin sheets at their depths.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from processors.geometry import BAR_PITCH_MM, LAYER_PITCH_MM, LAYER_Z_MM, N_BARS, N_LAYERS
from simulation.compiled import State, compiled, uniform

__all__ = [
    "BAR_HALF_LENGTH_MM",
    "BLOCK_BOTTOM_MM",
    "BLOCK_HALF_WIDTH_MM",
    "BLOCK_TOP_MM",
    "Image",
    "block_path",
    "deposit",
    "deviate",
    "upstream_depths",
    "upstream_sheets",
]

Image = npt.NDArray[np.float64]

BLOCK_TOP_MM = float(LAYER_Z_MM[0] - LAYER_PITCH_MM / 2)
BLOCK_BOTTOM_MM = float(LAYER_Z_MM[-1] + LAYER_PITCH_MM / 2)
#: Centre of the last bar plus half a pitch.
BLOCK_HALF_WIDTH_MM = N_BARS * BAR_PITCH_MM / 2
BAR_HALF_LENGTH_MM = 300.0
#: Depth, half width, and thickness in radiation lengths of the sheets above the BGO: two PSD views
#: of 1 cm plastic, six STK planes, of which three carry 1 mm of tungsten.
_SHEET_Z_MM = np.array([-317.7, -291.5, -203.0, -172.0, -141.0, -110.0, -79.0, -47.0])
_SHEET_HALF_WIDTH_MM = np.array([410.0, 410.0, 400.0, 400.0, 400.0, 400.0, 400.0, 400.0])
_SHEET_X0 = np.array([0.024, 0.024, 0.02, 0.306, 0.306, 0.306, 0.02, 0.02])


@compiled
def upstream_sheets(
    x: float, y: float, z: float, ux: float, uy: float, uz: float, z_end: float
) -> float:
    """Radiation lengths that an axis crosses above the BGO before it reaches ``z_end``."""
    total = 0.0
    for k in range(_SHEET_Z_MM.size):
        if _SHEET_Z_MM[k] < z_end:
            step = (_SHEET_Z_MM[k] - z) / uz
            half = _SHEET_HALF_WIDTH_MM[k]
            if abs(x + ux * step) < half and abs(y + uy * step) < half:
                total += _SHEET_X0[k] / uz
    return total


def upstream_depths(z_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Radiation lengths of the sheets at or above some depths, along a vertical line inside all of them.

    Args:
        z_mm: Depths, shape (k,).

    Returns:
        Shape (k,). A plane of the STK lies within 15 mm of its sheet, which counts as above it.
    """
    above = np.asarray(z_mm, np.float64)[:, None] + 15.0 >= _SHEET_Z_MM
    return np.asarray((above * _SHEET_X0).sum(axis=1), np.float64)


@compiled
def block_path(
    x: float, y: float, z: float, ux: float, uy: float, uz: float
) -> tuple[float, float]:
    """Signed path lengths (mm) from a point to where its line enters and leaves the block.

    The first is not less than the second for lines that miss the block.
    """
    enter, leave = -1.0e9, 1.0e9
    low, high = 0.0, 0.0
    for axis in range(3):
        if axis == 0:
            p, u, low, high = x, ux, -BLOCK_HALF_WIDTH_MM, BLOCK_HALF_WIDTH_MM
        elif axis == 1:
            p, u, low, high = y, uy, -BLOCK_HALF_WIDTH_MM, BLOCK_HALF_WIDTH_MM
        else:
            p, u, low, high = z, uz, BLOCK_TOP_MM, BLOCK_BOTTOM_MM
        if abs(u) < 1.0e-9:
            if p < low or p > high:
                return 1.0e9, -1.0e9
            continue
        a, b = (low - p) / u, (high - p) / u
        if a > b:
            a, b = b, a
        enter, leave = max(enter, a), min(leave, b)
    return enter, leave


@compiled
def deposit(image: Image, x: float, y: float, z: float, energy: float) -> None:
    """Add energy at a point to the bar there; even layers measure y, odd layers x."""
    if z < BLOCK_TOP_MM or z >= BLOCK_BOTTOM_MM:
        return
    layer = int((z - BLOCK_TOP_MM) / LAYER_PITCH_MM)
    across, along = (y, x) if layer % 2 == 0 else (x, y)
    if abs(along) > BAR_HALF_LENGTH_MM or abs(across) >= BLOCK_HALF_WIDTH_MM:
        return
    image[min(layer, N_LAYERS - 1), int((across + BLOCK_HALF_WIDTH_MM) / BAR_PITCH_MM)] += energy


@compiled
def deviate(
    ux: float, uy: float, uz: float, cosine: float, state: State
) -> tuple[float, float, float]:
    """Unit vector at a polar angle from a direction, its azimuth random."""
    phi = 2.0 * math.pi * uniform(state)
    sine = math.sqrt(max(0.0, 1.0 - cosine * cosine))
    a, b = sine * math.cos(phi), sine * math.sin(phi)
    s = math.sqrt(ux * ux + uy * uy)
    if s < 1.0e-5:
        return a, b if uz > 0.0 else -b, cosine if uz > 0.0 else -cosine
    return (
        cosine * ux + (a * ux * uz - b * uy) / s,
        cosine * uy + (a * uy * uz + b * ux) / s,
        cosine * uz - a * s,
    )
