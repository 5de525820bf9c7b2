"""``cre run``: fill the histograms of a run card."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from analysis.cutflow import cutflow_table
from analysis.histfile import SUFFIXES, save
from cre.card import Card, CardError, read_card, run_config
from cre.progress import progress
from cre.provenance import program, record, sha256, write_json
from processors.binning import energy_edges_gev
from processors.exceptions import IncompleteError, ManifestError, NonFiniteError
from processors.manifest import FileEntry, Manifest
from processors.manifest import read as read_manifest
from processors.processor import MC_KINDS, RunConfig
from processors.run import RunResult, check_files, execute, plan
from processors.spectrum import parse


@click.command("run")
@click.argument("card", type=click.Path(path_type=Path))
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Instead of the card's folder."
)
@click.option("--overwrite", is_flag=True, help="Replace the products of an earlier run.")
@click.option("--dry-run", is_flag=True, help="Check everything, read no events.")
def command(card: Path, workers: int, output: Path | None, overwrite: bool, dry_run: bool) -> None:
    """Read the files of CARD's manifest, select, score and fill; exit code 2 if anything is missing."""
    resolved = read_card(card)
    folder = output or resolved.output
    stem = folder / "histograms"
    existing = [p for s in SUFFIXES if (p := stem.with_name(stem.name + s)).exists()]
    if existing and not overwrite:
        msg = f"{existing[0]} exists; choose another --output or give --overwrite"
        raise FileExistsError(msg)
    manifest = read_manifest(resolved.manifest)
    files = [f for f in manifest.files if f.bgo_reconstruction in resolved.bgo_reconstruction]
    for bgo in resolved.bgo_reconstruction:
        if bgo not in {f.bgo_reconstruction for f in files}:
            msg = f"{resolved.manifest}: no file with the {bgo!r} reconstruction"
            raise ManifestError(msg)
    config = run_config(resolved, files)
    _check_skims(resolved, files)
    check_files(files, config)
    items = plan(files, resolved.chunk_size)
    total = sum(len(item) for item in items)
    click.echo(f"{len(files)} files, {len(items)} chunks, {total} events", err=True)
    if dry_run:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with record(
        folder / "provenance.json", "run", {"card": card, "workers": workers, "output": folder}
    ) as entry:
        entry.read(card)
        entry.read(resolved.manifest)
        entry.notes["card"] = resolved.as_dict()
        entry.inputs += [{"path": f.path, "uuid": f.uuid, "sha256": f.sha256} for f in files]
        models = config.models.to_list()
        entry.inputs += [{"path": m["path"], "sha256": m["sha256"]} for m in models]
        entry.notes["models"] = models
        entry.notes["quarantined"] = [q.model_dump() for q in manifest.quarantined]
        # an interrupted run must not pass off the histograms of an earlier one as its own
        for old in existing:
            old.unlink()
        state = folder / "status.json"
        write_json(state, _running(0, len(items), f"0 of {total}"))
        with progress("run", total) as advance:
            result = execute(
                items, config, workers=workers, progress=_told(advance, state, len(items), total)
            )
        meta = run_meta(resolved, manifest, files, config, result)
        write_json(
            state,
            {
                "state": "complete" if meta["complete"] else "incomplete",
                "planned": len(result.planned),
                "processed": len(result.processed),
                "missing": result.missing,
                "events": result.output.get("events", {}),
                "livetime_s": meta["livetime_s"],
                "livetime_by_bgo_s": _livetimes(meta),
                "nonfinite": meta["nonfinite"],
            },
        )
        several = len(resolved.bgo_reconstruction) > 1
        if result.output:
            hists = result.output["hists"]
            entry.wrote(save(stem, hists, meta, overwrite=overwrite))
            entry.notes["cutflow"] = {
                f"{kind}/{region}{f'/{bgo}' if several else ''}": cutflow_table(
                    hists["cutflow"], kind, region, bgo
                )
                for kind in ("data", *MC_KINDS)
                for region in resolved.regions
                for bgo in resolved.bgo_reconstruction
            }
            entry.notes["livetime_s"] = meta["livetime_s"]
            entry.notes["livetime_by_bgo_s"] = _livetimes(meta)
        entry.notes["missing"] = dict(result.missing)
        problem = _problem(resolved, result)
        if problem is not None:
            raise problem
    livetimes = ", ".join(
        f"{seconds:.1f} s" + (f" ({bgo} BGO)" if several else "")
        for bgo, seconds in _livetimes(meta).items()
    )
    click.echo(f"wrote {stem}{{{','.join(SUFFIXES)}}}; livetime {livetimes}")


