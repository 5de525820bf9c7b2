"""The flux table: its columns, and its files (ECSV, CSV, JSON).

All three formats hold the same numbers without loss, the units of every column, the metadata and a
SHA-256 of the columns. ECSV follows the "Enhanced Character Separated Values" 1.0 format and can be
read by ``astropy.table.Table.read``; CSV has the same rows under a commented YAML header.
"""

import csv
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray

from analysis.exceptions import FluxTableError
from analysis.textfile import write_text

__all__ = ["COLUMNS", "SCHEMA", "FluxTable", "plain", "read_flux_table", "write_flux_table"]

SCHEMA = "cre-fluxtable/1"

_FLUX = "GeV-1 m-2 s-1 sr-1"

COLUMNS: dict[str, tuple[str, str]] = {
    "e_min": ("GeV", "lower edge of the energy bin"),
    "e_max": ("GeV", "upper edge of the energy bin"),
    "e_ref": ("GeV", "reference energy (rule in meta: e_ref)"),
    "dnde": (_FLUX, "flux"),
    "dnde_errn": (_FLUX, "statistical error of the flux, downwards"),
    "dnde_errp": (_FLUX, "statistical error of the flux, upwards"),
    "dnde_ul": (_FLUX, "upper limit of the flux (rule in meta: upper_limit)"),
    "n_data": ("", "data events above the score cut"),
    "counts": ("", "(1 - background_fraction) n_data / efficiency"),
    "background_fraction": ("", "protons above the cut / n_data"),
    "background_fraction_err": ("", "its error at fixed n_data"),
    "efficiency": ("", "efficiency of the score cut for electrons"),
    "efficiency_err": ("", "its error"),
    "acceptance": ("m2 sr", "acceptance before the score cut"),
    "acceptance_err": ("m2 sr", "its error"),
    "livetime": ("s", "livetime of the data that were read"),
}
"""Name of each fixed column: unit (empty: none) and description. ``sys_<source>_n``,
``sys_<source>_p`` and ``success`` follow."""

_SYS = re.compile(r"sys_([a-z][a-z0-9_]*)_([np])")
_FORMATS = {".ecsv": "ecsv", ".csv": "csv", ".json": "json"}


@dataclass(frozen=True, eq=False)
class FluxTable:
    """A flux per energy bin; every array has shape (n_bins,), read-only.

    A failed bin has ``success`` False and NaN in ``dnde``, its errors, ``dnde_ul`` and ``counts``;
    ``meta["failed_bins"]`` says why. Fields are the columns of :data:`COLUMNS`, and:

    Attributes:
        success: whether the bin has a flux.
        systematics: source → (downward, upward) absolute error of the flux; columns
            ``sys_<source>_n`` and ``sys_<source>_p``.
        meta: plain builtins (dict, list, str, number, bool, None): inputs with hashes, rules used.
    """

    e_min: NDArray[np.float64]
    e_max: NDArray[np.float64]
    e_ref: NDArray[np.float64]
    dnde: NDArray[np.float64]
    dnde_errn: NDArray[np.float64]
    dnde_errp: NDArray[np.float64]
    dnde_ul: NDArray[np.float64]
    n_data: NDArray[np.float64]
    counts: NDArray[np.float64]
    background_fraction: NDArray[np.float64]
    background_fraction_err: NDArray[np.float64]
    efficiency: NDArray[np.float64]
    efficiency_err: NDArray[np.float64]
    acceptance: NDArray[np.float64]
    acceptance_err: NDArray[np.float64]
    livetime: NDArray[np.float64]
    success: NDArray[np.bool_]
    systematics: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(
        default_factory=dict
    )
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = np.shape(self.e_min)
        for name in COLUMNS:
            object.__setattr__(self, name, _column(getattr(self, name), name, size))
        success = np.array(self.success, dtype=np.bool_)
        if success.shape != size:
            msg = f"column 'success' has shape {success.shape}, 'e_min' has {size}"
            raise FluxTableError(msg)
        success.flags.writeable = False
        object.__setattr__(self, "success", success)
        checked = {}
        for source, (low, high) in self.systematics.items():
            if not _SYS.fullmatch(f"sys_{source}_n"):
                msg = f"systematic source {source!r} must be lower-case letters, digits and _"
                raise FluxTableError(msg)
            names = (f"sys_{source}_n", f"sys_{source}_p")
            checked[source] = (_column(low, names[0], size), _column(high, names[1], size))
        object.__setattr__(self, "systematics", checked)
        object.__setattr__(self, "meta", plain(self.meta))

    def __len__(self) -> int:
        """Return the number of energy bins."""
        return len(self.e_min)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return all columns by name, in file order."""
        table: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in COLUMNS}
        for source, (low, high) in self.systematics.items():
            table[f"sys_{source}_n"], table[f"sys_{source}_p"] = low, high
        table["success"] = self.success
        return table

    def with_systematic(self, source: str, errn: ArrayLike, errp: ArrayLike) -> "FluxTable":
        """Return a table with one systematic error added or replaced.

        Args:
            source: name of the source, lower case.
            errn: (n_bins,) absolute downward error, GeV⁻¹ m⁻² s⁻¹ sr⁻¹.
            errp: (n_bins,) absolute upward error.

        Returns:
            A new table.

        Raises:
            FluxTableError: bad name or length.
        """
        pair = (np.asarray(errn, dtype=np.float64), np.asarray(errp, dtype=np.float64))
        return replace(self, systematics={**self.systematics, source: pair})

    def total_systematic(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return all systematic errors added in quadrature, downwards and upwards."""
        zero = np.zeros(len(self))
        low = sum((pair[0] ** 2 for pair in self.systematics.values()), zero)
        high = sum((pair[1] ** 2 for pair in self.systematics.values()), zero)
        return np.sqrt(low), np.sqrt(high)


