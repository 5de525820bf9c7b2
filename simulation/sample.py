"""Samples: what to simulate, cut into blocks that any number of processes work through.

A block has its own random stream, derived from the sample's seed and the block's number, so that the
files are the same whatever the number of workers. Monte Carlo blocks throw a fixed number of primaries
with an E^-1 spectrum; data blocks cover some seconds of a run, with electrons and protons at their fluxes.
"""

from __future__ import annotations

import functools
import json
import math
import uuid
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from processors.geometry import GENERATION_RADIUS_M
from processors.spectrum import ELECTRON_2017, PROTON_2026, Spectrum
from simulation import difference, orbit
from simulation.events import Detector, Primaries, detect
from simulation.parallel import cores, in_order
from simulation.primaries import (
    TOTAL_ETENDUE_M2SR,
    FullRegion,
    log_uniform_energies,
    simulated_rays,
    spectrum_energies,
)
from simulation.reconstruction import CORRECTION_LIMIT
from simulation.writer import concatenate, sorted_by_time, write_ntuple

__all__ = ["Sample", "simulate", "simulate_block"]

Kind = Literal["data", "electron", "proton"]
Columns = dict[str, npt.NDArray[Any]]
Progress = Callable[[int, int], None]

GENERATOR = "parametric DAMPE simulation 1"
#: Rays thrown per Monte Carlo block; about one in 20 crosses the first four layers.
_BLOCK_THROWN = 65_536
#: Primaries per data block that cross the first four layers, on average.
_BLOCK_CROSSING = 8_000
#: In data protons reach this many times the energy of electrons: they deposit about 40 %.
_PROTON_REACH = 10.0
#: In data protons start at this many times the skim: none deposits all its energy in the bars, and the
#: margin of 10 % that analyses keep above the skim makes up for the rest.
_PROTON_START = 1.1
_SKIM_OF = {"fiducial": "fiducial", "topfiducial": "topfiducial", "both": None}
_STREAM = {"data": 1, "electron": 2, "proton": 3}


