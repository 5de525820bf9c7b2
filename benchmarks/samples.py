"""Synthetic files to measure on, and copies of them that a run takes for other files."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import awkward as ak
import numpy as np
import uproot
from coffea.processor.executor import WorkItem

from cre.card import Card, read_card, run_config
from processors.manifest import FileEntry, build
from processors.processor import RunConfig
from processors.run import plan
from simulation.sample import Sample, simulate
from simulation.writer import SCALAR_TYPES, write_ntuple

__all__ = ["MIXTURES", "Mixture", "chunks", "copies", "copy", "make", "shipped"]


@dataclass(frozen=True)
class Mixture:
    """A kind of file.

    Attributes:
        text: What it stands for.
        sample: What is simulated.
        times: The file holds these events so often, in clusters of 20 000, to fill a chunk cheaply.
    """

    text: str
    sample: Sample
    times: int = 1


MIXTURES = {
    "flight": Mixture(
        "flight-like data, all events of 10 GeV or more in the BGO, with or without trigger",
        Sample("data", 11, livetime_s=2300.0, e_min_gev=10.0, min_deposit_gev=10.0),
        2,
    ),
    "skim": Mixture(
        "triggered data of 100 GeV or more in the BGO",
        Sample(
            "data", 12, livetime_s=60_000.0, e_min_gev=100.0, min_deposit_gev=100.0,
            triggered_only=True,
        ),
        12,
    ),
    "electrons": Mixture(
        "simulated electrons of 100 GeV to 10 TeV, triggered",
        Sample(
            "electron", 13, n_events=300_000, e_min_gev=100.0, min_deposit_gev=95.0,
            triggered_only=True, outside_share=0.1,
        ),
        6,
    ),
}  # fmt: skip


def make(name: str, folder: Path, scale: float = 1.0) -> FileEntry:
    """Simulate a mixture, once for all, and describe the file.

    Args:
        name: A name of :data:`MIXTURES`.
        folder: Where files lie.
        scale: Part of its events.

    Returns:
        The manifest entry of the file.
    """
    mixture = MIXTURES[name]
    sample = mixture.sample
    if sample.livetime_s is not None:
        sample = replace(sample, livetime_s=sample.livetime_s * scale)
    elif sample.n_events is not None:
        sample = replace(sample, n_events=round(sample.n_events * scale))
    identity = uuid.uuid5(uuid.NAMESPACE_OID, f"{sample} {mixture.times}")
    path = folder / f"{name}_synthetic_{identity.hex[:12]}.root"
    if not path.exists():
        (once,) = simulate(sample, folder, prefix=f"once_synthetic_{name}", overwrite=True)
        _repeat(once, path, mixture.times, identity)
        once.unlink()
    (entry,) = build([str(path)], aliases="dmlntup").files
    return entry


def _repeat(source: Path, path: Path, times: int, identity: uuid.UUID) -> None:
    """A file with the events of another one several times."""
    import json  # noqa: PLC0415

    with uproot.open(source) as file:
        tree = file["DmlNtup"]
        columns = tree.arrays(list(SCALAR_TYPES), library="np", how=dict)
        hits = tree.arrays(["tt_BgoHit_GlobalBarID", "tt_BgoHit_Energy"])
        metadata = json.loads(str(file["cre_metadata"]))
    columns["hit_count"] = ak.to_numpy(ak.num(hits["tt_BgoHit_Energy"]))
    columns["hit_id"] = ak.to_numpy(ak.flatten(hits["tt_BgoHit_GlobalBarID"]))
    columns["hit_mev"] = ak.to_numpy(ak.flatten(hits["tt_BgoHit_Energy"]))
    write_ntuple(path, [columns] * times, metadata, identity)


def copy(entry: FileEntry, folder: Path, number: int) -> FileEntry:
    """A copy of a file under another identity, the same for the same number; nothing else differs.

    Args:
        entry: The file.
        folder: Where the copy goes.
        number: Number of the copy.

    Returns:
        The manifest entry of the copy.

    Raises:
        ValueError: If the identity is not found in the file.
    """
    old, new = uuid.UUID(entry.uuid), uuid.uuid5(uuid.UUID(entry.uuid), str(number))
    content = Path(entry.path).read_bytes()
    if old.bytes not in content:
        msg = f"{entry.path}: its identity {old} is not found in its bytes"
        raise ValueError(msg)
    path = folder / f"copy_synthetic_{number:05d}.root"
    path.write_bytes(content.replace(old.bytes, new.bytes))
    return entry.model_copy(update={"path": str(path), "uuid": str(new)})


def copies(entry: FileEntry, folder: Path, number: int) -> Iterator[FileEntry]:
    """Copies one after the other; each is removed when the next one is asked for."""
    for i in range(number):
        one = copy(entry, folder, i)
        try:
            yield one
        finally:
            Path(one.path).unlink()


def shipped(name: str) -> Card:
    """A shipped run card."""
    return read_card(Path(str(resources.files("cre.cards") / f"{name}.yaml")))


def chunks(
    files: list[FileEntry], card: Card, *, size: int | None = None
) -> tuple[RunConfig, list[WorkItem]]:
    """The configuration of a run and its chunks."""
    return run_config(card, files), plan(files, size or card.chunk_size)


def passing(entry: FileEntry, output: dict[str, object]) -> dict[str, float]:
    """Share of the events that is scored, and that pass all cuts, from the output of their chunk."""
    hists, scored = output["hists"], output["scored"]
    flow = hists["cutflow"][{"kind": entry.kind, "region": "fiducial", "bgo": "new"}]  # type: ignore[index]
    last = [*flow.axes["cut"]][-1]

    def count(cut: str, stat: str) -> float:
        return float(flow[{"cut": cut, "stat": stat, "energy": sum}].value)

    total = count(last, "evaluated")
    out = {c: count(c, "cumulative") / total for c in flow.axes["cut"]}
    out["scored"] = float(np.max(list(scored.values()))) / entry.entries  # type: ignore[attr-defined]
    return out
