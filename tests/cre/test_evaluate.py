"""``cre evaluate``, and the edge and reconstruction options of the flux, as a user calls them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnxmodels import linear, metadata, write

from analysis.fluxtable import read_flux_table
from cre import evaluation
from cre.card import read_card
from cre.commands import evaluate
from models.holdout import score_holdout
from simulation.geant4 import Pair

MakeNtuple = Callable[..., Path]
Cre = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(make_ntuple: MakeNtuple, tmp_path: Path) -> Path:
    """A folder with data, electrons and protons, and two networks beside it."""
    folder = tmp_path / "ntuples"
    folder.mkdir()
    for i, (kind, n) in enumerate((("data", 600), ("electron", 1500), ("proton", 1500))):
        make_ntuple(kind, n=n, seed=i).rename(folder / f"{kind}.root")
    linear(tmp_path / "good.onnx", {"log_zeta": -3.0, "rms_5": -0.05}, 1.0)
    linear(tmp_path / "poor.onnx", {"log_zeta": -1.0, "theta": 0.1})
    return folder


def networks(folder: Path) -> list[str]:
    return [
        "--models", f"hamf={folder.parent / 'good.onnx'}",
        "--models", f"mine={folder.parent / 'poor.onnx'}",
        "--scores", "zeta,mine,hamf", "--replicas", "20",
    ]  # fmt: skip


def energy_network(path: Path) -> Path:
    """ln(E_true/E_corr) = 0 with an error of e^0: E_corr itself."""
    return write(
        path,
        [
            helper.make_node("MatMul", ["variables", "w"], ["column"]),
            helper.make_node("Squeeze", ["column", "axis"], ["log_ratio"]),
            helper.make_node("Neg", ["log_ratio"], ["log_sigma"]),
        ],
        {"w": np.zeros((1, 1), np.float32), "axis": np.array([1])},
        {"variables": ["batch", 1]},
        {"log_ratio": ["batch"], "log_sigma": ["batch"]},
        metadata(
            name="energy",
            task="energy",
            variables=("log_e_corr",),
            outputs={"log_ratio": [], "log_sigma": []},
        ),
    )


def test_products_of_an_evaluation(files: Path, tmp_path: Path, cre: Cre) -> None:
    out_folder = tmp_path / "ev"
    model = energy_network(tmp_path / "energy.onnx")
    code, out, err = cre(
        "evaluate", "fiducial", files, "-o", out_folder, *networks(files), "--energy-model", model
    )
    assert code == 0, err
    assert "energy network: pulls" in out
    assert "SYNTHETIC events" in out
    assert "0.1-10 TeV" in out
    content = json.loads((out_folder / "evaluation.json").read_text())
    assert content["synthetic"] is True
    assert content["scores"] == ["zeta", "mine", "hamf"]
    assert {m["member"] for m in content["models"]} == {"mine", "hamf"}
    assert [Path(f["path"]).name for f in content["files"]] == [
        "data.root", "electron.root", "proton.root",
    ]  # fmt: skip
    tables = content["tables"]
    assert {"auc", "auc_difference", "rejection", "counts", "agreement"} <= set(tables)
    assert content["energy_models"][0]["name"] == "energy"
    by = {(r["energy"], r["against"], r["low"]): r for r in tables["energy"]}
    for abscissa, low in (("true energy", 200.0), ("leakage", 0.0)):
        before, after = (by[e, abscissa, low] for e in ("corrected", "network"))
        assert before["events"] > 20
        assert after["bias"] == pytest.approx(before["bias"], abs=1e-9)
        # the toy events have 5 % on top of what they leave in the bars
        assert after["bias"] == pytest.approx(0.05, abs=0.02)
    with (out_folder / "auc.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(tables["auc"])
    assert float(rows[0]["auc"]) == tables["auc"][0]["auc"]
    for stem in (
        "roc",
        "auc",
        "rejection",
        "comparison",
        "score_zeta",
        "score_mine",
        "score_hamf",
        "energy",
    ):
        assert (out_folder / f"{stem}.png").stat().st_size > 10_000
        assert (out_folder / f"{stem}.pdf").exists()
    record = json.loads((out_folder / "provenance.json").read_text())
    assert record["exit_code"] == 0
    assert len(record["inputs"]) == 4
    code, _, err = cre("evaluate", "fiducial", files, "-o", out_folder, *networks(files))
    assert code == 1
    assert "evaluation.json exists" in err


def test_what_is_refused(files: Path, tmp_path: Path, cre: Cre) -> None:
    def fails(*arguments: str | Path) -> str:
        code, _, err = cre("evaluate", *arguments, "-o", tmp_path / "no")
        assert code == 1
        assert not (tmp_path / "no/evaluation.json").exists()
        return err

    assert "'cnn' has no model" in fails(
        "fiducial", files, "--card", ROOT / "cre/cards/fiducial.yaml", "--scores", "zeta,cnn"
    )
    assert "give NAME=FILE" in fails("fiducial", files, "--models", "hamf")
    assert "no such file" in fails("fiducial", tmp_path / "none.root", "--scores", "zeta")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "without *.root" in fails("fiducial", empty, "--scores", "zeta")
    top = linear(tmp_path / "top.onnx", {"theta": 1.0}, content={"region": "topfiducial"})
    assert "is for the topfiducial region" in fails(
        "fiducial", files, "--models", f"hamf={top}", "--scores", "zeta,hamf"
    )
    assert "the energy network of the fiducial region" in fails(
        "fiducial", files, "--scores", "zeta", "--energy-model", files.parent / "good.onnx"
    )


def test_geant4_step(
    files: Path, tmp_path: Path, cre: Cre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ntuples in the place of the Geant4 events: shares as counted directly."""
    made: list[Pair] = []

    def reference(folder: Path, **_: Any) -> list[Pair]:
        kinds: tuple[Any, ...] = ("electron", "proton")
        parts: tuple[Any, ...] = ("full", "hybrid")
        made.extend(
            Pair(kind, part, files / f"{kind}.root", files / f"{kind}.root")
            for kind in kinds
            for part in parts
        )
        assert folder.name == "geant4"
        return made

    monkeypatch.setattr(evaluation, "write_reference", reference)
    monkeypatch.setattr(evaluate, "draw_performance", lambda *_, **__: [])
    out_folder = tmp_path / "g4"
    code, out, err = cre(
        "evaluate", "fiducial", files, "-o", out_folder, *networks(files), "--geant4"
    )
    assert code == 0, err
    assert "selected Geant4 protons above it" in out
    rows = json.loads((out_folder / "evaluation.json").read_text())["tables"]["geant4"]
    assert len(rows) == 2 * 3 * 3  # kinds, parts with "all", scores
    for row in rows:
        # both sides are the same file
        assert row["ks_distance"] == 0.0
        assert row["reference_efficiency"] == row["simulated_efficiency"]
        if row["kind"] == "electron":
            assert row["reference_efficiency"] == pytest.approx(0.9, abs=0.03)
        if row["score"] == "zeta":
            assert row["above_zeta_rejected"] == 0
    full = [r for r in rows if r["part"] == "full"]
    both = [r for r in rows if r["part"] == "all"]
    assert [2 * r["reference_events"] for r in full] == [r["reference_events"] for r in both]
    assert (out_folder / "geant4.csv").exists()
    for stem in ("geant4_zeta", "geant4_mine", "geant4_hamf", "geant4_efficiency"):
        assert (out_folder / f"{stem}.png").exists()


