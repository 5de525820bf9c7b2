"""``cre plot`` and ``cre regions`` on files of one region each, with the energies of a network."""

import sys

import hist
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.stats import norm

from analysis.flux import flux
from analysis.fluxtable import write_flux_table
from analysis.histfile import save
from cre.main import main
from processors.spectrum import ELECTRON_2017

EDGES = np.array([100.0, 200.0, 400.0, 800.0])
LABELS = {"fiducial": "corrected energy (GeV)", "topfiducial": "CNN energy (GeV)"}


def run_file(folder, region, *, data=True):
    """Histograms of a run of one region: 1000 electrons and 4000 protons per bin in one second."""
    kinds, both = ["data", "electron", "proton"], ["fiducial", "topfiducial"]
    energy = hist.axis.Variable(EDGES, name="energy", label=LABELS[region])
    true = hist.axis.Variable(EDGES, name="energy_true", label="true energy (GeV)")
    omega = hist.axis.Regular(80, -20, 20, name="omega", label="Ω (logit)")
    sigma = hist.axis.Regular(10, 0.0, 0.5, name="value", label="uncertainty of the CNN energy")
    ratio = hist.axis.Regular(400, -1.2, 0.8, name="ratio", label="ln(E / E_true)")

    def book(*axes, **categories):
        last = {"estimator": categories.pop("estimator")} if "estimator" in categories else {}
        names = {**categories, "region": both, "bgo": ["new"], **last}
        extra = [hist.axis.StrCategory(c, name=n) for n, c in names.items()]
        return hist.Hist(*extra, *axes, storage=hist.storage.Weight())

    hists = {n: book(energy, omega, kind=kinds) for n in ("score", "score_cnn", "score_hamf")}
    hists["passed"] = book(true, kind=kinds[1:])
    hists["control_energy_sigma"] = book(energy, sigma, kind=kinds)
    hists["energy_ratio"] = book(true, ratio, estimator=["e_corr", "cnn"])
    row = both.index(region)
    electrons, protons = 1000.0 * np.ones(3), 4000.0 * np.ones(3)
    for name, gap in (("score", 4.5), ("score_cnn", 3.5), ("score_hamf", 4.0)):
        shapes = [np.diff(norm.cdf(omega.edges, s * gap, 2.5)) for s in (1, -1)]
        parts = np.outer(electrons, shapes[0]), np.outer(protons, shapes[1])
        for kind, content in enumerate((np.round(sum(parts)), *parts)):
            view = hists[name].view(flow=True)[kind, row, 0]
            view["value"][1:-1, 1:-1] = content
            view["variance"][1:-1, 1:-1] = content / (50.0 if kind else 1.0)
        if not data:
            everything = hists[name].view(flow=True)
            everything["value"][0] = everything["variance"][0] = 0.0
    for kind in range(3):
        shape = np.where(np.arange(10) < 2, 100.0, 0.0)
        view = hists["control_energy_sigma"].view(flow=True)[kind, row, 0]
        view["value"][1:-1, 1:-1] = view["variance"][1:-1, 1:-1] = np.outer(np.ones(3), shape)
    for e, width in enumerate((0.1, 0.02)):
        view = hists["energy_ratio"].view(flow=True)[row, 0, e]
        counts = 5000.0 * np.diff(norm.cdf(ratio.edges, 0.0, width))
        view["value"][1:-1, 1:-1] = view["variance"][1:-1, 1:-1] = np.outer(np.ones(3), counts)
    integral = np.array([10.0, 5.0, 2.5])
    view = hists["passed"].view(flow=True)[0, row, 0]
    share = {"fiducial": 0.28, "topfiducial": 0.42}[region]
    view["value"][1:-1], view["variance"][1:-1] = share * integral, (0.01 * share * integral) ** 2
    cuts = [{"axis": {}}] + [{"bgo_path": {"min_x0": 15.0}}] * (region == "topfiducial")
    meta = {
        "synthetic": True,
        "livetime_s": 1.0,
        "card": {"regions": [region], "cuts": cuts},
        "score": {"name": "omega", "cut": 1.0, "control": [-20.0, -2.0]},
        "target_flux_integral": {"electron": integral.tolist()},
        "by_bgo": {"new": {"livetime_s": 1.0}},
    }
    save(folder / region, hists, meta)
    return folder / f"{region}.json.gz"


def flux_file(folder, region, *, injected=True, synthetic=True, toy=False):
    meta = {
        "flux": {"region": region},
        "synthetic": synthetic,
        "toy": {"seed": 1} if toy else False,
    }
    if injected:
        meta["injected"] = {"electron": ELECTRON_2017.to_dict()}
    table = flux(
        n_data=[500.0, 200.0, 50.0], background_fraction=0.05, background_fraction_err=0.01,
        efficiency=0.95, efficiency_err=0.01, acceptance=0.3, acceptance_err=0.0, livetime_s=3e5,
        e_min=EDGES[:-1], e_max=EDGES[1:], meta=meta,
    )  # fmt: skip
    name = f"{region}{'' if injected else '_data'}{'' if synthetic else '_real'}{'_toy' * toy}.ecsv"
    return write_flux_table(table, folder / name)


