from functools import partial

"""One choice of reconstruction, edge cut and score is taken out of a file, against numbers put in."""

import hist
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.cutflow import cutflow_table
from analysis.exceptions import AnalysisError, HistogramMismatchError
from analysis.measurement import flux_from_histograms as measured
from analysis.plots import PlotError, draw_run
from analysis.selection import chosen_bgo, project, selection_text, square_half_width

ENERGY = np.array([100.0, 200.0, 400.0])
WEIGHT = hist.storage.Weight()
LIVETIME = {"new": 1.0e5, "old": 2.0e5}
#: Electrons per second in the two energy bins, by reconstruction and edge category.
RATE = {
    ("new", "pass"): (0.3, 0.1),
    ("new", "fail"): (0.06, 0.05),
    ("old", "pass"): (0.2, 0.08),
    ("old", "fail"): (0.1, 0.02),
}
FLUX = np.array([2.0, 0.7])  # integral over the bins, m⁻² s⁻¹ sr⁻¹

flux_from_histograms = partial(measured, method="sideband", migration="none")


def booked(*axes, reconstructions, edge=True, kinds=("data", "electron", "proton")):
    extra = [hist.axis.StrCategory(list(reconstructions), name="bgo")]
    extra += [hist.axis.StrCategory(["pass", "fail"], name="edge")] if edge else []
    return hist.Hist(
        hist.axis.StrCategory(list(kinds), name="kind"),
        hist.axis.StrCategory(["fiducial", "topfiducial"], name="region"),
        *extra,
        *axes,
        storage=WEIGHT,
    )


def build(reconstructions=("new", "old")):
    """Data = electrons at 1 + protons at -1; protons twice the electrons, one simulated per weight."""
    energy = hist.axis.Variable(ENERGY, name="energy")
    omega = hist.axis.Regular(40, -2, 2, name="omega", label="Ω")
    score = booked(energy, omega, reconstructions=reconstructions)
    other = booked(
        energy, hist.axis.Regular(20, -10, 10, name="omega"), reconstructions=reconstructions
    )
    passed = booked(
        hist.axis.Variable(ENERGY, name="energy_true"),
        reconstructions=reconstructions,
        kinds=("electron", "proton"),
    )
    cut = hist.axis.StrCategory(["trigger", "edge"], name="cut")
    stat = hist.axis.StrCategory(["evaluated", "passed", "cumulative", "n_minus_1"], name="stat")
    cutflow = booked(cut, stat, energy, reconstructions=reconstructions, edge=False)
    for bgo in reconstructions:
        for edge in ("pass", "fail"):
            for e, rate in zip((150.0, 300.0), RATE[bgo, edge], strict=True):
                at = ("fiducial", bgo, edge, e)
                n = rate * LIVETIME[bgo]
                for h, factor in ((score, 1.0), (other, 5.0)):
                    h.fill("data", *at, 1.0 * factor, weight=n)
                    h.fill("data", *at, -1.0 * factor, weight=2 * n)
                    h.fill("electron", *at, 1.0 * factor, weight=rate)
                    h.fill("proton", *at, -1.0 * factor, weight=2 * rate)
                passed.fill("electron", *at, weight=rate)
        events = {"new": 3, "old": 4}[bgo]
        for kind in ("data", "electron", "proton"):
            for name in stat:
                for one in cut:
                    cutflow.fill(kind, "fiducial", bgo, one, name, [150.0] * events)
    meta = {
        "livetime_s": LIVETIME[reconstructions[0]],
        "by_bgo": {
            b: {"livetime_s": LIVETIME[b], "generated": {"electron": []}} for b in reconstructions
        },
        "bgo_reconstruction": list(reconstructions),
        "score": {"name": "omega", "cut": 0.5, "control": [-1.5, 0.5]},
        "target_flux_integral": {"electron": FLUX.tolist()},
        "complete": True,
    }
    hists = {"score": score, "score_hamf": other, "passed": passed, "cutflow": cutflow}
    return hists, meta


