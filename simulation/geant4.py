"""The Geant4 reference events as ntuples of the usual form, and the same primaries simulated here.

Only the energies in the BGO are those of Geant4. Electronics, reconstruction, trigger, STK and PSD are
those of the simulation; what the STK and PSD need to know of a shower (backsplash, depth of the first
interaction) is taken from a simulated shower of the same primary. For the top-fiducial region the events are
moved sideways until they leave through a side (:mod:`simulation.moved`).
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from simulation.cascade import electron_showers, proton_showers
from simulation.events import Detector, Primaries, read_out
from simulation.moved import draw_moves, moved_image, moved_reference
from simulation.primaries import Rays
from simulation.sample import GENERATOR
from simulation.validation import Reference, load_reference, simulate
from simulation.writer import write_ntuple

__all__ = ["Pair", "write_reference"]

Kind = Literal["electron", "proton"]
Part = Literal["full", "hybrid"]
Region = Literal["fiducial", "topfiducial"]
Source = Literal["geant4", "geant4 primaries", "geant4 primaries moved"]

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
    """Files of the same primaries.

    Attributes:
        kind: ``electron`` or ``proton``.
        part: ``full`` Geant4 events or the ``hybrid`` ones (a shower library at low energies).
        geant4: File of the Geant4 events.
        simulation: File of the same primaries, simulated ``repeat`` times; for the top-fiducial region in the
            place where Geant4 had them and moved as the Geant4 events were.
        direct: Top-fiducial: the same primaries simulated in the place to which they were moved. What
            differs from ``simulation`` is the error of moving, not of the simulation.
    """

    kind: Kind
    part: Part
    geant4: Path
    simulation: Path
    direct: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files."""
        return tuple(p for p in (self.geant4, self.simulation, self.direct) if p is not None)


def write_reference(
    folder: Path,
    *,
    region: Region = "fiducial",
    seed: int = 1,
    repeat: int = 4,
    overwrite: bool = False,
) -> list[Pair]:
    """Write the reference events and their simulated twins.

    The record of the files says ``"source": "geant4"``, ``"geant4 primaries"`` or ``"geant4 primaries moved"``;
    they are no data of the experiment, and without generated events they serve no flux.

    Args:
        folder: Folder of the files, made if needed.
        region: ``fiducial``: the events as they are; ``topfiducial``: moved until they leave through a side.
        seed: Seed of the electronics, of the simulated showers and of the moves.
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
            events = reference.take(np.flatnonzero(reference.full == (part == "full")))
            pair = _pair(folder, kind, part, region)
            for path in pair.paths:
                if path.exists() and not overwrite:
                    msg = f"{path} exists; choose another folder or allow overwriting (--overwrite)"
                    raise FileExistsError(msg)
            folder.mkdir(parents=True, exist_ok=True)
            if pair.direct is None:
                image = events.image_gev
                _write(pair.geant4, kind, part, events, seed, 1, "geant4", image)
                _write(pair.simulation, kind, part, events, seed, repeat, "geant4 primaries")
            else:
                _write_moved(pair, pair.direct, events, seed, repeat)
            pairs.append(pair)
    return pairs


def _pair(folder: Path, kind: Kind, part: Part, region: Region) -> Pair:
    stem = f"DmlNtup_synthetic_geant4_{part}_{kind}"
    if region == "fiducial":
        return Pair(kind, part, folder / f"{stem}.root", folder / f"{stem}_simulated.root")
    names = (f"{stem}_moved.root", f"{stem}_simulated_moved.root", f"{stem}_simulated.root")
    return Pair(kind, part, *(folder / name for name in names))


def _write_moved(pair: Pair, direct: Path, events: Reference, seed: int, repeat: int) -> None:
    kind, part = pair.kind, pair.part
    moves = draw_moves(events, np.random.default_rng([seed, _STREAM[kind, part], 2]))
    moved = moved_reference(events, moves)
    _write(pair.geant4, kind, part, moved, seed, 1, "geant4", moved.image_gev)
    here = simulate(kind, events.take(moves.rows), seed, repeat)
    blocks = here.reshape(repeat, *moved.image_gev.shape)
    image = np.concatenate([moved_image(block, moves) for block in blocks])
    _write(pair.simulation, kind, part, moved, seed, repeat, "geant4 primaries moved", image)
    _write(direct, kind, part, moved, seed, repeat, "geant4 primaries")


def _write(
    path: Path,
    kind: Kind,
    part: Part,
    events: Reference,
    seed: int,
    repeat: int,
    source: Source,
    image_gev: npt.NDArray[np.float64] | None = None,
) -> None:
    """Write events with the bar energies given, else with simulated ones."""
    stream = {"geant4": 1, "geant4 primaries": 0, "geant4 primaries moved": 3}[source]
    rng = np.random.default_rng([seed, _STREAM[kind, part], stream])
    energy = np.tile(events.energy_gev, repeat)
    position, direction = (np.tile(v, (repeat, 1)) for v in (events.position_mm, events.direction))
    seeds = rng.integers(0, 2**64, energy.size, dtype=np.uint64)
    shoot = electron_showers if kind == "electron" else proton_showers
    deposits = shoot(energy, position, direction, seeds)
    if image_gev is not None:
        deposits = replace(deposits, bgo_gev=image_gev.astype(np.float32))
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
        "source": source,
        "geant4": {
            "part": part,
            "events": int(events.energy_gev.size),
            "bgo_deposits": source == "geant4",
        },
        "kind": kind,
        "bgo_reconstruction": _AS_WRITTEN.reconstruction,
        "seed": seed,
        "repeat": repeat,
        "hadronic_model": _AS_WRITTEN.hadronic_model,
        "energies_gev": [float(energy.min()), float(energy.max())],
    }
    name = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(metadata, sort_keys=True))
    write_ntuple(path, [read_out(primaries, deposits, _AS_WRITTEN, rng)], metadata, name)
