"""Fixtures shared by all tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ntuples import dmlntup_branches, sample_record, toy_events, write_tree

from cre.main import main


@pytest.fixture
def cre(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Call the program: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["cre", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


@pytest.fixture
def make_ntuple(tmp_path: Path) -> Callable[..., Path]:
    """Write one DmlNtup file: ``make_ntuple("data", n=200, seed=3, drop=["tt_F3"])``."""

    def make(
        kind: str = "electron",
        *,
        n: int = 300,
        seed: int = 1,
        name: str | None = None,
        run: int = 1,
        drop: tuple[str, ...] = (),
        change: Callable[[dict[str, Any]], None] | None = None,
        record: dict[str, Any] | bool | None = True,
    ) -> Path:
        branches = dmlntup_branches(toy_events(n, seed, kind=kind), kind=kind, run=run)
        for branch in drop:
            del branches[branch]
        if change:
            change(branches)
        path = tmp_path / (name or f"DmlNtup_synthetic_{kind}_{seed}.root")
        info = sample_record(kind, run=run) if record is True else (record or None)
        write_tree(path, "DmlNtup", branches, info, seed)
        return path

    return make
