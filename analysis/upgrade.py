"""Histogram files of an earlier version, brought to the present one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hist import Hist, axis, storage

__all__ = ["EARLIER", "upgrade"]

#: Schema of the files that :func:`upgrade` takes.
EARLIER = "cre-histograms/1"

_WITH_EDGE = ("score", "response", "passed")
_WITHOUT_EDGE = ("cutflow",)


def upgrade(
    hists: Mapping[str, Hist[Any]], meta: Mapping[str, Any]
) -> tuple[dict[str, Hist[Any]], dict[str, Any]]:
    """Add the axes ``bgo`` and ``edge`` to histograms of schema 1, which had one category of each.

    A file of schema 1 holds one BGO reconstruction and only events that pass the edge cut (if its
    chain had one), so ``edge`` gets the one category ``pass``: the cut cannot be switched off.

    Args:
        hists: histograms with the axes kind and region first.
        meta: metadata; ``bgo_reconstruction`` names the reconstruction, ``new`` if it does not.

    Returns:
        Histograms and metadata as schema 2 has them; histograms of other names as they are.
    """
    bgo = str(meta.get("bgo_reconstruction", "new"))
    entries = dict(meta)
    if "by_bgo" not in entries:
        own = {key: meta[key] for key in ("livetime_s", "generated") if key in meta}
        entries["by_bgo"] = {bgo: own}
    return {name: _with_axes(name, h, bgo) for name, h in hists.items()}, entries


def _with_axes(name: str, histogram: Hist[Any], bgo: str) -> Hist[Any]:
    """One histogram with the new axes behind kind and region."""
    edge = name in _WITH_EDGE
    if not (edge or name in _WITHOUT_EDGE or name.startswith("control_")):
        return histogram
    names = [a.name for a in histogram.axes]
    if names[:2] != ["kind", "region"] or "bgo" in names:
        return histogram
    added = [axis.StrCategory([bgo], name="bgo", label="BGO reconstruction")]
    if edge:
        added.append(axis.StrCategory(["pass"], name="edge", label="edge cut"))
    axes = (*histogram.axes[:2], *added, *histogram.axes[2:])
    wider: Hist[Any] = Hist(*axes, storage=storage.Weight())
    here: tuple[Any, ...] = (slice(None), slice(None), *([0] * len(added)))
    target: Any = wider.view(flow=True)
    source: Any = histogram.view(flow=True)
    for part in ("value", "variance"):
        target[part][here] = source[part]
    return wider
