"""Writing of flat ntuples: tree ``DmlNtup`` with ``tt_*`` branches and the record ``cre_metadata``."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import uproot

from processors.geometry import N_LAYERS, N_STK_LAYERS

__all__ = ["HIT_COLUMNS", "SCALAR_TYPES", "concatenate", "sorted_by_time", "write_ntuple"]

Columns = Mapping[str, npt.NDArray[Any]]

_FLOAT, _INT, _BYTE = np.dtype("float32"), np.dtype("int32"), np.dtype("uint8")
#: Branches with one value per event and their types.
SCALAR_TYPES: dict[str, np.dtype[Any]] = {
    "tt_bgoTotalE_GeV": _FLOAT,
    "tt_bgoTotalEcorr_GeV": _FLOAT,
    **{f"tt_F{i}": _FLOAT for i in range(N_LAYERS)},
    **{f"tt_Rms{i}": _FLOAT for i in range(N_LAYERS)},
    **{f"tt_nBarLayer{i}": _BYTE for i in range(N_LAYERS)},
    "tt_nBgoHits": _INT,
    "tt_Rmsl": _FLOAT,
    "tt_Rmsr": _FLOAT,
    "tt_Xtrl": _FLOAT,
    "tt_bgoRecSlopeX": _FLOAT,
    "tt_bgoRecSlopeY": _FLOAT,
    "tt_bgoRecInterceptX": _FLOAT,
    "tt_bgoRecInterceptY": _FLOAT,
    "tt_stkEcore1Rm_trk": _FLOAT,
    "tt_nStkClu_trk": _INT,
    **{f"tt_stkPlaneEcore{i}": _FLOAT for i in range(N_STK_LAYERS)},
    **{f"tt_stkPlaneNClu{i}": _INT for i in range(N_STK_LAYERS)},
    "tt_stkTrackNClusX": _INT,
    "tt_stkTrackNClusY": _INT,
    "tt_stkTrackNHoleX": _INT,
    "tt_stkTrackNHoleY": _INT,
    "tt_stkTrackDistance": _FLOAT,
    "tt_stkTrackAngle": _FLOAT,
    "tt_stkChargeX": _FLOAT,
    "tt_stkChargeY": _FLOAT,
    "tt_psdChargeX": _FLOAT,
    "tt_psdChargeY": _FLOAT,
    "tt_psdMatchX": _FLOAT,
    "tt_psdMatchY": _FLOAT,
    "tt_ekin": _FLOAT,
    "tt_evtPoid": _FLOAT,
    "tt_selection_bits": _INT,
    "tt_decision_bits": _INT,
    "tt_decision_bits1": _INT,
    "tt_run": _INT,
    "tt_second": _INT,
}
#: Columns of the fired bars: their number per event, and flat over all events.
HIT_COLUMNS = ("hit_count", "hit_id", "hit_mev")
_HIT_TYPE = "var * {GlobalBarID: int32, Energy: float32}"
#: Events per cluster of the tree.
_CLUSTER = 20_000


def write_ntuple(
    path: Path,
    parts: Iterable[Columns],
    metadata: Mapping[str, Any],
    file_uuid: uuid.UUID,
    *,
    tree: str = "DmlNtup",
) -> int:
    """Write one file; it appears under its name only when it is complete.

    Args:
        path: File to write.
        parts: Columns of successive events: one array per entry of ``SCALAR_TYPES`` and the three of
            ``HIT_COLUMNS``.
        metadata: Written as JSON into the string object ``cre_metadata``.
        file_uuid: Identifier of the file, the same for the same content.
        tree: Name of the tree.

    Returns:
        Number of events written.
    """
    # a name of our own, so that two jobs writing the same file do not write into each other
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    entries = 0
    try:
        with uproot.recreate(
            temporary, compression=uproot.ZSTD(1), uuid_function=lambda: file_uuid
        ) as file:
            writable = file.mktree(
                tree, {**SCALAR_TYPES, "tt_BgoHit": _HIT_TYPE}, title="synthetic DAMPE events"
            )
            waiting: list[Columns] = []
            for part in parts:
                waiting.append(part)
                if sum(len(p["hit_count"]) for p in waiting) >= _CLUSTER:
                    entries += _extend(writable, waiting)
                    waiting = []
            entries += _extend(writable, waiting)
            file["cre_metadata"] = json.dumps(dict(metadata), sort_keys=True)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return entries


def concatenate(parts: Iterable[Columns]) -> dict[str, npt.NDArray[Any]]:
    """Join columns of successive events; without any, columns of length 0."""
    listed = list(parts)
    if not listed:
        empty: dict[str, npt.NDArray[Any]] = {k: np.zeros(0, t) for k, t in SCALAR_TYPES.items()}
        return empty | {
            "hit_count": np.zeros(0, np.int64),
            "hit_id": np.zeros(0, np.int32),
            "hit_mev": np.zeros(0, np.float32),
        }
    return {k: np.concatenate([p[k] for p in listed]) for k in listed[0]}


def sorted_by_time(columns: Columns) -> dict[str, npt.NDArray[Any]]:
    """Events in the order of their seconds, with their fired bars."""
    order = np.argsort(columns["tt_second"], kind="stable")
    counts = columns["hit_count"]
    starts = np.cumsum(counts) - counts
    new_counts = counts[order]
    # position of each hit of the sorted events in the unsorted list
    first = np.repeat(starts[order] - (np.cumsum(new_counts) - new_counts), new_counts)
    hits = first + np.arange(int(counts.sum()))
    return {
        name: values[hits] if name in {"hit_id", "hit_mev"} else values[order]
        for name, values in columns.items()
    }


def _extend(writable: Any, parts: list[Columns]) -> int:
    columns = concatenate(parts)
    n = len(columns["hit_count"])
    if n == 0:
        return 0
    hits = ak.zip({"GlobalBarID": columns["hit_id"], "Energy": columns["hit_mev"]})
    branches: dict[str, Any] = {
        k: columns[k].astype(t, copy=False) for k, t in SCALAR_TYPES.items()
    }
    branches["tt_BgoHit"] = ak.unflatten(hits, columns["hit_count"])
    writable.extend(branches)
    return n
