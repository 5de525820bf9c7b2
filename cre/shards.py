"""Plain shards on the side of the card: what a submission records, and what a worker makes of it."""

from __future__ import annotations

import hashlib
import os
import platform
import resource
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from condor.records import (
    Packed,
    Shard,
    Submission,
    cut,
    new_submission,
    read_shard,
    read_submission,
)
from condor.shards import PART_SCHEMA
from condor.site import Site
from cre.card import Card, run_config
from cre.running import Prepared
from models import catalogue
from processors import partfile
from processors.accumulators import chunk_id, empty, encode
from processors.calibration import shipped_calibrations
from processors.chunk import chunk_name
from processors.exceptions import CodeMismatchError, CreError, IncompleteError, ManifestError
from processors.identity import code_identity, differences, run_key
from processors.luggage import packed_name
from processors.manifest import FileEntry
from processors.memory import read_chunks_only
from processors.ntuple import shipped_aliases
from processors.ntuplefile import is_url
from processors.processor import RunConfig
from processors.run import execute, plan
from processors.wholefile import write_text

__all__ = ["Travelling", "card_for", "pack_card", "run_shard", "submission_of", "write_inputs"]

#: Path, as the card or the manifest names it, to content.
Travelling = dict[str, bytes]


def pack_card(run: Prepared) -> Travelling:
    """Files that the card and the manifest name and that do not come with the program.

    Args:
        run: The run.

    Returns:
        Their content.

    Raises:
        CreError: If one cannot be read.
    """
    card = run.card
    shipped = set(catalogue.names())
    names = {f for networks in card.models.values() for files in networks.values() for f in files}
    names |= {one.model for one in card.energy.values()}
    names -= shipped
    if card.calibration is not None and card.calibration not in shipped_calibrations():
        names.add(card.calibration)
    names |= {f.aliases for f in run.files} - set(shipped_aliases())
    found = {}
    for name in sorted(names):
        try:
            found[name] = Path(name).read_bytes()
        except OSError as err:
            msg = f"{name}: cannot be read ({err.strerror}); the shards need it"
            raise CreError(msg) from err
    return found


def submission_of(
    run: Prepared, site: Site, travelling: Travelling, *, shards: int | None, events: int | None
) -> tuple[Submission, list[Shard]]:
    """Cut a run into shards.

    Args:
        run: The run.
        site: The site.
        travelling: As :func:`pack_card` gives it.
        shards: Number of shards; or
        events: Most events of one.

    Returns:
        The records.

    Raises:
        ManifestError: If files have paths that another machine cannot find.
    """
    if site.files == "transfer":
        lost = [f.path for f in run.files if not is_url(f.path) and not Path(f.path).is_file()]
        if lost:
            msg = f"{lost[0]}: does not exist here, so it cannot travel with a job"
            raise ManifestError(msg)
    groups = cut(run.files, shards=shards, events=events, unique_names=site.files == "transfer")
    luggage = {}
    for name, content in travelling.items():
        digest = hashlib.sha256(content).hexdigest()
        luggage[name] = Packed(file=packed_name(name, content), sha256=digest)
    return new_submission(
        groups,
        run.items,
        site=site,
        card=run.card.as_dict(),
        generated=_plain_generated(run.config),
        keys={kind: run_key(run.config, kind) for kind in sorted({f.kind for f in run.files})},
        code=code_identity(),
        models=tuple(run.config.models.to_list()),
        luggage=luggage,
    )


def _plain_generated(config: RunConfig) -> dict[str, dict[str, list[dict[str, Any]]]]:
    return {
        bgo: {kind: [dict(g) for g in samples] for kind, samples in kinds.items()}
        for bgo, kinds in config.generated.items()
    }


def write_inputs(
    folder: Path, run: Prepared, submission: Submission, travelling: Travelling
) -> None:
    """Keep with the submission what 'cre merge' needs: card, manifest and the files that travel.

    Args:
        folder: Of the submission.
        run: The run.
        submission: Its record.
        travelling: As :func:`pack_card` gives it.
    """
    for name, content in travelling.items():
        path = folder / "luggage" / submission.luggage[name].file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    write_text(
        folder / "manifest.json", run.manifest.model_dump_json(by_alias=True, indent=1) + "\n"
    )
    card = submission.card | {"manifest": "manifest.json", "output": "."}
    write_text(folder / "card.yaml", yaml.safe_dump(card, sort_keys=False, allow_unicode=True))


