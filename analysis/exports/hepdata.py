"""Flux tables as a HEPData submission, written with hepdata_lib and checked by hepdata-validator."""

import contextlib
import gzip
import io
import math
import tarfile
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.exports.tables import (
    UNPUBLISHED,
    FluxExportError,
    marks,
    publishable,
    warning,
)
from analysis.fluxtable import FluxTable
from analysis.textfile import refuse_existing

__all__ = ["validate_archive", "write_hepdata"]

_FLUX_UNITS = "GeV$^{-1}$ m$^{-2}$ s$^{-1}$ sr$^{-1}$"
_DIGITS = 17  # hepdata_lib rounds to 5; 17 keep a float64 bit for bit
_MISSING = "-"
_QUALIFIERS = {  # of the entry "flux" in the metadata
    "region": "Region",
    "edge_cut": "Edge cut",
    "bgo_reconstruction": "BGO reconstruction",
    "score": "Score",
    "cut": "Score cut",
}


def write_hepdata(
    tables: Mapping[str, FluxTable],
    folder: str | Path,
    *,
    publication: str = UNPUBLISHED,
    overwrite: bool = False,
) -> list[Path]:
    """Write a HEPData submission: a folder, and beside it the archive ``<folder>.tar.gz``.

    One table each: energy bins against flux (errors ``stat`` and ``sys,<source>``), upper limit,
    reference energy, events, counts, background fraction, efficiency, acceptance. Numbers have all
    their digits. A flux that is not positive is "-", and its upper limit stands in the next column.
    The archive is the same to the byte whenever it is written.

    Args:
        tables: label → flux table.
        folder: output folder.
        publication: where the numbers are published; one word.
        overwrite: replace an earlier submission.

    Returns:
        The files, the archive last.

    Raises:
        FileExistsError: folder or archive exist and overwrite is False.
        FluxExportError: hepdata_lib is missing, the folder to be replaced holds something else, or
            the validator refuses the submission.
        IncompleteDataError: a table without a bin to export.
    """
    library = _library()
    folder = Path(folder).absolute()
    archive = folder.with_name(f"{folder.name}.tar.gz")
    for path in (folder, archive):
        refuse_existing(path, overwrite=overwrite)
    if folder.exists():
        _refuse_foreign(folder)
    submission = library.Submission()
    submission.comment = " ".join(
        dict.fromkeys([warning(table) for table in tables.values() if warning(table)])
        | {f"Flux of cosmic-ray electrons plus positrons. Publication: {publication}.": None}
    )
    for label, table in tables.items():
        submission.add_table(_table(library, label, table, publication))
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name:
        scratch = Path(name)
        # The library always writes an archive, with the time in it, to the working directory; ours
        # replaces it.
        with contextlib.chdir(scratch):
            submission.create_files("submission", validate=False)
        packed = scratch / archive.name
        _pack(scratch / "submission", packed)
        validate_archive(packed)
        _swap(scratch / "submission", folder, scratch / "old")
        packed.replace(archive)
    return [*sorted(folder.iterdir()), archive]


def validate_archive(archive: Path) -> None:
    """Hold an archive against the schemas of HEPData.

    Args:
        archive: ``.tar.gz`` with submission.yaml and its data files.

    Raises:
        FluxExportError: hepdata_lib is missing, or the validator's messages.
    """
    validator = _library().FullSubmissionValidator()
    with warnings.catch_warnings():
        # hepdata_validator 0.3.6 leaves the data files that it unpacks to the garbage collector
        warnings.filterwarnings("ignore", r"unclosed file .*\.yaml'", ResourceWarning)
        valid = validator.validate(archive=str(archive))
    if not valid:
        found = [m.message for messages in validator.get_messages().values() for m in messages]
        msg = f"hepdata-validator refuses {archive.name}: {'; '.join(found)}"
        raise FluxExportError(msg)


def _library() -> Any:
    """Import hepdata_lib, which is optional."""
    try:
        # catch_warnings also takes back the filter that hepdata_lib installs for all of Python.
        with warnings.catch_warnings():
            # hepdata_validator 0.3.6 still imports RefResolver and RefResolutionError of jsonschema
            warnings.filterwarnings(
                "ignore", r"jsonschema\.(exceptions\.)?RefRes\w+ is deprecated", DeprecationWarning
            )
            import hepdata_lib  # noqa: PLC0415 - optional
    except ModuleNotFoundError as error:
        if error.name not in {"hepdata_lib", "hepdata_validator"}:
            raise
        msg = (
            f"a HEPData submission needs {error.name}; install it with: pip install -e '.[hepdata]'"
        )
        raise FluxExportError(msg) from error
    return hepdata_lib


