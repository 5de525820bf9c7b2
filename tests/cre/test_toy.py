import json
import sys

import numpy as np
import pytest

from analysis.fluxtable import read_flux_table
from analysis.histfile import load
from analysis.shapes.file import read_parametrisation
from analysis.toys.model import read_toy_model
from cre.commands import parametrise
from cre.main import main
from processors.spectrum import ELECTRON_2017


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["cre", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    out = capsys.readouterr()
    return caught.value.code, out.out, out.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("toy")


@pytest.fixture(scope="module")
def toy(folder):
    mp = pytest.MonkeyPatch()
    words = ["cre", "toy", "-o", str(folder / "t"), "--livetime-s", "2e7", "--shift", "0.5", "0.2"]
    words += ["--electron-events", "3000", "--proton-events", "3000", "--proton-bulk-weight", "5"]
    mp.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as caught:
        main()
    mp.undo()
    assert caught.value.code == 0
    return folder / "t"


def test_products_and_marks(toy, monkeypatch, capsys):
    content = load(toy / "histograms.json.gz")
    assert content.meta["synthetic"] is True
    assert content.meta["toy"]["shift"] == [0.5, 0.2]
    assert content.meta["injected"]["electron"] == ELECTRON_2017.to_dict()
    truth = json.loads((toy / "truth.json").read_text("utf-8"))
    assert truth["proton_shift"][27] == pytest.approx(0.5, abs=0.01)  # 1 TeV
    assert truth["toy"]["model"] == "synthetic_omega"
    record = json.loads((toy / "provenance.json").read_text("utf-8"))
    assert record["command"] == "toy"
    assert record["exit_code"] == 0
    assert len(record["outputs"]) == 4
    code, out, err = run(monkeypatch, capsys, "toy", "-o", toy)
    assert (code, out) == (1, "")
    assert "exists; choose another --output or give --overwrite" in err


@pytest.fixture(scope="module")
def top(folder):
    mp = pytest.MonkeyPatch()
    words = [
        "cre",
        "toy",
        "-o",
        str(folder / "top"),
        "--livetime-s",
        "2e7",
        "--shift",
        "1.2",
        "0.6",
    ]
    words += ["--electron-events", "3000", "--proton-events", "3000", "--proton-bulk-weight", "5"]
    mp.setattr(sys, "argv", [*words, "--model", "synthetic_omega_topfiducial"])
    with pytest.raises(SystemExit) as caught:
        main()
    mp.undo()
    assert caught.value.code == 0
    return folder / "top"


def test_topfiducial_toy_is_as_a_run_of_that_region(top, toy):
    content, other = (load(f / "histograms.pkl") for f in (top, toy))
    meta = content.meta
    assert meta["only_regions"] == ["topfiducial"]
    assert meta["energy"]["topfiducial"]["model"] == "energy_topfiducial"
    assert meta["energy"]["topfiducial"].keys() == {"model", "sha256", "max_sigma"}
    assert not other.meta["energy"]
    for name in ("score", "response", "cutflow"):
        assert content.hists[name].axes["energy"].label == "CNN energy (GeV)"
        assert other.hists[name].axes["energy"].label == "corrected energy (GeV)"
    # what a combination of two regions compares
    for key in ("livetime_s", "inputs", "target_spectrum", "injected", "bgo_reconstruction"):
        assert meta[key] == other.meta[key]
    assert meta["livetime_s"] == 2e7
    assert (
        content.hists["score"].axes["energy"].edges == other.hists["score"].axes["energy"].edges
    ).all()
    model = read_toy_model("synthetic_omega_topfiducial")
    data = content.hists["score"]["data", "topfiducial", "new", "pass", :, sum].values()
    assert (data[model.energy_edges[:-1] < model.least_gev] == 0).all()
    # simulated beyond the ends of the axis, for what migrates
    sample = meta["generated"]["electron"][0]
    assert sample["e_max_gev"] == pytest.approx(1.9 * model.energy_edges[-1])
    truth = json.loads((top / "truth.json").read_text("utf-8"))
    assert truth["toy"]["model"] == "synthetic_omega_topfiducial"
    assert truth["proton_shift"][27] == pytest.approx(1.2, abs=0.02)


def test_flux_of_a_topfiducial_toy(top, monkeypatch, capsys):
    arguments = ["flux", top / "histograms.pkl", "-o", top / "flux", "--region", "topfiducial"]
    code, out, err = run(monkeypatch, capsys, *arguments)
    assert code == 0, err
    assert "migration: folding" in out
    table = read_flux_table(top / "flux.ecsv")
    model = read_toy_model("synthetic_omega_topfiducial")
    many = model.energy_edges[:-1] >= model.least_gev
    assert (table.success == many).all()
    assert table.meta["flux"]["migration"]["valid"] is True
    truth = ELECTRON_2017.integral(table.e_min, table.e_max) / (table.e_max - table.e_min)
    error = np.hypot(0.5 * (table.dnde_errn + table.dnde_errp), table.systematics["acceptance"][0])
    pull = ((table.dnde - truth) / error)[many & (table.n_data > 20)]
    assert np.abs(pull).max() < 4.0
    assert pull.std() == pytest.approx(1.0, abs=0.5)
    s0, s1 = (table.meta["flux"]["fit"]["coefficients"][k] for k in ("s0", "s1"))
    assert abs(s0[0] - 1.2) < 4 * s0[1]
    assert abs(s1[0] - 0.6) < 4 * s1[1]


def test_same_seed_same_files(toy, folder, monkeypatch, capsys):
    arguments = ["--livetime-s", "2e7", "--shift", "0.5", "0.2", "--electron-events", "3000"]
    arguments += ["--proton-events", "3000", "--proton-bulk-weight", "5"]
    code, out, _ = run(monkeypatch, capsys, "toy", "-o", folder / "again", *arguments)
    assert code == 0
    assert out.startswith("TOY of the model synthetic_omega, not data of the experiment")
    for name in ("histograms.pkl", "histograms.json.gz", "truth.json"):
        assert (folder / "again" / name).read_bytes() == (toy / name).read_bytes()
    run(monkeypatch, capsys, "toy", "-o", folder / "other", *arguments, "--seed", "2")
    other = load(folder / "other" / "histograms.pkl").hists["score"]
    assert (other.values() != load(toy / "histograms.pkl").hists["score"].values()).any()


def test_printed_counts_are_those_of_the_file(folder, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "toy", "-o", folder / "n", "--livetime-s", "1e7")
    assert code == 0
    score = load(folder / "n" / "histograms.pkl").hists["score"]
    counts = score["data", "fiducial", "new", "pass", :, 5.0j::sum].values()
    printed = [float(line.split()[-4]) for line in out.splitlines()[2:-1]]
    assert printed == counts.tolist()


def test_flux_and_compare_read_a_toy(toy, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "flux", toy / "histograms.root", "-o", toy / "flux")
    assert code == 0
    assert "SYNTHETIC" in out
    table = read_flux_table(toy / "flux.ecsv")
    assert table.success.all()
    assert table.meta["toy"]["model"] == "synthetic_omega"
    code, out, _ = run(monkeypatch, capsys, "compare", toy / "flux.ecsv", "--injected")
    assert code == 0
    width = table.e_max - table.e_min
    truth = ELECTRON_2017.integral(table.e_min, table.e_max) / width
    error = np.hypot(0.5 * (table.dnde_errn + table.dnde_errp), table.systematics["acceptance"][0])
    assert np.abs((table.dnde - truth) / error)[:30].max() < 5.0
    assert (table.dnde / truth)[:10] == pytest.approx(1.0, abs=0.1)


def test_plot_reads_a_toy(toy, monkeypatch, capsys):
    # the figures of single bins are slow and have their own tests
    monkeypatch.setattr("analysis.plots.report.plot_score_bins", lambda *_a, **_k: [])
    monkeypatch.setattr("analysis.plots.report.plot_score_overview", lambda *_a, **_k: [])
    code, _, err = run(monkeypatch, capsys, "plot", toy / "histograms.pkl", "-o", toy / "figures")
    assert (code, err) == (0, "")
    assert (toy / "figures" / "cutflow_data.png").is_file()


def test_parametrise_a_toy(toy, folder, monkeypatch, capsys):
    options = folder / "options.yaml"
    options.write_text(
        "proton: {default_knots: 4}\nelectron: {left_breaks: 1, min_effective: 100}\n", "utf-8"
    )
    # pages of nine panels take seconds: those of the protons are left to the tests of the figures
    for name in ("plot_shapes", "plot_parameters"):
        draw = getattr(parametrise, name)
        monkeypatch.setattr(
            parametrise,
            name,
            lambda part, *a, _draw=draw, **k: (
                _draw(part, *a, **k) if part.kind == "electron" else []
            ),
        )
    arguments = ["--options", options, "--toy-model", folder / "model.json", "--source", "a toy"]
    code, out, err = run(
        monkeypatch,
        capsys,
        "parametrise",
        toy / "histograms.pkl",
        "-o",
        folder / "p.json",
        *arguments,
    )
    assert (code, err) == (0, "")
    assert "SYNTHETIC simulation" in out
    result = read_parametrisation(folder / "p.json")
    assert result.meta["toy"]["model"] == "synthetic_omega"
    for name in ("p_electron.png", "p_electron_parameters.pdf"):
        assert (folder / name).is_file()
    # efficiency of the cut: the shape that the toy was drawn from
    origin = read_toy_model("synthetic_omega")
    edges = (origin.energy_edges, origin.omega_edges)
    found, true = (
        p.template("electron", *edges).above(5.0).value for p in (result, origin.parametrisation)
    )
    assert found == pytest.approx(true, abs=0.006)
    model = read_toy_model(folder / "model.json")
    assert model.meta["source"] == "a toy"
    code, _, err = run(
        monkeypatch, capsys, "parametrise", toy / "histograms.pkl", "-o", folder / "p.json"
    )
    assert code == 1
    assert "--overwrite" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toy", "-o", "{d}", "--model", "mars"], "no toy model 'mars'"),
        (["toy", "-o", "{d}", "--width", "-1"], "width must be positive"),
        (["toy", "-o", "{d}", "--electron-events", "-5"], "electron events: one number >= 0"),
        (["toy", "-o", "{d}", "--spectrum", "{d}/no.yaml"], "no such file; give 'published'"),
        (["toy", "-o", "{d}", "--spectrum", "{bad}"], "not a spectrum"),
        (["parametrise", "{h}", "-o", "{d}.json", "--score", "hamf"], "no score 'hamf'"),
        (["parametrise", "{h}", "-o", "{d}.json", "--region", "topfiducial"], "0 energy bins have"),
        (
            ["parametrise", "{h}", "-o", "{d}.json", "--options", "{bad}"],
            "entries electron, proton",
        ),
        (["parametrise", "{h}", "-o", "{d}.json", "--options", "{worse}"], "not a YAML file"),
    ],
)
def test_bad_input(arguments, message, toy, folder, monkeypatch, capsys):
    (folder / "bad.yaml").write_text("[1, 2]\n", "utf-8")
    (folder / "worse.yaml").write_text("{a: [\n", "utf-8")
    places = {"d": folder / "bad", "h": toy / "histograms.pkl"}
    places |= {"bad": folder / "bad.yaml", "worse": folder / "worse.yaml"}
    code, out, err = run(monkeypatch, capsys, *(a.format(**places) for a in arguments))
    assert (code, out) == (1, "")
    assert message in err
    assert err.startswith("error: ")
    assert not (folder / "bad").exists()


def test_spectrum_from_a_file(folder, monkeypatch, capsys):
    text = "{type: power_law, norm: 1.0e-4, index: 3.0, e0_gev: 100.0}\n"
    (folder / "s.yaml").write_text(text, "utf-8")
    code, _, _ = run(
        monkeypatch, capsys, "toy", "-o", folder / "s", "--spectrum", folder / "s.yaml"
    )
    assert code == 0
    meta = load(folder / "s" / "histograms.pkl").meta
    assert meta["injected"]["electron"]["type"] == "power_law"
    truth = json.loads((folder / "s" / "truth.json").read_text("utf-8"))
    assert np.all(np.diff(truth["n_electron"][:37]) < 0)
