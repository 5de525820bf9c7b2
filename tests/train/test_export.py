"""Bundles: parity with PyTorch, metadata, refusals; and the two commands from end to end."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from toysample import NAMES, toy_recipe

from cre.commands import export as export_command
from cre.commands import train as train_command
from models.batches import gather
from models.export import ExportError, add_to_zoo, export, load_network, parity, random_inputs
from models.networks import INPUTS_OF, OUTPUTS_OF
from models.recipes import Recipe
from models.samples import Prepared
from models.training import load_checkpoint, train
from processors.bundle import read_bundle
from simulation.sample import Sample, simulate

Runs = dict[str, Path]


@pytest.fixture(scope="module")
def runs(sample: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folders: Runs = {}
    for network in INPUTS_OF:
        folders[network] = tmp_path_factory.mktemp(network)
        train(toy_recipe(network, epochs=1, events_per_epoch=1024), sample, folders[network])
    return folders


@pytest.mark.parametrize("network", sorted(INPUTS_OF))
def test_graph_gives_what_pytorch_gives(
    network: str, runs: Runs, sample: Prepared, tmp_path: Path
) -> None:
    """On the events of the sample, whatever the size of the batch."""
    bundle = export(runs[network] / "checkpoint.pt", tmp_path / "toy.onnx")
    content = load_checkpoint(runs[network] / "checkpoint.pt")
    module = load_network(content, toy_recipe(network), "toy")
    names = INPUTS_OF[network]
    arrays = gather(sample, np.arange(len(sample)), names, np.arange(len(NAMES)))
    with torch.inference_mode():
        expected = module(*(torch.from_numpy(arrays[n]) for n in names))
    session = onnxruntime.InferenceSession(bundle.path, providers=["CPUExecutionProvider"])
    for batch in (slice(0, 1), slice(5, 5), slice(0, 4000)):
        found = session.run(list(OUTPUTS_OF[network]), {n: arrays[n][batch] for n in names})
        for output, answer in zip(found, expected, strict=True):
            reference = answer.numpy()
            assert output.dtype == np.float32
            assert output.shape == reference[batch].shape
            scale = reference.std()
            assert np.abs(output - reference[batch]).max(initial=0) < 1e-4 * scale
    assert bundle.bundle.metrics["parity"] < 1e-4


def test_metadata_say_what_the_network_is(runs: Runs, sample: Prepared, tmp_path: Path) -> None:
    bundle = export(runs["hamf"] / "checkpoint.pt", tmp_path / "toy.onnx", metrics={"auc": 0.9})
    b = bundle.bundle
    assert (b.name, b.version, b.task, b.region) == ("toy_hamf", "1", "classifier", "fiducial")
    assert b.energy_range_gev == (100.0, 1000.0)
    assert b.variables == NAMES
    assert b.modalities == ("variables", "image", "stk")
    assert [(t.name, t.shape) for t in b.inputs] == [
        ("variables", (None, 5)),
        ("image", (None, 14, 22)),
        ("stk", (None, 6, 4)),
        ("stk_mask", (None, 1)),
    ]
    assert [(t.name, t.shape) for t in b.outputs] == [("score", (None,)), ("attention", (None, 3))]
    recipe = toy_recipe("hamf", epochs=1, events_per_epoch=1024)
    assert b.training_hash == recipe.training_hash(sample.identity)
    assert b.synthetic is True
    assert b.metrics["auc"] == 0.9
    history = json.loads((runs["hamf"] / "history.json").read_text())
    assert b.metrics["val_auc"] == history["val_auc"][0]
    assert read_bundle(tmp_path / "toy.onnx", sha256=bundle.sha256) == bundle
    # no sigmoid after the head: the score is the sum of a matrix product and a bias
    graph = onnx.load(tmp_path / "toy.onnx").graph
    (last,) = [n for n in graph.node if graph.output[0].name in n.output]
    assert last.op_type in {"Gather", "Squeeze", "Reshape"}


def test_energy_bundle(runs: Runs, tmp_path: Path) -> None:
    b = export(runs["energy"] / "checkpoint.pt", tmp_path / "toy.onnx").bundle
    assert (b.task, b.modalities) == ("energy", ())
    assert [t.name for t in b.outputs] == ["log_ratio", "log_sigma"]


def test_a_graph_of_other_weights_is_refused(runs: Runs, tmp_path: Path) -> None:
    export(runs["cnn"] / "checkpoint.pt", tmp_path / "toy.onnx")
    content = load_checkpoint(runs["cnn"] / "checkpoint.pt")
    recipe = Recipe.model_validate_json(content["recipe"])
    module = load_network(content, recipe, "toy")
    inputs = random_inputs(module, recipe, 600)
    graph = (tmp_path / "toy.onnx").read_bytes()
    assert parity(module, recipe, graph, inputs) < 1e-5
    with torch.no_grad():
        module.out.weight[0, 0] += 0.05
    with pytest.raises(ExportError, match="'score' of the graph differs from PyTorch"):
        parity(module, recipe, graph, inputs)


def test_a_training_without_an_epoch_is_refused(runs: Runs, tmp_path: Path) -> None:
    content = {**load_checkpoint(runs["dnn"] / "checkpoint.pt"), "best": {}}
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(ExportError, match="no finished epoch"):
        export(tmp_path / "checkpoint.pt", tmp_path / "toy.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_zoo_index(runs: Runs, tmp_path: Path) -> None:
    for network in ("dnn", "cnn"):
        bundle = export(runs[network] / "checkpoint.pt", tmp_path / f"{network}.onnx")
        index = add_to_zoo(bundle, tmp_path)
    entries = json.loads(index.read_text())
    assert list(entries) == ["toy_cnn", "toy_dnn"]
    assert entries["toy_cnn"] == {"file": "cnn.onnx", "sha256": bundle.sha256}
    with pytest.raises(ExportError, match="does not lie in the zoo"):
        add_to_zoo(bundle, tmp_path / "other")


@pytest.fixture(scope="module")
def ntuples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated sample of both classes."""
    folder = tmp_path_factory.mktemp("ntuples")
    common = {"e_min_gev": 100.0, "e_max_gev": 1000.0, "triggered_only": True, "outside_share": 0.0}
    simulate(Sample("electron", 1, n_events=60_000, **common), folder, workers=1)
    simulate(Sample("proton", 2, n_events=300_000, **common), folder, workers=1)
    return folder


