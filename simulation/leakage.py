"""Leaking showers, simulated against Geant4: numbers, their errors, and what disagrees."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simulation.leaking import Quantity, Showers, bar_path_x0, depth_of_energy, quantities

__all__ = ["GapEffect", "Row", "gap_effect", "leakage", "remark", "rows_as_dicts"]

FloatArray = npt.NDArray[np.float64]

_LEAST_EVENTS = 20
_REPLICAS = 100
_CENTRAL = (0.15865, 0.84135)
_TAILS = (0.05, 0.95)
#: What counts as a disagreement: this much, and three standard deviations.
_MEAN_LIMIT, _WIDTH_LIMIT, _SIGMAS = 0.03, 0.10, 3.0
#: Depth to which the bars before a shower are counted for the effect of the gaps.
_GAP_DEPTH_X0 = 8.0


@dataclass(frozen=True)
class Row:
    """One class, Geant4 and simulated.

    For electrons, spread and points are of the value minus its mean over the simulated showers of the same
    primary (scaled to the mean of Geant4), which leaves what showers fluctuate; for protons, whose showers differ more than their axes, of the
    value minus the mean of the class.

    Attributes:
        table: Which comparison.
        label: Which class of it.
        low: Lower end of the class.
        high: Upper end.
        events: Geant4 events with a value.
        geant4: Mean.
        simulation: Mean.
        relative: simulation / geant4 - 1.
        relative_error: Its standard deviation; values of one event are taken as one.
        geant4_width: Half the central 68 %.
        simulation_width: The same.
        width_ratio: simulation / geant4.
        width_error: Its standard deviation, from Poisson replicas of the events.
        geant4_q5: 5 % point.
        simulation_q5: The same.
        geant4_q95: 95 % point.
        simulation_q95: The same.
    """

    table: str
    label: str
    low: float
    high: float
    events: int
    geant4: float
    simulation: float
    relative: float
    relative_error: float
    geant4_width: float
    simulation_width: float
    width_ratio: float
    width_error: float
    geant4_q5: float
    simulation_q5: float
    geant4_q95: float
    simulation_q95: float


@dataclass(frozen=True)
class GapEffect:
    """How the mean depth of electrons follows the bars that the axis happens to cross.

    Attributes:
        path_spread_x0: Standard deviation of the bars' radiation lengths within the first 8 of the block.
        geant4_correlation: Of these with the mean depth (minus its simulated mean for the same primary).
        simulation_correlation: The same of simulated showers, minus the mean of all.
        geant4_slope: Change of the mean depth per radiation length more; -1 if nothing else happened.
        geant4_slope_error: Its standard deviation.
        geant4_width: Standard deviation of the mean depth, radiation lengths.
        geant4_rest: What is left of it without the linear part.
        simulation_width: Standard deviation of simulated showers of one primary.
    """

    path_spread_x0: float
    geant4_correlation: float
    simulation_correlation: float
    geant4_slope: float
    geant4_slope_error: float
    geant4_width: float
    geant4_rest: float
    simulation_width: float


def leakage(showers: Showers, seed: int = 1) -> list[Row]:
    """All comparisons of one sample.

    Args:
        showers: The events, each primary simulated at least twice.
        seed: Seed of the replicas for the errors.

    Returns:
        A row for each class of :func:`simulation.leaking.quantities` with at least 20 Geant4 events.

    Raises:
        ValueError: Primaries were simulated once.
    """
    if showers.simulated.shape[0] < 2:
        msg = "fluctuations need each primary simulated twice or more; give a higher repeat"
        raise ValueError(msg)
    rng = np.random.default_rng(seed)
    rows = (_compared(showers, quantity, rng) for quantity in quantities(showers))
    return [row for row in rows if row is not None]


def gap_effect(showers: Showers) -> GapEffect:
    """Compare the mean depth of electrons with the bars on their axes.

    Args:
        showers: Electrons.

    Returns:
        Correlations and widths.
    """
    geant4, simulated = depth_of_energy(showers)
    expected = simulated.mean(axis=0)
    repeat = simulated.shape[0]
    bars = bar_path_x0(showers.reference, _GAP_DEPTH_X0)
    more = bars - bars.mean()
    rest = geant4 - expected
    rest = rest - rest.mean()
    slope = float(more @ rest / (more @ more))
    left = rest - slope * more
    error = float(np.std(left) / math.sqrt(more @ more))
    width = float(np.std(simulated - expected) * math.sqrt(repeat / (repeat - 1)))
    added = width**2 / repeat  # by the mean of the simulated showers
    around = expected - np.polyval(np.polyfit(_secant(showers), expected, 2), _secant(showers))
    return GapEffect(
        float(more.std()),
        slope * float(more.std()) / math.sqrt(rest.var() - added),
        float(np.corrcoef(more, around)[0, 1]),
        slope,
        error,
        math.sqrt(rest.var() - added),
        math.sqrt(left.var() - added),
        width,
    )


def remark(row: Row) -> str:
    """In words what disagrees: means by more than 3 %, spreads by more than 10 %, both beyond three errors."""
    found = []
    if abs(row.relative) > max(_MEAN_LIMIT, _SIGMAS * row.relative_error):
        found.append(f"mean {100 * row.relative:+.0f} %")
    if abs(row.width_ratio - 1) > max(_WIDTH_LIMIT, _SIGMAS * row.width_error):
        found.append(f"spread {100 * (row.width_ratio - 1):+.0f} %")
    return ", ".join(found)


def rows_as_dicts(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Rows as plain values, with the remark."""
    return [{**asdict(row), "remark": remark(row)} for row in rows]


