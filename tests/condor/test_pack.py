"""The wheel and the tarball for bare workers."""

import importlib.metadata
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from condor import pack
from processors.identity import code_identity

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_the_program_that_runs_here(tmp_path: Path) -> None:
    wheel = pack.make_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        archive.extractall(tmp_path / "unpacked")  # noqa: S202
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert set(pack.PACKAGES) == {p.split(".")[0] for p in listed}
    for wanted in ("cre/cards/omega.yaml", "condor/wrapper.sh", "condor/sites/cern.yaml"):
        assert wanted in names
    assert not [n for n in names if n.endswith(".pyc") or "/tests/" in n]
    code = (
        "import processors; from processors.identity import code_identity; "
        "from cre.provenance import program; "
        "print(processors.__file__, code_identity()['processors'], program()['version'])"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path / "unpacked")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    file, digest, version = done.stdout.split()
    assert file == str(tmp_path / "unpacked/processors/__init__.py")
    assert digest == code_identity()["processors"]
    assert version == importlib.metadata.version("dampe-cre")


def test_the_wheel_can_be_installed(tmp_path: Path) -> None:
    wheel = pack.make_wheel(tmp_path)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--target", str(tmp_path / "site"), str(wheel)]
    subprocess.run(command, check=True)  # noqa: S603
    assert (tmp_path / "site/condor/wrapper.sh").exists()
    assert (tmp_path / "site/bin/cre").exists()


def test_the_environment_holds_what_is_imported_and_no_tools() -> None:
    names = {d.metadata["Name"].lower() for d in pack.distributions()}
    assert {"coffea", "uproot", "onnxruntime", "numpy", "distributed", "pydantic"} <= names
    assert not {"pytest", "mypy", "ruff", "onnx", "hepdata-lib", "pyhf", "dampe-cre"} & names


def test_the_tarball(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = [importlib.metadata.distribution(n) for n in ("click", "pyyaml")]
    monkeypatch.setattr(pack, "distributions", lambda: few)
    tarball, size = pack.make_environment(tmp_path)
    with tarfile.open(tarball) as archive:
        names = archive.getnames()
        version = archive.extractfile("python-version")
        assert version is not None
        assert version.read().decode() == "{}.{}".format(*sys.version_info[:2])
    assert "click/core.py" in names
    assert "yaml/__init__.py" in names
    assert not [n for n in names if "__pycache__" in n or ".." in n or n.startswith("/")]
    assert 500_000 < size < 20_000_000
