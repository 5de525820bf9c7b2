"""The networks of a run: which file serves which score, region and energies, and what is refused."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from processors import features
from processors.bundle import BundleRef, check_providers, read_bundle
from processors.exceptions import ModelError
from processors.omega import Omega, read_omega

__all__ = [
    "BATCH",
    "CPU",
    "RESERVED",
    "EnergyModel",
    "Models",
    "Source",
    "load_models",
    "required_fields",
    "variables_and_inputs",
]

#: A file and the hash that it must have, if that is known.
Source = tuple[Path, str | None]

CPU = ("CPUExecutionProvider",)
BATCH = 512
#: Names of scores and ledger entries that no network may have.
RESERVED = ("zeta", "omega", "e_corr", "energy", "energy_sigma", "weight")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class EnergyModel:
    """A network that estimates the energy of a region's events.

    Attributes:
        ref: The file.
        max_sigma: Events with a larger relative uncertainty, by the network's own word, are cut; None cuts
            none.
    """

    ref: BundleRef
    max_sigma: float | None = None


@dataclass(frozen=True)
class Models:
    """The networks of a run; plain data, so that they travel to workers.

    Attributes:
        members: Region to network to its files, in order of energy, with disjoint energy ranges.
        energy: Region to the network that estimates its energies.
        omega: Region to the parameters of omega.
        omega_files: Region to path and sha256 of those parameters.
        strategy: How omega combines the networks.
        providers: Execution providers of onnxruntime in order of preference.
        batch: Events per call.
    """

    members: Mapping[str, Mapping[str, tuple[BundleRef, ...]]] = field(default_factory=dict)
    energy: Mapping[str, EnergyModel] = field(default_factory=dict)
    omega: Mapping[str, Omega] = field(default_factory=dict)
    omega_files: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    strategy: str = "logistic"
    providers: tuple[str, ...] = CPU
    batch: int = BATCH

    def networks(self, region: str, names: Iterable[str]) -> tuple[str, ...]:
        """Networks of a region that some scores need.

        Raises:
            ModelError: If a score has no network or no parameters there.
        """
        wanted: dict[str, None] = {}
        for name in names:
            if name == "omega":
                if region not in self.omega:
                    msg = (
                        f"omega has no parameters for the {region} region; name a file in the card"
                    )
                    raise ModelError(msg)
                wanted.update(dict.fromkeys(self.omega[region].networks(self.strategy)))
            elif name != "zeta":
                wanted[name] = None
        for name in wanted:
            if name not in self.members.get(region, {}):
                has = ", ".join(["zeta", *self.members.get(region, {})])
                msg = (
                    f"score {name!r} has no model for the {region} region (there is: {has}); name one "
                    "under 'models' in the card"
                )
                raise ModelError(msg)
        return tuple(wanted)

    def serves(
        self, region: str, names: Iterable[str], energy_gev: npt.NDArray[np.floating[Any]]
    ) -> npt.NDArray[np.bool_]:
        """Events within the energies of every network that some scores need.

        Args:
            region: Their region.
            names: Names of the scores.
            energy_gev: Corrected energies, shape (n,).

        Returns:
            Shape (n,).

        Raises:
            ModelError: If a score has no network or no parameters there.
        """
        inside = np.ones(len(energy_gev), bool)
        for network in self.networks(region, names):
            files = self.members[region][network]
            inside &= np.any([ref.bundle.serves(energy_gev) for ref in files], axis=0)
        return inside

    def to_list(self) -> list[dict[str, Any]]:
        """The models for provenance and metadata: one entry per file, with the network that it serves."""
        files = [
            {"member": name, **ref.to_dict()}
            for networks in self.members.values()
            for name, refs in networks.items()
            for ref in refs
        ]
        files += [{"member": "energy", **one.ref.to_dict()} for one in self.energy.values()]
        files += [
            {
                "member": "omega",
                "path": path,
                "sha256": digest,
                "region": region,
                "synthetic": self.omega[region].synthetic,
            }
            for region, (path, digest) in self.omega_files.items()
        ]
        return files


def variables_and_inputs(refs: Iterable[BundleRef]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Inputs and variables that some networks need together, each once."""
    inputs: dict[str, None] = {}
    variables: dict[str, None] = {}
    for ref in refs:
        inputs.update(dict.fromkeys(ref.bundle.input_names))
        variables.update(dict.fromkeys(ref.bundle.variables))
    return tuple(inputs), tuple(variables)


def required_fields(
    models: Models, region: str, names: Sequence[str], *, calibrated: bool
) -> dict[str, str]:
    """Fields of the ntuple that scores need.

    Args:
        models: The networks.
        region: The region.
        names: Names of the scores.
        calibrated: Whether a calibration is applied to the events.

    Returns:
        Field to what needs it.

    Raises:
        ModelError: If a score has no network.
    """
    needs: dict[str, str] = {}
    if "zeta" in names:
        fields = ("layer_rms", "layer_fraction", "e_corr") if calibrated else ("zeta",)
        needs |= dict.fromkeys(fields, "score 'zeta'")
    refs = [r for name in models.networks(region, names) for r in models.members[region][name]]
    if region in models.energy:
        refs.append(models.energy[region].ref)
    for ref in refs:
        needed = features.required_fields(
            ref.bundle.input_names, ref.bundle.variables, calibrated=calibrated
        )
        for one in ("e_corr", *needed):
            needs.setdefault(one, f"model {ref.bundle.name!r}")
    return needs


