"""The shipped bundles: whole, within their size, consistent, and what the model cards say of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import uproot

from cre.card import card_models, read_card
from cre.commands import score
from models import catalogue
from models.evaluation import auc
from models.samples import selected_events
from processors import features
from processors.bundle import read_bundle
from processors.inference import run_bundle, score_events
from simulation.sample import Sample, simulate

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "models/zoo"
NETWORKS = {
    "dnn_fiducial": (20.0, 20_000.0),
    "cnn_fiducial": (20.0, 20_000.0),
    "hamf_fiducial": (20.0, 20_000.0),
    "dnn_topfiducial": (20.0, 20_000.0),
    "cnn_topfiducial": (20.0, 20_000.0),
    "hamf_topfiducial_low": (20.0, 1000.0),
    "hamf_topfiducial_high": (1000.0, 20_000.0),
    "energy_topfiducial": (20.0, 20_000.0),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_bundles_are_what_their_names_say(name):
    path, sha256 = catalogue.find(name)
    bundle = read_bundle(path, sha256=sha256).bundle
    assert bundle.name == name
    assert bundle.region in name
    assert bundle.task == ("energy" if name.startswith("energy") else "classifier")
    assert tuple(bundle.energy_range_gev) == NETWORKS[name]
    assert bundle.synthetic
    assert len(bundle.training_hash) == 64
    if bundle.task == "classifier":
        assert bundle.metrics["val_auc"] > 0.9998
        assert bundle.metrics["parity"] < 1e-4


def test_the_zoo_is_small_and_nothing_lies_beside_the_index():
    files = [p for p in ZOO.iterdir() if p.suffix in {".onnx", ".json"} and p.name != "index.json"]
    assert sum(p.stat().st_size for p in files) < 20e6
    assert (
        {p.stem for p in files}
        == set(catalogue.names())
        == {*NETWORKS, "omega_fiducial", "omega_topfiducial"}
    )


def test_the_shipped_card_finds_its_models():
    models = card_models(read_card(ROOT / "cre/cards/omega.yaml"))
    assert list(models.members) == ["fiducial"]
    assert not models.energy
    models = card_models(read_card(ROOT / "cre/cards/topfiducial.yaml"))
    assert list(models.members) == ["topfiducial"]
    assert [len(models.members["topfiducial"][n]) for n in ("dnn", "cnn", "hamf")] == [1, 1, 2]
    assert models.energy["topfiducial"].ref.bundle.name == "energy_topfiducial"
    assert [m["member"] for m in models.to_list()] == [
        "dnn", "cnn", "hamf", "hamf", "energy", "omega",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """Selected fiducial electrons and protons of 0.3-2 TeV with all shipped scores."""
    folder = tmp_path_factory.mktemp("zoo")
    common = {"min_deposit_gev": 100.0, "triggered_only": True, "outside_share": 0.02}
    electrons = Sample(
        "electron", seed=901, n_events=60_000, e_min_gev=300.0, e_max_gev=2000.0, **common
    )
    protons = Sample(
        "proton", seed=902, n_events=700_000, e_min_gev=300.0, e_max_gev=3000.0, **common
    )
    paths = [*simulate(electrons, folder), *simulate(protons, folder)]
    card = read_card(ROOT / "cre/cards/omega.yaml")
    models = card_models(card)
    scores, labels, attention = {n: [] for n in card.scores}, [], []
    hamf = models.members["fiducial"]["hamf"][0]
    for chunk in selected_events(paths, "fiducial", card.cuts):
        new = score_events(chunk.ntuple, chunk.rows, "fiducial", models, card.scores)
        for name, values in scores.items():
            values.append(new[name])
        labels.append(np.full(len(chunk.rows), chunk.kind == "electron"))
        inputs = features.build(
            chunk.ntuple,
            chunk.rows,
            [i.name for i in hamf.bundle.inputs],
            hamf.bundle.variables,
        )
        attention.append(run_bundle(hamf, inputs)["attention"])
    return (
        {n: np.concatenate(v) for n, v in scores.items()},
        np.concatenate(labels),
        np.concatenate(attention),
    )


def test_shipped_scores_separate_fresh_events(events):
    scores, electron, _ = events
    assert electron.sum() > 300
    assert (~electron).sum() > 200
    ones = np.ones(len(electron))
    for name in ("dnn", "cnn", "hamf", "omega"):
        assert auc(scores[name], electron, ones) > 0.999
    # the card's cut: efficiency above 0.98, rejection well above 100
    assert (scores["omega"][electron] > 5).mean() > 0.98
    assert (scores["omega"][~electron] > 5).mean() < 0.01


def test_attention_sums_to_one_and_uses_the_tracker(events):
    _, electron, attention = events
    assert attention.sum(axis=1) == pytest.approx(np.ones(len(attention)), abs=1e-5)
    assert 0.4 < attention[electron, 2].mean() < 0.8


def test_scored_copies_name_the_models_of_both_regions(tmp_path):
    sample = Sample("electron", seed=903, n_events=20_000, e_min_gev=300.0, e_max_gev=900.0)
    (path,) = simulate(sample, tmp_path)
    score.command.main([str(path), "-o", str(tmp_path / "out")], standalone_mode=False)
    with uproot.open(tmp_path / "out" / path.name) as file:
        (record,) = json.loads(str(file["cre_metadata"]))["scores"]
    omegas = [m["region"] for m in record["models"] if m["member"] == "omega"]
    assert omegas == ["fiducial", "topfiducial"]
    assert len(record["models"]) == 9
