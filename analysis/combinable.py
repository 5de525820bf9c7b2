"""Which flux tables can be combined: of disjoint events, made of the same data in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from analysis.consistency import Counts
from analysis.exceptions import AnalysisError
from analysis.fluxtable import FluxTable

__all__ = [
    "BinsDifferError",
    "CombinationError",
    "EventsNotDisjointError",
    "ExposureDiffersError",
    "KindsDifferError",
    "SelectionDiffersError",
    "UnknownSourceError",
    "by_region",
    "check_alike",
    "check_counts",
]

_NAMES = {"topfiducial": "top-fiducial"}
_SAME = 1e-6  # relative: the same number computed twice


class CombinationError(AnalysisError):
    """Flux tables that cannot be combined."""


class BinsDifferError(CombinationError):
    """The tables have different energy bins, reference energies, or confidence levels."""


class ExposureDiffersError(CombinationError):
    """The tables were made of different data or livetimes, or a flux is not what its columns say."""


class EventsNotDisjointError(CombinationError):
    """Two tables hold the same events."""


class KindsDifferError(CombinationError):
    """Complete with incomplete, synthetic with real, toys with others."""


class SelectionDiffersError(CombinationError):
    """Another edge cut or BGO reconstruction."""


class UnknownSourceError(CombinationError):
    """No table has a systematic source of that name."""


def by_region(tables: Sequence[FluxTable]) -> dict[str, FluxTable]:
    """Tables by region.

    Args:
        tables: two or more flux tables.

    Returns:
        Region, as it is written in texts → table.

    Raises:
        CombinationError: fewer than two tables, or one does not say its region.
        EventsNotDisjointError: two tables hold the same region.
    """
    if len(tables) < 2:
        msg = f"a combination needs two flux tables or more, not {len(tables)}"
        raise CombinationError(msg)
    named: dict[str, FluxTable] = {}
    for table in tables:
        region = (table.meta.get("flux") or {}).get("region")
        if not region:
            msg = "a flux table does not say of which region it is; make it anew with 'cre flux'"
            raise CombinationError(msg)
        region = _NAMES.get(region, region)
        known = [part for name in named for part in name.split(" + ")]
        if twice := [part for part in region.split(" + ") if part in known]:
            msg = f"the events of the region {twice[0]} are in two of the tables and would count twice"
            raise EventsNotDisjointError(msg)
        named[region] = table
    return named


def check_alike(named: Mapping[str, FluxTable], *, other_inputs: bool) -> None:
    """Refuse tables that were not made of the same data in the same way.

    Args:
        named: region → table.
        other_inputs: accept different data files.

    Raises:
        BinsDifferError: energy bins, reference energies or confidence levels differ or are not said.
        EventsNotDisjointError: the squares of the regions let events into both.
        ExposureDiffersError: livetimes or data files differ.
        KindsDifferError: only one is synthetic, a toy or complete, or injected spectra differ.
        SelectionDiffersError: edge cut or BGO reconstruction differ.
    """
    _check_squares(named)
    (name, first), *others = named.items()
    for other, table in others:
        for column in ("e_min", "e_max", "e_ref"):
            if not _same(getattr(first, column), getattr(table, column)):
                msg = f"the energy bins ({column}) of {name} and {other} differ; measure both with one card"
                raise BinsDifferError(msg)
        for rule in ("errors", "upper_limit"):
            levels = [(t.meta.get(rule) or {}).get("level") for t in (first, table)]
            if levels[0] is None or levels[0] != levels[1]:
                said = " and ".join(str(level) for level in levels)
                msg = f"the confidence levels ({rule}) of {name} and {other} must be the same, not {said}"
                raise BinsDifferError(msg)
        if not _same(first.livetime, table.livetime):
            times = f"{first.livetime[0]:.6g} s and {table.livetime[0]:.6g} s"
            msg = (
                f"the livetimes of {name} and {other} differ ({times}); read the same data for both"
            )
            raise ExposureDiffersError(msg)
        files = [_data_files(t) for t in (first, table)]
        if all(files) and files[0] != files[1] and not other_inputs:
            alone = len(files[0] ^ files[1])
            msg = (
                f"{name} and {other} were made of different data files ({alone} are in one only); read the same "
                "for both, or allow other inputs if they are skims of the same events"
            )
            raise ExposureDiffersError(msg)
        for key in ("synthetic", "toy", "complete"):
            flags = [
                (key == "complete" and t.meta.get(key) is None) or bool(t.meta.get(key))
                for t in (first, table)
            ]
            if flags[0] != flags[1]:
                which = name if flags[0] else other
                msg = f"only {which} is {key}: make both tables of the same kind of data"
                raise KindsDifferError(msg)
        truths = [(t.meta.get("injected") or {}).get("electron") for t in (first, table)]
        if all(truths) and truths[0] != truths[1]:
            msg = f"{name} and {other} were made with different injected spectra"
            raise KindsDifferError(msg)
        for key in ("edge_cut", "bgo_reconstruction"):
            chosen = [(t.meta.get("flux") or {}).get(key) for t in (first, table)]
            if None not in chosen and chosen[0] != chosen[1]:
                msg = f"{name} has {key} {chosen[0]!r}, {other} {chosen[1]!r}; measure both alike"
                raise SelectionDiffersError(msg)


def _check_squares(named: Mapping[str, FluxTable]) -> None:
    """Refuse a fiducial square larger than the top-fiducial one: axes between them at the bottom are in both."""
    parts = [named.get(name) for name in ("fiducial", "top-fiducial")]
    inner, outer = (None if t is None else t.meta["flux"].get("half_width_mm") for t in parts)
    if inner is not None and outer is not None and inner > outer:
        msg = (
            f"fiducial axes stay within {inner:g} mm, top-fiducial ones leave {outer:g} mm: some events are in both "
            "and would count twice; give both cards the same half_width_mm"
        )
        raise EventsNotDisjointError(msg)


def _same(first: ArrayLike, second: ArrayLike) -> bool:
    return np.shape(first) == np.shape(second) and np.allclose(first, second, rtol=_SAME, atol=0.0)


def _data_files(table: FluxTable) -> set[str]:
    """What identifies the data files of a table; empty if it does not say."""
    return {
        str(file.get("sha256") or file.get("uuid") or file.get("path"))
        for file in table.meta.get("inputs") or []
        if file.get("kind", "data") == "data"
    }


def check_counts(named: Mapping[str, FluxTable], counts: Counts) -> None:
    """Refuse a flux that is not counts less background over exposure.

    Args:
        named: region → table.
        counts: of these tables.

    Raises:
        ExposureDiffersError: a flux is something else.
    """
    for r, (region, table) in enumerate(named.items()):
        good = counts.good[r] & (counts.n[r] > 0)
        found = (counts.n[r] - counts.background[r])[good]
        apart = np.abs(table.dnde[good] * counts.exposure[r][good] - found)
        if (apart > _SAME * counts.n[r][good]).any():
            msg = (
                f"the flux of {region} is not counts less background over exposure: it was combined or "
                "corrected already, or has another migration factor than its metadata say"
            )
            raise ExposureDiffersError(msg)
