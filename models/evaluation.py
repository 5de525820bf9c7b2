"""How well scores separate electrons from protons: the AUC and its uncertainty, weights, quantiles.

Pure functions on arrays of events; scores are high for electrons, weights are positive. A weight is
that of importance sampling, alone or times a target spectrum; results that depend on the relative
number of electrons and protons (background fractions) need weights in events per second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from processors.exceptions import CreError

__all__ = [
    "ONE_SIGMA",
    "AucBootstrap",
    "EvaluationError",
    "auc",
    "auc_bootstrap",
    "bin_numbers",
    "checked",
    "effective_number",
    "flattened_weights",
    "poisson_counts",
    "weighted_quantile",
]

Values = npt.ArrayLike
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

ONE_SIGMA = math.erf(1.0 / math.sqrt(2.0))
"""Probability within one standard deviation of a Gaussian, 0.6827."""

_CELLS = 4096
_POISSON_STEPS = 2**16


class EvaluationError(CreError):
    """A sample cannot be evaluated: a class is missing, or a score is not finite."""


# --- weights -------------------------------------------------------------------------------------


def effective_number(weights: Values) -> float:
    """(Σw)²/Σw²: unweighted events with the same relative error of their sum.

    Args:
        weights: Shape (n,).

    Returns:
        The number; 0 without events.
    """
    w = np.asarray(weights, np.float64)
    squares = float((w**2).sum())
    return float(w.sum()) ** 2 / squares if squares > 0 else 0.0


def bin_numbers(values: Values, edges: Values) -> npt.NDArray[np.intp]:
    """Bin of each value, lower edge included; -1 outside.

    Args:
        values: Shape (n,).
        edges: Ascending, shape (m + 1,).

    Returns:
        Shape (n,), from -1 to m - 1.
    """
    e = np.asarray(edges, np.float64)
    number = np.searchsorted(e, np.asarray(values, np.float64), side="right") - 1
    return np.where((number >= 0) & (number < e.size - 1), number, -1)


def flattened_weights(
    energy_gev: Values, electron: Values, weights: Values, edges_gev: Values
) -> FloatArray:
    """Weights that make both classes flat in log energy, so that no class is told by its energy.

    In each bin electrons and protons get the same total, proportional to the bin's width in log E.
    Events of a bin that lacks one of the classes get 0.

    Args:
        energy_gev: Corrected energy, shape (n,).
        electron: Whether an event is an electron, shape (n,).
        weights: Sampling weights, shape (n,).
        edges_gev: Edges of fine energy bins; events outside get 0.

    Returns:
        Shape (n,); both classes sum to the same number, at most 1.
    """
    edges = np.asarray(edges_gev, np.float64)
    is_electron, w = np.asarray(electron, bool), np.asarray(weights, np.float64)
    number = bin_numbers(energy_gev, edges)
    share = np.diff(np.log(edges)) / np.log(edges[-1] / edges[0])
    classes = (is_electron, ~is_electron)
    inside = number >= 0
    sums = [
        np.bincount(number[c & inside], weights=w[c & inside], minlength=share.size)
        for c in classes
    ]
    both = (sums[0] > 0) & (sums[1] > 0)
    out = np.zeros(w.size)
    for c, total in zip(classes, sums, strict=True):
        factor = np.where(both, share / np.where(both, total, 1.0), 0.0)
        out[c & inside] = w[c & inside] * factor[number[c & inside]]
    return out


def weighted_quantile(values: Values, weights: Values, share: Values) -> FloatArray:
    """Smallest value up to which the cumulative weight reaches a share of the total.

    Args:
        values: Shape (n,), n > 0.
        weights: Shape (n,).
        share: Shares between 0 and 1, any shape.

    Returns:
        Shape of ``share``.
    """
    v, w = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    order = np.argsort(v, kind="stable")
    cumulative = np.cumsum(w[order])
    goal = np.asarray(share, np.float64) * cumulative[-1]
    at = np.searchsorted(cumulative, goal * (1 - 1e-12), side="left")
    return np.asarray(v[order][np.minimum(at, v.size - 1)], np.float64)


# --- AUC -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class AucBootstrap:
    """AUC of several scores on the same events, with replicas of the sample.

    Attributes:
        names: The S scores.
        value: Exact weighted AUC, shape (S,).
        replicas: AUC in each replica of the sample, the same replica for all scores, shape (R, S).
        n_electrons: Electrons of positive weight.
        n_protons: Protons of positive weight.
        effective_electrons: Their effective number.
        effective_protons: The same for protons.
    """

    names: tuple[str, ...]
    value: FloatArray
    replicas: FloatArray
    n_electrons: int
    n_protons: int
    effective_electrons: float
    effective_protons: float

    def of(self, name: str) -> float:
        """AUC of one score."""
        return float(self.value[self.names.index(name)])

    def interval(self, name: str, level: float = ONE_SIGMA) -> tuple[float, float]:
        """Central interval of one score's AUC: quantiles of the replicas."""
        return _central(self.replicas[:, self.names.index(name)], level)

    def difference(
        self, first: str, second: str, level: float = ONE_SIGMA
    ) -> tuple[float, float, float]:
        """AUC(first) - AUC(second) on the same events: value, and ends of the paired interval."""
        i, j = self.names.index(first), self.names.index(second)
        low, high = _central(self.replicas[:, i] - self.replicas[:, j], level)
        return float(self.value[i] - self.value[j]), low, high


