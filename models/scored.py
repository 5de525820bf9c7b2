"""Simulated events scored by all networks of a region, and the weights with which omega is fitted.

Every event has the weight of its rate under the card's target fluxes; electrons and protons are then
made equal in number and flat in log10 of the corrected energy, so that omega does not learn the
energy. Parameters of omega are linear in log10 E between energy nodes; an event contributes to its two
neighbouring nodes in proportion to its closeness, so that a fit describes what will be interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.evaluation import flattened_weights
from models.samples import selected_events
from processors.calibration import Calibration
from processors.chain import Cut
from processors.exceptions import ModelError
from processors.inference import score_events
from processors.modelset import Models
from processors.ntuple import load_aliases
from processors.ntuplefile import look
from processors.spectrum import parse
from processors.weights import Generated, rate_weights

__all__ = ["MIN_EVENTS", "Scored", "score_sample", "shares", "useful_nodes"]

FloatArray = npt.NDArray[np.float64]

#: Fine bins in which the energy is flattened, per decade.
_FINE = 20
#: A node needs as many effective events of each kind around it.
MIN_EVENTS = 200.0


@dataclass(frozen=True)
class Scored:
    """Simulated events with the logits of all networks of a region.

    Attributes:
        logits: Network to logits, shape (n,), all finite.
        e_corr: Corrected energy, GeV, shape (n,).
        electron: Whether an event is an electron (else a proton), shape (n,).
        weight: Rate under the target flux, or any weight within a kind, shape (n,).
    """

    logits: Mapping[str, FloatArray]
    e_corr: FloatArray
    electron: npt.NDArray[np.bool_]
    weight: FloatArray

    def balanced(self) -> FloatArray:
        """Weights with equal electrons and protons, flat in log10 E; they sum to 1 over the sample.

        Raises:
            ModelError: If no energy has both.
        """
        if not len(self.e_corr):
            msg = "the sample has no selected event; give more files"
            raise ModelError(msg)
        low, high = np.log10(self.e_corr.min()), np.log10(self.e_corr.max())
        edges = np.logspace(low, high + 1e-9, max(1, math.ceil((high - low) * _FINE)) + 1)
        edges[0] *= 1 - 1e-12
        weights = flattened_weights(self.e_corr, self.electron, self.weight, edges)
        if weights.sum() <= 0:
            msg = (
                "at no energy the sample holds both electrons and protons; give files of both kinds"
            )
            raise ModelError(msg)
        return np.asarray(weights / weights.sum())


def score_sample(
    paths: Sequence[str | Path],
    region: str,
    models: Models,
    cuts: Sequence[Cut],
    target: Mapping[str, Mapping[str, Any]],
    *,
    aliases: str = "dmlntup",
    calibration: Calibration | None = None,
    advance: Callable[[float], None] = lambda _events: None,
) -> tuple[Scored, bool]:
    """Select simulated events and score them with every network of a region.

    Args:
        paths: Files that say themselves what they hold.
        region: ``fiducial`` or ``topfiducial``.
        models: The networks.
        cuts: The chain.
        target: Kind to the flux (as a dict) to which the events are weighted.
        aliases: Convention of the files.
        calibration: Table applied to the variables.
        advance: Told the number of events read.

    Returns:
        The events, without those outside the energy range of a network, and whether all files are
        synthetic.

    Raises:
        ModelError: If a network gives NaN inside its range.
        CreError: If a file cannot be read or does not say how it was generated.
    """
    convention = load_aliases(aliases)
    records = [look(str(p), convention).record for p in paths]
    generated: dict[str, list[Generated]] = {"electron": [], "proton": []}
    for path, record in zip(paths, records, strict=True):
        if record.get("kind") not in generated or "generated" not in record:
            msg = f"{path}: does not say how many electrons or protons were generated; take files of 'cre simulate'"
            raise ModelError(msg)
        generated[record["kind"]].append(Generated.model_validate(record["generated"]))
    names = tuple(models.members[region])
    lists: dict[str, list[FloatArray]] = {n: [] for n in (*names, "e_corr", "electron", "weight")}
    for chunk in selected_events(paths, region, cuts, aliases=aliases):
        kind: Any = chunk.kind
        scores = score_events(
            chunk.ntuple, chunk.rows, region, models, names,
            calibration=calibration, species=kind if calibration is not None else None,
        )  # fmt: skip
        inside = models.serves(region, names, chunk.e_corr)
        for name in names:
            values = scores[name][inside]
            if not np.isfinite(values).all():
                bad = int((~np.isfinite(values)).sum())
                msg = f"{chunk.path}: network {name!r} gives NaN or infinity for {bad} selected events; find out why"
                raise ModelError(msg)
            lists[name].append(values)
        rate = rate_weights(chunk.e_true, chunk.weight, generated[kind], parse(target[kind]))
        lists["weight"].append(np.nan_to_num(rate)[inside])
        lists["e_corr"].append(chunk.e_corr[inside])
        lists["electron"].append(np.full(int(inside.sum()), float(kind == "electron")))
        advance(len(chunk.ntuple))
    columns = {k: np.concatenate([np.zeros(0), *v]) for k, v in lists.items()}
    scored = Scored(
        {n: columns[n] for n in names},
        columns["e_corr"],
        columns["electron"] > 0,
        columns["weight"],
    )
    return scored, all(bool(r.get("synthetic")) for r in records)


def shares(e_corr: FloatArray, nodes_gev: Sequence[float]) -> FloatArray:
    """Share of each node in the interpolation at each energy, shape (n, nodes); rows sum to 1."""
    log_nodes = np.log10(nodes_gev)
    log_e = np.log10(e_corr)
    unit = np.eye(len(log_nodes))
    return np.stack([np.interp(log_e, log_nodes, row) for row in unit], axis=1)


def useful_nodes(
    sample: Scored, nodes_gev: Sequence[float], *, min_events: float = MIN_EVENTS
) -> tuple[float, ...]:
    """Those of the nodes around which there are enough electrons and protons.

    Args:
        sample: The events.
        nodes_gev: Candidates.
        min_events: Effective number of events of each kind, each counted by its share in the node.

    Returns:
        The nodes that remain.

    Raises:
        ModelError: If none does.
    """
    weights = sample.balanced()
    e = sample.electron
    nodes = tuple(nodes_gev)
    while nodes:
        share = shares(sample.e_corr, nodes)
        counts = [
            min(_effective(weights[kind], share[kind, k]) for kind in (e, ~e))
            for k in range(len(nodes))
        ]
        poorest = int(np.argmin(counts))
        if counts[poorest] >= min_events:
            return nodes
        nodes = nodes[:poorest] + nodes[poorest + 1 :]
    msg = f"the sample is too small: fewer than {min_events:g} effective electrons or protons; give more files"
    raise ModelError(msg)


def _effective(weights: FloatArray, share: FloatArray) -> float:
    """Effective number of events that a node has; the sum of the shares if all weights are equal."""
    squares = float((weights**2 * share).sum())
    return float(weights @ share) ** 2 / squares if squares > 0 else 0.0