def _table(library: Any, label: str, table: FluxTable, publication: str) -> Any:
    """Return a flux table as a table of hepdata_lib."""
    bins = publishable(table)
    rows = bins.rows
    name = " ".join((*marks(table), "flux", label))
    if len(name) > 64:
        msg = f"{name!r} is longer than the 64 characters of a HEPData table; shorten the file name"
        raise FluxExportError(msg)
    result = library.Table(name)
    result.location = f"Publication: {publication}"
    result.description = _description(table, bins.left_out)
    result.keywords = {
        "phrases": ["Cosmic rays", "Electron plus positron flux", *marks(table)],
    }

    energy = library.Variable("Energy", is_independent=True, is_binned=True, units="GeV")
    energy.digits = _DIGITS
    energy.values = [(float(table.e_min[i]), float(table.e_max[i])) for i in rows]
    result.add_variable(energy)

    shared = _qualifiers(table, rows)
    flux = _variable(library, "Flux", _FLUX_UNITS, table.dnde, rows, shared, bins.measured)
    errors = {"stat": (table.dnde_errn, table.dnde_errp)}
    errors |= {f"sys,{source}": pair for source, pair in table.systematics.items()}
    for source, (low, high) in errors.items():
        error = library.Uncertainty(source, is_symmetric=False)
        # hepdata_lib leaves out the errors of a bin where all are 0: upper limits have none
        error.values = [
            (0.0 - float(low[i]), float(high[i])) if bins.measured[i] else (0.0, 0.0) for i in rows
        ]
        flux.add_uncertainty(error)
    result.add_variable(flux)

    rule = table.meta.get("upper_limit") or {}
    limit = _variable(library, "Upper limit of the flux", _FLUX_UNITS, table.dnde_ul, rows, shared)
    if rule:
        limit.add_qualifier("Confidence level", rule.get("level", "unknown"))
        limit.add_qualifier("Method", str(rule.get("method", "unknown")))
    result.add_variable(limit)

    for title, units, values, error_values in (
        ("Reference energy", "GeV", table.e_ref, None),
        ("Events above the score cut", "", table.n_data, None),
        ("Events without background, efficiency corrected", "", table.counts, None),
        ("Background fraction", "", table.background_fraction, table.background_fraction_err),
        ("Efficiency of the score cut", "", table.efficiency, table.efficiency_err),
        ("Acceptance before the score cut", "m$^2$ sr", table.acceptance, table.acceptance_err),
    ):
        column = _variable(library, title, units, values, rows, shared)
        if error_values is not None:
            error = library.Uncertainty("total")
            error.values = [
                float(error_values[i])
                if math.isfinite(values[i]) and math.isfinite(error_values[i])
                else None
                for i in rows
            ]
            column.add_uncertainty(error)
        result.add_variable(column)
    if np.unique(table.livetime[rows]).size > 1:
        result.add_variable(_variable(library, "Livetime", "s", table.livetime, rows, shared))
    return result


def _variable(
    library: Any,
    name: str,
    units: str,
    values: NDArray[np.float64],
    rows: Sequence[int] | NDArray[np.intp],
    qualifiers: Sequence[tuple[str, Any, str]],
    shown: NDArray[np.bool_] | None = None,
) -> Any:
    """Return a dependent variable; "-" where it is not finite or not shown."""
    variable = library.Variable(name, is_independent=False, is_binned=False, units=units)
    variable.digits = _DIGITS
    variable.zero_uncertainties_warning = False  # printed otherwise
    variable.values = [
        _number(values[i]) if math.isfinite(values[i]) and (shown is None or shown[i]) else _MISSING
        for i in rows
    ]
    for qualifier in qualifiers:
        variable.add_qualifier(*qualifier)
    return variable


def _number(value: float) -> float | int:
    """Return whole numbers as such: 168 events, not 168.0."""
    value = float(value)
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def _qualifiers(table: FluxTable, rows: NDArray[np.intp]) -> list[tuple[str, Any, str]]:
    """Return name, value and unit of what holds for all columns."""
    found: list[tuple[str, Any, str]] = []
    if marks(table):
        found.append(("Data", warning(table), ""))
    flux = table.meta.get("flux") or {}
    found += [
        (title, flux[key], "")
        for key, title in _QUALIFIERS.items()
        if isinstance(flux.get(key), str | int | float)
    ]
    times = np.unique(table.livetime[rows])
    if times.size == 1:
        found.append(("Livetime", float(times[0]), "s"))
    return found


def _description(table: FluxTable, left_out: Sequence[str]) -> str:
    """Return what the table is, its rules, and the bins that are not in it."""
    meta = table.meta
    said = [warning(table)] if warning(table) else []
    said.append("Flux of cosmic-ray electrons plus positrons per bin of total energy.")
    e_ref = meta.get("e_ref") or {}
    if e_ref:
        said.append(
            f"Reference energy: {e_ref.get('rule')}, spectral index {e_ref.get('index', 'unknown')}."
        )
    errors = meta.get("errors") or {}
    if errors:
        said.append(
            f"Statistical error: {errors.get('method')} (probability {errors.get('level')})."
        )
    said.append("A flux that is not positive is given as upper limit only.")
    said += [f"Left out: {sentence}." for sentence in left_out]
    if "histograms_sha256" in meta:
        said.append(f"SHA-256 of the histograms: {meta['histograms_sha256']}.")
    return " ".join(said)


def _pack(folder: Path, archive: Path) -> None:
    """Write a folder's files as .tar.gz without times, owners or the order of the disk."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(folder.iterdir()):
            content = path.read_bytes()
            entry = tarfile.TarInfo(path.name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    archive.write_bytes(gzip.compress(stream.getvalue(), mtime=0))


def _refuse_foreign(folder: Path) -> None:
    """Refuse to replace what is not a submission."""
    if not folder.is_dir():
        msg = f"{folder} is not a folder; choose another name"
        raise FluxExportError(msg)
    names = sorted(path.name for path in folder.iterdir())
    foreign = [name for name in names if not name.endswith(".yaml")]
    if names and (foreign or "submission.yaml" not in names):
        msg = f"{folder} holds {(foreign or names)[0]}, which is no part of a submission; not replaced"
        raise FluxExportError(msg)


def _swap(new: Path, place: Path, old: Path) -> None:
    """Put a folder in the place of another, which comes back if that fails."""
    if place.exists():
        place.replace(old)
    try:
        new.replace(place)
    except OSError:
        if old.exists():
            old.replace(place)
        raise
