"""Control samples of the calibration: from ntuples to histograms of the probed shower variables.

Data and Monte Carlo events that pass the selection are tagged as electron-like and as proton-like by
what the probed variable has no part in: for the RMS of layer i by a zeta from the other layers (their
sum times 14/13), for F_last by the RMS of the four upper layers, which tell little of the tail. For Monte Carlo the table so far is applied to
all of them. ``analysis.calibrate`` turns the histograms into offsets.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from coffea.nanoevents import BaseSchema, NanoEventsFactory

from processors.calibration import (
    F_LAST_STEP,
    Calibration,
    SpeciesCalibration,
    calibrate_f_last,
    calibrate_rms,
)
from processors.chain import Cut, evaluate
from processors.exceptions import CreError, MissingBranchError
from processors.geometry import N_LAYERS
from processors.manifest import FileEntry
from processors.ntuple import Ntuple, load_aliases
from processors.selections import cut_fields
from processors.showers import f_last
from processors.spectrum import Spectrum
from processors.weights import rate_weights

__all__ = [
    "F_LAST",
    "N_PROBES",
    "ControlEvents",
    "ControlHistograms",
    "ControlSampleError",
    "Tags",
    "control_cuts",
    "energy_edges",
    "fill",
    "read_events",
]

FloatArray = npt.NDArray[np.float64]
Species = Literal["electron", "proton"]

#: Probed variables: the RMS of layers 0 to 13, and log10 F_last as the last one.
N_PROBES = N_LAYERS + 1
F_LAST = N_LAYERS
#: Bins of a probed variable: one for RMS 0, then 0 to 150 mm; for F_last 1e-6 to 1.
N_VALUES = 301
_RMS_WIDTH_MM = 0.5
_LOG_F_LOW, _LOG_F_WIDTH = -6.02, 0.02
#: How far a table is moved, up and down, to see how the histograms change: this share of the spread of
#: the variable. Less, and the change is the noise of the few events that cross an edge.
_MOVE = 0.4
_CHUNK = 100_000
_UPPER_LAYERS = 4


class ControlSampleError(CreError):
    """The files do not give a usable control sample."""


@dataclass(frozen=True)
class Tags:
    """Limits of the tags.

    Attributes:
        electron_max_zeta: Electron-like below it, for the layer RMS.
        proton_min_zeta: Proton-like above it.
        electron_max_upper_mm: Electron-like below this sum of the RMS of layers 0 to 3, for F_last.
        proton_min_upper_mm: Proton-like above it.
    """

    electron_max_zeta: float = 8.5
    proton_min_zeta: float = 20.0
    electron_max_upper_mm: float = 85.0
    proton_min_upper_mm: float = 115.0


@dataclass(frozen=True, eq=False)
class ControlEvents:
    """Selected events of one kind.

    Attributes:
        energy_gev: Corrected energies, shape (n,).
        layer_rms_mm: Layer RMS as stored, shape (n, 14).
        last_fraction: F_last as stored, shape (n,).
        weight: 1 for data, events per second of the target flux for Monte Carlo, shape (n,).
        complete_above_gev: Energies from which the files are complete: steps of the rate.
    """

    energy_gev: FloatArray
    layer_rms_mm: FloatArray
    last_fraction: FloatArray
    weight: FloatArray
    complete_above_gev: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.energy_gev)


@dataclass(frozen=True, eq=False)
class ControlHistograms:
    """Histograms of the probed variables; tag 0 is electron-like, 1 proton-like.

    Attributes:
        counts: Sum of weights, shape (2, 15, energy bins, values).
        variance: Sum of squared weights, same shape.
        change: Change of the counts when the offset grows by 1 mm or 1 step, same shape; 0 for data.
        log_energy: Mean log10 E of the tagged events, shape (2, 15, energy bins); NaN in empty bins.
    """

    counts: FloatArray
    variance: FloatArray
    change: FloatArray
    log_energy: FloatArray


def control_cuts(cuts: Sequence[Cut], region: str) -> tuple[tuple[Cut, ...], tuple[str, ...]]:
    """The cuts of a chain that leave the probed variables alone.

    Args:
        cuts: The chain of a card.
        region: Region that will be selected.

    Returns:
        The cuts that do not read the layer RMS, and the names of those that do: they would cut off a
        tail whose place differs in data and Monte Carlo.
    """
    probing = [c.name for c in cuts if "layer_rms" in cut_fields(c.function(region))]
    return tuple(c for c in cuts if c.name not in probing), tuple(probing)


def read_events(
    files: Sequence[FileEntry],
    cuts: Sequence[Cut],
    *,
    kind: str,
    region: str = "fiducial",
    target: Spectrum | None = None,
    advance: Callable[[int], None] | None = None,
) -> ControlEvents:
    """Read the selected events of all files of one kind.

    Events below the energy from which their file is complete are left out.

    Args:
        files: Files of the manifest of this kind.
        cuts: The chain, see :func:`control_cuts`.
        kind: ``data``, ``electron`` or ``proton``.
        region: Region to select.
        target: Flux to which Monte Carlo is weighted; not for data.
        advance: Called with the number of events read.

    Returns:
        The events.

    Raises:
        ControlSampleError: If there are no files, or none of their events is selected.
        MissingBranchError: If a file lacks a field that is needed.
    """
    if not files:
        msg = f"no {kind} files: the calibration needs data, electron and proton files"
        raise ControlSampleError(msg)
    if (kind == "data") != (target is None):
        msg = f"a target spectrum is for Monte Carlo, and needed there (kind {kind})"
        raise ValueError(msg)
    fields = ("e_corr", "layer_rms", "layer_fraction", *(() if kind == "data" else ("e_true",)))
    for file in files:
        lacking = [f for f in fields if f not in file.fields]
        if lacking:
            msg = f"{file.path}: no branch for field {', '.join(lacking)}, which the calibration needs"
            raise MissingBranchError(msg)
    generated = [f.generated for f in files if f.generated is not None]
    parts: list[ControlEvents] = []
    for file in files:
        for ntuple in _chunks(file):
            selected = evaluate(ntuple, cuts, kind=kind, region=region).selected
            energy = np.asarray(ntuple["e_corr"], np.float64)
            rows = np.flatnonzero(selected & (energy >= max(file.complete_above_gev, 1e-3)))
            weight = np.ones(len(rows))
            if target is not None:
                if file.weights == "sampling":
                    weight = np.asarray(ntuple["weight"], np.float64)[rows]
                true = np.asarray(ntuple["e_true"], np.float64)[rows]
                weight = rate_weights(true, weight, generated, target)
            parts.append(
                ControlEvents(
                    energy_gev=energy[rows],
                    layer_rms_mm=np.asarray(ntuple["layer_rms"][rows], np.float64),
                    last_fraction=f_last(ntuple["layer_fraction"][rows]),
                    weight=weight,
                )
            )
            if advance is not None:
                advance(len(ntuple))
    names = ("energy_gev", "layer_rms_mm", "last_fraction", "weight")
    columns = {n: np.concatenate([getattr(p, n) for p in parts]) for n in names}
    good = np.isfinite(columns["weight"]) & np.isfinite(columns["layer_rms_mm"]).all(axis=1)
    if not good.all() or not good.size:
        what = f"{int((~good).sum())} of {good.size}" if good.size else "none"
        why = "have no finite weight or RMS" if good.size else "passes the cuts"
        msg = f"{kind}: {what} of the selected events {why}; check the files and the card"
        raise ControlSampleError(msg)
    borders = tuple(sorted({f.complete_above_gev for f in files}))
    return ControlEvents(**columns, complete_above_gev=borders)


def _chunks(file: FileEntry) -> Iterator[Ntuple]:
    aliases = load_aliases(file.aliases)
    for start in range(0, file.entries, _CHUNK):
        events = NanoEventsFactory.from_root(
            {file.path: file.tree},
            schemaclass=BaseSchema,
            mode="virtual",
            entry_start=start,
            entry_stop=min(start + _CHUNK, file.entries),
        ).events()
        yield Ntuple(events, aliases)


def energy_edges(
    borders_gev: Sequence[float], e_min_gev: float, e_max_gev: float, *, width: float = 0.2
) -> FloatArray:
    """Edges of log10 E with every border on an edge.

    No bin then holds a kink of the offsets (a node of the tables) or a step of the rate of data (where
    one more file becomes complete).

    Args:
        borders_gev: Nodes of all tables and energies from which files are complete.
        e_min_gev: Lowest energy of the events.
        e_max_gev: Highest energy of the events.
        width: Widest bin in log10.

    Returns:
        Ascending edges in log10(E/GeV).
    """
    inner = [n for n in sorted(set(borders_gev)) if e_min_gev * 1.02 < n < e_max_gev / 1.02]
    borders = np.log10([e_min_gev, *inner, e_max_gev])
    edges = [borders[:1]]
    for low, high in itertools.pairwise(borders):
        bins = max(1, int(np.ceil((high - low) / width - 1e-9)))
        edges.append(np.linspace(low, high, bins + 1)[1:])
    return np.concatenate(edges)


def fill(
    events: ControlEvents,
    log_edges: FloatArray,
    tags: Tags,
    calibration: Calibration | None = None,
    species: Species | None = None,
) -> ControlHistograms:
    """Histograms of the probed variables in both tags.

    Args:
        events: Selected events.
        log_edges: Edges of log10 E.
        tags: Limits of the tags.
        calibration: Table so far, for Monte Carlo; None for data.
        species: Species of the Monte Carlo events, needed with a calibration.

    Returns:
        The histograms.

    Raises:
        ValueError: If only one of calibration and species is given.
    """
    if (calibration is None) != (species is None):
        msg = "give a calibration and a species for Monte Carlo, neither for data"
        raise ValueError(msg)
    values = {0: (events.layer_rms_mm, events.last_fraction)}
    move = np.zeros(N_PROBES)
    if calibration is not None and species is not None:
        move = _MOVE * _spread(events)
        values = {
            sign: _calibrated(events, _moved(calibration, sign * move), species)
            for sign in (0, 1, -1)
        }
    log_e = np.log10(events.energy_gev)
    energy_bin = np.searchsorted(log_edges, log_e, side="right") - 1
    n_energy = len(log_edges) - 1
    inside = (energy_bin >= 0) & (energy_bin < n_energy)
    tagged = _tagged(*values[0], tags) & inside
    bins = {sign: _value_bins(*v) for sign, v in values.items()}
    shape = (2, N_PROBES, n_energy, N_VALUES)
    counts, variance, change = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    log_energy = np.full(shape[:3], np.nan)
    for tag in range(2):
        for probe in range(N_PROBES):
            rows = np.flatnonzero(tagged[tag, probe])
            weight, place = events.weight[rows], energy_bin[rows] * N_VALUES
            size = n_energy * N_VALUES
            flat = {s: place + b[rows, probe] for s, b in bins.items()}
            counts[tag, probe] = _histogram(flat[0], weight, size).reshape(shape[2:])
            variance[tag, probe] = _histogram(flat[0], weight**2, size).reshape(shape[2:])
            if len(flat) > 1:
                up, down = (_histogram(flat[s], weight, size).reshape(shape[2:]) for s in (1, -1))
                change[tag, probe] = (up - down) / (2 * move[probe])
            total = _histogram(energy_bin[rows], weight, n_energy)
            sums = _histogram(energy_bin[rows], weight * log_e[rows], n_energy)
            np.divide(sums, total, out=log_energy[tag, probe], where=total > 0)
    return ControlHistograms(counts, variance, change, log_energy)


def _histogram(index: npt.NDArray[np.intp], weight: FloatArray, size: int) -> FloatArray:
    return np.asarray(np.bincount(index, weight, minlength=size), np.float64)


def _spread(events: ControlEvents) -> FloatArray:
    """Half of the range that holds the middle 68 % of each probed variable, shape (15,), mm and steps."""
    log_f = np.log10(np.maximum(events.last_fraction, 1e-6)) / F_LAST_STEP
    low, high = np.quantile(np.column_stack([events.layer_rms_mm, log_f]), [0.16, 0.84], axis=0)
    return np.asarray(np.maximum((high - low) / 2, 0.5))


def _moved(calibration: Calibration, by: FloatArray) -> Calibration:
    """The table with all offsets of each layer (mm) and all steps larger by a number, shape (15,)."""

    def shifted(part: SpeciesCalibration) -> SpeciesCalibration:
        layers = tuple(
            tuple(v + d for v in row) for row, d in zip(part.rms.layers, by[:F_LAST], strict=True)
        )
        steps = tuple(v + by[F_LAST] for v in part.f_last.steps)
        return part.model_copy(
            update={
                "rms": part.rms.model_copy(update={"layers": layers}),
                "f_last": part.f_last.model_copy(update={"steps": steps}),
            }
        )

    return calibration.model_copy(
        update={
            "electron": shifted(calibration.electron),
            "proton": shifted(calibration.proton),
        }
    )


def _calibrated(
    events: ControlEvents, calibration: Calibration, species: Species
) -> tuple[FloatArray, FloatArray]:
    energy = events.energy_gev
    rms = calibrate_rms(calibration, species, energy, events.layer_rms_mm)
    last = calibrate_f_last(calibration, species, energy, events.last_fraction)
    return np.asarray(rms, np.float64), np.asarray(last, np.float64)


def _tagged(rms: FloatArray, last: FloatArray, tags: Tags) -> npt.NDArray[np.bool_]:
    """Which events carry which tag for which probed variable, shape (2, 15, n)."""
    total = rms.sum(axis=1)
    others = (total[:, None] - rms) * (N_LAYERS / (N_LAYERS - 1))
    zeta = (last[:, None] * others**4 / 8.0e6).T
    out = np.empty((2, N_PROBES, len(last)), bool)
    out[0, :N_LAYERS] = zeta < tags.electron_max_zeta
    out[1, :N_LAYERS] = zeta > tags.proton_min_zeta
    upper = rms[:, :_UPPER_LAYERS].sum(axis=1)
    out[0, F_LAST] = upper < tags.electron_max_upper_mm
    out[1, F_LAST] = upper > tags.proton_min_upper_mm
    return out


def _value_bins(rms: FloatArray, last: FloatArray) -> npt.NDArray[np.intp]:
    """Bin of each probed variable, shape (n, 15); the first bin of an RMS is exactly 0."""
    out = np.empty((len(last), N_PROBES), np.intp)
    width = 1 + np.floor(rms / _RMS_WIDTH_MM)
    out[:, :N_LAYERS] = np.where(rms > 0, np.minimum(width, N_VALUES - 1), 0)
    log_f = np.log10(np.maximum(last, 1e-6))
    place = np.floor((log_f - _LOG_F_LOW) / _LOG_F_WIDTH)
    out[:, F_LAST] = np.clip(place, 0, N_VALUES - 1)
    return out