def card_for(submission: Submission, places: Mapping[str, str], **paths: Path) -> Card:
    """The card of a submission with its models and calibration where they lie now.

    Args:
        submission: The record.
        places: Path, as the card names it, to the path now.
        paths: ``manifest`` and ``output`` of the card.

    Returns:
        The card.
    """
    content = dict(submission.card) | {k: str(v) for k, v in paths.items()}
    card = Card.model_validate(content)
    return card.model_copy(
        update={
            "models": {
                region: {n: tuple(places.get(f, f) for f in files) for n, files in networks.items()}
                for region, networks in card.models.items()
            },
            "energy": {
                region: one.model_copy(update={"model": places.get(one.model, one.model)})
                for region, one in card.energy.items()
            },
            "calibration": None
            if card.calibration is None
            else places.get(card.calibration, card.calibration),
        }
    )


def _unpacked(submission: Submission, folder: Path) -> dict[str, str]:
    """Where the files that travelled lie, each with the hash that it had."""
    places = {}
    for name, packed in submission.luggage.items():
        here = folder / packed.file
        try:
            digest = hashlib.sha256(here.read_bytes()).hexdigest()
        except OSError as err:
            msg = f"{here}: cannot be read ({err.strerror}); it is {name} and should have come with the job"
            raise CreError(msg) from err
        if digest != packed.sha256:
            msg = f"{here}: changed on its way; it is {name}"
            raise CreError(msg)
        places[name] = str(here)
    return places


def run_shard(path: Path, output: Path) -> None:
    """Run one shard on a worker: only from files beside it, and write its part.

    Args:
        path: The shard; ``submission.json``, the files that travel and the ntuples lie in its folder.
        output: The part.

    Raises:
        CodeMismatchError: If program or packages differ from those that submitted.
        IncompleteError: If chunks are missing; the part is written.
        CreError: If card, models or files do not fit.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    folder = path.absolute().parent
    shard, submission = read_shard(path), read_submission(folder)
    if shard.submission != submission.id:
        msg = f"{path}: belongs to another submission than {folder / 'submission.json'}"
        raise CreError(msg)
    if different := differences(submission.code):
        msg = (
            f"this worker has another program than the submit host: {'; '.join(different)}; install the same one "
            "there, or use the products of 'cre condor pack'"
        )
        raise CodeMismatchError(msg)
    places = _unpacked(submission, folder)
    card = card_for(submission, places)
    files = [_local(f, shard, places, folder) for f in shard.files]
    # weights depend on what was generated in all files, not in those of this shard
    config = replace(run_config(card, files), generated=submission.generated)
    changed = [k for k in {f.kind for f in files} if run_key(config, k) != submission.keys[k]]
    if changed:
        msg = f"{path}: card, models or calibration are not those that were submitted"
        raise CreError(msg)
    items = plan(files, card.chunk_size)
    read_chunks_only()
    result = execute(items, config)
    names = {name: original for original, name in _paths(shard, folder).items()}
    by_name = {chunk_name(item): chunk_id(item) for item in items}
    missing = [[*by_name[n], _original(why, names)] for n, why in sorted(result.missing.items())]
    header = {
        "schema": PART_SCHEMA,
        "submission": submission.id,
        "shard": shard.number,
        "keys": submission.keys,
        "code": code_identity(),
        "planned": [list(c) for c in by_name.values()],
        "processed": [list(by_name[n]) for n in result.processed],
        "missing": missing,
        "host": socket.gethostname(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - clock, 3),
        "cpu_seconds": round(sum(os.times()[:2]), 3),
        "max_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    partfile.write(output, header, encode(result.output or empty(config)))
    if missing:
        lines = "\n  ".join(f"[{c[1]}:{c[2]}] of {c[0]}: {c[3]}" for c in missing)
        msg = f"{len(missing)} of {len(items)} chunks are missing:\n  {lines}"
        raise IncompleteError(msg)


def _paths(shard: Shard, folder: Path) -> dict[str, str]:
    return {original: str(folder / name) for original, name in shard.local.items()}


def _local(entry: FileEntry, shard: Shard, places: Mapping[str, str], folder: Path) -> FileEntry:
    path = _paths(shard, folder).get(entry.path, entry.path)
    aliases = places.get(entry.aliases, entry.aliases)
    return entry.model_copy(update={"path": path, "aliases": aliases})


def _original(text: str, names: Mapping[str, str]) -> str:
    """A reason with the paths that the user knows."""
    for here, original in names.items():
        text = text.replace(here, original)
    return text
