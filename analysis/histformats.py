"""The three formats of a histogram file: how each is written and read.

Writers take *records*: UHI dictionaries of weighted histograms with numpy arrays, already checked
by :mod:`analysis.histfile`; readers return ``{"schema", "hists", "meta"}`` and leave the checks to it.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import math
import pickle
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import boost_histogram as bh
import hist
import numpy as np
import numpy.typing as npt
import uproot
from boost_histogram._core.hist import any_weight

from analysis.exceptions import AnalysisError
from analysis.upgrade import EARLIER

__all__ = [
    "FLOAT_KEY",
    "READABLE",
    "ROOT_RECORD",
    "SCHEMA",
    "HistFileError",
    "UnsafePickleError",
    "read_json",
    "read_pickle",
    "read_root",
    "write_json",
    "write_pickle",
    "write_root",
]

SCHEMA = "cre-histograms/2"
#: Schemas that can be read.
READABLE = (EARLIER, SCHEMA)
#: Key of the JSON record in the ROOT file; no histogram may have this name.
ROOT_RECORD = "cre_metadata"
#: JSON has no NaN or infinity: they are written as {"$float": "nan"}.
FLOAT_KEY = "$float"


class HistFileError(AnalysisError):
    """A histogram file, or what shall go into one, is not of this schema."""


class UnsafePickleError(HistFileError):
    """A pickle asks for something that no histogram file contains."""


# --- pickle ----------------------------------------------------------------------------------

_NDARRAY = object()


def _empty_array(kind: object, shape: object, code: object) -> npt.NDArray[Any]:
    if kind is not _NDARRAY or shape != (0,) or code != b"b":
        msg = f"array constructor with arguments {(shape, code)!r}"
        raise UnsafePickleError(msg)
    return np.ndarray((0,), "b")


def _dtype(code: object, align: object = False, copy: object = True) -> np.dtype[Any]:  # noqa: ARG001
    if code != "f8":
        msg = f"array of type {code!r}, histograms hold 'f8' only"
        raise UnsafePickleError(msg)
    return np.dtype("f8", align=False, copy=True)


# All that pickles of weighted histograms need, from hist 2.7 and numpy 1.26 on. The three numpy names
# are replaced by functions that make empty arrays and 'f8' types and nothing else.
_ALLOWED: dict[tuple[str, str], object] = {
    ("hist.hist", "Hist"): hist.Hist,
    ("boost_histogram._core.hist", "any_weight"): any_weight,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _dtype,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
}


class _Unpickler(pickle.Unpickler):
    """Unpickler that never imports: it knows six names."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            msg = f"the pickle asks for {module_name}.{global_name}, which no histogram file needs"
            raise UnsafePickleError(msg) from None

    def persistent_load(self, pid: Any, /) -> NoReturn:
        msg = f"the pickle asks for the external object {pid!r}"
        raise UnsafePickleError(msg)


def write_pickle(path: Path, records: dict[str, Any], meta: Any) -> None:
    """Write the pickle, protocol 4."""
    hists = {sys.intern(name): hist.Hist(record) for name, record in records.items()}
    with path.open("wb") as file:
        pickle.dump({"schema": SCHEMA, "hists": hists, "meta": meta}, file, protocol=4)


def read_pickle(path: Path) -> Any:
    """Read the pickle through the list of allowed names."""
    return _Unpickler(io.BytesIO(path.read_bytes())).load()


# --- JSON ------------------------------------------------------------------------------------


