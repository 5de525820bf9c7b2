"""Which events of a histogram file an analysis uses: edge cut, BGO reconstruction, score.

Histogram files keep the events that fail the edge cut and several BGO reconstructions beside each
other, in the axes ``edge`` and ``bgo``. This module takes one choice out of them, once, before
anything else; all other modules see histograms without these axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from hist import Hist, axis

from analysis.exceptions import HistogramMismatchError

__all__ = [
    "Edge",
    "Hists",
    "chosen_bgo",
    "default_region",
    "project",
    "selection_text",
    "square_half_width",
]

Edge = Literal["on", "off"]
Hists = Mapping[str, Hist[Any]]


def project(
    hists: Hists,
    meta: Mapping[str, Any],
    *,
    edge: Edge = "on",
    bgo: str | None = None,
    score: str | None = None,
) -> tuple[dict[str, Hist[Any]], dict[str, Any]]:
    """Take one BGO reconstruction, the edge cut on or off and one score out of a file.

    Histograms and metadata that were projected already come back unchanged if the same is asked for.

    Args:
        hists: histograms of a file.
        meta: its metadata; ``by_bgo`` holds the entries that differ between reconstructions
            (``livetime_s``, ``generated``).
        edge: ``on`` keeps the events that pass the edge cut; ``off`` also those that fail only it. The
            control variables and the cut flow are always those of the full chain.
        bgo: reconstruction; default the only one of the file, ``new`` if there are several.
        score: name of the score; default the one of the card. For another one the metadata's ``score``
            has the name only: cut and control region must be chosen anew; the histogram of the card's
            score under other proton spectra is left out, with its entry ``proton_spectra``.

    Returns:
        Histograms without the axes ``bgo`` and ``edge``, and metadata in which ``livetime_s``,
        ``generated`` and ``bgo_reconstruction`` are those of the choice and ``edge_cut`` says ``edge``.

    Raises:
        HistogramMismatchError: the file does not hold what is asked for.
    """
    if edge not in {"on", "off"}:
        msg = f"the edge cut is 'on' or 'off', not {edge!r}"
        raise HistogramMismatchError(msg)
    if meta.get("edge_cut", edge) != edge:
        msg = (
            f"these histograms have the edge cut {meta['edge_cut']}; take {edge!r} from the file they "
            "came from"
        )
        raise HistogramMismatchError(msg)
    hists, name = _scored(hists, meta, score)
    chosen = chosen_bgo(hists, bgo, meta.get("bgo_reconstruction"))
    several = meta.get("by_bgo") or {}
    if (several or _reconstructions(hists)[1:]) and chosen not in several:
        msg = (
            f"the metadata ('by_bgo') hold no livetime and generated events of the reconstruction "
            f"{chosen!r}; fill the histograms anew"
        )
        raise HistogramMismatchError(msg)
    entries = {key: value for key, value in meta.items() if key != "by_bgo"}
    entries |= dict(several.get(chosen, {}))
    entries |= {"edge_cut": edge, "bgo_reconstruction": chosen}
    if name is not None:
        entries["score"] = {"name": name}
        entries.pop("proton_spectra", None)
    return {n: _projected(n, h, edge, chosen) for n, h in hists.items()}, entries


def chosen_bgo(hists: Hists, bgo: str | None = None, recorded: Any = None) -> str:
    """The BGO reconstruction to use.

    Args:
        hists: histograms of a file.
        bgo: the wanted one; default the only one, ``new`` if there are several.
        recorded: what the metadata say, for histograms that have no axis ``bgo``.

    Returns:
        Its name.

    Raises:
        HistogramMismatchError: it is not in the file, or it must be named.
    """
    names = _reconstructions(hists) or ([str(recorded)] if recorded else [])
    if bgo is None and len(names) > 1 and "new" not in names:
        msg = f"the file holds the reconstructions {', '.join(names)}; say which one is wanted"
        raise HistogramMismatchError(msg)
    wanted = bgo or ("new" if "new" in names or not names else names[0])
    if names and wanted not in names:
        msg = f"the file has no BGO reconstruction {wanted!r}; it has {', '.join(names)}"
        raise HistogramMismatchError(msg)
    return wanted


def _reconstructions(hists: Hists) -> list[str]:
    """BGO reconstructions of the first histogram that tells them apart."""
    axes = (a for h in hists.values() for a in h.axes if a.name == "bgo")
    return [str(c) for c in next(axes, ())]


def default_region(meta: Mapping[str, Any]) -> str:
    """The region that is meant if none is named.

    Args:
        meta: metadata of a histogram file.

    Returns:
        The only region of the card or of a toy, else ``fiducial``.
    """
    card = meta.get("card")
    regions = card.get("regions") if isinstance(card, Mapping) else meta.get("only_regions")
    return str(regions[0]) if regions and len(regions) == 1 else "fiducial"


def square_half_width(meta: Mapping[str, Any]) -> float | None:
    """Half width of the square that tells the regions apart, from the card of a run.

    Args:
        meta: metadata of a histogram file.

    Returns:
        mm; None if the file has no card, or its card has no cut ``region`` (toys, ``fiducial_bit``).
    """
    card = meta.get("card")
    cuts = card.get("cuts") if isinstance(card, Mapping) else None
    for entry in cuts or ():
        values = entry.get("region") if isinstance(entry, Mapping) else None
        if isinstance(values, Mapping) and values.get("half_width_mm") is not None:
            return float(values["half_width_mm"])
    return None


def selection_text(region: str, meta: Mapping[str, Any]) -> str:
    """Region and what is unusual about the selection, for titles.

    Args:
        region: ``fiducial`` or ``topfiducial``.
        meta: metadata of :func:`project`.

    Returns:
        Such as ``fiducial`` or ``fiducial, edge cut off, old BGO``.
    """
    parts = [region]
    if meta.get("edge_cut") == "off":
        parts.append("edge cut off")
    if meta.get("bgo_reconstruction") not in {None, "new"}:
        parts.append(f"{meta['bgo_reconstruction']} BGO")
    if meta.get("toy"):
        parts.append("toy")
    return ", ".join(parts)


def _scored(
    hists: Hists, meta: Mapping[str, Any], score: str | None
) -> tuple[dict[str, Hist[Any]], str | None]:
    """Histograms with the wanted score as ``score``, and its name if it is not the card's."""
    main = (meta.get("score") or {}).get("name")
    if score is None or score == main:
        return dict(hists), None
    spectra = [n for n, h in hists.items() if "spectrum" in h.axes.name]  # of the card's score only
    hists = {n: h for n, h in hists.items() if n not in spectra}
    if f"score_{score}" not in hists:
        others = [n.removeprefix("score_") for n in hists if n.startswith("score_")]
        msg = (
            f"the file has no score {score!r}; it has {', '.join(map(str, [main, *others]))} "
            "(further ones: 'also' in the card)"
        )
        raise HistogramMismatchError(msg)
    return {**hists, "score": hists[f"score_{score}"]}, score


