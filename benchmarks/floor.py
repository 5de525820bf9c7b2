"""Cost per event of a run on one core against its floor: reading and the bare networks.

Of the run everything counts that a chunk costs: opening and checking the file, selecting, scoring, filling,
packing and folding.
The floor reads the same branches of the same events, with the same source and so the same decompression, by
`tree.arrays` as awkward arrays or as NumPy arrays, whichever is faster, and runs the same networks on the same
inputs, made before, by bare onnxruntime sessions with one thread and the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import numpy as np
import uproot
from coffea.processor.executor import WorkItem

from benchmarks.timing import interleaved, ratio
from processors import inference
from processors.accumulators import add, empty
from processors.bundle import BundleRef, open_session, read_checked
from processors.chunk import packed_chunk
from processors.modelset import CPU
from processors.ntuplefile import Branches, open_file
from processors.processor import Accumulator, RunConfig
from processors.run import run_chunk

__all__ = ["Floor", "against_floor"]


class Floor:
    """What a chunk cannot do without, recorded from a run of it.

    Attributes:
        output: The chunk's accumulator.
        branches: Branches that it read.
    """

    def __init__(self, item: WorkItem, config: RunConfig) -> None:
        self._item, self._batch = item, config.models.batch
        read: set[str] = set()
        calls: list[tuple[BundleRef, dict[str, Any], list[str]]] = []
        network = inference.run_bundle

        def recorded(original: Callable[[Branches, str], Any]) -> Callable[[Branches, str], Any]:
            def get(events: Branches, branch: str) -> Any:
                read.add(branch)
                return original(events, branch)

            return get

        def run(ref: BundleRef, inputs: Mapping[str, Any], **options: Any) -> Any:
            own = {n: np.array(inputs[n]) for n in ref.bundle.input_names}
            calls.append((ref, own, list(options["outputs"])))
            return network(ref, inputs, **options)

        with (
            mock.patch.object(Branches, "__getitem__", recorded(Branches.__getitem__)),
            mock.patch.object(Branches, "jagged", recorded(Branches.jagged)),
            mock.patch.object(inference, "run_bundle", run),
        ):
            self.output: Accumulator = run_chunk(item, config)
        self.branches = sorted(read)
        sessions = {
            ref.path: open_session(read_checked(ref.path, ref.sha256)[0], ref.path, CPU)
            for ref, _, _ in calls
        }
        self._calls = [(sessions[ref.path], inputs, names) for ref, inputs, names in calls]

    def read(self) -> None:
        """Read the branches."""
        self._read(lambda: open_file(self._item.filename), "ak")

    def read_numpy(self) -> None:
        """Read the flat branches as NumPy arrays, which is the least that uproot's `arrays` does."""
        self._read(lambda: open_file(self._item.filename), "np")

    def read_default(self) -> None:
        """Read the branches as `uproot.open` opens a file without being told how."""
        self._read(lambda: uproot.open(self._item.filename), "ak")

    def _read(self, opener: Callable[[], Any], library: str) -> None:
        span = {"entry_start": self._item.entrystart, "entry_stop": self._item.entrystop}
        with opener() as file:
            tree = file[self._item.treename]
            groups = [self.branches]
            if library == "np":
                jagged = [
                    b for b in self.branches if isinstance(tree[b].interpretation, uproot.AsJagged)
                ]
                tree.arrays([b for b in self.branches if b not in jagged], library="np", **span)
                groups = [jagged]
            for names in groups:
                tree.arrays(names, **span)

    def networks(self) -> None:
        """Run the networks."""
        for session, inputs, names in self._calls:
            n = len(next(iter(inputs.values())))
            for i in range(0, n, self._batch):
                session.run(names, {k: v[i : i + self._batch] for k, v in inputs.items()})


def against_floor(item: WorkItem, config: RunConfig, rounds: int) -> dict[str, Any]:
    """Times of a chunk and of its floor.

    Args:
        item: The chunk.
        config: The run.
        rounds: Repeats, taken in turns.

    Returns:
        ``events``, ``branches``, ``scored``, µs per event of the parts (medians), the ratio to the floor
        (median over the rounds, and of the shortest times), and to one with uproot's own choice of a source.
    """
    floor = Floor(item, config)
    total = empty(config)  # booked once in a run, whatever the number of chunks

    def run() -> None:
        total["chunks"].clear()
        add(total, packed_chunk(item, config))

    times = interleaved(
        {
            "run": run,
            "read": floor.read,
            "read_numpy": floor.read_numpy,
            "read_default": floor.read_default,
            "networks": floor.networks,
        },
        rounds,
    )
    n = len(item)
    fastest = min("read", "read_numpy", key=lambda way: np.median(times[way]))
    return {
        "events": n,
        "branches": len(floor.branches),
        "scored": int(max(floor.output["scored"].values())),
        "us_per_event": {k: float(np.median(v)) / n * 1e6 for k, v in times.items()},
        "ratio": ratio(times, ["run"], [fastest, "networks"]),
        "ratio_shortest": min(times["run"]) / (min(times[fastest]) + min(times["networks"])),
        "ratio_default": ratio(times, ["run"], ["read_default", "networks"]),
    }
