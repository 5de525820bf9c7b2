"""Scores and energies of reference events (full Geant4 showers) against those of the simulation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from models.agreement import TwoSample, two_sample_test
from models.containment import Containment, Pulls, containment, pulls
from models.evaluation import ONE_SIGMA, EvaluationError
from models.holdout import EnergyEstimates, Holdout
from models.rejection import Rejection

__all__ = [
    "REFERENCE_LEAKAGE",
    "EnergyCut",
    "ReferenceComparison",
    "ReferenceEnergy",
    "compare_reference",
    "energy_rows",
    "reference_energy",
    "reference_rows",
]

FloatArray = npt.NDArray[np.float64]

#: Bins of the leakage 1 - E_raw/E_true for energies of reference events; contained ones have 0.06.
REFERENCE_LEAKAGE = (0.0, 0.1, 0.2, 0.4, 1.0)


@dataclass(frozen=True, eq=False)
class EnergyCut:
    """A score cut that is linear in log energy between nodes, constant outside.

    Attributes:
        energy_gev: Nodes, ascending.
        cut: Score there.
    """

    energy_gev: FloatArray
    cut: FloatArray

    @classmethod
    def of(cls, rejection: Rejection) -> EnergyCut:
        """The cut of a fixed electron efficiency, between the middles of the energy bins.

        Raises:
            EvaluationError: No bin has a cut.
        """
        good = np.isfinite(rejection.cut)
        if not good.any():
            msg = "no energy bin of the sample has electrons and protons to set a cut"
            raise EvaluationError(msg)
        middle = np.sqrt(rejection.e_min_gev * rejection.e_max_gev)
        return cls(middle[good], rejection.cut[good])

    def at(self, energy_gev: npt.ArrayLike) -> FloatArray:
        """The cut at energies, same shape."""
        e = np.log(np.asarray(energy_gev, np.float64))
        return np.asarray(np.interp(e, np.log(self.energy_gev), self.cut))


@dataclass(frozen=True)
class ReferenceComparison:
    """One score on the reference events of a kind and on the same primaries simulated.

    Attributes:
        kind: ``electron`` or ``proton``.
        part: ``full``, ``hybrid`` or ``all``.
        score: Name of the score.
        reference_events: Selected reference events.
        simulated_events: Selected simulated events.
        reference_efficiency: Share of the reference events above the cut.
        reference_lower: Lower end of its Clopper-Pearson interval.
        reference_upper: Upper end.
        simulated_efficiency: Share of the simulated events above the cut.
        simulated_lower: Lower end.
        simulated_upper: Upper end.
        above: Reference events above the cut.
        above_zeta_rejected: Of these, events that zeta's cut of the same electron efficiency rejects;
            None if zeta was not evaluated.
        test: Two-sample test of the two score distributions.
    """

    kind: str
    part: str
    score: str
    reference_events: int
    simulated_events: int
    reference_efficiency: float
    reference_lower: float
    reference_upper: float
    simulated_efficiency: float
    simulated_lower: float
    simulated_upper: float
    above: int
    above_zeta_rejected: int | None
    test: TwoSample


@dataclass(frozen=True, eq=False)
class ReferenceEnergy:
    """The energy of the electrons of one sample: reference events, or the same primaries simulated.

    Attributes:
        part: ``full``, ``hybrid`` or ``all``.
        sample: Which.
        corrected: Quality of the corrected energy by leakage; the last bin is all of them together.
        network: The same of the network's energy.
        pulls: Of the network's energy.
    """

    part: str
    sample: str
    corrected: tuple[Containment, Containment]
    network: tuple[Containment, Containment]
    pulls: Pulls


def reference_energy(estimates: EnergyEstimates, part: str, sample: str) -> ReferenceEnergy:
    """How well the energies of a sample of electrons are rebuilt.

    Args:
        estimates: What corrected energy and network say.
        part: Which part of the reference.
        sample: Which sample.

    Returns:
        Bias and widths in bins of leakage and of all events.
    """
    e = estimates
    network = e.e_corr_gev * np.exp(e.log_ratio)
    true = np.log(e.e_true_gev / e.e_corr_gev)
    found = [
        tuple(
            containment(rec, e.e_true_gev, e.leakage, edges, weights=e.sampling)
            for edges in (REFERENCE_LEAKAGE, (-1.0, 1.0))
        )
        for rec in (e.e_corr_gev, network)
    ]
    return ReferenceEnergy(
        part,
        sample,
        (found[0][0], found[0][1]),
        (found[1][0], found[1][1]),
        pulls(e.log_ratio, e.log_sigma, true, e.sampling),
    )


def energy_rows(energies: Sequence[ReferenceEnergy]) -> list[dict[str, Any]]:
    """Energies as rows of plain values: one per sample, estimate and bin, None where a bin is too small.

    Args:
        energies: Of :func:`reference_energy`.

    Returns:
        Rows; widths are relative to the true energy.
    """
    rows = []
    for energy in energies:
        for estimate, both in (("corrected", energy.corrected), ("network", energy.network)):
            for curve in both:
                for i in range(curve.events.size):
                    row: dict[str, Any] = {
                        "part": energy.part,
                        "sample": energy.sample,
                        "energy": estimate,
                        "leakage_low": float(curve.edges[i]) if curve is both[0] else None,
                        "leakage_high": float(curve.edges[i + 1]) if curve is both[0] else None,
                        "events": int(curve.events[i]),
                    }
                    for name in _QUALITY:
                        value = float(getattr(curve, name)[i])
                        row[name] = value if math.isfinite(value) else None
                    network = estimate == "network" and curve is both[1]
                    row["pull_median"] = energy.pulls.median if network else None
                    row["pull_width"] = energy.pulls.width if network else None
                    rows.append(row)
    return rows


_QUALITY = (
    "bias",
    "bias_error",
    "half_width_68",
    "half_width_68_error",
    "half_width_95",
    "half_width_95_error",
)


def compare_reference(
    reference: Holdout, simulated: Holdout, cuts: Mapping[str, EnergyCut], kind: str, part: str
) -> list[ReferenceComparison]:
    """Compare all scores of one kind of event.

    Args:
        reference: Scores of the reference events, all of one kind.
        simulated: Scores of the same primaries simulated.
        cuts: Score to its cut at the electron efficiency in question.
        kind: What the events are.
        part: Which part of the reference.

    Returns:
        One comparison per score.

    Raises:
        EvaluationError: A sample is empty.
    """
    passed = {
        name: (_above(reference, name, cut), _above(simulated, name, cut))
        for name, cut in cuts.items()
    }
    zeta = passed["zeta"][0] if "zeta" in passed else None
    return [
        ReferenceComparison(
            kind,
            part,
            name,
            there.size,
            here.size,
            *_share(there),
            *_share(here),
            int(there.sum()),
            None if zeta is None else int((there & ~zeta).sum()),
            two_sample_test(reference.scores[name], simulated.scores[name]),
        )
        for name, (there, here) in passed.items()
    ]


def _above(sample: Holdout, name: str, cut: EnergyCut) -> npt.NDArray[np.bool_]:
    return np.asarray(sample.scores[name] >= cut.at(sample.e_corr_gev))


def _share(passed: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """Share and its central 68.27 % interval (Clopper and Pearson 1934)."""
    k, n = int(passed.sum()), passed.size
    if not n:
        return math.nan, 0.0, 1.0
    tail = (1 - ONE_SIGMA) / 2
    low = float(special.betaincinv(k, n - k + 1, tail)) if k else 0.0
    high = float(special.betainccinv(k + 1, n - k, tail)) if k < n else 1.0
    return k / n, low, high


def reference_rows(comparisons: list[ReferenceComparison]) -> list[dict[str, Any]]:
    """Comparisons as rows of plain values.

    Args:
        comparisons: All of them.

    Returns:
        One row each.
    """
    rows = []
    for c in comparisons:
        row = dataclasses.asdict(c)
        test = row.pop("test")
        row |= {"ks_distance": test["distance"], "ks_p_value": test["p_value"]}
        rows.append(row)
    return rows
