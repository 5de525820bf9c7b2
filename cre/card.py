"""The run card: everything that decides what a run computes, in one YAML file."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from cre.analysiscard import (
    BreakSection,
    CardError,
    CutRule,
    FitSection,
    FluxSection,
    ScoreSection,
    StabilitySection,
    Strict,
    SystematicsSection,
    extremes,
)
from models import catalogue
from processors.calibration import load_calibration, shipped_calibrations
from processors.chain import Cut, check_order, make_cut
from processors.exceptions import SelectionError, sentences
from processors.manifest import FileEntry
from processors.modelset import BATCH, CPU, Models, Source, load_models
from processors.period import Period
from processors.processor import KINDS, MC_KINDS, RunConfig
from processors.score import SCORES, score_axis
from processors.selections import energy_range
from processors.spectrum import parse

__all__ = ["Card", "CardError", "card_models", "read_card", "run_config", "shipped_card"]

Region = Literal["fiducial", "topfiducial"]
Reconstruction = Literal["new", "old"]


class InferenceSection(Strict):
    """How the networks run: execution providers of onnxruntime in order, and events per call."""

    providers: tuple[str, ...] = Field(default=CPU, min_length=1)
    batch: int = Field(default=BATCH, ge=1)


class EnergySection(Strict):
    """The network that estimates the energies of a region: a shipped name or a path, and a quality cut."""

    model: str
    max_sigma: float | None = Field(default=None, gt=0)


class Card(Strict):
    """A run card, validated.

    Attributes:
        name: Name of the analysis.
        manifest: Path of the manifest.
        output: Folder for the products.
        bgo_reconstruction: Which reconstructions' files are read, one or several.
        regions: Regions to fill.
        period: Part of the data, by dates or runs; None for all of the manifest.
        cuts: Ordered chain: a name, or a name with its values.
        models: Region to network to its files (names of shipped ones or paths); ``omega`` names the
            parameters that combine the networks.
        energy: Region to the network in whose energies its events are binned; default corrected energies.
        inference: How the networks run.
        calibration: Table for simulated events, a shipped name or a path; None for none.
        score: Score, cut and control region.
        also: Further scores to fill.
        target: Spectra to which simulated electrons and protons are reweighted.
        extended_bins: Bins to 18 TeV.
        chunk_size: Events per chunk.
        max_nonfinite_fraction: A run with a larger share of NaN or infinite values stops, exit code 2.
        proton_spectra: Name to a further spectrum of the protons, for systematic errors.
        fit: How the templates are fitted.
        flux: How the flux is made.
        systematics: Systematic errors.
        break_: How the spectral break is fitted; ``break`` in the file.
        stability: Which energies are followed in time.
    """

    name: str
    manifest: Path
    output: Path
    bgo_reconstruction: tuple[Reconstruction, ...] = Field(default=("new",), min_length=1)
    regions: tuple[Region, ...] = Field(default=("fiducial", "topfiducial"), min_length=1)
    period: Period | None = None
    cuts: tuple[Any, ...]
    models: dict[Region, dict[str, tuple[str, ...]]] = Field(default_factory=dict)
    energy: dict[Region, EnergySection] = Field(default_factory=dict)
    inference: InferenceSection = InferenceSection()
    calibration: str | None = None
    score: ScoreSection
    also: tuple[str, ...] = ()
    target: dict[str, dict[str, Any]]
    proton_spectra: dict[str, dict[str, Any]] = Field(default_factory=dict)
    extended_bins: bool = False
    chunk_size: int = Field(default=200_000, ge=1)
    max_nonfinite_fraction: float = Field(default=0.0, ge=0, le=1)
    fit: FitSection = FitSection()
    flux: FluxSection = FluxSection()
    systematics: SystematicsSection = SystematicsSection()
    break_: BreakSection = Field(default=BreakSection(), alias="break")
    stability: StabilitySection = StabilitySection()

    @field_validator("bgo_reconstruction", mode="before")
    @classmethod
    def _one_or_several(cls, entry: Any) -> Any:
        return [entry] if isinstance(entry, str) else entry

    @field_validator("bgo_reconstruction", mode="after")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            msg = f"{list(names)} names a reconstruction twice"
            raise ValueError(msg)
        return names

    @field_validator("models", mode="before")
    @classmethod
    def _lists_of_files(cls, models: Any) -> Any:
        if not isinstance(models, dict):
            return models
        return {
            region: {n: [f] if isinstance(f, str) else f for n, f in networks.items()}
            if isinstance(networks, dict)
            else networks
            for region, networks in models.items()
        }

    @field_validator("calibration", mode="before")
    @classmethod
    def _none(cls, name: Any) -> Any:
        return None if name == "none" else name

    @field_validator("cuts", mode="after")
    @classmethod
    def _cuts(cls, entries: Sequence[Any]) -> tuple[Cut, ...]:
        try:
            cuts = tuple(_cut(entry) for entry in entries)
        except SelectionError as err:
            raise ValueError(str(err)) from err
        return cuts

    @field_validator("target", mode="after")
    @classmethod
    def _targets(cls, target: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if sorted(target) != sorted(MC_KINDS):
            msg = f"target needs a spectrum for each of {', '.join(MC_KINDS)}"
            raise ValueError(msg)
        return {kind: parse(spectrum).to_dict() for kind, spectrum in target.items()}

    @field_validator("proton_spectra", mode="after")
    @classmethod
    def _spectra(cls, spectra: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name in spectra:
            if not name.isidentifier():
                msg = f"{name!r} is no name for a spectrum: use letters, digits and _"
                raise ValueError(msg)
        return {name: parse(spectrum).to_dict() for name, spectrum in spectra.items()}

    @model_validator(mode="after")
    def _ordered(self) -> Card:
        try:
            check_order(self.cuts, self.regions)
        except SelectionError as err:
            raise ValueError(str(err)) from err
        return self

    @model_validator(mode="after")
    def _scored(self) -> Card:
        if self.score.name in self.also:
            msg = f"'also' names {self.score.name!r}, which is the score already"
            raise ValueError(msg)
        axis = score_axis(self.score.name, self.score.strategy)
        top = axis.low if isinstance(self.score.cut, CutRule) else extremes(self.score.cut)[1]
        if not (axis.low <= extremes(self.score.control[0])[0] and top < axis.high):
            msg = (
                f"control region {list(self.score.control)} and cut {self.score.cut} must lie on the axis of "
                f"{self.score.name!r}, {axis.low:g} to {axis.high:g}"
            )
            raise ValueError(msg)
        for region in self.regions:
            known = [*SCORES, *self.models.get(region, {})]
            for name in self.scores:
                if name not in known:
                    msg = (
                        f"score {name!r} has no model for the {region} region (there is: "
                        f"{', '.join(known)}); name one under 'models'"
                    )
                    raise ValueError(msg)
        for region, networks in self.models.items():
            if len(networks.get("omega", ("one",))) != 1:
                msg = f"omega of the {region} region needs exactly one file"
                raise ValueError(msg)
        return self

    @property
    def scores(self) -> tuple[str, ...]:
        """The score, then the further ones."""
        return (self.score.name, *self.also)

    def energy_range_gev(self) -> tuple[float, float]:
        """Corrected energies of the events that pass the cut ``energy_range`` in every sample.

        Raises:
            CardError: If there is no such cut.
        """
        for cut in self.cuts:
            if cut.name == energy_range.__name__ and set(cut.kinds) >= set(KINDS):
                defaults = inspect.signature(energy_range).parameters
                low, high = (
                    float(cut.values.get(k, defaults[k].default)) for k in ("min_gev", "max_gev")
                )
                return low, high
        msg = (
            f"card {self.name!r}: networks are made for a range of energies; add the cut energy_range "
            "for all samples"
        )
        raise CardError(msg)

    def as_dict(self) -> dict[str, Any]:
        """The resolved card as plain types, for provenance."""
        plain = self.model_dump(mode="json", exclude={"cuts"}, by_alias=True)
        plain["cuts"] = [{c.name: {**c.values, "kinds": list(c.kinds)}} for c in self.cuts]
        return plain


def _cut(entry: Any) -> Cut:
    if isinstance(entry, str):
        return make_cut(entry)
    if isinstance(entry, dict) and len(entry) == 1:
        name, values = next(iter(entry.items()))
        if values is None or isinstance(values, dict):
            return make_cut(str(name), values)
    msg = f"a cut is a name or 'name: {{value: …}}', not {entry!r}"
    raise SelectionError(msg)


def shipped_card(region: str) -> Path:
    """The card with networks that comes with the program for a region."""
    name = "omega" if region == "fiducial" else region
    return Path(str(resources.files("cre.cards") / f"{name}.yaml"))


def read_card(path: str | Path) -> Card:
    """Read and check a card; its paths come back relative to the card's folder.

    Args:
        path: YAML file.

    Returns:
        The card.

    Raises:
        CardError: With the entry and what is wrong with it.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        card = Card.model_validate(content)
    except OSError as err:
        msg = f"card {str(path)!r} cannot be read ({err.strerror})"
        raise CardError(msg) from err
    except yaml.YAMLError as err:
        msg = f"card {str(path)!r} is no YAML: {err}"
        raise CardError(msg) from err
    except ValidationError as err:
        msg = f"card {str(path)!r}:\n  {sentences(err)}"
        raise CardError(msg) from err
    except ValueError as err:  # no UTF-8, or a date that does not exist
        msg = f"card {str(path)!r} is no YAML: {err}"
        raise CardError(msg) from err
    folder = path.resolve().parent
    return card.model_copy(
        update={
            "manifest": folder / card.manifest,
            "output": folder / card.output,
            "models": _absolute(card, folder),
            "energy": {
                region: one.model_copy(update={"model": _path(one.model, folder)})
                for region, one in card.energy.items()
            },
            "calibration": card.calibration
            if card.calibration in {None, *shipped_calibrations()}
            else str(folder / str(card.calibration)),
        }
    )


