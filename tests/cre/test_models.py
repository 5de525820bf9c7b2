"""Cards with networks through the commands: combine, run, score, and every refusal before a run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
import yaml
from onnxmodels import image_sum, linear

from analysis.histfile import load
from cre import card as cards
from models import catalogue
from processors.omega import read_omega

MakeNtuple = Callable[..., Path]
Cre = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(make_ntuple: MakeNtuple, tmp_path: Path, cre: Cre) -> Path:
    """Files, a manifest, two networks of one's own and a card that names them."""
    files = [make_ntuple("data", n=800, seed=1)]
    for kind, seed in (("electron", 2), ("proton", 3)):
        files.append(make_ntuple(kind, n=3000, seed=seed))
    assert cre("manifest", *files, "-o", tmp_path / "manifest.json")[0] == 0
    for name, low, high in (("low", 20, 500), ("high", 500, 20_000)):
        weights = {"rms_4": -0.3, "log_e_corr": 2.0}
        content = {"name": f"my_{name}", "energy_range_gev": [low, high]}
        linear(tmp_path / f"{name}.onnx", weights, 1.0, content=content)
    image_sum(tmp_path / "sum.onnx", 1e-3)
    linear(tmp_path / "top.onnx", {"theta": 1.0}, content={"region": "topfiducial"})
    content = yaml.safe_load((ROOT / "cre/cards/omega.yaml").read_text())
    content |= {
        "regions": ["fiducial"],
        "models": {
            "fiducial": {"dnn": ["low.onnx", "high.onnx"], "cnn": "sum.onnx", "omega": "omega.json"}
        },
        "also": ["dnn", "zeta"],
    }
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def change(project: Path, **entries: Any) -> Path:
    content = yaml.safe_load((project / "card.yaml").read_text())
    target = project / "changed.yaml"
    target.write_text(yaml.safe_dump(content | entries))
    return target


def test_combine_run_score(project: Path, cre: Cre) -> None:
    simulated = [project / f"DmlNtup_synthetic_{k}.root" for k in ("electron_2", "proton_3")]
    code, _, err = cre("run", project / "card.yaml")
    assert code == 1
    assert "no model" in err
    assert "omega.json" in err
    omega = project / "omega.json"
    code, out, err = cre(
        "combine", "fiducial", *simulated, "-o", omega, "--card", project / "card.yaml"
    )
    assert code == 0, err
    assert "likelihood_ratio" in out
    parameters, _ = read_omega(omega)
    assert parameters.synthetic
    assert [i["file"] for i in parameters.fit["inputs"]] == [p.name for p in simulated]
    assert json.loads((project / "omega.provenance.json").read_text())["auc"]["logistic"]
    assert cre("combine", "fiducial", *simulated, "-o", omega)[0] == 1  # exists
    assert cre("combine", "fiducial", *simulated)[0] == 1  # where to?

    code, out, err = cre("run", project / "card.yaml")
    assert code == 0, err
    check_products(project)
    check_copies(project, simulated, cre)

    # parameters that were fitted for other networks
    image_sum(project / "sum.onnx", 2e-3)
    code, _, err = cre("run", project / "card.yaml", "--overwrite")
    assert code == 1
    assert "fitted for other 'cnn' files" in err
    assert "cre combine" in err


def test_combine_into_a_zoo(project: Path, cre: Cre) -> None:
    simulated = [project / f"DmlNtup_synthetic_{k}.root" for k in ("electron_2", "proton_3")]
    zoo = project / "zoo"
    zoo.mkdir()
    card = project / "card.yaml"
    pair = ("--pair", "cnn", "dnn")
    code, _, err = cre("combine", "fiducial", *simulated, "--zoo", zoo, "--card", card, *pair)
    assert code == 0, err
    path, digest = catalogue.find("omega_fiducial", zoo=zoo)
    parameters, found = read_omega(path, sha256=digest)
    assert found == digest
    assert parameters.likelihood_ratio is not None
    assert parameters.likelihood_ratio.networks == ("cnn", "dnn")
    code, _, err = cre("combine", "topfiducial", *simulated, "--zoo", zoo, "--card", card)
    assert code == 1
    assert "names no network for the topfiducial region" in err
    data = project / "DmlNtup_synthetic_data_1.root"
    code, _, err = cre("combine", "fiducial", data, "-o", project / "o.json", "--card", card)
    assert code == 1
    assert "does not say how many electrons or protons were generated" in err


