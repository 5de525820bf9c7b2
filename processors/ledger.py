"""The livetime that was planned and the one that was read, by run and by month."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from processors.manifest import FileEntry
from processors.period import month_name, run_months

__all__ = ["livetime_ledger", "months_of"]


def livetime_ledger(
    planned: Sequence[FileEntry], read: Sequence[FileEntry], bgo: str
) -> dict[str, Any]:
    """Livetime and runs of one BGO reconstruction.

    Args:
        planned: The files of the plan, with the runs of the period.
        read: Those of which every chunk was processed.
        bgo: The reconstruction.

    Returns:
        ``livetime_s`` of the files read, ``planned_livetime_s``, ``runs`` (first and last of each range without a
        gap) and ``months``: name of the month → ``livetime_s``, ``runs`` (their number) and ``mean_s``, the mean
        mission elapsed time weighted with the livetime, None where it is not known.
    """
    ours = _data(read, bgo)
    months: dict[int, list[tuple[float, int, float]]] = {}
    for f in ours:
        for run, month in zip(f.runs, run_months(f), strict=True):
            start = run.start_s or 0.0
            middle = (start + (start if run.stop_s is None else run.stop_s)) / 2
            number = run.run_last - run.run_first + 1
            months.setdefault(month, []).append((run.livetime_s, number, middle))
    return {
        "livetime_s": sum(f.livetime_s for f in ours),
        "planned_livetime_s": sum(f.livetime_s for f in _data(planned, bgo)),
        "runs": _ranges(ours),
        "months": {month_name(m): _month(m, months[m]) for m in sorted(months)},
    }


def months_of(files: Sequence[FileEntry]) -> list[int]:
    """Months of the runs of data files, each once, unknown ones left out."""
    return sorted({m for f in files if f.kind == "data" for m in run_months(f) if m >= 0})


def _data(files: Sequence[FileEntry], bgo: str) -> list[FileEntry]:
    return [f for f in files if f.kind == "data" and f.bgo_reconstruction == bgo]


def _month(month: int, runs: Sequence[tuple[float, int, float]]) -> dict[str, Any]:
    livetime = sum(seconds for seconds, _, _ in runs)
    known = month >= 0 and livetime > 0
    return {
        "livetime_s": livetime,
        "runs": sum(number for _, number, _ in runs),
        "mean_s": sum(s * middle for s, _, middle in runs) / livetime if known else None,
    }


def _ranges(files: Sequence[FileEntry]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for first, last in sorted((r.run_first, r.run_last) for f in files for r in f.runs):
        if ranges and ranges[-1][1] + 1 == first:
            ranges[-1][1] = last
        else:
            ranges.append([first, last])
    return ranges