@pytest.mark.parametrize("bgo", ["new", "old"])
@pytest.mark.parametrize("edge", ["on", "off"])
def test_sums_livetime_and_flux_are_those_of_the_choice(bgo, edge):
    hists, meta = build()
    rate = np.array(RATE[bgo, "pass"]) + (edge == "off") * np.array(RATE[bgo, "fail"])
    plain, chosen = project(hists, meta, edge=edge, bgo=bgo)
    assert [a.name for a in plain["score"].axes] == ["kind", "region", "energy", "omega"]
    assert plain["score"].axes["omega"].label == "Ω"
    electrons = plain["score"]["electron", "fiducial", :, sum].values()
    assert electrons == pytest.approx(rate)
    assert [a.name for a in plain["passed"].axes] == ["kind", "region", "energy_true"]
    assert chosen["livetime_s"] == LIVETIME[bgo]
    assert chosen["bgo_reconstruction"] == bgo
    assert chosen["edge_cut"] == edge
    assert "by_bgo" not in chosen
    table = flux_from_histograms(hists, meta, edge=edge, bgo=bgo)
    assert table.livetime[0] == LIVETIME[bgo]
    assert table.n_data == pytest.approx(rate * LIVETIME[bgo])
    assert table.acceptance == pytest.approx(rate / FLUX)
    # acceptance and counts grow together: one flux for every choice
    assert table.dnde == pytest.approx(FLUX / np.diff(ENERGY))
    assert table.meta["flux"]["edge_cut"] == edge
    assert table.meta["flux"]["bgo_reconstruction"] == bgo
    assert table.meta["flux"]["score"] == "omega"
    assert table.meta["edge_cut"] == edge


def test_projected_twice_is_projected_once():
    plain, meta = project(*build())
    again, same = project(plain, meta)
    assert same == meta
    assert again["score"] == plain["score"]
    with pytest.raises(
        HistogramMismatchError, match="have the edge cut on; take 'off' from the file"
    ):
        project(plain, meta, edge="off")
    with pytest.raises(HistogramMismatchError, match="no BGO reconstruction 'old'; it has new"):
        project(plain, meta, bgo="old")


def test_the_only_reconstruction_or_new_is_taken():
    assert chosen_bgo(build(("old",))[0]) == "old"
    assert chosen_bgo(build(("old", "new"))[0]) == "new"
    assert chosen_bgo({}, None, "old") == "old"
    assert chosen_bgo({}) == "new"
    hists, _ = build(("old", "new"))
    axis = hist.axis.StrCategory(["a", "b"], name="bgo")
    odd = {"score": hist.Hist(axis, *hists["score"].axes[4:], storage=WEIGHT)}
    with pytest.raises(HistogramMismatchError, match="reconstructions a, b; say which"):
        chosen_bgo(odd)


def test_a_reconstruction_without_its_livetime_is_refused():
    hists, meta = build()
    del meta["by_bgo"]["old"]
    with pytest.raises(HistogramMismatchError, match=r"no livetime .* 'old'"):
        project(hists, meta, bgo="old")
    del meta["by_bgo"]
    with pytest.raises(HistogramMismatchError, match="no livetime"):
        project(hists, meta)


def test_another_score_needs_its_own_cut():
    hists, meta = build()
    plain, chosen = project(hists, meta, score="hamf")
    assert chosen["score"] == {"name": "hamf"}
    assert plain["score"].axes["omega"].size == 20
    with pytest.raises(AnalysisError, match="no cut and control region for the score 'hamf'"):
        flux_from_histograms(hists, meta, score_name="hamf", cut=2.0)
    table = flux_from_histograms(hists, meta, score_name="hamf", cut=2.0, control=(-9.0, 0.0))
    assert table.dnde == pytest.approx(FLUX / np.diff(ENERGY))
    assert table.meta["flux"]["score"] == "hamf"
    assert project(hists, meta, score="omega")[1]["score"] == meta["score"]
    with pytest.raises(HistogramMismatchError, match="no score 'cnn'; it has omega, hamf"):
        project(hists, meta, score="cnn")