def check_products(project: Path) -> None:
    """What the histogram file and the provenance say of the networks."""
    content = load(project / "run/histograms.json.gz")
    meta = content.meta
    assert meta["score"]["strategy"] == "logistic"
    assert sorted(m["member"] for m in meta["models"]) == ["cnn", "dnn", "dnn", "omega"]
    first = next(m for m in meta["models"] if m["member"] == "dnn")
    assert (first["name"], first["version"], first["region"]) == ("my_low", "1", "fiducial")
    assert first["energy_range_gev"] == [20.0, 500.0]
    assert len(first["sha256"]) == len(first["training_hash"]) == 64
    assert meta["calibration"] is None
    assert meta["by_bgo"]["new"]["livetime_s"] == meta["livetime_s"] == 1000.0
    fields = {"e_corr", "weight", "layer_fraction", "layer_rms", "n_bars"}
    assert set(meta["nonfinite"]) == {*fields, "omega", "dnn", "zeta"}
    totals = [content.hists[n].sum(flow=True).value for n in ("score", "score_dnn", "score_zeta")]
    assert totals[0] == pytest.approx(totals[1]) == pytest.approx(totals[2])
    record = json.loads((project / "run/provenance.json").read_text())
    assert {Path(i["path"]).name for i in record["inputs"]} >= {
        "low.onnx",
        "high.onnx",
        "sum.onnx",
        "omega.json",
    }
    assert record["models"] == meta["models"]


def check_copies(project: Path, simulated: list[Path], cre: Cre) -> None:
    """The omega of a copy is that of its scores."""
    parameters, _ = read_omega(project / "omega.json")
    out_folder = project / "scored"
    code, out, err = cre("score", *simulated, "-o", out_folder, "--card", project / "card.yaml")
    assert code == 0, err
    assert "MLscore_cnn" in out
    with uproot.open(out_folder / simulated[0].name) as file:
        arrays = file["DmlNtup"].arrays(
            ["omega", "MLscore_dnn", "MLscore_cnn", "tt_bgoTotalEcorr_GeV"], library="np"
        )
    e_corr = arrays["tt_bgoTotalEcorr_GeV"].astype(float)
    logits = {
        "dnn": arrays["MLscore_dnn"].astype(float),
        "cnn": arrays["MLscore_cnn"].astype(float),
    }
    assert parameters.logistic is not None
    expected = parameters.logistic(logits, e_corr)
    assert np.isfinite(expected).sum() > 500
    np.testing.assert_allclose(arrays["omega"], expected, rtol=1e-4, atol=1e-4)
    assert cre("score", *simulated, "-o", out_folder, "--card", project / "card.yaml")[0] == 1
    assert cre("score", simulated[0], simulated[0], "-o", project / "x")[0] == 1


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ({"models": {}}, "score 'dnn' has no model for the fiducial region"),
        ({"regions": ["fiducial", "topfiducial"]}, "no model for the topfiducial region"),
        ({"models": {"fiducial": {"dnn": "top.onnx"}}}, "is for the topfiducial region"),
        ({"models": {"fiducial": {"dnn": "low.onnx"}}}, "no model from 500 GeV on"),
        ({"models": {"fiducial": {"dnn": "none.onnx"}}}, "neither a file nor one of the shipped names"),
        ({"models": {"fiducial": {"dnn": []}}}, "has no file"),
        ({"models": {"everywhere": {"dnn": "low.onnx"}}}, "models.everywhere"),
        ({"models": {"fiducial": ["dnn"]}}, "models.fiducial"),
        ({"models": {"fiducial": {"dnn": "low.onnx", "omega": ["a", "b"]}}}, "exactly one file"),
        ({"inference": {"providers": ["CUDAExecutionProvider"]}}, "available: "),
        ({"inference": {"batch": 0}}, "inference.batch"),
        ({"also": ["dnn"]}, "which is the score already"),
        ({"score": {"name": "omega", "strategy": "mean", "cut": 0, "control": [-2, -1]}}, "score.strategy"),
        ({"cuts": ["trigger", "region"]}, "add the cut energy_range"),
        ({"cuts": ["trigger", {"energy_range": {"kinds": ["data"]}}, "region"]}, "add the cut energy_range"),
        ({"cuts": ["trigger", {"energy_range": {"min_gev": 5}}, "region"]}, "no model from 5 GeV on"),
        ({"calibration": "none.yaml"}, "none.yaml"),
        ({"bgo_reconstruction": ["new", "new"]}, "twice"),
        ({"bgo_reconstruction": ["new", "old"]}, "no file with the 'old'"),
    ],
)  # fmt: skip
def test_cards_that_are_refused(
    project: Path, cre: Cre, entries: dict[str, Any], complaint: str
) -> None:
    score = {"name": "dnn", "cut": 0.0, "control": [-20, -3]}
    card = change(project, **({"score": score, "also": []} | entries))
    code, _, err = cre("run", card)
    assert code == 1
    assert complaint in err
    assert not (project / "run").exists()


