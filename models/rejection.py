"""Proton rejection, background fraction and ROC curves of a score, with their uncertainties."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from models.evaluation import (
    ONE_SIGMA,
    bin_numbers,
    checked,
    effective_number,
    poisson_counts,
    weighted_quantile,
)

__all__ = ["Ratio", "Rejection", "Roc", "rejection", "rejection_ratio", "roc"]

Values = npt.ArrayLike
FloatArray = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

_TAIL = 10  # protons of highest score that say which weight a next one would have


@dataclass(frozen=True, eq=False)
class Rejection:
    """Proton rejection at a fixed electron efficiency per energy bin; every array has shape (n_bins,).

    Attributes:
        e_min_gev: Lower edges.
        e_max_gev: Upper edges.
        efficiency: The electron efficiency.
        cut: Score cut; NaN where a class has no events.
        proton_efficiency: Share of the protons above the cut.
        proton_efficiency_lower: Lower end of its interval.
        proton_efficiency_upper: Upper end, where no proton is left its one-sided limit.
        value: 1 / proton efficiency; infinite where no proton is left.
        lower: Lower end of its interval; where no proton is left the lower limit.
        upper: Upper end, infinite where no proton is left.
        background_fraction: Protons over all events above the cut, for the weights ``rate``.
        background_fraction_lower: Lower end of its interval.
        background_fraction_upper: Upper end.
        n_above: Simulated protons above the cut.
        effective_above: Their effective number.
        n_protons: Simulated protons of the bin.
        effective_protons: Their effective number.
        n_electrons: Simulated electrons of the bin.
    """

    e_min_gev: FloatArray
    e_max_gev: FloatArray
    efficiency: float
    cut: FloatArray
    proton_efficiency: FloatArray
    proton_efficiency_lower: FloatArray
    proton_efficiency_upper: FloatArray
    value: FloatArray
    lower: FloatArray
    upper: FloatArray
    background_fraction: FloatArray
    background_fraction_lower: FloatArray
    background_fraction_upper: FloatArray
    n_above: npt.NDArray[np.int64]
    effective_above: FloatArray
    n_protons: npt.NDArray[np.int64]
    effective_protons: FloatArray
    n_electrons: npt.NDArray[np.int64]


def rejection(
    scores: Values,
    electron: Values,
    energy_gev: Values,
    edges_gev: Values,
    *,
    efficiency: float,
    weights: Values | None = None,
    rate: Values | None = None,
    level: float = ONE_SIGMA,
) -> Rejection:
    r"""Proton rejection and background fraction at an electron efficiency, per energy bin.

    The cut of a bin is the weighted quantile of its electrons. The interval of the protons above it is
    the Garwood interval of their effective number; the tail of an importance-sampled sample has its
    own weights, so the effective number of all protons would be the wrong one. Without a proton above
    the cut the upper limit is that of zero events (-ln(1 - level)) of the weight Σw²/Σw of the ten
    protons of highest score. The error of the cut itself is not in the interval: it changes the
    electron efficiency by :math:`\sqrt{\varepsilon(1-\varepsilon)/n}`.

    Args:
        scores: Shape (n,), finite.
        electron: Whether an event is an electron, shape (n,).
        energy_gev: Energy that is binned, shape (n,).
        edges_gev: Bin edges.
        efficiency: Electron efficiency, between 0 and 1.
        weights: Sampling weights, shape (n,); default 1.
        rate: Weights in events per second, shape (n,), for the background fraction; default none: NaN.
        level: Probability content of the intervals.

    Returns:
        Rejection per bin; NaN where a class has no events.

    Raises:
        EvaluationError: A score is not finite.
    """
    s, is_electron, w = checked(scores, electron, weights, empty=True)
    per_second = None if rate is None else np.asarray(rate, np.float64)
    edges = np.asarray(edges_gev, np.float64)
    number = bin_numbers(energy_gev, edges)
    rows = []
    for i in range(edges.size - 1):
        e = np.flatnonzero((number == i) & is_electron & (w > 0))
        p = np.flatnonzero((number == i) & ~is_electron & (w > 0))
        rows.append(_rejection_of_bin(s, w, per_second, e, p, efficiency, level))
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]} if rows else {}
    return Rejection(edges[:-1].copy(), edges[1:].copy(), efficiency, **columns)


def _rejection_of_bin(
    s: FloatArray,
    w: FloatArray,
    rate: FloatArray | None,
    electrons: Rows,
    protons: Rows,
    efficiency: float,
    level: float,
) -> dict[str, Any]:
    nan = math.nan
    cut, above = nan, protons[:0]
    share: tuple[float, ...] = (nan, nan, nan)
    fraction: tuple[float, ...] = (nan, nan, nan)
    if electrons.size and protons.size:
        cut = float(weighted_quantile(s[electrons], w[electrons], 1 - efficiency))
        above = protons[s[protons] >= cut]
        total = float(w[protons].sum())
        share = tuple(min(x / total, 1.0) for x in _sum_above(s, w, protons, above, level))
        if rate is not None:
            signal = float(rate[electrons][s[electrons] >= cut].sum())
            background = _sum_above(s, rate, protons, above, level)
            fraction = tuple(b / (b + signal) if b + signal > 0 else nan for b in background)
    value, low, high = (1 / x if x > 0 else math.inf if x == 0 else nan for x in share)
    return {
        "cut": cut,
        "proton_efficiency": share[0],
        "proton_efficiency_lower": share[1],
        "proton_efficiency_upper": share[2],
        "value": value,
        "lower": high,
        "upper": low,
        "background_fraction": fraction[0],
        "background_fraction_lower": fraction[1],
        "background_fraction_upper": fraction[2],
        "n_above": above.size,
        "effective_above": effective_number(w[above]),
        "n_protons": protons.size,
        "effective_protons": effective_number(w[protons]),
        "n_electrons": electrons.size,
    }


def _sum_above(
    s: FloatArray,
    w: FloatArray,
    protons: Rows,
    above: Rows,
    level: float,
) -> tuple[float, float, float]:
    """Weight above the cut with its Garwood interval of the effective number."""
    if not above.size:
        tail = w[protons[np.argsort(s[protons])[-_TAIL:]]]
        one = float((tail**2).sum() / tail.sum()) if tail.sum() > 0 else math.nan
        return 0.0, 0.0, -math.log(1 - level) * one
    total, n = float(w[above].sum()), effective_number(w[above])
    if n == 0:  # a target flux that is 0 there
        return total, 0.0, 0.0
    low, high = _garwood(n, level)
    return total, total * low / n, total * high / n


def _garwood(n: float, level: float) -> tuple[float, float]:
    """Central interval of a Poisson mean for n > 0 counts (Garwood 1936)."""
    tail = (1 - level) / 2
    return float(special.gammaincinv(n, tail)), float(special.gammainccinv(n + 1, tail))


@dataclass(frozen=True)
class Ratio:
    """Rejection of one score over that of another at one electron efficiency, on the same events.

    Attributes:
        value: Protons above the other score's cut over those above this one's; infinite where none is
            left above this one's.
        lower: Lower end of the interval.
        upper: Upper end; infinite where the sample sets none.
        limit: Whether no proton is left above this score's cut, so that ``lower`` is a lower limit.
        n_first: Protons above this score's cut.
        n_second: Protons above the other's.
    """

    value: float
    lower: float
    upper: float
    limit: bool
    n_first: int
    n_second: int


def rejection_ratio(
    first: Values,
    second: Values,
    electron: Values,
    *,
    efficiency: float,
    weights: Values | None = None,
    level: float = ONE_SIGMA,
    replicas: int = 400,
    seed: int = 1,
) -> Ratio:
    """How many times better a score rejects protons than another, at equal electron efficiency.

    The interval is that of paired Poisson replicas of the events, in which both cuts are set anew; if
    no proton is left above the first score's cut, the lower limit divides the lower end of the second
    score's protons by the upper limit of the first's.

    Args:
        first: Scores, shape (n,), finite.
        second: Scores of the same events to compare with.
        electron: Whether an event is an electron, shape (n,).
        efficiency: Electron efficiency.
        weights: Sampling weights, shape (n,); default 1.
        level: Probability content of the interval.
        replicas: Number of replicas.
        seed: Their seed.

    Returns:
        The ratio.

    Raises:
        EvaluationError: A class is missing, or a score is not finite.
    """
    a, is_electron, w = checked(first, electron, weights)
    b, _, _ = checked(second, electron, weights)
    edges = np.array([0.0, 2.0])
    both = [
        rejection(
            s, is_electron, np.ones(s.size), edges, efficiency=efficiency, weights=w, level=level
        )
        for s in (a, b)
    ]
    share = [float(r.proton_efficiency[0]) for r in both]
    counts = [int(r.n_above[0]) for r in both]
    if not counts[0]:
        upper = float(both[0].proton_efficiency_upper[0])
        lower = float(both[1].proton_efficiency_lower[0]) / upper
        value = math.inf if counts[1] else math.nan
        return Ratio(value, lower, math.inf, True, *counts)
    rng = np.random.default_rng(seed)
    orders = [np.argsort(s, kind="stable")[::-1] for s in (a, b)]
    drawn = np.empty(replicas)
    for i in range(replicas):
        weight = w * poisson_counts(rng, w.size)
        if not (weight[is_electron].any() and weight[~is_electron].any()):
            drawn[i] = math.nan  # a replica of a handful of events without one of the classes
            continue
        x, y = (_passed_share(weight[o], is_electron[o], efficiency) for o in orders)
        drawn[i] = y / x if x > 0 else math.inf if y > 0 else math.nan
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    return Ratio(share[1] / share[0], float(low), float(high), False, *counts)


def _passed_share(weight: FloatArray, electron: npt.NDArray[np.bool_], efficiency: float) -> float:
    """Proton efficiency at an electron efficiency, of events in descending score."""
    electrons = np.cumsum(np.where(electron, weight, 0.0))
    protons = np.cumsum(np.where(electron, 0.0, weight))
    last = int(np.searchsorted(electrons, efficiency * electrons[-1]))
    return float(protons[min(last, protons.size - 1)] / protons[-1])


# --- ROC -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Roc:
    """ROC curve at given electron efficiencies; both arrays have shape (m,).

    Attributes:
        electron_efficiency: Descending from 1.
        proton_efficiency: Share of the protons above the same cut.
    """

    electron_efficiency: FloatArray
    proton_efficiency: FloatArray


def roc(
    scores: Values,
    electron: Values,
    weights: Values | None = None,
    *,
    efficiencies: Values | None = None,
) -> Roc:
    """Proton against electron efficiency.

    Args:
        scores: Shape (n,), finite.
        electron: Whether an event is an electron, shape (n,).
        weights: Shape (n,); default 1.
        efficiencies: Electron efficiencies; default 200 from 0.5 to 1, dense near 1.

    Returns:
        The curve.

    Raises:
        EvaluationError: A class is missing, or a score is not finite.
    """
    s, is_electron, w = checked(scores, electron, weights)
    wanted = 1 - np.geomspace(1e-4, 0.5, 200) if efficiencies is None else efficiencies
    eff = np.sort(np.asarray(wanted, np.float64))[::-1]
    cuts = weighted_quantile(s[is_electron], w[is_electron], 1 - eff)
    protons, weight = s[~is_electron], w[~is_electron]
    order = np.argsort(protons, kind="stable")
    above = np.concatenate([np.cumsum(weight[order][::-1])[::-1], [0.0]])
    first = np.searchsorted(protons[order], cuts, side="left")
    return Roc(eff, above[first] / above[0])
