"""Laying the products of a hadronic cascade into the bars: photons, ionisation tracks, nuclear stars."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from processors.geometry import N_BARS
from simulation.compiled import State, compiled, exponential, uniform
from simulation.electromagnetic import (
    CONVERSION_X0,
    RADIATION_LENGTH_MM,
    ElectromagneticModel,
    shower,
    spot_shower,
)
from simulation.hadronic import HadronicModel
from simulation.material import Image, block_path, deposit, deviate

__all__ = ["hopeless", "lay_hadrons", "lay_photons"]

Float64Array = npt.NDArray[np.float64]

#: Showers above are laid by the closed form (at least this share of the primary), others as spots.
CLOSED_FORM_GEV = 1.5
CLOSED_FORM_SHARE = 1.0e-3
#: Spots of a nuclear star: charged fragments close by, at most so many of neutrons further out.
NEAR_SPOTS = 3
MAX_HALO_SPOTS = 20
#: Half the threshold of 10 MIPs on the leading bar of the first layers.
HOPELESS_GEV = 0.115


@compiled
def hopeless(smooth: Image, spots: Image) -> bool:
    """Whether one of the first three layers has no bar near the threshold of the trigger."""
    for layer in range(3):
        leading = 0.0
        for bar in range(N_BARS):
            leading = max(leading, smooth[layer, bar] + spots[layer, bar])
        if leading < HOPELESS_GEV:
            return True
    return False


@compiled
def lay_photons(
    smooth: Image,
    spots: Image,
    work: Float64Array,
    photons: Float64Array,
    counts: npt.NDArray[np.int64],
    energy: float,
    z_min: float,
    z_max: float,
    em: ElectromagneticModel,
    state: State,
) -> None:
    """Showers of the photons that start between two depths."""
    limit = max(CLOSED_FORM_GEV, CLOSED_FORM_SHARE * energy)
    for k in range(counts[0]):
        e = photons[k, 0]
        ux, uy, uz = photons[k, 4], photons[k, 5], photons[k, 6]
        x, y, z = photons[k, 1], photons[k, 2], photons[k, 3]
        if not z_min <= z < z_max:
            continue
        enter, leave = block_path(x, y, z, ux, uy, uz)
        if leave <= max(enter, 0.0):
            continue
        if enter > 0.0:
            x, y, z = x + ux * enter, y + uy * enter, z + uz * enter
        if e > limit and uz > 0.3:
            shower(smooth, work, e, True, x, y, z, ux, uy, uz, 0.0, em, state)
            continue
        d = CONVERSION_X0 * RADIATION_LENGTH_MM * exponential(state)
        x, y, z = x + ux * d, y + uy * d, z + uz * d
        if e < 0.02:
            deposit(spots, x, y, z, e * em.visible)
        else:
            n = min(int(4.0 + 12.0 * e**0.5), 60)
            spot_shower(spots, e, x, y, z, ux, uy, uz, n, em, state)


@compiled
def lay_hadrons(
    spots: Image,
    tracks: Float64Array,
    stars: Float64Array,
    counts: npt.NDArray[np.int64],
    had: HadronicModel,
    em: ElectromagneticModel,
    state: State,
) -> None:
    """Ionisation tracks and nuclear stars."""
    for k in range(counts[1]):
        dx, dy, dz = (
            tracks[k, 4] - tracks[k, 1],
            tracks[k, 5] - tracks[k, 2],
            tracks[k, 6] - tracks[k, 3],
        )
        length = math.sqrt(dx * dx + dy * dy + dz * dz)
        steps = int(length / 9.0) + 1
        each = tracks[k, 0] * em.visible / steps
        for j in range(steps):
            f = (j + uniform(state)) / steps
            deposit(
                spots, tracks[k, 1] + f * dx, tracks[k, 2] + f * dy, tracks[k, 3] + f * dz, each
            )
    for k in range(counts[2]):
        near = stars[k, 3] * (1.0 - had.halo_share) * em.visible
        far = stars[k, 3] * had.halo_share * em.visible
        pieces = min(int(far / had.halo_grain_gev + uniform(state)), MAX_HALO_SPOTS)
        for j in range(NEAR_SPOTS + pieces):
            if j < NEAR_SPOTS:
                r, e = had.near_mm * exponential(state), near / NEAR_SPOTS
            else:
                r, e = had.halo_mm * exponential(state), far / pieces * exponential(state)
            cosine = 2.0 * uniform(state) - 1.0
            a, b, c = deviate(0.0, 0.0, 1.0, cosine, state)
            deposit(spots, stars[k, 0] + a * r, stars[k, 1] + b * r, stars[k, 2] + c * r, e)
