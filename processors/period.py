"""Which runs of the data a card takes, and to which month each of them belongs.

A run belongs to a period, and to a calendar month (UTC), by its start. Mission elapsed time counts seconds
since 2013-01-01 00:00 UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from processors.exceptions import ManifestError, NtupleError
from processors.livetime import Run
from processors.manifest import FileEntry

__all__ = [
    "FIRST_MONTH",
    "LAST_MONTH",
    "NO_MONTH",
    "UNUSED",
    "Period",
    "find_runs",
    "month_name",
    "month_of",
    "run_months",
    "run_table",
    "select_runs",
]

EPOCH = datetime(2013, 1, 1, tzinfo=UTC)
#: Months counted from January 2013: December 2015, when the experiment began to take data, to December 2030.
FIRST_MONTH, LAST_MONTH = 35, 215
#: Month of a run whose start is not known, or not in these.
NO_MONTH = -1
#: What stands for the month of a run that is not used.
UNUSED = -2

Rows = Sequence[Sequence[int]]


class Period(BaseModel):
    """Part of the data: by UTC dates, both inclusive, or by run numbers, both inclusive; either end may be open."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_: date | None = Field(default=None, alias="from")
    to: date | None = None
    first_run: int | None = None
    last_run: int | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Period:
        dates, numbers = (self.from_, self.to), (self.first_run, self.last_run)
        if (dates == (None, None)) == (numbers == (None, None)):
            msg = "a period is given by dates ('from', 'to') or by runs ('first_run', 'last_run')"
            raise ValueError(msg)
        if None not in dates and self.from_ > self.to:  # type: ignore[operator]
            msg = f"the period begins on {self.from_}, after its end on {self.to}"
            raise ValueError(msg)
        if None not in numbers and self.first_run > self.last_run:  # type: ignore[operator]
            msg = f"the period begins with run {self.first_run}, after its last run {self.last_run}"
            raise ValueError(msg)
        return self

    def holds(self, run: Run, path: str) -> bool:
        """Whether a run (or a range of runs with one livetime) belongs to the period.

        Args:
            run: The run.
            path: Its file, for messages.

        Raises:
            ManifestError: If its start is not known, or a range of runs lies across a border.
        """
        if self.from_ is None and self.to is None:
            first = -np.inf if self.first_run is None else self.first_run
            last = np.inf if self.last_run is None else self.last_run
            ends = (first <= run.run_first <= last, first <= run.run_last <= last)
            whole = ends[0] == ends[1] and not (run.run_first < first and run.run_last > last)
        else:
            if run.start_s is None:
                msg = (
                    f"{path}: the start of run {run.run_first} is not known, so a period by dates cannot be "
                    "taken; give start_s in the livetime table, or a period by runs"
                )
                raise ManifestError(msg)
            low = -np.inf if self.from_ is None else _seconds(self.from_)
            high = np.inf if self.to is None else _seconds(self.to + timedelta(days=1))
            ends = (low <= run.start_s < high,) * 2
            whole = True
            if run.run_last > run.run_first:
                # all of them begin between the start of the first and the stop
                stop = np.inf if run.stop_s is None else run.stop_s
                whole = not any(run.start_s < border < stop for border in (low, high))
        if not whole:
            msg = (
                f"{path}: the border of the period lies within the runs {run.run_first} to {run.run_last}, whose "
                "livetime is known only together; move the border or split that row of the livetime table"
            )
            raise ManifestError(msg)
        return ends[0]

    def __str__(self) -> str:
        """The period in words."""
        if self.from_ is None and self.to is None:
            words = [f"from run {self.first_run}"] * (self.first_run is not None)
            words += [f"to run {self.last_run}"] * (self.last_run is not None)
        else:
            words = [f"from {self.from_}"] * (self.from_ is not None)
            words += [f"to {self.to}"] * (self.to is not None)
        return " ".join(words)


def _seconds(day: date) -> float:
    """Mission elapsed time at the beginning of a UTC day, s."""
    return (datetime(day.year, day.month, day.day, tzinfo=UTC) - EPOCH).total_seconds()


def month_of(second: float) -> int:
    """Calendar month (UTC) of a mission elapsed second, counted from January 2013."""
    at = EPOCH + timedelta(seconds=second)
    return 12 * (at.year - EPOCH.year) + at.month - 1


