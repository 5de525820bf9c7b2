"""Bundles: what is read, and every refusal with its sentence."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxmodels import linear, metadata, write

from processors import bundle as b
from processors.exceptions import ModelError

TWO = {"log_e_corr": 1.0, "theta": -0.5}


def identity(
    path: Path, content: Any, *, shape: tuple[Any, ...] = ("batch", 2), **kind: int
) -> Path:
    """score = sum of the two variables, with any metadata."""
    return write(
        path,
        [helper.make_node("ReduceSum", ["variables", "axes"], ["score"], keepdims=0)],
        {"axes": np.array([1])},
        {"variables": shape},
        {"score": shape[:1]},
        content,
        **kind,
    )


def test_what_a_bundle_says(tmp_path: Path) -> None:
    path = linear(tmp_path / "a.onnx", TWO, content={"name": "mine", "metrics": {"auc": 0.9}})
    ref = b.read_bundle(path)
    assert ref.bundle.name == "mine"
    assert ref.bundle.variables == ("log_e_corr", "theta")
    assert ref.bundle.energy_range_gev == (20.0, 20_000.0)
    assert ref.bundle.metrics == {"auc": 0.9}
    assert b.read_bundle(path, sha256=ref.sha256) == ref
    assert pickle.loads(pickle.dumps(ref)) == ref
    assert set(ref.to_dict()) == {
        "name", "version", "path", "sha256", "region", "energy_range_gev", "training_hash", "synthetic",
    }  # fmt: skip


def test_hashes_and_unreadable_files(tmp_path: Path) -> None:
    path = linear(tmp_path / "a.onnx", TWO)
    with pytest.raises(ModelError, match=r"expected is 0000.*restore it"):
        b.read_bundle(path, sha256="0" * 64)
    with pytest.raises(ModelError, match="cannot be read"):
        b.read_bundle(tmp_path / "none.onnx")
    (tmp_path / "half.onnx").write_bytes(path.read_bytes()[:60])
    with pytest.raises(ModelError, match="is no ONNX graph"):
        b.read_bundle(tmp_path / "half.onnx")
    with pytest.raises(ModelError, match="no metadata 'cre'"):
        b.read_bundle(identity(tmp_path / "bare.onnx", None))
    with pytest.raises(ModelError, match="are no JSON"):
        b.read_bundle(identity(tmp_path / "text.onnx", "{"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": 2}, "format"),
        ({"region": "everywhere"}, "region"),
        ({"energy_range_gev": [100, 20]}, "must ascend"),
        ({"training_hash": "abc"}, "training_hash"),
        ({"colour": "red"}, "colour: no such key"),
        ({"variables": ["theta", "speed"]}, "unknown variable 'speed'"),
        ({"variables": ["theta", "theta"]}, "'theta' stands twice"),
        ({"variables": []}, "must come together"),
        ({"variables": ["theta"]}, r"has shape \[None, 2\], it must be \[None, 1\]"),
        ({"inputs": [{"name": "pixels", "shape": [None, 2]}]}, "unknown input 'pixels'"),
        ({"inputs": [{"name": "variables", "shape": [2]}]}, "must be null"),
        ({"inputs": [{"name": "image", "shape": [None, 14, 22]}], "variables": []}, "the graph has the inputs variables"),
        ({"outputs": [{"name": "logit", "shape": [None]}]}, "has the outputs score, not logit"),
        ({"outputs": [{"name": "score", "shape": [None, 1]}]}, r"it must be \[None\]"),
        ({"task": "energy"}, "log_ratio, log_sigma, not score"),
        ({"modalities": ["image"]}, "modalities must come together"),
        (
            {"outputs": [{"name": n, "shape": [None, *s]} for n, s in (("score", []), ("attention", [1]))], "modalities": ["image"]},
            "the graph has the outputs score, its metadata say score, attention",
        ),
    ],
)  # fmt: skip
def test_metadata_that_do_not_fit(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    content = metadata(variables=list(TWO)) | change
    with pytest.raises(ModelError, match=complaint):
        b.read_bundle(identity(tmp_path / "a.onnx", content))


def test_graphs_that_do_not_fit(tmp_path: Path) -> None:
    content = metadata(variables=list(TWO))
    with pytest.raises(ModelError, match=r"has shape \[None, 3\] in the graph"):
        b.read_bundle(identity(tmp_path / "a.onnx", content, shape=("batch", 3)))
    with pytest.raises(ModelError, match=r"has shape \[8, 2\] in the graph"):
        b.read_bundle(identity(tmp_path / "b.onnx", content, shape=(8, 2)))
    with pytest.raises(ModelError, match=r"tensor\(double\), float32 is needed"):
        b.read_bundle(identity(tmp_path / "c.onnx", content, kind=TensorProto.DOUBLE))
    assert b.read_bundle(identity(tmp_path / "d.onnx", content)).bundle.name == "toy"


def test_weights_beside_the_file_are_refused(tmp_path: Path) -> None:
    path = linear(tmp_path / "a.onnx", {f"rms_{i}": 1.0 for i in range(14)})
    model = onnx.load(str(path))
    onnx.save(
        model,
        str(tmp_path / "b.onnx"),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    with pytest.raises(ModelError, match="is no ONNX graph"):
        b.read_bundle(tmp_path / "b.onnx")


def test_providers_are_explicit(tmp_path: Path) -> None:
    content = linear(tmp_path / "a.onnx", TWO).read_bytes()
    with pytest.raises(
        ModelError, match=r"does not offer TensorrtExecutionProvider; available: .*CPU"
    ):
        b.open_session(content, "a", ("TensorrtExecutionProvider", "CPUExecutionProvider"))
    with pytest.raises(ModelError, match="at least one provider"):
        b.check_providers(())
