"""Small ONNX models with known answers, built node by node."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HASH = hashlib.sha256(b"toy").hexdigest()


def metadata(
    *,
    name: str = "toy",
    region: str = "fiducial",
    energy_range_gev: Sequence[float] = (20.0, 20_000.0),
    inputs: Mapping[str, Sequence[int]] | None = None,
    outputs: Mapping[str, Sequence[int]] | None = None,
    variables: Sequence[str] = (),
    **change: Any,
) -> dict[str, Any]:
    content: dict[str, Any] = {
        "format": 1,
        "name": name,
        "version": "1",
        "task": "classifier",
        "region": region,
        "energy_range_gev": list(energy_range_gev),
        "inputs": [
            {"name": n, "shape": [None, *s], "dtype": "float32"}
            for n, s in (inputs or {"variables": [len(variables)]}).items()
        ],
        "outputs": [
            {"name": n, "shape": [None, *s], "dtype": "float32"}
            for n, s in (outputs or {"score": []}).items()
        ],
        "variables": list(variables),
        "modalities": [],
        "training_hash": HASH,
        "synthetic": True,
        "metrics": {},
    }
    return content | change


def write(
    path: Path,
    nodes: Sequence[Any],
    weights: Mapping[str, np.ndarray],
    inputs: Mapping[str, Sequence[Any]],
    outputs: Mapping[str, Sequence[Any]],
    content: dict[str, Any] | str | None,
    kind: int = TensorProto.FLOAT,
) -> Path:
    graph = helper.make_graph(
        list(nodes),
        "toy",
        [helper.make_tensor_value_info(n, kind, list(s)) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, kind, list(s)) for n, s in outputs.items()],
        [numpy_helper.from_array(v, n) for n, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    if content is not None:
        text = content if isinstance(content, str) else json.dumps(content)
        helper.set_model_props(model, {"cre": text})
    onnx.save(model, str(path))
    return path


def linear(
    path: Path,
    weights: Mapping[str, float],
    bias: float = 0.0,
    *,
    content: Mapping[str, Any] | None = None,
) -> Path:
    """score = bias + sum of weight times variable."""
    names = list(weights)
    return write(
        path,
        [
            helper.make_node("MatMul", ["variables", "w"], ["product"]),
            helper.make_node("Add", ["product", "b"], ["sum"]),
            helper.make_node("Squeeze", ["sum", "axis"], ["score"]),
        ],
        {
            "w": np.array(list(weights.values()), np.float32)[:, None],
            "b": np.array([bias], np.float32),
            "axis": np.array([1]),
        },
        {"variables": ["batch", len(names)]},
        {"score": ["batch"]},
        metadata(variables=names, **(content or {})),
    )


def image_sum(path: Path, factor: float, *, content: Mapping[str, Any] | None = None) -> Path:
    """score = factor times the sum of the image in GeV."""
    return write(
        path,
        [
            helper.make_node("ReduceSum", ["image_gev", "axes"], ["sum"], keepdims=0),
            helper.make_node("Mul", ["sum", "factor"], ["score"]),
        ],
        {"axes": np.array([1, 2]), "factor": np.array(factor, np.float32)},
        {"image_gev": ["batch", 14, 22]},
        {"score": ["batch"]},
        metadata(inputs={"image_gev": [14, 22]}, **(content or {})),
    )


def energy(
    path: Path, ratio: float, sigma: float, *, content: Mapping[str, Any] | None = None
) -> Path:
    """log_ratio = ratio * theta, log_sigma = sigma * theta - 5, theta in degrees."""
    return write(
        path,
        [
            helper.make_node("Squeeze", ["variables", "axis"], ["theta"]),
            helper.make_node("Mul", ["theta", "ratio"], ["log_ratio"]),
            helper.make_node("Mul", ["theta", "sigma"], ["product"]),
            helper.make_node("Sub", ["product", "five"], ["log_sigma"]),
        ],
        {
            "axis": np.array([1]),
            "ratio": np.array(ratio, np.float32),
            "sigma": np.array(sigma, np.float32),
            "five": np.array(5.0, np.float32),
        },
        {"variables": ["batch", 1]},
        {"log_ratio": ["batch"], "log_sigma": ["batch"]},
        metadata(
            **{
                "task": "energy",
                "region": "topfiducial",
                "variables": ["theta"],
                "outputs": {"log_ratio": [], "log_sigma": []},
                **(content or {}),
            }
        ),
    )


def convolution(
    path: Path, channels: int = 16, *, content: Mapping[str, Any] | None = None
) -> Path:
    """Three convolutions on the image, global average, score: as costly as a small real network."""
    rng = np.random.default_rng(1)
    weights: dict[str, np.ndarray] = {"shape": np.array([-1, 1, 14, 22])}
    nodes = [helper.make_node("Reshape", ["image", "shape"], ["x0"])]
    for i, width in enumerate((1, channels, channels)):
        weights[f"w{i}"] = rng.normal(0, 0.2, (channels, width, 3, 3)).astype(np.float32)
        nodes += [
            helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{i}"], [f"x{i + 1}"]),
        ]
    weights["head"] = rng.normal(0, 0.2, (channels, 1)).astype(np.float32)
    weights["axis"] = np.array([1])
    nodes += [
        helper.make_node("ReduceMean", ["x3"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "head"], ["logit"]),
        helper.make_node("Squeeze", ["logit", "axis"], ["score"]),
    ]
    return write(
        path,
        nodes,
        weights,
        {"image": ["batch", 14, 22]},
        {"score": ["batch"]},
        metadata(inputs={"image": [14, 22]}, **(content or {})),
    )