def _absolute(card: Card, folder: Path) -> dict[Region, dict[str, tuple[str, ...]]]:
    """Models with the paths relative to the card's folder; names of shipped models as they are."""
    return {
        region: {name: tuple(_path(f, folder) for f in files) for name, files in networks.items()}
        for region, networks in card.models.items()
    }


def _path(model: str, folder: Path) -> str:
    return model if model in catalogue.names() else str(folder / model)


def card_models(
    card: Card, *, scores: Sequence[str] | None = None, any_energy: bool = False
) -> Models:
    """The networks that a card names for its regions, read and checked.

    Args:
        card: The card.
        scores: Scores that are needed; default the card's, and its energies.
        any_energy: Do not ask that the networks cover all energies that the card lets pass.

    Returns:
        The networks that scores and energies need; none for the classical score alone.

    Raises:
        ModelError: If a model does not fit; see :func:`processors.modelset.load_models`.
        CardError: If the chain does not limit the energies.
    """
    wanted = tuple(card.scores if scores is None else scores)
    energy = {r: e for r, e in card.energy.items() if scores is None and r in card.regions}
    if set(wanted) <= set(SCORES) and not energy:
        return Models()
    files: dict[str, dict[str, list[Source]]] = {
        region: {
            name: [catalogue.find(f) for f in entries]
            for name, entries in card.models.get(region, {}).items()
            if name != "omega" or "omega" in wanted
        }
        for region in card.regions
    }
    omega: dict[str, Source] = {
        region: f.pop("omega")[0] for region, f in files.items() if "omega" in f
    }
    return load_models(
        files,
        omega,
        scores=wanted,
        energy={r: (catalogue.find(e.model), e.max_sigma) for r, e in energy.items()},
        strategy=card.score.strategy,
        energy_range_gev=None if any_energy else card.energy_range_gev(),
        providers=card.inference.providers,
        batch=card.inference.batch,
    )


def run_config(card: Card, files: Sequence[FileEntry]) -> RunConfig:
    """What the processor needs, from a card and the files that it will read.

    Args:
        card: The card.
        files: Files of the manifest with the card's reconstructions.

    Returns:
        The configuration of the processor.

    Raises:
        CreError: If a model or the calibration cannot be used.
    """
    calibration = None if card.calibration is None else load_calibration(card.calibration)
    return RunConfig(
        cuts=card.cuts,
        regions=card.regions,
        score=card.score.name,
        also=card.also,
        models=card_models(card),
        calibration=None if calibration is None else calibration.model_dump(mode="json"),
        bgo=card.bgo_reconstruction,
        generated={
            bgo: {
                kind: [
                    f.generated.model_dump()
                    for f in files
                    if f.kind == kind and f.bgo_reconstruction == bgo and f.generated is not None
                ]
                for kind in MC_KINDS
            }
            for bgo in card.bgo_reconstruction
        },
        target=card.target,
        extended_bins=card.extended_bins,
        proton_spectra=card.proton_spectra,
    )
