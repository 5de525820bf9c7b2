"""The same selection as a user would write it: with coffea, or with a plain uproot loop and PyTorch.

Both read every branch of the file, and take the program's own inputs of the networks and its cuts, so that
only the order of the work and the engine differ:

* ``coffea``: a processor in coffea's Runner that scores all events, by onnxruntime in batches, and cuts then;
* ``uproot + PyTorch``: a loop over the file that scores all events with the networks in eager PyTorch, and
  cuts then; and the same with the cuts first.

The PyTorch networks have random weights: speed does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import awkward as ak
import hist
import numpy as np
import onnxruntime as ort
import uproot
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, ProcessorABC, Runner
from coffea.processor.executor import WorkItem
from coffea.util import coffea_console

from benchmarks.timing import interleaved
from processors import features
from processors.binning import energy_edges_gev
from processors.bundle import BundleRef, open_session, read_checked
from processors.chain import evaluate
from processors.modelset import CPU, variables_and_inputs
from processors.ntuple import Ntuple, load_aliases
from processors.processor import RunConfig
from processors.run import execute

__all__ = ["against_users"]

REGION = "fiducial"
RUN = "cre run"
Score = Callable[[str, dict[str, Any]], Any]


def _references(config: RunConfig) -> dict[str, BundleRef]:
    """The networks of the run, one file each."""
    return {name: files[0] for name, files in config.models.members[REGION].items()}


def _given(ref: BundleRef, inputs: Mapping[str, Any], variables: Sequence[str]) -> dict[str, Any]:
    """Inputs of one network, its variables taken from the list of all."""
    columns = [variables.index(v) for v in ref.bundle.variables]
    own = {n: inputs[n] for n in ref.bundle.input_names}
    return own | {"variables": np.ascontiguousarray(inputs["variables"][:, columns])}


def _onnx(refs: Mapping[str, BundleRef]) -> Score:
    sessions: dict[str, ort.InferenceSession] = {
        n: open_session(read_checked(r.path, r.sha256)[0], r.path, CPU) for n, r in refs.items()
    }

    def score(name: str, inputs: dict[str, Any]) -> Any:
        return sessions[name].run(["score"], inputs)[0]

    return score


def _torch(refs: Mapping[str, BundleRef]) -> Score:
    import torch  # noqa: PLC0415 - only this part of the benchmark needs it

    from models.networks import INPUTS_OF, make_network  # noqa: PLC0415

    torch.set_num_threads(1)
    torch.manual_seed(1)
    networks = {n: make_network(n, len(r.bundle.variables)).eval() for n, r in refs.items()}

    def score(name: str, inputs: dict[str, Any]) -> Any:
        with torch.no_grad():
            tensors = [torch.from_numpy(inputs[n]) for n in INPUTS_OF[name]]
            return networks[name](*tensors)[0].numpy()

    return score


class _Late:
    """Scores events and cuts them: the body of both user programs."""

    def __init__(self, config: RunConfig, score: Score, aliases: str, *, cuts_first: bool) -> None:
        self._config, self._score, self._cuts_first = config, score, cuts_first
        self._aliases = load_aliases(aliases)
        self._refs = _references(config)

    def __call__(self, events: Any, kind: str) -> hist.Hist[Any]:
        """One chunk of events, all branches in memory, to a histogram of energy and score."""
        ntuple = Ntuple(events, self._aliases)
        inputs, variables = variables_and_inputs(self._refs.values())
        passed = evaluate(ntuple, self._config.cuts, kind=kind, region=REGION).selected
        rows = np.flatnonzero(passed) if self._cuts_first else np.arange(len(ntuple))
        scores: dict[str, list[Any]] = {n: [] for n in self._refs}
        for start in range(0, len(rows), self._config.models.batch):
            part = rows[start : start + self._config.models.batch]
            built = features.build(ntuple, part, inputs, variables)
            for name, ref in self._refs.items():
                scores[name].append(self._score(name, _given(ref, built, variables)))
        energy = np.asarray(ntuple["e_corr"], np.float64)[passed]
        out: hist.Hist[Any] = hist.Hist(
            hist.axis.StrCategory(list(self._refs), name="network"),
            hist.axis.Variable(energy_edges_gev(), name="energy"),
            hist.axis.Regular(400, -60, 60, name="score"),
            storage=hist.storage.Weight(),
        )
        for name, values in scores.items():
            joined = np.concatenate(values) if values else np.zeros(0)
            out.fill(name, energy, joined if self._cuts_first else joined[passed])
        return out


#: Networks that are open in this process: a processor is pickled, a session cannot be.
_OPEN: dict[str, _Late] = {}


class LateProcessor(ProcessorABC):  # type: ignore[misc]
    """A coffea processor that reads all branches and scores all events before it cuts.

    Args:
        key: Which entry of the open networks it uses.
    """

    def __init__(self, key: str) -> None:
        self._key = key

    def process(self, events: Any) -> dict[str, Any]:
        """One chunk."""
        for branch in events.fields:
            ak.materialize(events[branch])
        return {"hist": _OPEN[self._key](events, str(events.metadata["kind"]))}

    def postprocess(self, accumulator: Any) -> Any:
        """Nothing."""
        return accumulator


class _All:
    """A chunk as `tree.arrays` gives it."""

    def __init__(self, arrays: ak.Array) -> None:
        self._arrays, self.fields = arrays, arrays.fields

    def __len__(self) -> int:
        return len(self._arrays)

    def __getitem__(self, branch: str) -> ak.Array:
        return self._arrays[branch]


def _loop(item: WorkItem, late: _Late) -> hist.Hist[Any]:
    with uproot.open(item.filename) as file:
        arrays = file[item.treename].arrays(entry_start=item.entrystart, entry_stop=item.entrystop)
        return late(_All(arrays), item.dataset)


def against_users(
    part: WorkItem, whole: WorkItem, config: RunConfig, rounds: int
) -> dict[str, Any]:
    """Events per second of a run and of what users would write, in one process on one core.

    Args:
        part: A part of a chunk, for the programs that score all events and so take long; their cost
            per event does not depend on the number of events.
        whole: The whole chunk, for the others.
        config: The run, without omega and calibration in what users write.
        rounds: Repeats, taken in turns.

    Returns:
        ``events`` of each program, ``per_s`` (events per second of processor time) and ``times`` (how many times
        faster the run is).

    Raises:
        ImportError: Without PyTorch.
        AssertionError: If the programs do not select as many events of the part as the run.
    """
    coffea_console.quiet = True
    refs = _references(config)
    aliases = str((part.usermeta or {})["aliases"])
    runner = Runner(executor=IterativeExecutor(status=False), schema=BaseSchema, metadata_cache={})
    torch = _torch(refs)
    _OPEN["onnx"] = _Late(config, _onnx(refs), aliases, cuts_first=False)
    coffea = LateProcessor("onnx")
    after, before = (_Late(config, torch, aliases, cuts_first=first) for first in (False, True))
    programs: dict[str, tuple[Callable[[WorkItem], Any], WorkItem]] = {
        RUN: (lambda item: execute([item], config).output["hists"]["score"], whole),
        "coffea, all events scored": (lambda item: runner.run([item], coffea)["out"]["hist"], part),
        "uproot + PyTorch, all events scored": (lambda item: _loop(item, after), part),
        "uproot + PyTorch, cuts first": (lambda item: _loop(item, before), whole),
    }
    selected = {name: _selected(program(part)) for name, (program, _) in programs.items()}
    if len(set(selected.values())) != 1:
        msg = f"the programs do not select the same events: {selected}"
        raise AssertionError(msg)
    times = interleaved({n: partial(p, item) for n, (p, item) in programs.items()}, rounds)
    per_event = {n: np.array(times[n]) / len(item) for n, (_, item) in programs.items()}
    return {
        "events": {n: len(item) for n, (_, item) in programs.items()},
        "selected_of_part": int(selected[RUN]),
        "per_s": {n: 1 / float(np.median(v)) for n, v in per_event.items()},
        "times": {n: float(np.median(v / per_event[RUN])) for n, v in per_event.items()},
    }


def _selected(h: hist.Hist[Any]) -> float:
    """Number of events in one network's part of a histogram, or those of a run that pass the edge cut."""
    if "network" in h.axes.name:
        return float(h[{"network": "dnn"}].sum(flow=True).value)
    return float(h[{"edge": "pass"}].sum(flow=True).value)