def load_models(
    networks: Mapping[str, Mapping[str, Sequence[Source]]],
    omega: Mapping[str, Source],
    *,
    scores: Sequence[str],
    energy: Mapping[str, tuple[Source, float | None]] | None = None,
    strategy: str = "logistic",
    energy_range_gev: tuple[float, float] | None = None,
    providers: Sequence[str] = CPU,
    batch: int = BATCH,
) -> Models:
    """Read the metadata of the networks of a run and refuse what does not fit.

    Args:
        networks: Region to network to its files; the regions are those that will be filled.
        omega: Region to the file with the parameters of omega.
        scores: Scores that the run needs: ``zeta``, names of networks, ``omega``.
        energy: Region to the file of its energy network and the largest uncertainty; default none.
        strategy: How omega combines networks.
        energy_range_gev: Corrected energies of the events that will be scored; None for whatever comes,
            then events outside the ranges get NaN.
        providers: Execution providers in order of preference.
        batch: Events per call.

    Returns:
        The models, with those networks only that a score needs.

    Raises:
        ModelError: On a wrong hash, region, task, name or provider, overlapping energy ranges, ranges that
            leave out part of the energies, a score without network, or parameters of omega that were
            fitted for other networks.
    """
    check_providers(providers)
    read = {
        region: {name: _network(name, region, files) for name, files in of_region.items()}
        for region, of_region in networks.items()
    }
    parameters: dict[str, Omega] = {}
    files: dict[str, tuple[str, str]] = {}
    if "omega" in scores:
        for region, (path, expected) in omega.items():
            parameters[region], digest = read_omega(path, sha256=expected)
            files[region] = (str(path), digest)
            if parameters[region].region != region:
                msg = (
                    f"omega parameters {str(path)!r} are for the {parameters[region].region} region, the "
                    f"card gives them to {region}; take others or fit them with 'cre combine'"
                )
                raise ModelError(msg)
            hashes = {n: [r.sha256 for r in refs] for n, refs in read.get(region, {}).items()}
            parameters[region].check_members(hashes, strategy, str(path))
    energies = {
        region: EnergyModel(_checked(source, region, "energy"), most)
        for region, (source, most) in (energy or {}).items()
    }
    models = Models(read, energies, parameters, files, strategy, tuple(providers), batch)
    used = {region: models.networks(region, scores) for region in networks}
    if energy_range_gev is not None:
        for region, names in used.items():
            for name in names:
                _check_range(name, read[region][name], energy_range_gev)
        for one in energies.values():
            _check_range("energy", [one.ref], energy_range_gev)
    kept = {region: {n: read[region][n] for n in names} for region, names in used.items()}
    return Models(kept, energies, parameters, files, strategy, tuple(providers), batch)


def _network(name: str, region: str, files: Sequence[Source]) -> tuple[BundleRef, ...]:
    """The files of one network in order of energy."""
    if name in RESERVED or not _NAME.fullmatch(name):
        msg = (
            f"a network cannot be called {name!r}: take letters, digits and underscores, and none of "
            f"{', '.join(RESERVED)}"
        )
        raise ModelError(msg)
    if not files:
        msg = f"network {name!r} of the {region} region has no file; name one or leave it out"
        raise ModelError(msg)
    refs = [_checked(source, region, "classifier") for source in files]
    refs.sort(key=lambda ref: ref.bundle.energy_range_gev)
    for below, above in itertools.pairwise(refs):
        if above.bundle.energy_range_gev[0] < below.bundle.energy_range_gev[1]:
            ranges = " and ".join(_interval(r.bundle.energy_range_gev) for r in (below, above))
            msg = (
                f"network {name!r} of the {region} region: {below.path!r} and {above.path!r} overlap in "
                f"energy ({ranges}); take files whose ranges do not"
            )
            raise ModelError(msg)
    return tuple(refs)


def _checked(source: Source, region: str, task: str) -> BundleRef:
    """A file that has this task and region."""
    ref = read_bundle(source[0], sha256=source[1])
    if ref.bundle.task != task:
        does, wanted = "estimates the energy and separates no particles", "a classifier"
        if task == "energy":
            does, wanted = "separates particles and estimates no energy", "an energy network"
        msg = f"model {ref.path!r} {does}; take {wanted}"
        raise ModelError(msg)
    if ref.bundle.region != region:
        msg = (
            f"model {ref.path!r} is for the {ref.bundle.region} region, the card gives it to {region}; "
            "take a model for that region"
        )
        raise ModelError(msg)
    return ref


def _check_range(name: str, refs: Sequence[BundleRef], wanted: tuple[float, float]) -> None:
    reached = wanted[0]
    for ref in refs:
        low, high = ref.bundle.energy_range_gev
        if low <= reached < high:
            reached = high
    if reached < wanted[1]:
        has = ", ".join(_interval(ref.bundle.energy_range_gev) for ref in refs)
        msg = (
            f"network {name!r} of the {refs[0].bundle.region} region has no model from {reached:g} GeV on "
            f"(its files cover {has}), but the cut energy_range lets {_interval(wanted)} pass; narrow the "
            "cut or add a model"
        )
        raise ModelError(msg)


def _interval(interval: tuple[float, float]) -> str:
    return f"{interval[0]:g}-{interval[1]:g} GeV"
