"""The derivation of a calibration table: control samples of ``processors``, fits of ``analysis``.

The loop stands here because neither may know the other: fill with the table so far, measure what it
lacks, improve the table, until nothing moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from analysis.calibrate import NodeFit, Offsets, Sample, fit_nodes, measure
from processors.calibration import (
    Calibration,
    LastFraction,
    LayerOffsets,
    Narrow,
    SpeciesCalibration,
)
from processors.controlsamples import (
    F_LAST,
    N_PROBES,
    ControlEvents,
    ControlHistograms,
    Tags,
    energy_edges,
    fill,
)
from processors.geometry import N_LAYERS

__all__ = [
    "DEFAULT_NODES",
    "SPECIES",
    "Derived",
    "Nodes",
    "derive",
    "function",
    "row",
    "with_replicas",
]

Species = Literal["electron", "proton"]
FloatArray = npt.NDArray[np.float64]

SPECIES: tuple[Species, Species] = ("electron", "proton")
#: A node whose error is larger is dropped: no better than no correction.
MAX_ERROR_MM, MAX_ERROR_STEPS = 8.0, 8.0
#: The largest change of a node in one iteration, mm or steps: the change of the histograms is linear
#: over less than their width.
_LONGEST_STEP = 4.0
_FULL_STEPS = 5
_REPLICA_ITERATIONS = 4


@dataclass(frozen=True)
class Nodes:
    """Energies at which offsets are fitted, GeV.

    Attributes:
        rms: Nodes of the layer RMS, both species.
        f_last: Nodes of F_last per species.
    """

    rms: tuple[float, ...]
    f_last: Mapping[Species, tuple[float, ...]]

    def all(self) -> list[float]:
        """All nodes together."""
        return sorted({*self.rms, *(n for nodes in self.f_last.values() for n in nodes)})


#: Where the collaboration's tables have their kinks (docs/physics.md).
DEFAULT_NODES = Nodes(
    rms=(20.0, 100.0, 300.0, 1000.0, 3000.0),
    f_last={"electron": (190.0, 300.0, 800.0, 1500.0), "proton": (20.0, 100.0, 1000.0, 10_000.0)},
)


@dataclass(frozen=True, eq=False)
class Derived:
    """What a derivation gave.

    Attributes:
        table: The table, with errors.
        base: The table of the last iteration.
        offsets: Per species and probed variable (layers 0 to 13, F_last) what it lacked per energy bin.
        fits: The fits of the nodes, likewise.
        iterations: Number of iterations.
        moved: Largest change of a node in the last of them, in its errors.
        replicas: Number of bootstrap replicas behind the errors.
        error_factors: By how much they widened the errors, per species and probed variable.
    """

    table: Calibration
    base: Calibration
    offsets: Mapping[Species, tuple[Offsets, ...]]
    fits: Mapping[Species, tuple[NodeFit, ...]]
    iterations: int
    moved: float
    replicas: int = 0
    error_factors: Mapping[Species, tuple[float, ...]] = field(default_factory=dict)

    def totals(self, species: Species) -> list[FloatArray]:
        """Measured offsets per energy bin, mm or steps: the last table and what it lacked."""
        out = []
        for probe, offsets in enumerate(self.offsets[species]):
            energy = 10 ** np.nan_to_num(offsets.log_energy)
            out.append(function(self.base, species, probe)(energy) + offsets.offset)
        return out


def derive(
    data: ControlEvents,
    simulated: Mapping[Species, ControlEvents],
    *,
    name: str,
    synthetic: bool,
    nodes: Nodes = DEFAULT_NODES,
    tags: Tags | None = None,
    narrow: Narrow | None = None,
    max_iterations: int = 20,
    tolerance: float = 0.1,
    start: Calibration | None = None,
    advance: Callable[[int], None] | None = None,
) -> Derived:
    """Derive a table from selected data and Monte Carlo events.

    Args:
        data: Data.
        simulated: Monte Carlo of both species, weighted to the target fluxes.
        name: Name of the table.
        synthetic: Whether the data are synthetic.
        nodes: Where offsets are fitted.
        tags: Limits of the tags.
        narrow: Rule for narrow layers of electrons, default layers from 9 on below 14 mm.
        max_iterations: At most so many iterations.
        tolerance: Stop when no node moves by more than this many errors.
        start: Table to start from, default one without offsets.
        advance: Called after each iteration with 1.

    Returns:
        The table and how it came about.

    Raises:
        CalibrationFitError: If the histograms do not fit together.
    """
    tags = tags or Tags()
    narrow = narrow or Narrow()
    e = data.energy_gev
    borders = [*nodes.all(), *data.complete_above_gev]
    edges = energy_edges(borders, float(e.min()), float(e.max()) * (1 + 1e-9))
    observed = fill(data, edges, tags)
    table = start or _start(name, synthetic, narrow)
    iteration, moved = 0, np.inf
    while True:
        iteration += 1
        monte_carlo = {s: fill(simulated[s], edges, tags, table, s) for s in SPECIES}
        offsets: dict[Species, tuple[Offsets, ...]] = {}
        fits: dict[Species, tuple[NodeFit, ...]] = {}
        parts: dict[str, SpeciesCalibration] = {}
        moved = 0.0
        for tag, species in enumerate(SPECIES):
            other = SPECIES[1 - tag]
            order = (observed, monte_carlo[species], monte_carlo[other])
            offsets[species] = tuple(
                measure(*((_sample(h, tag, p), _sample(h, 1 - tag, p)) for h in order))
                for p in range(N_PROBES)
            )
            fits[species] = tuple(
                fit_nodes(o, _nodes(nodes, species, p), max_error=_limit(p))
                for p, o in enumerate(offsets[species])
            )
            moved = max([moved, *(_largest_move(f) for f in fits[species])])
            # Monte Carlo events hop between bins: smaller steps end what would go to and fro.
            relax = 1.0 if iteration <= _FULL_STEPS else 0.5
            parts[species] = _improved(table, species, fits[species], nodes, relax)
        done = moved <= tolerance or iteration >= max_iterations
        if advance is not None:
            advance(1)
        if done:
            # What the last fit still found is below the tolerance; the table keeps the errors.
            return Derived(table.model_copy(update=parts), table, offsets, fits, iteration, moved)
        table = table.model_copy(update=parts)


def with_replicas(
    derived: Derived,
    data: ControlEvents,
    simulated: Mapping[Species, ControlEvents],
    *,
    replicas: int,
    seed: int = 1,
    nodes: Nodes = DEFAULT_NODES,
    tags: Tags | None = None,
    advance: Callable[[int], None] | None = None,
) -> Derived:
    """Widen the errors of a table to the scatter of bootstrap replicas of data and Monte Carlo.

    The errors of the fits do not know that the tags move with the offsets of the other variables, nor
    the noise of the Monte Carlo's change. Each replica repeats the derivation with Poisson weights of
    mean 1; per species and probed variable the root mean square of (replica - table) / error over
    replicas and nodes multiplies the errors where it is above 1.

    Args:
        derived: The derivation.
        data: Its data.
        simulated: Its Monte Carlo.
        replicas: How many; 0 leaves the errors as they are.
        seed: Seed of the weights.
        nodes: Its nodes.
        tags: Its tags.
        advance: Called after each replica with 1.

    Returns:
        The same derivation with the new errors and ``error_factors``.
    """
    rng = np.random.default_rng(seed)
    squares: dict[Species, list[list[float]]] = {s: [[] for _ in range(N_PROBES)] for s in SPECIES}
    for _ in range(replicas):
        other = derive(
            _replica(data, rng),
            {s: _replica(simulated[s], rng) for s in SPECIES},
            name=derived.table.name,
            synthetic=derived.table.synthetic,
            nodes=nodes,
            tags=tags,
            max_iterations=_REPLICA_ITERATIONS,
            start=derived.table,
        ).table
        for species in SPECIES:
            for probe in range(N_PROBES):
                energies, values, errors = row(derived.table, species, probe)
                again = function(other, species, probe)(np.array(energies))
                squares[species][probe] += [
                    ((a - v) / e) ** 2
                    for a, v, e in zip(again, values, errors, strict=True)
                    if e > 0
                ]
        if advance is not None:
            advance(1)
    factors: dict[Species, tuple[float, ...]] = {
        s: tuple(max(1.0, float(np.sqrt(np.mean(q)))) if q else 1.0 for q in squares[s])
        for s in SPECIES
    }
    update = {str(s): _widened(derived.table.of(s), factors[s]) for s in SPECIES}
    table = derived.table.model_copy(update=update)
    return replace(derived, table=table, error_factors=factors, replicas=replicas)


def row(
    table: Calibration, species: Species, probe: int
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Nodes, values and errors of one probed variable; error 0 where it was not measured."""
    part = table.of(species)
    if probe == F_LAST:
        nodes, values, errors = part.f_last.energies_gev, part.f_last.steps, part.f_last.errors
    else:
        nodes, values = part.rms.energies_gev, part.rms.layers[probe]
        errors = part.rms.errors_mm[probe] if part.rms.errors_mm else None
    return nodes, values, errors or (0.0,) * len(nodes)


