"""The hadronic cascade of a proton, as a skeleton: particles and vertices, not yet any bar energy.

A generation-by-generation model: exponential depths, a leading particle, soft secondaries with a
fluctuating share of neutral pions, and the energy that nuclei take. The skeleton lists the photons,
charged tracks and nuclear stars, from which the most that the bars can see follows at once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simulation.compiled import State, compiled, exponential, gamma, uniform
from simulation.material import block_path, deviate

__all__ = ["MODELS", "HadronicModel", "grow"]

Table = npt.NDArray[np.float64]


class HadronicModel(NamedTuple):
    """Constants of the hadronic cascade, tuned to full Geant4 showers unless said otherwise."""

    length_mm: float = 236.0  # proton interaction length of the block at 100 GeV
    length_slope: float = 0.03  # its relative fall per unit of ln E
    above: float = 0.055  # interaction lengths of one radiation length above the block
    meson_length: float = 1.22  # meson over proton interaction length
    lead_a: float = 1.1  # leading baryon energy fraction: beta distribution
    lead_b: float = 1.7
    lead_meson_a: float = 0.9  # leading meson
    lead_meson_b: float = 2.4
    exchange: float = 0.25  # probability that a leading meson is neutral
    exchange_baryon: float = 0.04  # probability that a neutral pion leads instead of a baryon
    pi0_share: float = 0.35  # mean share of neutral pions in the rest
    pi0_spread: float = 8.0  # concentration of the beta distribution of that share
    soft_power: float = 3.4  # (1 - x)^power / x
    star_gev: float = 0.46  # energy that a nucleus takes
    star_seen: float = 0.42  # share of it that is seen
    halo_share: float = 0.45  # share of the seen part in neutrons
    near_mm: float = 12.0  # mean distance of the rest
    halo_mm: float = 100.0  # mean distance of the neutron energy
    halo_grain_gev: float = 0.008  # its mean portion
    pt_gev: float = 0.226
    local_gev: float = 0.6  # hadrons below are absorbed on the spot
    local_seen: float = 0.38


MODELS = {
    "a": HadronicModel(),
    # harder leading baryons, fewer and softer neutral pions, longer free paths (as between generators)
    "b": HadronicModel(
        length_mm=248.0,
        lead_a=1.2,
        lead_b=1.5,
        pi0_share=0.32,
        soft_power=4.0,
        exchange_baryon=0.03,
    ),
}

#: Relative energy below which a cascade particle is absorbed on the spot (caps the work).
RELATIVE_CUT = 2.0e-4
#: Depths between which the STK planes are.
UPSTREAM_Z_MM = (-203.0, -47.0)
#: Neutral pions below are one electromagnetic shower.
MERGED_GEV = 1.0
#: Species; the even ones are charged.
PROTON, NEUTRON, CHARGED_MESON, NEUTRAL_MESON = 0.0, 1.0, 2.0, 3.0
#: Minimum ionisation in the block, GeV/mm.
IONISATION_GEV_PER_MM = 0.78e-3


@compiled
def grow(  # noqa: PLR0912, PLR0915  (one loop over one particle's fate)
    stack: Table,
    photons: Table,
    tracks: Table,
    stars: Table,
    counts: npt.NDArray[np.int64],
    above: float,
    late_z: float,
    keep_late: float,
    needed: float,
    m: HadronicModel,
    state: State,
) -> float:
    """Grow the cascade of the particle in the first row of the stack.

    Args:
        stack: Work space; columns E (GeV), x, y, z (mm), ux, uy, uz, species.
        photons: Filled with E, x, y, z, ux, uy, uz of the photons of neutral mesons.
        tracks: Filled with energy, x, y, z of the start and of the end of ionising tracks.
        stars: Filled with x, y, z and the seen energy of nuclear stars.
        counts: Filled with the numbers of photons, tracks and stars, and with 0 for early, 1 for late
            and kept, 2 for abandoned cascades.
        above: Probability that the particle interacts above the block.
        late_z: Cascades that begin below this depth (mm) are boring,
        keep_late: and go on with this probability only.
        needed: Cascades are abandoned when less energy (GeV) than this can still be seen.
        m: Constants of the model.
        state: Random stream.

    Returns:
        Depth z of the first interaction in mm, 1e9 if none.
    """
    counts[:] = 0
    first: float = 1.0e9
    budget = stack[0, 0]
    cut = max(m.local_gev, RELATIVE_CUT * stack[0, 0])
    n = 1
    while n > 0:
        n -= 1
        e, x, y, z = stack[n, 0], stack[n, 1], stack[n, 2], stack[n, 3]
        ux, uy, uz, species = stack[n, 4], stack[n, 5], stack[n, 6], stack[n, 7]
        enter, leave = block_path(x, y, z, ux, uy, uz)
        enter = max(enter, 0.0)
        if leave <= enter:
            continue
        length = m.length_mm / (1.0 + m.length_slope * max(0.0, math.log(e / 100.0)))
        if species >= CHARGED_MESON:
            length *= m.meson_length
        step = enter + length * exponential(state)
        if first > 1.0e8 and above > 0.0 and uniform(state) < above:
            # the primary interacts in a sheet above the block
            step = (
                UPSTREAM_Z_MM[0] + (UPSTREAM_Z_MM[1] - UPSTREAM_Z_MM[0]) * uniform(state) - z
            ) / uz
            enter = leave = step
            leave += 1.0
        inside = step < leave
        step = min(step, leave)
        if species % 2.0 < 0.5:  # charged ones are even
            rate = IONISATION_GEV_PER_MM * (1.0 + 0.04 * math.log(max(e, 0.2) / 0.5))
            lost = rate * (step - enter)
            if lost > e:
                step = enter + e / rate
                lost = e
            k = counts[1]
            if k < tracks.shape[0]:
                tracks[k, 0] = lost
                tracks[k, 1], tracks[k, 2] = x + ux * enter, y + uy * enter
                tracks[k, 3] = z + uz * enter
                tracks[k, 4], tracks[k, 5], tracks[k, 6] = (
                    x + ux * step,
                    y + uy * step,
                    z + uz * step,
                )
                counts[1] += 1
            e -= lost
        if not inside or e < 0.02:
            budget -= e
            if budget < needed:
                counts[3] = 2
                return first
            continue
        x, y, z = x + ux * step, y + uy * step, z + uz * step
        if first > 1.0e8:
            first = z
            if z > late_z:
                counts[3] = 1 if uniform(state) < keep_late else 2
                if counts[3] == 2:
                    return first
        seen = 0.0
        if e > cut:
            nuclear = min(
                0.5 * e, m.star_gev * gamma(1.5, state) * (1.0 + 0.15 * math.log(1.0 + e))
            )
            e -= nuclear
            seen = nuclear * m.star_seen
            budget -= nuclear - seen
        if e <= cut:
            seen += e * m.local_seen
            budget -= e * (1.0 - m.local_seen)
        if budget < needed:
            counts[3] = 2
            return first
        k = counts[2]
        if k < stars.shape[0]:
            stars[k, 0], stars[k, 1], stars[k, 2], stars[k, 3] = x, y, z, seen
            counts[2] += 1
        if e > cut:
            n = _interact(stack, n, photons, counts, e, x, y, z, ux, uy, uz, species, m, state)
    return first


@compiled
def _beta(a: float, b: float, state: State) -> float:
    u = gamma(a, state)
    return u / (u + gamma(b, state))


@compiled
def _interact(  # noqa: PLR0912  (one branch per kind of particle)
    stack: Table,
    n: int,
    photons: Table,
    counts: npt.NDArray[np.int64],
    e: float,
    x: float,
    y: float,
    z: float,
    ux: float,
    uy: float,
    uz: float,
    species: float,
    m: HadronicModel,
    state: State,
) -> int:
    """Share the energy of one interaction; returns the new height of the stack."""
    baryon = species < CHARGED_MESON
    xl = (
        _beta(m.lead_a, m.lead_b, state) if baryon else _beta(m.lead_meson_a, m.lead_meson_b, state)
    )
    rest = e * (1.0 - xl)
    e *= xl
    if baryon:
        kind = PROTON if uniform(state) < 0.6 else NEUTRON
        if uniform(state) < m.exchange_baryon:
            kind = -1.0
    elif uniform(state) < m.exchange:
        kind = -1.0
    else:
        kind = CHARGED_MESON if uniform(state) < 0.85 else NEUTRAL_MESON
    share = _beta(m.pi0_share * m.pi0_spread, (1.0 - m.pi0_share) * m.pi0_spread, state)
    while True:
        pt = m.pt_gev * math.sqrt(exponential(state))
        cosine = math.cos(min(1.4, pt / max(e, 0.05)))
        a, b, c = deviate(ux, uy, uz, cosine, state)
        if kind < 0.0:
            _decay(photons, counts, e, x, y, z, a, b, c, state)
        elif n < stack.shape[0]:
            stack[n, 0], stack[n, 1], stack[n, 2], stack[n, 3] = e, x, y, z
            stack[n, 4], stack[n, 5], stack[n, 6], stack[n, 7] = a, b, c, kind
            n += 1
        if rest < 0.15:
            break
        low = 0.25 / rest
        e = rest
        if low < 0.9:
            while True:
                f = low ** uniform(state)
                if uniform(state) < ((1.0 - f) / (1.0 - low)) ** m.soft_power:
                    break
            e = f * rest
        rest -= e
        if uniform(state) < share:
            kind = -1.0
        else:
            u = uniform(state)
            kind = CHARGED_MESON
            if u < 0.15:
                kind = PROTON if u < 0.08 else NEUTRON
            elif u < 0.22:
                kind = NEUTRAL_MESON
    return n


@compiled
def _decay(
    photons: Table,
    counts: npt.NDArray[np.int64],
    e: float,
    x: float,
    y: float,
    z: float,
    ux: float,
    uy: float,
    uz: float,
    state: State,
) -> None:
    """Two photons of a neutral pion."""
    # soft pions count as one shower, which halves the work where nobody can tell
    f = uniform(state) if e > MERGED_GEV else 1.0
    cosine = math.cos(min(0.0675 / max(e, 0.135), 1.4))
    for part in range(2 if e > MERGED_GEV else 1):
        k = counts[0]
        if k < photons.shape[0]:
            a, b, c = deviate(ux, uy, uz, cosine, state)
            photons[k, 0] = e * f if part == 0 else e * (1.0 - f)
            photons[k, 1], photons[k, 2], photons[k, 3] = x, y, z
            photons[k, 4], photons[k, 5], photons[k, 6] = a, b, c
            counts[0] += 1
