"""Primary particles: isotropic downward rays through the detector and their energies.

The collaboration generates Monte Carlo from a half sphere of radius R around the detector. We throw
the same flux exactly: the direction is uniform in solid angle over the downward hemisphere, the ray
passes a point uniform on the disc of radius R perpendicular to it, and its position is where it enters
the sphere. The etendue of all thrown rays is 2 pi^2 R^2, so that a selection passed by ``n`` of ``N``
thrown rays has the acceptance 2 pi^2 R^2 n / N. The sphere is centred on the middle of the BGO
sensitive volume, (0, 0, 247) mm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from processors.geometry import (
    BGO_BOTTOM_MM,
    BGO_HALF_WIDTH_MM,
    BGO_TOP_MM,
    FIDUCIAL_HALF_WIDTH_MM,
    GENERATION_RADIUS_M,
)
from processors.spectrum import Spectrum

__all__ = [
    "BGO_BOX",
    "SPHERE_CENTRE_MM",
    "TOTAL_ETENDUE_M2SR",
    "TRIGGER_BOX",
    "Box",
    "FullRegion",
    "Rays",
    "isotropic_rays",
    "log_uniform_energies",
    "simulated_rays",
    "spectrum_energies",
    "thin_outside",
]

FloatArray = npt.NDArray[np.float64]
#: Rays that are simulated in full when the others are thinned.
FullRegion = Literal["fiducial", "topfiducial", "both"]

#: Centre of the generation sphere: the middle of the BGO sensitive volume.
SPHERE_CENTRE_MM = np.array([0.0, 0.0, (BGO_TOP_MM + BGO_BOTTOM_MM) / 2])
#: Etendue of all thrown rays, 2 pi^2 R^2 = 37.70 m^2 sr.
TOTAL_ETENDUE_M2SR = 2 * math.pi**2 * GENERATION_RADIUS_M**2
#: Rays that pass the sensitive volume by this much still count as hitting it.
_MARGIN_MM = 20.0


@dataclass(frozen=True)
class Box:
    """An upright box centred on the detector axis; rays that miss it are thrown but not kept."""

    half_width_mm: float
    z_min_mm: float
    z_max_mm: float


@dataclass(frozen=True)
class Rays:
    """The thrown rays that cross a box.

    Attributes:
        position_mm: Where each ray enters the generation sphere, shape (n, 3).
        direction: Unit vectors, downward (z component > 0), shape (n, 3).
        thrown: Number of rays thrown, those that missed the box included.
    """

    position_mm: FloatArray
    direction: FloatArray
    thrown: int

    def at_depth(self, z_mm: float) -> FloatArray:
        """The points of the rays at one depth, shape (n, 3), mm."""
        path = (z_mm - self.position_mm[:, 2:]) / self.direction[:, 2:]
        return np.asarray(self.position_mm + path * self.direction)


#: The BGO sensitive volume with a margin: what Monte Carlo primaries must cross.
BGO_BOX = Box(BGO_HALF_WIDTH_MM + _MARGIN_MM, BGO_TOP_MM - _MARGIN_MM, BGO_BOTTOM_MM + _MARGIN_MM)
#: The first four layers with a margin: rays outside it reach the trigger layers by backsplash only.
TRIGGER_BOX = Box(BGO_HALF_WIDTH_MM + _MARGIN_MM, BGO_TOP_MM - _MARGIN_MM, 162.0 + _MARGIN_MM)


def isotropic_rays(rng: np.random.Generator, thrown: int, box: Box = BGO_BOX) -> Rays:
    """Throw isotropic downward rays at the sphere and keep those that cross a box.

    Only rays through the ball about the sphere's centre that holds the box are made; how many of the
    thrown ones do that is binomial, so the result is distributed as if all had been made.

    Args:
        rng: Random generator.
        thrown: Number of rays thrown at the whole sphere.
        box: Volume that kept rays cross; it must lie inside the sphere.

    Returns:
        The rays kept.

    Raises:
        ValueError: A negative number of rays, or a box that sticks out of the sphere.
    """
    if thrown < 0:
        msg = f"the number of thrown rays must not be negative, got {thrown}"
        raise ValueError(msg)
    sphere_mm = 1e3 * GENERATION_RADIUS_M
    z_far = max(abs(z - SPHERE_CENTRE_MM[2]) for z in (box.z_min_mm, box.z_max_mm))
    near_mm = math.hypot(box.half_width_mm, box.half_width_mm, z_far)
    if near_mm >= sphere_mm:
        msg = f"the box {box} sticks out of the generation sphere of radius {sphere_mm:.0f} mm"
        raise ValueError(msg)
    n = int(rng.binomial(thrown, (near_mm / sphere_mm) ** 2))
    cos_theta = 1.0 - rng.random(n)
    sin_theta = np.sqrt(1.0 - cos_theta**2)
    phi, psi = rng.uniform(0.0, 2 * math.pi, (2, n))
    radius = near_mm * np.sqrt(rng.random(n))
    cos_phi, sin_phi = np.cos(phi), np.sin(phi)
    along, across = radius * np.cos(psi), radius * np.sin(psi)
    direction = np.column_stack([sin_theta * cos_phi, sin_theta * sin_phi, cos_theta])
    # the plane of the disc is spanned by (cos t cos p, cos t sin p, -sin t) and (-sin p, cos p, 0)
    offset = np.column_stack(
        [
            along * cos_theta * cos_phi - across * sin_phi,
            along * cos_theta * sin_phi + across * cos_phi,
            -along * sin_theta,
        ]
    )
    hit = _crosses(SPHERE_CENTRE_MM + offset, direction, box)
    back = np.sqrt(sphere_mm**2 - radius[hit] ** 2)
    direction = direction[hit]
    position = SPHERE_CENTRE_MM + offset[hit] - back[:, None] * direction
    return Rays(position_mm=position, direction=direction, thrown=thrown)


def thin_outside(
    rng: np.random.Generator, rays: Rays, share: float, region: FullRegion = "fiducial"
) -> tuple[Rays, FloatArray]:
    """Keep all rays of a region and a share of the others, these with a weight.

    Russian roulette on geometry: sums of weights are unbiased, and most of the simulation's time goes
    to the events that an analysis selects. The region is 20 mm wider than that of the analysis: of 65 000
    selected fiducial electrons and 8 000 protons, two protons came from outside it.

    Args:
        rng: Random generator.
        rays: The rays.
        share: Probability to keep a ray outside, 0 to 1.
        region: What is kept in full: rays through the fiducial square at the top and the bottom of the BGO
            (``fiducial``), at the top alone (``topfiducial``), at the top whatever the bottom (``both``).

    Returns:
        The rays kept (``thrown`` unchanged) and their weights, 1 or 1 / share, shape (n,).
    """
    top, bottom = (np.abs(rays.at_depth(z)[:, :2]).max(axis=1) for z in (BGO_TOP_MM, BGO_BOTTOM_MM))
    inside = top < FIDUCIAL_HALF_WIDTH_MM + _MARGIN_MM
    if region == "fiducial":
        inside &= bottom < FIDUCIAL_HALF_WIDTH_MM + _MARGIN_MM
    elif region == "topfiducial":
        inside &= bottom > FIDUCIAL_HALF_WIDTH_MM - _MARGIN_MM
    kept = inside | (rng.random(len(inside)) < share)
    weight = np.where(inside, 1.0, 1.0 / share if share else 0.0)[kept]
    return Rays(rays.position_mm[kept], rays.direction[kept], rays.thrown), weight


def simulated_rays(
    rng: np.random.Generator, thrown: int, share: float, region: FullRegion
) -> tuple[Rays, FloatArray]:
    """Thrown rays through the trigger layers, thinned; arguments and results of :func:`thin_outside`."""
    return thin_outside(rng, isotropic_rays(rng, thrown, TRIGGER_BOX), share, region)


def log_uniform_energies(
    rng: np.random.Generator, n: int, e_min_gev: float, e_max_gev: float
) -> FloatArray:
    """Energies distributed as E^-1, the generation spectrum of the Monte Carlo; shape (n,), GeV."""
    return np.asarray(e_min_gev * (e_max_gev / e_min_gev) ** rng.random(n))


def spectrum_energies(
    rng: np.random.Generator, n: int, spectrum: Spectrum, e_min_gev: float, e_max_gev: float
) -> FloatArray:
    """Energies distributed as a model spectrum.

    The cumulative is inverted on 500 energies per decade with a local power law in between, which is
    exact for a power law and good to 1e-4 of the energy at the breaks.

    Args:
        rng: Random generator.
        n: How many.
        spectrum: Model spectrum.
        e_min_gev: Lower limit.
        e_max_gev: Upper limit.

    Returns:
        Shape (n,), GeV.
    """
    steps = max(2, math.ceil(500 * math.log10(e_max_gev / e_min_gev)))
    grid = np.geomspace(e_min_gev, e_max_gev, steps + 1)
    content = spectrum.integral(grid[:-1], grid[1:])
    cumulative = np.concatenate([[0.0], np.cumsum(content)])
    u = rng.random(n) * cumulative[-1]
    cell = np.clip(np.searchsorted(cumulative, u, side="right") - 1, 0, steps - 1)
    inside = (u - cumulative[cell]) / content[cell]
    log_flux = np.log(spectrum.flux(grid))
    power = (np.diff(log_flux) / np.diff(np.log(grid)) + 1.0)[cell]
    ratio = (grid[1:] / grid[:-1])[cell]
    steep = np.where(np.abs(power) > 1e-6, power, 1e-6)
    stretch = np.log1p(inside * np.expm1(steep * np.log(ratio))) / steep
    return np.asarray(np.clip(grid[cell] * np.exp(stretch), e_min_gev, e_max_gev))


def _crosses(point: FloatArray, direction: FloatArray, box: Box) -> npt.NDArray[np.bool_]:
    """Whether infinite lines cross the box (the slab method), shape (n,)."""
    w = box.half_width_mm
    near = np.full(len(point), -np.inf)
    far = np.full(len(point), np.inf)
    for axis, (low, high) in enumerate(((-w, w), (-w, w), (box.z_min_mm, box.z_max_mm))):
        # a ray parallel to the slab would divide by zero
        slope = np.where(np.abs(direction[:, axis]) > 1e-12, direction[:, axis], 1e-12)
        first, second = (low - point[:, axis]) / slope, (high - point[:, axis]) / slope
        np.maximum(near, np.minimum(first, second), out=near)
        np.minimum(far, np.maximum(first, second), out=far)
    return near < far