def _projected(name: str, histogram: Hist[Any], edge: Edge, bgo: str) -> Hist[Any]:
    """A histogram without the axes ``bgo`` and ``edge``."""
    present = {a.name: a for a in histogram.axes}
    index: dict[int | str, Any] = {}
    if "bgo" in present:
        index["bgo"] = _position(name, present["bgo"], bgo)
    if "edge" in present:
        index["edge"] = _position(name, present["edge"], "pass")
    if not index:
        return histogram
    part: Any = histogram[index]
    if "edge" in index and edge == "off":
        part = part + histogram[index | {"edge": _position(name, present["edge"], "fail")}]
    kept: Hist[Any] = part
    return kept


def _position(name: str, categories: axis.StrCategory, wanted: str) -> int:
    """Index of a category, or a sentence that says what there is."""
    if wanted in list(categories):
        return int(categories.index(wanted))
    if categories.name == "edge" and wanted == "fail":
        msg = (
            f"histogram {name!r} holds only events that pass the edge cut (it comes from an earlier "
            "version): fill it anew to switch the cut off"
        )
    else:
        msg = (
            f"histogram {name!r} has no {categories.name} {wanted!r}; "
            f"it has {', '.join(map(repr, categories))}"
        )
    raise HistogramMismatchError(msg)