def _secant(showers: Showers) -> FloatArray:
    return np.asarray(1 / showers.reference.direction[:, 2])


def _compared(showers: Showers, quantity: Quantity, rng: np.random.Generator) -> Row | None:
    take = showers.used_geant4[quantity.event]
    owner = quantity.event[take]
    events = int(np.unique(owner).size)
    if events < _LEAST_EVENTS:
        return None
    value, simulated = quantity.geant4[take], quantity.simulated
    repeat, n = showers.used_simulated.shape
    if showers.kind == "electron":
        expected = simulated.mean(axis=0)
        # deviations from a mean that holds the value itself are too small by this root
        spread = ((simulated - expected) * math.sqrt(repeat / (repeat - 1))).ravel()
        # scaled to the same mean, or a deviation of the mean would widen the class
        rest = value - expected[take] * (value.mean() / expected[take].mean())
        mean, more = float(expected.mean()), 0.0
    else:
        chosen = simulated[showers.used_simulated[:, quantity.event]]
        mean = float(chosen.mean())
        spread, rest, more = chosen - mean, value - value.mean(), 1 / repeat
    centre = float(value.mean())
    one_event = np.bincount(owner, rest - rest.mean(), n)
    error = math.sqrt(float(one_event @ one_event) * (1 + more)) / value.size / abs(centre)
    widths, tails = _spreads(rest, owner, n, rng)
    low, high, q5, q95 = np.quantile(spread, [*_CENTRAL, *_TAILS])
    width = float(high - low) / 2
    if showers.kind == "electron":
        # the mean of r simulated showers adds a part of their own spread
        shrink = math.sqrt(max(1 - (width / widths[0]) ** 2 / repeat, 1 / (1 + repeat)))
        widths, tails = shrink * widths, shrink * tails
    ratio = width / float(widths[0])
    return Row(
        quantity.table, quantity.label, quantity.low, quantity.high, events,
        centre, mean, mean / centre - 1, error,
        float(widths[0]), width, ratio, ratio * float(widths[1:].std() / widths[0]),
        float(tails[0]), float(q5), float(tails[1]), float(q95),
    )  # fmt: skip


def _spreads(
    value: FloatArray, owner: npt.NDArray[np.intp], n: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Half the central 68 %, then that of each replica; and the 5 and 95 % points."""
    order = np.argsort(value)
    value, owner = value[order], owner[order]
    weights = np.vstack([np.ones(n), rng.poisson(1.0, (_REPLICAS, n))])
    points = []
    for weight in weights:
        below = weight[owner].cumsum()
        shares = (below - weight[owner] / 2) / below[-1]
        points.append(np.interp([*_CENTRAL, *_TAILS], shares, value))
    found = np.array(points)
    return (found[:, 1] - found[:, 0]) / 2, found[0, 2:]
