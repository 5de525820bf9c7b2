"""Glue of ``cre evaluate``: which scores, which files, and the Geant4 step."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from analysis.plots.networks import (
    Distribution,
    plot_distributions,
    plot_efficiencies,
    plot_energy_quality,
)
from cre.card import Card, CardError, card_models
from cre.evaluationfigures import energy_curve
from models import catalogue
from models.evaluation import EvaluationError
from models.holdout import EnergyEstimates, Holdout, score_holdout
from models.performance import Performance
from models.reference import (
    EnergyCut,
    ReferenceComparison,
    ReferenceEnergy,
    compare_reference,
    energy_rows,
    reference_energy,
    reference_rows,
)
from processors.bundle import BundleRef, read_bundle
from processors.calibration import Calibration
from processors.modelset import Models
from processors.score import ScoreAxis
from simulation.geant4 import write_reference

__all__ = ["Geant4", "chosen", "energy_bundles", "ntuple_files", "write_csv"]

_MAIN = 0.9
_ENERGY = "energy_topfiducial"


def chosen(
    card: Card, region: str, networks: Mapping[str, Sequence[str]], scores: Sequence[str]
) -> tuple[Card, tuple[str, ...], Models]:
    """The card for one region with further networks, the scores to evaluate, and the networks.

    Args:
        card: The card.
        region: ``fiducial`` or ``topfiducial``.
        networks: Network to files or shipped names, in place of or beside those of the card.
        scores: Scores; default zeta, every network and, if the card names its parameters, omega.

    Returns:
        The card, the names, the networks.

    Raises:
        CreError: A score has no network, or a network cannot be used.
    """
    own = {n: tuple(str(Path(f).resolve()) if Path(f).is_file() else f for f in files)
           for n, files in networks.items()}  # fmt: skip
    models: dict[str, Any] = {**card.models.get(region, {}), **own}  # type: ignore[call-overload]
    members = [n for n in models if n != "omega"]
    known = ["zeta", *members, *(["omega"] if "omega" in models else [])]
    for name in scores:
        if name not in known:
            msg = f"score {name!r} has no model for the {region} region (there is: {', '.join(known)})"
            raise CardError(msg)
    names = tuple(dict.fromkeys(scores)) if scores else tuple(known)
    if "omega" not in names:  # then only networks that are evaluated themselves are needed
        models = {n: files for n, files in models.items() if n in names}
    one = card.model_copy(update={"regions": (region,), "models": {region: models}})
    return one, names, card_models(one, scores=names, any_energy=True)


def energy_bundles(names: Sequence[str], region: str) -> list[BundleRef]:
    """Files of the energy network: those named, else the shipped one if it is of this region.

    Args:
        names: Shipped names or paths.
        region: The region.

    Returns:
        The files in order of energy; none for a region without.

    Raises:
        EvaluationError: A model is of another region or estimates no energy.
    """
    wanted = list(names)
    if not wanted and region == "topfiducial" and _ENERGY in catalogue.names():
        wanted = [_ENERGY]
    refs = []
    for name in wanted:
        path, expected = catalogue.find(name)
        ref = read_bundle(path, sha256=expected)
        if ref.bundle.task != "energy" or ref.bundle.region != region:
            msg = (
                f"model {name!r} is for the {ref.bundle.task} in the {ref.bundle.region} region; the "
                f"energy network of the {region} region is needed"
            )
            raise EvaluationError(msg)
        refs.append(ref)
    return sorted(refs, key=lambda ref: ref.bundle.energy_range_gev)


def ntuple_files(paths: Sequence[Path]) -> list[Path]:
    """Files, and the ``*.root`` files of folders, in order and each once.

    Raises:
        EvaluationError: A folder has none, or a path does not exist.
    """
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("*.root")) if path.is_dir() else [path]
        if not inside or not inside[0].exists():
            msg = f"{path}: no such file, or a folder without *.root files"
            raise EvaluationError(msg)
        found += inside
    return list({p.resolve(): p for p in found}.values())


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of one set of keys under a temporary name, then rename; None is an empty field."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)


class Geant4:
    """The Geant4 events beside their simulated twins: files, numbers, figures.

    For the top-fiducial region the events are moved sideways; then the twins moved likewise are compared with
    those simulated in the new place as well, under the part ``closure``.

    Args:
        folder: Folder of the evaluation; the ntuples go into ``geant4`` below it.
        region: ``fiducial`` or ``topfiducial``.
        card: The card, for its cuts.
        models: The networks.
        calibration: Applied to simulated events.
        energy_model: Files of the energy network.
        overwrite: Replace files that exist.
    """

    def __init__(
        self,
        folder: Path,
        region: Literal["fiducial", "topfiducial"],
        card: Card,
        models: Models,
        calibration: Calibration | None,
        *,
        energy_model: Sequence[BundleRef] = (),
        overwrite: bool,
    ) -> None:
        self._folder: Path = folder
        self._region: Literal["fiducial", "topfiducial"] = region
        self._card, self._models, self._energy_model = card, models, energy_model
        self._calibration, self._overwrite = calibration, overwrite
        self._scored: dict[tuple[str, str], tuple[Holdout, Holdout]] = {}
        self._direct: dict[tuple[str, str], Holdout] = {}

    def compare(
        self, result: Performance, names: Sequence[str], seed: int
    ) -> list[ReferenceComparison]:
        """Write and score the events and compare them at the 90 % cuts of an evaluation.

        Args:
            result: The evaluation on an independent sample, which sets the cuts.
            names: Scores.
            seed: Seed of the electronics and of the twins.

        Returns:
            Comparisons of full, hybrid and all events of both kinds.
        """
        cuts = {name: EnergyCut.of(result.rejections[name, _MAIN]) for name in names}
        for pair in write_reference(
            self._folder / "geant4", region=self._region, seed=seed, overwrite=self._overwrite
        ):
            scored = [
                score_holdout(
                    [path], self._region, self._card.cuts, self._models, names,
                    calibration=self._calibration,
                    energy_model=self._energy_model if pair.kind == "electron" else (),
                )
                for path in pair.paths
            ]  # fmt: skip
            self._scored[pair.kind, pair.part] = (scored[0], scored[1])
            if pair.direct is not None:
                self._direct[pair.kind, pair.part] = scored[2]
        for kind in ("electron", "proton"):
            parts = [self._scored[kind, part] for part in ("full", "hybrid")]
            self._scored[kind, "all"] = (_joined(p[0] for p in parts), _joined(p[1] for p in parts))
            if self._direct:
                self._direct[kind, "all"] = _joined(
                    self._direct[kind, part] for part in ("full", "hybrid")
                )
        comparisons = [
            c
            for (kind, part), (there, here) in self._scored.items()
            for c in compare_reference(there, here, cuts, kind, part)
        ]
        for kind, part in self._direct:
            if part == "all":
                moved = self._scored[kind, part][1]
                comparisons += compare_reference(
                    moved, self._direct[kind, part], cuts, kind, "closure"
                )
        return comparisons

    def energies(self) -> list[ReferenceEnergy]:
        """Quality of the energies of electrons, after :meth:`compare`; none without an energy network."""
        out = []
        for part in ("full", "hybrid", "all"):
            there, here = self._scored["electron", part]
            samples = {"Geant4": there, "simulation": here}
            if self._direct:
                samples = {"Geant4 moved": there, "simulation moved": here}
                samples["simulation"] = self._direct["electron", part]
            out += [
                reference_energy(sample.energy, part, name)
                for name, sample in samples.items()
                if sample.energy is not None
            ]
        return out

    def write(
        self,
        comparisons: list[ReferenceComparison],
        energies: Sequence[ReferenceEnergy],
        axes: Mapping[str, ScoreAxis],
        folder: Path,
    ) -> list[Path]:
        """Write the tables and the figures.

        Args:
            comparisons: Of :meth:`compare`.
            energies: Of :meth:`energies`.
            axes: Score to its histogram axis.
            folder: Where the files go.

        Returns:
            Paths of the tables and of the figures.
        """
        out = [folder / "geant4.csv"]
        write_csv(out[0], reference_rows(comparisons))
        if energies:
            out.append(folder / "geant4_energy.csv")
            write_csv(out[1], energy_rows(energies))
        moved = ", moved" if self._direct else ""
        common: dict[str, Any] = {"synthetic": True, "overwrite": self._overwrite}
        for name, axis in axes.items():
            panels = {
                f"{kind}s, {part}": {
                    f"{kind}s": _histogram(self._scored[kind, part][1], name, axis),
                    f"{kind}s, Geant4": _histogram(self._scored[kind, part][0], name, axis),
                }
                for part in ("full", "hybrid")
                for kind in ("electron", "proton")
            }
            notes = {
                f"{c.kind}s, {c.part}": f"KS: D = {c.test.distance:.3f}, p = {c.test.p_value:.2g}"
                for c in comparisons
                if c.score == name
            }
            out += plot_distributions(
                panels,
                np.linspace(axis.low, axis.high, axis.bins + 1),
                folder / f"geant4_{name}",
                label=axis.label,
                notes=notes,
                title=f"Geant4 and the same primaries simulated{moved}",
                **common,
            )
        if energies:
            curves = {e.sample: energy_curve(e.network[0]) for e in energies if e.part == "full"}
            out += plot_energy_quality(
                {"Leakage, 1 − E$_{raw}$/E$_{true}$": curves},
                folder / "geant4_energy",
                title="network's energy, full Geant4",
                **common,
            )
        out += plot_efficiencies(
            {
                c.score: (
                    (c.simulated_efficiency, c.simulated_lower, c.simulated_upper),
                    (c.reference_efficiency, c.reference_lower, c.reference_upper),
                )
                for c in comparisons
                if (c.kind, c.part) == ("electron", "full")
            },
            folder / "geant4_efficiency",
            label="Electron efficiency at the 90 % cut",
            title=f"full Geant4{moved or ' events'}, 480–1150 GeV",
            **common,
        )
        return out


def _joined(samples: Iterable[Holdout]) -> Holdout:
    """Two samples of one kind as one."""
    first, second = samples

    def both(name: str) -> Any:
        return np.concatenate([getattr(first, name), getattr(second, name)])

    return replace(
        first,
        scores={n: np.concatenate([s, second.scores[n]]) for n, s in first.scores.items()},
        electron=both("electron"),
        e_corr_gev=both("e_corr_gev"),
        e_true_gev=both("e_true_gev"),
        sampling=both("sampling"),
        rate=None,
        attention=None,
        energy=_joined_energies(first.energy, second.energy),
        unscored=first.unscored + second.unscored,
    )


def _joined_energies(
    first: EnergyEstimates | None, second: EnergyEstimates | None
) -> EnergyEstimates | None:
    if first is None or second is None:
        return None
    columns = [np.concatenate([getattr(e, f.name) for e in (first, second)]) for f in fields(first)]
    return EnergyEstimates(*columns)


def _histogram(sample: Holdout, name: str, axis: ScoreAxis) -> Distribution:
    inside = np.clip(sample.scores[name], axis.low, np.nextafter(axis.high, axis.low))
    counts = np.histogram(inside, axis.bins, (axis.low, axis.high))[0].astype(np.float64)
    return Distribution(counts, counts)
