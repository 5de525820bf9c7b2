"""Cut scan: numbers at each cut, choices that never look at the counts, stability of the flux."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.acceptance import Acceptance
from analysis.background import fitted_background, proton_background
from analysis.cutscan import choose_cuts, cut_grid, cut_index, scan_cuts
from analysis.cutstability import cut_systematic, flux_change
from analysis.exceptions import AnalysisError, CutNotOnEdgeError, HistogramMismatchError
from analysis.flux import flux
from analysis.templatefit import FitSettings, fit_templates
from analysis.templates import Template
from analysis.toys.draw import draw_data, draw_simulation, expectation, read_toy_model

OMEGA = np.arange(-3.0, 4.0)  # six score bins
LIVETIME = 1000.0


def area(edges):
    n = edges.size - 1
    return Acceptance(
        edges[:-1], edges[1:], np.full(n, 0.3), np.full(n, 0.003), np.ones(n), np.ones(n) > 0
    )


def template(kind, rows, variances=None, edges=None):
    values = np.pad(np.asarray(rows, float), ((0, 0), (1, 1)))
    squares = (
        values if variances is None else np.pad(np.asarray(variances, float), ((0, 0), (1, 1)))
    )
    if edges is None:
        edges = np.geomspace(100.0, 100.0 * 1.2 ** len(rows), len(rows) + 1)
    return Template(kind, "fiducial", edges, OMEGA, values, squares)


@pytest.fixture
def simple():
    """One energy bin, by hand: rates per 1000 s."""
    data = template("data", [[500.0, 300.0, 90.0, 25.0, 40.0, 45.0]])
    electrons = template(
        "electron", [[0.0, 0.0, 0.005, 0.015, 0.04, 0.04]], [[0, 0, 5e-7, 15e-7, 4e-6, 4e-6]]
    )
    protons = template(
        "proton", [[5.0, 3.0, 0.8, 0.1, 0.02, 0.01]], [[5e-3, 3e-3, 8e-4, 1e-4, 2e-5, 1e-5]]
    )
    return data, electrons, protons


def test_numbers_by_hand(simple):
    scan = scan_cuts(
        *simple, [1.0, 0.0], area(simple[0].energy_edges), LIVETIME, control=(-3.0, -1.0)
    )
    assert scan.cuts.tolist() == [0.0, 1.0]
    assert scan.n_data.tolist() == [[110.0, 85.0]]
    np.testing.assert_allclose(scan.efficiency, [[0.95, 0.8]])
    np.testing.assert_allclose(scan.background, [[100 * 0.13, 100 * 0.03]])  # 800 data over 8
    np.testing.assert_allclose(scan.background_fraction, [[13 / 110, 3 / 85]])
    # unit weights 1e-4 in the electrons, 1000 events; sqrt(V + mean weight²) in the protons
    eff_error = np.sqrt(np.array([0.95 * 0.05, 0.8 * 0.2]) / 1000)
    np.testing.assert_allclose(scan.efficiency_error[0], eff_error)
    by_yield = np.array([13.0, 3.0]) * np.sqrt(1 / 800 + 8e-3 / 64)
    by_template = 100 * np.sqrt(np.array([1.3e-4, 3e-5]) + 1e-6)
    np.testing.assert_allclose(scan.background_parts["yield"][0], by_yield)
    np.testing.assert_allclose(scan.background_parts["template"][0], by_template)
    expected = np.array([95.0, 80.0])
    np.testing.assert_allclose(scan.expected[0], expected)
    protons = np.array([13.0, 3.0])
    variance = expected + protons + by_yield**2 + by_template**2
    error = np.hypot(np.sqrt(variance) / expected, eff_error / np.array([0.95, 0.8]))
    np.testing.assert_allclose(scan.expected_error[0], error)
    np.testing.assert_allclose(
        scan.dnde[0], np.array([97 / 0.95, 82 / 0.8]) / (0.3 * LIVETIME * 20.0), rtol=1e-12
    )
    assert scan.success.all()
    assert not scan.fitted
    more = scan_cuts(
        *simple,
        scan.cuts,
        area(simple[0].energy_edges),
        LIVETIME,
        control=(-3.0, -1.0),
        background_scale_error=0.5,
    )
    error = np.hypot(error, 0.5 * protons / expected)
    np.testing.assert_allclose(more.expected_error[0], error)
    np.testing.assert_array_equal(more.dnde_errp, scan.dnde_errp)


def test_a_cut_without_electrons_is_never_chosen(simple):
    data, electrons, protons = simple
    values = electrons.values.copy()
    values[0, -2] = 0.0
    electrons = replace(electrons, values=values, variances=1e-4 * values)
    scan = scan_cuts(
        data,
        electrons,
        protons,
        [0.0, 1.0, 2.0],
        area(data.energy_edges),
        LIVETIME,
        control=(-3, -1),
    )
    assert np.isinf(scan.expected_error[0, 2])
    assert not scan.success[0, 2]
    assert np.isnan(scan.dnde[0, 2])
    assert choose_cuts(scan, "error") < 2.0
    assert choose_cuts(scan, "error", nodes=1) < 2.0


@pytest.fixture(scope="module")
def toy():
    model = read_toy_model("synthetic_omega")
    truth = expectation(model, 1.5 * model.target_flux_integral["electron"], 2e8, shift=(0.8, 0.4))
    rng = np.random.default_rng(3)
    data = draw_data(truth, rng)
    electrons, protons = draw_simulation(
        model, rng, electron_events=2e4, proton_events=2e4, proton_bulk_weight=10.0
    )
    result = fit_templates(data, electrons, protons, FitSettings(), cut=5.0)
    grid = cut_grid(electrons, most=25)
    edges = model.energy_edges
    acceptance = replace(area(edges), value=model.acceptance, error=0.01 * model.acceptance)
    scan = scan_cuts(data, electrons, protons, grid, acceptance, 2e8, result=result)
    return truth, data, electrons, protons, result, acceptance, scan


def test_scan_is_what_the_parts_say(toy):
    _, data, electrons, protons, result, acceptance, scan = toy
    for j in (0, 9, scan.cuts.size - 1):
        bkg = fitted_background(result, data, protons, scan.cuts[j])
        np.testing.assert_array_equal(scan.background[:, j], bkg.value)
        np.testing.assert_array_equal(scan.background_fraction_error[:, j], bkg.fraction_error)
        passed = electrons.above(scan.cuts[j]).value / electrons.total().value
        np.testing.assert_allclose(scan.efficiency[:, j], passed)
        table = flux(
            bkg.n_data, bkg.fraction, bkg.fraction_error, np.where(passed > 0, passed, np.nan),
            scan.efficiency_error[:, j], acceptance.value, acceptance.error, 2e8, scan.e_min, scan.e_max,
        )  # fmt: skip
        np.testing.assert_array_equal(scan.dnde[:, j], table.dnde)
        np.testing.assert_array_equal(scan.dnde_errp[:, j], table.dnde_errp)
    squares = sum(part**2 for part in scan.background_parts.values())
    some = scan.n_data > 0
    np.testing.assert_allclose(np.sqrt(squares)[some], scan.background_error[some])
    assert scan.fitted


def test_flux_of_the_toy_at_the_chosen_cut(toy):
    truth, *_, acceptance, scan = toy
    at = cut_index(scan, choose_cuts(scan, "error", nodes=4))
    rows = np.arange(at.size)
    true = truth.electrons.sum(axis=1) / (acceptance.value * 2e8 * (scan.e_max - scan.e_min))
    pull = (scan.dnde[rows, at] / true - 1) / scan.expected_error[rows, at]
    assert abs(pull.mean()) < 4 / np.sqrt(pull.size)
    assert pull.std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * pull.size))


def test_choices_do_not_see_the_data_above_the_cut(simple):
    data, electrons, protons = simple
    values = data.values.copy()
    values[:, 4:] *= 7.0  # all above 0, the lowest cut
    options = {"control": (-3.0, -1.0)}
    cuts, where = [0.0, 1.0, 2.0], area(data.energy_edges)
    one = scan_cuts(data, electrons, protons, cuts, where, LIVETIME, **options)
    other = scan_cuts(
        replace(data, values=values, variances=values),
        electrons,
        protons,
        cuts,
        where,
        LIVETIME,
        **options,
    )
    assert not np.allclose(one.dnde, other.dnde)
    np.testing.assert_array_equal(one.expected_error, other.expected_error)
    for rule in ("efficiency", "error"):
        np.testing.assert_array_equal(choose_cuts(one, rule), choose_cuts(other, rule))


@given(st.floats(0.05, 0.99))
@settings(max_examples=40, deadline=None)
def test_efficiency_rule_takes_the_highest_cut(toy, wanted):
    scan = toy[-1]
    at = cut_index(scan, choose_cuts(scan, "efficiency", efficiency=wanted))
    for i, j in enumerate(at):
        if scan.efficiency[i, 0] < wanted:
            continue
        assert scan.efficiency[i, j] >= wanted * (1 - 1e-9)
        assert j == scan.cuts.size - 1 or scan.efficiency[i, j + 1] < wanted


def test_error_rule_is_the_minimum_and_smooth_ones_do_not_jump(toy):
    scan = toy[-1]
    rows = np.arange(scan.e_min.size)
    own = cut_index(scan, choose_cuts(scan, "error"))
    assert (scan.expected_error[rows, own] == scan.expected_error.min(axis=1)).all()
    one = cut_index(scan, choose_cuts(scan, "error", nodes=1))
    assert np.unique(one).size == 1
    logs = np.log(np.where(np.isfinite(scan.expected_error), scan.expected_error, 1e9))
    assert logs[:, one[0]].mean() <= np.sort(logs.mean(axis=0))[1]  # the best cut but for rounding
    smooth = cut_index(scan, choose_cuts(scan, "error", nodes=4))
    assert np.abs(np.diff(smooth)).max() <= 1 < np.abs(np.diff(own)).max()
    lost = logs[rows, smooth].mean() - logs[rows, own].mean()
    assert 0 <= lost < 0.01
    assert logs[rows, smooth].mean() <= logs[rows, one].mean() + 1e-3


def test_smooth_efficiency_is_about_the_wanted_one(toy):
    scan = toy[-1]
    chosen = choose_cuts(scan, "efficiency", efficiency=0.9, nodes=9)
    share = scan.efficiency[np.arange(chosen.size), cut_index(scan, chosen)]
    assert abs(share.mean() - 0.9) < 0.03
    assert np.isin(chosen, scan.cuts).all()


def test_a_bin_without_a_choice_takes_its_neighbours(toy):
    scan = toy[-1]
    broken = scan.efficiency.copy()
    broken[10] = np.nan
    own = choose_cuts(scan, "efficiency")
    cuts = choose_cuts(replace(scan, efficiency=broken), "efficiency")
    assert cuts[10] in (own[9], own[11])
    np.testing.assert_array_equal(np.delete(cuts, 10), np.delete(own, 10))
    nothing = replace(scan, efficiency=np.full_like(broken, np.nan))
    with pytest.raises(AnalysisError, match="no energy bin has a cut by this rule"):
        choose_cuts(nothing, "efficiency")


def test_grid_spans_the_efficiencies_on_edges(toy):
    electrons = toy[2]
    grid = cut_grid(electrons, (0.5, 0.99), most=30)
    assert grid.size <= 30
    assert np.isin(grid, electrons.omega_edges).all()
    assert np.ptp(np.diff(grid)) < 1e-9
    share = [electrons.above(c).value / electrons.total().value for c in (grid[0], grid[-1])]
    step = grid[1] - grid[0]
    assert (share[0] >= 0.99).all()
    assert (
        electrons.above(np.round(grid[-1] + step, 6)).value / electrons.total().value
    ).max() < 0.5
    assert share[1].max() > 0.4


def many(n, seed, extra=0.0):
    """n pseudo-experiments as energy bins; ``extra`` data in two score bins that no simulation knows."""
    rng = np.random.default_rng(seed)
    e = np.array([0.0, 2.0, 13.0, 15.0, 100.0, 160.0])
    p = np.array([4000.0, 900.0, 120.0, 30.0, 16.0, 8.0])
    data = rng.poisson(e + p + extra * np.array([0, 0, 0, 1, 1, 0]), (n, 6))
    edges = np.geomspace(100.0, 200.0, n + 1)
    electrons = rng.poisson(4 * e, (n, 6)) / 4
    protons = rng.poisson(p / 3, (n, 6)) * 3.0
    return (
        template("data", data, edges=edges),
        template("electron", electrons / LIVETIME, electrons / 4 / LIVETIME**2, edges),
        template("proton", protons / LIVETIME, 3 * protons / LIVETIME**2, edges),
    )


def test_the_error_of_the_change_is_its_scatter():
    parts = many(3000, 8)
    scan = scan_cuts(
        *parts, [-1.0, 0.0, 1.0, 2.0], area(parts[0].energy_edges), LIVETIME, control=(-3.0, -2.0)
    )
    change, error = flux_change(scan, 1.0)
    assert (change[:, 2] == 0).all()
    assert (error[:, 2] == 0).all()
    for j in (0, 1, 3):
        pull = change[:, j] / error[:, j]
        assert pull.std() == pytest.approx(1.0, abs=0.06)
        assert abs(pull.mean()) < 0.15
        # two independent fluxes would differ by much more
        alone = np.hypot(scan.dnde_errp[:, j], scan.dnde_errp[:, 2]) / scan.dnde[:, 2]
        assert np.median(error[:, j] / alone) < 0.75


def test_half_spread_and_what_exceeds_chance():
    calm, steep = (many(400, 9, extra) for extra in (0.0, 60.0))
    where = area(calm[0].energy_edges)
    found = []
    for parts in (calm, steep):
        scan = scan_cuts(*parts, [-1, 0, 1, 2], where, LIVETIME, control=(-3, -2))
        s = cut_systematic(scan, 1.0, relative=0.3)
        assert s.success.all()
        np.testing.assert_array_equal(s.cut, np.tile([0.0, 1.0, 2.0], (400, 1)))
        half = 0.5 * np.ptp(s.change, axis=1)
        np.testing.assert_allclose(s.half_spread, half)
        np.testing.assert_allclose(
            s.excess**2, np.maximum(half**2 - s.fluctuation**2, 0), atol=1e-15
        )
        np.testing.assert_allclose(s.change[:, 1], 0.0)
        found.append(s)
    assert np.median(found[0].half_spread / found[0].fluctuation) == pytest.approx(0.8, abs=0.2)
    assert np.median(found[1].excess) > 2 * np.median(found[0].half_spread)


def test_systematic_needs_cuts_on_both_sides():
    parts = many(3, 1)
    scan = scan_cuts(*parts, [0, 1, 2], area(parts[0].energy_edges), LIVETIME, control=(-3, -2))
    low = cut_systematic(scan, 0.0, relative=0.3)
    assert not low.success.any()
    assert np.isnan(low.half_spread).all()
    too_fine = cut_systematic(scan, 1.0, relative=0.001)  # the scan has no such cuts
    assert not too_fine.success.any()
    with pytest.raises(AnalysisError, match="between 0 and 1"):
        cut_systematic(scan, 1.0, relative=1.0)
    with pytest.raises(AnalysisError, match=r"cut 0\.5 was not scanned"):
        flux_change(scan, 0.5)


def test_no_data_no_change():
    data, electrons, protons = many(2, 1)
    values = data.values.copy()
    values[0, 4:] = 0.0
    empty = replace(data, values=values, variances=values)
    scan = scan_cuts(
        empty, electrons, protons, [0, 1, 2], area(data.energy_edges), LIVETIME, control=(-3, -2)
    )
    change, error = flux_change(scan, 1.0)
    assert np.isnan(change[0]).all()
    assert np.isnan(error[0]).all()
    assert np.isfinite(change[1]).all()
    assert cut_systematic(scan, 1.0, relative=0.3).success.tolist() == [False, True]


def test_refused(simple):
    data, electrons, protons = simple
    where = area(data.energy_edges)
    control = {"control": (-3.0, -1.0)}
    with pytest.raises(AnalysisError, match="at least one cut"):
        scan_cuts(*simple, [], where, LIVETIME, **control)
    with pytest.raises(AnalysisError, match="only one of both"):
        scan_cuts(*simple, [0.0], where, LIVETIME)
    with pytest.raises(AnalysisError, match="background_scale_error must be"):
        scan_cuts(*simple, [0.0], where, LIVETIME, **control, background_scale_error=-0.1)
    with pytest.raises(CutNotOnEdgeError, match=r"0\.5"):
        scan_cuts(*simple, [0.5], where, LIVETIME, **control)
    with pytest.raises(AnalysisError, match="reaches above the cut"):
        scan_cuts(*simple, [-2.0, 0.0], where, LIVETIME, **control)
    with pytest.raises(HistogramMismatchError, match="acceptance has other energy bins"):
        scan_cuts(*simple, [0.0], area(data.energy_edges * 2), LIVETIME, **control)
    scan = scan_cuts(*simple, [0.0, 1.0], where, LIVETIME, **control)
    with pytest.raises(AnalysisError, match="not 'best'"):
        choose_cuts(scan, "best")
    with pytest.raises(AnalysisError, match="efficiency must be inside"):
        choose_cuts(scan, "efficiency", efficiency=1.0)
    with pytest.raises(AnalysisError, match="nodes 1 or more"):
        choose_cuts(scan, "error", nodes=0)
    with pytest.raises(AnalysisError, match="a grid needs"):
        cut_grid(electrons, (0.9, 0.5))
    with pytest.raises(AnalysisError, match="electron template is empty"):
        cut_grid(replace(electrons, values=0 * electrons.values))
    assert proton_background(data, protons, 0.0, (-3.0, -1.0)).success.all()