def _replica(events: ControlEvents, rng: np.random.Generator) -> ControlEvents:
    return replace(events, weight=events.weight * rng.poisson(1.0, len(events)))


def _widened(part: SpeciesCalibration, factors: tuple[float, ...]) -> SpeciesCalibration:
    def times(errors: tuple[float, ...] | None, factor: float) -> tuple[float, ...]:
        return tuple(round(e * factor, 4) for e in errors or ())

    errors_mm = tuple(
        times(row, f) for row, f in zip(part.rms.errors_mm or (), factors[:F_LAST], strict=True)
    )
    steps = times(part.f_last.errors, factors[F_LAST])
    return part.model_copy(
        update={
            "rms": part.rms.model_copy(update={"errors_mm": errors_mm}),
            "f_last": part.f_last.model_copy(update={"errors": steps}),
        }
    )


def _start(name: str, synthetic: bool, narrow: Narrow) -> Calibration:
    def zero(rule: Narrow | None) -> SpeciesCalibration:
        return SpeciesCalibration(
            rms=LayerOffsets(energies_gev=(100.0,), layers=((0.0,),) * N_LAYERS),
            f_last=LastFraction(energies_gev=(100.0,), steps=(0.0,)),
            narrow=rule,
        )

    return Calibration(name=name, synthetic=synthetic, electron=zero(narrow), proton=zero(None))


