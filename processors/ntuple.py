"""Canonical view of a flat ntuple: field names, shapes and units, whatever the branches are called.

An alias file (YAML) says under which branch, in which unit and with which sentinel a group stores each
field; nothing else of the program knows a branch name. Branches are read when a field is first asked for.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import awkward as ak
import numpy as np
import numpy.typing as npt
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from processors import showers
from processors.exceptions import AliasError, MissingBranchError, NtupleError, sentences
from processors.fields import FIELDS, FieldInfo, Shape
from processors.geometry import N_BARS, N_LAYERS, N_STK_LAYERS, bar_of_id, layer_of_id
from processors.jagged import Jagged
from processors.shippedfile import shipped_names, shipped_text

__all__ = [
    "FIELDS",
    "Aliases",
    "FieldInfo",
    "Ntuple",
    "aliases_hash",
    "cached_aliases",
    "load_aliases",
    "shipped_aliases",
]

Array = npt.NDArray[Any]
#: Number of branches behind a pattern "{layer}".
DEPTH: Mapping[Shape, int] = {"layer": N_LAYERS, "stk": N_STK_LAYERS}

#: Events whose image is made at a time: their hits fit into the processor's cache.
_BLOCK = 1024

#: Factor from a unit to the canonical unit of the same dimension (GeV, mm, degree, s).
UNIT_FACTORS: Mapping[str, tuple[str, float]] = {
    "MeV": ("GeV", 1e-3),
    "GeV": ("GeV", 1.0),
    "TeV": ("GeV", 1e3),
    "mm": ("mm", 1.0),
    "cm": ("mm", 10.0),
    "m": ("mm", 1e3),
    "deg": ("deg", 1.0),
    "rad": ("deg", 180.0 / np.pi),
    "s": ("s", 1.0),
    "ms": ("s", 1e-3),
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FieldAlias(_Strict):
    """Where and how a group stores one field."""

    branch: str | None = None
    bar_id: str | None = None
    energy: str | None = None
    unit: str = ""
    bit: int | None = Field(default=None, ge=0, le=31)
    sentinel: float | None = None
    byte: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> FieldAlias:
        hits = self.bar_id is not None and self.energy is not None
        if (self.branch is not None) == hits:
            msg = "give either 'branch', or both 'bar_id' and 'energy'"
            raise ValueError(msg)
        if self.unit and self.unit not in UNIT_FACTORS:
            msg = f"unknown unit {self.unit!r}; known: {', '.join(UNIT_FACTORS)}"
            raise ValueError(msg)
        return self

    def branches(self, shape: Shape) -> list[str]:
        """Branch names that hold the field."""
        if self.branch is None:
            return [str(self.bar_id), str(self.energy)]
        if shape in DEPTH and "{layer}" in self.branch:
            return [self.branch.format(layer=i) for i in range(DEPTH[shape])]
        return [self.branch]


class Aliases(_Strict):
    """The alias file of one ntuple convention: its tree and its fields."""

    name: str
    tree: str
    fields: dict[str, FieldAlias]

    @model_validator(mode="after")
    def _known_fields(self) -> Aliases:
        for name, alias in self.fields.items():
            if name not in FIELDS:
                msg = f"unknown field {name!r}; known: {', '.join(FIELDS)}"
                raise ValueError(msg)
            unit = FIELDS[name].unit
            if (UNIT_FACTORS[alias.unit][0] if alias.unit else "") != unit:
                msg = f"field {name!r} needs a unit of {unit or 'no dimension'}, not {alias.unit!r}"
                raise ValueError(msg)
        return self

    def missing_branches(self, field: str, present: set[str]) -> list[str]:
        """Branches of a field that a file does not have; all of them unknown when it has no alias."""
        if field not in self.fields:
            return [f"(no alias for {field})"]
        return [b for b in self.stored_in(field) if b not in present]

    def stored_in(self, field: str) -> list[str]:
        """Branches that hold a field; none when it has no alias."""
        return self.fields[field].branches(FIELDS[field].shape) if field in self.fields else []

    def available(self, field: str, present: set[str]) -> bool:
        """Whether a field can be read or derived from the branches that are present."""
        if not self.missing_branches(field, present):
            return True
        return field in DERIVED and all(self.available(n, present) for n in DERIVED[field][0])


def shipped_aliases() -> list[str]:
    """Names of the alias files that come with the program."""
    return shipped_names("processors", "aliases")


def load_aliases(name_or_path: str | Path) -> Aliases:
    """Read an alias file.

    Args:
        name_or_path: Name of a shipped file (``dmlntup``, ``perugia``) or a path to one's own.

    Returns:
        The validated aliases.

    Raises:
        AliasError: If the file does not exist or is malformed.
    """
    text = shipped_text(name_or_path, "processors", "aliases", what="alias file", error=AliasError)
    try:
        return Aliases.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as err:
        msg = f"alias file {str(name_or_path)!r} is malformed: {err}"
        raise AliasError(msg) from err
    except ValidationError as err:
        msg = f"alias file {str(name_or_path)!r} is malformed:\n  {sentences(err)}"
        raise AliasError(msg) from err


def aliases_hash(aliases: Aliases) -> str:
    """Hash of the content of an alias file, independent of its layout."""
    return hashlib.sha256(aliases.model_dump_json().encode()).hexdigest()


class Events(Protocol):
    """What is needed of events, coffea's or :class:`processors.ntuplefile.Branches`: length and branches."""

    @property
    def fields(self) -> list[str]:
        """Branch names."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, branch: str, /) -> ak.Array | Array: ...


@runtime_checkable
class _Reader(Protocol):
    """Events that can be read without joining the baskets of a jagged branch."""

    def jagged(self, branch: str, /) -> Jagged: ...


class Ntuple:
    """Canonical fields of one chunk of events, read lazily and kept.

    ``ntuple["e_corr"]`` has shape (n,), layer fields (n, 14), fields of the STK layers (n, 12), ``image``
    (n, 14, 22), in GeV, mm, degrees. Sentinels become NaN in event fields and 0 in all others.

    Args:
        events: Events in coffea's virtual mode, or any mapping of branches with ``fields``.
        aliases: The convention of the file.
    """

    def __init__(self, events: Events, aliases: Aliases) -> None:
        self._events = events
        self._aliases = aliases
        self._present = set(events.fields)
        self._cache: dict[str, Array] = {}
        self._raw: dict[str, list[Array]] = {}
        self._words: dict[str, Array] = {}
        self._fired: tuple[Jagged, Jagged] | None = None

    def __len__(self) -> int:
        return len(self._events)

    def has(self, field: str) -> bool:
        """Whether a field can be read or derived."""
        return self._aliases.available(field, self._present)

    def __getitem__(self, field: str) -> Array:
        if field not in self._cache:
            self._cache[field] = self._read(field)
        return self._cache[field]

    def take(self, field: str, rows: npt.NDArray[np.intp]) -> Array:
        """A field of some events only, without making it for all of them.

        Args:
            field: Name of the field.
            rows: Indices of the events, shape (n,).

        Returns:
            ``ntuple[field][rows]``.
        """
        stored = not self._aliases.missing_branches(field, self._present)
        if field in self._cache or FIELDS[field].shape not in DEPTH or not stored:
            return np.asarray(self[field][rows])
        return self._converted(field, rows)

    def image(self, rows: npt.NDArray[np.bool_]) -> Array:
        """Bar energies of some events only.

        Args:
            rows: Mask of shape (n,).

        Returns:
            GeV, shape (number of True rows, 14, 22), float32.
        """
        if "image" in self._cache:
            return np.asarray(self._cache["image"][rows])
        return self._image(rows)

    def _read(self, field: str) -> Array:
        info = FIELDS[field]
        missing = self._aliases.missing_branches(field, self._present)
        if missing:
            if field in DERIVED:
                needs, derive = DERIVED[field]
                return derive(*(self[name] for name in needs))
            msg = (
                f"field {field!r} ({info.text}) needs branch {', '.join(missing)}, which the file does not "
                f"have; drop what uses it from the card or mend the alias file {self._aliases.name!r}"
            )
            raise MissingBranchError(msg)
        if info.shape == "image":
            return self._image(np.ones(len(self), bool))
        return self._converted(field, None)

    def _converted(self, field: str, rows: npt.NDArray[np.intp] | None) -> Array:
        """A field that is stored, of all events or of some."""
        info, alias = FIELDS[field], self._aliases.fields[field]
        branches = alias.branches(info.shape)
        if field not in self._raw:
            columns = [self._column(b, word=alias.bit is not None) for b in branches]
            if alias.byte:  # a char above 127 must not turn negative
                columns = [c.view(np.uint8) if c.dtype.itemsize == 1 else c for c in columns]
            self._raw[field] = columns
        columns = self._raw[field] if rows is None else [c[rows] for c in self._raw[field]]
        # layer after layer in memory: cuts go through the layers of all events, not through events
        values = np.stack(columns).T if len(columns) > 1 else columns[0]
        n = len(self) if rows is None else len(rows)
        expected = (n, DEPTH[info.shape]) if info.shape in DEPTH else (n,)
        if values.shape != expected:
            msg = (
                f"branch {branches[0]!r} has shape {values.shape}, field {field!r} needs {expected}"
            )
            raise NtupleError(msg)
        if rows is None:
            del self._raw[field]  # the field itself is kept from now on
        return _convert(values, info, alias)

    def _column(self, branch: str, *, word: bool) -> Array:
        """A branch; words of bits are kept, because several fields are in one."""
        if not word:
            return _to_numpy(self._events[branch], branch)
        if branch not in self._words:
            self._words[branch] = _to_numpy(self._events[branch], branch)
        return self._words[branch]

    def _image(self, rows: npt.NDArray[np.bool_]) -> Array:
        missing = self._aliases.missing_branches("image", self._present)
        if missing:
            msg = f"the bar energies need branch {', '.join(missing)}, which the file does not have"
            raise MissingBranchError(msg)
        alias = self._aliases.fields["image"]
        factor, n = UNIT_FACTORS[alias.unit][1], int(rows.sum())
        if alias.branch is not None:
            selected = ak.to_numpy(ak.to_regular(self._events[alias.branch][rows], axis=None))
            if n and selected.shape != (n, N_LAYERS, N_BARS):
                msg = f"branch {alias.branch!r} has shape {selected.shape[1:]}, an image needs (14, 22)"
                raise NtupleError(msg)
            image = np.array(selected, np.float32).reshape(n, N_LAYERS, N_BARS)
            if alias.sentinel is not None:
                image[image == alias.sentinel] = 0.0
            return image * np.float32(factor)
        image = np.zeros((n, N_LAYERS * N_BARS), np.float32)
        if not n:
            return image.reshape(n, N_LAYERS, N_BARS)
        identifiers, energies = self._hits(alias)
        offsets, chosen = identifiers.offsets, np.flatnonzero(rows)
        for start in range(0, n, _BLOCK):
            block = chosen[start : start + _BLOCK]
            counts = offsets[block + 1] - offsets[block]
            # positions of the hits: consecutive within an event, then on to the next event
            first = offsets[block] - np.cumsum(counts) + counts
            hits = np.repeat(first, counts) + np.arange(counts.sum())
            flat = identifiers.take(hits)
            layer, bar = layer_of_id(flat), bar_of_id(flat)
            if (wrong := (layer >= N_LAYERS) | (bar >= N_BARS)).any():
                msg = f"branch {alias.bar_id!r} holds {flat[wrong][0]}, which is no bar of the BGO"
                raise NtupleError(msg)
            cells = np.repeat(np.arange(len(block)) * (N_LAYERS * N_BARS), counts)
            cells += layer * N_BARS + bar
            gev = energies.take(hits).astype(np.float32) * np.float32(factor)
            np.add.at(image[start : start + _BLOCK].reshape(-1), cells, gev)  # fast: one index
        return image.reshape(n, N_LAYERS, N_BARS)

    def _hits(self, alias: FieldAlias) -> tuple[Jagged, Jagged]:
        """Identifiers and energies of the fired bars of all events."""
        if self._fired is None:
            identifiers, energies = (
                self._events.jagged(name)
                if isinstance(self._events, _Reader)
                else Jagged.from_awkward(self._events[name])
                for name in (str(alias.bar_id), str(alias.energy))
            )
            if not np.array_equal(identifiers.offsets, energies.offsets):
                msg = f"branches {alias.bar_id!r} and {alias.energy!r} have different numbers of hits in an event"
                raise NtupleError(msg)
            self._fired = identifiers, energies
        return self._fired


def _to_numpy(column: ak.Array | Array, branch: str) -> Array:
    if isinstance(column, np.ndarray):
        return column
    if column.ndim == 1:  # to_regular would copy it
        return np.asarray(ak.to_numpy(column))
    try:
        return np.asarray(ak.to_numpy(ak.to_regular(column, axis=None)))
    except ValueError as err:
        msg = f"branch {branch!r} is jagged ({column.type}); a number or a fixed array is needed"
        raise NtupleError(msg) from err


def _convert(values: Array, info: FieldInfo, alias: FieldAlias) -> Array:
    """Bits, sentinels and units of one field, in that order."""
    if alias.bit is not None:
        return np.asarray((values.astype(np.int64) >> alias.bit) & 1, bool)
    if info.boolean:
        return values.astype(bool)
    if alias.sentinel is not None:
        blank = np.nan if info.shape == "event" else 0.0
        missing = values == alias.sentinel
        if missing.any() or values.dtype.kind != "f":
            values = np.where(missing, blank, values)
    if not alias.unit or UNIT_FACTORS[alias.unit][1] == 1.0:
        return values
    return np.asarray(values * UNIT_FACTORS[alias.unit][1])


def _fractions(image: Array) -> Array:
    layers = image.sum(axis=2, dtype=np.float64)
    total = layers.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(layers, total, out=np.zeros_like(layers), where=total > 0))


def _bars_above_10_mev(image: Array) -> Array:
    return np.asarray((image > 0.010).sum(axis=2))


def _zeta(layer_rms: Array, layer_fraction: Array) -> Array:
    return np.asarray(showers.zeta(layer_rms, showers.f_last(layer_fraction)))


#: Fields that can be computed where a convention does not store them: what from, and how.
DERIVED: Mapping[str, tuple[tuple[str, ...], Callable[..., Array]]] = {
    "layer_fraction": (("image",), _fractions),
    "layer_rms": (("image",), showers.layer_rms_mm),
    "n_bars": (("image",), _bars_above_10_mev),
    "zeta": (("layer_rms", "layer_fraction"), _zeta),
}


@functools.lru_cache(maxsize=16)
def cached_aliases(name_or_path: str) -> Aliases:
    """The same as :func:`load_aliases`, read once per process (a worker asks for every chunk)."""
    return load_aliases(name_or_path)
