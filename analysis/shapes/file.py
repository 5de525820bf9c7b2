"""Parametrisations as JSON, schema ``cre-parametrisation/1``: every number is read back as it was."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.shapes.forms import Form, ShapeError
from analysis.shapes.parametrisation import Parametrisation
from analysis.shapes.smooth import Goodness, ParametrisationError, Smooth
from analysis.textfile import write_text

__all__ = [
    "SCHEMA",
    "from_dict",
    "read_json",
    "read_parametrisation",
    "rounded",
    "to_dict",
    "write_json",
    "write_parametrisation",
]

SCHEMA = "cre-parametrisation/1"


def to_dict(parametrisation: Parametrisation, digits: int | None = None) -> dict[str, Any]:
    """The parametrisation in plain types.

    Args:
        parametrisation: what to write.
        digits: significant digits of the covariance and the goodness of the fit; default all.

    Returns:
        Dict for JSON; of the covariance the lower triangle, row by row.
    """
    return {
        "schema": SCHEMA,
        "meta": dict(parametrisation.meta),
        "score": parametrisation.score,
        "region": parametrisation.region,
        "energy_edges_gev": parametrisation.energy_edges.tolist(),
        "kinds": {k: _smooth_dict(s, digits) for k, s in parametrisation.kinds.items()},
    }


def from_dict(content: Any) -> Parametrisation:
    """Inverse of :func:`to_dict`.

    Raises:
        ParametrisationError: another schema, a missing entry, numbers that do not fit together.
    """
    if not isinstance(content, Mapping) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, Mapping) else type(content).__name__
        msg = f"schema {found!r}, this program reads {SCHEMA!r}"
        raise ParametrisationError(msg)
    try:
        edges = np.array(content["energy_edges_gev"], dtype=np.float64)
        kinds = {str(k): _smooth(s, edges.size - 1) for k, s in content["kinds"].items()}
        out = Parametrisation(
            str(content["region"]), str(content["score"]), edges, kinds, dict(content["meta"])
        )
    except KeyError as error:
        msg = f"the parametrisation has no entry {error}"
        raise ParametrisationError(msg) from error
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        msg = f"malformed parametrisation: {error}"
        raise ParametrisationError(msg) from error
    if set(kinds) != {"electron", "proton"}:
        msg = f"a parametrisation has the kinds electron and proton, this one {', '.join(kinds)}"
        raise ParametrisationError(msg)
    return out


def write_parametrisation(
    parametrisation: Parametrisation,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
) -> Path:
    """Write the JSON file.

    Args:
        parametrisation: what to write.
        path: file.
        overwrite: replace a file that exists.

    Returns:
        The path.

    Raises:
        FileExistsError: the file exists and ``overwrite`` is not set.
    """
    return write_json(to_dict(parametrisation), path, overwrite=overwrite)


def read_parametrisation(path: str | os.PathLike[str]) -> Parametrisation:
    """Read the JSON file.

    Raises:
        ParametrisationError: no file, no JSON, or not a parametrisation.
    """
    content = read_json(path)
    try:
        return from_dict(content)
    except ParametrisationError as error:
        msg = f"{path}: {error}"
        raise ParametrisationError(msg) from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """Content of a JSON file.

    Raises:
        ParametrisationError: no such file, or no JSON.
    """
    source = Path(path)
    if not source.is_file():
        msg = f"{path}: no such file"
        raise ParametrisationError(msg)
    try:
        return json.loads(source.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        msg = f"{path}: not a JSON file ({error})"
        raise ParametrisationError(msg) from error


def write_json(
    content: Mapping[str, Any], path: str | os.PathLike[str], *, overwrite: bool
) -> Path:
    """Write JSON under a temporary name, then rename; long lists on one line."""
    return write_text(Path(path), _text(content) + "\n", overwrite=overwrite)


def rounded(values: Any, digits: int | None) -> Any:
    """Nested lists of numbers with so many significant digits; NaN becomes None."""
    if isinstance(values, list):
        return [rounded(v, digits) for v in values]
    if isinstance(values, float):
        if not math.isfinite(values):
            return None
        return values if digits is None else float(f"{values:.{digits}g}")
    return values


def _text(content: Any, indent: int = 0) -> str:
    """JSON with one entry of a dict per line and lists on one line."""
    if not isinstance(content, Mapping) or not content:
        return json.dumps(content, ensure_ascii=False, allow_nan=False)
    pad = " " * (indent + 1)
    lines = [
        f"{pad}{json.dumps(k, ensure_ascii=False)}: {_text(v, indent + 1)}"
        for k, v in content.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"


def _smooth_dict(smooth: Smooth, digits: int | None) -> dict[str, Any]:
    names = smooth.form.names
    parts = np.split(smooth.coefficients, np.cumsum([len(k) for k in smooth.knots])[:-1])
    triangle = smooth.covariance[np.tril_indices(smooth.coefficients.size)]
    goodness = smooth.goodness
    return {
        "left_breaks": smooth.form.left_breaks,
        "right_breaks": smooth.form.right_breaks,
        "parameters": {
            name: {"knots_log10_tev": list(k), "values": c.tolist()}
            for name, k, c in zip(names, smooth.knots, parts, strict=True)
        },
        "covariance_scale": smooth.scale,
        "covariance_lower": rounded(triangle.tolist(), digits),
        "goodness": {
            "used": goodness.used.tolist(),
            "effective": rounded(goodness.effective.tolist(), digits),
            "chi2": rounded(goodness.chi2.tolist(), digits),
            "ndf": goodness.ndf.tolist(),
        },
    }


def _smooth(content: Mapping[str, Any], bins: int) -> Smooth:
    form = Form(content["left_breaks"], content["right_breaks"])
    parameters = content["parameters"]
    if set(parameters) != set(form.names):
        msg = f"parameters {', '.join(parameters)}; the form has {', '.join(form.names)}"
        raise ShapeError(msg)
    knots = tuple(tuple(map(float, parameters[n]["knots_log10_tev"])) for n in form.names)
    coefficients = [np.array(parameters[n]["values"], dtype=np.float64) for n in form.names]
    if any(c.shape != (len(k),) for c, k in zip(coefficients, knots, strict=True)):
        msg = "a shape parameter has another number of values than of knots"
        raise ShapeError(msg)
    c = np.concatenate(coefficients)
    covariance = np.zeros((c.size, c.size))
    covariance[np.tril_indices(c.size)] = content["covariance_lower"]
    covariance += np.tril(covariance, -1).T
    if not (np.isfinite(c).all() and np.isfinite(covariance).all()):
        msg = "a coefficient or a covariance is not finite"
        raise ShapeError(msg)
    quality = content["goodness"]
    arrays: dict[str, NDArray[Any]] = {
        "effective": np.array(quality["effective"], dtype=np.float64),
        "chi2": np.array(quality["chi2"], dtype=np.float64),  # None becomes NaN
        "ndf": np.array(quality["ndf"], dtype=np.float64),
        "used": np.array(quality["used"], dtype=bool),
    }
    if any(a.shape != (bins,) for a in arrays.values()):
        msg = "the goodness of the fit needs one entry per energy bin"
        raise ShapeError(msg)
    return Smooth(
        form, knots, c, covariance, float(content["covariance_scale"]), Goodness(**arrays)
    )