def _central(replicas: FloatArray, level: float) -> tuple[float, float]:
    low, high = np.quantile(replicas, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def auc(scores: Values, electron: Values, weights: Values | None = None) -> float:
    """Probability that an electron scores above a proton, ties counted half; exact, O(n log n).

    Args:
        scores: Shape (n,), finite.
        electron: Whether an event is an electron, shape (n,).
        weights: Shape (n,); default 1.

    Returns:
        The area under the ROC curve.

    Raises:
        EvaluationError: A class has no weight, or a score is not finite.
    """
    s, is_electron, w = checked(scores, electron, weights)
    order = np.argsort(s, kind="stable")
    s, w, is_electron = s[order], w[order], is_electron[order]
    start = np.flatnonzero(np.concatenate([[True], s[1:] != s[:-1]]))
    e = np.add.reduceat(np.where(is_electron, w, 0.0), start)
    p = np.add.reduceat(np.where(is_electron, 0.0, w), start)
    return _area(e, p)


def _area(electrons: FloatArray, protons: FloatArray) -> float:
    """AUC of weights in cells of ascending score; pairs within a cell count half."""
    below = np.cumsum(protons) - 0.5 * protons
    return float(electrons @ below / (electrons.sum() * protons.sum()))


def auc_bootstrap(
    scores: Mapping[str, Values],
    electron: Values,
    weights: Values | None = None,
    *,
    replicas: int = 200,
    seed: int = 1,
) -> AucBootstrap:
    """AUC of several scores with Poisson replicas of the events, paired over the scores.

    In a replica every event counts k ~ Poisson(1) times, the same k for all scores, so differences
    between scores keep the correlation of their events. Replicas are computed from some 4000 cells of
    the score (fine where the classes overlap) and moved by the exact value minus that of the cells.

    Args:
        scores: Name to scores, each of shape (n,), finite.
        electron: Whether an event is an electron, shape (n,).
        weights: Shape (n,); default 1. Events of weight 0 do not count.
        replicas: Number of replicas.
        seed: Seed of the replicas.

    Returns:
        Values and replicas.

    Raises:
        EvaluationError: No scores, a class has no weight, or a score is not finite.
    """
    if not scores:
        msg = "no score to evaluate: give one at least"
        raise EvaluationError(msg)
    is_electron = np.asarray(electron, bool)
    w = np.ones(is_electron.size) if weights is None else np.asarray(weights, np.float64)
    used = w > 0
    arrays = [checked(np.asarray(s)[used], is_electron[used], w[used]) for s in scores.values()]
    is_electron, w = arrays[0][1], arrays[0][2]
    exact = np.array([auc(s, is_electron, w) for s, _, _ in arrays])
    cells = [_cells(s, is_electron) for s, _, _ in arrays]
    classes = [np.flatnonzero(c) for c in (is_electron, ~is_electron)]
    parts = [[cell[rows] for rows in classes] for cell in cells]
    of_class = [w[rows] for rows in classes]
    sizes = [int(cell.max()) + 1 for cell in cells]

    def areas(weight: Sequence[FloatArray]) -> list[float]:
        return [
            _area(*(_filled(c, x, size) for c, x in zip(part, weight, strict=True)))
            for part, size in zip(parts, sizes, strict=True)
        ]

    offset = exact - np.array(areas(of_class))
    rng = np.random.default_rng(seed)
    drawn = np.empty((replicas, len(cells)))
    for row in drawn:
        row[:] = areas([_replica(rng, x) for x in of_class])
    return AucBootstrap(
        tuple(scores),
        exact,
        drawn + offset,
        len(classes[0]),
        len(classes[1]),
        effective_number(of_class[0]),
        effective_number(of_class[1]),
    )


def _replica(rng: np.random.Generator, weights: FloatArray) -> FloatArray:
    """Weights of a replica; one without any event (of a handful) is drawn again."""
    while not (drawn := weights * poisson_counts(rng, weights.size)).any():
        pass
    return drawn


def _cells(scores: FloatArray, electron: BoolArray) -> npt.NDArray[np.intp]:
    """Cells of ascending score; fine between the lowest electron and the highest proton."""
    low, high = scores[electron].min(), scores[~electron].max()
    between = (scores >= low) & (scores <= high)
    inner = np.unique(scores[between])
    if inner.size > _CELLS:
        share = np.linspace(0.0, 1.0, _CELLS // 2)
        # of both classes, so that few electrons under many protons still get cells
        quantiles = [np.quantile(scores[between & c], share) for c in (electron, ~electron)]
        inner = np.unique(np.concatenate(quantiles))
    number = np.searchsorted(np.concatenate([[-np.inf], inner]), scores, side="right")
    return np.asarray(number + (scores > high), np.intp)


def _filled(cells: npt.NDArray[np.intp], weights: FloatArray, size: int) -> FloatArray:
    return np.asarray(np.bincount(cells, weights, size), np.float64)


_POISSON_TABLE = np.searchsorted(
    # P(k) = 1/e/k!; shares of 2^16 equally likely draws
    np.cumsum(np.exp(-special.gammaln(np.arange(12) + 1.0) - 1.0)),
    (np.arange(_POISSON_STEPS) + 0.5) / _POISSON_STEPS,
).astype(np.float64)


def poisson_counts(rng: np.random.Generator, n: int) -> FloatArray:
    """Poisson numbers of mean 1 from a table of 2^16 shares, several times faster than exactly.

    Args:
        rng: Generator.
        n: How many.

    Returns:
        Shape (n,), whole numbers from 0 to 8.
    """
    return np.asarray(_POISSON_TABLE[rng.integers(0, _POISSON_STEPS, n, dtype=np.uint16)])


def checked(
    scores: Values, electron: Values, weights: Values | None, *, empty: bool = False
) -> tuple[FloatArray, BoolArray, FloatArray]:
    """Scores, classes and weights as arrays, or what is wrong with them.

    Args:
        scores: Shape (n,).
        electron: Shape (n,).
        weights: Shape (n,); default 1.
        empty: Whether a class may be missing.

    Returns:
        float64 scores, bool classes, float64 weights.

    Raises:
        EvaluationError: Different lengths, scores that are not finite, weights that are negative or not
            finite, or a class without weight.
    """
    s, is_electron = np.asarray(scores, np.float64), np.asarray(electron, bool)
    w = np.ones(s.size) if weights is None else np.asarray(weights, np.float64)
    if not s.shape == is_electron.shape == w.shape == (s.size,):
        msg = f"scores, classes and weights have shapes {s.shape}, {is_electron.shape}, {w.shape}"
        raise EvaluationError(msg)
    if not np.isfinite(s).all():
        msg = (
            f"{np.count_nonzero(~np.isfinite(s))} of {s.size} scores are not finite; leave out events "
            "outside the energy range of a model"
        )
        raise EvaluationError(msg)
    if not (np.isfinite(w).all() and (w >= 0).all()):
        msg = "weights must be finite and not negative; look at those of the sample"
        raise EvaluationError(msg)
    for name, rows in (("electrons", is_electron), ("protons", ~is_electron)):
        if not empty and not w[rows].any():
            msg = f"there are no {name} to evaluate; give files of both kinds"
            raise EvaluationError(msg)
    return s, is_electron, w
