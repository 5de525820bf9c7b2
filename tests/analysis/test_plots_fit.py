"""Figures of the template fit, the cut scan and the systematics show the numbers that they are given."""

import re
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from analysis.acceptance import Acceptance
from analysis.background import fitted_background, proton_background
from analysis.cutscan import choose_cuts, cut_index, scan_cuts
from analysis.cutstability import cut_systematic
from analysis.flux import flux
from analysis.plots.closure import plot_flux_bias, plot_pulls
from analysis.plots.cutscan import plot_cut_scan, plot_cut_stability
from analysis.plots.fit import (
    plot_background_methods,
    plot_postfit,
    plot_postfit_bins,
    plot_shift,
)
from analysis.plots.style import SYNTHETIC_LABEL, PlotError
from analysis.plots.systematics import plot_systematics, systematics_table
from analysis.plots.ticks import few_labels
from analysis.postfit import postfit
from analysis.postfit import pulls as pulls_of
from analysis.templatefit import FitSettings, fit_templates
from analysis.toys.draw import draw_data, draw_simulation, expectation, read_toy_model

CUT, CONTROL, LIVETIME = 5.0, (-40.0, -8.0), 2e8
SHIFT = (0.8, 0.4)


@pytest.fixture
def drawn(monkeypatch):
    """Figures as they were when they were written, in coarse pixels."""
    seen = []
    write = Figure.savefig

    def savefig(self, target, *args, **kwargs):
        if self not in seen:
            seen.append(self)
        return write(self, target, *args, dpi=40, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return seen


@pytest.fixture(scope="module")
def toy():
    model = read_toy_model("synthetic_omega")
    truth = expectation(model, model.target_flux_integral["electron"], LIVETIME, shift=SHIFT)
    rng = np.random.default_rng(4)
    data = draw_data(truth, rng)
    electrons, protons = draw_simulation(model, rng, electron_events=2e4, proton_events=2e4)
    result, single = (
        fit_templates(data, electrons, protons, FitSettings(method=m), cut=CUT)
        for m in ("simultaneous", "per_bin")
    )
    edges, a = model.energy_edges, model.acceptance
    area = Acceptance(edges[:-1], edges[1:], a, 0.01 * a, 0 * a + 1e4, a > 0)
    grid = np.arange(0.0, 14.0, 0.5)
    scan = scan_cuts(data, electrons, protons, grid, area, LIVETIME, result=result)
    return {
        "truth": truth, "data": data, "electrons": electrons, "protons": protons, "result": result,
        "single": single, "scan": scan, "fit": postfit(result, data, electrons, protons, merge=2),
    }  # fmt: skip


def texts(figure):
    return [t.get_text() for t in figure.findobj(mpl.text.Text) if t.get_text()]


def check(paths, figure, *, synthetic):
    assert [p.suffix for p in paths[:2]] == [".png", ".pdf"]
    assert all(p.stat().st_size > 1000 for p in paths)
    assert (SYNTHETIC_LABEL in texts(figure)) is synthetic
    inside = figure.bbox
    for legend in figure.findobj(mpl.legend.Legend):
        box = legend.get_window_extent()
        assert inside.x0 <= box.x0 < box.x1 <= inside.x1
        assert inside.y0 <= box.y0 < box.y1 <= inside.y1


def bars(ax, number=0):
    """Points and vertical error ends of an errorbar."""
    line, _, lines = [c for c in ax.containers if isinstance(c, ErrorbarContainer)][number]
    ends = np.array(lines[-1].get_segments())[:, :, 1]
    return line.get_xdata(), line.get_ydata(), ends[:, 0], ends[:, 1]


def steps(ax, label):
    return next(p for p in ax.findobj(StepPatch) if p.get_label() == label).get_data().values


def test_postfit_overview(tmp_path, drawn, toy):
    fit = toy["fit"]
    paths = plot_postfit(fit, tmp_path / "fit", cut=CUT, synthetic=True, score_label="Ω")
    (figure,) = drawn
    check(paths, figure, synthetic=True)
    mains, pulls = figure.axes[::2], figure.axes[1::2]
    assert len(mains) == len(pulls) == 9
    first = mains[0]
    parts = (fit.data, fit.protons, fit.unshifted, fit.electrons, fit.variance)
    data, protons, unshifted, electrons, variance = (x[0].reshape(80, 4).sum(axis=1) for x in parts)
    np.testing.assert_allclose(steps(first, "protons, fitted"), protons)
    np.testing.assert_allclose(steps(first, "protons, not shifted"), unshifted)
    np.testing.assert_allclose(steps(first, "electrons, fitted"), electrons)
    np.testing.assert_allclose(steps(first, "sum"), electrons + protons)
    _, y, low, high = bars(first)
    np.testing.assert_array_equal(y, data[data > 0])
    assert (low < y).all()
    assert (high > y).all()
    points = next(line for line in pulls[0].lines if len(line.get_xdata()) == 80)
    total = electrons + protons
    np.testing.assert_allclose(points.get_ydata(), pulls_of(data, total, variance))
    assert first.get_yscale() == "log"
    last = steps(mains[-1], "sum")  # a narrow peak keeps its bins
    assert last.size == 160
    assert any(t.startswith("s = 0.1") for t in texts(first))
    shown = [t for t in texts(figure) if "GeV" in t]
    assert shown[0] == "24.0–27.5 GeV"
    assert shown[-1] == "7943–10471 GeV"
    marked = [line for line in first.lines if line.get_label() == "cut"]
    assert marked[0].get_xdata()[0] == CUT


def test_postfit_page_per_bin(tmp_path, drawn, toy):
    fit = replace(toy["fit"], window=(np.full(41, -20.0), np.full(41, np.inf)))
    paths = plot_postfit_bins(fit, tmp_path, bins=[3, 30], synthetic=False)
    assert [p.name for p in paths[::2]] == ["fit_03_36_42_gev.png", "fit_30_1514_1738_gev.png"]
    check(paths, drawn[0], synthetic=False)
    assert "fiducial, 36.3–41.7 GeV" in texts(drawn[0])
    assert any(line.get_xdata()[0] == -20.0 for line in drawn[0].axes[0].lines)
    with pytest.raises(FileExistsError, match="overwrite"):
        plot_postfit_bins(fit, tmp_path, bins=[3], synthetic=False)
    with pytest.raises(PlotError, match="energy bin 41 has no fit"):
        plot_postfit_bins(fit, tmp_path, bins=[41], synthetic=False)
    with pytest.raises(PlotError, match="no energy bins were asked for"):
        plot_postfit(fit, tmp_path / "x", bins=[], synthetic=False)
    with pytest.raises(PlotError, match="no energy bin has a fit"):
        plot_postfit(replace(fit, success=np.zeros(41, bool)), tmp_path / "x", synthetic=False)


def test_shift(tmp_path, drawn, toy):
    result, single = toy["result"], toy["single"]
    energies = np.geomspace(20, 11000, 60)
    injected = (energies, SHIFT[0] + SHIFT[1] * np.log10(energies / 1000))
    paths = plot_shift(result, tmp_path / "s", single=single, injected=injected, synthetic=False)
    check(paths, drawn[0], synthetic=True)  # injected: it is simulated
    main, away, pulls = drawn[0].axes
    curve = next(line for line in main.lines if "68 %" in line.get_label())
    np.testing.assert_allclose(curve.get_ydata(), result.shift[0])
    band = main.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx((result.shift[0] + result.shift[1]).max())
    _, y, low, high = bars(main)
    np.testing.assert_allclose(y, single.shift[0])
    np.testing.assert_allclose((high - low) / 2, single.shift[1])
    e_ref = np.sqrt(result.e_min * result.e_max)
    true = next(line for line in away.lines if line.get_linestyle() == "--").get_ydata()
    wanted = SHIFT[0] + SHIFT[1] * np.log10(e_ref / 1000) - result.shift[0]
    np.testing.assert_allclose(true, wanted, atol=1e-9)
    pull = ((single.shift[0] - result.shift[0]) / single.shift[1])[np.newaxis]
    drawn_pull = next(line for line in pulls.lines if len(line.get_xdata()) == 41).get_ydata()
    inside = np.abs(pull[0]) <= 4
    np.testing.assert_allclose(drawn_pull[inside], pull[0][inside])
    assert "injected" in texts(drawn[0])


def test_shift_with_width_and_alone(tmp_path, drawn, toy):
    parts = toy["data"], toy["electrons"], toy["protons"]
    wide = fit_templates(*parts, FitSettings(width_order=0), cut=CUT)
    plot_shift(wide, tmp_path / "w", synthetic=True)
    labels = [ax.get_ylabel() for ax in drawn[0].axes]
    assert labels == ["Proton shift s", "Proton width w", "s − fit"]
    with pytest.raises(PlotError, match="that the energy bins share"):
        plot_shift(toy["single"], tmp_path / "x", synthetic=True)
    still = fit_templates(*parts, FitSettings(shift_order=None), cut=CUT)
    with pytest.raises(PlotError, match="that the energy bins share"):
        plot_shift(still, tmp_path / "x", synthetic=True)
    with pytest.raises(PlotError, match="other energy bins"):
        plot_shift(wide, tmp_path / "x", single=replace(wide, e_min=2 * wide.e_min), synthetic=True)
    with pytest.raises(PlotError, match="no energy bin has a fit"):
        plot_shift(replace(wide, success=np.zeros(41, bool)), tmp_path / "x", synthetic=True)


@pytest.fixture
def backgrounds(toy):
    cut = 9.0
    return (
        fitted_background(toy["result"], toy["data"], toy["protons"], cut),
        proton_background(toy["data"], toy["protons"], cut, CONTROL),
        toy["truth"].background_fraction(cut),
    )


def test_background_methods(tmp_path, drawn, backgrounds):
    fitted, sideband, truth = backgrounds
    limited = np.zeros(41, bool)
    limited[[5, 20]] = True
    fitted = replace(fitted, mc_limited=limited, fraction=np.where(limited, 0.0, fitted.fraction))
    paths = plot_background_methods(fitted, sideband, tmp_path / "b", truth=truth, synthetic=False)
    check(paths, drawn[0], synthetic=True)
    main, below = drawn[0].axes
    x, y, low, high = bars(main)
    good = fitted.success & ~limited & (fitted.fraction > 0)
    np.testing.assert_allclose(y, fitted.fraction[good])
    np.testing.assert_allclose((high - low) / 2, fitted.fraction_error[good])
    arrows = bars(main, 1)
    np.testing.assert_allclose(arrows[1], fitted.fraction_error[limited])
    assert np.abs(x / np.sqrt(fitted.e_min * fitted.e_max)[good] - 1).max() < 0.02
    line = next(line for line in main.lines if line.get_label() == "true")
    np.testing.assert_array_equal(line.get_ydata(), truth)
    pull = (fitted.fraction - truth) / fitted.fraction_error
    points = [line.get_ydata() for line in below.lines if len(line.get_xdata()) == 41]
    inside = np.abs(pull) <= 4
    np.testing.assert_allclose(points[0][inside], pull[inside])
    assert sum("no simulated proton" in t for t in texts(drawn[0])) == 1


def test_background_difference_without_truth(tmp_path, drawn, backgrounds):
    fitted, sideband, _ = backgrounds
    limited = np.arange(41) == 7
    fitted, sideband = (replace(b, mc_limited=b.mc_limited | limited) for b in (fitted, sideband))
    check(
        plot_background_methods(fitted, sideband, tmp_path / "b", synthetic=False),
        drawn[0],
        synthetic=False,
    )
    below = drawn[0].axes[1]
    errors = np.hypot(fitted.fraction_error, sideband.fraction_error)
    pull = (fitted.fraction - sideband.fraction) / errors
    points = next(line.get_ydata() for line in below.lines if len(line.get_xdata()) == 41)
    assert np.isnan(points[7])
    inside = (np.abs(pull) <= 4) & ~(fitted.mc_limited & sideband.mc_limited)
    np.testing.assert_allclose(points[inside], pull[inside])
    with pytest.raises(PlotError, match="different energy bins or cuts"):
        plot_background_methods(
            fitted, replace(sideband, cut=sideband.cut + 1), tmp_path / "x", synthetic=True
        )
    with pytest.raises(PlotError, match=r"one fraction per energy bin \(41\)"):
        plot_background_methods(fitted, sideband, tmp_path / "x", truth=[0.1], synthetic=True)
    none = replace(fitted, n_data=0 * fitted.n_data)
    with pytest.raises(PlotError, match="no energy bin has a background"):
        plot_background_methods(none, sideband, tmp_path / "x", synthetic=True)


EDGES = np.geomspace(100.0, 10000.0, 9)


def test_pulls(tmp_path, drawn):
    rng = np.random.default_rng(2)
    pulls = {"yield": rng.normal(0.2, 1.1, (300, 8)), "shift": rng.normal(0, 1, (300, 8))}
    pulls["yield"][:5, 2] = np.nan
    paths = plot_pulls(EDGES[:-1], EDGES[1:], pulls, tmp_path / "p")
    check(paths, drawn[0], synthetic=True)
    mean, width, cover = drawn[0].axes
    _, y, low, high = bars(mean)
    np.testing.assert_allclose(y, np.nanmean(pulls["yield"], axis=0))
    spread = np.nanstd(pulls["yield"], axis=0, ddof=1)
    number = np.array([300, 300, 295, *[300] * 5])
    np.testing.assert_allclose((high - low) / 2, spread / np.sqrt(number))
    _, y, low, high = bars(width, 1)
    np.testing.assert_allclose(y, pulls["shift"].std(axis=0, ddof=1))
    np.testing.assert_allclose((high - low) / 2, y / np.sqrt(2 * 299))
    share = [c[0].get_xdata()[0] for c in cover.containers]
    high_energy = pulls["yield"][:, EDGES[:-1] >= 1000 * (1 - 1e-9)]
    assert high_energy.shape[1] == 4
    assert share[:2] == pytest.approx([(np.abs(high_energy) < k).mean() for k in (1, 2)])
    assert [t.get_text() for t in cover.get_yticklabels()] == ["yield", "shift"]
    assert "300 toys" in texts(drawn[0])


def test_pulls_refused(tmp_path):
    good = np.zeros((3, 8))
    for pulls, match in (
        ({}, "one to 6 quantities"),
        ({"a": good[:1]}, "2 toys or more"),
        ({"a": good[:, :7]}, "8 energy bins"),
        ({"a": good * np.nan}, "above 1000 GeV is finite"),
    ):
        with pytest.raises(PlotError, match=match):
            plot_pulls(EDGES[:-1], EDGES[1:], pulls, tmp_path / "x")


def test_flux_bias(tmp_path, drawn):
    value, error = 1 + 0.01 * np.arange(8), np.full(8, 0.004)
    value[3] = np.nan
    ratios = {"fit": (np.ones(8), error), "shift ignored": (value, error)}
    paths = plot_flux_bias(EDGES[:-1], EDGES[1:], ratios, tmp_path / "b", title="20 toys")
    check(paths, drawn[0], synthetic=True)
    (ax,) = drawn[0].axes
    _, y, low, high = bars(ax, 1)
    np.testing.assert_array_equal(y, np.delete(value, 3))
    np.testing.assert_allclose((high - low) / 2, 0.004)
    assert ax.get_ylim()[1] > 1.074
    with pytest.raises(PlotError, match="one per energy bin"):
        plot_flux_bias(EDGES[:-1], EDGES[1:], {"a": ([1.0], [0.1])}, tmp_path / "x")
    with pytest.raises(PlotError, match="no ratio is finite"):
        plot_flux_bias(EDGES[:-1], EDGES[1:], {"a": (error * np.nan, error)}, tmp_path / "x")
    with pytest.raises(PlotError, match="one to 6 methods"):
        plot_flux_bias(EDGES[:-1], EDGES[1:], {}, tmp_path / "x")


def table(**meta):
    return flux(
        [400.0, 100.0, 0.0, 25.0], 0.0, 0.0, [1.0, 1.0, 1.0, np.nan], 0.0, 0.3, 0.003, 1e6,
        EDGES[:4], EDGES[1:5], meta=meta,
    )  # fmt: skip


def test_systematics_figure(tmp_path, drawn):
    one = table()
    both = one.with_systematic("energy_scale", 0.02 * one.dnde, 0.03 * one.dnde)
    paths = plot_systematics(one, tmp_path / "one", synthetic=False)
    check(paths, drawn[0], synthetic=False)
    check(plot_systematics(both, tmp_path / "two", synthetic=True), drawn[1], synthetic=True)
    (ax,) = drawn[0].axes
    np.testing.assert_allclose(steps(ax, "acceptance")[:2], 1.0)
    assert np.isnan(steps(ax, "acceptance")[2:]).all()
    mean = 50.0 * (one.dnde_errn + one.dnde_errp)[:2] / one.dnde[:2]
    np.testing.assert_allclose(steps(ax, "statistical")[:2], mean)
    up, down = drawn[1].axes
    np.testing.assert_allclose(steps(up, "energy scale")[:2], 3.0)
    np.testing.assert_allclose(steps(down, "energy scale")[:2], 2.0)
    np.testing.assert_allclose(steps(up, "all sources in quadrature")[:2], np.sqrt(10.0))
    np.testing.assert_allclose(
        steps(down, "statistical")[:2], 100 * both.dnde_errn[:2] / both.dnde[:2]
    )
    with pytest.raises(PlotError, match="no systematic errors"):
        plot_systematics(replace(one, systematics={}), tmp_path / "x", synthetic=True)
    with pytest.raises(PlotError, match="no bin has a positive flux"):
        plot_systematics(replace(one, dnde=0 * one.e_min), tmp_path / "x", synthetic=True)


def test_systematics_table():
    one = table()
    both = one.with_systematic("energy_scale", 0.02 * one.dnde, 0.03 * one.dnde)
    lines = systematics_table(both).splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    assert len({len(line) for line in lines}) == 1  # aligned
    assert cells[0] == [
        "E (GeV)",
        "statistical (%)",
        "acceptance (%)",
        "energy scale (%)",
        "all systematic (%)",
    ]
    assert set(lines[1]) == set("|-:")
    # Garwood: 400 −20.0 +21.0 and 100 −10.0 +11.0
    assert cells[2] == ["100.0–177.8", "−5.0 +5.3", "1.0", "−2.0 +3.0", "−2.2 +3.2"]
    assert cells[3][1] == "−10 +11"  # 9.98 rounds to two digits
    assert both.success.tolist()[2:] != [True, True]  # no line for a failed bin
    assert len(cells) == 2 + both.success.sum()
    assert cells[4][1:] == ["–"] * 4  # no counts, no relative error
    assert systematics_table(table(synthetic=True)).startswith("SYNTHETIC")
    zero = one.with_systematic("none", 0 * one.dnde, 0 * one.dnde)
    assert "|        0 |" in systematics_table(zero)


def test_cut_scan_figure(tmp_path, drawn, toy):
    scan = toy["scan"]
    chosen = choose_cuts(scan, "efficiency", efficiency=0.95)
    paths = plot_cut_scan(scan, tmp_path / "c", chosen=chosen, synthetic=True, score_label="Ω")
    check(paths, drawn[0], synthetic=True)
    axes = np.array(drawn[0].axes).reshape(4, 4)
    at = cut_index(scan, chosen)
    for column, i in enumerate((0, 13, 27, 40)):
        flux_, efficiency, background, error = axes[:, column]
        x, y, _, _ = bars(flux_)
        np.testing.assert_allclose(y, (scan.dnde[i] / scan.dnde[i, at[i]])[np.isin(scan.cuts, x)])
        np.testing.assert_allclose(bars(efficiency)[1], scan.efficiency[i])
        good = np.isfinite(scan.background_fraction[i]) & ~scan.mc_limited[i]
        np.testing.assert_allclose(bars(background)[1], scan.background_fraction[i][good])
        finite = np.isfinite(scan.expected_error[i])
        np.testing.assert_array_equal(
            error.lines[0].get_ydata()[finite], scan.expected_error[i][finite]
        )
        for ax in axes[:, column]:
            assert any(list(line.get_xdata()) == [chosen[i]] * 2 for line in ax.lines)
    check(
        plot_cut_scan(scan, tmp_path / "one", chosen=5.0, bins=[20], synthetic=False),
        drawn[1],
        synthetic=False,
    )
    with pytest.raises(PlotError, match="one to 4 energy bins"):
        plot_cut_scan(scan, tmp_path / "x", chosen=5.0, bins=[1, 2, 3, 4, 5], synthetic=True)
    with pytest.raises(PlotError, match="energy bin 99 has no flux"):
        plot_cut_scan(scan, tmp_path / "x", chosen=5.0, bins=[99], synthetic=True)
    with pytest.raises(PlotError, match="no energy bin has a flux"):
        plot_cut_scan(
            replace(scan, success=0 * scan.success), tmp_path / "x", chosen=5.0, synthetic=True
        )


def test_cut_stability_figure(tmp_path, drawn, toy):
    scan = toy["scan"]
    s = cut_systematic(scan, choose_cuts(scan, "efficiency", efficiency=0.9))
    check(plot_cut_stability(s, tmp_path / "s", synthetic=True), drawn[0], synthetic=True)
    cuts, change, spread = drawn[0].axes
    np.testing.assert_array_equal(cuts.lines[1].get_ydata(), s.cut[:, 1])
    good = np.isfinite(s.change[:, 2])
    _, y, low, high = bars(change, 1)
    np.testing.assert_allclose(y, 100 * s.change[good, 2])
    np.testing.assert_allclose((high - low) / 2, 100 * s.change_error[good, 2])
    np.testing.assert_allclose(steps(spread, "its fluctuation"), 100 * s.fluctuation)
    half = next(line for line in spread.lines if line.get_label().startswith("half"))
    np.testing.assert_allclose(half.get_ydata(), 100 * s.half_spread)
    with pytest.raises(PlotError, match="scan more cuts"):
        plot_cut_stability(replace(s, success=0 * s.success), tmp_path / "x", synthetic=True)
    assert not re.search("nan", " ".join(texts(drawn[0])), re.IGNORECASE)


def test_labels_between_decades():
    ax = Figure().subplots()
    ax.set_xscale("log")
    for low, high, wanted in ((110, 7900, {200, 500, 2000, 5000}), (90, 1100, set())):
        ax.set_xlim(low, high)
        few_labels(ax.xaxis)
        label = ax.xaxis.get_minor_formatter()
        shown = {v for k in (10, 100, 1000) for v in range(2 * k, 10 * k, k) if label(v)}
        assert {v for v in shown if low < v < high} == wanted