def _sample(histograms: ControlHistograms, tag: int, probe: int) -> Sample:
    return Sample(
        counts=histograms.counts[tag, probe],
        variance=histograms.variance[tag, probe],
        change=histograms.change[tag, probe],
        log_energy=histograms.log_energy[tag, probe],
    )


def _nodes(nodes: Nodes, species: Species, probe: int) -> tuple[float, ...]:
    return nodes.f_last[species] if probe == F_LAST else nodes.rms


def _limit(probe: int) -> float:
    return MAX_ERROR_STEPS if probe == F_LAST else MAX_ERROR_MM


def _largest_move(fit: NodeFit) -> float:
    return float(np.max(np.abs(fit.values) / fit.errors, initial=0.0))


def function(
    table: Calibration, species: Species, probe: int
) -> Callable[[FloatArray], FloatArray]:
    """Offset or steps of one probed variable against energy in GeV."""
    part = table.of(species)
    if probe == F_LAST:
        return part.f_last
    return lambda energy: np.asarray(part.rms(energy)[:, probe])


def _improved(
    table: Calibration, species: Species, fits: tuple[NodeFit, ...], nodes: Nodes, relax: float
) -> SpeciesCalibration:
    """The table of one species with the last fits added.

    The layers share one list of nodes: those that any layer uses. Where a layer lacks one, it takes the
    value of its own piecewise-linear function there.
    """
    part = table.of(species)

    def at(probe: int, energies: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        fit = fits[probe]
        own = np.array(_nodes(nodes, species, probe))[fit.used]
        if not len(own):
            return (0.0,) * len(energies), (0.0,) * len(energies)
        step = relax * np.clip(fit.values, -_LONGEST_STEP, _LONGEST_STEP)
        value = function(table, species, probe)(own) + step
        error = dict(zip(own, fit.errors, strict=True))
        values = np.interp(np.log10(energies), np.log10(own), value)
        return (
            tuple(round(float(v), 4) for v in values),
            tuple(round(float(error.get(e, 0.0)), 4) for e in energies),
        )

    used = np.any([f.used for f in fits[:F_LAST]], axis=0)
    energies = tuple(np.array(nodes.rms)[used].tolist()) or nodes.rms[:1]
    rows = [at(layer, energies) for layer in range(N_LAYERS)]
    last = tuple(np.array(nodes.f_last[species])[fits[F_LAST].used].tolist())
    last = last or nodes.f_last[species][:1]
    steps, errors = at(F_LAST, last)
    return SpeciesCalibration(
        rms=LayerOffsets(
            energies_gev=energies,
            layers=tuple(r[0] for r in rows),
            errors_mm=tuple(r[1] for r in rows),
        ),
        f_last=LastFraction(energies_gev=last, steps=steps, errors=errors),
        narrow=part.narrow,
    )
