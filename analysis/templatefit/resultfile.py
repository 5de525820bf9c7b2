"""Fit results as JSON files."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.exceptions import AnalysisError
from analysis.fluxtable import plain
from analysis.templatefit.result import FitResult

__all__ = ["FIT_SCHEMA", "FitFileError", "fit_text", "read_fit"]

FIT_SCHEMA = "cre-fit/1"

_FLAGS = ("at_limit", "success")
_PLAIN = ("settings", "meta")


class FitFileError(AnalysisError):
    """A file is no fit result."""


def fit_text(result: FitResult) -> str:
    """The file of a fit result: strict JSON, NaN is null, infinities are texts.

    Beside the fields of :class:`FitResult` it has the derived columns, for readers without this program.

    Args:
        result: the fit.

    Returns:
        The text; the same result gives the same text.
    """
    content: dict[str, Any] = {"schema": FIT_SCHEMA}
    for f in fields(result):
        value = getattr(result, f.name)
        content[f.name] = plain(value) if f.name in _PLAIN else _cells(value)
    derived = ("electrons", "protons", "shift", "width", "electron_shift")
    content["derived"] = {name: _cells(getattr(result, name)) for name in derived}
    content["coefficients"] = {k: _cells(v) for k, v in result.coefficients.items()}
    content["ndf"] = result.ndf
    return json.dumps(content, allow_nan=False, ensure_ascii=False) + "\n"


def read_fit(path: str | Path) -> FitResult:
    """Read what :func:`fit_text` made.

    Args:
        path: JSON file.

    Returns:
        The fit.

    Raises:
        FitFileError: no such content.
        OSError: the file cannot be read.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text("utf-8"))
        if content.get("schema") != FIT_SCHEMA:
            msg = f"schema is {content.get('schema')!r}, expected {FIT_SCHEMA!r}"
            raise FitFileError(msg)
        values = {f.name: _value(f.name, content[f.name]) for f in fields(FitResult)}
        return _checked(FitResult(**values))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"{path} is not a usable fit result: {type(error).__name__} {error}"
        raise FitFileError(msg) from error


def _checked(result: FitResult) -> FitResult:
    """Refuse shapes that do not belong together."""
    n, p = result.e_min.size, result.parameters.size
    k = result.used.size
    designs = (result.shift_design, result.width_design, result.electron_design)
    if (
        result.covariance.shape != (p, p)
        or result.raw_covariance.shape != (p, p)
        or any(d.shape[:1] != (k,) for d in designs)
        or p != 2 * k + sum(d.shape[1] for d in designs)
        or not (n == result.e_max.size == result.success.size == len(result.reasons))
    ):
        msg = "its arrays do not fit together"
        raise ValueError(msg)
    return result


def _value(name: str, cells: Any) -> Any:
    if name in _PLAIN:
        return cells
    if name == "edm":
        return _numbers(cells)
    if name == "window":
        return _borders(cells)
    if name == "reasons":
        return tuple(cells)
    whole = {"used": np.intp, **dict.fromkeys(_FLAGS, np.bool_)}
    return np.array(cells, dtype=whole[name]) if name in whole else _floats(cells)


def _borders(cells: Any) -> tuple[NDArray[np.float64], ...]:
    return tuple(_floats(border) for border in cells)


def _floats(cells: Any) -> NDArray[np.float64]:
    return np.array(_numbers(cells), dtype=np.float64)


def _numbers(cells: Any) -> Any:
    if isinstance(cells, list):
        return [_numbers(c) for c in cells]
    return math.nan if cells is None else float(cells)


def _cells(value: Any) -> Any:
    """Nested lists of JSON values that keep NaN and infinities apart."""
    if isinstance(value, np.ndarray):
        return _cells(value.tolist())
    if isinstance(value, list | tuple):
        return [_cells(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else repr(value)
    return value
