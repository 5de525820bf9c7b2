"""The score of simulated protons under other proton spectra, against the events it is filled from."""

import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest
import yaml
from coffea.processor import accumulate
from ntuples import sample_record, toy_events
from onnxmodels import linear

from analysis.histfile import load, save
from analysis.selection import project
from cre import card as cards
from processors import run as r
from processors.chain import make_cut
from processors.exceptions import SelectionError
from processors.manifest import FileEntry, build
from processors.modelset import Models, load_models
from processors.processor import RunConfig, empty_histograms
from processors.spectrum import ELECTRON_2017, PROTON_2026, Spectrum, parse

MakeNtuple = Callable[..., Path]
ROOT = Path(__file__).parents[2]
CUTS = (
    make_cut("trigger"),
    make_cut("energy_range", {"min_gev": 100.0, "max_gev": 3000.0}),
    make_cut("edge"),
    make_cut("region"),
)
#: Not in alphabetical order: the axis keeps the order of the card.
SPECTRA: dict[str, dict[str, Any]] = {
    "steep": {"type": "power_law", "norm": 8e-5, "index": 3.1, "e0_gev": 1000.0},
    "same": PROTON_2026.to_dict(),
    "flat": {"type": "power_law", "norm": 3e-6, "index": 0.0, "e0_gev": 1.0},
}


def config(files: list[FileEntry], **change: Any) -> RunConfig:
    bgo = tuple(dict.fromkeys(f.bgo_reconstruction for f in files))
    options: dict[str, Any] = {
        "cuts": CUTS,
        "regions": ("fiducial", "topfiducial"),
        "score": "zeta",
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
        "proton_spectra": SPECTRA,
    }
    return RunConfig(**(options | change))


@pytest.fixture
def files(make_ntuple: MakeNtuple) -> list[FileEntry]:
    paths = [
        make_ntuple("data", n=300, seed=1),
        make_ntuple("electron", n=300, seed=2),
        make_ntuple("proton", n=600, seed=3),
        make_ntuple("proton", n=0, seed=4),
    ]
    return build([str(p) for p in paths]).files


def hists_of(files: list[FileEntry], run: RunConfig, size: int = 10**6) -> dict[str, Any]:
    result = r.execute(r.plan(files, size), run)
    assert not result.missing
    hists: dict[str, Any] = result.output["hists"]
    return hists


def selected(events: dict[str, Any]) -> dict[str, np.ndarray]:
    """Region to the events that pass everything but the edge cut, in plain numpy."""
    top, bottom = (
        (np.abs(events["intercept"] + events["slope"] * z) < 280).all(axis=1) for z in (46.0, 448.0)
    )
    good = events["trigger"] & (events["e_corr"] >= 100) & (events["e_corr"] < 3000)
    return {"fiducial": good & top & bottom, "topfiducial": good & top & ~bottom}


def test_bins_equal_a_plain_loop(files: list[FileEntry]) -> None:
    h = hists_of(files, config(files))["score_spectra"]
    assert h.axes.name == ("spectrum", "region", "bgo", "edge", "energy", "omega")
    assert list(h.axes["spectrum"]) == ["steep", "same", "flat"]
    events = toy_events(600, 3, kind="proton")
    e = events["e_true"]
    # E^-1 between 50 and 5000 GeV on 2 pi 6 m2 sr, a million primaries in each of the two files
    per_flux = events["weight"] * 2 * math.pi * 6.0 * e * math.log(100.0) / 2e6
    fluxes = {"steep": 8e-5 * (e / 1000.0) ** -3.1, "flat": np.full(600, 3e-6)}
    filled = 0
    for region, inside in selected(events).items():
        for edge, passing in (("pass", events["edge"]), ("fail", ~events["edge"])):
            keep = inside & passing
            filled += keep.sum()
            for name, flux in fluxes.items():
                part = h[name, region, "new", edge, :, :]
                w = (per_flux * flux)[keep]
                where = (
                    events["e_corr"][keep].astype(np.float32),
                    -np.log10(events["zeta"][keep].astype(np.float32)),
                )
                for content, weights in ((part.values(), w), (part.variances(), w**2)):
                    expected = np.histogram2d(
                        *where, bins=[a.edges for a in part.axes], weights=weights
                    )[0]
                    np.testing.assert_allclose(content, expected, rtol=2e-6)
                assert part.sum(flow=True).value == pytest.approx(w.sum(), rel=1e-6)
    assert filled > 400


def under(hists: dict[str, Any], name: str) -> Any:
    """Content under a spectrum with the flow of energy and omega."""
    return hists["score_spectra"][{"spectrum": name}].view(flow=True)


def template(hists: dict[str, Any]) -> Any:
    """The same of the proton template; the flow of its categories is empty."""
    content = hists["score"][{"kind": "proton"}].view(flow=True)
    inside = content[tuple(slice(a.size) for a in hists["score_spectra"].axes[1:4])]
    assert inside.value.sum() == content.value.sum() > 0
    return inside


