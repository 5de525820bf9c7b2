"""Scores, attention and energies of files against direct computation from their events."""

from pathlib import Path

import numpy as np
import pytest
from ntuples import toy_events
from onnx import helper
from onnxmodels import linear, metadata, write

from models.evaluation import EvaluationError
from models.holdout import score_holdout
from models.samples import SampleError
from processors.bundle import read_bundle
from processors.chain import make_cut
from processors.modelset import Models, load_models
from processors.spectrum import parse
from processors.weights import Generated, rate_weights

CUTS = (make_cut("trigger"), make_cut("energy_range", {"min_gev": 20.0, "max_gev": 20000.0}))
VARIABLES = ("log_e_corr", "log_zeta")


def fused(path: Path, **content: object) -> Path:
    """score = log zeta; attention = softmax of (log E, 0, 0)."""
    to_three = np.zeros((2, 3), np.float32)
    to_three[0, 0] = 1.0
    return write(
        path,
        [
            helper.make_node("MatMul", ["variables", "w"], ["column"]),
            helper.make_node("Squeeze", ["column", "axis"], ["score"]),
            helper.make_node("MatMul", ["variables", "three"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["attention"]),
        ],
        {"w": np.array([[0.0], [-1.0]], np.float32), "three": to_three, "axis": np.array([1])},
        {"variables": ["batch", 2]},
        {"score": ["batch"], "attention": ["batch", 3]},
        metadata(
            name="fused",
            variables=VARIABLES,
            outputs={"score": [], "attention": [3]},
            modalities=["variables", "image", "stk"],
            **content,
        ),
    )


def energy(path: Path) -> Path:
    """log_ratio = 0.05 log10 E, log_sigma = -0.05 log10 E; from 200 GeV on."""
    return write(
        path,
        [
            helper.make_node("MatMul", ["variables", "w"], ["column"]),
            helper.make_node("Squeeze", ["column", "axis"], ["log_ratio"]),
            helper.make_node("Neg", ["log_ratio"], ["log_sigma"]),
        ],
        {"w": np.array([[0.05], [0.0]], np.float32), "axis": np.array([1])},
        {"variables": ["batch", 2]},
        {"log_ratio": ["batch"], "log_sigma": ["batch"]},
        metadata(
            name="energy",
            task="energy",
            variables=VARIABLES,
            energy_range_gev=(200.0, 20_000.0),
            outputs={"log_ratio": [], "log_sigma": []},
        ),
    )


@pytest.fixture
def files(make_ntuple):
    return [
        make_ntuple(kind, n=400, seed=i) for i, kind in enumerate(("data", "electron", "proton"))
    ]


@pytest.fixture
def models(tmp_path):
    low = linear(tmp_path / "low.onnx", {"log_zeta": -3.0}, content={"energy_range_gev": [20, 300]})
    high = linear(
        tmp_path / "high.onnx",
        {"log_zeta": -3.0},
        1.0,
        content={"energy_range_gev": [300, 20000], "name": "high"},
    )
    members = {"dnn": [(low, None), (high, None)], "hamf": [(fused(tmp_path / "f.onnx"), None)]}
    return load_models({"fiducial": members}, {}, scores=("dnn", "hamf"))


def selected(kind, seed):
    events = toy_events(400, seed, kind=kind)
    rows = events["trigger"] & (events["e_corr"].astype(np.float32) >= 20)
    return {k: v[rows] for k, v in events.items()}


def test_every_column_is_that_of_the_events(files, models):
    target = {
        k: parse({"type": "power_law", "norm": 1e-4, "index": 3.0, "e0_gev": 100.0})
        for k in ("electron", "proton")
    }
    read = []
    sample = score_holdout(
        files, "fiducial", CUTS, models, ("zeta", "dnn", "hamf"),
        target=target, chunk_size=150, progress=read.append,
    )  # fmt: skip
    assert sum(read) == 1200
    both = [selected(kind, i) for i, kind in ((1, "electron"), (2, "proton"))]
    sizes = [len(e["zeta"]) for e in both]
    assert sample.electron.tolist() == [True] * sizes[0] + [False] * sizes[1]
    zeta = np.concatenate([e["zeta"] for e in both])
    corrected = np.concatenate([e["e_corr"] for e in both])
    assert sample.e_corr_gev == pytest.approx(corrected, rel=1e-6)
    assert sample.scores["zeta"] == pytest.approx(-np.log10(zeta), abs=1e-5)
    assert sample.scores["dnn"] == pytest.approx(-3 * np.log10(zeta) + (corrected >= 300), abs=1e-4)
    assert sample.scores["hamf"] == pytest.approx(-np.log10(zeta), abs=1e-5)
    weight = np.concatenate([e["weight"] for e in both])
    true = np.concatenate([e["e_true"] for e in both])
    assert sample.sampling.tolist() == weight.tolist()
    generated = [Generated(events=1_000_000, e_min_gev=50, e_max_gev=5000, radius_m=1.381976597885)]
    expected = rate_weights(true, weight, generated, target["electron"])
    assert sample.rate == pytest.approx(expected, rel=1e-4)
    data = selected("data", 0)
    assert sample.data["zeta"] == pytest.approx(-np.log10(data["zeta"]), abs=1e-5)
    assert sample.data_e_corr_gev.size == len(data["zeta"])
    assert sample.unscored == 0
    assert sample.energy is None


def test_attention_and_energy(files, models, tmp_path):
    ref = read_bundle(energy(tmp_path / "e.onnx"))
    sample = score_holdout(
        files, "fiducial", CUTS, models, ("zeta", "hamf"), energy_model=[ref], chunk_size=150
    )
    a = sample.attention
    assert a.modalities == ("variables", "image", "stk")
    assert a.weights.sum(axis=1) == pytest.approx(np.ones(len(a.weights)), abs=1e-6)
    first = np.exp(np.log10(a.e_corr_gev.astype(float)))
    assert a.weights[:, 0] == pytest.approx(first / (first + 2), abs=1e-5)
    assert a.electron.any()
    assert not a.electron.all()
    assert sample.rate is None  # no target was given
    e, events = sample.energy, selected("electron", 1)
    inside = events["e_corr"] >= 200  # electrons in the network's range only
    assert e.e_true_gev == pytest.approx(events["e_true"][inside], rel=1e-6)
    assert e.log_ratio == pytest.approx(0.05 * np.log10(e.e_corr_gev), abs=1e-6)
    assert e.log_sigma == pytest.approx(-e.log_ratio)
    assert e.leakage == pytest.approx(
        1 - events["e_raw"][inside] / events["e_true"][inside], abs=1e-5
    )


def test_events_outside_a_network_are_counted(files, tmp_path):
    part = linear(
        tmp_path / "part.onnx", {"log_zeta": -1.0}, content={"energy_range_gev": [20, 300]}
    )
    models = load_models({"fiducial": {"dnn": [(part, None)]}}, {}, scores=("dnn",))
    sample = score_holdout(files, "fiducial", CUTS, models, ("zeta", "dnn"))
    beyond = sum(
        (selected(k, i)["e_corr"] >= 300).sum()
        for i, k in enumerate(("data", "electron", "proton"))
    )
    assert sample.unscored == beyond > 0
    assert sample.e_corr_gev.max() < 300


def test_nan_is_no_score(files, tmp_path):
    bad = linear(tmp_path / "bad.onnx", {"log_zeta": float("nan")})
    models = load_models({"fiducial": {"dnn": [(bad, None)]}}, {}, scores=("dnn",))
    with pytest.raises(EvaluationError, match="'dnn' is NaN or infinite for"):
        score_holdout(files, "fiducial", CUTS, models, ("zeta", "dnn"))


def test_files_without_electrons_or_protons(make_ntuple, files):
    with pytest.raises(EvaluationError, match="no simulated event of the fiducial region"):
        score_holdout(files[:1], "fiducial", CUTS, Models(), ("zeta",))
    bare = make_ntuple("electron", n=20, seed=9, record=False)
    with pytest.raises(SampleError, match="does not say its kind"):
        score_holdout([bare], "fiducial", CUTS, Models(), ("zeta",))
    record = {"synthetic": True, "kind": "electron", "bgo_reconstruction": "new"}
    unknown = make_ntuple("electron", n=50, seed=10, name="u.root", record=record)
    target = {
        k: parse({"type": "power_law", "norm": 1.0, "index": 3.0, "e0_gev": 1.0})
        for k in ("electron", "proton")
    }
    sample = score_holdout(
        [unknown, files[2]], "fiducial", CUTS, Models(), ("zeta",), target=target
    )
    assert sample.rate is None  # it is not known how many were generated
