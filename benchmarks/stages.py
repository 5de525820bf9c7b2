"""Where the time of a chunk goes: processor time per stage, each without the stages inside it.

Functions of the program and of uproot are timed from outside while they run as always; the timers take about
2 µs per call, some thousand calls per chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from coffea.processor.executor import WorkItem

from benchmarks.timing import Stages
from processors.processor import RunConfig
from processors.run import execute

__all__ = ["STAGES", "where_the_time_goes"]


def _network(ref: Any, *_args: Any, **_options: Any) -> str:
    return f"network {ref.bundle.name}"


_PLACES: dict[str, str | Callable[..., str]] = {
    "processors.chunk:open_file": "read",
    "uproot.reading:ReadOnlyDirectory.__getitem__": "read",
    "processors.ntuplefile:Branches.__getitem__": "read",
    "processors.ntuplefile:Branches.jagged": "read",
    "processors.ntuplefile:Branches.preload": "read",
    "uproot.compression:decompress": "decompress",
    "processors.ntuple:Ntuple._converted": "features",
    "processors.ntuple:Ntuple._image": "features",
    "processors.features:build": "features",
    "processors.processor:evaluate": "select",
    "processors.inference:run_bundle": _network,
    "processors.processor:empty_histograms": "fill",
    "processors.processor:fill_cutflow": "fill",
    "processors.processor:fill_events": "fill",
    "processors.processor:fill_monthly": "fill",
    "processors.processor:fill_monthly_cuts": "fill",
    "processors.chunk:encode": "encode and fold",
    "processors.accumulators:add": "encode and fold",
    "processors.accumulators:empty": "encode and fold",
}
#: Stages in the order in which they are drawn; networks come after "features".
STAGES = ("read", "decompress", "select", "features", "fill", "encode and fold", "rest")


def where_the_time_goes(item: WorkItem, config: RunConfig, rounds: int) -> dict[str, float]:
    """Median processor time per event of each stage.

    Args:
        item: The chunk.
        config: The run.
        rounds: Repeats, after one that warms up.

    Returns:
        Stage to µs per event.
    """
    found: list[dict[str, float]] = []
    for _ in range(rounds + 1):
        stages = Stages()
        with stages.over(_PLACES):
            execute([item], config)
        found.append(stages.seconds)
    names = dict.fromkeys(n for one in found for n in one)
    return {
        n: float(np.median([one.get(n, 0.0) for one in found[1:]])) / len(item) * 1e6 for n in names
    }
