"""The sections of a run card that decide what is made of the histograms: cut, fit, flux, errors, break.

They stand in the card of the run, travel with its histogram file, and can be replaced later by another card
without running again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from processors.exceptions import CreError, sentences
from processors.omega import Strategy

__all__ = [
    "AnalysisCard",
    "BreakSection",
    "CardError",
    "CutRule",
    "FitSection",
    "FluxSection",
    "ScoreSection",
    "StabilitySection",
    "Strict",
    "SystematicsSection",
    "analysis_card",
    "extremes",
]

Steps = float | tuple[tuple[float, float], ...]
Order = int | Literal["auto"] | None


class CardError(CreError):
    """A run card cannot be read or has a wrong entry."""


class Strict(BaseModel):
    """A section: unknown entries are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class CutRule(Strict):
    """A cut that is chosen from the simulation, one number per energy bin.

    Either at a fixed efficiency of the electrons, or where the expected relative error of the flux is
    smallest (``best``).
    """

    efficiency: float | None = Field(default=None, gt=0, lt=1)
    best: bool = False

    @model_validator(mode="after")
    def _one(self) -> CutRule:
        if (self.efficiency is None) == (not self.best):
            msg = "a cut rule is 'efficiency: 0.95' or 'best: true'"
            raise ValueError(msg)
        return self


class ScoreSection(Strict):
    """Which score, its cut and the proton control region, in units of the score.

    ``strategy`` says how omega combines the networks. Cut and borders are a number or steps
    ``[[energy_gev, number], …]``; the cut may also be a rule.
    """

    name: str = "zeta"
    strategy: Strategy = "logistic"
    cut: Steps | CutRule
    control: tuple[Steps, Steps]

    @model_validator(mode="after")
    def _sensible(self) -> ScoreSection:
        low, high = (extremes(border) for border in self.control)
        top = (math.inf, math.inf) if isinstance(self.cut, CutRule) else extremes(self.cut)
        if not (low[1] < high[0] and high[1] <= top[0]):
            msg = (
                f"the control region {list(self.control)} must ascend and end at or below the "
                f"cut {self.cut}"
            )
            raise ValueError(msg)
        return self


def extremes(value: Steps) -> tuple[float, float]:
    """Lowest and highest number of steps."""
    numbers = [value] if isinstance(value, int | float) else [v for _, v in value]
    return min(numbers), max(numbers)


class FitSection(Strict):
    """How the templates are fitted; see :class:`analysis.templatefit.FitSettings`."""

    method: Literal["simultaneous", "smooth", "per_bin"] = "simultaneous"
    shift_order: Order = 1
    width_order: int | None = None
    electron_order: int | None = None
    e0_gev: float = Field(default=1000.0, gt=0)
    window: tuple[Steps | None, Steps | None] = (None, None)
    clamped: bool = True
    min_effective: float = Field(default=200.0, gt=0)

    @field_validator("shift_order", "width_order", "electron_order", mode="before")
    @classmethod
    def _none(cls, order: Any) -> Any:
        return None if order == "none" else order


class FluxSection(Strict):
    """How the flux is made of the histograms; see :class:`analysis.fluxsettings.FluxSettings`."""

    method: Literal["fit", "sideband"] = "fit"
    migration: Literal["auto", "bin_by_bin", "folding", "none"] = "auto"
    efficiency_correction: Steps = 1.0
    efficiency_correction_error: Steps = 0.0
    index: float = -3.0
    ul_level: float = Field(default=0.95, gt=0, lt=1)


