"""Export: from a checkpoint to a self-describing ONNX bundle, checked against PyTorch before it is kept."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch

from models.catalogue import INDEX, register
from models.networks import INPUTS_OF, MODALITIES, OUTPUTS_OF, make_network
from models.recipes import Recipe
from models.training import load_checkpoint
from processors.bundle import METADATA_KEY, Bundle, BundleRef, read_bundle
from processors.exceptions import CreError
from processors.features import INPUTS

__all__ = ["ExportError", "add_to_zoo", "export", "load_network", "parity", "random_inputs"]

Arrays = Mapping[str, npt.NDArray[np.float32]]

#: The converter's operator set; onnxruntime 1.16 and newer run it.
OPSET = 18
#: Largest difference of an output between PyTorch and onnxruntime, in standard deviations of the output.
TOLERANCE = 1e-4
PARITY_EVENTS = 10_000
_BATCH = 512


class ExportError(CreError):
    """A network cannot be exported, or its graph does not give what PyTorch gives."""


def export(
    checkpoint: Path,
    path: Path,
    *,
    metrics: Mapping[str, Any] | None = None,
    events: Arrays | None = None,
) -> BundleRef:
    """Write the kept weights of a training as an ONNX bundle.

    Args:
        checkpoint: ``checkpoint.pt`` of a training.
        path: The file to write; it appears only when all checks passed.
        metrics: Further figures for the metadata, beside those of the validation.
        events: Inputs for the comparison with PyTorch; by default 10 000 random events of the
            training sample's mean and spread.

    Returns:
        The bundle as a run would read it.

    Raises:
        TrainingError: If the checkpoint cannot be read.
        ExportError: If no epoch was finished, or graph and network disagree.
        ModelError: If the written bundle is not one that a run accepts.
    """
    content = load_checkpoint(checkpoint)
    recipe = Recipe.model_validate_json(content["recipe"])
    network = load_network(content, recipe, str(checkpoint))
    inputs = events if events is not None else random_inputs(network, recipe, PARITY_EVENTS)
    model = onnx.load_model_from_string(_convert(network, recipe, inputs))
    validation = {
        k: v[int(content["best_epoch"]) - 1]
        for k, v in content["history"].items()
        if k.startswith("val_")
    }
    found = parity(network, recipe, model.SerializeToString(), inputs)
    bundle = _metadata(
        recipe,
        content,
        {**validation, "parity": found, **(metrics or {})},
    )
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, bundle.model_dump_json()
    model.producer_name, model.producer_version = "dampe-cre", recipe.version
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(model.SerializeToString())
        read_bundle(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return read_bundle(path)


def load_network(content: Mapping[str, Any], recipe: Recipe, where: str) -> Any:
    """The kept network of a checkpoint, for evaluation.

    Args:
        content: The checkpoint.
        recipe: Its recipe.
        where: Its name, for messages.

    Returns:
        The module in evaluation mode.

    Raises:
        ExportError: If no epoch was finished.
    """
    if not content["best"]:
        msg = f"{where!r} has no finished epoch; train first"
        raise ExportError(msg)
    network = make_network(recipe.network, len(recipe.variables), recipe.options)
    network.load_state_dict(content["best"])
    return network.eval()


def random_inputs(network: Any, recipe: Recipe, events: int) -> dict[str, npt.NDArray[np.float32]]:
    """Random events with the mean and spread of the training sample, one in ten without a track.

    Args:
        network: The network, for its normalisation.
        recipe: Its recipe.
        events: How many.

    Returns:
        Inputs, float32.
    """
    rng = np.random.default_rng(recipe.training.seed)
    out: dict[str, npt.NDArray[np.float32]] = {}
    mask = (rng.random((events, 1)) > 0.1).astype(np.float32)
    for name in INPUTS_OF[recipe.network]:
        if name == "stk_mask":
            out[name] = mask
            continue
        shape = tuple(len(recipe.variables) if s is None else s for s in INPUTS[name].shape)
        norm = getattr(network, f"normalise_{name}")
        values = norm.mean.numpy() + norm.std.numpy() * rng.normal(size=(events, *shape))
        if name != "variables":  # logarithms and counts
            values = np.maximum(values, 0.0)
        if name == "stk":
            values = values * mask[:, :, None]
        out[name] = np.ascontiguousarray(values, np.float32)
    return out


def parity(network: Any, recipe: Recipe, graph: bytes, inputs: Arrays) -> float:
    """Largest difference between PyTorch and onnxruntime, in standard deviations of the output.

    Args:
        network: The network in evaluation mode.
        recipe: Its recipe.
        graph: The ONNX graph.
        inputs: Events.

    Returns:
        max |Δ| / std over events, the largest of the outputs.

    Raises:
        ExportError: If it is 1e-4 or more, or an output is not finite.
    """
    names = INPUTS_OF[recipe.network]
    with torch.inference_mode():
        expected = [o.numpy() for o in network(*(torch.from_numpy(inputs[n]) for n in names))]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    total = len(inputs[names[0]])
    parts = [
        session.run(list(OUTPUTS_OF[recipe.network]), {n: inputs[n][i : i + _BATCH] for n in names})
        for i in range(0, total, _BATCH)
    ]
    worst = 0.0
    for k, name in enumerate(OUTPUTS_OF[recipe.network]):
        found = np.concatenate([p[k] for p in parts])
        scale = float(expected[k].std())
        difference = float(np.abs(found - expected[k]).max()) / (scale if scale > 0 else 1.0)
        if not difference < TOLERANCE:
            msg = (
                f"output {name!r} of the graph differs from PyTorch by {difference:.1e} of its spread on "
                f"{total} events ({TOLERANCE:g} is allowed); the bundle is not written"
            )
            raise ExportError(msg)
        worst = max(worst, difference)
    return worst


def add_to_zoo(bundle: BundleRef, zoo: Path) -> Path:
    """Name a bundle and its hash in the index of a zoo.

    Args:
        bundle: The bundle, whose file lies in the zoo's folder.
        zoo: The folder; its ``index.json`` is made if needed.

    Returns:
        Path of the index.

    Raises:
        ExportError: If the file lies elsewhere.
        ModelError: If the index cannot be read.
    """
    file = Path(bundle.path)
    if file.resolve().parent != zoo.resolve():
        msg = f"{file} does not lie in the zoo {zoo}; export it there"
        raise ExportError(msg)
    register(bundle.bundle.name, file.name, zoo=zoo)
    return zoo / INDEX


def _convert(network: Any, recipe: Recipe, inputs: Arrays) -> bytes:
    """The ONNX graph with a free batch dimension."""
    names, outputs = list(INPUTS_OF[recipe.network]), list(OUTPUTS_OF[recipe.network])
    buffer = io.BytesIO()
    with _quiet():
        torch.onnx.export(
            network,
            tuple(torch.from_numpy(inputs[n][:8]) for n in names),
            buffer,
            input_names=names,
            output_names=outputs,
            dynamic_axes={n: {0: "events"} for n in (*names, *outputs)},
            opset_version=OPSET,
            dynamo=False,  # the tracing converter folds batch normalisation and gives the faster graph
        )
    return buffer.getvalue()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converter's notes about itself from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _metadata(recipe: Recipe, content: Mapping[str, Any], metrics: Mapping[str, Any]) -> Bundle:
    def tensors(names: Sequence[str], shapes: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
        return [{"name": n, "shape": [None, *shapes[n]], "dtype": "float32"} for n in names]

    inputs = INPUTS_OF[recipe.network]
    outputs = OUTPUTS_OF[recipe.network]
    modalities = MODALITIES if "attention" in outputs else ()
    shapes = {
        name: [len(recipe.variables) if s is None else s for s in INPUTS[name].shape]
        for name in inputs
    }
    return Bundle.model_validate(
        {
            "format": 1,
            "name": recipe.name,
            "version": recipe.version,
            "task": recipe.task,
            "region": recipe.region,
            "energy_range_gev": recipe.energy_range_gev,
            "inputs": tensors(inputs, shapes),
            "outputs": tensors(
                outputs, {n: [len(modalities)] if n == "attention" else [] for n in outputs}
            ),
            "variables": recipe.variables,
            "modalities": modalities,
            "training_hash": content["training_hash"],
            "synthetic": content["synthetic"],
            "metrics": metrics,
        }
    )
