"""Livetime of data files: which runs they hold and for how long the detector was live."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from processors.exceptions import ManifestError, NtupleError, sentences

__all__ = ["Run", "check_runs", "read_livetimes", "runs_of_file"]


class Run(BaseModel):
    """One data-taking run (or a range of them): numbers, start, stop and livetime."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_first: int
    run_last: int
    start_s: float | None = None
    stop_s: float | None = None
    livetime_s: float = Field(ge=0, allow_inf_nan=False)


def read_livetimes(path: str | Path) -> dict[str, list[Run]]:
    """Livetime records of data files whose ntuples carry none.

    Args:
        path: CSV with the columns ``file`` (name without folder), ``run_first``, ``run_last``,
            ``livetime_s`` and optionally ``start_s``, ``stop_s``; one row per run or range of runs.

    Returns:
        File name to its runs.

    Raises:
        ManifestError: On a missing column or a value that is no number.
    """
    records: dict[str, list[Run]] = {}
    try:
        with Path(path).open(newline="", encoding="utf-8") as stream:
            for line, row in enumerate(csv.DictReader(stream), start=2):
                name = row.pop("file", None)
                if not name:
                    msg = f"livetime file {str(path)!r}, line {line}: the column 'file' is missing or empty"
                    raise ManifestError(msg)
                run = Run.model_validate({k: v or None for k, v in row.items()})
                records.setdefault(name, []).append(run)
    except OSError as err:
        msg = f"livetime file {str(path)!r} cannot be read ({err.strerror})"
        raise ManifestError(msg) from err
    except ValidationError as err:
        msg = f"livetime file {str(path)!r}, line {line}: {sentences(err)}"
        raise ManifestError(msg) from err
    return records


def runs_of_file(
    path: str, stored: Mapping[str, Any], given: Mapping[str, Sequence[Run]]
) -> list[Run]:
    """Runs of a data file: by its own record, or by a livetime table.

    Args:
        path: The file, for messages and as the key of the table.
        stored: The record of the file.
        given: Livetime records by file name.

    Returns:
        The runs.

    Raises:
        NtupleError: If neither knows them.
    """
    name = path.rsplit("/", 1)[-1]
    if "runs" in stored:
        return [
            Run(
                run_first=r["run"],
                run_last=r["run"],
                start_s=r.get("start_s"),
                stop_s=r.get("stop_s"),
                livetime_s=r["livetime_s"],
            )
            for r in stored["runs"]
        ]
    if name in given:
        return list(given[name])
    msg = f"{path}: its livetime is not known; give a CSV with a row for {name!r} by --livetime"
    raise NtupleError(msg)


def check_runs(path: str, runs: Sequence[Run], numbers: Sequence[int]) -> None:
    """Refuse a file with events of a run for which there is no livetime.

    Args:
        path: The file, for the message.
        runs: Its livetime records.
        numbers: Run numbers of its events; empty where the file does not store them.

    Raises:
        NtupleError: With the first such run.
    """
    outside = [n for n in numbers if not any(r.run_first <= n <= r.run_last for r in runs)]
    if outside:
        msg = f"{path}: events of run {outside[0]}, for which there is no livetime record"
        raise NtupleError(msg)
