"""How a flux is measured: every choice in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from numpy.typing import ArrayLike

from analysis.migration.correction import Way
from analysis.perenergy import PerEnergy
from analysis.selection import Edge
from analysis.templatefit import FitSettings

__all__ = ["FluxSettings"]


@dataclass(frozen=True)
class FluxSettings:
    """How a flux is measured.

    Attributes:
        region: ``fiducial`` or ``topfiducial``.
        edge: edge cut on or off.
        bgo: BGO reconstruction; default the only one, ``new`` if there are several.
        score_name: one of the further scores of the file; default the card's. Needs ``cut`` and
            ``control``.
        method: background from the template fit or from the proton control region (``sideband``).
        fit: how the templates are fitted; its energies are cut to those of the measurement.
        cut: score cut on bin edges, one number, steps in energy or one per bin; default that of the file.
        cut_efficiency: choose the cut of each energy bin by this efficiency of the electrons, or ``best``: by
            the smallest expected error of the flux; along a curve in log10 E, from simulation and
            expectation alone (:mod:`analysis.cutscan`). Goes before ``cut``.
        control: lower and upper border of the control region, each as the cut; default that of the file.
        electrons_in_control: subtract electrons from the control region.
        migration: correction for events that change their energy bin: ``bin_by_bin`` factors, forward
            ``folding``, ``none``; ``auto``: bin by bin for fiducial, folding for top-fiducial.
        efficiency_correction: data over simulation of the efficiency, one number or steps in energy.
        efficiency_correction_error: its error.
        index: spectral index of the reference energy.
        ul_level: confidence level of the upper limit.
        e_min_gev: bins that start below fail, as do those below ``meta["complete_above_gev"]``, the
            energy from which skimmed data are complete.
        e_max_gev: bins that end above fail. Bins beyond the generated electrons fail in any case.
        allow_incomplete: accept histograms marked incomplete (their livetime must be that of the
            files that were read); the table's metadata keeps ``complete: false``.
    """

    region: str = "fiducial"
    edge: Edge = "on"
    bgo: str | None = None
    score_name: str | None = None
    method: Literal["fit", "sideband"] = "fit"
    fit: FitSettings = field(default_factory=FitSettings)
    cut: PerEnergy | ArrayLike | None = None
    cut_efficiency: float | Literal["best"] | None = None
    control: tuple[PerEnergy | ArrayLike, PerEnergy | ArrayLike] | None = None
    electrons_in_control: bool = False
    migration: Way = "auto"
    efficiency_correction: PerEnergy = 1.0
    efficiency_correction_error: PerEnergy = 0.0
    index: float = -3.0
    ul_level: float = 0.95
    e_min_gev: float | None = None
    e_max_gev: float | None = None
    allow_incomplete: bool = False