def test_proton_spectra_belong_to_the_score_of_the_card():
    hists, meta = build()
    score = hists["score"]
    spectrum = hist.axis.StrCategory(["index_up", "no_break"], name="spectrum")
    spectra = hist.Hist(spectrum, *score.axes[1:], storage=WEIGHT)
    for edge, weight in (("pass", 3.0), ("fail", 0.5)):
        spectra.fill("no_break", "fiducial", "old", edge, 150.0, -1.0, weight=weight)
    hists = hists | {"score_spectra": spectra}
    meta = meta | {"proton_spectra": {"index_up": {}, "no_break": {}}}
    for edge, total in (("on", 3.0), ("off", 3.5)):
        plain, chosen = project(hists, meta, bgo="old", edge=edge)
        assert plain["score_spectra"].axes.name == ("spectrum", "region", "energy", "omega")
        assert plain["score_spectra"]["no_break", ...].sum().value == total
        assert plain["score_spectra"]["index_up", ...].sum().value == 0
        assert chosen["proton_spectra"] == meta["proton_spectra"]
    assert "score_spectra" in project(hists, meta, score="omega")[0]
    plain, chosen = project(hists, meta, score="hamf")
    assert "score_spectra" not in plain
    assert "proton_spectra" not in chosen
    assert "score_spectra" in hists
    assert project(plain, chosen, score="hamf")[1] == chosen
    with pytest.raises(HistogramMismatchError, match=r"no score 'spectra'; it has omega, hamf \("):
        project(hists, meta, score="spectra")
    # a network may have the name where no spectra were filled
    network = {n: h for n, h in hists.items() if n != "score_spectra"}
    network["score_spectra"] = hists["score_hamf"]
    assert project(network, meta, score="spectra")[0]["score"].axes["omega"].size == 20


def test_a_file_without_failed_events_cannot_switch_the_cut_off():
    hists, meta = build()
    score = hists["score"]
    only = [a for a in score.axes if a.name != "edge"]
    only.insert(3, hist.axis.StrCategory(["pass"], name="edge"))
    old = hists | {"score": hist.Hist(*only, storage=WEIGHT)}
    assert project(old, meta)[0]["score"].ndim == 4
    with pytest.raises(
        HistogramMismatchError, match="'score' holds only events that pass the edge"
    ):
        project(old, meta, edge="off")
    with pytest.raises(HistogramMismatchError, match="'on' or 'off', not 'maybe'"):
        project(hists, meta, edge="maybe")


def test_cut_flow_of_one_reconstruction():
    hists, _ = build()
    counts = {b: cutflow_table(hists["cutflow"], "data", "fiducial", b)[0] for b in ("new", "old")}
    assert counts["new"]["passed"] == 3.0
    assert counts["old"]["passed"] == 4.0
    assert cutflow_table(hists["cutflow"], "data", "fiducial") == cutflow_table(
        hists["cutflow"], "data", "fiducial", "new"
    )


def test_figures_say_what_was_chosen(tmp_path, monkeypatch):
    hists, meta = build()
    table = flux_from_histograms(hists, meta, edge="off", bgo="old")
    for other in ({"edge": "on"}, {"bgo": "new"}, {"score": "hamf"}):
        with pytest.raises(PlotError, match="the flux table has"):
            draw_run(hists, meta, tmp_path / "no", table=table, **other)
    with pytest.raises(PlotError, match="no cut for the score 'hamf'"):
        draw_run(hists, meta, tmp_path / "no", score="hamf")
    seen = []
    write = Figure.savefig

    def savefig(self, path, **options):
        seen.append(" | ".join(t.get_text() for t in self.findobj(Text) if t.get_text()))
        return write(self, path, **options) if options["format"] == "png" else path.touch()

    monkeypatch.setattr(Figure, "savefig", savefig)
    paths = draw_run(hists, meta, tmp_path / "yes", table=table)
    names = {p.stem for p in paths}
    assert {"scores", "bin_00_100_200_gev", "acceptance", "cutflow_data", "flux"} <= names
    titled = [text for text in seen if "fiducial, edge cut off, old BGO" in text]
    assert len(titled) >= 2 * 4  # overview, two bins, efficiency, flux
    assert any("this analysis, fiducial, edge cut off, old BGO" in text for text in seen)


@pytest.mark.parametrize(
    ("meta", "text"),
    [
        ({}, "fiducial"),
        ({"edge_cut": "on", "bgo_reconstruction": "new"}, "fiducial"),
        ({"edge_cut": "off", "bgo_reconstruction": "old"}, "fiducial, edge cut off, old BGO"),
    ],
)
def test_title(meta, text):
    assert selection_text("fiducial", meta) == text


def test_half_width_of_the_square_travels_with_the_flux():
    hists, meta = build()
    cuts = [
        {"trigger": {"kinds": ["data"]}},
        {"region": {"half_width_mm": 250.0, "kinds": ["data"]}},
    ]
    told = flux_from_histograms(hists, {**meta, "card": {"cuts": cuts}}, region="fiducial")
    assert told.meta["flux"]["half_width_mm"] == 250.0
    assert square_half_width({"card": {"cuts": [*cuts[:1], {"fiducial_bit": {}}]}}) is None
    assert square_half_width({"toy": {}}) is None
