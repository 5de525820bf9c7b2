r"""Electromagnetic showers in the block: explicit first splittings, then gamma profiles.

Electrons and photons above a fraction of the primary energy radiate and convert one by one (complete
screening, with the Landau-Pomeranchuk-Migdal suppression). Each particle below becomes a gamma profile
along the axis with the parameters of Grindhammer and Peters (hep-ex/0001020).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from processors.geometry import BAR_PITCH_MM, LAYER_PITCH_MM, N_BARS, N_LAYERS
from simulation.compiled import State, compiled, exponential, gamma, normal, uniform
from simulation.lateral import lateral_terms, strip_share
from simulation.material import (
    BAR_HALF_LENGTH_MM,
    BLOCK_HALF_WIDTH_MM,
    BLOCK_TOP_MM,
    Image,
    deposit,
    deviate,
)

__all__ = [
    "CONVERSION_X0",
    "ELECTROMAGNETIC",
    "RADIATION_LENGTH_MM",
    "ElectromagneticModel",
    "develop",
    "draw_profile",
    "shower",
    "spot_shower",
    "workspace",
]

Table = npt.NDArray[np.float64]

#: Block average of bars and carbon fibre.
RADIATION_LENGTH_MM = 14.1
#: Upper limit of the fluctuation of the visible energy of a shower.
MOST_SEEN = 1.04
#: Effective atomic number of BGO (weighted by mass) and critical energy in GeV.
ATOMIC_NUMBER = 62.5
CRITICAL_ENERGY_GEV = 0.0100
#: 7.7 TeV/cm times the radiation length of BGO.
LPM_ENERGY_GEV = 8.6e3
#: Photons convert after 9/7 radiation lengths on average.
CONVERSION_X0 = 9.0 / 7.0
GAP_MM = 2.5
#: Slabs are about this long along the axis.
SLAB_MM = 9.0
MAX_SLABS_PER_LAYER = 24
#: Rows of the work space: depth t, thickness dt, energy, x, y, layer; E, t, kind of the particles.
_T, _DT, _E, _X, _Y, _LAYER, _STACK_E, _STACK_T, _STACK_KIND = range(9)
_ELECTRON, _PHOTON = 0.0, 1.0


class ElectromagneticModel(NamedTuple):
    """Constants tuned to full Geant4 showers of 480 to 1150 GeV."""

    visible: float = 0.950  # share of the energy lost in the block that is lost in the bars
    gap: float = 0.15  # how far the core feels the gaps between bars (0 no, 1 fully)
    loss: float = 0.004  # mean of the exponential loss to nuclei and escaping particles
    constant: float = 0.003  # relative fluctuation of the visible energy
    stochastic_gev: float = 0.0003  # its variance times energy
    spread: float = 1.0  # fluctuation of ln T and ln alpha of a profile over the published one
    scale_t: float = 1.008  # mean T over the published one
    scale_alpha: float = 1.0  # mean alpha - 1 over the published one
    explicit_gev: float = 20.0  # showers above split explicitly
    cut_share: float = 0.02  # down to this share of their energy,
    cut_gev: float = 5.0  # but not below the reach of the published profiles
    slow_share: float = 0.0085  # energy of soft photons and neutrons behind the mean depth
    slow_x0: float = 14.0  # its decay length
    slow_shape: float = 2.0  # gamma shape of its fluctuation between showers
    splash: float = 1.55e-3  # energy per radiation length that goes back from the mean depth
    splash_x0: float = 7.9  # its decay length
    splash_reach: float = 11.0  # distance beyond which it decays faster, as proton showers ask for
    splash_fall: float = 3.0  # how much faster
    width: float = 0.99  # radii over the fitted ones
    grain_gev: float = 0.006  # variance of a bar's energy over its mean


ELECTROMAGNETIC = ElectromagneticModel()


def workspace() -> Table:
    """Work space of :func:`shower`."""
    return np.zeros((9, MAX_SLABS_PER_LAYER * N_LAYERS))


@compiled
def draw_profile(energy: float, m: ElectromagneticModel, state: State) -> tuple[float, float]:
    """Draw the gamma profile of one electron.

    Args:
        energy: GeV.
        m: Tuned constants.
        state: Random stream.

    Returns:
        alpha and beta (per radiation length) of the profile; its mean depth is alpha / beta.
    """
    log_y = max(math.log(energy / CRITICAL_ENERGY_GEV), 1.3)
    mean_t = m.scale_t * max(log_y - 0.812, 0.35)
    mean_alpha = 0.81 + (0.458 + 2.26 / ATOMIC_NUMBER) * log_y
    mean_alpha = 1.0 + m.scale_alpha * (mean_alpha - 1.0)
    sigma_t = min(m.spread / max(-1.4 + 1.26 * log_y, 0.8), 0.6)
    sigma_alpha = min(m.spread / max(-0.58 + 0.86 * log_y, 0.8), 0.6)
    rho = 0.705 - 0.023 * log_y
    g1, g2 = normal(state), normal(state)
    plus, minus = math.sqrt(0.5 * (1.0 + rho)), math.sqrt(0.5 * (1.0 - rho))
    t = mean_t * math.exp(sigma_t * (plus * g1 + minus * g2))
    alpha = max(mean_alpha * math.exp(sigma_alpha * (plus * g1 - minus * g2)), 1.05)
    return alpha, (alpha - 1.0) / t


@compiled
def _add_profile(
    work: Table, slabs: int, energy: float, scale_gev: float, start: float,
    m: ElectromagneticModel, state: State,
) -> float:  # fmt: skip
    """Add the profile of an electron of ``scale_gev`` with another energy; returns its mean depth."""
    alpha, beta = draw_profile(scale_gev, m, state)
    norm = alpha * math.log(beta) - math.lgamma(alpha)
    for k in range(slabs):
        t = work[_T, k] - start
        if t > 0.0:
            density = math.exp(norm + (alpha - 1.0) * math.log(t) - beta * t)
            work[_E, k] += energy * work[_DT, k] * density
    return start + alpha / beta


@compiled
def develop(
    work: Table, slabs: int, energy: float, photon: bool, start: float,
    m: ElectromagneticModel, state: State,
) -> float:  # fmt: skip
    """Fill the energies of the slabs along the axis of one shower.

    Args:
        work: Work space with the depths and thicknesses of the slabs.
        slabs: Number of slabs.
        energy: GeV.
        photon: Whether a photon starts the shower, else an electron.
        start: Depth of the start, radiation lengths.
        m: Tuned constants.
        state: Random stream.

    Returns:
        Mean depth of the energy, radiation lengths.
    """
    work[_E, :slabs] = 0.0
    cut = max(m.cut_share * energy, m.cut_gev) if energy > m.explicit_gev else energy * 1.1
    work[_STACK_E, 0], work[_STACK_T, 0] = energy, start
    work[_STACK_KIND, 0] = _PHOTON if photon else _ELECTRON
    n, moment, limit = 1, 0.0, work.shape[1] - 2
    while n > 0:
        n -= 1
        e, t, kind = work[_STACK_E, n], work[_STACK_T, n], work[_STACK_KIND, n]
        if kind == _PHOTON:
            part, t = _convert(e, t, state)
            if e < cut or n > limit:
                moment += e * _add_profile(work, slabs, e, 0.5 * e, t, m, state)
                continue
            for half in range(2):
                work[_STACK_E, n] = part if half == 0 else e - part
                work[_STACK_T, n], work[_STACK_KIND, n] = t, _ELECTRON
                n += 1
            continue
        if e < cut or n > limit:
            moment += e * _add_profile(work, slabs, e, e, t, m, state)
            continue
        photon_e, step = _radiate(e, cut, state)
        # photons below the cut take the part of the energy that the integral up to it gives
        soft = min(4.0 / 3.0 * cut * step, 0.5 * (e - photon_e))
        late = t + step * uniform(state) + CONVERSION_X0 * exponential(state)
        moment += soft * _add_profile(work, slabs, soft, 0.2 * cut, late, m, state)
        e -= soft + photon_e
        t += step
        work[_STACK_E, n], work[_STACK_T, n], work[_STACK_KIND, n] = e, t, _ELECTRON
        n += 1
        if photon_e > 0.0:
            work[_STACK_E, n], work[_STACK_T, n] = photon_e, t
            work[_STACK_KIND, n] = _PHOTON
            n += 1
    return moment / energy


@compiled
def _convert(e: float, t: float, state: State) -> tuple[float, float]:
    """Energy of one of a photon's pair and the depth of the conversion."""
    while True:
        t += CONVERSION_X0 * exponential(state)
        while True:
            x = uniform(state)
            if uniform(state) < 1.0 - 4.0 / 3.0 * x * (1.0 - x):
                break
        ratio = LPM_ENERGY_GEV / max(e * x * (1.0 - x), 1.0e-9)
        if ratio >= 1.0 or uniform(state) < math.sqrt(ratio):
            return x * e, t