def test_shipped_models_are_found_by_name(
    project: Path, cre: Cre, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = project / "zoo"
    zoo.mkdir()
    (zoo / "index.json").write_text("{}")
    (zoo / "a.onnx").write_bytes((project / "top.onnx").read_bytes())
    catalogue.register("theta_top", "a.onnx", zoo=zoo)
    monkeypatch.setattr(catalogue.find, "__kwdefaults__", {"folder": None, "zoo": zoo})
    monkeypatch.setattr(catalogue.names, "__kwdefaults__", {"zoo": zoo})
    card = change(
        project,
        regions=["topfiducial"],
        models={"topfiducial": {"mine": "theta_top"}},
        score={"name": "mine", "cut": 12.0, "control": [-20, -3]},
        also=[],
    )
    assert cre("run", card, "--dry-run")[0] == 0
    (zoo / "a.onnx").write_bytes((project / "low.onnx").read_bytes())
    code, _, err = cre("run", card, "--dry-run")
    assert code == 1
    assert "the file changed or is damaged" in err


def test_two_reconstructions_in_one_file(make_ntuple: MakeNtuple, project: Path, cre: Cre) -> None:
    from ntuples import sample_record  # noqa: PLC0415

    old = [
        make_ntuple(
            k,
            n=300,
            seed=s,
            record=sample_record(k, livetime_s=700.0) | {"bgo_reconstruction": "old"},
        )
        for k, s in (("data", 11), ("electron", 12), ("proton", 13))
    ]
    new = [project / f"DmlNtup_synthetic_{k}.root" for k in ("data_1", "electron_2", "proton_3")]
    assert cre("manifest", *old, *new, "-o", project / "manifest.json", "--overwrite")[0] == 0
    card = change(
        project,
        bgo_reconstruction=["new", "old"],
        score={"name": "zeta", "cut": -0.93, "control": [-6, -0.93]},
        also=[],
    )
    code, out, err = cre("run", card)
    assert code == 0, err
    assert "1000.0 s (new BGO), 700.0 s (old BGO)" in out
    meta = load(project / "run/histograms.pkl").meta
    assert meta["bgo_reconstruction"] == ["new", "old"]
    assert {b: p["livetime_s"] for b, p in meta["by_bgo"].items()} == {"new": 1000.0, "old": 700.0}
    assert len(meta["by_bgo"]["old"]["generated"]["proton"]) == 1
    state = json.loads((project / "run/status.json").read_text())
    assert state["livetime_by_bgo_s"] == {"new": 1000.0, "old": 700.0}
    flux = ("flux", project / "run/histograms.pkl", "--bgo", "old", "-o", project / "flux")
    assert "no energy bin can be fitted" in cre(*flux)[2]  # some tens of events
    flux = (*flux, "--method", "sideband")
    code, _, err = cre(*flux)
    assert code == 0, err


def test_shipped_card_of_omega() -> None:
    card = cards.read_card(ROOT / "cre/cards/omega.yaml")
    assert card.scores == ("omega", "zeta", "dnn", "cnn", "hamf")
    assert card.calibration is None
    assert card.energy_range_gev() == (20.0, 20_000.0)
    assert len(card.models["topfiducial"]["hamf"]) == 2
    assert card.as_dict()["inference"] == {"providers": ["CPUExecutionProvider"], "batch": 512}
    classical = cards.read_card(ROOT / "cre/cards/fiducial.yaml")
    assert card.cuts == classical.cuts
    assert cards.card_models(classical).to_list() == []
