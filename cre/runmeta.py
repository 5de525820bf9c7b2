"""Metadata of a histogram file: what was read, with which livetime, generated events, card and models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cre.card import Card
from cre.provenance import program, sha256
from processors.binning import energy_edges_gev
from processors.exceptions import IncompleteError, NonFiniteError
from processors.ledger import livetime_ledger
from processors.manifest import FileEntry, Manifest
from processors.processor import MC_KINDS, RunConfig
from processors.run import RunResult
from processors.spectrum import parse

__all__ = ["livetimes", "problem", "run_meta"]


def livetimes(meta: Mapping[str, Any]) -> dict[str, float]:
    """BGO reconstruction to livetime, s."""
    return {bgo: part["livetime_s"] for bgo, part in meta["by_bgo"].items()}


def run_meta(
    card: Card,
    manifest: Manifest,
    files: Sequence[FileEntry],
    config: RunConfig,
    result: RunResult,
) -> dict[str, Any]:
    """Metadata of the histogram file: what was read, with which livetime and generated events.

    Livetime, inputs and ledger are those of the files of which every chunk was processed, as the histograms
    are. What differs between BGO reconstructions stands in ``by_bgo``; that of the first also at the top.

    Args:
        card: The card.
        manifest: The manifest that it names.
        files: Its files that the run reads.
        config: The run.
        result: What it gave.

    Returns:
        Plain types.
    """
    edges = energy_edges_gev(extended=card.extended_bins)
    planned = files
    files = [f for f in planned if f.path not in result.incomplete_files]
    data = [f for f in files if f.kind == "data"]
    by_bgo = {
        bgo: {
            **livetime_ledger(planned, files, bgo),
            "generated": {k: [dict(g) for g in v] for k, v in config.generated[bgo].items()},
        }
        for bgo in config.bgo
    }
    injected = next((f.injected for f in data if f.injected), {})
    keep = (
        "path",
        "uuid",
        "sha256",
        "kind",
        "entries",
        "bgo_reconstruction",
        "synthetic",
        "weights",
    )
    return {
        "program": program(),
        "card": card.as_dict(),
        "manifest_sha256": sha256(card.manifest),
        "inputs": [
            {
                **{k: getattr(f, k) for k in keep},
                "livetime_s": f.livetime_s,
                "generated": f.generated.model_dump() if f.generated else None,
            }
            for f in files
        ],
        "quarantined": [q.model_dump() for q in manifest.quarantined],
        **by_bgo[config.bgo[0]],
        "by_bgo": by_bgo,
        "target_spectrum": dict(card.target),
        **({"proton_spectra": dict(card.proton_spectra)} if card.proton_spectra else {}),
        "target_flux_integral": {
            kind: np.asarray(parse(card.target[kind]).integral(edges[:-1], edges[1:])).tolist()
            for kind in MC_KINDS
        },
        "score": {
            "name": card.score.name,
            **card.score.model_dump(mode="json", include={"cut", "control"}),
            **({"strategy": card.score.strategy} if "omega" in card.scores else {}),
        },
        "also": list(card.also),
        "models": config.models.to_list(),
        "energy": {
            region: {
                "model": one.ref.bundle.name,
                "sha256": one.ref.sha256,
                "max_sigma": one.max_sigma,
            }
            for region, one in config.models.energy.items()
        },
        "calibration": _calibration(card, config),
        "ledger": {
            "planned": len(result.planned),
            "processed": len(result.processed),
            "missing": sorted(result.missing),
            "incomplete_files": list(result.incomplete_files),
            "files": _of_files(files),
            "planned_files": _of_files(planned),
            "quarantined": len(manifest.quarantined),
        },
        "period": None if card.period is None else str(card.period),
        "events": dict(result.output.get("events", {})),
        "nonfinite": dict(result.output.get("nonfinite", {})),
        "synthetic": any(f.synthetic for f in files),
        "complete": problem(card, result) is None,
        "not_finite": str(unfit) if (unfit := _not_finite(card, result)) else None,
        "toy": False,
        "injected": injected,
        "only_regions": sorted({f.only_region for f in files if f.only_region}),
        "complete_above_gev": max((f.complete_above_gev for f in files), default=0.0),
        "bgo_reconstruction": config.bgo[0] if len(config.bgo) == 1 else list(config.bgo),
    }


def _of_files(files: Sequence[FileEntry]) -> dict[str, Any]:
    """Kind to files, entries, and livetime (data) or generated events (simulation)."""
    kinds: dict[str, Any] = {}
    for kind in ("data", *MC_KINDS):
        some = [f for f in files if f.kind == kind]
        kinds[kind] = {"files": len(some), "entries": sum(f.entries for f in some)}
        if kind == "data":
            kinds[kind]["runs"] = sum(len(f.runs) for f in some)
            kinds[kind]["livetime_s"] = sum(f.livetime_s for f in some)
        else:
            kinds[kind]["generated"] = sum(f.generated.events for f in some if f.generated)
    return kinds


def _calibration(card: Card, config: RunConfig) -> dict[str, Any] | None:
    """Which table was applied to simulated events, with the hash of its content."""
    if config.calibration is None:
        return None
    content = json.dumps(dict(config.calibration), sort_keys=True)
    return {
        "source": card.calibration,
        "name": config.calibration["name"],
        "synthetic": config.calibration["synthetic"],
        "sha256": hashlib.sha256(content.encode()).hexdigest(),
    }


def problem(card: Card, result: RunResult) -> IncompleteError | None:
    """What makes a run unfit for a flux: missing chunks, or too many NaN or infinite values."""
    if result.missing:
        lines = "\n  ".join(f"{name}: {why}" for name, why in sorted(result.missing.items()))
        return IncompleteError(
            f"{len(result.missing)} of {len(result.planned)} chunks are missing:\n  {lines}\n"
            "finished chunks are kept: the same command tries the missing ones again"
        )
    return _not_finite(card, result)


def _not_finite(card: Card, result: RunResult) -> NonFiniteError | None:
    """Too many NaN or infinite values."""
    read = sum(result.output.get("events", {}).values())
    for name, count in result.output.get("nonfinite", {}).items():
        events = max(1, result.output["scored"].get(name, read))
        what = "scored events" if name in result.output["scored"] else "events"
        if count > card.max_nonfinite_fraction * events:
            return NonFiniteError(
                f"{count} of {events} {what} have a NaN or infinite {name}; find out why, or raise "
                f"max_nonfinite_fraction ({card.max_nonfinite_fraction}) in the card"
            )
    return None