RECIPE = """
name: small
network: hamf
region: fiducial
energy_range_gev: [50.0, 1000.0]
variables: default
options: {channels: [8, 8, 16]}
training: {epochs: 3, events_per_epoch: 2048, batch: 256, ema: 0.8, bins_per_decade: 1}
"""


def test_commands_from_ntuples_to_zoo(
    ntuples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(RECIPE, "utf-8")

    def cre(command: Callable[..., object], *words: str) -> str:
        done = CliRunner().invoke(command, words, catch_exceptions=False)  # type: ignore[arg-type]
        assert done.exit_code == 0, done.output
        return done.output

    line = ("small.yaml", "--ntuples", str(ntuples), "-o", "run/small", "--threads", "1")
    said = cre(train_command.command, *line)
    assert "all epochs done" in said
    assert "epoch 3" in said
    metrics = json.loads(Path("run/small/metrics.json").read_text())
    assert metrics["val_auc"] > 0.9
    assert Path("run/small/training.png").stat().st_size > 5000
    notes = json.loads(Path("run/small/train.provenance.json").read_text())
    assert len(notes["inputs"]) == 2
    assert notes["stopped"] == "epochs"
    with pytest.raises(FileExistsError, match="--resume"):
        CliRunner().invoke(train_command.command, line, catch_exceptions=False)
    assert "all epochs done" in cre(train_command.command, *line, "--resume")
    said = cre(export_command.command, "run/small", "--zoo", "zoo")
    assert "wrote zoo/small.onnx" in said
    assert json.loads(Path("zoo/index.json").read_text())["small"]["file"] == "small.onnx"
    bundle = read_bundle("zoo/small.onnx").bundle
    assert bundle.synthetic
    assert bundle.metrics["val_auc"] == metrics["val_auc"]


def test_own_simulated_sample_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    common = "--e-min-gev 100 --e-max-gev 1000 --triggered-only --outside-share 0 --workers 1"
    lines = f"""
simulation:
  - --kind electron --events 20000 --seed 1 {common}
  - --kind proton --events 150000 --seed 2 {common}
"""
    short = RECIPE.replace("epochs: 3", "epochs: 1").replace("hamf", "dnn")
    short = short.replace("options: {channels: [8, 8, 16]}\n", "") + lines
    Path("own.yaml").write_text(short, "utf-8")
    line = ["own.yaml", "-o", "run/own", "--threads", "1"]
    done = CliRunner().invoke(train_command.command, line, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert done.output.count("$ cre simulate") == 2
    (folder,) = Path("run").glob("ntuples_fiducial_*")
    assert len(list(folder.glob("*.root"))) == 2
    again = CliRunner().invoke(
        train_command.command, [*line, "--overwrite"], catch_exceptions=False
    )
    assert "$ cre simulate" not in again.output
    assert again.exit_code == 0