@dataclass(frozen=True)
class Sample:
    """What to simulate. Everything that a file depends on is here.

    Attributes:
        kind: ``electron`` or ``proton`` Monte Carlo, or ``data`` with both.
        seed: Seed of the sample.
        n_events: Monte Carlo: primaries thrown at the sphere; about 4.5 % cross the first four layers.
        livetime_s: Data: livetime, rounded to whole seconds of the last run.
        e_min_gev: Lowest true energy.
        e_max_gev: Highest true energy; in data that of electrons, protons reach ten times more.
        min_deposit_gev: Skim: events with less raw BGO energy are not written. Analyses must start
            above 1.12 times this corrected energy, better with a margin of 10 %.
        triggered_only: Write only events with the high-energy trigger, as flight data hold them.
        reconstruction: BGO reconstruction, ``new`` or ``old``; the events are the same.
        hadronic_model: Set of hadronic constants, ``a`` or ``b``.
        tail_sampling: Proton Monte Carlo: keep all electron-like protons and a part of the others, with
            weights in ``tt_evtPoid``.
        outside_share: Share of the rays outside ``full_region`` that is simulated, in Monte Carlo with
            weight 1 / share in ``tt_evtPoid``; 0 is a skim for that region, data allow 0 or 1.
        full_region: ``fiducial``, ``topfiducial``, or ``both``.
        data_mc_difference: Data: apply the differences of ``simulation.difference``.
        electron_spectrum: Data: injected electron + positron spectrum.
        proton_spectrum: Data: injected proton spectrum.
        n_files: Number of files.
        start_s: Data: start of the first run, mission elapsed seconds.
        first_run: Data: number of the first run.
        run_s: Data: longest run, seconds.
        gain_drift_per_year: Data: relative change per year of the energies that the calorimeter reads, linear
            from the start of the flight.
        spread_years: Data: spread the livetime in short runs over this time instead of one run after another.
    """

    kind: Kind
    seed: int
    n_events: int | None = None
    livetime_s: float | None = None
    e_min_gev: float = 100.0
    e_max_gev: float = 10_000.0
    min_deposit_gev: float = 0.0
    triggered_only: bool = False
    reconstruction: Literal["new", "old"] = "new"
    hadronic_model: Literal["a", "b"] = "a"
    tail_sampling: bool = False
    outside_share: float = 1.0
    full_region: FullRegion = "fiducial"
    data_mc_difference: bool = False
    electron_spectrum: Spectrum = ELECTRON_2017
    proton_spectrum: Spectrum = PROTON_2026
    n_files: int = 1
    start_s: int = orbit.FLIGHT_START_S
    first_run: int = 1
    run_s: int = 86_400
    gain_drift_per_year: float = 0.0
    spread_years: float = 0.0

    def __post_init__(self) -> None:
        """Refuse samples that make no sense.

        Raises:
            ValueError: With the value and what to do.
        """
        for field, kind in (
            ("kind", Kind),
            ("reconstruction", Literal["new", "old"]),
            ("hadronic_model", Literal["a", "b"]),
            ("full_region", FullRegion),
        ):
            if getattr(self, field) not in get_args(kind):
                msg = f"{field} must be one of {get_args(kind)}, got {getattr(self, field)!r}"
                raise ValueError(msg)
        data = self.kind == "data"
        problems = {
            "data need livetime_s and no n_events": data
            and (self.livetime_s is None or self.n_events is not None),
            "Monte Carlo needs n_events and no livetime_s": not data
            and (self.n_events is None or self.livetime_s is not None),
            "n_events must be at least n_files": self.n_events is not None
            and self.n_events < self.n_files,
            "livetime_s must be positive and finite": self.livetime_s is not None
            and not 0 < self.livetime_s < math.inf,
            "energies must be 0 < e_min_gev < e_max_gev": not 0
            < self.e_min_gev
            < self.e_max_gev
            < math.inf,
            "min_deposit_gev must not be negative": not self.min_deposit_gev >= 0,
            "in data e_min_gev must not exceed min_deposit_gev over the highest gain, or events are lost": data
            and self.e_min_gev * self.highest_gain > max(self.min_deposit_gev, 1.0),
            "tail_sampling is for proton Monte Carlo": self.tail_sampling and self.kind != "proton",
            "outside_share must be from 0 to 1, and 0 or 1 in data": not 0
            <= self.outside_share
            <= 1
            or (data and self.outside_share not in {0.0, 1.0}),
            "data_mc_difference is for data": self.data_mc_difference and not data,
            "gain_drift_per_year and spread_years are for data": not data
            and (self.gain_drift_per_year != 0 or self.spread_years != 0),
            "spread_years must not be negative": not 0 <= self.spread_years < math.inf,
            "gain_drift_per_year must be from -0.2 to 0.2": not abs(self.gain_drift_per_year)
            <= 0.2,
            "n_files, run_s must be at least 1, seed not negative": self.n_files < 1
            or self.run_s < 1
            or self.seed < 0,
        }
        for problem, present in problems.items():
            if present:
                msg = f"{problem}: {self}"
                raise ValueError(msg)

    @property
    def highest_gain(self) -> float:
        """Largest factor of :meth:`gain`, at least 1."""
        duration = (
            self.spread_years * orbit.YEAR_S or (self.livetime_s or 0.0) / orbit.LIVE_FRACTION
        )
        return max(1.0, float(self.gain(self.start_s + duration + orbit.ORBIT_S)))

    def gain(self, second: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Factor on the energies that the calorimeter reads at mission elapsed seconds."""
        return 1.0 + self.gain_drift_per_year * orbit.years_in_flight(second)

    def energies_of(self, species: str) -> tuple[float, float]:
        """Lowest and highest true energy of a species, GeV."""
        if self.kind == "data" and species == "proton":
            low = max(self.e_min_gev, _PROTON_START * self.min_deposit_gev / self.highest_gain)
            return low, _PROTON_REACH * self.e_max_gev
        return self.e_min_gev, self.e_max_gev


@dataclass(frozen=True)
class Block:
    """A piece of work: primaries thrown (Monte Carlo) or seconds of a run (data)."""

    index: int
    file: int
    thrown: int = 0
    run: int = 0
    start_s: int = 0
    stop_s: int = 0


def simulate(
    sample: Sample,
    folder: str | Path,
    *,
    prefix: str | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Simulate a sample and write its files.

    Args:
        sample: What to simulate.
        folder: Folder of the files, made if needed.
        prefix: Start of the file names; the default says kind, energies, and "synthetic".
        workers: Processes; by default one per core. The files do not depend on it.
        overwrite: Replace files that exist.
        progress: Called with the blocks done and the blocks in total, also before the first.

    Returns:
        The files, in order.

    Raises:
        FileExistsError: A file exists and ``overwrite`` is false; nothing is simulated then.
        ValueError: A prefix that hides that the files are synthetic, or fewer than one worker.
    """
    prefix = _default_prefix(sample) if prefix is None else prefix
    if "synthetic" not in prefix:
        msg = f"the file prefix {prefix!r} must contain 'synthetic'"
        raise ValueError(msg)
    workers = cores() if workers is None else workers
    if workers < 1:
        msg = f"workers must be at least 1, got {workers}"
        raise ValueError(msg)
    runs = _runs(sample)
    blocks = _blocks(sample, runs)
    paths = [Path(folder) / f"{prefix}_{i:03d}.root" for i in range(blocks[-1].file + 1)]
    existing = [str(p) for p in paths if p.exists()]
    if existing and not overwrite:
        msg = f"{', '.join(existing)} exists already; remove it or allow overwriting (--overwrite)"
        raise FileExistsError(msg)
    Path(folder).mkdir(parents=True, exist_ok=True)
    if progress is not None:
        progress(0, len(blocks))
    work = functools.partial(simulate_block, sample)
    with closing(in_order(work, blocks, workers, progress)) as results:
        for number, path in enumerate(paths):
            mine = [b for b in blocks if b.file == number]
            metadata = _metadata(sample, mine, [r for r, file in runs if file == number])
            parts = islice(results, len(mine))
            name = json.dumps([GENERATOR, metadata, _identity(sample), number], sort_keys=True)
            write_ntuple(path, parts, metadata, uuid.uuid5(uuid.NAMESPACE_OID, name))
    return paths


def simulate_block(sample: Sample, block: Block) -> Columns:
    """Simulate one block, the same columns for the same arguments.

    Args:
        sample: The sample.
        block: The block.

    Returns:
        Columns as of ``simulation.events.detect``; data are sorted by time.
    """
    # samples of one seed but other energies or runs must not share events
    own = zlib.crc32(f"{sample.e_min_gev} {sample.e_max_gev} {sample.first_run}".encode())
    rng = np.random.default_rng([sample.seed, _STREAM[sample.kind], own, block.index])
    detector = Detector(
        min_deposit_gev=sample.min_deposit_gev,
        reconstruction=sample.reconstruction,
        hadronic_model=sample.hadronic_model,
        triggered_only=sample.triggered_only,
        tail_sampling=sample.tail_sampling,
        difference=sample.data_mc_difference,
        truth=sample.kind != "data",
    )
    kept = sample.outside_share, sample.full_region
    if sample.kind != "data":
        rays, weight = simulated_rays(rng, block.thrown, *kept)
        n = len(weight)
        energy = log_uniform_energies(rng, n, sample.e_min_gev, sample.e_max_gev)
        particles = Primaries(
            sample.kind, rays, energy, 0, np.zeros(n, np.int32), np.ones(n, bool), weight
        )
        return detect(particles, detector, rng)
    parts = []
    seconds = (block.stop_s - block.start_s) * orbit.LIVE_SHARE
    spectra: tuple[tuple[Literal["electron", "proton"], Spectrum], ...] = (
        ("electron", sample.electron_spectrum),
        ("proton", sample.proton_spectrum),
    )
    for species, spectrum in spectra:
        limits = sample.energies_of(species)
        mean = float(spectrum.integral(*limits)) * TOTAL_ETENDUE_M2SR * seconds
        rays, weight = simulated_rays(rng, int(rng.poisson(mean)), *kept)
        n = len(rays.direction)
        second = rng.integers(block.start_s, block.stop_s, n, dtype=np.int32)
        particles = Primaries(
            species,
            rays,
            spectrum_energies(rng, n, spectrum, *limits),
            block.run,
            second,
            ~orbit.in_saa(second),
            weight,
            sample.gain(second) if sample.gain_drift_per_year else None,
        )
        parts.append(detect(particles, detector, rng))
    return sorted_by_time(concatenate(parts))


def _identity(sample: Sample) -> dict[str, Any]:
    """All options; those that came later only if they are used, so that older files keep their uuid."""
    options = asdict(sample)
    for name in ("gain_drift_per_year", "spread_years"):
        if options[name] == 0:
            del options[name]
    return options


def _default_prefix(sample: Sample) -> str:
    kind = "Data" if sample.kind == "data" else sample.kind
    version = "" if sample.reconstruction == "new" else "_oldBgo"
    low, high = (_energy_name(e) for e in (sample.e_min_gev, sample.e_max_gev))
    return f"DmlNtup_synthetic_{kind}_{low}_{high}{version}"


def _energy_name(energy_gev: float) -> str:
    return f"{energy_gev / 1e3:g}TeV" if energy_gev >= 1e3 else f"{energy_gev:g}GeV"


def _runs(sample: Sample) -> list[tuple[orbit.Run, int]]:
    """Runs of a data sample with the number of their file; none for Monte Carlo."""
    if sample.livetime_s is None:
        return []
    if sample.spread_years:
        start = (sample.start_s, sample.first_run)
        apart = orbit.spread_runs(sample.livetime_s, sample.spread_years, *start, sample.n_files)
        return [(run, i * sample.n_files // len(apart)) for i, run in enumerate(apart)]
    runs = orbit.runs(
        sample.livetime_s, sample.start_s, sample.first_run, sample.run_s, sample.n_files
    )
    return [(run, i * sample.n_files // len(runs)) for i, run in enumerate(runs)]


def _blocks(sample: Sample, runs: list[tuple[orbit.Run, int]]) -> list[Block]:
    blocks: list[Block] = []
    if sample.n_events is not None:
        edges = np.linspace(0, sample.n_events, sample.n_files + 1).astype(int)
        for file, events in enumerate(np.diff(edges)):
            for done in range(0, int(events), _BLOCK_THROWN):
                thrown = min(_BLOCK_THROWN, int(events) - done)
                blocks.append(Block(len(blocks), file, thrown=thrown))
        return blocks
    flux = float(sample.electron_spectrum.integral(*sample.energies_of("electron")))
    flux += float(sample.proton_spectrum.integral(*sample.energies_of("proton")))
    crossing = 0.046 * TOTAL_ETENDUE_M2SR * orbit.LIVE_SHARE * flux
    length = max(1, round(_BLOCK_CROSSING / crossing))
    for run, file in runs:
        for start in range(run.start_s, run.stop_s, length):
            stop = min(start + length, run.stop_s)
            blocks.append(Block(len(blocks), file, run=run.number, start_s=start, stop_s=stop))
    return blocks


def _metadata(sample: Sample, blocks: list[Block], runs: list[orbit.Run]) -> dict[str, Any]:
    common: dict[str, Any] = {
        "synthetic": True,
        "generator": GENERATOR,
        "kind": sample.kind,
        "bgo_reconstruction": sample.reconstruction,
        "seed": sample.seed,
        "hadronic_model": sample.hadronic_model,
        "skim": {
            "min_raw_gev": sample.min_deposit_gev,
            "complete_above_ecorr_gev": CORRECTION_LIMIT * sample.min_deposit_gev,
            "triggered_only": sample.triggered_only,
            "only_region": None if sample.outside_share else _SKIM_OF[sample.full_region],
        },
    }
    if sample.kind == "data":
        injected = {
            "electron": sample.electron_spectrum.to_dict(),
            "proton": sample.proton_spectrum.to_dict(),
        }
        gain = sample.gain_drift_per_year
        drift = {"gain_drift_per_year": gain} if gain else {}
        return common | {
            "runs": [r.to_dict() for r in runs],
            "injected": injected | drift,
            "spectrum": injected,
            "energies_gev": {s: list(sample.energies_of(s)) for s in ("electron", "proton")},
            "data_mc_difference": sample.data_mc_difference,
            "difference": difference.record() if sample.data_mc_difference else None,
        }
    generated = {
        "events": sum(b.thrown for b in blocks),
        "e_min_gev": sample.e_min_gev,
        "e_max_gev": sample.e_max_gev,
        "index": -1.0,
        "radius_m": GENERATION_RADIUS_M,
    }
    return common | {
        "generated": generated,
        "spectrum": {"type": "power_law", "norm": 1.0, "index": 1.0, "e0_gev": 1.0},
        "tail_sampling": sample.tail_sampling,
        "outside_share": sample.outside_share,
        "full_region": sample.full_region,
        "data_mc_difference": False,
    }