@pytest.mark.parametrize("change", [{}, {"target": {"proton": SPECTRA["steep"]}}])
def test_the_target_itself_gives_the_template(
    files: list[FileEntry], change: dict[str, Any]
) -> None:
    protons = [f for f in files if f.kind == "proton"]
    hists = hists_of(protons, config(protons, **change), 100)
    name = "steep" if change else "same"
    np.testing.assert_array_equal(under(hists, name), template(hists))
    assert not np.allclose(under(hists, "flat").value, template(hists).value)


def test_a_norm_scales_the_template(files: list[FileEntry]) -> None:
    double = PROTON_2026.to_dict() | {"norm": 2 * PROTON_2026.norm}
    hists = hists_of(files, config(files, proton_spectra={"double": double}))
    one, two = hists["score"][{"kind": "proton"}], hists["score_spectra"][{"spectrum": "double"}]
    np.testing.assert_allclose(two.values(), 2 * one.values(), rtol=1e-12)
    np.testing.assert_allclose(two.variances(), 4 * one.variances(), rtol=1e-12)


def test_without_spectra_nothing_changes(files: list[FileEntry]) -> None:
    plain = r.execute(r.plan(files, 200), config(files, proton_spectra={})).output
    more = r.execute(r.plan(files, 200), config(files)).output
    assert set(more["hists"]) - set(plain["hists"]) == {"score_spectra"}
    assert "score_spectra" not in empty_histograms(config(files, proton_spectra={}))
    for name, h in plain["hists"].items():
        assert h == more["hists"][name]
    for key in ("nonfinite", "events", "scored", "chunks"):
        assert more[key] == plain[key]


@pytest.mark.parametrize("workers", [1, 2])
def test_chunks_and_workers_give_the_same(files: list[FileEntry], workers: int) -> None:
    run = config(files)
    assert pickle.loads(pickle.dumps(run)) == run
    whole = hists_of(files, run)["score_spectra"]
    parts = r.execute(r.plan(files, 70), run, workers=workers)
    assert len(parts.processed) > 10
    h = parts.output["hists"]["score_spectra"]
    assert h.axes == whole.axes
    np.testing.assert_allclose(h.values(flow=True), whole.values(flow=True), rtol=1e-12)
    np.testing.assert_allclose(h.variances(flow=True), whole.variances(flow=True), rtol=1e-12)


def test_merging_keeps_the_spectra(files: list[FileEntry]) -> None:
    parts = [r.run_chunk(item, config(files)) for item in r.plan(files, 10**6)]
    one, other = accumulate(parts), accumulate(parts[::-1])
    for merged in (one, other):
        assert list(merged["hists"]["score_spectra"].axes[0]) == list(SPECTRA)
    assert one["hists"]["score_spectra"] == other["hists"]["score_spectra"]
    sums = [p["hists"]["score_spectra"].sum(flow=True).value for p in parts]
    assert [s > 0 for s in sums] == [False, False, True, False]


def test_reconstructions_are_kept_apart(make_ntuple: MakeNtuple) -> None:
    old = sample_record("proton") | {"bgo_reconstruction": "old"}
    paths = [make_ntuple("proton", seed=3), make_ntuple("proton", seed=4, record=old)]
    files = build([str(p) for p in paths]).files
    together = hists_of(files, config(files))["score_spectra"]
    for f in files:
        alone = hists_of([f], config([f]))["score_spectra"]
        part = together[{"bgo": f.bgo_reconstruction}]
        np.testing.assert_array_equal(part.values(), alone[{"bgo": 0}].values())
        assert part.sum().value > 0


def test_energies_outside_every_sample_weigh_nothing(make_ntuple: MakeNtuple) -> None:
    def spoil(branches: dict[str, Any]) -> None:
        branches["tt_ekin"][:5] = (1.0, 0.0, np.nan, -3.0, 1e9)  # MeV

    n = 300
    files = build([str(make_ntuple("proton", n=n, seed=3, change=spoil))]).files
    output = r.execute(r.plan(files, 10**6), config(files)).output
    assert output["nonfinite"]["weight"] == 5
    assert not [name for name in output["nonfinite"] if name.startswith("weight_")]
    h = output["hists"]["score_spectra"]
    assert np.isfinite(h.values(flow=True)).all()
    events = toy_events(n, 3, kind="proton")
    keep = selected(events)["fiducial"]
    assert keep[:5].any()
    keep[:5] = False
    per_flux = events["weight"] * 2 * math.pi * 6.0 * events["e_true"] * math.log(100.0) / 1e6
    total = h["flat", "fiducial", "new", :, :, :].sum(flow=True).value
    assert total == pytest.approx(3e-6 * per_flux[keep].sum(), rel=1e-6)


