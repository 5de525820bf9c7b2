"""Jagged branches of which few events are wanted: their baskets stay apart, and only what is asked for is copied.

To join the baskets of a branch copies every hit of every event; with the fired bars of a chunk in which one
event in a hundred is scored that takes a twentieth of its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import uproot

__all__ = ["Jagged", "join", "read_jagged"]

Array = npt.NDArray[Any]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Jagged:
    """A number of values in each of n events.

    Attributes:
        offsets: Index of the first value of each event and, last, the number of all values, shape (n + 1,).
        parts: The values one after the other, in arrays of any length.
    """

    offsets: Index
    parts: tuple[Array, ...]

    def take(self, index: Index) -> Array:
        """Some of the values.

        Args:
            index: Ascending indices among all values.

        Returns:
            The values, of the same shape.
        """
        ends = np.cumsum([0, *(len(p) for p in self.parts)])
        cuts = np.searchsorted(index, ends)
        taken = [
            part[index[a:b] - start]
            for part, start, a, b in zip(self.parts, ends[:-1], cuts[:-1], cuts[1:], strict=True)
            if a < b
        ]
        return join(taken or [p[:0] for p in self.parts[:1]])

    @classmethod
    def from_awkward(cls, column: ak.Array) -> Jagged:
        """A column that was read already."""
        offsets = np.concatenate([[0], np.cumsum(ak.to_numpy(ak.num(column)), dtype=np.int64)])
        return cls(offsets, (ak.to_numpy(ak.flatten(column)),))


def join(parts: Sequence[Array]) -> Array:
    """Arrays one after the other, in the byte order of this machine; an empty one without any."""
    if not parts:
        return np.empty(0)
    return np.concatenate(parts, dtype=parts[0].dtype.newbyteorder("="))


class _Apart(uproot.AsJagged):  # type: ignore[misc]
    """How uproot interprets a jagged branch, without its last step."""

    def final_array(
        self,
        basket_arrays: dict[int, Any],
        entry_start: int,
        entry_stop: int,
        entry_offsets: Sequence[int],
        library: Any,  # noqa: ARG002 - these are the names of uproot's interface
        branch: Any,  # noqa: ARG002
        options: Any,  # noqa: ARG002
    ) -> Jagged:
        """The values of a range of events, each basket's as it came out of the file."""
        offsets, parts, values = [np.zeros(1, np.int64)], [], 0
        for number in sorted(basket_arrays):
            basket = basket_arrays[number]
            first, last = entry_offsets[number], entry_offsets[number + 1]
            here = slice(max(entry_start, first) - first, min(entry_stop, last) - first + 1)
            inside = np.asarray(basket.offsets[here], np.int64)
            whole = len(basket.offsets) - 1 == last - first and len(inside) > 0
            if not whole or inside[-1] > len(basket.content):
                msg = f"basket {number} does not hold its events {first} to {last}: the file is damaged"
                raise ValueError(msg)
            parts.append(basket.content[inside[0] : inside[-1]])
            offsets.append(inside[1:] + (values - inside[0]))
            values += len(parts[-1])
        joined = np.concatenate(offsets)
        if len(joined) - 1 != entry_stop - entry_start:
            msg = f"the baskets hold {len(joined) - 1} of the events {entry_start} to {entry_stop}"
            raise ValueError(msg)
        return Jagged(joined, tuple(parts))


def read_jagged(branch: Any, start: int, stop: int) -> Jagged:
    """Read a jagged branch of an open tree.

    Args:
        branch: The branch.
        start: First event.
        stop: Event after the last.

    Returns:
        Its values in these events.

    Raises:
        ValueError: If the branch is not jagged or its baskets are not those that the tree describes.
    """
    options = {"entry_start": start, "entry_stop": stop, "array_cache": None}
    known = branch.interpretation
    if type(known) is not uproot.AsJagged or not isinstance(known.content, uproot.AsDtype):
        return Jagged.from_awkward(branch.array(library="ak", **options))
    apart = _Apart(known.content, header_bytes=known.header_bytes)
    jagged: Jagged = branch.array(apart, library="np", **options)
    return jagged
