"""Histogram files: a pickle, a UHI JSON and a ROOT file that say the same.

Schema ``cre-histograms/2``; files of schema 1 are read and upgraded. The pickle holds only builtins, numpy arrays and ``hist.Hist``, so that
a collaborator opens it with nothing of ours installed; the JSON (gzip) follows the Unified Histogram
Interface; the ROOT file holds one TH1D or TH2D with sum of squared weights per combination of
categories, named ``<histogram>/<category>/<category>``, with axis titles, and the axes and the
metadata as JSON in the TObjString ``cre_metadata``. All three keep underflow and overflow bins.
"""

from __future__ import annotations

import math
import os
import pickle
import shutil
import struct
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boost_histogram as bh
import hist
import numpy as np
import uproot

from analysis import histformats
from analysis.histformats import (
    FLOAT_KEY,
    READABLE,
    ROOT_RECORD,
    SCHEMA,
    HistFileError,
    UnsafePickleError,
)
from analysis.upgrade import EARLIER, upgrade

__all__ = [
    "SCHEMA",
    "SUFFIXES",
    "HistFile",
    "HistFileError",
    "UnsafePickleError",
    "check_same_binning",
    "load",
    "save",
]

SUFFIXES = (".pkl", ".json.gz", ".root")
_AXES = ("regular", "variable", "category_str")
# What a damaged file can raise in the three readers.
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SystemError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    uproot.deserialization.DeserializationError,
    zlib.error,
)

Hists = Mapping[str, hist.Hist[Any]]


@dataclass(frozen=True)
class HistFile:
    """Content of a histogram file.

    Attributes:
        hists: Histograms by name, all with Weight storage.
        meta: Provenance and ledgers, plain types only.
    """

    hists: dict[str, hist.Hist[Any]]
    meta: dict[str, Any]


