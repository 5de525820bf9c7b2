"""The commands that need PyTorch say so where it is not installed."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cre.commands import export, train
from processors.exceptions import CreError


@pytest.fixture(autouse=True)
def _no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("models.training", "models.networks", "models.export"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)


def test_train(tmp_path: Path) -> None:
    line = ["dnn_fiducial", "-o", str(tmp_path / "run")]
    with pytest.raises(CreError, match=r"needs PyTorch; install it with: pip install"):
        CliRunner().invoke(train.command, line, catch_exceptions=False)
    assert not (tmp_path / "run").exists()


def test_export(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").touch()
    (tmp_path / "recipe.json").write_text('{"name": "toy"}')
    with pytest.raises(CreError, match=r"needs torch; install it with: pip install"):
        CliRunner().invoke(export.command, [str(tmp_path)], catch_exceptions=False)


def test_export_of_a_folder_without_a_training(tmp_path: Path) -> None:
    with pytest.raises(CreError, match=r"holds no checkpoint\.pt"):
        CliRunner().invoke(export.command, [str(tmp_path)], catch_exceptions=False)


def test_train_needs_files(tmp_path: Path) -> None:
    with pytest.raises(CreError, match="'nonsense' cannot be read"):
        CliRunner().invoke(train.command, ["nonsense", "-o", str(tmp_path)], catch_exceptions=False)
