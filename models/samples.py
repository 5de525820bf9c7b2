"""Samples for training, evaluation and combination: selected events of simulated files, chunk by chunk.

The selection is the one of a run card, and the inputs are those of :mod:`processors.features`, so that
what a network sees here is what it will see in a run. ``prepare`` keeps the inputs of one region as
arrays on disk, because reading the bar energies takes longer than an epoch of training.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import numpy.typing as npt

from processors import features
from processors.calibration import Calibration
from processors.chain import Cut, evaluate
from processors.exceptions import CreError
from processors.ntuple import Aliases, Ntuple, aliases_hash, load_aliases
from processors.ntuplefile import Content, look, open_events

__all__ = [
    "MC_KINDS",
    "Chunk",
    "Prepared",
    "SampleError",
    "load_prepared",
    "prepare",
    "selected_events",
]

Values = npt.NDArray[np.float64]
MC_KINDS = ("electron", "proton")
#: Inputs that ``prepare`` stores, beside all variables; float16 keeps 3 digits, more than a bar measures.
_STORED: Mapping[str, type[np.generic]] = {
    "variables": np.float32,
    "image": np.float16,
    "stk": np.float16,
    "stk_mask": np.float16,
}
_COLUMNS = ("label", "e_true", "e_corr", "weight")


class SampleError(CreError):
    """Files cannot serve as a training or evaluation sample."""


@dataclass(frozen=True)
class Chunk:
    """Selected events of a part of a file.

    Attributes:
        ntuple: The part, with all its events.
        rows: Ascending indices of the selected events, shape (n,).
        kind: ``electron`` or ``proton`` (or ``data`` if asked for).
        e_true: True kinetic energy of the selected events, GeV; NaN for data.
        e_corr: Their corrected energy, GeV.
        weight: Their importance-sampling weight; 1 where the file has none.
        path: The file.
    """

    ntuple: Ntuple
    rows: npt.NDArray[np.intp]
    kind: str
    e_true: Values
    e_corr: Values
    weight: Values
    path: str


def selected_events(
    paths: Sequence[str | os.PathLike[str]],
    region: str,
    cuts: Sequence[Cut],
    *,
    aliases: str = "dmlntup",
    chunk_size: int = 50_000,
    kinds: Sequence[str] | None = None,
) -> Iterator[Chunk]:
    """Selected events of files that say themselves what they hold.

    Args:
        paths: Files.
        region: ``fiducial`` or ``topfiducial``.
        cuts: The chain of a run card.
        aliases: Convention of the files.
        chunk_size: Events read at a time.
        kinds: Kinds to read, files of others are left out; by default simulated electrons and protons,
            and then a file of data is an error.

    Yields:
        Chunks in the order of the files, also those without a selected event.

    Raises:
        SampleError: If a file does not say its kind, or is data and was not asked for.
        NtupleError: If a file cannot be read, or lacks what a cut needs.
    """
    convention = load_aliases(aliases)
    for path in paths:
        content = look(str(path), convention)
        kind = _kind(content, MC_KINDS if kinds is None else kinds, strict=kinds is None)
        if kind is None:
            continue
        for start in range(0, content.entries, chunk_size):
            stop = min(start + chunk_size, content.entries)
            events = open_events(content.path, content.tree, start=start, stop=stop)
            yield _chunk(Ntuple(events, convention), region, cuts, kind, content.path)


def _kind(content: Content, wanted: Sequence[str], *, strict: bool) -> str | None:
    kind = content.record.get("kind")
    if kind is None:
        msg = (
            f"{content.path}: does not say its kind (record 'cre_metadata'); only files of 'cre simulate', "
            "or files with such a record, can serve as a sample"
        )
        raise SampleError(msg)
    if kind not in wanted:
        if strict:
            msg = f"{content.path}: holds {kind}; a training sample is simulated electrons and protons"
            raise SampleError(msg)
        return None
    return str(kind)


def _chunk(ntuple: Ntuple, region: str, cuts: Sequence[Cut], kind: str, path: str) -> Chunk:
    rows = np.flatnonzero(evaluate(ntuple, cuts, kind=kind, region=region).selected)
    ones = np.ones(len(rows))
    simulated = kind in MC_KINDS
    return Chunk(
        ntuple=ntuple,
        rows=rows,
        kind=kind,
        e_true=_column(ntuple, "e_true", rows) if simulated else ones * np.nan,
        e_corr=_column(ntuple, "e_corr", rows),
        weight=_column(ntuple, "weight", rows) if simulated and ntuple.has("weight") else ones,
        path=path,
    )


def _column(ntuple: Ntuple, field: str, rows: npt.NDArray[np.intp]) -> Values:
    return np.asarray(ntuple[field], np.float64)[rows]


@dataclass(frozen=True)
class Prepared:
    """A prepared sample: arrays on disk, mapped into memory.

    Attributes:
        folder: Where they are.
        variables: Names of the columns of ``arrays["variables"]``.
        arrays: ``variables`` (n, V) float32, ``image`` (n, 14, 22), ``stk`` (n, 6, 4), ``stk_mask``
            (n, 1), and ``label`` (1 electron, 0 proton), ``e_true``, ``e_corr``, ``weight`` (n,).
        identity: sha256 of all that the content depends on: files, cuts, region, calibration.
        synthetic: Whether all files are synthetic.
    """

    folder: Path
    variables: tuple[str, ...]
    arrays: Mapping[str, npt.NDArray[Any]]
    identity: str
    synthetic: bool

    def __len__(self) -> int:
        return len(self.arrays["label"])

    def columns(self, variables: Sequence[str]) -> npt.NDArray[np.intp]:
        """Positions of variables in ``arrays["variables"]``.

        Raises:
            SampleError: If a variable was not prepared because the files lack its branches.
        """
        absent = [v for v in variables if v not in self.variables]
        if absent:
            msg = f"variable {absent[0]!r} is not in the prepared sample {self.folder}: a file lacks its branches"
            raise SampleError(msg)
        return np.array([self.variables.index(v) for v in variables], np.intp)


def prepare(
    paths: Sequence[str | os.PathLike[str]],
    region: str,
    cuts: Sequence[Cut],
    cache: Path,
    *,
    aliases: str = "dmlntup",
    calibration: Calibration | None = None,
    required: Sequence[str] = MC_KINDS,
    advance: Callable[[float], None] | None = None,
) -> Prepared:
    """Select events and keep the inputs of every network on disk; done once for the same files and cuts.

    Args:
        paths: Simulated files.
        region: ``fiducial`` or ``topfiducial``.
        cuts: The chain.
        cache: Folder; the sample gets a folder of its own in it, named by region and identity.
        aliases: Convention of the files.
        calibration: Table applied to the variables.
        required: Kinds of which at least one event must pass.
        advance: Told the number of events read, for a progress bar.

    Returns:
        The sample.

    Raises:
        SampleError: If no event of a required kind passes the cuts, or a file cannot serve.
        NtupleError: If a file cannot be read.
    """
    convention = load_aliases(aliases)
    contents = [look(str(p), convention) for p in paths]
    variables = _variables(contents, convention)
    identity = _identity(contents, convention, region, cuts, variables, calibration)
    folder = cache / f"{region}_{identity[:16]}"
    if (folder / "sample.json").exists():
        return load_prepared(folder)
    part = cache / f".{folder.name}.{os.getpid()}.part"
    part.mkdir(parents=True, exist_ok=True)
    try:
        chunks = selected_events(paths, region, cuts, aliases=aliases)
        counts = _write(part, chunks, variables, calibration, advance)
        if empty := [kind for kind in required if not counts[kind]]:
            _refuse_empty(empty[0], len(paths), region)
        record = {
            "identity": identity,
            "region": region,
            "variables": list(variables),
            "events": counts,
            "synthetic": all(c.record.get("synthetic") is True for c in contents),
            "files": [{"path": c.path, "uuid": c.uuid} for c in contents],
        }
        (part / "sample.json").write_text(json.dumps(record), "utf-8")
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return load_prepared(folder)


def load_prepared(folder: Path) -> Prepared:
    """Open a prepared sample.

    Args:
        folder: Its folder.

    Returns:
        The sample, its arrays mapped read-only.

    Raises:
        SampleError: If the folder holds none, or its files were cut short.
    """
    try:
        record = json.loads((folder / "sample.json").read_text("utf-8"))
    except (OSError, ValueError) as err:
        msg = f"{folder} holds no prepared sample ({err}); remove it and train again"
        raise SampleError(msg) from err
    variables = tuple(record["variables"])
    n = sum(record["events"].values())
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name in (*_STORED, *_COLUMNS):
        dtype = np.dtype(_STORED.get(name, np.float64))
        tail = _shape(name, len(variables))
        path = folder / f"{name}.raw"
        size = n * int(np.prod(tail, dtype=int)) * dtype.itemsize
        if not path.is_file() or path.stat().st_size != size:
            msg = f"{path} is missing or has not the {size} bytes of {n} events; remove {folder} and train again"
            raise SampleError(msg)
        arrays[name] = np.memmap(path, dtype, "r", shape=(n, *tail))
    return Prepared(folder, variables, arrays, record["identity"], bool(record["synthetic"]))


def _shape(name: str, n_variables: int) -> tuple[int, ...]:
    if name in _COLUMNS:
        return ()
    return tuple(n_variables if s is None else s for s in features.INPUTS[name].shape)


def _variables(contents: Sequence[Content], aliases: Aliases) -> tuple[str, ...]:
    """Variables that every file can give."""
    present = set.intersection(*(set(c.branches) for c in contents)) if contents else set()
    return tuple(
        name
        for name, variable in features.VARIABLES.items()
        if all(aliases.available(f, present) for f in variable.fields)
    )


def _identity(
    contents: Sequence[Content],
    aliases: Aliases,
    region: str,
    cuts: Sequence[Cut],
    variables: Sequence[str],
    calibration: Calibration | None,
) -> str:
    content = {
        "format": 1,
        "files": [c.uuid for c in contents],
        "entries": [c.entries for c in contents],
        "aliases": aliases_hash(aliases),
        "region": region,
        "cuts": [[c.name, dict(c.values), list(c.kinds)] for c in cuts],
        "variables": list(variables),
        "inputs": {name: features.INPUTS[name].text for name in _STORED},
        "calibration": calibration.model_dump(mode="json") if calibration is not None else None,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _refuse_empty(kind: str, files: int, region: str) -> NoReturn:
    msg = f"no {kind} of the {files} files passes the cuts of region {region!r}; give files that hold some"
    raise SampleError(msg)


def _write(
    folder: Path,
    chunks: Iterator[Chunk],
    variables: Sequence[str],
    calibration: Calibration | None,
    advance: Callable[[float], None] | None,
) -> dict[str, int]:
    """Append the inputs of all chunks to one file per array; number of selected events per kind."""
    counts = dict.fromkeys(MC_KINDS, 0)
    with contextlib.ExitStack() as stack:
        streams = {
            name: stack.enter_context((folder / f"{name}.raw").open("wb"))
            for name in (*_STORED, *_COLUMNS)
        }
        for chunk in chunks:
            counts[chunk.kind] += len(chunk.rows)
            if len(chunk.rows):
                _append(streams, chunk, variables, calibration)
            if advance is not None:
                advance(len(chunk.ntuple))
    return counts


def _append(
    streams: Mapping[str, IO[bytes]],
    chunk: Chunk,
    variables: Sequence[str],
    calibration: Calibration | None,
) -> None:
    arrays = features.build(
        chunk.ntuple,
        chunk.rows,
        tuple(_STORED),
        variables,
        calibration=calibration,
        species="electron" if chunk.kind == "electron" else "proton",
    )
    label = np.full(len(chunk.rows), float(chunk.kind == "electron"))
    columns = {"label": label, "e_true": chunk.e_true, "e_corr": chunk.e_corr}
    columns["weight"] = chunk.weight
    for name, values in {**arrays, **columns}.items():
        bad = ~np.isfinite(values)
        if bad.any():
            where = int(chunk.rows[np.argwhere(bad)[0, 0]])
            which = variables[int(np.argwhere(bad)[0, 1])] if name == "variables" else name
            msg = f"{chunk.path}: {which!r} is not finite in a selected event (row {where} of its chunk)"
            raise SampleError(msg)
        streams[name].write(np.ascontiguousarray(values, _STORED.get(name, np.float64)).tobytes())
