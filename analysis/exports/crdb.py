"""Flux tables for CRDB, the database of charged cosmic rays (lpsc.in2p3.fr/crdb)."""

import calendar
import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from analysis.exports.tables import (
    UNPUBLISHED,
    FluxExportError,
    marks,
    publishable,
    warning,
)
from analysis.fluxtable import FluxTable
from analysis.textfile import write_text

__all__ = ["CSV_COLUMNS", "USINE_COLUMNS", "Dataset", "crdb_text", "write_crdb"]

USINE_COLUMNS = (
    "QUANTITY",
    "SUB-EXP",
    "EAXIS",
    "E_MEAN",
    "EBIN_LOW",
    "EBIN_HIGH",
    "VALUE",
    "ERR_STAT-",
    "ERR_STAT+",
    "ERR_SYST-",
    "ERR_SYST+",
    "ADS",
    "PHI_MV",
    "DISTANCE_AU",
    "DATIMES",
    "IS_UPPER_LIMIT",
)
"""Columns of the USINE form that CRDB exports, separated by blanks."""

CSV_COLUMNS = (
    "EXP-NAME",
    "EXP-TYPE",
    "EXP-HTML",
    "EXP-STARTYEAR",
    "SUBEXP-NAME",
    "SUBEXP-DESCRIPTION",
    "SUBEXP-ESCALE_RELERR",
    "SUBEXP-INFO",
    "SUBEXP-DISTANCE",
    "SUBEXP-DATES",
    "PUBLI-HTML",
    "PUBLI-DATAORIGIN",
    "DATA-QTY",
    "DATA-EAXIS",
    "DATA-E_MEAN",
    "DATA-E_BIN_L",
    "DATA-E_BIN_U",
    "DATA-VAL",
    "DATA-VAL_ERRSTAT_L",
    "DATA-VAL_ERRSTAT_U",
    "DATA-VAL_ERRSYST_L",
    "DATA-VAL_ERRSYST_U",
    "DATA-ISUPPERLIM",
)
"""Columns of the CSV form from which CRDB imports (``csv-asimport``)."""

QUANTITY = "e-+e+"
ENERGY_AXIS = "ETOT"
"""Total energy, as in CRDB's AMS-02 and CALET entries; kinetic energy is less by 0.5 MeV only."""

_DISTANCE_AU = "1"
_PHI_UNKNOWN = "-1"
_NOT_GIVEN = "-"


@dataclass(frozen=True)
class Dataset:
    """What a flux table does not say of itself.

    Attributes:
        experiment: name of the experiment, without blanks.
        dates: first and last month of data, ``yyyy/mm-yyyy/mm``.
        publication: bibcode or address, without blanks.
        energy_scale_error: relative, 0 if not given.
    """

    experiment: str = "DAMPE"
    dates: str = "2015/12-2025/10"
    publication: str = UNPUBLISHED
    energy_scale_error: float = 0.0

    def __post_init__(self) -> None:
        for name in ("experiment", "publication"):
            if not re.fullmatch(r'[^\s,;"#]+', getattr(self, name)):
                msg = f'{name} {getattr(self, name)!r} must be one word without , ; " and #'
                raise FluxExportError(msg)
        if not 0 <= self.energy_scale_error < 1:
            msg = f"relative error of the energy scale must be in [0, 1), got {self.energy_scale_error}"
            raise FluxExportError(msg)
        self.period()

    def period(self) -> tuple[datetime, datetime]:
        """Return the first and the last second.

        Raises:
            FluxExportError: the dates are none, or in the wrong order.
        """
        try:
            first, last = (datetime.strptime(x, "%Y/%m") for x in self.dates.split("-"))
        except ValueError:
            msg = f"dates {self.dates!r} must look like 2015/12-2025/10"
            raise FluxExportError(msg) from None
        if last < first:
            msg = f"dates {self.dates!r} end before they begin"
            raise FluxExportError(msg)
        days = calendar.monthrange(last.year, last.month)[1]
        return first, last.replace(day=days, hour=23, minute=59, second=59)


