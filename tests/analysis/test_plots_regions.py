"""Figures of the regions, of the energy reconstruction and of the scores: the numbers they are given are drawn."""

import math

import hist
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from analysis import plots
from analysis.acceptance import Acceptance
from analysis.background import Background
from analysis.compare import compare_to_spectrum
from analysis.efficiency import Efficiency
from analysis.exceptions import HistogramMismatchError
from analysis.flux import flux
from analysis.plots import PlotError
from analysis.plots.energies import axis_label
from analysis.plots.regions import (
    GEOMETRIC_M2SR,
    bgo_path_cut,
    geometry_lines,
    top_geometry_m2sr,
    total_acceptance,
)
from analysis.resolution import Resolution
from analysis.scoregain import ScoreBackground, gain
from analysis.selection import default_region

EDGES = np.array([100.0, 200.0, 400.0, 800.0])


@pytest.fixture
def drawn(monkeypatch):
    """Figures as they were when they were written; the PDF is not made."""
    seen = []
    write = Figure.savefig

    def savefig(self, path, **options):
        if options["format"] != "png":
            path.touch()
            return
        seen.append(self)
        write(self, path, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return seen


def texts(figure):
    return [t.get_text() for t in figure.findobj(mpl.text.Text) if t.get_text()]


def _label(container):
    """Empty for one without."""
    return container.get_label() if not container.get_label().startswith("_") else ""


def bars(ax):
    """Label of each errorbar to its x, y, lower and upper ends."""
    out = {}
    for c in ax.containers:
        if isinstance(c, ErrorbarContainer):
            line, _, collections = c
            ends = np.array([s[:, 1] for s in collections[-1].get_segments() if len(s)])
            out.setdefault(_label(c), (line.get_xdata(), line.get_ydata(), *ends.reshape(-1, 2).T))
    return out


def horizontal(ax):
    return {line.get_ydata()[0] for line in ax.lines if len(set(line.get_ydata())) == 1}


def an_acceptance(value, error, success=(True, True, True)):
    good = np.array(success)
    return Acceptance(
        e_min=EDGES[:-1],
        e_max=EDGES[1:],
        value=np.where(good, value, np.nan),
        error=np.where(good, error, np.nan),
        effective_counts=np.where(good, 100.0, 0.0),
        success=good,
    )


BOTH = {
    "fiducial": an_acceptance([0.25, 0.26, 0.27], 0.003),
    "topfiducial": an_acceptance([0.1, 0.3, 0.4], 0.004, (False, True, True)),
}


def test_geometry_is_that_of_straight_rays():
    # rays through the square at the top with an isotropic flux: cosine-weighted directions
    rng = np.random.default_rng(11)
    n = 400_000
    x, y = rng.uniform(-280.0, 280.0, (2, n))
    cosine, phi = np.sqrt(rng.random(n)), rng.uniform(0.0, 2 * np.pi, n)
    slope = np.sqrt(1 - cosine**2) / cosine
    sx, sy = slope * np.cos(phi), slope * np.sin(phi)
    inside = (np.abs(x + 402.0 * sx) < 280.0) & (np.abs(y + 402.0 * sy) < 280.0)
    whole = math.pi * 0.56**2
    error = whole * 0.5 / math.sqrt(n)
    assert whole * inside.mean() == pytest.approx(GEOMETRIC_M2SR["fiducial"], abs=4 * error)
    # the share of the depth that is BGO, 14 bars of 25 mm in 402 mm, in radiation lengths of 11.2 mm
    walls = [(301.25 * np.sign(s) - u) / s for s, u in ((sx, x), (sy, y))]
    depth = np.minimum(np.minimum(*walls), 402.0)
    path = depth / cosine * 350.0 / 402.0 / 11.2
    for least in (0.0, 10.0, 12.5, 15.0, 20.0, 25.0):
        found = whole * (~inside & (path >= least)).mean()
        assert found == pytest.approx(top_geometry_m2sr(least), abs=4 * error + 5e-4)
    with pytest.raises(PlotError, match="paths of 0 to 25 X0, not 30"):
        top_geometry_m2sr(30.0)


def test_sum_of_acceptances():
    total = total_acceptance(list(BOTH.values()))
    assert total.success.tolist() == [False, True, True]
    assert total.value[1:] == pytest.approx([0.56, 0.67])
    assert total.error[1:] == pytest.approx(0.005)
    assert total.effective_counts == pytest.approx([0.0, (0.56 / 0.005) ** 2, (0.67 / 0.005) ** 2])
    assert np.isnan(total.value[0])
    moved = Acceptance(
        EDGES[:-1] * 2, EDGES[1:] * 2, *(getattr(BOTH["fiducial"], n) for n in ("value", "error", "effective_counts", "success"))
    )  # fmt: skip
    with pytest.raises(HistogramMismatchError, match="same energy bins"):
        total_acceptance([BOTH["fiducial"], moved])
    with pytest.raises(HistogramMismatchError, match="same energy bins"):
        total_acceptance([])


def test_acceptance_of_both_regions(tmp_path, drawn):
    plots.plot_region_acceptance(BOTH, tmp_path / "a", synthetic=True, min_x0=15.0)
    (ax,) = drawn[0].axes
    found = bars(ax)
    assert found["fiducial"][1].tolist() == [0.25, 0.26, 0.27]
    assert found["top-fiducial"][1].tolist() == [0.3, 0.4]
    assert found["sum"][1] == pytest.approx([0.56, 0.67])
    assert found["sum"][2] == pytest.approx([0.555, 0.665])
    assert {0.2918, 0.693, 0.571, 0.484, 0.4, 0.319} <= horizontal(ax)
    words = texts(drawn[0])
    for word in (
        "DAMPE-like synthetic data",
        "fiducial cut alone, 0.2918 m² sr",
        "top-fiducial cut alone, 0.693 m² sr",
        "top-fiducial, 15 X$_0$ of BGO, 0.484 m² sr",
        "20 X$_0$",
        "True energy (GeV)",
    ):
        assert word in words
    assert "15 X$_0$" not in words
    plots.plot_region_acceptance({"fiducial": BOTH["fiducial"]}, tmp_path / "b", synthetic=False)
    assert not {"sum", "top-fiducial", "10 X$_0$", "DAMPE-like synthetic data"} & set(
        texts(drawn[1])
    )
    with pytest.raises(PlotError, match="no region"):
        plots.plot_region_acceptance({}, tmp_path / "c", synthetic=True)
    none = BOTH | {"topfiducial": an_acceptance(0.1, 0.1, (False,) * 3)}
    with pytest.raises(PlotError, match="'topfiducial' has no selected electron simulation"):
        plots.plot_region_acceptance(none, tmp_path / "c", synthetic=True)


def test_cut_and_region_of_a_card():
    meta = {
        "card": {"regions": ["topfiducial"], "cuts": [{"axis": {}}, {"bgo_path": {"min_x0": 20}}]}
    }
    assert bgo_path_cut(meta) == 20.0
    assert geometry_lines(["topfiducial"], meta) == {
        "top-fiducial cut alone, 0.693 m² sr": 0.693,
        "with 20 X$_0$ of BGO, 0.400 m² sr": pytest.approx(0.4),
    }
    assert geometry_lines(["fiducial"], meta) == {"fiducial cut alone, 0.2918 m² sr": 0.2918}
    assert default_region(meta) == "topfiducial"
    assert default_region({"card": {"regions": ["fiducial", "topfiducial"]}}) == "fiducial"
    for other in ({}, {"card": "old"}, {"card": {"cuts": ["axis", {"bgo_path": {}}]}}):
        assert default_region(other) == "fiducial"
        assert bgo_path_cut(other) is None


def a_table(n_data, **options):
    inputs = {
        "background_fraction": 0.02, "background_fraction_err": 0.005, "efficiency": 0.9,
        "efficiency_err": 0.01, "acceptance": 0.3, "acceptance_err": 0.0, "livetime_s": 1e6,
        "e_min": EDGES[:-1], "e_max": EDGES[1:],
    }  # fmt: skip
    return flux(n_data=n_data, **(inputs | options))


def test_fluxes_of_both_regions(tmp_path, drawn):
    tables = {"fiducial": a_table([400.0, 100.0, 0.0]), "topfiducial": a_table([440.0, 90.0, 5.0])}
    tables["fiducial"] = tables["fiducial"].with_systematic("energy", [1e-8] * 3, [2e-8] * 3)
    plots.plot_region_fluxes(tables, tmp_path / "f", synthetic=True)
    main, below = drawn[0].axes
    found = bars(main)
    for region, name, shift in (
        ("fiducial", "fiducial", 0.988),
        ("topfiducial", "top-fiducial", 1.012),
    ):
        t = tables[region]
        good = t.dnde > 0
        x, y, low, high = found[f"this analysis, {name}"]
        assert x == pytest.approx(shift * t.e_ref[good])
        assert y == pytest.approx((t.e_ref**3 * t.dnde)[good])
        assert low == pytest.approx((t.e_ref**3 * (t.dnde - t.dnde_errn))[good])
        assert high == pytest.approx((t.e_ref**3 * (t.dnde + t.dnde_errp))[good])
    words = texts(drawn[0])
    assert {
        "DAMPE 2017",
        "CALET 2023",
        "systematic errors, fiducial",
        "top-fiducial\n/ fiducial",
    } <= set(words)
    assert "systematic errors, top-fiducial" not in words
    one, two = tables.values()
    _, ratio, low, _ = bars(below)[""]
    assert ratio == pytest.approx(two.dnde[:2] / one.dnde[:2])
    relative = np.hypot(
        two.dnde_errn / two.dnde, one.dnde_errp / np.where(one.dnde > 0, one.dnde, 1)
    )[:2]
    assert low == pytest.approx(ratio * (1 - relative))
    chi2 = [w for w in words if w.startswith("χ²/dof")]
    up = ratio > 1
    other = np.hypot(two.dnde_errp / two.dnde, one.dnde_errn / np.where(one.dnde > 0, one.dnde, 1))[
        :2
    ]
    expected = (((ratio - 1) / (ratio * np.where(up, relative, other))) ** 2).sum()
    assert chi2 == [f"χ²/dof = {expected:.1f}/2 (statistical)"]


def test_fluxes_against_the_truth(tmp_path, drawn):
    tables = {"fiducial": a_table([400.0, 100.0, 9.0]), "topfiducial": a_table([440.0, 90.0, 5.0])}
    truth = tables["fiducial"].dnde
    comparisons = {r: compare_to_spectrum(t, truth) for r, t in tables.items()}
    e = np.geomspace(50.0, 1000.0, 40)
    plots.plot_region_fluxes(
        tables,
        tmp_path / "f",
        synthetic=True,
        published=[],
        curve=(e, e**-3),
        comparisons=comparisons,
    )
    main, _ = drawn[0].axes
    (line,) = [x for x in main.lines if x.get_label() == "injected"]
    assert line.get_ydata() == pytest.approx(1.0)
    assert (line.get_xdata().min(), line.get_xdata().max()) >= (100.0, 700.0)
    assert "Ratio to\ninjected" in texts(drawn[0])
    assert any("fiducial χ²/dof = 0.0/3, top-fiducial" in w for w in texts(drawn[0]))
    none = {
        "fiducial": tables["fiducial"],
        "topfiducial": a_table([1.0, 1.0, 1.0], efficiency=np.nan),
    }
    with pytest.raises(PlotError, match="flux table of region 'topfiducial'"):
        plots.plot_region_fluxes(none, tmp_path / "g", synthetic=True)
    other = tables | {"topfiducial": a_table([4.0, 4.0], e_min=EDGES[:2], e_max=EDGES[1:3])}
    with pytest.raises(PlotError, match="different energy bins"):
        plots.plot_region_fluxes(other, tmp_path / "g", synthetic=True, published=[])
    with pytest.raises(PlotError, match="give two flux tables"):
        plots.plot_region_fluxes(
            {"fiducial": tables["fiducial"]}, tmp_path / "g", synthetic=True, published=[]
        )
    assert not (tmp_path / "g.png").exists()


def a_resolution(estimator, **columns):
    names = ("bias", "bias_error", "half_68", "half_68_error", "half_68_least", "half_95", "half_95_error", "half_95_least")  # fmt: skip
    every = {n: np.full(3, 0.02) for n in names} | {k: np.array(v) for k, v in columns.items()}
    return Resolution("topfiducial", estimator, EDGES[:-1], EDGES[1:], np.full(3, 90.0), **every)


def test_energy_reconstruction(tmp_path, drawn):
    before = a_resolution(
        "e_corr", bias=[-0.1, -0.2, -1.0], bias_error=[0.01, 0.01, np.nan], half_68=[0.1, 0.2, np.inf],
        half_68_error=[0.01, 0.02, np.nan], half_68_least=[0.1, 0.2, 0.3],
    )  # fmt: skip
    after = a_resolution("cnn", bias=[0.001, np.nan, 0.002], half_95_error=[0.001, 0.002, np.inf])
    plots.plot_energy_reconstruction([before, after], tmp_path / "e", synthetic=True)
    top, bottom = drawn[0].axes
    centre = np.sqrt(EDGES[1:] * EDGES[:-1])
    x, y, low, high = bars(top)["corrected energy"]
    assert x == pytest.approx(centre[:2] * 2**-0.16)
    assert y == pytest.approx([-10.0, -20.0])
    assert (low[0], high[0]) == (pytest.approx(-11.0), pytest.approx(-9.0))
    assert bars(top)["CNN energy"][1] == pytest.approx([0.1, 0.2])
    found = bars(bottom)
    assert found["corrected energy, 68 %"][1] == pytest.approx([10.0, 20.0])
    assert found["CNN energy, 95 %"][1] == pytest.approx([2.0, 2.0, 2.0])
    limit = found[""]  # lower limit where the interval reaches beyond the axis
    assert limit[0] == pytest.approx(centre[2:] * 2**-0.16)
    assert limit[1] == pytest.approx([30.0])
    assert {"topfiducial", "True energy (GeV)", "DAMPE-like synthetic data"} <= set(texts(drawn[0]))
    plots.plot_energy_reconstruction([a_resolution("new one")], tmp_path / "n", synthetic=False)
    assert "new one, 68 %" in texts(drawn[1])
    empty = a_resolution("cnn", half_68=[np.nan] * 3)
    with pytest.raises(PlotError, match="enough simulated electrons"):
        plots.plot_energy_reconstruction([empty], tmp_path / "x", synthetic=True)


def a_background(name, protons, effective, weight=0.1):
    p, n = (np.array(x, np.float64)[:, None] for x in (protons, effective))
    return ScoreBackground(
        name, EDGES[:-1], EDGES[1:], np.array([0.9]), np.full(3, 50.0), np.full(3, 1000.0), p, n,
        np.full((3, 1), weight),
    )  # fmt: skip


def test_score_gain(tmp_path, drawn):
    narrow = {
        "omega": a_background("omega", [1.0, 0.0, 0.0], [10.0, 0.0, 0.0]),
        "zeta": a_background("zeta", [40.0, 30.0, np.nan], [400.0, 300.0, np.nan]),
        "cnn": a_background("cnn", [4.0, 2.0, 0.0], [40.0, 20.0, 0.0]),
    }
    plots.plot_score_gain(
        narrow, narrow, "omega", tmp_path / "s", synthetic=True, energy_label="CNN energy (GeV)"
    )
    share, fraction, ratio = drawn[0].axes
    assert bars(share)["CNN"][1] == pytest.approx([4e-3, 2e-3])
    assert bars(fraction)["CNN"][1] == pytest.approx([4 / 49, 2 / 47])
    assert bars(fraction)["Ω"][1] == pytest.approx([1 / 46])
    limits = [c for c in share.containers if isinstance(c, ErrorbarContainer) and c.lines[1]]
    assert limits[0][0].get_ydata() == pytest.approx([-math.log(0.05) * 0.1 / 1000] * 2)
    g = gain(narrow["omega"], narrow["cnn"])
    _, y, low, high = bars(ratio)["CNN"]
    assert y == pytest.approx([4.0])
    assert (low[0], high[0]) == (pytest.approx(g.lower[0, 0]), pytest.approx(g.upper[0, 0]))
    assert ratio.get_xlabel() == "CNN energy (GeV)"
    words = texts(drawn[0])
    assert f"CNN: > {g.lower[1, 0]:.2g}" in words
    assert "CNN: no proton left" in words
    assert not [w for w in words if w.startswith("ζ:")]
    assert "electron efficiency 90 %" in words
    with pytest.raises(PlotError, match="two scores"):
        plots.plot_score_gain(
            {"omega": narrow["omega"]}, narrow, "omega", tmp_path / "x", synthetic=True
        )


def test_background_fractions_of_all_sizes(tmp_path, drawn):
    nothing, one = np.zeros(3), np.ones(3)
    good = np.ones(3, bool)
    efficiency = Efficiency(
        EDGES[:-1],
        EDGES[1:],
        nothing,
        0.9 * one,
        0.01 * one,
        0.89 * one,
        0.91 * one,
        100 * one,
        good,
    )

    def background(fraction, error, limited, success=good):
        return Background(
            EDGES[:-1], EDGES[1:], nothing, (nothing, nothing), one, one, one, one, np.array(fraction),
            np.array(error), one, one, np.array(limited), success,
        )  # fmt: skip

    wide = background([0.01, 0.02, 0.0], [0.001, 0.002, 9.0], [False, False, True])
    common = {"synthetic": True, "energy_label": "CNN energy (GeV)"}
    plots.plot_efficiency_and_background(efficiency, wide, tmp_path / "w", **common)
    bottom = drawn[0].axes[1]
    assert bottom.get_xlabel() == "CNN energy (GeV)"
    low, high = bottom.get_ylim()
    assert 0.0 <= low < 0.01
    assert 0.022 < high < 9.0  # a limit that says nothing does not press the points together
    (marker,) = [line for line in bottom.lines if line.get_marker() == "^"]
    assert marker.get_xdata() == pytest.approx([np.sqrt(400.0 * 800.0)])
    large = background([0.01, 0.9, 0.0], [0.001, 0.1, 0.5], [False, False, True])
    plots.plot_efficiency_and_background(efficiency, large, tmp_path / "l", **common)
    assert drawn[1].axes[1].get_yscale() == "log"
    nan = np.full(3, np.nan)
    none = background(nan, nan, [False] * 3, ~good)
    plots.plot_efficiency_and_background(efficiency, none, tmp_path / "n", **common)
    assert "no data that fix the number of protons" in texts(drawn[2])


def test_labels_come_from_the_axis():
    assert (
        axis_label(hist.axis.Regular(2, 0, 1, name="energy", label="CNN energy (GeV)"))
        == "CNN energy (GeV)"
    )
    assert (
        axis_label(hist.axis.Regular(2, 0, 1, name="e", label="corrected energy (GeV)"))
        == "Corrected energy (GeV)"
    )
    assert axis_label(hist.axis.Regular(2, 0, 1, name="energy")) == "Energy"