def month_name(month: int) -> str:
    """A month such as ``2016-03``; ``unknown`` for :data:`NO_MONTH`."""
    if month == NO_MONTH:
        return "unknown"
    return f"{EPOCH.year + month // 12}-{month % 12 + 1:02d}"


def select_runs(files: Sequence[FileEntry], period: Period | None) -> list[FileEntry]:
    """The files that a period needs, each with the runs that it holds of it; simulation as it is.

    Args:
        files: Files of the manifest.
        period: None for all.

    Returns:
        Files in order; ``runs`` are those used, ``unused_runs`` the others.

    Raises:
        ManifestError: If no run is left, a file with runs inside and outside does not store the run of
            its events, or a livetime record lies across a border.
    """
    if period is None:
        return list(files)
    chosen = []
    for f in files:
        if f.kind != "data":
            chosen.append(f)
            continue
        used = [period.holds(run, f.path) for run in f.runs]
        if not any(used):
            continue
        if not all(used) and "run" not in f.fields:
            msg = (
                f"{f.path} holds runs inside and outside the period {period} and does not store the run of its "
                "events; move the border, split the file, or add the field 'run' to its alias file"
            )
            raise ManifestError(msg)
        runs = {
            "runs": [r for r, taken in zip(f.runs, used, strict=True) if taken],
            "unused_runs": [r for r, taken in zip(f.runs, used, strict=True) if not taken],
        }
        chosen.append(f.model_copy(update=runs))
    for bgo in dict.fromkeys(f.bgo_reconstruction for f in files):
        if not any(f.kind == "data" and f.bgo_reconstruction == bgo for f in chosen):
            numbers = sorted(
                n
                for f in files
                if f.kind == "data" and f.bgo_reconstruction == bgo
                for r in f.runs
                for n in (r.run_first, r.run_last)
            )
            there = f"it has the runs {numbers[0]} to {numbers[-1]}" if numbers else "it has none"
            msg = f"the manifest has no run of the period {period} ({bgo} BGO reconstruction); {there}"
            raise ManifestError(msg)
    return chosen


def run_months(f: FileEntry) -> list[int]:
    """The month of each used run of a data file, :data:`NO_MONTH` outside :data:`FIRST_MONTH` to :data:`LAST_MONTH`.

    A file that does not store the run of its events has a month only if all its runs have the same: its
    events could not be told apart.
    """
    months = [NO_MONTH if r.start_s is None else month_of(r.start_s) for r in f.runs]
    months = [m if FIRST_MONTH <= m <= LAST_MONTH else NO_MONTH for m in months]
    if len(set(months)) > 1 and "run" not in f.fields:
        return [NO_MONTH] * len(months)
    return months


def run_table(f: FileEntry) -> list[list[int]]:
    """What a chunk needs to know of the runs of a data file: rows of first run, last run, month.

    Returns:
        Rows in ascending order, runs that follow each other in one month as one; :data:`UNUSED` stands for
        the month of runs that are not used. Empty for simulation.
    """
    rows = [
        [r.run_first, r.run_last, month] for r, month in zip(f.runs, run_months(f), strict=True)
    ]
    rows += [[r.run_first, r.run_last, UNUSED] for r in f.unused_runs]
    table: list[list[int]] = []
    for first, last, month in sorted(rows):
        if table and table[-1][1] + 1 == first and table[-1][2] == month:
            table[-1][1] = last
        else:
            table.append([first, last, month])
    return table


def find_runs(numbers: npt.ArrayLike, table: Rows) -> npt.NDArray[np.int64]:
    """Month of each event by its run.

    Args:
        numbers: Run numbers, shape (n,).
        table: Of :func:`run_table`.

    Returns:
        Months, shape (n,); :data:`UNUSED` where the run is not used.

    Raises:
        NtupleError: If a run is not in the table: its livetime is not known.
    """
    first, last, month = np.asarray(table, np.int64).T
    runs = np.asarray(numbers).astype(np.int64)
    row = np.searchsorted(first, runs, side="right") - 1
    strange = (row < 0) | (runs > last[row])
    if strange.any():
        msg = f"events of run {runs[strange][0]}, for which the manifest has no livetime; make it anew"
        raise NtupleError(msg)
    return np.asarray(month[row])