@compiled
def _radiate(e: float, cut: float, state: State) -> tuple[float, float]:
    """Energy of the next photon above the cut (0 if suppressed) and the step to it."""
    low = cut / e
    rate = -4.0 / 3.0 * math.log(low) - 4.0 / 3.0 * (1.0 - low) + 0.5 * (1.0 - low * low)
    if rate < 0.05:
        return 0.0, 1.0
    step = exponential(state) / rate
    if step > 1.0:
        return 0.0, 1.0
    while True:
        y = low ** uniform(state)
        if uniform(state) < 1.0 - y + 0.75 * y * y:
            break
    ratio = y * LPM_ENERGY_GEV / max((1.0 - y) * e, 1.0e-9)
    if ratio < 1.0 and uniform(state) > math.sqrt(ratio):
        return 0.0, step
    return y * e, step


@compiled
def spot_shower(
    image: Image, energy: float, x: float, y: float, z: float, ux: float, uy: float, uz: float,
    spots: int, m: ElectromagneticModel, state: State,
) -> None:  # fmt: skip
    """Lay a small shower of any direction as energy spots of equal size.

    Args:
        image: Bar energies in GeV, shape (14, 22), added to.
        energy: GeV.
        x: Start of the shower, mm.
        y: As x.
        z: As x.
        ux: Direction, unit vector.
        uy: As ux.
        uz: As ux.
        spots: Number of spots.
        m: Tuned constants.
        state: Random stream.
    """
    alpha, beta = draw_profile(energy, m, state)
    each = energy * m.visible / spots
    for _ in range(spots):
        t = gamma(alpha, state) / beta
        a1, a2, a3, w1, w2, _w3 = lateral_terms(t * beta / alpha, m.width)
        u = uniform(state)
        radius = a1 if u < w1 else (a2 if u < w1 + w2 else a3)
        # both coordinates of a disc whose marginals are exponential: normal of exponential variance
        r = 2.0 * radius * math.sqrt(exponential(state) * exponential(state))
        ax, ay, az = deviate(ux, uy, uz, 0.0, state)
        d = t * RADIATION_LENGTH_MM
        deposit(image, x + ux * d + ax * r, y + uy * d + ay * r, z + uz * d + az * r, each)


