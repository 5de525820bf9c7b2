"""``cre run`` killed, failed and changed: what is done is kept, and no change gets an old answer."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from analysis.histfile import load

MakeNtuple = Callable[..., Path]
Cre = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(make_ntuple: MakeNtuple, tmp_path: Path, cre: Cre) -> Path:
    """A folder with a manifest and a card of many small chunks."""
    files = [make_ntuple("data", n=2000, seed=1), make_ntuple("electron", n=1000, seed=2)]
    assert cre("manifest", *files, "-o", tmp_path / "manifest.json")[0] == 0
    text = (ROOT / "cre/cards/fiducial.yaml").read_text("utf-8")
    (tmp_path / "card.yaml").write_text(
        text.replace("chunk_size: 200000", "chunk_size: 100"), "utf-8"
    )
    return tmp_path


def counts(path: Path) -> dict[str, np.ndarray]:
    return {name: h.view(flow=True) for name, h in load(path).hists.items()}


def same(a: Path, b: Path) -> None:
    one, two = counts(a), counts(b)
    assert one.keys() == two.keys()
    for name, view in one.items():
        np.testing.assert_allclose(view["value"], two[name]["value"], rtol=1e-12)
        np.testing.assert_allclose(view["variance"], two[name]["variance"], rtol=1e-12)


def test_a_killed_client_goes_on_where_it_was(project: Path, cre: Cre) -> None:
    command = [sys.executable, "-m", "cre.main", "run", str(project / "card.yaml")]
    folder = project / "run"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as process:  # noqa: S603
        until = time.monotonic() + 120
        while len(list(folder.rglob("*.part"))) < 10 and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    done = len([p for p in folder.rglob("*.part") if not p.name.startswith(".")])
    assert 10 <= done < 26
    assert not (folder / "histograms.json.gz").exists()
    code, out, err = cre("status", folder)
    assert code == 2
    assert "interrupted" in out
    assert "finished chunks are kept" in err

    code, _, err = cre("run", project / "card.yaml")
    assert code == 0, err
    assert f"{done} of 26 chunks are there already" in err
    record = json.loads((folder / "provenance.json").read_text("utf-8"))
    assert record["resumed_chunks"] == done
    code, _, err = cre("run", project / "card.yaml", "-o", project / "other")
    assert code == 0
    assert "already" not in err
    same(folder / "histograms.json.gz", project / "other/histograms.json.gz")


def test_a_changed_card_starts_anew_and_an_unchanged_one_does_not(project: Path, cre: Cre) -> None:
    card = project / "card.yaml"
    assert cre("run", card)[0] == 0
    assert "26 of 26 chunks are there already" in cre("run", card, "--overwrite")[2]
    assert "already" not in cre("run", card, "--overwrite", "--no-resume")[2]
    card.write_text(card.read_text("utf-8").replace("max_ratio: 0.35", "max_ratio: 0.3"), "utf-8")
    assert "already" not in cre("run", card, "--overwrite")[2]


def test_a_missing_file_costs_its_livetime_and_comes_back(
    project: Path, make_ntuple: MakeNtuple, cre: Cre
) -> None:
    second = make_ntuple("data", n=500, seed=3, run=2)
    files = [*project.glob("DmlNtup_synthetic_*_[12].root"), second]
    assert cre("manifest", *files, "-o", project / "manifest.json", "--overwrite")[0] == 0
    hidden = second.rename(second.with_suffix(".away"))
    code, _, err = cre("run", project / "card.yaml")
    assert code == 2
    assert f"{second} [0:100]: FileNotFoundError" in err
    assert "tries the missing ones again" in err
    meta = load(project / "run/histograms.json.gz").meta
    assert not meta["complete"]
    assert meta["livetime_s"] == 1000.0
    assert meta["ledger"]["incomplete_files"] == [str(second)]
    assert meta["ledger"]["files"]["data"] == {
        "files": 1, "entries": 2000, "runs": 1, "livetime_s": 1000.0,
    }  # fmt: skip
    assert meta["ledger"]["planned_files"]["data"]["livetime_s"] == 2000.0
    assert meta["events"] == {"data": 2000, "electron": 1000}

    hidden.rename(second)
    code, out, err = cre("run", project / "card.yaml")
    assert code == 0
    assert "26 of 30 chunks are there already" in err
    assert "livetime 2000.0 s" in out
    code, _, err = cre("run", project / "card.yaml")  # complete: no longer replaced
    assert code == 1
    assert "exists; choose another --output or give --overwrite" in err


def test_site_without_cluster_is_refused(project: Path, cre: Cre) -> None:
    code, _, err = cre("run", project / "card.yaml", "--site", "generic")
    assert code == 1
    assert "--site describes a cluster" in err


def test_a_local_cluster_gives_the_same(project: Path, cre: Cre) -> None:
    card = project / "card.yaml"
    card.write_text(card.read_text("utf-8").replace("chunk_size: 25", "chunk_size: 500"), "utf-8")
    assert cre("run", card)[0] == 0
    other = project / "dask"
    assert cre("run", card, "--cluster", "local", "--jobs", "2", "-o", other)[0] == 0
    same(project / "run/histograms.json.gz", other / "histograms.json.gz")


def test_a_date_that_does_not_exist_is_one_sentence(project: Path, cre: Cre) -> None:
    card = project / "card.yaml"
    card.write_text(card.read_text("utf-8") + "\nperiod: {from: 2017-13-01}\n", "utf-8")
    code, _, err = cre("run", card)
    assert code == 1
    assert "is no YAML: month must be in 1..12" in err
