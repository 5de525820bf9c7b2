"""Cut flows: what each cut passes alone, in the chain, and after all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import hist
import numpy as np
import numpy.typing as npt

__all__ = ["CutFlow", "cutflow", "cutflow_table"]

FloatArray = npt.NDArray[np.float64]
STATS = ("evaluated", "passed", "cumulative", "n_minus_1")


@dataclass(frozen=True)
class CutFlow:
    """Sums of event weights per cut and energy bin for one kind and region.

    Attributes:
        cuts: Names in the order of the chain.
        edges: Energy edges in GeV, shape (m + 1,).
        evaluated: Events on which a cut was computed, shape (cuts, m).
        passed: Those of them that it passes.
        cumulative: Events that pass it and all cuts before it.
        n_minus_1: Events that pass all other cuts.
        selected: Events that pass all cuts, shape (m,).
    """

    cuts: tuple[str, ...]
    edges: FloatArray
    evaluated: FloatArray
    passed: FloatArray
    cumulative: FloatArray
    n_minus_1: FloatArray

    @property
    def selected(self) -> FloatArray:
        """Events that pass the whole chain, shape (m,)."""
        return np.asarray(self.cumulative[-1])

    def n_minus_1_efficiency(self) -> FloatArray:
        """Share of the events passing all other cuts that a cut passes too; NaN without events."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.selected / self.n_minus_1)

    def cumulative_efficiency(self) -> FloatArray:
        """Share of all events of an energy bin that survive up to a cut; NaN without events."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.cumulative / self.evaluated[0])


def cutflow(histogram: hist.Hist[Any], kind: str, region: str) -> CutFlow:
    """Cut flow of one kind and region.

    Args:
        histogram: The histogram ``cutflow`` (axes kind, region, cut, stat, energy).
        kind: ``data`` (counts), ``electron`` or ``proton`` (events per second).
        region: ``fiducial`` or ``topfiducial``.

    Returns:
        The cut flow, energy bins without under- and overflow.
    """
    part: Any = histogram[{"kind": hist.loc(kind), "region": hist.loc(region)}]
    values = {stat: part[{"stat": hist.loc(stat)}].values() for stat in STATS}
    return CutFlow(
        cuts=tuple(str(c) for c in part.axes["cut"]),
        edges=np.asarray(part.axes["energy"].edges, np.float64),
        **{stat: np.asarray(v, np.float64) for stat, v in values.items()},
    )


def cutflow_table(histogram: hist.Hist[Any], kind: str, region: str) -> list[dict[str, Any]]:
    """The same summed over energy, one row per cut, for reports."""
    flow = cutflow(histogram, kind, region)
    return [
        {"cut": cut, **{stat: float(getattr(flow, stat)[i].sum()) for stat in STATS}}
        for i, cut in enumerate(flow.cuts)
    ]