def _check_skims(card: Card, files: Sequence[FileEntry]) -> None:
    """With energies of a network, the corrected energy must be cut where a skim would: one bin mixes many.

    Raises:
        CardError: If events pass the card at energies at which a file misses some.
    """
    if not card.energy:
        return
    limit, path = max((f.complete_above_gev, f.path) for f in files)
    if card.energy_range_gev()[0] < limit:
        msg = (
            f"{path} is a skim that is complete from {limit:g} GeV of corrected energy on, the card lets events "
            f"from {card.energy_range_gev()[0]:g} GeV pass and bins them in the energies of a network, where the "
            "missing ones would be missing everywhere; raise min_gev of the cut energy_range"
        )
        raise CardError(msg)


def _running(processed: int, planned: int, events: str) -> dict[str, Any]:
    """State of a run under way; with the process, so that ``cre status`` can tell a dead one."""
    return {
        "state": "running",
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "planned": planned,
        "processed": processed,
        "events": events,
    }


def _told(
    advance: Callable[[float], None], state: Path, planned: int, total: int
) -> Callable[[int], None]:
    """Also write how far the run is, at most every two seconds, for ``cre status``."""
    chunks, events, told = 0, 0, time.monotonic()

    def tell(amount: int) -> None:
        nonlocal chunks, events, told
        chunks, events = chunks + 1, events + amount
        advance(amount)
        if time.monotonic() - told > 2:
            told = time.monotonic()
            write_json(state, _running(chunks, planned, f"{events} of {total}"))

    return tell


def _livetimes(meta: dict[str, Any]) -> dict[str, float]:
    return {bgo: part["livetime_s"] for bgo, part in meta["by_bgo"].items()}


def run_meta(
    card: Card,
    manifest: Manifest,
    files: Sequence[FileEntry],
    config: RunConfig,
    result: RunResult,
) -> dict[str, Any]:
    """Metadata of the histogram file: what was read, with which livetime and generated events.

    What differs between BGO reconstructions stands in ``by_bgo``; that of the first also at the top.
    """
    edges = energy_edges_gev(extended=card.extended_bins)
    data = [f for f in files if f.kind == "data"]
    by_bgo = {
        bgo: {
            "livetime_s": sum(f.livetime_s for f in data if f.bgo_reconstruction == bgo),
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
        },
        "events": dict(result.output.get("events", {})),
        "nonfinite": dict(result.output.get("nonfinite", {})),
        "synthetic": any(f.synthetic for f in files),
        "complete": _problem(card, result) is None,
        "toy": False,
        "injected": injected,
        "only_regions": sorted({f.only_region for f in files if f.only_region}),
        "complete_above_gev": max((f.complete_above_gev for f in files), default=0.0),
        "bgo_reconstruction": config.bgo[0] if len(config.bgo) == 1 else list(config.bgo),
    }


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


def _problem(card: Card, result: RunResult) -> IncompleteError | None:
    """What makes a run unfit for a flux: missing chunks, or too many NaN or infinite values."""
    if result.missing:
        lines = "\n  ".join(f"{name}: {why}" for name, why in sorted(result.missing.items()))
        return IncompleteError(
            f"{len(result.missing)} of {len(result.planned)} chunks are missing:\n  {lines}"
        )
    read = sum(result.output["events"].values())
    for name, count in result.output["nonfinite"].items():
        events = max(1, result.output["scored"].get(name, read))
        what = "scored events" if name in result.output["scored"] else "events"
        if count > card.max_nonfinite_fraction * events:
            return NonFiniteError(
                f"{count} of {events} {what} have a NaN or infinite {name}; find out why, or raise "
                f"max_nonfinite_fraction ({card.max_nonfinite_fraction}) in the card"
            )
    return None
