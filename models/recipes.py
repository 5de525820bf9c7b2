"""Recipes: everything that decides what a training gives, in one YAML file per network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from processors.exceptions import CreError, sentences
from processors.features import DEFAULT_VARIABLES, TOPFIDUCIAL_VARIABLES, VARIABLES
from processors.shippedfile import shipped_names, shipped_text

__all__ = ["Recipe", "RecipeError", "TrainingSection", "load_recipe", "shipped_recipes"]

#: Names that a recipe may give in place of a list of variables.
VARIABLE_LISTS: Mapping[str, tuple[str, ...]] = {
    "default": DEFAULT_VARIABLES,
    "topfiducial": TOPFIDUCIAL_VARIABLES,
}


class RecipeError(CreError):
    """A recipe cannot be read or has a wrong entry."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainingSection(_Strict):
    """How a network is trained.

    Attributes:
        seed: Seed of the initial weights, the split, the mini-batches and the mirroring.
        epochs: Epochs of the learning-rate schedule (one cycle).
        events_per_epoch: Events drawn per epoch.
        batch: Events per step.
        learning_rate: Peak of the schedule.
        weight_decay: Of AdamW.
        weight_power: Events are drawn in proportion to (sampling weight)^power within a class and an
            energy bin: 1 is the physical mixture, 0 favours the electron-like protons that a tail
            sampling keeps.
        bins_per_decade: Bins of log10 E_corr in which both classes are drawn equally often.
        full_bin: A bin with fewer events is drawn less often, in proportion.
        margin: Events are also taken from this factor beyond the energy range.
        validation_share: Share of the events held out.
        validation_events: At most so many of them are looked at after each epoch.
        ema: Decay per step of the running mean of the weights, which is what is kept.
        patience: Training stops after so many epochs without a lower validation loss.
        mirror: Mirror the x and the y view at random, which the detector allows.
        smearing: Strength of the random smearing of the variables (:mod:`models.smearing`); 0 for none.
        bfloat16_share: Share of the epochs, the first ones, that multiply in bfloat16: twice as fast on
            GPUs and on CPUs with AVX-512 BF16 or AMX, slow on others. The last ones see full precision.
    """

    seed: int = Field(default=1, ge=0)
    epochs: int = Field(default=12, ge=1)
    events_per_epoch: int = Field(default=400_000, ge=1)
    batch: int = Field(default=1024, ge=2)
    learning_rate: float = Field(default=4e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    weight_power: float = Field(default=0.5, ge=0, le=1)
    bins_per_decade: int = Field(default=10, ge=1)
    full_bin: int = Field(default=1000, ge=1)
    margin: float = Field(default=1.15, ge=1)
    validation_share: float = Field(default=0.1, gt=0, lt=1)
    validation_events: int = Field(default=60_000, ge=1)
    ema: float = Field(default=0.998, ge=0, lt=1)
    patience: int = Field(default=6, ge=1)
    mirror: bool = True
    smearing: float = Field(default=0.0, ge=0)
    bfloat16_share: float = Field(default=0.0, ge=0, le=1)


class Recipe(_Strict):
    """A network and how it is made.

    Attributes:
        name: Name of the network, and of its bundle.
        version: Version of the bundle.
        network: ``dnn``, ``cnn``, ``hamf`` or ``energy``.
        region: Region whose events it is trained for.
        energy_range_gev: Corrected energies that it will serve.
        variables: Columns of the input ``variables``.
        options: Widths and dropout of the network.
        calibration: Table applied to the simulated events before training, or none.
        training: How it is trained.
        simulation: Options of ``cre simulate``, one line per sample, for a training without ntuples.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    version: str = "1"
    network: Literal["dnn", "cnn", "hamf", "energy"]
    region: Literal["fiducial", "topfiducial"]
    energy_range_gev: tuple[float, float]
    variables: tuple[str, ...] = Field(min_length=1)
    options: dict[str, Any] = {}
    calibration: str | None = None
    training: TrainingSection = TrainingSection()
    simulation: tuple[str, ...] = ()

    @field_validator("variables", mode="before")
    @classmethod
    def _named_list(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value not in VARIABLE_LISTS:
                msg = f"{value!r} is no list of variables; known: {', '.join(VARIABLE_LISTS)}"
                raise ValueError(msg)
            return VARIABLE_LISTS[value]
        return value

    @field_validator("variables")
    @classmethod
    def _known(cls, names: Sequence[str]) -> Sequence[str]:
        unknown = [n for n in names if n not in VARIABLES]
        if unknown:
            msg = f"unknown variable {unknown[0]!r}; 'processors.features.VARIABLES' lists them"
            raise ValueError(msg)
        if len(set(names)) != len(names):
            msg = "a variable stands more than once"
            raise ValueError(msg)
        return names

    @model_validator(mode="after")
    def _ascending(self) -> Recipe:
        low, high = self.energy_range_gev
        if not 0 < low < high:
            msg = f"energy_range_gev must ascend from above 0, got {[low, high]}"
            raise ValueError(msg)
        return self

    @property
    def task(self) -> Literal["classifier", "energy"]:
        """What the network answers."""
        return "energy" if self.network == "energy" else "classifier"

    def training_hash(self, sample_identity: str) -> str:
        """sha256 of the resolved recipe, its seed included, and of the training sample."""
        content = self.model_dump(mode="json", exclude={"simulation"})
        text = json.dumps([content, sample_identity], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def simulation_hash(self) -> str:
        """sha256 of the simulated samples, the same for recipes that share them."""
        return hashlib.sha256(json.dumps(list(self.simulation)).encode()).hexdigest()


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the program."""
    return shipped_names("models", "recipes")


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe.

    Args:
        name_or_path: Name of a shipped recipe or a path to one's own.

    Returns:
        The validated recipe.

    Raises:
        RecipeError: If the file does not exist or has a wrong entry.
    """
    text = shipped_text(name_or_path, "models", "recipes", what="recipe", error=RecipeError)
    try:
        return Recipe.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as err:
        msg = f"recipe {str(name_or_path)!r} is no YAML: {err}"
        raise RecipeError(msg) from err
    except ValidationError as err:
        msg = f"recipe {str(name_or_path)!r}:\n  {sentences(err)}"
        raise RecipeError(msg) from err
