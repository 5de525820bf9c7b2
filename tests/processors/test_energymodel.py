"""A network that estimates the energies of a region: what is binned in it, its quality cut, what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ntuples import sample_record, toy_events
from onnxmodels import energy as energy_network
from onnxmodels import linear

from analysis.histfile import load
from processors import run as r
from processors.chain import make_cut
from processors.exceptions import ModelError
from processors.manifest import FileEntry, build
from processors.modelset import Models, load_models
from processors.processor import RunConfig, required_fields
from processors.spectrum import ELECTRON_2017, PROTON_2026

MakeNtuple = Callable[..., Path]
Cre = Callable[..., tuple[int, str, str]]
CUTS = (
    make_cut("trigger"),
    make_cut("energy_range", {"min_gev": 100.0, "max_gev": 3000.0}),
    make_cut("region"),
    make_cut("edge"),
)
#: ln(E/E_corr) and ln of the uncertainty + 5, per degree of zenith; the quality cut.
RATIO, SIGMA, MOST = 0.01, 0.05, 0.03
REGION = "topfiducial"


def networks(folder: Path, most: float | None = MOST, **content: Any) -> Models:
    top = {"region": REGION}
    score = linear(folder / "score.onnx", {"theta": 0.1}, -5.0, content=top)
    energy = energy_network(folder / "energy.onnx", RATIO, SIGMA, content=content)
    return load_models(
        {REGION: {"dnn": [(score, None)]}},
        {},
        scores=["dnn"],
        energy={REGION: ((energy, None), most)},
        energy_range_gev=(100.0, 3000.0),
    )


def configured(files: list[FileEntry], models: Models, **change: Any) -> RunConfig:
    generated = {
        k: [f.generated.model_dump() for f in files if f.kind == k and f.generated]
        for k in ("electron", "proton")
    }
    options: dict[str, Any] = {
        "cuts": CUTS,
        "regions": (REGION,),
        "score": "dnn",
        "models": models,
        "generated": {"new": generated},
        "target": {"electron": ELECTRON_2017.to_dict(), "proton": PROTON_2026.to_dict()},
    }
    return RunConfig(**(options | change))


@pytest.fixture
def files(make_ntuple: MakeNtuple) -> list[FileEntry]:
    def fail(branches: dict[str, Any]) -> None:
        branches["tt_selection_bits"][::5] &= ~8  # every fifth event fails the edge cut

    kinds = (("data", 1), ("electron", 2), ("proton", 3))
    return build([str(make_ntuple(k, n=900, seed=seed, change=fail)) for k, seed in kinds]).files


def selected(kind: str, seed: int) -> dict[str, np.ndarray]:
    """Plain numpy: energies, uncertainties and cuts of the events of one file."""
    events = toy_events(900, seed, kind=kind)
    top, bottom = (
        (np.abs(events["intercept"] + events["slope"] * z) < 280).all(axis=1) for z in (46.0, 448.0)
    )
    e_corr = events["e_corr"].astype(np.float32)
    theta = np.degrees(np.arctan(np.hypot(*events["slope"].T)))
    return {
        "chain": events["trigger"] & (e_corr >= 100) & (e_corr < 3000) & top & ~bottom,
        "edge": events["edge"] & (np.arange(900) % 5 > 0),
        "energy": e_corr * np.exp(RATIO * theta),
        "sigma": np.exp(SIGMA * theta - 5.0),
        "e_corr": e_corr,
        "e_true": events["e_true"],
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_everything_is_binned_in_the_energy_of_the_network(
    files: list[FileEntry], tmp_path: Path, workers: int
) -> None:
    result = r.execute(r.plan(files, 400), configured(files, networks(tmp_path)), workers=workers)
    assert not result.missing
    hists = result.output["hists"]
    assert hists["score"].axes["energy"].label == "CNN energy (GeV)"
    assert hists["cutflow"].axes["energy"].label == "corrected energy (GeV)"
    assert result.output["nonfinite"]["energy"] == 0
    e = selected("data", 1)
    good = e["chain"] & (e["sigma"] <= MOST)
    assert (e["chain"] & ~good).sum() > 30
    assert result.output["scored"]["energy"] >= e["chain"].sum()
    for edge in ("pass", "fail"):
        chosen = good & (e["edge"] == (edge == "pass"))
        h = hists["score"]["data", REGION, "new", edge, :, :].project("energy")
        expected = np.histogram(e["energy"][chosen], bins=h.axes[0].edges)[0]
        assert np.abs(np.cumsum(h.values() - expected)).max() <= 1, edge
        assert h.sum(flow=True).value == chosen.sum()
    control = hists["control_energy_sigma"]["data", REGION, "new", :, :].project("value")
    assert control.sum(flow=True).value == (good & e["edge"]).sum()
    mean = np.average(control.axes[0].centers, weights=control.values())
    assert mean == pytest.approx(e["sigma"][good & e["edge"]].mean(), abs=0.0025)


def test_quality_cut_in_the_cut_flow(files: list[FileEntry], tmp_path: Path) -> None:
    run = configured(files[:1], networks(tmp_path))
    flow = r.execute(r.plan(files[:1], 10_000), run).output["hists"]["cutflow"]
    assert list(flow.axes["cut"])[-2:] == ["edge", "energy_sigma"]
    e = selected("data", 1)
    sharp = e["sigma"] <= MOST

    def count(cut: str, stat: str) -> float:
        return float(flow["data", REGION, "new", cut, stat, :].sum(flow=True).value)

    assert count("energy_sigma", "evaluated") == e["chain"].sum()
    assert count("energy_sigma", "passed") == (e["chain"] & sharp).sum()
    assert count("energy_sigma", "cumulative") == (e["chain"] & e["edge"] & sharp).sum()
    assert count("energy_sigma", "n_minus_1") == (e["chain"] & e["edge"]).sum()
    assert count("edge", "n_minus_1") == (e["chain"] & sharp).sum()
    loose = configured(files[:1], networks(tmp_path, None))
    flow = r.execute(r.plan(files[:1], 10_000), loose).output["hists"]["cutflow"]
    assert count("energy_sigma", "passed") == e["chain"].sum()


def test_energies_before_and_after(files: list[FileEntry], tmp_path: Path) -> None:
    some = files[1:2]
    hists = r.execute(r.plan(some, 350), configured(some, networks(tmp_path))).output["hists"]
    ratio = hists["energy_ratio"]
    assert list(ratio.axes["estimator"]) == ["e_corr", "cnn"]
    e = selected("electron", 2)
    good = e["chain"] & (e["sigma"] <= MOST)
    # weights fall with the true energy: compare within the true-energy bins
    true = ratio.axes["energy_true"].index(e["e_true"])
    for name, values in (("e_corr", e["e_corr"]), ("cnn", e["energy"])):
        for edge, cut in (("pass", e["edge"]), ("fail", ~e["edge"])):
            h = ratio[REGION, "new", edge, name, :, :]
            assert h.sum(flow=True).value == pytest.approx(
                hists["response"]["electron", REGION, "new", edge, :, :].sum(flow=True).value
            )
            for i in set(true[good & cut].tolist()):
                rows, view = good & cut & (true == i), h[int(i), :]
                mean = np.average(view.axes[0].centers, weights=view.values())
                weight = (
                    e["e_true"][rows] ** -2.1
                )  # target over generated, nearly constant in a bin
                expected = np.average(np.log(values[rows] / e["e_true"][rows]), weights=weight)
                assert mean == pytest.approx(expected, abs=0.004), (name, edge, i)
    assert (good & e["edge"]).sum() > 20


def test_without_a_network_all_is_as_before(files: list[FileEntry], tmp_path: Path) -> None:
    models = networks(tmp_path)
    plain = Models(members=models.members, batch=models.batch)
    hists = r.execute(r.plan(files, 400), configured(files, plain)).output["hists"]
    assert hists["score"].axes["energy"].label == "corrected energy (GeV)"
    assert list(hists["energy_ratio"].axes["estimator"]) == ["e_corr"]
    assert "control_energy_sigma" not in hists
    assert "energy_sigma" not in list(hists["cutflow"].axes["cut"])
    # one region of two with a network
    both = configured(files, models, regions=("fiducial", REGION), score="zeta")
    hists = r.execute(r.plan(files, 400), both).output["hists"]
    assert hists["score"].axes["energy"].label == "corrected or CNN energy (GeV)"
    ratio = hists["energy_ratio"][{"bgo": "new", "edge": "pass"}].project("region", "estimator")
    assert ratio["fiducial", "cnn"].value == 0
    assert ratio["fiducial", "e_corr"].value > 0


def test_networks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is for the fiducial region, the card gives it to topfid"):
        networks(tmp_path, region="fiducial")
    with pytest.raises(
        ModelError, match=r"'energy' of the topfiducial region has no model from 500"
    ):
        networks(tmp_path, energy_range_gev=[20.0, 500.0])
    score = linear(tmp_path / "s.onnx", {"theta": 0.1}, content={"region": REGION})
    own = {REGION: {"dnn": [(score, None)]}}
    with pytest.raises(ModelError, match="estimates no energy; take an energy network"):
        load_models(own, {}, scores=["dnn"], energy={REGION: ((score, None), None)})
    energy = energy_network(tmp_path / "e.onnx", RATIO, SIGMA)
    with pytest.raises(ModelError, match="separates no particles; take a classifier"):
        load_models({REGION: {"dnn": [(energy, None)]}}, {}, scores=["dnn"])
    with pytest.raises(ModelError, match="a network cannot be called 'energy'"):
        load_models({REGION: {"energy": [(score, None)]}}, {}, scores=["energy"])


def test_fields_of_the_network_are_needed(files: list[FileEntry], tmp_path: Path) -> None:
    needs = required_fields(configured(files, networks(tmp_path)), "data", weighted=False)
    assert needs["slope_x"] == "cut 'region'"
    plain = configured(files, networks(tmp_path), cuts=CUTS[:1])
    needs = required_fields(plain, "data", weighted=False)
    assert needs["slope_x"] in {"model 'toy'", "cut 'region'"}


def test_nan_energies_stop_the_run(make_ntuple: MakeNtuple, tmp_path: Path) -> None:
    models = networks(tmp_path)
    narrow = models.energy[REGION].ref
    bundle = narrow.bundle.model_copy(update={"energy_range_gev": (100.0, 200.0)})
    cut_short = Models(
        members=models.members,
        energy={
            REGION: type(models.energy[REGION])(type(narrow)(narrow.path, narrow.sha256, bundle))
        },
    )
    files = build([str(make_ntuple("data", n=900, seed=1))]).files
    result = r.execute(r.plan(files, 10_000), configured(files, cut_short))
    e = selected("data", 1)
    outside = e["chain"] & (e["e_corr"] >= 200)
    assert result.output["nonfinite"]["energy"] >= outside.sum() > 10


def test_card_run_and_metadata(make_ntuple: MakeNtuple, cre: Cre, tmp_path: Path) -> None:
    kinds = (("data", 1), ("electron", 2), ("proton", 3))
    paths = [str(make_ntuple(k, n=900, seed=seed)) for k, seed in kinds]
    assert cre("manifest", *paths, "-o", tmp_path / "m.json")[0] == 0
    networks(tmp_path)
    target = {"electron": ELECTRON_2017.to_dict(), "proton": PROTON_2026.to_dict()}
    card: dict[str, Any] = {
        "name": "top",
        "manifest": "m.json",
        "output": "run",
        "regions": [REGION],
        "cuts": ["trigger", {"energy_range": {"min_gev": 100.0, "max_gev": 3000.0}}, "region"],
        "models": {REGION: {"dnn": "score.onnx"}},
        "energy": {REGION: {"model": "energy.onnx", "max_sigma": MOST}},
        "score": {"name": "dnn", "cut": 1.0, "control": [-40.0, -1.0]},
        "target": target,
    }
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump(card))
    code, _, err = cre("run", path)
    assert code == 0, err
    meta = load(tmp_path / "run/histograms.json.gz").meta
    assert meta["energy"][REGION]["model"] == "toy"
    assert meta["energy"][REGION]["max_sigma"] == MOST
    assert [m["member"] for m in meta["models"]] == ["dnn", "energy"]
    for change, complaint in (
        ({"energy": {REGION: {"model": "score.onnx"}}}, "estimates no energy"),
        ({"energy": {REGION: {"model": "energy.onnx", "max_sigma": 0.0}}}, "greater than 0"),
        ({"energy": {REGION: {"model": "none.onnx"}}}, "no model"),
    ):
        path.write_text(yaml.safe_dump(card | change))
        code, _, err = cre("run", path, "--overwrite")
        assert code == 1
        assert complaint in err


def test_skimmed_files_need_the_cut_above_the_skim(
    make_ntuple: MakeNtuple, cre: Cre, tmp_path: Path
) -> None:
    record = sample_record("data") | {"skim": {"complete_above_ecorr_gev": 120.0}}
    path = make_ntuple("data", n=50, seed=1, record=record)
    assert cre("manifest", path, "-o", tmp_path / "m.json")[0] == 0
    content = yaml.safe_load(
        (Path(__file__).parents[2] / "cre/cards/topfiducial.yaml").read_text("utf-8")
    )
    card = tmp_path / "card.yaml"
    card.write_text(yaml.safe_dump(content | {"manifest": "m.json"}))
    code, _, err = cre("run", card, "--dry-run")
    assert code == 1
    assert "complete from 120 GeV" in err
    content["cuts"][2] = {"energy_range": {"min_gev": 120.0, "max_gev": 20_000.0}}
    card.write_text(yaml.safe_dump(content | {"manifest": "m.json"}))
    assert "complete from" not in cre("run", card, "--dry-run")[2]
