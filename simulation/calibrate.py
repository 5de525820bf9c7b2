"""Derive the energy-correction constants of ``simulation.reconstruction`` anew.

Run ``python -m simulation.calibrate`` after a change of the showers or of the electronics, and put the
printed numbers into ``_CORRECTION``. Takes about half a minute.
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

from processors.geometry import BGO_BOTTOM_MM, BGO_TOP_MM, FIDUCIAL_HALF_WIDTH_MM
from simulation.cascade import electron_showers
from simulation.electronics import digitise
from simulation.primaries import isotropic_rays, log_uniform_energies
from simulation.reconstruction import fit_correction

__all__ = ["fiducial_electrons", "main"]


def fiducial_electrons(
    thrown: int, seed: int, e_min_gev: float = 40.0, e_max_gev: float = 12_000.0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Simulate electrons whose true axis is fiducial.

    Args:
        thrown: Rays thrown; about 0.8 % are fiducial.
        seed: Seed of the random numbers.
        e_min_gev: Lowest energy of an E^-1 spectrum.
        e_max_gev: Highest energy.

    Returns:
        Bar energies in MeV after electronics, shape (n, 14, 22); true energies in GeV, shape (n,);
        true directions, shape (n, 3).
    """
    rng = np.random.default_rng(seed)
    rays = isotropic_rays(rng, thrown)
    inside = np.ones(len(rays.direction), bool)
    for z in (BGO_TOP_MM, BGO_BOTTOM_MM):
        inside &= (np.abs(rays.at_depth(z)[:, :2]) < FIDUCIAL_HALF_WIDTH_MM).all(axis=1)
    position, direction = rays.position_mm[inside], rays.direction[inside]
    energy = log_uniform_energies(rng, len(position), e_min_gev, e_max_gev)
    seeds = rng.integers(0, 2**64, len(position), dtype=np.uint64)
    deposits = electron_showers(energy, position, direction, seeds)
    return digitise(deposits.bgo_gev, rng), energy, direction


def main() -> None:
    """Print the constants of both reconstructions."""
    bar_mev, energy, _ = fiducial_electrons(15_000_000, 1)
    for version in ("new", "old"):
        values = fit_correction(bar_mev, energy, version)
        sys.stdout.write(f"{version}: {np.round(values, 5).tolist()}\n")


if __name__ == "__main__":
    main()
