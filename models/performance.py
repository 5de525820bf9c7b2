"""The evaluation of all scores on one sample: by energy range and bin, with intervals, as plain tables."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from models.agreement import Agreement, MeanPerBin, mean_per_bin, template_agreement
from models.containment import Containment, Pulls, containment, pulls
from models.evaluation import (
    AucBootstrap,
    EvaluationError,
    auc_bootstrap,
    effective_number,
    flattened_weights,
)
from models.holdout import EnergyEstimates, Holdout
from models.rejection import Ratio, Rejection, Roc, rejection, rejection_ratio, roc
from processors.score import ScoreAxis

__all__ = [
    "BINS_GEV",
    "EFFICIENCIES",
    "RANGES",
    "Distributions",
    "EnergyQuality",
    "Performance",
    "Range",
    "evaluate",
]

FloatArray = npt.NDArray[np.float64]

#: Electron efficiencies at which rejections and background fractions are given.
EFFICIENCIES = (0.8, 0.9, 0.95, 0.98)
#: Quarter decades; the bin around 1 TeV is 750 to 1334 GeV.
BINS_GEV = np.concatenate([[20.0], 10 ** (1.625 + 0.25 * np.arange(10)), [10_000.0]])
#: Leakage bins of the energy network.
LEAKAGE = np.array([0.0, 0.05, 0.08, 0.12, 0.18, 0.25, 0.35, 0.5, 0.7])
#: Bins of true energy of the energy network: three below and six equal ones from 0.5 to 10 TeV.
TRUE_GEV = np.concatenate([[100.0, 200.0, 320.0], np.geomspace(500.0, 10_000.0, 7)])
_FINE_PER_DECADE = 16
_FEWEST = 20  # events of a class without which a range or bin is left out
_MAIN = 0.9


@dataclass(frozen=True)
class Range:
    """A range of corrected energy."""

    name: str
    e_min_gev: float
    e_max_gev: float


#: The whole range of the requirement first, then its decades and the one below.
RANGES = (
    Range("0.1-10 TeV", 100.0, 10_000.0),
    Range("20-100 GeV", 20.0, 100.0),
    Range("0.1-1 TeV", 100.0, 1000.0),
    Range("1-10 TeV", 1000.0, 10_000.0),
)


@dataclass(frozen=True, eq=False)
class Distributions:
    """Score histograms of one range; every array has shape (bins,), under- and overflow in the ends.

    Attributes:
        electrons: Σw.
        electrons_variance: Σw².
        protons: Σw.
        protons_variance: Σw².
        data: Counts.
    """

    electrons: FloatArray
    electrons_variance: FloatArray
    protons: FloatArray
    protons_variance: FloatArray
    data: FloatArray


@dataclass(frozen=True, eq=False)
class EnergyQuality:
    """Quality of the corrected energy (before) and of the network's (after), by abscissa.

    Attributes:
        before: ``true energy`` and ``leakage`` to the containment of the corrected energy.
        after: The same of the network's energy.
        pulls: Of the network's own errors.
    """

    before: Mapping[str, Containment]
    after: Mapping[str, Containment]
    pulls: Pulls


@dataclass(frozen=True, eq=False)
class Performance:
    """All results; see the tables of :meth:`tables` for what they are called in files.

    Attributes:
        names: Scores.
        ranges: Energy ranges with enough events.
        auc: Range to AUC with both classes flat in log energy.
        bin_edges_gev: Edges of the energy bins.
        bin_auc: AUC in each energy bin; None where a class is missing.
        rejections: Score and efficiency to rejection per bin.
        ratios: Score to its rejection over that of zeta per bin at 90 % (None without events).
        rocs: Range to score to ROC curve.
        counts: Range to numbers of events.
        distributions: Range to score to histograms.
        agreement: Range to score to the agreement of data with the templates; empty without data.
        attention: Class to mean attention weights per bin.
        modalities: Names of their columns.
        energy: Of the energy network.
        unscored: Events left out.
    """

    names: tuple[str, ...]
    ranges: tuple[Range, ...]
    auc: Mapping[str, AucBootstrap]
    bin_edges_gev: FloatArray
    bin_auc: Sequence[AucBootstrap | None]
    rejections: Mapping[tuple[str, float], Rejection]
    ratios: Mapping[str, Sequence[Ratio | None]]
    rocs: Mapping[str, Mapping[str, Roc]]
    counts: Mapping[str, Mapping[str, float]]
    distributions: Mapping[str, Mapping[str, Distributions]]
    agreement: Mapping[str, Mapping[str, Agreement]]
    attention: Mapping[str, MeanPerBin] = field(default_factory=dict)
    modalities: tuple[str, ...] = ()
    energy: EnergyQuality | None = None
    unscored: int = 0


def evaluate(
    sample: Holdout,
    axes: Mapping[str, ScoreAxis],
    *,
    ranges: Sequence[Range] = RANGES,
    bins_gev: npt.ArrayLike = BINS_GEV,
    efficiencies: Sequence[float] = EFFICIENCIES,
    replicas: int = 200,
    seed: int = 1,
) -> Performance:
    """Evaluate all scores on the same events.

    Events have the weights of their rates under the target fluxes (files of different energies then join
    without a step), or their sampling weights where a file does not say how it was generated.

    Args:
        sample: The scores.
        axes: Score to its histogram axis.
        ranges: Energy ranges for AUC, ROC and distributions.
        bins_gev: Edges of the energy bins for AUC and rejection.
        efficiencies: Electron efficiencies; 0.9 should be one of them.
        replicas: Replicas of the intervals.
        seed: Seed of the replicas.

    Returns:
        All results.

    Raises:
        EvaluationError: No range has both electrons and protons.
    """
    names, electron, w = tuple(sample.scores), sample.electron, _weights(sample)
    energy = sample.e_corr_gev.astype(np.float64)
    edges = np.asarray(bins_gev, np.float64)

    def both(low: float, high: float) -> npt.NDArray[np.intp] | None:
        rows = np.flatnonzero((energy >= low) & (energy < high) & (w > 0))
        n = int(electron[rows].sum())
        return rows if min(n, rows.size - n) >= _FEWEST else None

    def scores(rows: npt.NDArray[np.intp]) -> dict[str, npt.ArrayLike]:
        return {name: sample.scores[name][rows] for name in names}

    used = [(r, rows) for r in ranges if (rows := both(r.e_min_gev, r.e_max_gev)) is not None]
    if not used:
        msg = f"no energy range has {_FEWEST} electrons and {_FEWEST} protons; give more files"
        raise EvaluationError(msg)
    auc, rocs, counts, shapes, agreement = {}, {}, {}, {}, {}
    for r, rows in used:
        decades = math.log10(r.e_max_gev / r.e_min_gev)
        fine = np.geomspace(r.e_min_gev, r.e_max_gev, max(2, round(_FINE_PER_DECADE * decades)) + 1)
        flat = flattened_weights(energy[rows], electron[rows], w[rows], fine)
        auc[r.name] = auc_bootstrap(
            scores(rows), electron[rows], flat, replicas=replicas, seed=seed
        )
        good = rows[flat > 0]
        rocs[r.name] = {
            n: roc(sample.scores[n][good], electron[good], flat[flat > 0]) for n in names
        }
        counts[r.name] = _counts(electron[rows], sample.sampling[rows])
        shapes[r.name] = {n: _distributions(sample, n, r, rows, axes[n]) for n in names}
        if shapes[r.name][names[0]].data.any():
            agreement[r.name] = {n: _agreement(shapes[r.name][n], axes[n]) for n in names}
    bin_rows = [both(low, high) for low, high in itertools.pairwise(edges)]
    return Performance(
        names=names,
        ranges=tuple(r for r, _ in used),
        auc=auc,
        bin_edges_gev=edges,
        bin_auc=[
            None
            if rows is None
            else auc_bootstrap(scores(rows), electron[rows], w[rows], replicas=replicas, seed=seed)
            for rows in bin_rows
        ],
        rejections={
            (n, e): rejection(
                sample.scores[n], electron, energy, edges, efficiency=e, weights=w, rate=sample.rate
            )
            for n in names
            for e in efficiencies
        },
        ratios={
            n: [None if rows is None else _to_zeta(sample, n, rows, seed) for rows in bin_rows]
            for n in names
            if n != "zeta" and "zeta" in names
        },
        rocs=rocs,
        counts=counts,
        distributions=shapes,
        agreement=agreement,
        attention=_attention(sample, edges),
        modalities=sample.attention.modalities if sample.attention else (),
        energy=None if sample.energy is None else energy_quality(sample.energy),
        unscored=sample.unscored,
    )


def _to_zeta(sample: Holdout, name: str, rows: npt.NDArray[np.intp], seed: int) -> Ratio:
    return rejection_ratio(
        sample.scores[name][rows],
        sample.scores["zeta"][rows],
        sample.electron[rows],
        efficiency=_MAIN,
        weights=_weights(sample)[rows],
        seed=seed,
    )


def _weights(sample: Holdout) -> FloatArray:
    return np.asarray(sample.sampling if sample.rate is None else sample.rate, np.float64)


def _counts(electron: npt.NDArray[np.bool_], weights: npt.NDArray[Any]) -> dict[str, float]:
    return {
        "electrons": int(electron.sum()),
        "protons": int((~electron).sum()),
        "effective_electrons": effective_number(weights[electron]),
        "effective_protons": effective_number(weights[~electron]),
    }


def _distributions(
    sample: Holdout, name: str, r: Range, rows: npt.NDArray[np.intp], axis: ScoreAxis
) -> Distributions:
    weights = _weights(sample)

    def filled(values: npt.NDArray[Any], w: npt.NDArray[Any] | None = None) -> FloatArray:
        width = (axis.high - axis.low) / axis.bins
        number = np.clip(np.floor((values - axis.low) / width), 0, axis.bins - 1).astype(np.intp)
        return np.asarray(np.bincount(number, w, axis.bins), np.float64)

    parts = []
    for chosen in (sample.electron[rows], ~sample.electron[rows]):
        values = sample.scores[name][rows[chosen]].astype(np.float64)
        w = weights[rows[chosen]]
        parts.append((filled(values, w), filled(values, w**2)))
    inside = (sample.data_e_corr_gev >= r.e_min_gev) & (sample.data_e_corr_gev < r.e_max_gev)
    data = filled(sample.data[name][inside].astype(np.float64)) if inside.any() else None
    electrons, protons = parts
    return Distributions(*electrons, *protons, np.zeros(axis.bins) if data is None else data)


def _agreement(d: Distributions, axis: ScoreAxis) -> Agreement:
    return template_agreement(
        d.data,
        d.electrons,
        d.protons,
        d.electrons_variance,
        d.protons_variance,
        np.linspace(axis.low, axis.high, axis.bins + 1),
    )


def _attention(sample: Holdout, edges: FloatArray) -> dict[str, MeanPerBin]:
    a = sample.attention
    if a is None:
        return {}
    return {
        name: mean_per_bin(a.weights[rows], a.e_corr_gev[rows], edges, a.sampling[rows])
        for name, rows in (("electrons", a.electron), ("protons", ~a.electron))
    }


def energy_quality(
    estimates: EnergyEstimates,
    *,
    true_gev: npt.ArrayLike = TRUE_GEV,
    leakage: npt.ArrayLike = LEAKAGE,
) -> EnergyQuality:
    """Bias and containment of the corrected and of the network's energy.

    Args:
        estimates: Of electrons.
        true_gev: Edges of true energy.
        leakage: Edges of the leakage 1 - E_raw/E_true.

    Returns:
        By true energy and by leakage.
    """
    e = estimates
    after = e.e_corr_gev * np.exp(e.log_ratio)
    abscissas = {"true energy": (e.e_true_gev, true_gev), "leakage": (e.leakage, leakage)}
    before_after = [
        {
            name: containment(rec, e.e_true_gev, x, border, weights=e.sampling)
            for name, (x, border) in abscissas.items()
        }
        for rec in (e.e_corr_gev, after)
    ]
    return EnergyQuality(
        before_after[0],
        before_after[1],
        pulls(e.log_ratio, e.log_sigma, np.log(e.e_true_gev / e.e_corr_gev), e.sampling),
    )
