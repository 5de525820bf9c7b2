"""Scores of reference events (full Geant4 showers) against those of the simulation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from models.agreement import TwoSample, two_sample_test
from models.evaluation import ONE_SIGMA, EvaluationError
from models.holdout import Holdout
from models.rejection import Rejection

__all__ = ["EnergyCut", "ReferenceComparison", "compare_reference", "reference_rows"]

FloatArray = npt.NDArray[np.float64]


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