def test_weights_that_overflow_are_counted(files: list[FileEntry]) -> None:
    """A spectrum that no machine can hold does not pass for an empty one."""
    absurd = {"type": "power_law", "norm": 1e300, "index": 200.0, "e0_gev": 1e5}
    output = r.execute(
        r.plan(files, 10**6), config(files, proton_spectra={"absurd": absurd})
    ).output
    selected = output["hists"]["score"][{"kind": "proton"}].sum(flow=True).value
    assert selected > 0
    assert output["nonfinite"]["weight_absurd"] > 400
    assert output["nonfinite"]["weight"] == 0
    assert output["hists"]["score_spectra"].sum(flow=True).value == 0


def test_events_have_the_score_of_the_card(make_ntuple: MakeNtuple, tmp_path: Path) -> None:
    """Further scores get no spectra; a score that is not finite leaves the event out, as elsewhere."""

    def spoil(branches: dict[str, Any]) -> None:
        branches["tt_Rmsr"][:30] = np.nan

    files = build([str(make_ntuple("proton", seed=3, change=spoil))]).files
    models = networks(tmp_path, "dnn")
    run = config(files, regions=("fiducial",), score="dnn", also=("zeta",), models=models)
    hists = hists_of(files, run)
    axis = hists["score_spectra"].axes["omega"]
    assert axis == hists["score"].axes["omega"] != hists["score_zeta"].axes["omega"]
    np.testing.assert_array_equal(under(hists, "same"), template(hists))
    swapped = replace(run, score="zeta", also=("dnn",))
    fewer, all_ = (
        x["score_spectra"].sum(flow=True).value for x in (hists, hists_of(files, swapped))
    )
    assert 0 < fewer < all_


def networks(folder: Path, name: str) -> Models:
    file = linear(folder / f"{name}.onnx", {"rms_r": 0.1})
    return load_models({"fiducial": {name: [(file, None)]}}, {}, scores=[name])


def test_a_score_of_the_same_name_is_refused(files: list[FileEntry], tmp_path: Path) -> None:
    models = networks(tmp_path, "spectra")
    options = {"regions": ("fiducial",), "models": models}
    with pytest.raises(SelectionError, match=r"'spectra' and 'proton_spectra' would both fill"):
        config(files, also=("spectra",), **options)
    assert config(files, score="spectra", **options).scores == ("spectra",)  # it fills 'score'
    assert config(files, also=("spectra",), proton_spectra={}, **options).also == ("spectra",)


def test_files_hold_the_spectra(files: list[FileEntry], tmp_path: Path) -> None:
    hists = hists_of(files, config(files))
    meta = {"proton_spectra": SPECTRA, "score": {"name": "zeta"}, "bgo_reconstruction": "new"}
    for path in save(tmp_path / "histograms", hists, meta):
        content = load(path)
        assert content.hists["score_spectra"] == hists["score_spectra"], path
        assert content.meta["proton_spectra"] == SPECTRA
    plain, _ = project(hists, meta | {"by_bgo": {"new": {}}}, edge="off")
    kept: hist.Hist[Any] = plain["score_spectra"]
    assert [a.name for a in kept.axes] == ["spectrum", "region", "energy", "omega"]
    np.testing.assert_allclose(
        kept[{"spectrum": "same"}].values(), plain["score"][{"kind": "proton"}].values()
    )


@pytest.mark.parametrize("name", ["omega", "fiducial"])
def test_spectra_of_the_shipped_cards(name: str) -> None:
    """What the comment in the cards says, in numbers."""
    card = cards.read_card(ROOT / f"cre/cards/{name}.yaml")
    assert list(card.proton_spectra) == ["index_up", "index_down", "no_break"]
    e = np.geomspace(20.0, 2e5, 50)
    target = PROTON_2026.flux(e)
    assert parse(card.target["proton"]) == PROTON_2026
    for spectrum, change in (("index_up", 0.05), ("index_down", -0.05)):
        ratio = parse(card.proton_spectra[spectrum]).flux(e) / target
        np.testing.assert_allclose(ratio, (e / 1000.0) ** -change, rtol=1e-12)
    straight = parse(card.proton_spectra["no_break"])
    assert straight == Spectrum(straight.norm, 1000.0, (2.7,))
    assert straight.norm == pytest.approx(float(PROTON_2026.flux(1000.0)), rel=1e-6)


@pytest.mark.parametrize(
    ("spectra", "complaint"),
    [
        ({"a": SPECTRA["flat"] | {"break": 3.0}}, r"unknown keys \['break'\]"),
        ({"a": {"type": "power_law", "norm": 1.0}}, r"missing keys \['e0_gev', 'index'\]"),
        ({"a": {"type": "cubic"}}, "unknown spectrum type 'cubic'"),
        ({"a b": SPECTRA["flat"]}, "'a b' is no name for a spectrum"),
    ],
)
def test_wrong_spectra_are_a_sentence(
    tmp_path: Path, spectra: dict[str, Any], complaint: str
) -> None:
    content = yaml.safe_load((ROOT / "cre/cards/fiducial.yaml").read_text())
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump(content | {"proton_spectra": spectra}))
    with pytest.raises(cards.CardError, match=complaint):
        cards.read_card(path)
