"""Reference events moved sideways until their showers leave through a side: virtual top-fiducial events.

A reference event is moved by whole bars along the view in which it is more inclined. In the layers that measure
this view the bars that come to lie outside fall away, which is exact but for what would come back from behind a
wall. In the layers of the other view the wall cuts the bars across, and an image does not tell where along its
length a bar got its energy: these layers are scaled by the share that their neighbours have inside, its
logit interpolated along the depth. How good that is, simulated showers tell: moved the same way they can be
compared with showers that were simulated at the moved place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from processors.geometry import (
    BAR_PITCH_MM,
    BGO_BOTTOM_MM,
    BGO_TOP_MM,
    FIDUCIAL_HALF_WIDTH_MM,
    LAYER_MEASURES_Y,
    LAYER_Z_MM,
    N_BARS,
)
from simulation.leaking import axis_mm
from simulation.material import BAR_HALF_LENGTH_MM, BLOCK_HALF_WIDTH_MM
from simulation.validation import Reference

__all__ = ["Moves", "draw_moves", "moved_image", "moved_reference"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

#: What leaves the image on the far side must not matter: the axis enters at least so far from it.
_FAR_MM = 60.0
_LEAST_SHARE = 1e-4
_SHORTER_MM = BLOCK_HALF_WIDTH_MM - BAR_HALF_LENGTH_MM


@dataclass(frozen=True, eq=False)
class Moves:
    """How events are moved.

    Attributes:
        rows: Numbers of the reference events, shape (m,).
        view: 0 for x, 1 for y, shape (m,).
        bars: Bars by which the event moves, signed, shape (m,).
        slope: How fast the axis approaches the side, positive, shape (m,).
    """

    rows: IntArray
    view: IntArray
    bars: IntArray
    slope: FloatArray


def draw_moves(reference: Reference, rng: np.random.Generator) -> Moves:
    """Draw for each event one of the moves that make it top-fiducial.

    Args:
        reference: The events.
        rng: Random generator.

    Returns:
        Moves of the events that have one: axis within 280 mm at the top in both views, at the bottom beyond it
        in the view of the larger slope and within in the other. All such moves of an event are equally
        likely, so that the places where showers leave are spread over the side.
    """
    ends = axis_mm(reference, [BGO_TOP_MM, BGO_BOTTOM_MM])
    n = np.arange(len(ends))
    slope = ends[:, 1] - ends[:, 0]
    view = np.abs(slope).argmax(axis=1)
    side = np.where(slope[n, view] > 0, 1, -1)
    top, bottom = (side * ends[n, k, view] for k in (0, 1))
    other = np.abs(ends[n, :, 1 - view]).max(axis=1) < FIDUCIAL_HALF_WIDTH_MM
    steps = np.arange(N_BARS)
    moved_top, moved_bottom = (x[:, None] + steps * BAR_PITCH_MM for x in (top, bottom))
    good = (moved_top < FIDUCIAL_HALF_WIDTH_MM) & (moved_bottom >= FIDUCIAL_HALF_WIDTH_MM)
    good &= (other & (top > _FAR_MM - FIDUCIAL_HALF_WIDTH_MM))[:, None]
    key = np.where(good, rng.random(good.shape), -1.0)
    rows = np.flatnonzero(good.any(axis=1))
    steep = np.abs(slope[n, view]) / (BGO_BOTTOM_MM - BGO_TOP_MM)
    return Moves(rows, view[rows], side[rows] * key[rows].argmax(axis=1), steep[rows])


def moved_reference(reference: Reference, moves: Moves) -> Reference:
    """The moved events.

    Args:
        reference: All events.
        moves: The moves.

    Returns:
        The events of the moves, images and axes moved.
    """
    chosen = reference.take(moves.rows)
    position = chosen.position_mm.copy()
    position[np.arange(moves.rows.size), moves.view] += moves.bars * BAR_PITCH_MM
    return Reference(
        moved_image(chosen.image_gev, moves),
        chosen.energy_gev,
        position,
        chosen.direction,
        chosen.full,
    )


def moved_image(image_gev: FloatArray, moves: Moves) -> FloatArray:
    """Move the images of events.

    Args:
        image_gev: Bar energies of the events of the moves, shape (m, 14, 22).
        moves: The moves.

    Returns:
        Shape (m, 14, 22).

    Raises:
        ValueError: The numbers of images and moves differ.
    """
    image = np.asarray(image_gev, np.float64)
    if len(image) != moves.rows.size:
        msg = f"{len(image)} images for {moves.rows.size} moves: give the image of each move"
        raise ValueError(msg)
    source = np.arange(N_BARS) - moves.bars[:, None]
    inside = (source >= 0) & (source < N_BARS)
    shifted = np.take_along_axis(image, source.clip(0, N_BARS - 1)[:, None, :], axis=2)
    shifted = np.where(inside[:, None, :], shifted, 0.0)
    measures = (moves.view[:, None] == 1) == LAYER_MEASURES_Y
    total = image.sum(axis=2)
    share = shifted.sum(axis=2) / np.maximum(total, 1e-12)
    known = measures & (total > 0)
    scale = np.ones_like(share)
    for i in np.flatnonzero(known.any(axis=1)):
        # bars end a little before the border of the last bar of the other view
        earlier = _SHORTER_MM / moves.slope[i]
        scale[i] = _interpolated(share[i], known[i], earlier)
    return np.where(measures[:, :, None], shifted, image * scale[:, :, None])


def _interpolated(share: FloatArray, known: npt.NDArray[np.bool_], earlier_mm: float) -> FloatArray:
    """Shares of all layers from the known ones, logits linear in depth, for axes that much deeper."""
    layers = np.flatnonzero(known)
    p = np.clip(share[layers], _LEAST_SHARE, 1 - _LEAST_SHARE)
    logit = np.log(p / (1 - p))
    z, depth = LAYER_Z_MM[layers], LAYER_Z_MM + earlier_mm
    out = np.interp(depth, z, logit)
    if layers.size > 1:
        last = (logit[-1] - logit[-2]) / (z[-1] - z[-2])
        out = np.where(depth > z[-1], logit[-1] + last * (depth - z[-1]), out)
    result = 1 / (1 + np.exp(-out))
    return np.asarray(np.where(result > 1 - 2 * _LEAST_SHARE, 1.0, result))