def test_geant4_step_with_energies(
    files: Path, tmp_path: Path, cre: Cre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moved events: a third file, a closure of the moving, and the energies of all three."""
    asked: list[str] = []

    def reference(folder: Path, *, region: str, **_: Any) -> list[Pair]:
        asked.append(f"{region} in {folder.name}")
        kinds: tuple[Any, ...] = ("electron", "proton")
        parts: tuple[Any, ...] = ("full", "hybrid")
        return [
            Pair(kind, part, *(files / f"{kind}.root" for _ in range(3)))
            for kind in kinds
            for part in parts
        ]

    monkeypatch.setattr(evaluation, "write_reference", reference)
    monkeypatch.setattr(evaluate, "draw_performance", lambda *_, **__: [])
    out_folder = tmp_path / "g4"
    model = energy_network(tmp_path / "energy.onnx")
    arguments = ["--geant4", "--energy-model", model]
    code, out, err = cre(
        "evaluate", "fiducial", files, "-o", out_folder, *networks(files), *arguments
    )
    assert code == 0, err
    assert asked == ["fiducial in geant4"]
    assert "simulation moved: " in out
    tables = json.loads((out_folder / "evaluation.json").read_text())["tables"]
    closure = [r for r in tables["geant4"] if r["part"] == "closure"]
    assert len(closure) == 2 * 3  # kinds, scores
    assert {r["ks_distance"] for r in closure} == {0.0}
    energies = tables["geant4_energy"]
    samples = ("Geant4 moved", "simulation moved", "simulation")
    assert {r["sample"] for r in energies} == set(samples)
    for part in ("full", "hybrid", "all"):
        rows = [r for r in energies if r["part"] == part and r["leakage_low"] is None]
        assert len(rows) == 2 * 3
        # one file, and a network that answers with the corrected energy
        assert len({(r["bias"], r["half_width_68"]) for r in rows}) == 1
        assert rows[0]["bias"] == pytest.approx(0.05, abs=0.02)
    assert (out_folder / "geant4_energy.csv").exists()
    assert (out_folder / "geant4_energy.png").stat().st_size > 10_000


def test_scores_are_those_of_the_files(
    files: Path, tmp_path: Path, cre: Cre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counts of the report are those of a direct reading with the same card."""
    monkeypatch.setattr(evaluate, "draw_performance", lambda *_, **__: [])
    code, _, err = cre("evaluate", "fiducial", files, "-o", tmp_path / "z", "--scores", "zeta")
    assert code == 0, err
    tables = json.loads((tmp_path / "z/evaluation.json").read_text())["tables"]
    card, names, models = evaluation.chosen(
        read_card(ROOT / "cre/cards/fiducial.yaml"), "fiducial", {}, ("zeta",)
    )
    sample = score_holdout(sorted(files.glob("*.root")), "fiducial", card.cuts, models, names)
    inside = (sample.e_corr_gev >= 100) & (sample.e_corr_gev < 10_000)
    assert tables["counts"][0]["electrons"] == int((sample.electron & inside).sum())
    assert tables["counts"][0]["protons"] == int((~sample.electron & inside).sum())


def test_flux_with_the_edge_cut_off(make_ntuple: MakeNtuple, tmp_path: Path, cre: Cre) -> None:

    def fail_the_edge_cut(branches: dict[str, Any]) -> None:
        branches["tt_selection_bits"][::4] &= ~8

    made = [
        make_ntuple(kind, n=1500, seed=i, change=fail_the_edge_cut)
        for i, kind in enumerate(("data", "electron", "proton"))
    ]
    assert cre("manifest", *made, "-o", tmp_path / "manifest.json")[0] == 0
    text = (ROOT / "cre/cards/fiducial.yaml").read_text()
    text = text.replace("control: [-2.0, -1.3]", "control: [-6.0, -0.93]")
    (tmp_path / "card.yaml").write_text(text)
    assert cre("run", tmp_path / "card.yaml")[0] == 0
    run = tmp_path / "run"
    tables = {}
    for edge in ("on", "off"):
        code, out, err = cre(
            "flux", run / "histograms.pkl", "-o", run / f"flux_{edge}", "--edge", edge,
            "--cut", -2.25, "--control", -6.0, -2.25,
        )  # fmt: skip
        assert code == 0, err
        assert f"fiducial, edge cut {edge}, new BGO reconstruction, score zeta" in out
        tables[edge] = read_flux_table(run / f"flux_{edge}.json")
        assert tables[edge].meta["flux"]["edge_cut"] == edge
    # one event in four fails the cut, of data and of simulation
    good = tables["on"].success & tables["off"].success
    for column in ("n_data", "acceptance"):
        on, off = (np.nansum(getattr(tables[e], column)[good]) for e in ("on", "off"))
        assert on / off == pytest.approx(0.75, abs=0.04)
    code, _, err = cre("flux", run / "histograms.pkl", "-o", run / "old", "--bgo", "old")
    assert code == 1
    assert "no BGO reconstruction 'old'" in err
    code, _, err = cre("flux", run / "histograms.pkl", "-o", run / "cnn", "--score", "cnn")
    assert code == 1
    assert "no score 'cnn'; it has zeta" in err
    code, _, err = cre(
        "plot", run / "histograms.pkl", "-o", run / "no", "--flux", run / "flux_off.json",
        "--edge", "on",
    )  # fmt: skip
    assert code == 1
    assert "the flux table has edge_cut 'off', asked for is 'on'" in err
    code, out, _ = cre("compare", run / "flux_off.json")
    assert code == 0
    assert "fiducial, edge cut off" in out
