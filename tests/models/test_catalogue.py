"""Names of shipped models, one's own paths, and a damaged index."""

import hashlib
import json
from pathlib import Path

import pytest

from models import catalogue
from processors.exceptions import ModelError


def test_names_and_paths(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"model")
    (tmp_path / "index.json").write_text("{}")
    catalogue.register("dnn_fiducial", "a.onnx", zoo=tmp_path)
    digest = hashlib.sha256(b"model").hexdigest()
    assert catalogue.names(zoo=tmp_path) == ["dnn_fiducial"]
    assert catalogue.find("dnn_fiducial", zoo=tmp_path) == (tmp_path / "a.onnx", digest)
    assert catalogue.find("a.onnx", folder=tmp_path, zoo=tmp_path) == (tmp_path / "a.onnx", None)
    with pytest.raises(ModelError, match=r"no model 'b\.onnx'.*\(dnn_fiducial\)"):
        catalogue.find("b.onnx", folder=tmp_path, zoo=tmp_path)
    with pytest.raises(ModelError, match="does not exist"):
        catalogue.register("x", "none.onnx", zoo=tmp_path)


def test_a_damaged_index(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        catalogue.names(zoo=tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"a": {"file": "a.onnx"}}))
    with pytest.raises(ModelError, match="needs 'file' and 'sha256'"):
        catalogue.find("a", zoo=tmp_path)
    (tmp_path / "index.json").write_text('{"a": 5}')
    with pytest.raises(ModelError, match="needs 'file' and 'sha256'"):
        catalogue.find("a", zoo=tmp_path)
    (tmp_path / "index.json").write_text("[]")
    with pytest.raises(ModelError, match="no table of names"):
        catalogue.names(zoo=tmp_path)


def test_the_shipped_files_have_their_hashes() -> None:
    for name in catalogue.names():
        path, digest = catalogue.find(name)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest, name
