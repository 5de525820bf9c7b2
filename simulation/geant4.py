"""The Geant4 reference events as ntuples of the usual form, and the same primaries simulated here.

Only the energies in the BGO are those of Geant4. Electronics, reconstruction, trigger, STK and PSD are
those of the simulation; what the STK and PSD need to know of a shower (backsplash, depth of the first
interaction) is taken from a simulated shower of the same primary.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from simulation.cascade import electron_showers, proton_showers
from simulation.events import Detector, Primaries, read_out
from simulation.primaries import Rays
from simulation.sample import GENERATOR
from simulation.validation import Reference, load_reference
from simulation.writer import write_ntuple

__all__ = ["Pair", "write_reference"]

Kind = Literal["electron", "proton"]
Part = Literal["full", "hybrid"]

_STREAM = {
    ("electron", "full"): 1,
    ("electron", "hybrid"): 2,
    ("proton", "full"): 3,
    ("proton", "hybrid"): 4,
}
_AS_WRITTEN = Detector(
    min_deposit_gev=0.0,
    triggered_only=False,
    reconstruction="new",
    hadronic_model="a",
    tail_sampling=False,
    difference=False,
    truth=True,
)


@dataclass(frozen=True)
class Pair:
    """Two files of the same primaries.

    Attributes:
        kind: ``electron`` or ``proton``.
        part: ``full`` Geant4 events or the ``hybrid`` ones (a shower library at low energies).
        geant4: File of the Geant4 events.
        simulation: File of the same primaries, simulated ``repeat`` times.
    """

    kind: Kind
    part: Part
    geant4: Path
    simulation: Path


def write_reference(
    folder: Path, *, seed: int = 1, repeat: int = 4, overwrite: bool = False
) -> list[Pair]:
    """Write the reference events and their simulated twins.

    The record of the files says ``"source": "geant4"`` or ``"geant4 primaries"``; they are no data of the
    experiment, and without generated events they serve no flux.

    Args:
        folder: Folder of the files, made if needed.
        seed: Seed of the electronics and of the simulated showers.
        repeat: How often each primary is simulated.
        overwrite: Replace files that exist.

    Returns:
        Electrons and protons, full and hybrid.

    Raises:
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    pairs = []
    parts: tuple[Part, ...] = ("full", "hybrid")
    kinds: tuple[Kind, ...] = ("electron", "proton")
    for kind in kinds:
        reference = load_reference(kind)
        for part in parts:
            rows = np.flatnonzero(reference.full == (part == "full"))
            stem = f"DmlNtup_synthetic_geant4_{part}_{kind}"
            pair = Pair(kind, part, folder / f"{stem}.root", folder / f"{stem}_simulated.root")
            for path in (pair.geant4, pair.simulation):
                if path.exists() and not overwrite:
                    msg = f"{path} exists; choose another folder or allow overwriting (--overwrite)"
                    raise FileExistsError(msg)
            folder.mkdir(parents=True, exist_ok=True)
            chosen = _taken(reference, rows)
            _write(pair.geant4, kind, part, chosen, seed, 1, geant4=True)
            _write(pair.simulation, kind, part, chosen, seed, repeat, geant4=False)
            pairs.append(pair)
    return pairs


def _taken(reference: Reference, rows: np.ndarray[Any, np.dtype[np.intp]]) -> Reference:
    return Reference(
        reference.image_gev[rows],
        reference.energy_gev[rows],
        reference.position_mm[rows],
        reference.direction[rows],
        reference.full[rows],
    )


def _write(
    path: Path, kind: Kind, part: Part, events: Reference, seed: int, repeat: int, *, geant4: bool
) -> None:
    rng = np.random.default_rng([seed, _STREAM[kind, part], int(geant4)])
    energy = np.tile(events.energy_gev, repeat)
    position, direction = (np.tile(v, (repeat, 1)) for v in (events.position_mm, events.direction))
    seeds = rng.integers(0, 2**64, energy.size, dtype=np.uint64)
    shoot = electron_showers if kind == "electron" else proton_showers
    deposits = shoot(energy, position, direction, seeds)
    if geant4:
        deposits = replace(deposits, bgo_gev=events.image_gev.astype(np.float32))
    n = energy.size
    primaries = Primaries(
        species=kind,
        rays=Rays(position, direction, n),
        energy_gev=energy,
        run=0,
        second=np.zeros(n, np.int32),
        outside_saa=np.ones(n, bool),
        weight=np.ones(n),
    )
    metadata = {
        "synthetic": True,
        "generator": GENERATOR,
        "source": "geant4" if geant4 else "geant4 primaries",
        "geant4": {"part": part, "events": int(events.energy_gev.size), "bgo_deposits": geant4},
        "kind": kind,
        "bgo_reconstruction": _AS_WRITTEN.reconstruction,
        "seed": seed,
        "repeat": repeat,
        "hadronic_model": _AS_WRITTEN.hadronic_model,
        "energies_gev": [float(energy.min()), float(energy.max())],
    }
    name = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(metadata, sort_keys=True))
    write_ntuple(path, [read_out(primaries, deposits, _AS_WRITTEN, rng)], metadata, name)
