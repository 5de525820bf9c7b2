"""Scores against independent sums, and every refusal of a set of models."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from ntuples import dmlntup_branches, toy_events
from onnxmodels import convolution, image_sum, linear

from processors import inference, modelset, showers
from processors.bundle import read_bundle
from processors.calibration import Calibration, calibrate_f_last, calibrate_rms
from processors.exceptions import ModelError
from processors.modelset import Models, Source, load_models
from processors.ntuple import Ntuple, load_aliases
from processors.omega import Logistic, Omega


class Branches(dict[str, Any]):
    @property
    def fields(self) -> list[str]:
        return list(self)

    def __len__(self) -> int:
        return len(next(iter(self.values())))


def chunk(n: int = 300, seed: int = 5, kind: str = "electron") -> Ntuple:
    branches = dmlntup_branches(toy_events(n, seed, kind=kind), kind=kind)
    return Ntuple(Branches({k: ak.Array(v) for k, v in branches.items()}), load_aliases("dmlntup"))


def files(*paths: Path) -> list[Source]:
    return [(p, None) for p in paths]


def load(networks: dict[str, Sequence[Source]], **options: Any) -> Models:
    return load_models({"fiducial": networks}, {}, **({"scores": list(networks)} | options))


def toy_calibration() -> Calibration:
    def species(offset: float, steps: float) -> dict[str, Any]:
        nodes = [100.0, 1000.0]
        return {
            "rms": {"energies_gev": nodes, "layers": [[offset, 0.0]] * 14},
            "f_last": {"energies_gev": nodes, "steps": [steps, 0.0]},
        }

    return Calibration.model_validate(
        {
            "name": "toy",
            "synthetic": True,
            "electron": species(2.0, 1.0),
            "proton": species(5.0, 3.0),
        }
    )


def test_batches_and_no_events(tmp_path: Path) -> None:
    ref = read_bundle(convolution(tmp_path / "c.onnx", 4))
    rng = np.random.default_rng(0)
    image = rng.random((1001, 14, 22), np.float32)
    whole = inference.run_bundle(ref, {"image": image}, batch=2000)["score"]
    parts = inference.run_bundle(ref, {"image": image, "unused": image}, batch=100)["score"]
    assert whole.shape == (1001,)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(parts, whole, rtol=1e-6)
    none = inference.run_bundle(ref, {"image": image[:0]})
    assert none["score"].shape == (0,)


def test_each_event_goes_to_the_model_of_its_energy(tmp_path: Path) -> None:
    low = linear(
        tmp_path / "low.onnx",
        {"theta": 1.0, "log_e_corr": 0.5},
        content={"energy_range_gev": [20, 400]},
    )
    high = linear(
        tmp_path / "high.onnx",
        {"log_e_corr": 2.0, "rms_3": 0.1},
        -3.0,
        content={"energy_range_gev": [400, 1500]},
    )
    total = image_sum(tmp_path / "sum.onnx", 0.01)
    models = load({"dnn": files(high, low), "cnn": files(total)})
    assert [r.bundle.energy_range_gev[0] for r in models.members["fiducial"]["dnn"]] == [20, 400]
    ntuple, events = chunk(), toy_events(300, 5)
    rows = np.flatnonzero(events["trigger"])
    scores = inference.score_events(ntuple, rows, "fiducial", models, ["cnn", "zeta", "dnn"])
    assert list(scores) == ["cnn", "zeta", "dnn"]
    energy = events["e_corr"].astype(np.float32).astype(float)
    log_e = np.log10(energy)
    theta = np.degrees(np.arctan(np.hypot(*events["slope"].T)))
    expected = np.where(
        energy < 400, theta + 0.5 * log_e, 2 * log_e + 0.1 * events["rms"][:, 3] - 3.0
    )
    expected[energy >= 1500] = np.nan
    assert np.isnan(expected[rows]).sum() > 10
    np.testing.assert_allclose(scores["dnn"], expected[rows], rtol=1e-5)
    np.testing.assert_allclose(scores["cnn"], 0.01 * events["e_raw"][rows], rtol=1e-5)
    np.testing.assert_allclose(scores["zeta"], -np.log10(events["zeta"][rows]), rtol=1e-5)
    assert scores["dnn"].dtype == np.float64
    empty = inference.score_events(ntuple, rows[:0], "fiducial", models, ["dnn", "zeta"])
    assert empty["dnn"].shape == empty["zeta"].shape == (0,)


def test_infinite_inputs_give_no_score(tmp_path: Path) -> None:
    # a network that clips its inputs would answer with a finite number
    branches = dmlntup_branches(toy_events(300, 5, kind="electron"), kind="electron")
    branches["tt_Rmsr"] = branches["tt_Rmsr"].copy()
    branches["tt_Rmsr"][::3] = np.inf
    branches["tt_Rmsr"][1::3] = np.nan
    ntuple = Ntuple(
        Branches({k: ak.Array(v) for k, v in branches.items()}), load_aliases("dmlntup")
    )
    with_it = linear(tmp_path / "a.onnx", {"theta": 1.0, "rms_r": 0.0})
    without = linear(tmp_path / "b.onnx", {"theta": 1.0})
    models = load({"dnn": files(with_it), "cnn": files(without)})
    scores = inference.score_events(ntuple, np.arange(300), "fiducial", models, ["dnn", "cnn"])
    assert np.isfinite(scores["cnn"]).all()
    assert (np.isfinite(scores["dnn"]) == (np.arange(300) % 3 == 2)).all()


def test_omega_and_its_networks(tmp_path: Path) -> None:
    paths = {
        "dnn": linear(tmp_path / "d.onnx", {"theta": 1.0}),
        "cnn": image_sum(tmp_path / "c.onnx", 0.1),
    }
    refs = {name: read_bundle(p) for name, p in paths.items()}
    omega = Omega(
        region="fiducial",
        members={name: (r.sha256,) for name, r in refs.items()},
        synthetic=True,
        logistic=Logistic(
            energies_gev=(100.0,), bias=(1.0,), weights={"dnn": (2.0,), "cnn": (-1.0,)}
        ),
    )
    (tmp_path / "omega.json").write_text(omega.model_dump_json())
    networks = {n: files(p) for n, p in paths.items()}
    models = load_models(
        {"fiducial": networks}, {"fiducial": (tmp_path / "omega.json", None)}, scores=["omega"]
    )
    assert pickle.loads(pickle.dumps(models)) == models
    ntuple, rows = chunk(), np.arange(10, 60)
    all_scores = inference.score_events(ntuple, rows, "fiducial", models, ["omega", "dnn", "cnn"])
    np.testing.assert_allclose(
        all_scores["omega"], 1.0 + 2 * all_scores["dnn"] - all_scores["cnn"], rtol=1e-12
    )
    alone = inference.score_events(ntuple, rows, "fiducial", models, ["omega"])
    np.testing.assert_array_equal(alone["omega"], all_scores["omega"])
    listed = models.to_list()
    assert [m["member"] for m in listed] == ["dnn", "cnn", "omega"]
    assert listed[0]["sha256"] == refs["dnn"].sha256

    (tmp_path / "other").mkdir()
    other = linear(tmp_path / "other/d.onnx", {"theta": 1.5})
    sources = (tmp_path / "omega.json", None)
    for change, complaint in (
        ({"dnn": files(other), "cnn": files(paths["cnn"])}, "fitted for other 'dnn' files"),
        ({"cnn": files(paths["cnn"])}, "need the network 'dnn', which the card does not name"),
    ):
        with pytest.raises(ModelError, match=complaint):
            load_models({"fiducial": change}, {"fiducial": sources}, scores=["omega"])
    with pytest.raises(ModelError, match="no strategy 'standardised'; they hold: logistic"):
        load_models(
            {"fiducial": networks}, {"fiducial": sources}, scores=["omega"], strategy="standardised"
        )
    with pytest.raises(ModelError, match="omega has no parameters for the fiducial region"):
        load(networks, scores=["omega"])
    moved = omega.model_copy(update={"region": "topfiducial"})
    (tmp_path / "omega.json").write_text(moved.model_dump_json())
    with pytest.raises(ModelError, match="are for the topfiducial region"):
        load_models({"fiducial": networks}, {"fiducial": sources}, scores=["omega"])


def test_calibrated_events(tmp_path: Path) -> None:
    path = linear(tmp_path / "a.onnx", {"rms_2": 1.0, "f_last": 100.0})
    models = load({"dnn": files(path)})
    ntuple, rows, table = chunk(kind="proton"), np.arange(0, 300, 3), toy_calibration()
    scores = inference.score_events(
        ntuple, rows, "fiducial", models, ["dnn", "zeta"], calibration=table, species="proton"
    )
    energy, rms = ntuple["e_corr"][rows], ntuple["layer_rms"][rows]
    moved = calibrate_rms(table, "proton", energy, rms)
    last = calibrate_f_last(table, "proton", energy, showers.f_last(ntuple["layer_fraction"][rows]))
    assert np.abs(moved - rms).max() > 1.0
    np.testing.assert_allclose(scores["dnn"], moved[:, 2] + 100 * last, rtol=1e-4)
    np.testing.assert_allclose(
        scores["zeta"], -np.log10(last * moved.astype(float).sum(axis=1) ** 4 / 8e6), rtol=1e-5
    )
    plain = inference.score_events(ntuple, rows, "fiducial", models, ["zeta"])
    assert np.abs(plain["zeta"] - scores["zeta"]).max() > 0.05


def test_fields_that_models_need(tmp_path: Path) -> None:
    models = load({"dnn": files(linear(tmp_path / "a.onnx", {"rms_2": 1.0, "theta": 1.0}))})
    needs = modelset.required_fields(models, "fiducial", ["dnn"], calibrated=False)
    assert needs["layer_rms"] == needs["slope_x"] == "model 'toy'"
    assert "zeta" not in needs
    needs = modelset.required_fields(models, "fiducial", ["zeta"], calibrated=True)
    assert set(needs) == {"layer_rms", "layer_fraction", "e_corr"}
    assert modelset.required_fields(Models(), "fiducial", ["zeta"], calibrated=False) == {
        "zeta": "score 'zeta'"
    }


def test_a_file_that_changed_is_not_opened(tmp_path: Path) -> None:
    path = linear(tmp_path / "a.onnx", {"theta": 1.0})
    models = load({"dnn": files(path)})
    linear(path, {"theta": 2.0})
    with pytest.raises(ModelError, match="the file changed or is damaged"):
        inference.score_events(chunk(5), np.arange(5), "fiducial", models, ["dnn"])
    path.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        inference.score_events(chunk(5), np.arange(5), "fiducial", models, ["dnn"])


def test_inputs_that_do_not_fit(tmp_path: Path) -> None:
    ref = read_bundle(linear(tmp_path / "a.onnx", {"theta": 1.0, "rms_l": 1.0}))
    for array in (np.ones((4, 3), np.float32), np.ones((4, 2))):
        with pytest.raises(ModelError, match="cannot take these inputs"):
            inference.run_bundle(ref, {"variables": array})
    with pytest.raises(ModelError, match="needs the input 'variables', got: image"):
        inference.run_bundle(ref, {"image": np.ones((4, 14, 22), np.float32)})
    with pytest.raises(ModelError, match=r"does not offer NoSuchProvider; available: .*CPU"):
        inference.run_bundle(
            ref, {"variables": np.ones((4, 2), np.float32)}, providers=["NoSuchProvider"]
        )


def test_sets_of_models_that_do_not_fit(tmp_path: Path) -> None:
    def model(name: str, **content: Any) -> Path:
        return linear(tmp_path / f"{name}.onnx", {"theta": 1.0}, content={"name": name, **content})

    low = model("low", energy_range_gev=[20, 1000])
    high = model("high", energy_range_gev=[1000, 20000])
    wide = model("wide", energy_range_gev=[900, 20000])
    hole = model("hole", energy_range_gev=[2000, 20000])
    top = model("top", region="topfiducial")
    with pytest.raises(ModelError, match=r"'dnn' of the fiducial region.* overlap in energy"):
        load({"dnn": files(low, wide)})
    with pytest.raises(
        ModelError, match=r"no model from 1000 GeV on .*cover 20-1000 GeV, 2000-20000"
    ):
        load({"dnn": files(low, hole)}, energy_range_gev=(20.0, 5000.0))
    with pytest.raises(ModelError, match="no model from 10 GeV on"):
        load({"dnn": files(low, high)}, energy_range_gev=(10.0, 5000.0))
    assert load({"dnn": files(low, high)}, energy_range_gev=(20.0, 20_000.0))
    # what no score uses may cover less
    assert load(
        {"dnn": files(low), "cnn": files(high)}, scores=["cnn"], energy_range_gev=(1e3, 2e3)
    )
    with pytest.raises(
        ModelError, match="is for the topfiducial region, the card gives it to fiducial"
    ):
        load({"dnn": files(top)})
    with pytest.raises(
        ModelError, match=r"'cnn' has no model for the fiducial region .there is: zeta, dnn"
    ):
        load({"dnn": files(low)}, scores=["cnn"])
    with pytest.raises(ModelError, match="has no file"):
        load({"dnn": []})
    for name in ("zeta", "omega", "a b"):
        with pytest.raises(ModelError, match="cannot be called"):
            load({name: files(low)})
    with pytest.raises(ModelError, match="does not offer NoSuchProvider"):
        load({"dnn": files(low)}, providers=("NoSuchProvider",))


def test_a_model_for_the_energy_is_no_score(tmp_path: Path) -> None:
    from onnx import helper  # noqa: PLC0415
    from onnxmodels import metadata, write  # noqa: PLC0415

    content = metadata(
        variables=["theta"], outputs={"log_ratio": [], "log_sigma": []}, task="energy"
    )
    path = write(
        tmp_path / "e.onnx",
        [
            helper.make_node("ReduceSum", ["variables", "axes"], ["log_ratio"], keepdims=0),
            helper.make_node("Abs", ["log_ratio"], ["log_sigma"]),
        ],
        {"axes": np.array([1])},
        {"variables": ["n", 1]},
        {"log_ratio": ["n"], "log_sigma": ["n"]},
        content,
    )
    with pytest.raises(ModelError, match="estimates the energy and separates no particles"):
        load({"dnn": files(path)})
    values = np.array([[-2.0], [3.0]], np.float32)
    out = inference.run_bundle(read_bundle(path), {"variables": values})
    np.testing.assert_array_equal(out["log_sigma"], [2.0, 3.0])
