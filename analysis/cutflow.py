"""Cut flows as tables: what each cut passes alone, in the chain, and after all others."""

from __future__ import annotations

from typing import Any

import hist

from analysis.selection import chosen_bgo

__all__ = ["cutflow_table"]


def cutflow_table(
    histogram: hist.Hist[Any], kind: str, region: str, bgo: str | None = None
) -> list[dict[str, Any]]:
    """Cut flow of one kind and region, summed over energy.

    Args:
        histogram: The histogram ``cutflow`` (axes kind, region, bgo, cut, stat, energy), or without bgo.
        kind: ``data`` (counts), ``electron`` or ``proton`` (events per second).
        region: ``fiducial`` or ``topfiducial``.
        bgo: BGO reconstruction; default the only one, ``new`` if there are several.

    Returns:
        One row per cut in the order of the chain, with ``evaluated`` (events on which it was computed),
        ``passed`` (those that pass it), ``cumulative`` (pass it and all before) and ``n_minus_1`` (pass
        all others).
    """
    at: dict[int | str, Any] = {"kind": hist.loc(kind), "region": hist.loc(region)}
    if "bgo" in [axis.name for axis in histogram.axes]:
        at["bgo"] = hist.loc(chosen_bgo({"cutflow": histogram}, bgo))
    part: Any = histogram[at]
    sums = part[{"energy": sum}].values()  # with the events outside the energy bins
    stats = [str(s) for s in part.axes["stat"]]
    return [
        {"cut": str(cut), **dict(zip(stats, map(float, row), strict=True))}
        for cut, row in zip(part.axes["cut"], sums, strict=True)
    ]