def write_crdb(
    tables: Mapping[str, FluxTable],
    path: str | Path,
    dataset: Dataset | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write flux tables for CRDB; the suffix chooses the form: ``.usine`` or ``.csv``.

    Numbers have all their digits. Systematic errors are added in quadrature, each side for itself.
    A bin whose flux is not positive is an upper limit: its value is the limit, its errors are 0.

    Args:
        tables: label → flux table; with several, the label is part of the sub-experiment's name.
        path: output file.
        dataset: what the tables do not say; default :class:`Dataset`.
        overwrite: replace an existing file.

    Returns:
        The path.

    Raises:
        FileExistsError: the file exists and overwrite is False.
        FluxExportError: unknown suffix, or more livetime than the dates allow.
        IncompleteDataError: a table without a bin to export.
    """
    path = Path(path)
    if path.suffix not in {".usine", ".csv"}:
        msg = f"{path} has suffix {path.suffix!r}; use .usine or .csv"
        raise FluxExportError(msg)
    text = crdb_text(tables, dataset or Dataset(), form=path.suffix[1:])
    return write_text(path, text, overwrite=overwrite)


def crdb_text(tables: Mapping[str, FluxTable], dataset: Dataset, *, form: str) -> str:
    """Return the text of :func:`write_crdb`, ``form`` being ``usine`` or ``csv``."""
    stream = io.StringIO()
    for line in _comments(tables):
        stream.write(f"# {line}\n")
    columns = USINE_COLUMNS if form == "usine" else CSV_COLUMNS
    separator = " " if form == "usine" else ","
    stream.write(f"# {separator.join(columns)}\n")
    writer = csv.writer(stream, lineterminator="\n")
    for label, table in tables.items():
        name = "-".join((dataset.experiment, *marks(table)))
        _check_livetime(table, dataset)
        if len(tables) > 1:
            name = f"{name}-{label}"
        for row in _rows(table):
            if form == "usine":
                stream.write(" ".join(_usine(name, row, dataset)) + "\n")
            else:
                writer.writerow(_import(name, label, table, row, dataset))
    return stream.getvalue()


def _comments(tables: Mapping[str, FluxTable]) -> Iterator[str]:
    """Yield the comment lines."""
    yield "flux of cosmic-ray electrons plus positrons; GeV, m-2 s-1 sr-1 GeV-1; distance in AU"
    yield f"E_MEAN is e_ref of the flux table; {_PHI_UNKNOWN} stands for a phi that is not given"
    for label, table in tables.items():
        if warning(table):
            yield f"{label}: {warning(table)}"
        level = (table.meta.get("upper_limit") or {}).get("level")
        if publishable(table).limit.any():
            yield f"{label}: upper limits have confidence level {level or 'unknown'}"
        for sentence in publishable(table).left_out:
            yield f"{label}: left out {' '.join(sentence.split())}"


def _rows(table: FluxTable) -> Iterator[tuple[str, ...]]:
    """Yield mean energy, edges, value, four errors and the flag of each bin, as text."""
    bins = publishable(table)
    low, high = table.total_systematic()
    for i in bins.rows:
        if bins.measured[i]:
            errors = (table.dnde_errn[i], table.dnde_errp[i], low[i], high[i])
            numbers = (table.dnde[i], *errors)
        else:
            numbers = (table.dnde_ul[i], 0.0, 0.0, 0.0, 0.0)
        energies = (table.e_ref[i], table.e_min[i], table.e_max[i])
        flag = "1" if bins.limit[i] else "0"
        yield *(repr(float(x)) for x in (*energies, *numbers)), flag


def _usine(name: str, row: tuple[str, ...], dataset: Dataset) -> tuple[str, ...]:
    """Return the fields of a USINE line."""
    *numbers, flag = row
    return (
        QUANTITY,
        f"{name}({dataset.dates})",
        ENERGY_AXIS,
        *numbers,
        dataset.publication,
        _PHI_UNKNOWN,
        _DISTANCE_AU,
        _datimes(dataset),
        flag,
    )


def _import(
    name: str, label: str, table: FluxTable, row: tuple[str, ...], dataset: Dataset
) -> tuple[str, ...]:
    """Return the fields of a CSV line."""
    program = table.meta.get("program") or {}
    written = f"{program.get('name', 'flux table')} {program.get('version', '')}".strip()
    livetime = np.max(table.livetime[publishable(table).rows])
    return (
        "-".join((dataset.experiment, *marks(table))),
        "space",
        _NOT_GIVEN,
        str(dataset.period()[0].year),
        f"{name} ({dataset.dates})",
        f"electrons plus positrons, {label}",
        repr(float(dataset.energy_scale_error)),
        f"{warning(table)} livetime {livetime:.0f} s".strip(),
        _DISTANCE_AU,
        _datimes(dataset),
        dataset.publication,
        written,
        QUANTITY,
        ENERGY_AXIS,
        *row,
    )


def _datimes(dataset: Dataset) -> str:
    """Return the period in CRDB's form."""
    return ":".join(f"{moment:%Y/%m/%d-%H%M%S}" for moment in dataset.period())


def _check_livetime(table: FluxTable, dataset: Dataset) -> None:
    """Refuse dates that are shorter than the livetime."""
    first, last = dataset.period()
    span = (last - first).total_seconds()
    livetime = float(np.max(table.livetime[publishable(table).rows]))
    if livetime > span:
        msg = (
            f"a livetime of {livetime:.4g} s does not fit into {dataset.dates} ({span:.4g} s); "
            "give the dates of the data"
        )
        raise FluxExportError(msg)
