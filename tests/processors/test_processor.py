"""Scores of networks in the histograms, the edge axis, two reconstructions, calibrated events."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ntuples import sample_record, toy_events
from onnxmodels import image_sum, linear

from processors import run as r
from processors.bundle import read_bundle
from processors.calibration import Calibration
from processors.chain import make_cut
from processors.exceptions import MissingBranchError, ModelError
from processors.manifest import FileEntry, build
from processors.modelset import Models, load_models
from processors.omega import Logistic, Omega
from processors.processor import RunConfig, required_fields
from processors.showers import f_last
from processors.spectrum import ELECTRON_2017, PROTON_2026

MakeNtuple = Callable[..., Path]
CUTS = (
    make_cut("trigger"),
    make_cut("energy_range", {"min_gev": 100.0, "max_gev": 3000.0}),
    make_cut("edge"),
    make_cut("region"),
)


def config(files: list[FileEntry], models: Models, **change: Any) -> RunConfig:
    bgo = tuple(sorted({f.bgo_reconstruction for f in files}))
    options: dict[str, Any] = {
        "cuts": CUTS,
        "regions": ("fiducial", "topfiducial"),
        "score": "dnn",
        "models": models,
        "bgo": bgo,
        "generated": {
            b: {
                k: [
                    f.generated.model_dump()
                    for f in files
                    if f.kind == k and f.generated and f.bgo_reconstruction == b
                ]
                for k in ("electron", "proton")
            }
            for b in bgo
        },
        "target": {"electron": ELECTRON_2017.to_dict(), "proton": PROTON_2026.to_dict()},
    }
    return RunConfig(**(options | change))


def two_regions(folder: Path, **options: Any) -> Models:
    """dnn: -theta/10 in the fiducial region, theta/10 - 5 in the other; cnn: sum of the image; omega."""
    networks = {}
    for region, sign, bias in (("fiducial", -0.1, 0.0), ("topfiducial", 0.1, -5.0)):
        content = {"region": region}
        networks[region] = {
            "dnn": [
                (linear(folder / f"{region}_d.onnx", {"theta": sign}, bias, content=content), None)
            ],
            "cnn": [(image_sum(folder / f"{region}_c.onnx", 0.002, content=content), None)],
        }
    omegas = {}
    for region, sources in networks.items():
        hashes = {n: (read_bundle(s[0][0]).sha256,) for n, s in sources.items()}
        omega = Omega(
            region=region,
            members=hashes,
            synthetic=True,
            logistic=Logistic(
                energies_gev=(100.0,), bias=(0.5,), weights={"dnn": (1.0,), "cnn": (-2.0,)}
            ),
        )
        omegas[region] = (folder / f"omega_{region}.json", None)
        omegas[region][0].write_text(omega.model_dump_json())
    scores = options.pop("scores", ("dnn", "cnn", "omega"))
    return load_models(networks, omegas, scores=scores, **options)


@pytest.fixture
def data(make_ntuple: MakeNtuple) -> list[FileEntry]:
    def fail(branches: dict[str, Any]) -> None:
        branches["tt_selection_bits"][::5] &= ~8  # every fifth event fails the edge cut

    return build([str(make_ntuple("data", n=600, seed=1, change=fail))]).files


def masks() -> dict[str, np.ndarray]:
    """Plain numpy: the regions and the edge cut of the 600 data events."""
    events = toy_events(600, 1, kind="data")
    top, bottom = (
        (np.abs(events["intercept"] + events["slope"] * z) < 280).all(axis=1) for z in (46.0, 448.0)
    )
    e_corr = events["e_corr"].astype(np.float32)
    others = events["trigger"] & (e_corr >= 100) & (e_corr < 3000)
    return {
        "fiducial": others & top & bottom,
        "topfiducial": others & top & ~bottom,
        "edge": events["edge"] & (np.arange(600) % 5 > 0),
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_each_region_has_its_networks(data: list[FileEntry], tmp_path: Path, workers: int) -> None:
    run = config(data, two_regions(tmp_path), also=("omega", "cnn", "zeta"))
    result = r.execute(r.plan(data, 250), run, workers=workers)
    assert not result.missing
    hists = result.output["hists"]
    assert [n for n in hists if n.startswith("score")] == [
        "score",
        "score_omega",
        "score_cnn",
        "score_zeta",
    ]
    assert result.output["nonfinite"] == dict.fromkeys(("e_corr", "weight", *run.scores), 0)
    events, mask = toy_events(600, 1, kind="data"), masks()
    theta = np.degrees(np.arctan(np.hypot(*events["slope"].T)))
    cnn = 0.002 * events["e_raw"]
    for region, dnn in (("fiducial", -0.1 * theta), ("topfiducial", 0.1 * theta - 5.0)):
        for edge in ("pass", "fail"):
            chosen = mask[region] & (mask["edge"] == (edge == "pass"))
            assert chosen.sum() > 5, (region, edge)
            for name, values in (
                ("score", dnn), ("score_cnn", cnn), ("score_omega", 0.5 + dnn - 2 * cnn),
                ("score_zeta", -np.log10(events["zeta"])),
            ):  # fmt: skip
                h = hists[name]["data", region, "new", edge, :, :].project("omega")
                expected = np.histogram(values[chosen], bins=h.axes[0].edges)[0]
                # float32 against float64 may move a value on a bin edge
                assert np.abs(np.cumsum(h.values() - expected)).max() <= 1, (name, region, edge)
                assert h.sum(flow=True).value == chosen.sum()
    axis = hists["score"].axes["omega"]
    assert (axis.size, axis.edges[0], axis.edges[-1], axis.label) == (640, -40.0, 24.0, "dnn logit")
    assert [a.name for a in hists["score"].axes] == [
        "kind",
        "region",
        "bgo",
        "edge",
        "energy",
        "omega",
    ]
    # controls hold only events that pass the edge cut
    theta_hist = hists["control_theta"]["data", "fiducial", "new", :, :].sum(flow=True).value
    assert theta_hist == (mask["fiducial"] & mask["edge"]).sum()


def test_only_selected_events_are_scored(
    data: list[FileEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from processors import inference  # noqa: PLC0415

    seen: list[int] = []
    original = inference.run_bundle

    def count(ref: Any, inputs: Any, **options: Any) -> Any:
        seen.append(len(inputs["variables"]))
        return original(ref, inputs, **options)

    monkeypatch.setattr(inference, "run_bundle", count)
    run = config(data, two_regions(tmp_path, scores=["dnn"]))
    r.execute(r.plan(data, 10_000), run)
    mask = masks()
    assert seen == [mask["fiducial"].sum(), mask["topfiducial"].sum()]


def test_without_an_edge_cut_all_pass(data: list[FileEntry], tmp_path: Path) -> None:
    cuts = tuple(c for c in CUTS if c.name != "edge")
    run = config(data, two_regions(tmp_path, scores=["dnn"]), cuts=cuts)
    score = r.execute(r.plan(data, 10_000), run).output["hists"]["score"]
    mask = masks()
    assert (
        score["data", "fiducial", "new", "pass", :, :].sum(flow=True).value
        == mask["fiducial"].sum()
    )
    assert score["data", "fiducial", "new", "fail", :, :].sum(flow=True).value == 0
    both = (*CUTS, make_cut("edge_from_image"))
    score = r.execute(r.plan(data, 10_000), config(data, run.models, cuts=both)).output["hists"][
        "score"
    ]
    passing = score["data", "fiducial", "new", :, :, :].project("edge").values()
    good = (mask["fiducial"] & mask["edge"]).sum()
    assert list(passing) == [good, mask["fiducial"].sum() - good]


def test_two_reconstructions_are_kept_apart(make_ntuple: MakeNtuple, tmp_path: Path) -> None:
    def old(kind: str) -> dict[str, Any]:
        return sample_record(kind) | {"bgo_reconstruction": "old"}

    paths = [
        make_ntuple("data", n=300, seed=1),
        make_ntuple("electron", n=300, seed=2),
        make_ntuple("data", n=200, seed=3, record=old("data")),
        make_ntuple("electron", n=300, seed=4, record=old("electron")),
    ]
    files = build([str(p) for p in paths]).files
    models = two_regions(tmp_path, scores=["dnn"])
    together = r.execute(r.plan(files, 10_000), config(files, models)).output["hists"]
    for bgo in ("new", "old"):
        some = [f for f in files if f.bgo_reconstruction == bgo]
        alone = r.execute(r.plan(some, 10_000), config(some, models)).output["hists"]
        for name, h in alone.items():
            part = together[name][{"bgo": bgo}]
            np.testing.assert_allclose(part.values(flow=True), h[{"bgo": bgo}].values(flow=True))
        assert alone["score"].sum(flow=True).value > 50


def test_calibrated_simulation(make_ntuple: MakeNtuple, tmp_path: Path) -> None:
    nodes = [100.0, 1000.0]
    part = {
        "rms": {"energies_gev": nodes, "layers": [[4.0, 4.0]] * 14},
        "f_last": {"energies_gev": nodes, "steps": [10.0, 10.0]},
    }
    table = Calibration.model_validate(
        {"name": "toy", "synthetic": True, "electron": part, "proton": part}
    )
    paths = [make_ntuple("data", n=300, seed=1), make_ntuple("proton", n=300, seed=2)]
    files = build([str(p) for p in paths]).files
    network = linear(tmp_path / "rms.onnx", {"rms_4": 0.1})
    models = load_models({"fiducial": {"dnn": [(network, None)]}}, {}, scores=["dnn"])
    options = {"regions": ("fiducial",), "also": ("zeta",)}
    plain = config(files, models, **options)
    moved = config(files, models, **options, calibration=table.model_dump(mode="json"))
    one, two = (r.execute(r.plan(files, 10_000), c).output["hists"] for c in (plain, moved))

    def mean(h: Any, kind: str) -> float:
        part = h[{"kind": kind, "region": "fiducial", "bgo": "new"}]
        part = (
            part[{"edge": "pass"}].project("omega")
            if "edge" in part.axes.name
            else part.project("value")
        )
        return float(np.average(part.axes[0].centers, weights=part.values()))

    for name, shift in (("score", -0.4), ("control_sum_rms", -56.0), ("control_f_last", 0.430103)):
        assert mean(two[name], "data") == mean(one[name], "data")
        width = one[name].axes[-1].widths[0]
        assert mean(two[name], "proton") - mean(one[name], "proton") == pytest.approx(
            shift, abs=width / 2
        ), name
    events = toy_events(300, 2, kind="proton")
    zeta = (
        f_last(events["fraction"])
        * 10**0.430103
        * (events["rms"] - 4.0).clip(0).sum(axis=1) ** 4
        / 8e6
    )
    h = two["score_zeta"][
        {"kind": "proton", "region": "fiducial", "bgo": "new", "edge": "pass"}
    ].project("omega")
    low, high = -np.log10(zeta.max()), -np.log10(zeta.min())
    filled = h.axes[0].centers[h.values() > 0]
    assert low - 0.01 < filled.min() < filled.max() < high + 0.01
    needs = required_fields(moved, "proton", weighted=True)
    assert needs["layer_fraction"] == "score 'zeta'"
    assert "zeta" not in needs
    assert required_fields(moved, "data", weighted=False)["zeta"] == "score 'zeta'"


def test_nonfinite_scores_are_counted_by_name(make_ntuple: MakeNtuple, tmp_path: Path) -> None:
    def spoil(branches: dict[str, Any]) -> None:
        branches["tt_Rmsr"][:7] = np.nan
        branches["tt_selection_bits"][:7] = 0b1111

    path = make_ntuple("data", n=100, seed=3, change=spoil)
    files = build([str(path)]).files
    sources = {
        "dnn": [(linear(tmp_path / "a.onnx", {"rms_r": 1.0}), None)],
        "cnn": [(image_sum(tmp_path / "b.onnx", 1e-3), None)],
    }
    models = load_models({"fiducial": sources}, {}, scores=["dnn", "cnn"])
    fiducial = {"regions": ("fiducial",), "cuts": (make_cut("trigger"), make_cut("region"))}
    counts = {}
    for score, also in (("dnn", "cnn"), ("cnn", "dnn")):
        output = r.execute(
            r.plan(files, 1000), config(files, models, score=score, also=(also,), **fiducial)
        ).output
        counts[score] = output["nonfinite"]
        sums = {
            n: h.sum(flow=True).value for n, h in output["hists"].items() if n.startswith("score")
        }
        if score == "dnn":
            assert sums["score"] == sums["score_cnn"]
        else:
            assert sums["score"] == sums["score_dnn"] + counts[score]["dnn"]
    assert counts["dnn"] == counts["cnn"]
    assert 0 < counts["dnn"]["dnn"] <= 7
    assert counts["dnn"]["cnn"] == 0


def test_fields_of_networks_are_asked_for_before_the_run(
    make_ntuple: MakeNtuple, tmp_path: Path
) -> None:
    files = build([str(make_ntuple("data", drop=("tt_Rmsr",)))]).files
    model = linear(tmp_path / "a.onnx", {"rms_r": 1.0})
    models = load_models({"fiducial": {"dnn": [(model, None)]}}, {}, scores=["dnn"])
    with pytest.raises(MissingBranchError, match="'rms_r', which model 'toy' needs"):
        r.check_files(files, config(files, models, regions=("fiducial",)))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_changed_stops_the_run(
    data: list[FileEntry], tmp_path: Path, workers: int
) -> None:
    run = config(data, two_regions(tmp_path, scores=["dnn"]))
    linear(tmp_path / "fiducial_d.onnx", {"theta": 3.0})
    with pytest.raises(ModelError, match=r"fiducial_d\.onnx' has the sha256 .* the file changed"):
        r.execute(r.plan(data, 10_000), run, workers=workers)
