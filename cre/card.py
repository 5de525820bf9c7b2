"""The run card: everything that decides what a run computes, in one YAML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from processors.chain import Cut, check_order, make_cut
from processors.exceptions import CreError, SelectionError, sentences
from processors.manifest import FileEntry
from processors.processor import MC_KINDS, RunConfig
from processors.score import SCORES
from processors.spectrum import parse

__all__ = ["Card", "CardError", "read_card", "run_config"]

Region = Literal["fiducial", "topfiducial"]


class CardError(CreError):
    """A run card cannot be read or has a wrong entry."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class ScoreSection(_Strict):
    """Which score, its cut and the proton control region, in units of the score."""

    name: str = "zeta"
    cut: float
    control: tuple[float, float]

    @model_validator(mode="after")
    def _sensible(self) -> ScoreSection:
        if self.name not in SCORES:
            msg = f"unknown score {self.name!r}; known: {', '.join(SCORES)}"
            raise ValueError(msg)
        if not self.control[0] < self.control[1] <= self.cut:
            msg = (
                f"the control region {list(self.control)} must ascend and end at or below the "
                f"cut {self.cut}"
            )
            raise ValueError(msg)
        return self


class Card(_Strict):
    """A run card, validated.

    Attributes:
        name: Name of the analysis.
        manifest: Path of the manifest.
        output: Folder for the products.
        bgo_reconstruction: Which reconstruction's files are read.
        regions: Regions to fill.
        cuts: Ordered chain: a name, or a name with its values.
        score: Score, cut and control region.
        target: Spectra to which simulated electrons and protons are reweighted.
        extended_bins: Bins to 18 TeV.
        chunk_size: Events per chunk.
        max_nonfinite_fraction: A run with a larger share of NaN or infinite values stops, exit code 2.
    """

    name: str
    manifest: Path
    output: Path
    bgo_reconstruction: Literal["new", "old"] = "new"
    regions: tuple[Region, ...] = ("fiducial", "topfiducial")
    cuts: tuple[Any, ...]
    score: ScoreSection
    target: dict[str, dict[str, Any]]
    extended_bins: bool = False
    chunk_size: int = Field(default=100_000, ge=1)
    max_nonfinite_fraction: float = Field(default=0.0, ge=0, le=1)

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

    @model_validator(mode="after")
    def _ordered(self) -> Card:
        try:
            check_order(self.cuts, self.regions)
        except SelectionError as err:
            raise ValueError(str(err)) from err
        return self

    def as_dict(self) -> dict[str, Any]:
        """The resolved card as plain types, for provenance."""
        plain = self.model_dump(mode="json", exclude={"cuts"})
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
    folder = path.resolve().parent
    return card.model_copy(
        update={"manifest": folder / card.manifest, "output": folder / card.output}
    )


def run_config(card: Card, files: Sequence[FileEntry]) -> RunConfig:
    """What the processor needs, from a card and the files that it will read.

    Args:
        card: The card.
        files: Files of the manifest with the card's reconstruction.

    Returns:
        The configuration of the processor.
    """
    return RunConfig(
        cuts=card.cuts,
        regions=card.regions,
        score=card.score.name,
        generated={
            kind: [
                f.generated.model_dump()
                for f in files
                if f.kind == kind and f.generated is not None
            ]
            for kind in MC_KINDS
        },
        target=card.target,
        extended_bins=card.extended_bins,
    )
