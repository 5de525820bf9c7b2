"""Imports run down only: cre -> condor, analysis, simulation -> processors; and who may use which library."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"processors", "models", "analysis", "condor", "simulation", "cre"}
ALLOWED = {
    "processors": {"processors"},
    "models": {"models", "processors"},
    "analysis": {"analysis"},
    "simulation": {
        "simulation",
        "processors.geometry",
        "processors.ntuple",
        "processors.showers",
        "processors.spectrum",
    },
    "condor": {"condor", "processors"},
    "cre": OURS,
}
FORBIDDEN = {
    "processors": {"torch", "matplotlib", "mplhep"},
    "models": {"coffea", "matplotlib", "mplhep", "dask"},
    "analysis": {"coffea", "dask", "distributed", "torch"},
    "simulation": {"coffea", "dask", "torch"},
    "condor": {"torch", "matplotlib", "mplhep"},
    "cre": {"torch"},
}


def imports(package: str) -> list[tuple[str, str]]:
    """(file, imported module) of every import statement of a package."""
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found += [(path.name, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found += [
                    (path.name, f"{node.module}.{alias.name}")
                    if node.module in OURS
                    else (path.name, node.module)
                    for alias in node.names
                ]
    return found


@pytest.mark.parametrize("package", ALLOWED)
def test_arrows_run_down(package: str) -> None:
    seen = imports(package)
    assert seen
    for file, module in seen:
        if module.split(".")[0] in OURS:
            below = any(module == a or module.startswith(f"{a}.") for a in ALLOWED[package])
            assert below, f"{package}/{file} imports {module}"
        assert module.split(".")[0] not in FORBIDDEN[package], f"{package}/{file} imports {module}"


def test_torch_only_where_networks_are_trained() -> None:
    users = {
        file for file, module in imports("models") if module.split(".")[0] in {"torch", "onnx"}
    }
    assert users == {"networks.py", "training.py", "export.py"}


def test_modules_stay_readable() -> None:
    long = {
        str(p.relative_to(ROOT)): n
        for package in ALLOWED
        for p in (ROOT / package).rglob("*.py")
        if (n := len(p.read_text("utf-8").splitlines())) > 420
    }
    assert not long