def write_flux_table(table: FluxTable, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a flux table; the suffix (``.ecsv``, ``.csv``, ``.json``) chooses the format.

    The file appears under its name only when complete: it is written beside it and renamed.

    Args:
        table: the table.
        path: output file.
        overwrite: replace an existing file.

    Returns:
        The path.

    Raises:
        FileExistsError: the file exists and overwrite is False.
        FluxTableError: unknown suffix.
    """
    path = Path(path)
    text = {"ecsv": _ecsv_text, "csv": _csv_text, "json": _json_text}[_format(path)](table)
    return write_text(path, text, overwrite=overwrite)


def read_flux_table(path: str | Path) -> FluxTable:
    """Read a table written by :func:`write_flux_table`, bit for bit.

    Args:
        path: file ending in ``.ecsv``, ``.csv`` or ``.json``.

    Returns:
        The table.

    Raises:
        FluxTableError: not such a file, a column is missing or unknown, or its SHA-256 does not
            fit its rows.
        OSError: the file cannot be read.
    """
    path = Path(path)
    kind = _format(path)
    try:
        text = path.read_text(encoding="utf-8")
        header, columns = _parse_json(text) if kind == "json" else _parse_rows(text)
        if header.get("schema") != SCHEMA:
            msg = f"schema is {header.get('schema')!r}, expected {SCHEMA!r}"
            raise FluxTableError(msg)
        table = _from_columns(columns, header["meta"])
        if header.get("columns_sha256") != _digest(table):
            msg = "the rows do not fit columns_sha256 in the header: changed after it was written"
            raise FluxTableError(msg)
    except (KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        reason = f"{type(error).__name__} {error}" if isinstance(error, KeyError) else str(error)
        msg = f"{path} is not a usable flux table: {reason}"
        raise FluxTableError(msg) from error
    return table


def _ecsv_text(table: FluxTable) -> str:
    """Return the table as ECSV 1.0."""
    datatype = []
    for name, values in table.columns().items():
        unit, description = _unit(name)
        entry = {"name": name, "datatype": "bool" if values.dtype == np.bool_ else "float64"}
        datatype.append(entry | ({"unit": unit} if unit else {}) | {"description": description})
    header = {"delimiter": ",", "datatype": datatype, "meta": _header(table)}
    return f"# %ECSV 1.0\n# ---\n{_commented(header)}{_rows(table)}"


def _csv_text(table: FluxTable) -> str:
    """Return the table as CSV under a commented YAML header."""
    units = {name: _unit(name)[0] for name in table.columns()}
    return f"{_commented({'meta': {**_header(table), 'units': units}})}{_rows(table)}"


def _json_text(table: FluxTable) -> str:
    """Return the table as strict JSON: NaN is null, infinities are the strings inf and -inf."""
    columns = {
        name: [_json_cell(value) for value in values.tolist()]
        for name, values in table.columns().items()
    }
    units = {name: _unit(name)[0] for name in columns}
    header = {**_header(table), "units": units, "columns": columns}
    return json.dumps(header, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _parse_rows(text: str) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Split ECSV or CSV text into its header and its columns."""
    lines = text.splitlines()
    comments = [line[1:].removeprefix(" ") for line in lines if line.startswith("#")]
    comments = [line for line in comments if not line.startswith("%ECSV")]
    header = yaml.safe_load("\n".join(comments))["meta"]
    rows = list(csv.reader(line for line in lines if not line.startswith("#")))
    names, body = rows[0] if rows else [], rows[1:]
    if any(len(row) != len(names) for row in body):
        msg = "a row has another number of fields than the column line; is the file cut off?"
        raise FluxTableError(msg)
    return header, {name: [row[i] for row in body] for i, name in enumerate(names)}


def _parse_json(text: str) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Split JSON text into its header and its columns."""
    header = json.loads(text)
    columns = {
        name: ["nan" if value is None else value for value in values]
        for name, values in header["columns"].items()
    }
    return header, columns


def _from_columns(columns: dict[str, list[Any]], meta: dict[str, Any]) -> FluxTable:
    """Build the table from named columns of numbers or their text."""
    systematics: dict[str, dict[str, list[float]]] = {}
    fixed = {}
    for name, values in columns.items():
        match = _SYS.fullmatch(name)
        if match:
            systematics.setdefault(match[1], {})[match[2]] = [float(x) for x in values]
        elif name in COLUMNS:
            fixed[name] = np.array([float(x) for x in values])
        elif name != "success":
            msg = f"unknown column {name!r}"
            raise FluxTableError(msg)
    flags = {"True": True, "False": False}
    return FluxTable(
        **{name: fixed[name] for name in COLUMNS},
        success=np.array([flags[str(x)] for x in columns["success"]], dtype=np.bool_),
        systematics={key: (np.array(v["n"]), np.array(v["p"])) for key, v in systematics.items()},
        meta=meta,
    )


def _header(table: FluxTable) -> dict[str, Any]:
    """Return the header that every format carries."""
    return {"schema": SCHEMA, "columns_sha256": _digest(table), "meta": dict(table.meta)}


def _rows(table: FluxTable) -> str:
    """Return the column line and one line per bin; ``repr`` of a float is exact."""
    columns = table.columns()
    lines = [",".join(columns)]
    body = zip(*(values.tolist() for values in columns.values()), strict=True)
    lines += [",".join(map(repr, row)) for row in body]
    return "\n".join(lines) + "\n"


def _digest(table: FluxTable) -> str:
    """Return the SHA-256 of the CSV rows: the same for all formats."""
    return hashlib.sha256(_rows(table).encode()).hexdigest()


def _commented(header: dict[str, Any]) -> str:
    """Return YAML with every line behind a hash sign."""
    text = yaml.safe_dump(header, sort_keys=False, allow_unicode=True, width=10_000)
    return "".join(f"# {line}\n" for line in text.splitlines())


def _json_cell(value: float | bool) -> float | bool | str | None:
    """Return a JSON value that keeps NaN and infinities apart."""
    if isinstance(value, bool) or math.isfinite(value):
        return value
    return None if math.isnan(value) else repr(value)


def _unit(name: str) -> tuple[str, str]:
    """Return unit and description of a column."""
    if name == "success":
        return "", "False: no flux in this bin (reason in meta: failed_bins)"
    match = _SYS.fullmatch(name)
    if match:
        return _FLUX, f"systematic error, {match[1]}, {'down' if match[2] == 'n' else 'up'}wards"
    return COLUMNS[name]


def _format(path: Path) -> str:
    """Return the format that the suffix names."""
    if path.suffix not in _FORMATS:
        msg = f"{path} has suffix {path.suffix!r}; use one of {', '.join(_FORMATS)}"
        raise FluxTableError(msg)
    return _FORMATS[path.suffix]


def _column(values: ArrayLike, name: str, size: tuple[int, ...]) -> NDArray[np.float64]:
    """Return a read-only float copy after checking its shape."""
    array = np.array(values, dtype=np.float64)
    if array.shape != size or array.ndim != 1:
        msg = f"column {name!r} has shape {array.shape}, 'e_min' has {size}"
        raise FluxTableError(msg)
    array.flags.writeable = False
    return array


def plain(value: Any) -> Any:
    """Metadata as plain builtins that YAML and JSON keep.

    Args:
        value: anything.

    Returns:
        Dictionaries, lists, texts, numbers, flags and None; NaN and infinities become None, other objects
        their text.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