@compiled
def shower(
    image: Image, work: Table, energy: float, photon: bool,
    x: float, y: float, z: float, ux: float, uy: float, uz: float,
    passed: float, m: ElectromagneticModel, state: State,
) -> None:  # fmt: skip
    """Lay a downward shower on the bars in closed form.

    Args:
        image: Bar energies in GeV, shape (14, 22), added to.
        work: Work space.
        energy: GeV.
        photon: Whether a photon starts the shower, else an electron.
        x: Point where the axis enters the block, or where the shower starts inside, mm.
        y: As x.
        z: As x.
        ux: Direction, unit vector, uz > 0.
        uy: As ux.
        uz: As ux.
        passed: Radiation lengths of the shower before that point.
        m: Tuned constants.
        state: Random stream.
    """
    slabs = 0
    sx, sy = ux / uz, uy / uz
    for layer in range(N_LAYERS):
        top = BLOCK_TOP_MM + layer * LAYER_PITCH_MM
        height, parts = LAYER_PITCH_MM, 1  # layers above the start only see what goes back
        if top + height > z:
            height, top = min(height, top + height - z), max(top, z)
            parts = min(int(height / uz / SLAB_MM) + 1, MAX_SLABS_PER_LAYER)
        for k in range(parts):
            depth = top - z + (k + 0.5) * height / parts
            work[_T, slabs] = passed + depth / uz / RADIATION_LENGTH_MM
            work[_DT, slabs] = height / uz / parts / RADIATION_LENGTH_MM
            work[_X, slabs], work[_Y, slabs] = x + sx * depth, y + sy * depth
            work[_LAYER, slabs] = layer
            slabs += 1
    mean = develop(work, slabs, energy, photon, 0.0, m, state)
    floor = max(1.0e-5, 1.0e-7 * energy)
    slow = m.slow_share * gamma(m.slow_shape, state) / m.slow_shape
    fast = 1.0 - slow - m.splash * m.splash_x0
    seen = 1.0 + normal(state) * math.sqrt(m.constant**2 + m.stochastic_gev / max(energy, 0.1))
    seen = m.visible * min(max(seen - m.loss * exponential(state), 0.5), MOST_SEEN)
    for k in range(slabs):
        unit = energy * seen * work[_DT, k]
        e, ahead, back = work[_E, k] * seen * fast, mean - work[_T, k], 0.0
        if ahead < 0.0:
            e += unit * slow / m.slow_x0 * math.exp(ahead / m.slow_x0)
        else:
            ahead += m.splash_fall * max(ahead - m.splash_reach, 0.0)
            back = unit * m.splash * math.exp(-ahead / m.splash_x0)
        if e + back > floor:
            _lay_slab(
                image, int(work[_LAYER, k]), e, back, work[_X, k], work[_Y, k], sx, sy,
                work[_T, k] / mean, floor, m,
            )  # fmt: skip