def _to_json(value: Any) -> Any:
    """Nest of plain types and arrays as JSON can hold it."""
    if isinstance(value, dict):
        return {key: _to_json(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_to_json(v) for v in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return {FLOAT_KEY: repr(value)}
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {FLOAT_KEY}:
            return float(value[FLOAT_KEY])
        return {key: _from_json(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_from_json(v) for v in value]
    return value


def write_json(path: Path, records: dict[str, Any], meta: Any) -> None:
    """Write UHI JSON, compressed; the same content gives the same bytes."""
    content = {"schema": SCHEMA, "hists": records, "meta": meta}
    text = json.dumps(_to_json(content), allow_nan=False, separators=(",", ":"))
    # Neither name nor time in the header.
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as file,
    ):
        file.write(text.encode("ascii"))


def read_json(path: Path) -> Any:
    """Read UHI JSON, compressed or not."""
    raw = path.read_bytes()
    content = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    if not isinstance(content, dict) or content.get("schema") not in READABLE:
        return content
    hists = {name: _hist_of(name, record) for name, record in content["hists"].items()}
    return {**content, "hists": hists, "meta": _from_json(content["meta"])}


def _hist_of(name: str, record: dict[str, Any]) -> hist.Hist[Any]:
    """Histogram of a UHI dictionary with lists for arrays; empty without values and variances."""
    storage = dict(record["storage"])
    if storage.get("type") != "weighted":
        msg = f"histogram {name!r} has storage {storage.get('type')!r}: only 'weighted' is read"
        raise HistFileError(msg)
    for part in {"values", "variances"} & set(storage):
        storage[part] = np.asarray(storage[part], np.float64)
    axes = [
        {**ax, "edges": np.asarray(ax["edges"], np.float64)} if "edges" in ax else ax
        for ax in record["axes"]
    ]
    return hist.Hist({**record, "axes": axes, "storage": storage})


# --- ROOT ------------------------------------------------------------------------------------


def _slices(axes: Sequence[dict[str, Any]], h: hist.Hist[Any]) -> Iterator[tuple[str, Any, bool]]:
    """Path, index and whether it is compulsory, of each TH1 or TH2 of a histogram.

    Categories and, beyond the last two, numeric axes are spread over objects; the flow bins of the
    spread axes are optional: they are written when they hold something.
    """
    numeric = [i for i, ax in enumerate(axes) if ax["type"] != "category_str"][-2:]
    choices: list[list[tuple[str, Any, bool]]] = []
    for i, (ax, source) in enumerate(zip(axes, h.axes, strict=True)):
        if i in numeric:
            choices.append([("", slice(None), True)])
            continue
        if ax["type"] == "category_str":
            labels = [quote(text, safe=" ") or "[empty]" for text in ax["categories"]]
        else:
            labels = [f"{ax['metadata']['name']}_{k}" for k in range(source.size)]
        under = source.traits.underflow
        named = [(label, k + under, True) for k, label in enumerate(labels)]
        # Brackets are quoted in category names, so names with brackets are free.
        if under:
            named.insert(0, ("[underflow]", 0, False))
        if source.traits.overflow:
            named.append(("[overflow]", len(labels) + under, False))
        choices.append(named)
    for choice in itertools.product(*choices):
        path = "/".join(label for label, _, _ in choice if label)
        yield path, tuple(index for _, index, _ in choice), all(needed for _, _, needed in choice)


def _root_axis(source: Any) -> Any:
    """The same axis with both flow bins, which ROOT always has."""
    title = source.label or source.name
    if isinstance(source, bh.axis.Regular):
        lower, upper = source.edges[0], source.edges[-1]
        return hist.axis.Regular(source.size, lower, upper, name=source.name, label=title)
    return hist.axis.Variable(source.edges, name=source.name, label=title)


def _flow_part(axes: Sequence[Any]) -> tuple[slice, ...]:
    """Where the bins of the axes lie in an array that has both flow bins on every axis."""
    return tuple(
        slice(0 if ax.traits.underflow else 1, None if ax.traits.overflow else -1) for ax in axes
    )


def write_root(path: Path, records: dict[str, Any], meta: Any) -> None:
    """Write TH1D and TH2D objects and the record that says how they belong together."""
    described = {}
    with uproot.recreate(path) as file:
        for name, record in records.items():
            h = hist.Hist(record)
            view = h.view(flow=True)
            kept = [ax for ax in h.axes if not isinstance(ax, bh.axis.StrCategory)][-2:]
            for slot, index, needed in _slices(record["axes"], h):
                part = view[index]
                if not (needed or part["value"].any() or part["variance"].any()):
                    continue
                out = hist.Hist(*map(_root_axis, kept), storage=hist.storage.Weight())
                out.view(flow=True)[_flow_part(kept)] = part
                file[f"{name}/{slot}" if slot else name] = out
            described[name] = {k: v for k, v in record.items() if k != "storage"}
        content = {"schema": SCHEMA, "hists": described, "meta": meta}
        file[ROOT_RECORD] = json.dumps(_to_json(content), allow_nan=False)


def read_root(path: Path) -> Any:
    """Put the histograms of a ROOT file together again."""
    with uproot.open(path) as file:
        if file.file.fEND > path.stat().st_size:
            msg = f"truncated, {path.stat().st_size} of {file.file.fEND} bytes"
            raise HistFileError(msg)
        if ROOT_RECORD not in file:
            msg = f"no {ROOT_RECORD!r} in the file: not a histogram file of this program"
            raise HistFileError(msg)
        content = json.loads(str(file[ROOT_RECORD]))
        if not isinstance(content, dict) or content.get("schema") not in READABLE:
            return content
        found = {key.split(";")[0] for key in file.keys(cycle=False)}
        hists = {}
        for name, record in content["hists"].items():
            h = _hist_of(name, {**record, "storage": {"type": "weighted"}})
            view: Any = h.view(flow=True)
            kept = [ax for ax in h.axes if not isinstance(ax, bh.axis.StrCategory)][-2:]
            for slot, index, needed in _slices(record["axes"], h):
                key = f"{name}/{slot}" if slot else name
                if key not in found:
                    if needed:
                        msg = f"the object {key!r} is missing"
                        raise HistFileError(msg)
                    continue
                source = file[key]
                for ax, root_axis in zip(kept, source.axes, strict=True):
                    if not np.allclose(ax.edges, root_axis.edges(), rtol=1e-12, atol=1e-12):
                        msg = f"the bin edges of {key!r} are not those in {ROOT_RECORD!r}"
                        raise HistFileError(msg)
                here = _flow_part(kept)
                view["value"][index] = source.values(flow=True)[here]
                view["variance"][index] = source.variances(flow=True)[here]
            hists[name] = h
    return {**content, "hists": hists, "meta": _from_json(content["meta"])}