@pytest.fixture
def cre(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["cre", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


@pytest.fixture
def drawn(monkeypatch):
    """Texts of each figure by its name; the files stay empty, the figures have their own tests."""
    seen = {}

    def savefig(self, path, **_):
        seen[path.name.split(".")[1]] = [t.get_text() for t in self.findobj(Text) if t.get_text()]
        path.touch()

    monkeypatch.setattr(Figure, "savefig", savefig)
    return seen


def test_a_file_of_one_region_is_drawn_in_its_own_energy(cre, drawn, tmp_path):
    file = run_file(tmp_path, "topfiducial")
    code, out, err = cre("plot", file, "-o", tmp_path / "f")
    assert (code, err) == (0, "")
    assert f"wrote {len(list((tmp_path / 'f').rglob('*.*')))} files" in out
    assert {
        "scores",
        "bin_01_200_400_gev",
        "control_energy_sigma",
        "energy_reconstruction",
        "score_gain",
    } <= set(drawn)
    assert all("DAMPE-like synthetic data" in words for words in drawn.values())
    assert not [w for words in drawn.values() for w in words if "orrected energy (GeV)" in w]
    for name in ("efficiency_background", "score_gain"):
        assert "CNN energy (GeV)" in drawn[name]
    for name in ("scores", "bin_01_200_400_gev", "control_energy_sigma"):
        assert any(w.startswith("topfiducial, ") for w in drawn[name])
    assert "with 15 X$_0$ of BGO, 0.484 m² sr" in drawn["acceptance"]
    rows = (tmp_path / "f/energy_reconstruction.csv").read_text("utf-8").splitlines()
    assert rows[0] == "# DAMPE-like synthetic data"
    cnn = [r.split(",") for r in rows if r.startswith("topfiducial,cnn,200,400")]
    assert float(cnn[0][7]) == pytest.approx(np.sinh(0.02), rel=2e-3)
    table = [r.split(",") for r in (tmp_path / "f/score_gain.csv").read_text("utf-8").splitlines()]
    (row,) = [r for r in table if r[:4] == ["100", "800", "0.9", "cnn"]]
    cut = [gap + 2.5 * norm.isf(0.9) for gap in (4.5, 3.5)]
    better, other = (norm.sf(c, -g, 2.5) for c, g in zip(cut, (4.5, 3.5), strict=True))
    assert float(row[5]) == pytest.approx(other, rel=0.03)  # straight inside wide score bins
    assert float(row[11]) == pytest.approx(other / better, rel=0.03)
    # the other region has nothing
    code, _, err = cre("plot", file, "-o", tmp_path / "g", "--region", "fiducial")
    assert code == 1
    assert "no selected events in region 'fiducial'" in err


def test_simulation_alone_is_drawn_too(cre, drawn, tmp_path):
    file = run_file(tmp_path, "topfiducial", data=False)
    code, _, err = cre("plot", file, "-o", tmp_path / "f")
    assert (code, err) == (0, "")
    assert set(drawn) == {
        "efficiency_background",
        "acceptance",
        "energy_reconstruction",
        "score_gain",
    }
    assert "no data that fix the number of protons" in drawn["efficiency_background"]


def test_the_region_is_that_of_the_flux_table(cre, tmp_path):
    file = run_file(tmp_path, "topfiducial")
    table = flux_file(tmp_path, "fiducial")
    code, _, err = cre(
        "plot", file, "-o", tmp_path / "f", "--flux", table, "--region", "topfiducial"
    )
    assert code == 1
    assert "the flux table has region 'fiducial', asked for is 'topfiducial'" in err


def test_regions_beside_each_other(cre, drawn, tmp_path):
    files = [run_file(tmp_path, r) for r in ("fiducial", "topfiducial")]
    tables = [flux_file(tmp_path, r) for r in ("topfiducial", "fiducial")]
    code, out, err = cre("regions", *files, "--flux", *tables, "-o", tmp_path / "f")
    assert (code, err) == (0, "")
    assert "wrote 4 files" in out
    assert {"sum", "top-fiducial, 15 X$_0$ of BGO, 0.484 m² sr"} <= set(drawn["acceptance_regions"])
    assert {
        "injected",
        "this analysis, fiducial",
        "this analysis, top-fiducial",
        "Ratio to\ninjected",
    } <= set(drawn["flux_regions"])
    code, _, err = cre("regions", *files, "-o", tmp_path / "f")
    assert code == 1
    assert "acceptance_regions.png exists" in err
    measured = [flux_file(tmp_path, r, injected=False) for r in ("fiducial", "topfiducial")]
    code, _, err = cre("regions", *files, "--flux", *measured, "-o", tmp_path / "f", "--overwrite")
    assert (code, err) == (0, "")
    assert "top-fiducial\n/ fiducial" in drawn["flux_regions"]
    assert "injected" not in drawn["flux_regions"]
    assert not [words for words in drawn.values() if "toys" in words]
    toys = [flux_file(tmp_path, r, toy=True) for r in ("fiducial", "topfiducial")]
    assert cre("regions", *files, "--flux", *toys, "-o", tmp_path / "t")[0] == 0
    assert all("toys" in drawn[name] for name in ("acceptance_regions", "flux_regions"))


def test_regions_refuses_what_does_not_belong_together(cre, tmp_path):
    files = [run_file(tmp_path, r) for r in ("fiducial", "topfiducial")]
    table = flux_file(tmp_path, "fiducial")
    code, _, err = cre("regions", *files, "--flux", table, table, "-o", tmp_path / "f")
    assert code == 1
    assert "is a flux of region 'fiducial': give one table of each region" in err
    real = flux_file(tmp_path, "topfiducial", synthetic=False)
    code, _, err = cre("regions", *files, "--flux", table, real, "-o", tmp_path / "f")
    assert code == 1
    assert "some of the files are synthetic and some are not" in err
    code, _, err = cre("regions", files[0], "-o", tmp_path / "f")
    assert code == 1
    assert "region 'topfiducial' has no selected electron simulation" in err
    assert not (tmp_path / "f").exists()
