"""What of a flux table is published: which bins, under which label, with which warnings."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.exceptions import AnalysisError, IncompleteDataError
from analysis.fluxtable import FluxTable, read_flux_table

__all__ = [
    "UNPUBLISHED",
    "FluxExportError",
    "Publishable",
    "marks",
    "publishable",
    "read_tables",
    "warning",
]

UNPUBLISHED = "unpublished"

_MARKS = {
    "SYNTHETIC": "SYNTHETIC data, not data of the experiment.",
    "TOY": "TOY data, not data of the experiment.",
    "INCOMPLETE": "INCOMPLETE: not all planned data were read.",
}


class FluxExportError(AnalysisError):
    """A flux table cannot be exported as asked."""


@dataclass(frozen=True, eq=False)
class Publishable:
    """The bins of a table by what is published of them; arrays of shape (n_bins,).

    Attributes:
        measured: flux > 0 with finite errors.
        limit: the flux is not positive (no counts, or more background than counts): upper limit.
        left_out: a sentence per range of bins of which nothing is published: range and reason.
    """

    measured: NDArray[np.bool_]
    limit: NDArray[np.bool_]
    left_out: tuple[str, ...]

    @property
    def rows(self) -> NDArray[np.intp]:
        """Indices of the bins that are published."""
        return np.flatnonzero(self.measured | self.limit)


def publishable(table: FluxTable) -> Publishable:
    """Sort the bins of a table into measurements, upper limits and bins left out.

    Args:
        table: the flux table.

    Returns:
        The bins; left out are failed ones and those whose flux, error or limit is not finite.

    Raises:
        IncompleteDataError: no bin is left.
    """
    systematics = [pair[side] for pair in table.systematics.values() for side in (0, 1)]
    finite = np.isfinite([table.dnde, table.dnde_errn, table.dnde_errp, *systematics]).all(axis=0)
    measured = table.success & finite & (table.dnde > 0)
    limit = table.success & (table.dnde <= 0) & np.isfinite(table.dnde_ul) & (table.dnde_ul > 0)
    failed = {entry["bin"]: entry["reason"] for entry in table.meta.get("failed_bins", [])}
    reasons = [
        ""
        if measured[i] or limit[i]
        else "flux, error or upper limit is not finite"
        if table.success[i]
        else str(failed.get(i, "no flux"))
        for i in range(len(table))
    ]
    left_out = []
    for reason, group in groupby(range(len(table)), key=reasons.__getitem__):
        bins = list(group)
        if reason:
            low, high = table.e_min[bins[0]], table.e_max[bins[-1]]
            left_out.append(f"{low:.1f} to {high:.1f} GeV: {reason}")
    result = Publishable(measured, limit, tuple(left_out))
    if not result.rows.size:
        msg = f"no bin has a flux or an upper limit ({'; '.join(left_out) or 'the table is empty'})"
        raise IncompleteDataError(msg)
    return result


def marks(table: FluxTable) -> tuple[str, ...]:
    """Return what must be said of a table wherever it shows: SYNTHETIC, TOY, INCOMPLETE."""
    meta = table.meta
    found = (meta.get("synthetic"), meta.get("toy"), meta.get("complete") is False)
    return tuple(mark for mark, yes in zip(_MARKS, found, strict=True) if yes)


def warning(table: FluxTable) -> str:
    """Return the sentences of :func:`marks`, or an empty text."""
    return " ".join(_MARKS[mark] for mark in marks(table))


def read_tables(paths: Sequence[Path]) -> dict[str, FluxTable]:
    """Read flux tables and label them.

    Args:
        paths: files of :func:`analysis.fluxtable.write_flux_table`.

    Returns:
        Label → table in the order given. The label is the region; for tables of the same region, or
        without one, the stem of the file.

    Raises:
        FluxTableError: a file is not a flux table.
        FluxExportError: two tables of the same region have the same file name.
        OSError: a file cannot be read.
    """
    tables = [read_flux_table(path) for path in paths]
    regions = [str((table.meta.get("flux") or {}).get("region", "")) for table in tables]
    often = Counter(regions)
    labels = [
        region if region and often[region] == 1 else path.stem
        for region, path in zip(regions, paths, strict=True)
    ]
    labels = [re.sub(r"[^A-Za-z0-9.+-]+", "-", label).strip("-") or "flux" for label in labels]
    for label, count in Counter(label.lower() for label in labels).items():
        if count > 1:
            msg = f"{count} tables would both be called {label!r}; give files with different names"
            raise FluxExportError(msg)
    return dict(zip(labels, tables, strict=True))
