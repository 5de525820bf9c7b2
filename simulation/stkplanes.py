"""Signals near the track in the twelve layers of the STK: the particle itself and what comes with it.

Three sources of further particles within one Moliere radius (documented in ``docs/physics.md``):

* an electron radiates in the tungsten plates and its photons convert. The mean number of pairs between
  the depths t1 and t2 (radiation lengths) is (7/9) (4/3) ln(E/20 MeV) (t2^2 - t1^2)/2, from the
  bremsstrahlung and conversion rates per radiation length at high energy (Particle Data Group review,
  "Passage of particles through matter"); the share that stays resolved from the electron or adds to its
  cluster is ``PAIR_SHARE``;
* a proton that interacts above the BGO gives secondaries in the planes below its vertex;
* particles that come back from the BGO, more of them near it, in proportion to the backsplash in the PSD.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from simulation.material import upstream_depths

__all__ = ["CLUSTER_ADC", "PlaneSignals", "landau", "plane_signals"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int32]

STK_PLANE_Z_MM = np.linspace(-210.0, -42.0, 6)
#: Mean signal of one particle in an STK cluster, ADC.
CLUSTER_ADC = 60.0
#: Width of the energy loss in 0.32 mm of silicon over its peak.
LOSS_WIDTH = 0.12
#: Share of the pairs that count: softer ones leave the core, and part of the photons are not seen.
PAIR_SHARE = 0.35
#: Chance that a further particle makes a cluster of its own instead of widening that of the track.
RESOLVED = 0.35
#: Charged particles and converted photons in the core of a proton's first interaction at 100 GeV, their
#: power law in energy, and the shape of the gamma distribution of their mean.
SECONDARIES, SECONDARIES_INDEX, SECONDARIES_SHAPE = 5.0, 0.2, 2.0
#: Particles that come back per layer, over the backsplash in a PSD bar: first plane, and last plane.
SPLASH_TOP, SPLASH_BOTTOM = 0.3, 1.2
#: Chance of a knock-on electron with a cluster of its own, per layer.
KNOCK_ON = 0.02


@dataclass(frozen=True)
class PlaneSignals:
    """Signals near the track in the layers x0, y0 ... x5, y5, from the top.

    Attributes:
        energy_adc: Energy of the clusters, shape (n, 12), ADC.
        clusters: Number of clusters, shape (n, 12).
        loss: Energy loss of the particle itself over that of a singly charged one, shape (n, 12).
    """

    energy_adc: FloatArray
    clusters: IntArray
    loss: FloatArray


def plane_signals(
    species: Literal["electron", "proton"],
    energy_gev: FloatArray,
    cosine: FloatArray,
    hit: BoolArray,
    splash_mip: FloatArray,
    first_z_mm: FloatArray,
    rng: np.random.Generator,
) -> PlaneSignals:
    """Simulate the layers of the STK around a track.

    Args:
        species: ``electron`` or ``proton``.
        energy_gev: True energies, shape (n,).
        cosine: Cosines of the zenith angles, shape (n,).
        hit: Whether the particle itself makes a cluster, shape (n, 12).
        splash_mip: Backsplash in the PSD bars on the axis, shape (n,), MIPs.
        first_z_mm: Depth of the first interaction of a proton, shape (n,).
        rng: Random generator.

    Returns:
        The signals; energies are along the path of the particle.
    """
    n = len(energy_gev)
    if species == "electron":
        depth = upstream_depths(STK_PLANE_Z_MM) / cosine[:, None]
        log_energy = np.log(np.maximum(energy_gev, 0.1) / 0.020)[:, None]
        pairs = PAIR_SHARE * (7 / 9) * (4 / 3) * log_energy * depth**2 / 2
        new = rng.poisson(np.diff(pairs, axis=1, prepend=0.0))
        particles = 2 * np.cumsum(new, axis=1)
    else:
        mean = SECONDARIES * (energy_gev / 100.0) ** SECONDARIES_INDEX
        mean = mean * rng.gamma(SECONDARIES_SHAPE, 1 / SECONDARIES_SHAPE, n)
        below = first_z_mm[:, None] < STK_PLANE_Z_MM
        particles = below * rng.poisson(mean)[:, None]
    nearness = np.linspace(SPLASH_TOP, SPLASH_BOTTOM, 6)
    particles = particles + rng.poisson(nearness * splash_mip[:, None])
    both_views = np.repeat(particles, 2, axis=1)
    seen = rng.binomial(both_views, 0.95)
    knock_on = rng.random((n, 12)) < KNOCK_ON
    loss = landau((n, 12), LOSS_WIDTH, rng)
    # the sum of k losses spreads by sqrt(k) times the spread of one, about half its mean
    others = np.maximum(seen + 0.5 * np.sqrt(seen) * rng.standard_normal((n, 12)), 0.3 * seen)
    energy = CLUSTER_ADC * (loss * hit + others + 0.7 * knock_on)
    clusters = hit.astype(np.int64) + knock_on + rng.binomial(seen, RESOLVED)
    # a further particle without a cluster of its own widens that of the track, if there is one
    clusters = np.where((clusters == 0) & (seen > 0), 1, clusters)
    return PlaneSignals(energy, clusters.astype(np.int32), loss)


def landau(shape: int | tuple[int, ...], width: float, rng: np.random.Generator) -> FloatArray:
    """Landau-like numbers that peak at 1, never below 0.1: -ln Z^2 of a normal Z is a Moyal number."""
    moyal = -np.log(np.maximum(rng.standard_normal(shape) ** 2, 1e-30))
    return np.asarray(np.maximum(1.0 + width * moyal, 0.1))