def save(
    path_stem: str | os.PathLike[str],
    hists: Hists,
    meta: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write ``<stem>.pkl``, ``<stem>.json.gz`` and ``<stem>.root``: all of them or none.

    Args:
        path_stem: Path without suffix; missing folders are made.
        hists: Histograms with Weight storage and named Regular, Integer, Variable or StrCategory axes.
        meta: Dict of dict, list, str, int, float, bool and None, with str keys.
        overwrite: Replace files that exist.

    Returns:
        The three paths.

    Raises:
        HistFileError: Something cannot be written faithfully in all three formats.
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    stem = Path(path_stem)
    if not stem.name or stem.name.endswith(SUFFIXES):
        msg = f"{path_stem}: give the path without suffix, {', '.join(SUFFIXES)} are added"
        raise HistFileError(msg)
    paths = [stem.with_name(stem.name + suffix) for suffix in SUFFIXES]
    present = [path for path in paths if path.exists()]
    if present and not overwrite:
        msg = f"{present[0]} exists: choose another name or allow overwriting (--overwrite)"
        raise FileExistsError(msg)
    plain = _plain(dict(meta), "meta")
    records = {name: _record(name, h) for name, h in hists.items()}
    writers: Sequence[Callable[[Path, dict[str, Any], Any], None]]
    writers = (histformats.write_pickle, histformats.write_json, histformats.write_root)
    stem.parent.mkdir(parents=True, exist_ok=True)
    parts = [path.with_name(f".{path.name}.{os.getpid()}.part") for path in paths]
    try:
        for writer, part in zip(writers, parts, strict=True):
            writer(part, records, plain)
        _replace_all(parts, paths)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return paths


def load(path: str | os.PathLike[str]) -> HistFile:
    """Read a histogram file of any of the three formats.

    A pickle is read through a list of allowed names: one that asks for anything else is refused
    before that is looked up. The list keeps foreign code out; it cannot bound the memory that a
    hostile file asks for.

    Args:
        path: File that ends in .pkl, .json.gz (or .json) or .root.

    Returns:
        Histograms and metadata, the same from all three.

    Raises:
        HistFileError: The file is missing, damaged, of another schema or of an unknown suffix.
        UnsafePickleError: The pickle needs more than histograms and plain types.
    """
    source = Path(path)
    readers: dict[str, Callable[[Path], Any]] = {
        ".pkl": histformats.read_pickle,
        ".json.gz": histformats.read_json,
        ".json": histformats.read_json,
        ".root": histformats.read_root,
    }
    suffix = next((s for s in readers if source.name.endswith(s)), None)
    if suffix is None:
        msg = f"{path}: unknown suffix, a histogram file ends in {', '.join(SUFFIXES)}"
        raise HistFileError(msg)
    if not source.is_file():
        msg = f"{path}: no such file"
        raise HistFileError(msg)
    try:
        content = readers[suffix](source)
        return _checked(content)
    except HistFileError as error:
        msg = f"{path}: {error}"
        raise type(error)(msg) from error
    except _DAMAGE as error:
        msg = f"{path}: damaged or not a histogram file ({type(error).__name__}: {error})"
        raise HistFileError(msg) from error


def check_same_binning(first: HistFile, second: HistFile) -> None:
    """Refuse two files whose histograms cannot be added.

    Args:
        first: A histogram file.
        second: Another one.

    Raises:
        HistFileError: Names, axes, score or BGO reconstruction differ; says which.
    """
    if set(first.hists) != set(second.hists):
        only = sorted(set(first.hists) ^ set(second.hists))
        msg = f"histograms {', '.join(only)} are in one file only"
        raise HistFileError(msg)
    for name, h in first.hists.items():
        if h.axes != second.hists[name].axes:
            msg = f"histogram {name!r} has different axes in the two files"
            raise HistFileError(msg)
    for key in ("score", "bgo_reconstruction"):
        if first.meta.get(key) != second.meta.get(key):
            a, b = first.meta.get(key), second.meta.get(key)
            msg = f"the two files differ in {key}: {a!r} and {b!r}"
            raise HistFileError(msg)


def _replace_all(parts: Sequence[Path], paths: Sequence[Path]) -> None:
    """Move all parts to their places; when one move fails, put everything back."""
    kept = [path.with_name(f".{path.name}.{os.getpid()}.kept") for path in paths]
    moved = []
    try:
        for path, backup in zip(paths, kept, strict=True):
            if path.exists():
                shutil.copy2(path, backup)
        for part, path, backup in zip(parts, paths, kept, strict=True):
            part.replace(path)
            moved.append((path, backup))
    except OSError:
        for path, backup in moved:
            if backup.exists():
                backup.replace(path)
            else:
                path.unlink()
        raise
    finally:
        for backup in kept:
            backup.unlink(missing_ok=True)


# --- what may be in a file -------------------------------------------------------------------


def _plain(value: Any, where: str) -> Any:
    """Copy of a nest of plain types with every text interned, so that pickles repeat to the byte."""
    if type(value) is dict:
        for key in value:
            if type(key) is not str or key == FLOAT_KEY:
                msg = f"{where} has the key {key!r}: keys are texts other than {FLOAT_KEY!r}"
                raise HistFileError(msg)
        return {sys.intern(k): _plain(v, f"{where}.{k}") for k, v in value.items()}
    if type(value) is list:
        return [_plain(v, f"{where}[{i}]") for i, v in enumerate(value)]
    if type(value) is str:
        return sys.intern(value)
    if value is None or type(value) in {bool, int, float}:
        return value
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    msg = f"{where} is a {kind}: only dict, list, str, int, float, bool and None are kept"
    raise HistFileError(msg)


def _record(name: str, h: Any) -> dict[str, Any]:
    """UHI dictionary of a histogram after all checks, with numpy arrays."""
    if type(h) is not hist.Hist:
        msg = f"{name!r} is a {type(h).__name__}, not a hist.Hist"
        raise HistFileError(msg)
    if type(name) is not str or not name.replace("_", "").isalnum() or name == ROOT_RECORD:
        msg = f"histogram name {name!r}: use letters, digits and underscores"
        raise HistFileError(msg)
    storage = h.storage_type.__name__
    if storage != "Weight":
        msg = f"histogram {name!r} has {storage} storage: use Weight, ROOT needs its variances"
        raise HistFileError(msg)
    # The C++ reader accepts a buffer of the wrong length: look before touching the bins.
    if h.size != math.prod(h.axes.extent):
        msg = f"histogram {name!r} holds {h.size} bins, its axes have {math.prod(h.axes.extent)}"
        raise HistFileError(msg)
    record = h._to_uhi_()  # the UHI protocol, as uhi.io calls it
    names = [_axis_name(name, ax, h_ax) for ax, h_ax in zip(record["axes"], h.axes, strict=True)]
    if len(set(names)) != len(names):
        msg = f"histogram {name!r} has two axes of one name: {', '.join(names)}"
        raise HistFileError(msg)
    if not any(ax["type"] != "category_str" for ax in record["axes"]):
        msg = f"histogram {name!r} has no numeric axis"
        raise HistFileError(msg)
    storage_record = record["storage"]
    for part in ("values", "variances"):
        if not np.isfinite(storage_record[part]).all():
            msg = f"histogram {name!r} has NaN or infinite {part}: look at the weights it got"
            raise HistFileError(msg)
    arrays = {"edges", "values", "variances"}
    light = {
        "uhi_schema": record["uhi_schema"],
        # hist.Hist[Any](...) leaves a note to the type checker on the histogram
        "metadata": {k: v for k, v in record["metadata"].items() if k != "__orig_class__"},
        "axes": [{k: v for k, v in ax.items() if k not in arrays} for ax in record["axes"]],
        "storage": {"type": storage_record["type"]},
    }
    clean: dict[str, Any] = _plain(light, name)
    for ax, source in zip(clean["axes"], record["axes"], strict=True):
        if "edges" in source:
            ax["edges"] = np.array(source["edges"], np.float64)
    for part in ("values", "variances"):
        clean["storage"][part] = np.array(storage_record[part], np.float64)
    return clean


def _axis_name(name: str, axis: dict[str, Any], source: Any) -> str:
    """Name of an axis that all three formats can hold."""
    label = axis.get("metadata", {}).get("name", "")
    where = f"axis {label!r} of histogram {name!r}"
    curved = isinstance(source, bh.axis.Regular) and source.transform is not None
    odd = [word for word in ("growth", "circular") if getattr(source.traits, word)]
    if axis["type"] not in _AXES or curved or odd:
        what = " with ".join([type(source).__name__, *odd, *(["transform"] if curved else [])])
        msg = f"{where} is a {what}: use plain Regular, Integer, Variable or StrCategory axes"
        raise HistFileError(msg)
    if not label:
        msg = f"{where} has no name: names are how readers address axes"
        raise HistFileError(msg)
    if "edges" in axis and not np.isfinite(axis["edges"]).all():
        msg = f"{where} has an infinite edge: use the overflow bin"
        raise HistFileError(msg)
    return str(label)


def _checked(content: Any) -> HistFile:
    """Content of a file after the checks of the schema."""
    if type(content) is not dict or set(content) != {"schema", "hists", "meta"}:
        msg = "a histogram file holds 'schema', 'hists' and 'meta', this one does not"
        raise HistFileError(msg)
    if content["schema"] not in READABLE:
        msg = (
            f"schema {content['schema']!r}, this program reads {' and '.join(map(repr, READABLE))}"
        )
        raise HistFileError(msg)
    if type(content["hists"]) is not dict or type(content["meta"]) is not dict:
        msg = "'hists' and 'meta' of a histogram file are dictionaries, here they are not"
        raise HistFileError(msg)
    hists: dict[str, hist.Hist[Any]] = {
        name: hist.Hist(_record(name, h)) for name, h in content["hists"].items()
    }
    meta = _plain(content["meta"], "meta")
    return (
        HistFile(*upgrade(hists, meta)) if content["schema"] == EARLIER else HistFile(hists, meta)
    )
