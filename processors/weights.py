"""Weights of simulated events: from a generated sample to events per second of a target flux."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from processors.geometry import GENERATION_RADIUS_M
from processors.spectrum import Spectrum

__all__ = ["Generated", "exposure_density", "rate_weights"]

Values = npt.NDArray[Any]


class Generated(BaseModel):
    """How the events of one file were generated.

    Attributes:
        events: Primaries thrown, whether or not they left a trace in the file.
        e_min_gev: Lowest kinetic energy.
        e_max_gev: Highest kinetic energy.
        index: Spectral index of the thrown energies, -1 for E^-1.
        radius_m: Radius of the half sphere from which they start, isotropic and downwards.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    events: int = Field(ge=0)
    e_min_gev: float = Field(gt=0)
    e_max_gev: float = Field(gt=0)
    index: float = -1.0
    radius_m: float = Field(default=GENERATION_RADIUS_M, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Generated:
        if not self.e_max_gev > self.e_min_gev:
            msg = f"e_max_gev ({self.e_max_gev}) must be above e_min_gev ({self.e_min_gev})"
            raise ValueError(msg)
        return self

    @property
    def etendue_m2sr(self) -> float:
        """Acceptance of the generation surface, 2 pi^2 R^2 (37.70 m² sr for R = 1.382 m)."""
        return 2 * math.pi**2 * self.radius_m**2


def exposure_density(energy_gev: Values, generated: Sequence[Generated]) -> Values:
    """Generated primaries per GeV and per m² sr of the generation surface, summed over samples.

    Samples that overlap in energy add up, which is their correct stitching.

    Args:
        energy_gev: True kinetic energies, shape (n,).
        generated: The samples.

    Returns:
        GeV⁻¹ m⁻² sr⁻¹, shape (n,); 0 outside every sample.
    """
    e = np.asarray(energy_gev, np.float64)
    density = np.zeros_like(e)
    for sample in generated:
        low, high, g = sample.e_min_gev, sample.e_max_gev, sample.index
        norm = math.log(high / low) if g == -1 else (high ** (g + 1) - low ** (g + 1)) / (g + 1)
        # Energies are stored as 32-bit MeV: the edges get the room of that rounding.
        inside = (e >= low * (1 - 1e-6)) & (e <= high * (1 + 1e-6))
        density[inside] += sample.events / sample.etendue_m2sr * e[inside] ** g / norm
    return density


def rate_weights(
    energy_gev: Values, weight: Values, generated: Sequence[Generated], target: Spectrum
) -> Values:
    """Events per second of livetime that each simulated event stands for under a target flux.

    Sum over selected events of ``weight * flux(E) / (dN_gen/dE/dG)``. Divided by the integral of the
    flux over a bin of true energy this is the acceptance in m² sr, which for one E^-1 sample is the
    collaboration's A = 2 pi² R² N_pass / N_gen.

    Args:
        energy_gev: True kinetic energies, shape (n,).
        weight: Weights of the file (importance sampling), shape (n,).
        generated: All samples of this kind.
        target: Flux model, GeV⁻¹ m⁻² s⁻¹ sr⁻¹.

    Returns:
        s⁻¹, shape (n,); NaN where an energy lies outside every sample.
    """
    density = exposure_density(energy_gev, generated)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(density > 0, weight * target.flux(energy_gev) / density, np.nan)
