"""Simulated deposits of electrons and protons: bar energies without any electronics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from processors.geometry import N_BARS, N_LAYERS
from simulation.compiled import State, compiled, exponential, gamma, normal, seed_stream, uniform
from simulation.electromagnetic import (
    ELECTROMAGNETIC,
    MOST_SEEN,
    ElectromagneticModel,
    shower,
    workspace,
)
from simulation.hadronic import MODELS, HadronicModel, grow
from simulation.laying import hopeless, lay_hadrons, lay_photons
from simulation.material import Image, block_path, upstream_sheets

__all__ = ["Deposits", "electron_showers", "proton_showers"]

FloatArray = npt.NDArray[np.floating]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
SeedArray = npt.NDArray[np.uint64]

#: With ``triggered_only``: what starts below this depth does not reach layers 0 to 2. Of the protons that
#: fire the trigger fewer than 1 in 1000 are lost.
DEEPEST_START_MM = 200.0
HIGHEST_Z_MM = -330.0
#: Backsplash in a whole PSD view, MIPs per GeV: of the electron's energy, and of a proton's deposit with
#: its decay with the depth of the first interaction; the view nearer to the BGO sees more (Geant4).
PSD_ELECTRON_PER_GEV = 0.007
PSD_PROTON_PER_GEV = 0.055
PSD_DEPTH_MM = 95.0
PSD_LOWER_VIEW = 1.27
PSD_SHAPE = 4.0
#: A bar of 28 mm on the axis of a splash that is about 350 mm wide.
PSD_BAR_SHARE = 0.08
#: Roulette: share of the possible deposit in photons that start within so many mm of the entry, and the
#: probabilities to keep a cascade above, between and below the two limits (above: always).
EARLY_MM = 110.0
ROULETTE_HIGH, ROULETTE_LOW = 0.7, 0.5
ROULETTE_MIDDLE, ROULETTE_KEEP = 0.35, 0.1
ABANDONED = 2


@dataclass(frozen=True)
class Deposits:
    """What the showers of n primaries leave in the detector, without electronics.

    Attributes:
        bgo_gev: Energy per bar in GeV, shape (n, 14, 22); even layers measure y, odd layers x.
        psd_mip: Extra energy in the PSD views Y and X by backsplash, in MIPs, shape (n, 2).
        weight: 0 for dropped events, else at least 1, shape (n,).
        first_z_mm: Depth of the first interaction, inf if none, shape (n,).
    """

    bgo_gev: Float32Array
    psd_mip: Float32Array
    weight: Float64Array
    first_z_mm: Float32Array


def electron_showers(
    energy_gev: FloatArray, position_mm: FloatArray, direction: FloatArray, seeds: SeedArray
) -> Deposits:
    """Simulate electrons.

    Args:
        energy_gev: Kinetic energies, GeV, shape (n,).
        position_mm: Any point on each axis, mm, shape (n, 3).
        direction: Unit vectors with uz > 0 (downwards), shape (n, 3).
        seeds: One seed per event, shape (n,).

    Returns:
        The deposits; every weight is 1.

    Raises:
        ValueError: If shapes disagree or a direction points upwards.
    """
    e, p, d, s = _checked(energy_gev, position_mm, direction, seeds)
    out = _empty(e.size)
    _electrons(
        e,
        p,
        d,
        s,
        ELECTROMAGNETIC,
        workspace(),
        out.bgo_gev,
        out.psd_mip,
        out.first_z_mm,
    )
    out.first_z_mm[out.first_z_mm > 1.0e8] = np.inf
    return out


def proton_showers(
    energy_gev: FloatArray,
    position_mm: FloatArray,
    direction: FloatArray,
    seeds: SeedArray,
    *,
    model: Literal["a", "b"] = "a",
    min_deposit_gev: float = 0.0,
    tail_sampling: bool = False,
    triggered_only: bool = False,
) -> Deposits:
    """Simulate protons.

    Args:
        energy_gev: Kinetic energies, GeV, shape (n,).
        position_mm: Any point on each axis, mm, shape (n, 3).
        direction: Unit vectors with uz > 0 (downwards), shape (n, 3).
        seeds: One seed per event, shape (n,).
        model: Set of hadronic constants.
        min_deposit_gev: Events that surely leave less in the bars are dropped (weight 0, no energy).
        tail_sampling: Keep all electron-like cascades and only some of the others, these with a
            weight above 1 (Russian roulette).
        triggered_only: Drop early (weight 0) what cannot fire the high-energy trigger: cascades that
            begin below ``DEEPEST_START_MM`` or leave too little in layers 0, 1 or 2.

    Returns:
        The deposits.

    Raises:
        ValueError: If shapes disagree, a direction points upwards, or the model is unknown.
    """
    if model not in MODELS:
        msg = f"unknown hadronic model {model!r}: choose one of {sorted(MODELS)}"
        raise ValueError(msg)
    e, p, d, s = _checked(energy_gev, position_mm, direction, seeds)
    out = _empty(e.size)
    _protons(
        e, p, d, s, MODELS[model], ELECTROMAGNETIC, float(min_deposit_gev), bool(tail_sampling),
        bool(triggered_only),
        workspace(), out.bgo_gev, out.psd_mip, out.weight, out.first_z_mm,
    )  # fmt: skip
    out.first_z_mm[out.first_z_mm > 1.0e8] = np.inf
    return out


def _checked(
    energy: FloatArray, position: FloatArray, direction: FloatArray, seeds: SeedArray
) -> tuple[Float64Array, Float64Array, Float64Array, SeedArray]:
    e = np.ascontiguousarray(energy, np.float64)
    p = np.ascontiguousarray(position, np.float64)
    d = np.ascontiguousarray(direction, np.float64)
    s = np.ascontiguousarray(seeds, np.uint64)
    if e.ndim != 1 or p.shape != (e.size, 3) or d.shape != (e.size, 3) or s.shape != e.shape:
        msg = f"shapes {e.shape}, {p.shape}, {d.shape}, {s.shape}: give (n,), (n, 3), (n, 3), (n,)"
        raise ValueError(msg)
    if e.size and not (d[:, 2] > 0).all():
        msg = f"smallest uz is {d[:, 2].min()}: give directions that point down, uz > 0"
        raise ValueError(msg)
    return e, p, d, s


def _empty(n: int) -> Deposits:
    return Deposits(
        np.zeros((n, N_LAYERS, N_BARS), np.float32),
        np.zeros((n, 2), np.float32),
        np.ones(n),
        np.full(n, 1.0e9, np.float32),
    )


@compiled
def _grain(image: Image, grain: float, state: State) -> None:
    """Replace each smooth bar energy by a gamma number of the same mean and variance grain * mean."""
    for layer in range(N_LAYERS):
        for bar in range(N_BARS):
            mean = image[layer, bar]
            if mean > 1.0e-6:
                shape = mean / grain
                if shape > 50.0:
                    image[layer, bar] = max(mean + math.sqrt(mean * grain) * normal(state), 0.0)
                elif shape > 0.02:
                    image[layer, bar] = grain * gamma(shape, state)
                else:
                    image[layer, bar] = 0.0


@compiled
def _store(image: Image, energy: float, out: Float32Array) -> float:
    """Copy the bar energies, never more than the primary had; returns their sum."""
    total = float(image.sum())
    scale = energy / total if total > energy else 1.0
    for layer in range(N_LAYERS):
        for bar in range(N_BARS):
            out[layer, bar] = scale * image[layer, bar]
    return scale * total


@compiled
def _splash_psd(out: Float32Array, slab_mip: float, state: State) -> None:
    """Backsplash in the two PSD bars on the axis, from the mean in a whole view."""
    for view in range(2):
        left = PSD_BAR_SHARE * slab_mip * (1.0 if view == 0 else PSD_LOWER_VIEW)
        left *= gamma(PSD_SHAPE, state) / PSD_SHAPE
        total = 0.0
        left -= exponential(state)
        while left > 0.0:  # a Poisson number of particles of one MIP on average
            total += exponential(state)
            left -= exponential(state)
        out[view] = total


@compiled
def _keep(photons: Float64Array, n: int, bound: float, late_z: float) -> float:
    """Probability that Russian roulette keeps a cascade: 1 where early photons dominate."""
    early = 0.0
    for k in range(n):
        if photons[k, 3] < late_z:
            early += photons[k, 0]
    likeness = early / max(bound, 1.0e-9)
    if likeness > ROULETTE_HIGH:
        return 1.0
    return ROULETTE_MIDDLE if likeness > ROULETTE_LOW else ROULETTE_KEEP


@compiled
def _electrons(
    energy: Float64Array,
    position: Float64Array,
    direction: Float64Array,
    seeds: SeedArray,
    em: ElectromagneticModel,
    work: Float64Array,
    bgo: Float32Array,
    psd: Float32Array,
    first: Float32Array,
) -> None:
    image = np.zeros((N_LAYERS, N_BARS))
    state = np.zeros(1, np.uint64)
    for i in range(energy.size):
        seed_stream(state, seeds[i])
        x, y, z = position[i, 0], position[i, 1], position[i, 2]
        ux, uy, uz = direction[i, 0], direction[i, 1], direction[i, 2]
        enter, leave = block_path(x, y, z, ux, uy, uz)
        if leave <= enter:
            continue
        image[:] = 0.0
        x0, y0, z0 = x + ux * enter, y + uy * enter, z + uz * enter
        t0 = upstream_sheets(x, y, z, ux, uy, uz, z0)
        first[i] = z0
        shower(image, work, energy[i], False, x0, y0, z0, ux, uy, uz, t0, em, state)
        _grain(image, em.grain_gev, state)
        _store(image, energy[i], bgo[i])
        _splash_psd(psd[i], PSD_ELECTRON_PER_GEV * energy[i], state)


@compiled
def _protons(  # noqa: PLR0912, PLR0915  (one loop over one event's fate)
    energy: Float64Array,
    position: Float64Array,
    direction: Float64Array,
    seeds: SeedArray,
    had: HadronicModel,
    em: ElectromagneticModel,
    min_deposit: float,
    tail: bool,
    triggered: bool,
    work: Float64Array,
    bgo: Float32Array,
    psd: Float32Array,
    weight: Float64Array,
    first: Float32Array,
) -> None:
    smooth = np.zeros((N_LAYERS, N_BARS))
    spots = np.zeros((N_LAYERS, N_BARS))
    state = np.zeros(1, np.uint64)
    stack = np.zeros((20000, 8))
    photons = np.zeros((20000, 7))
    tracks = np.zeros((20000, 7))
    stars = np.zeros((20000, 4))
    counts = np.zeros(4, np.int64)
    needed = min_deposit / (em.visible * MOST_SEEN)
    for i in range(energy.size):
        seed_stream(state, seeds[i])
        stack[0, 0] = energy[i]
        for k in range(3):
            stack[0, 1 + k] = position[i, k]
            stack[0, 4 + k] = direction[i, k]
        stack[0, 7] = 0.0
        enter, leave = block_path(
            position[i, 0], position[i, 1], position[i, 2],
            direction[i, 0], direction[i, 1], direction[i, 2],
        )  # fmt: skip
        if leave <= enter or energy[i] < min_deposit:
            weight[i] = 0.0 if min_deposit > 0.0 else 1.0
            continue
        enter_z = position[i, 2] + enter * direction[i, 2]
        # start above all material
        back = min(enter, (HIGHEST_Z_MM - position[i, 2]) / direction[i, 2])
        for k in range(3):
            stack[0, 1 + k] += back * direction[i, k]
        late_z, keep_late = 1.0e9, 1.0
        if tail:
            late_z, keep_late = enter_z + EARLY_MM * direction[i, 2], ROULETTE_KEEP
        elif triggered:
            late_z, keep_late = DEEPEST_START_MM, 0.0
        above = upstream_sheets(
            stack[0, 1], stack[0, 2], stack[0, 3], stack[0, 4], stack[0, 5], stack[0, 6],
            enter_z,
        )  # fmt: skip
        above = 1.0 - math.exp(-above * had.above)
        first[i] = grow(
            stack, photons, tracks, stars, counts, above, late_z, keep_late, needed, had, state
        )
        if counts[3] == ABANDONED:
            weight[i] = 0.0
            continue
        bound = 0.0
        for k in range(counts[0]):
            bound += photons[k, 0]
        for k in range(counts[1]):
            bound += tracks[k, 0]
        for k in range(counts[2]):
            bound += stars[k, 3]
        if bound < needed:
            weight[i] = 0.0
            continue
        if tail:
            keep = ROULETTE_KEEP
            if counts[3] == 0:
                keep = _keep(photons, counts[0], bound, late_z)
                if uniform(state) > keep:
                    weight[i] = 0.0
                    continue
            weight[i] = 1.0 / keep
        smooth[:] = 0.0
        spots[:] = 0.0
        lay_hadrons(spots, tracks, stars, counts, had, em, state)
        e = energy[i]
        top, split, bottom = -1.0e9, DEEPEST_START_MM, 1.0e9
        lay_photons(smooth, spots, work, photons, counts, e, top, split, em, state)
        if triggered and hopeless(smooth, spots):
            weight[i] = 0.0
            continue
        lay_photons(smooth, spots, work, photons, counts, e, split, bottom, em, state)
        _grain(smooth, em.grain_gev, state)
        smooth += spots
        total = _store(smooth, energy[i], bgo[i])
        depth = max(first[i] - enter_z, 0.0)
        _splash_psd(psd[i], PSD_PROTON_PER_GEV * total * math.exp(-depth / PSD_DEPTH_MM), state)