@compiled
def _lay_slab(
    image: Image, layer: int, e: float, back: float, x: float, y: float, slope_x: float, slope_y: float,
    tau: float, floor: float, m: ElectromagneticModel,
) -> None:  # fmt: skip
    """Share the energy of one slab among the bars of its layer.

    A profile that is round about a tilted axis is wider by sqrt(1 + slope^2) along one coordinate of
    a horizontal plane.
    """
    if layer % 2 == 0:
        across, along, slope_across, slope_along = y, x, slope_y, slope_x
    else:
        across, along, slope_across, slope_along = x, y, slope_x, slope_y
    a1, a2, a3, w1, w2, w3 = lateral_terms(tau, m.width)
    stretch = math.sqrt(1.0 + slope_along * slope_along)
    low, high = -BAR_HALF_LENGTH_MM - along, BAR_HALF_LENGTH_MM - along
    w1 *= e * strip_share(low, high, a1 * stretch)
    w2 *= e * strip_share(low, high, a2 * stretch)
    w3 = (w3 * e + back) * strip_share(low, high, a3 * stretch)
    stretch = math.sqrt(1.0 + slope_across * slope_across)
    a1, a2, a3 = a1 * stretch, a2 * stretch, a3 * stretch
    edge = (across + BLOCK_HALF_WIDTH_MM) % BAR_PITCH_MM
    edge = min(edge, BAR_PITCH_MM - edge)
    in_gap = strip_share(edge - 0.5 * GAP_MM, edge + 0.5 * GAP_MM, a1)
    w1 *= 1.0 + m.gap * (GAP_MM / BAR_PITCH_MM - in_gap)
    centre = min(max(int((across + BLOCK_HALF_WIDTH_MM) / BAR_PITCH_MM), 0), N_BARS - 1)
    for side in range(2):
        bar = centre - side
        while 0 <= bar < N_BARS:
            low = bar * BAR_PITCH_MM - BLOCK_HALF_WIDTH_MM - across
            high = low + BAR_PITCH_MM
            share = w2 * strip_share(low, high, a2) + w3 * strip_share(low, high, a3)
            share += w1 * strip_share(low, high, a1)
            image[layer, bar] += share
            if share < floor and bar != centre:
                break
            bar += 1 - 2 * side
