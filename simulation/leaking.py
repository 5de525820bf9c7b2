r"""What the reference events say of showers that leave the calorimeter through a side.

The reference events are fiducial, so few of them leak. What a leaking shower loses is in the others
nevertheless: the energy behind a depth is what a shower loses that leaves there, and every border between
two bars is a virtual side wall, beyond which the layers that measure across it count the energy bar by bar. Of
the layers of the other view nothing can be said, for a bar does not tell where along its length energy was
left; they are not used. A virtual wall has material behind it, a real one has not: what would come back from
there is seen only where real walls are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from processors.geometry import (
    BAR_PITCH_MM,
    BGO_BOTTOM_MM,
    BGO_HALF_WIDTH_MM,
    FIDUCIAL_HALF_WIDTH_MM,
    LAYER_MEASURES_Y,
    LAYER_PITCH_MM,
    LAYER_Z_MM,
    N_BARS,
    N_LAYERS,
)
from processors.showers import layer_rms_mm
from simulation.electromagnetic import GAP_MM, RADIATION_LENGTH_MM
from simulation.material import BLOCK_BOTTOM_MM, BLOCK_TOP_MM
from simulation.validation import BAR_THRESHOLD_GEV, Reference, triggered

__all__ = [
    "WALLS_MM",
    "Quantity",
    "Showers",
    "axis_mm",
    "bar_path_x0",
    "depth_of_energy",
    "pair",
    "path_x0",
    "quantities",
]

FloatArray = npt.NDArray[np.float64]
FloatingArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]
Kind = Literal["electron", "proton"]

#: Borders between bars, as distances from the middle of the block, shape (23,).
WALLS_MM = (np.arange(N_BARS + 1) - N_BARS / 2) * BAR_PITCH_MM
#: Depth classes of the containment along the axis. A layer is more than 2 X0 thick, so that an event has at
#: most one lower border of a layer in each.
_DEPTHS_X0 = np.arange(4.0, 32.1, 2.0)
#: Paths to a virtual wall, and the least slope across it: with less hardly a shower leaves through it.
_EXITS_X0, _LEAST_SLOPE = (10.0, 15.0, 20.0, 25.0), 0.4
#: Bars that a virtual wall has behind it at least.
_BEHIND = 4
_LATERAL_DEPTHS_X0 = (4.0, 8.0, 12.0, 16.0, 20.0, 26.0)
_LATERAL_MM = (-60.0, -30.0, -15.0, 0.0, 15.0, 30.0, 60.0, 110.0)
#: A layer has this share of the energy at least to be asked where it left it.
_LEAST_SHARE = 0.002
#: Distance of the axis from the side at the bottom; in the first class it is beyond 280 mm.
_SIDE_MM = (0.0, BGO_HALF_WIDTH_MM - FIDUCIAL_HALF_WIDTH_MM, 50.0, 100.0)
_NEAR_WALL_MM = ((12.0, 60.0), (60.0, 150.0))
_LATE = 9
#: Radiation length of BGO (Particle Data Group), and the height of a bar, mm.
_BGO_X0_MM, _BAR_MM = 11.18, BAR_PITCH_MM - GAP_MM
_STEP_MM = 0.5


@dataclass(frozen=True, eq=False)
class Showers:
    """Reference events and the same primaries simulated, bars below the threshold set to 0.

    Attributes:
        kind: ``electron`` or ``proton``.
        reference: Energies and axes of the n events.
        geant4: Bar energies in GeV, shape (n, 14, 22).
        simulated: The same of each repetition, shape (r, n, 14, 22).
        used_geant4: Events that count: protons only with the trigger-like condition, shape (n,).
        used_simulated: The same of the simulated ones, shape (r, n).
    """

    kind: Kind
    reference: Reference
    geant4: FloatingArray
    simulated: FloatingArray
    used_geant4: BoolArray
    used_simulated: BoolArray


@dataclass(frozen=True, eq=False)
class Quantity:
    """Values of one class of m (event, layer, wall) combinations, Geant4 and simulated.

    Attributes:
        table: Which comparison.
        label: Which class of it.
        low: Lower end of the class.
        high: Upper end.
        event: Numbers of the events, shape (m,).
        geant4: Values, shape (m,).
        simulated: Values of each repetition, shape (r, m).
    """

    table: str
    label: str
    low: float
    high: float
    event: IntArray
    geant4: FloatArray
    simulated: FloatArray


def pair(kind: Kind, reference: Reference, image_gev: FloatingArray, part: str = "all") -> Showers:
    """Reference events beside their simulated showers.

    Args:
        kind: ``electron`` or ``proton``.
        reference: The events.
        image_gev: Of ``simulation.validation.simulate``, shape (repeat * n, 14, 22).
        part: ``all``, or ``full`` for the full Geant4 events alone.

    Returns:
        Both above the bar threshold.
    """
    n = reference.energy_gev.size
    rows = np.flatnonzero(reference.full) if part == "full" else np.arange(n)
    chosen = reference.take(rows)
    simulated = image_gev.reshape(-1, n, N_LAYERS, N_BARS)[:, rows].astype(np.float32)
    images: list[FloatingArray] = [
        np.where(x < BAR_THRESHOLD_GEV, x.dtype.type(0), x) for x in (chosen.image_gev, simulated)
    ]
    used = [
        triggered(x.sum(axis=-1)) if kind == "proton" else np.ones(x.shape[:-2], bool)
        for x in images
    ]
    return Showers(kind, chosen, images[0], images[1], used[0], used[1])


def path_x0(reference: Reference, z_mm: npt.ArrayLike) -> FloatArray:
    """Radiation lengths along each axis from the top of the block to some depths.

    Args:
        reference: The events.
        z_mm: Depths, shape (k,).

    Returns:
        Shape (n, k); bars and carbon fibre are one material of 14.1 mm per radiation length.
    """
    below = np.asarray(z_mm, np.float64) - BLOCK_TOP_MM
    return np.asarray(below / reference.direction[:, 2:] / RADIATION_LENGTH_MM)


def bar_path_x0(reference: Reference, path: float) -> FloatArray:
    """Radiation lengths of the bars that each axis crosses within a path of the mean block.

    Args:
        reference: The events.
        path: Radiation lengths of the mean block from its top.

    Returns:
        Radiation lengths of BGO alone, gaps between bars and layers left out, shape (n,).
    """
    depth = np.arange(_STEP_MM / 2, BLOCK_BOTTOM_MM - BLOCK_TOP_MM, _STEP_MM)
    layer = (depth // LAYER_PITCH_MM).astype(np.intp)
    in_layer = np.abs(depth % LAYER_PITCH_MM - LAYER_PITCH_MM / 2) < _BAR_MM / 2
    axis = axis_mm(reference, BLOCK_TOP_MM + depth)
    across = np.where(LAYER_MEASURES_Y[layer], axis[:, :, 1], axis[:, :, 0])
    in_bar = np.abs(across % BAR_PITCH_MM - BAR_PITCH_MM / 2) < _BAR_MM / 2
    step = _STEP_MM / reference.direction[:, 2:]
    within = depth / reference.direction[:, 2:] < path * RADIATION_LENGTH_MM
    return np.asarray((in_bar & in_layer & within).sum(axis=1) * step[:, 0] / _BGO_X0_MM)


def axis_mm(reference: Reference, z_mm: npt.ArrayLike) -> FloatArray:
    """Coordinates of each axis at some depths, shape (n, k, 2), mm: x and y."""
    slope = reference.direction[:, None, :2] / reference.direction[:, None, 2:]
    below = np.asarray(z_mm, np.float64)[:, None] - BLOCK_TOP_MM
    return np.asarray(reference.position_mm[:, None, :2] + slope * below)


def depth_of_energy(showers: Showers) -> tuple[FloatArray, FloatArray]:
    """Energy-weighted mean depth along the axis, radiation lengths, shapes (n,) and (r, n)."""
    middle = path_x0(showers.reference, LAYER_Z_MM)
    layers = [x.sum(axis=-1, dtype=np.float64) for x in (showers.geant4, showers.simulated)]
    mean = [(x * middle).sum(axis=-1) / np.maximum(x.sum(axis=-1), 1e-9) for x in layers]
    return mean[0], mean[1]


def quantities(showers: Showers) -> Iterator[Quantity]:
    """Everything that is compared, class by class.

    Args:
        showers: The events.

    Yields:
        Classes of the tables ``containment`` (share of the energy in the first layers; of the true energy for
        electrons, of the raw one for protons), ``depth`` (mean depth; containment with its part taken
        out), ``virtual wall`` (share of a view's energy inside a wall through which the axis leaves), ``lateral``
        (share of a layer's energy beyond a wall), ``side`` (events that come near a side of the block) and
        ``wall`` (bars inside real and virtual walls, over the norm of ``containment``).
    """
    yield from _containment(showers)
    yield from _virtual_walls(showers)
    yield from _lateral(showers)
    yield from _sides(showers)
    yield from _wall_bars(showers)


def _norm(showers: Showers) -> tuple[FloatArray, FloatArray]:
    """What energies are divided by: the true energy of electrons, the raw energy of protons."""
    if showers.kind == "electron":
        energy = showers.reference.energy_gev
        return energy, np.broadcast_to(energy, showers.simulated.shape[:2])
    g, s = (x.sum(axis=(-2, -1), dtype=np.float64) for x in (showers.geant4, showers.simulated))
    return np.maximum(g, 1e-9), np.maximum(s, 1e-9)


def _containment(showers: Showers) -> Iterator[Quantity]:
    inside = [
        x.sum(axis=-1, dtype=np.float64).cumsum(axis=-1) / norm[..., None]
        for x, norm in zip((showers.geant4, showers.simulated), _norm(showers), strict=True)
    ]
    depth = path_x0(showers.reference, LAYER_Z_MM + LAYER_PITCH_MM / 2)
    for low, high in pairwise(_DEPTHS_X0):
        event, layer = np.nonzero((depth >= low) & (depth < high))
        values = inside[0][event, layer], inside[1][:, event, layer]
        yield Quantity("containment", f"first {low:.0f}-{high:.0f} X0", low, high, event, *values)
    mean = depth_of_energy(showers)
    every = np.arange(depth.shape[0])
    yield Quantity("depth", "mean depth of the energy, X0", 0.0, 32.0, every, *mean)
    if showers.kind == "electron":
        event, layer = np.nonzero((depth >= 14) & (depth < 16))
        expected = mean[1].mean(axis=0)
        delta = [(x - expected)[..., event] for x in mean]
        share = inside[0][event, layer], inside[1][:, event, layer]
        rest = share[1] - share[1].mean(axis=0)
        slope = float((rest * delta[1]).sum() / (delta[1] ** 2).sum())
        label = "first 14-16 X0, mean depth taken out"
        values = share[0] - slope * delta[0], share[1] - slope * delta[1]
        yield Quantity("depth", label, 14.0, 16.0, event, *values)


def _virtual_walls(showers: Showers) -> Iterator[Quantity]:
    reference = showers.reference
    n = np.arange(reference.energy_gev.size)
    slopes = reference.direction[:, :2] / reference.direction[:, 2:]
    view = np.abs(slopes).argmax(axis=1)
    slope, top = slopes[n, view], reference.position_mm[n, view]
    measures = _measures(view)
    for path in _EXITS_X0:
        below = path * RADIATION_LENGTH_MM * reference.direction[:, 2]
        wall = np.rint((top + slope * below) / BAR_PITCH_MM).astype(np.intp) + N_BARS // 2
        behind = np.where(slope > 0, N_BARS - wall, wall)
        good = (np.abs(slope) >= _LEAST_SLOPE) & (below < BLOCK_BOTTOM_MM - BLOCK_TOP_MM)
        event = np.flatnonzero(good & (behind >= _BEHIND) & (behind < N_BARS))
        left_of = np.arange(N_BARS) < wall[event, None]
        within = left_of == (slope[event, None] > 0)
        share = []
        for image in (showers.geant4[event], showers.simulated[:, event]):
            kept = np.einsum("...lb,...b,...l->...", image, within, measures[event])
            total = np.einsum("...lb,...l->...", image, measures[event])
            share.append(np.asarray(kept / np.maximum(total, 1e-9), np.float64))
        yield Quantity("virtual wall", f"after {path:.0f} X0", path, path, event, *share)


def _measures(view: npt.NDArray[np.integer]) -> BoolArray:
    """Which layers measure a view, 0 for x and 1 for y, shape (n, 14)."""
    return np.asarray((view[:, None] == 1) == LAYER_MEASURES_Y)


def _lateral(showers: Showers) -> Iterator[Quantity]:
    depth = path_x0(showers.reference, LAYER_Z_MM)
    at = _across(showers.reference)
    tables = [_beyond(x) for x in (showers.geant4, showers.simulated)]
    layers = showers.geant4.sum(axis=2, dtype=np.float64)
    enough = layers > _LEAST_SHARE * np.maximum(layers.sum(axis=1), 1e-9)[:, None]
    walls = np.arange(_BEHIND, N_BARS - _BEHIND + 1)
    for t_low, t_high in pairwise(_LATERAL_DEPTHS_X0):
        inside = (depth >= t_low) & (depth < t_high) & enough
        for low, high in pairwise(_LATERAL_MM):
            parts: list[tuple[IntArray, FloatArray, FloatArray]] = []
            for side in (1, -1):
                distance = side * (WALLS_MM[walls] - at[:, :, None])
                hit = inside[:, :, None] & (distance >= low) & (distance < high)
                event, layer, k = np.nonzero(hit)
                shares = [x[..., event, layer, walls[k]] for x in tables]
                if side < 0:
                    shares = [1 - x for x in shares]
                parts.append((event, shares[0], shares[1]))
            label = f"{t_low:.0f}-{t_high:.0f} X0, wall {low:.0f} to {high:.0f} mm off"
            yield Quantity("lateral", label, low, high, *_joined(parts))


def _joined(
    parts: list[tuple[IntArray, FloatArray, FloatArray]],
) -> tuple[IntArray, FloatArray, FloatArray]:
    events, geant4, simulated = zip(*parts, strict=True)
    return np.concatenate(events), np.concatenate(geant4), np.concatenate(simulated, axis=1)


def _across(reference: Reference) -> FloatArray:
    """The coordinate of the axis that each layer measures, shape (n, 14), mm."""
    axis = axis_mm(reference, LAYER_Z_MM)
    return np.where(LAYER_MEASURES_Y, axis[:, :, 1], axis[:, :, 0])


def _beyond(image: FloatingArray) -> FloatArray:
    """Share of each layer's energy in the bars from each border on, shape (..., 14, 23); 0 without energy."""
    upper = image[..., ::-1].cumsum(axis=-1, dtype=np.float64)[..., ::-1]
    padded = np.concatenate([upper, np.zeros((*upper.shape[:-1], 1))], axis=-1)
    return np.asarray(padded / np.maximum(padded[..., :1], 1e-9))


def _sides(showers: Showers) -> Iterator[Quantity]:
    reference = showers.reference
    n = np.arange(reference.energy_gev.size)
    ends = axis_mm(reference, [BGO_BOTTOM_MM])[:, 0]
    view = np.abs(ends).argmax(axis=1)
    distance = BGO_HALF_WIDTH_MM - np.abs(ends[n, view])
    far = (ends[n, view] > 0)[:, None]
    measures = _measures(view)
    late = measures & (np.arange(N_LAYERS) >= _LATE)
    values: dict[str, list[FloatArray]] = {}
    for image in (showers.geant4, showers.simulated):
        raw = np.maximum(image.sum(axis=(-2, -1), dtype=np.float64), 1e-9)
        edge = np.where(far, image[..., -2:].sum(axis=-1), image[..., :2].sum(axis=-1))
        rms = layer_rms_mm(image.reshape(-1, N_LAYERS, N_BARS)).reshape(image.shape[:-1])
        for name, value in (
            ("E_raw/E", raw / reference.energy_gev),
            ("layers 9-13 / E_raw", image[..., _LATE:, :].sum(axis=(-2, -1)) / raw),
            ("two bars at the side / E_raw", (edge * measures).sum(axis=-1) / raw),
            ("RMS of late layers, mm", (rms * late).sum(axis=-1) / late.sum(axis=-1)),
        ):
            values.setdefault(name, []).append(np.asarray(value, np.float64))
    for name, (geant4, simulated) in values.items():
        for low, high in pairwise(_SIDE_MM):
            event = np.flatnonzero((distance > low) & (distance <= high))
            label = f"{name}; axis {low:.0f}-{high:.0f} mm inside"
            yield Quantity("side", label, low, high, event, geant4[event], simulated[:, event])


def _wall_bars(showers: Showers) -> Iterator[Quantity]:
    at = _across(showers.reference)
    images = tuple(zip((showers.geant4, showers.simulated), _norm(showers), strict=True))
    virtual = tuple(range(_BEHIND, N_BARS - _BEHIND + 1))
    for low, high in _NEAR_WALL_MM:
        for name, right, left in (
            ("the side", (N_BARS,), (0,)),
            ("virtual walls", virtual, virtual),
        ):
            found = []
            for side, wall in [*((1, w) for w in right), *((-1, w) for w in left)]:
                bars = slice(wall - 2, wall) if side > 0 else slice(wall, wall + 2)
                distance = side * (WALLS_MM[wall] - at)
                near = (distance >= low) & (distance < high)
                near[:, :_LATE] = False
                event, layer = np.nonzero(near)
                two = [
                    x[..., bars].sum(axis=-1)[..., event, layer] / e[..., event] for x, e in images
                ]
                found.append((event, two[0], two[1]))
            label = f"two bars inside {name}, layers 9-13, axis {low:.0f}-{high:.0f} mm off"
            yield Quantity("wall", label, low, high, *_joined(found))