class SystematicsSection(Strict):
    """Systematic errors: relative ones, what is varied, and files with other simulation.

    Attributes:
        acceptance: Relative error of the acceptance beyond the statistics of the simulation.
        livetime: Relative error of the livetime.
        energy_scale: Relative error of the energy scale.
        cut_efficiency: The cut is moved so far that its efficiency changes by this relative amount; 0: not.
        shift_model: Refit with the shift one order higher, with a free width and through single bins.
        template_shape: Number of templates drawn from the parametrisation of the shapes; 0: none.
        bgo: Compare with the other BGO reconstruction, if the file has one.
        edge: Compare with the edge cut off.
        proton_spectra: Use the proton templates filled with other spectra, if the file has them.
        files: Name of a source to a histogram file whose simulation replaces that of the run, such as
            ``hadronic_model`` or ``calibration``; relative to the card.
    """

    acceptance: float = Field(default=0.0, ge=0, lt=1)
    livetime: float = Field(default=0.0, ge=0, lt=1)
    energy_scale: float = Field(default=0.0, ge=0, lt=1)
    cut_efficiency: float = Field(default=0.1, ge=0, lt=1)
    shift_model: bool = True
    template_shape: int = Field(default=20, ge=0)
    bgo: bool = True
    edge: bool = True
    proton_spectra: bool = True
    files: dict[str, Path] = Field(default_factory=dict)


class BreakSection(Strict):
    """How ``cre break`` fits the flux; its options go before these. Without a method: all three."""

    e_min_gev: float = Field(default=55.0, gt=0)
    e_max_gev: float = Field(default=2630.0, gt=0)
    left_out_gev: tuple[float, ...] = ()
    smoothness: float = Field(default=0.1, gt=0)
    e0_gev: float = Field(default=100.0, gt=0)
    nuisances: int = Field(default=6, ge=0)
    method: Literal["quadrature", "nuisance", "poisson"] | None = None


class StabilitySection(Strict):
    """Energies in which the flux is followed in time: the coarse bins that lie inside."""

    e_min_gev: float = Field(default=54.0, gt=0)
    e_max_gev: float = Field(default=1000.0, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> StabilitySection:
        if not self.e_min_gev < self.e_max_gev:
            msg = f"e_min_gev {self.e_min_gev:g} must be below e_max_gev {self.e_max_gev:g}"
            raise ValueError(msg)
        return self


class AnalysisCard(BaseModel):
    """The sections for the histograms; those for the run may stand beside them and are not looked at."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    score: ScoreSection | None = None
    fit: FitSection = FitSection()
    flux: FluxSection = FluxSection()
    systematics: SystematicsSection = SystematicsSection()
    break_: BreakSection = Field(default=BreakSection(), alias="break")
    stability: StabilitySection = StabilitySection()


#: Entries of a card that are for the run and not looked at here.
RUN_SECTIONS = frozenset({
    "name", "manifest", "output", "bgo_reconstruction", "regions", "period", "cuts", "models", "energy",
    "inference", "calibration", "also", "target", "proton_spectra", "extended_bins", "chunk_size",
    "max_nonfinite_fraction",
})  # fmt: skip


def _own() -> set[str]:
    return {field.alias or name for name, field in AnalysisCard.model_fields.items()}


def analysis_card(path: Path | None, meta: Mapping[str, Any]) -> AnalysisCard:
    """The sections of a card, or those that a histogram file carries.

    Args:
        path: Card; None: that of the file.
        meta: Metadata of the histogram file.

    Returns:
        The sections; without any, the defaults.

    Raises:
        CardError: With the entry and what is wrong with it.
    """
    where = "the card in the histogram file" if path is None else f"card {str(path)!r}"
    try:
        content = (
            meta.get("card") or {} if path is None else yaml.safe_load(path.read_text("utf-8"))
        )
        card = AnalysisCard.model_validate(content)
        unknown = sorted(set(content) - RUN_SECTIONS - _own())
        if unknown:
            msg = f"{where} has the unknown entries {', '.join(map(str, unknown))}"
            raise CardError(msg)
    except OSError as err:
        msg = f"{where} cannot be read ({err.strerror})"
        raise CardError(msg) from err
    except yaml.YAMLError as err:
        msg = f"{where} is no YAML: {err}"
        raise CardError(msg) from err
    except ValidationError as err:
        msg = f"{where}:\n  {sentences(err)}"
        raise CardError(msg) from err
    if path is None:
        return card
    folder = path.resolve().parent
    files = {name: folder / file for name, file in card.systematics.files.items()}
    return card.model_copy(
        update={"systematics": card.systematics.model_copy(update={"files": files})}
    )
