"""From a card to a run, and from its result to the products: what ``cre run`` and batch jobs share."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coffea.processor.executor import WorkItem

from analysis.cutflow import cutflow_table
from analysis.histfile import SUFFIXES, save
from cre.card import Card, CardError, read_card, run_config
from cre.provenance import Record, write_json
from cre.runmeta import livetimes, problem, run_meta
from processors.exceptions import ManifestError
from processors.ledger import months_of
from processors.manifest import FileEntry, Manifest
from processors.manifest import read as read_manifest
from processors.monthly import trimmed
from processors.period import select_runs
from processors.processor import MC_KINDS, RunConfig
from processors.run import RunResult, check_files, plan

__all__ = ["Prepared", "clear_products", "note_inputs", "prepare", "told", "write_products"]


@dataclass(frozen=True)
class Prepared:
    """A run, checked and planned, before anything of its events is read.

    Attributes:
        card: The card, its paths absolute.
        manifest: The manifest that it names.
        files: Its files that the run reads.
        config: What the processor needs.
        items: The chunks.
        folder: Where the products go.
    """

    card: Card
    manifest: Manifest
    files: tuple[FileEntry, ...]
    config: RunConfig
    items: tuple[WorkItem, ...]
    folder: Path

    @property
    def stem(self) -> Path:
        """Path of the histogram files without suffix."""
        return self.folder / "histograms"

    @property
    def events(self) -> int:
        """Events of all chunks."""
        return sum(len(item) for item in self.items)


def prepare(path: Path, output: Path | None = None) -> Prepared:
    """Read a card and its manifest, check that they fit together, and plan the chunks.

    Args:
        path: The card.
        output: Folder for the products, instead of the card's.

    Returns:
        The run.

    Raises:
        CreError: If card, manifest, models or files do not fit.
    """
    card = read_card(path)
    manifest = read_manifest(card.manifest)
    files = [f for f in manifest.files if f.bgo_reconstruction in card.bgo_reconstruction]
    for bgo in card.bgo_reconstruction:
        if bgo not in {f.bgo_reconstruction for f in files}:
            msg = f"{card.manifest}: no file with the {bgo!r} reconstruction"
            raise ManifestError(msg)
    files = select_runs(files, card.period)
    config = run_config(card, files)
    _check_skims(card, files)
    check_files(files, config)
    items = plan(files, card.chunk_size)
    return Prepared(card, manifest, tuple(files), config, tuple(items), output or card.output)


def clear_products(run: Prepared, *, overwrite: bool) -> None:
    """Make room for the histograms: an interrupted run must not pass off those of an earlier one as its own.

    Those of an incomplete run may be replaced, so that the same command completes it.

    Raises:
        FileExistsError: If there are some and they are not to be replaced.
    """
    existing = [p for s in SUFFIXES if (p := run.stem.with_name(run.stem.name + s)).exists()]
    if existing and not overwrite and not _was_incomplete(run.folder):
        msg = f"{existing[0]} exists; choose another --output or give --overwrite (finished chunks are kept)"
        raise FileExistsError(msg)
    for old in existing:
        old.unlink()


def _was_incomplete(folder: Path) -> bool:
    """Whether the last run into a folder says that something is missing."""
    try:
        state = json.loads((folder / "status.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(state, dict) and state.get("state") == "incomplete"


def note_inputs(run: Prepared, entry: Record) -> None:
    """Card, files and models into the provenance record."""
    entry.read(run.card.manifest)
    entry.notes["card"] = run.card.as_dict()
    entry.inputs += [{"path": f.path, "uuid": f.uuid, "sha256": f.sha256} for f in run.files]
    models = run.config.models.to_list()
    entry.inputs += [{"path": m["path"], "sha256": m["sha256"]} for m in models]
    entry.notes["models"] = models
    entry.notes["quarantined"] = [q.model_dump() for q in run.manifest.quarantined]


def write_products(
    run: Prepared, result: RunResult, entry: Record, *, overwrite: bool
) -> dict[str, Any]:
    """Write histograms and state of a run, and say what makes it unfit for a flux.

    Args:
        run: The run.
        result: What it gave.
        entry: Its provenance record.
        overwrite: Whether products may be replaced.

    Returns:
        The metadata of the histogram file.

    Raises:
        IncompleteError: If chunks are missing or too many values are not finite; the products are written.
    """
    meta = run_meta(run.card, run.manifest, run.files, run.config, result)
    write_json(
        run.folder / "status.json",
        {
            "state": "complete" if meta["complete"] else "incomplete",
            "planned": len(result.planned),
            "processed": len(result.processed),
            "missing": dict(result.missing),
            "incomplete_files": list(result.incomplete_files),
            "events": result.output.get("events", {}),
            "livetime_s": meta["livetime_s"],
            "livetime_by_bgo_s": livetimes(meta),
            "nonfinite": meta["nonfinite"],
        },
    )
    several = len(run.card.bgo_reconstruction) > 1
    if result.output:
        hists = trimmed(result.output["hists"], months_of(run.files))
        entry.wrote(save(run.stem, hists, meta, overwrite=overwrite))
        entry.notes["cutflow"] = {
            f"{kind}/{region}{f'/{bgo}' if several else ''}": cutflow_table(
                hists["cutflow"], kind, region, bgo
            )
            for kind in ("data", *MC_KINDS)
            for region in run.card.regions
            for bgo in run.card.bgo_reconstruction
        }
        entry.notes["livetime_s"] = meta["livetime_s"]
        entry.notes["livetime_by_bgo_s"] = livetimes(meta)
    entry.notes["missing"] = dict(result.missing)
    unfit = problem(run.card, result)
    if unfit is not None:
        raise unfit
    return meta


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


def told(
    run: Prepared, advance: Callable[[float], None] = lambda _amount: None
) -> Callable[[int], None]:
    """Write how far the run is, now and at most every two seconds, for ``cre status``.

    Args:
        run: The run.
        advance: Also called with the number of events of each chunk that is done.

    Returns:
        A function to call with that number.
    """
    state, planned, total = run.folder / "status.json", len(run.items), run.events
    chunks, events, last = 0, 0, time.monotonic()
    write_json(state, _running(0, planned, f"0 of {total}"))

    def tell(amount: int) -> None:
        nonlocal chunks, events, last
        chunks, events = chunks + 1, events + amount
        advance(amount)
        if time.monotonic() - last > 2:
            last = time.monotonic()
            write_json(state, _running(chunks, planned, f"{events} of {total}"))

    return tell
