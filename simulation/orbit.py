"""Time: runs, livetime and passes through the South Atlantic Anomaly (SAA) of simulated data.

A satellite day is simplified: every orbit of 5 670 s begins with a pass of 255 s through the SAA (4.5 %
of the time), and outside it the instrument is live for a fixed share of the time, so that the livetime
is 76.8 % of all time, as in the experiment. Events inside the SAA are recorded, but the pass has no livetime.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "FLIGHT_START_S",
    "LIVE_SHARE",
    "YEAR_S",
    "Run",
    "in_saa",
    "livetime_s",
    "runs",
    "spread_runs",
    "years_in_flight",
]

#: 2015-12-30 in seconds since 2013-01-01: 365 + 365 + 363 days.
FLIGHT_START_S = 1093 * 86_400
YEAR_S = 365.25 * 86_400
ORBIT_S = 5_670
SAA_S = 255
#: Livetime over all time.
LIVE_FRACTION = 0.768
#: Livetime over time outside the SAA.
LIVE_SHARE = LIVE_FRACTION / (1 - SAA_S / ORBIT_S)


@dataclass(frozen=True)
class Run:
    """A data-taking run.

    Attributes:
        number: Run number.
        start_s: First mission elapsed second.
        stop_s: Second after the last.
    """

    number: int
    start_s: int
    stop_s: int

    def to_dict(self) -> dict[str, Any]:
        """The run as it is written into file metadata."""
        return {
            "run": self.number,
            "start_s": self.start_s,
            "stop_s": self.stop_s,
            "livetime_s": livetime_s(self.start_s, self.stop_s),
        }


def in_saa(second: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether the satellite is inside the SAA at mission elapsed seconds."""
    return np.asarray((np.asarray(second, np.int64) - FLIGHT_START_S) % ORBIT_S < SAA_S)


def years_in_flight(second: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Years since the start of the flight at mission elapsed seconds."""
    return np.asarray((np.asarray(second, np.float64) - FLIGHT_START_S) / YEAR_S)


def livetime_s(start_s: int, stop_s: int) -> float:
    """Livetime between two mission elapsed seconds, the SAA left out."""

    def outside(second: int) -> int:
        orbits, phase = divmod(second - FLIGHT_START_S, ORBIT_S)
        return orbits * (ORBIT_S - SAA_S) + max(0, phase - SAA_S)

    return LIVE_SHARE * (outside(stop_s) - outside(start_s))


def runs(
    wanted_s: float, start_s: int, first_run: int, longest_s: int, at_least: int = 1
) -> list[Run]:
    """Runs that follow each other until a livetime is reached.

    Args:
        wanted_s: Livetime wanted; reached and exceeded by less than a second.
        start_s: Start of the first run.
        first_run: Its number.
        longest_s: Longest run.
        at_least: Least number of runs.

    Returns:
        The runs, of equal length to a second.

    Raises:
        ValueError: The time is shorter than the number of runs in seconds.
    """
    low, high = start_s, start_s + 1
    while livetime_s(start_s, high) < wanted_s:
        high = start_s + 2 * (high - start_s)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if livetime_s(start_s, middle) >= wanted_s else (middle, high)
    duration = high - start_s
    number = max(at_least, -(-duration // longest_s))
    if duration < number:
        msg = f"{wanted_s} s of livetime cannot be split into {number} runs"
        raise ValueError(msg)
    edges = [start_s + duration * i // number for i in range(number + 1)]
    return [Run(first_run + i, a, b) for i, (a, b) in enumerate(pairwise(edges))]


def spread_runs(
    wanted_s: float, years: float, start_s: int, first_run: int, at_least: int = 1
) -> list[Run]:
    """Short runs at equal distances, with gaps between them: a small livetime seen over a long time.

    Args:
        wanted_s: Livetime of all runs together; reached and exceeded by less than a second per run.
        years: Time from the start of the first run to the end of the last one's share of the time.
        start_s: Start of the first run.
        first_run: Its number.
        at_least: Least number of runs; there are three per month, so that every month has one.

    Returns:
        The runs, all of one length.

    Raises:
        ValueError: The livetime is longer than the years allow, or not a second per run.
    """
    number = max(at_least, round(36 * years), 1)
    step = years * YEAR_S / number
    starts = [start_s + round(i * step) for i in range(number)]
    low, high = 0, int(step) + 1
    while high - low > 1:
        middle = (low + high) // 2
        enough = sum(livetime_s(s, s + middle) for s in starts) >= wanted_s
        low, high = (low, middle) if enough else (middle, high)
    if high > int(step) or wanted_s < number:
        msg = f"{wanted_s} s of livetime do not fit into {number} runs of at least 1 s over {years} years"
        raise ValueError(msg)
    return [Run(first_run + i, s, s + high) for i, s in enumerate(starts)]
