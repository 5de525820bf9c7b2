"""Throughput of the networks: the bare onnxruntime session against what a run does, in one process.

    OMP_NUM_THREADS=1 python -m benchmarks.inference [--model hamf_fiducial] [--region fiducial] [FILE]

Without --model a small convolutional network is built (needs `onnx`, extra dev); without FILE synthetic
electrons are simulated. Printed are events per second, and the ratio to the bare session on the same
inputs, for `run_bundle` (the session as a run uses it) and `score_events` (with the inputs built from
the ntuple's branches, which were read before). Times are processor time of this process, the best of
rounds taken in turns, so that other work on the machine matters little.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import onnxruntime as ort

from cre.card import read_card
from models import catalogue
from processors import features
from processors.bundle import BundleRef, read_bundle
from processors.chain import evaluate
from processors.inference import run_bundle, score_events
from processors.modelset import Models
from processors.ntuple import Ntuple, load_aliases
from processors.ntuplefile import look, open_events
from simulation.sample import Sample, simulate

BATCH = 512


def convolution(path: Path, region: str, channels: int = 20) -> Path:
    """A network of three convolutions on the image, with the metadata of a bundle."""
    import json  # noqa: PLC0415

    import onnx  # noqa: PLC0415
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    rng = np.random.default_rng(1)
    weights = {"shape": np.array([-1, 1, 14, 22]), "axis": np.array([1])}
    nodes = [helper.make_node("Reshape", ["image", "shape"], ["x0"])]
    for i, width in enumerate((1, channels, channels)):
        weights[f"w{i}"] = rng.normal(0, 0.2, (channels, width, 3, 3)).astype(np.float32)
        nodes.append(helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"x{i + 1}"]))
    weights["head"] = rng.normal(0, 0.2, (channels, 1)).astype(np.float32)
    nodes.append(helper.make_node("ReduceMean", ["x3"], ["mean"], axes=[2, 3], keepdims=0))
    nodes.append(helper.make_node("MatMul", ["mean", "head"], ["logit"]))
    nodes.append(helper.make_node("Squeeze", ["logit", "axis"], ["score"]))
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["events", 14, 22])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["events"])],
        [numpy_helper.from_array(v, n) for n, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    metadata = {
        "format": 1,
        "name": f"toy convolution, {channels} channels",
        "version": "1",
        "task": "classifier",
        "region": region,
        "energy_range_gev": [1.0, 1e6],
        "inputs": [{"name": "image", "shape": [None, 14, 22], "dtype": "float32"}],
        "outputs": [{"name": "score", "shape": [None], "dtype": "float32"}],
        "training_hash": "0" * 64,
        "synthetic": True,
    }
    helper.set_model_props(model, {"cre": json.dumps(metadata)})
    onnx.save(model, str(path))
    return path


def chunk(file: Path | None, region: str, folder: Path) -> tuple[Ntuple, np.ndarray]:
    """A chunk whose branches are in memory, and the events that a run would score."""
    if file is None:
        sample = Sample(
            "electron", seed=1, n_events=60_000, e_min_gev=50.0, e_max_gev=5000.0,
            min_deposit_gev=40.0, triggered_only=True, outside_share=0.1,
        )  # fmt: skip
        (file,) = simulate(sample, folder, workers=1)
    aliases = load_aliases("dmlntup")
    content = look(str(file), aliases)
    ntuple = Ntuple(open_events(content.path, content.tree, stop=100_000), aliases)
    card = read_card(Path(str(resources.files("cre.cards") / "fiducial.yaml")))
    kind = str(content.record.get("kind", "data"))
    rows = np.flatnonzero(evaluate(ntuple, card.cuts, kind=kind, region=region).selected)
    return ntuple, rows


def best(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Shortest processor time of each function, s."""
    times = dict.fromkeys(functions, np.inf)
    for round_ in range(rounds + 1):  # the first round warms up
        for name, function in functions.items():
            start = time.process_time()
            function()
            elapsed = time.process_time() - start
            times[name] = min(times[name], elapsed if round_ else np.inf)
    return times


def measure(ref: BundleRef, ntuple: Ntuple, rows: np.ndarray, rounds: int) -> dict[str, float]:
    """Events per second of the bare session, of ``run_bundle`` and of ``score_events``."""
    names = ref.bundle.input_names
    inputs = features.build(ntuple, rows, names, ref.bundle.variables)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(ref.path, options, providers=["CPUExecutionProvider"])
    models = Models({ref.bundle.region: {"network": (ref,)}}, batch=BATCH)

    def bare() -> None:
        for i in range(0, len(rows), BATCH):
            session.run(["score"], {n: inputs[n][i : i + BATCH] for n in names})

    times = best(
        {
            "bare session": bare,
            "run_bundle": lambda: run_bundle(ref, inputs, batch=BATCH, outputs=("score",)),
            "score_events": lambda: score_events(
                ntuple, rows, ref.bundle.region, models, ["network"]
            ),
            "inputs alone": lambda: features.build(ntuple, rows, names, ref.bundle.variables),
        },
        rounds,
    )
    return {name: len(rows) / seconds for name, seconds in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Throughput of a network in a run.")
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--region", choices=["fiducial", "topfiducial"], default="fiducial")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.model is None:
            ref = read_bundle(convolution(Path(folder) / "toy.onnx", options.region))
        else:
            path, expected = catalogue.find(options.model)
            ref = read_bundle(path, sha256=expected)
        ntuple, rows = chunk(options.file, ref.bundle.region, Path(folder))
        rates = measure(ref, ntuple, rows, options.rounds)
    print(  # noqa: T201
        f"{ref.bundle.name}: {len(rows)} {ref.bundle.region} events, batches of {BATCH}, one thread"
    )
    for name, rate in rates.items():
        print(  # noqa: T201
            f"{name:>13}: {rate:9.0f} events/s, {rate / rates['bare session']:6.3f} of the bare session"
        )


if __name__ == "__main__":
    main()
