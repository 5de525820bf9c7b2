"""Closure of the flux with energy migration: a region whose showers leak, spectra with sharp features."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import special

from analysis.closure import WITH_MIGRATION, closure
from analysis.closureflux import bin_integrals, draw_migration, expected_bias
from analysis.exceptions import AnalysisError
from analysis.plots.closure import plot_migration_bias
from analysis.plots.style import PlotError
from analysis.templatefit import FitSettings
from analysis.toys.draw import expectation, random_stream, read_toy_model
from analysis.toys.response import Kernel

TEN_YEARS = 236_375_620.0  # s of livetime
CUT = 5.0
SHIFT = (1.2, 0.6)  # larger than that of fiducial
BORDERS = np.linspace(-1.2, 0.8, 401)


def published(energy):
    return 1.62e-4 * (energy / 100) ** -3.09 * (1 + (energy / 914) ** 8.3) ** -0.1


def broken(energy):
    """A break by two units of the index within a few per cent of the energy."""
    return 1.62e-4 * (energy / 100) ** -3.09 * (1 + (energy / 914) ** 100.0) ** -0.02


def cutoff(energy):
    return 1.62e-4 * (energy / 100) ** -3.09 * np.exp(-((energy / 2000) ** 4))


def step(energy):
    return np.where(energy < 3000, 1.62e-4 * (energy / 100) ** -3.09, 0.0)


@pytest.fixture(scope="module")
def top():
    return read_toy_model("synthetic_omega_topfiducial")


@pytest.fixture(scope="module")
def leaky():
    """The fiducial model with a response of 1.5 % of which one event in ten has a tail of 10 %."""
    model = read_toy_model("synthetic_omega")
    row = 0.9 * special.ndtr(BORDERS / 0.015) + 0.1 * np.exp(np.minimum(BORDERS + 0.01, 0) / 0.1)
    row[[0, -1]] = 0.0, 1.0
    made = replace(
        model,
        name="leaky",
        parametrisation=replace(model.parametrisation, region="topfiducial"),
        kernel=Kernel(np.array([1000.0]), BORDERS, row[None, :]),
    )
    rates = made.rates(made.target_flux_integral["electron"])[1:-1]
    return replace(made, response=rates / rates.sum(axis=1, keepdims=True))


def bias(model, spectrum):
    """Bias by correction in bins of more than ten electrons, and over the error √N of ten years."""
    injected = bin_integrals(spectrum, model.energy_edges)
    known = expectation(model, injected, TEN_YEARS, flux=spectrum, shift=SHIFT)
    n = known.template("electron").above(CUT).value
    many = (n > 10) & (injected > 0)
    found = {w: r[many] - 1 for w, r in expected_bias(known, injected, CUT).items()}
    return found, {w: np.abs(r * np.sqrt(n[many])).max() for w, r in found.items()}, many


def test_bin_integrals_of_known_functions():
    edges = np.array([50.0, 100.0, 400.0])
    assert bin_integrals(lambda e: e**-3.0, edges) == pytest.approx(
        (edges[:-1] ** -2 - edges[1:] ** -2) / 2, rel=1e-10
    )
    # a step inside a panel of 1/16 of the bin
    assert bin_integrals(lambda e: 1.0 * (e < 300), edges)[1] == pytest.approx(200, rel=0.05)


def test_target_spectrum_has_no_bias_after_a_correction(leaky):
    found, _, many = bias(leaky, published)
    assert many.sum() > 35
    assert np.abs(found["none"]).max() > 0.01
    assert np.abs(found["bin_by_bin"]).max() < 0.002
    assert np.abs(found["folding"]).max() < 0.004
    # by hand: events in the reconstructed bin over events in the true bin
    target = bin_integrals(published, leaky.energy_edges)
    by_hand = leaky.electron_rate(target, published) / (leaky.acceptance * target)
    assert found["none"] == pytest.approx((by_hand - 1)[many], abs=0.001)


def test_break_of_a_leaking_region(leaky):
    found, errors, _ = bias(leaky, broken)
    size = {way: np.abs(values).max() for way, values in found.items()}
    assert size["none"] > 0.03
    assert size["folding"] < 0.007
    assert size["folding"] < size["bin_by_bin"] < 0.01
    assert errors["none"] > 1.5
    assert errors["folding"] < 0.2


def test_cutoff_of_a_leaking_region(leaky):
    """What is left is below a fifth of the statistical error, without a correction it is above it."""
    found, errors, _ = bias(leaky, cutoff)
    assert np.abs(found["folding"]).max() < 0.05
    assert errors["none"] > 1.5
    assert errors["folding"] < 0.2
    assert errors["bin_by_bin"] < 0.3


@pytest.mark.parametrize("spectrum", [broken, cutoff, step])
def test_sharp_features_with_the_energy_of_the_network(top, spectrum):
    """1 % of resolution in bins of 15 %: little to correct, and little harm where a spline is too stiff."""
    found, errors, many = bias(top, spectrum)
    assert many.sum() > 12
    assert np.abs(found["folding"]).max() < 0.03
    assert errors["folding"] < 0.25
    assert np.abs(found["bin_by_bin"]).max() < 0.02


def test_few_toys_with_folding(top):
    found = closure(top, 4, 3, livetime_s=TEN_YEARS, shift=SHIFT, spectrum=cutoff)
    assert found.migration == "folding"
    used = (found.expected > 20) & (found.truth["flux"] > 0)
    assert (found.failed == np.where(top.energy_edges[:-1] < top.least_gev, 4, 0)).all()
    truth = bin_integrals(cutoff, top.energy_edges) / np.diff(top.energy_edges)
    assert found.truth["flux"] == pytest.approx(truth)
    pull = found.pulls["flux"][:, used]
    assert np.isfinite(pull).all()
    assert abs(pull.mean()) < 4 / np.sqrt(pull.size)
    assert 0.8 < pull.std() < 1.2
    # the systematic error of the correction only widens the errors
    assert (np.abs(found.pulls[WITH_MIGRATION][:, used]) <= np.abs(pull) + 1e-12).all()
    assert set(found.bias) == {"none", "bin_by_bin", "folding"}
    for way in found.bias:
        assert np.isfinite(found.ratio(f"flux_{way}")[0][used]).all()
    assert found.ratio("flux_folding")[0] == pytest.approx(found.ratio("flux")[0], nan_ok=True)


def test_ways_of_one_region(top):
    settings = FitSettings(e_min_gev=300.0, e_max_gev=1500.0)
    made = closure(top, 2, 1, settings, livetime_s=1e8, shift=SHIFT, migration="bin_by_bin")
    assert set(made.bias) == {"none", "bin_by_bin", "folding"}
    assert "flux_bin_by_bin" in made.ratios
    assert "flux_folding" not in made.ratios
    free = closure(top, 2, 1, settings, livetime_s=1e8, shift=SHIFT, migration="none")
    assert free.bias == {}
    assert WITH_MIGRATION not in free.pulls
    again = closure(top, 2, 1, settings, livetime_s=1e8, shift=SHIFT, migration="bin_by_bin")
    assert np.array_equal(again.pulls["flux"], made.pulls["flux"], equal_nan=True)
    # the same data and templates
    assert np.array_equal(free.pulls["protons"], made.pulls["protons"], equal_nan=True)
    with pytest.raises(AnalysisError, match="not by 'svd'"):
        closure(top, 1, 1, livetime_s=1e8, migration="svd")


def test_errors_of_the_simulated_response(top):
    """With a hundredth of the simulated events the acceptance has ten times the error."""
    made = [
        draw_migration(top, np.random.default_rng(1), events).acceptance for events in (400, 40_000)
    ]
    used = top.energy_edges[:-1] >= top.least_gev
    relative = [(a.error / np.where(used, a.value, 1.0))[used] for a in made]
    assert relative[0] / relative[1] == pytest.approx(np.full(used.sum(), 10.0), rel=0.2)


def test_regions_are_independent():
    one, two = (
        np.random.default_rng(random_stream(4, r)).random(4) for r in ("fiducial", "topfiducial")
    )
    assert (one == np.random.default_rng(4).random(4)).all()
    assert not np.isin(two, one).any()
    children = [
        s.generate_state(4).tolist()
        for r in ("fiducial", "topfiducial")
        for s in random_stream(4, r).spawn(50)
    ]
    assert len({tuple(c) for c in children}) == 100


def test_figure_of_the_bias(tmp_path, monkeypatch):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda f, *a, **k: (drawn.append(f), save(f, *a, **k)))
    edges = 10 ** (2.0 + 0.06 * np.arange(21))
    low, high = edges[:-1], edges[1:]
    flux = bin_integrals(cutoff, edges) / (high - low)
    lines = {"no correction": np.full(20, 1.03), "forward folding": np.full(20, 1.001)}
    lines["no correction"][-2:] = np.nan
    toys = ("forward folding", np.full(20, 1.002), np.full(20, 0.004))
    paths = plot_migration_bias(
        low, high, lines, toys, np.full(20, 0.02), flux, flux, tmp_path / "m", title="5 toys"
    )
    assert all(p.stat().st_size > 5000 for p in paths)
    top, bottom = drawn[0].axes
    assert "E³" in top.get_ylabel()
    assert len(bottom.patches) == 2
    bars = bottom.containers[0].lines[0]
    assert bars.get_xdata().size == 18
    texts = [t.get_text() for t in bottom.get_legend().get_texts()]
    assert texts == [
        "spread of one toy", "no correction", "forward folding", "forward folding, mean of toys",
    ]  # fmt: skip
    with pytest.raises(PlotError, match="one number per energy bin"):
        plot_migration_bias(low, high, lines, toys, flux[1:], flux, flux, tmp_path / "x")
    with pytest.raises(PlotError, match="one to 4 corrections"):
        plot_migration_bias(low, high, {}, toys, flux, flux, flux, tmp_path / "x")
    none = ("a", np.full(20, np.nan), flux)
    with pytest.raises(PlotError, match="nothing to draw"):
        plot_migration_bias(low, high, lines, none, flux, flux, flux, tmp_path / "x")


@pytest.mark.slow
def test_three_hundred_toys_with_folding(top):
    """Ten years, shift 1.2 + 0.6 log10(E/TeV): unbiased with unit pulls, also behind a sharp cut-off.

    Means of 300 have an error of 0.06, widths one of 0.04, coverages one of 0.027. Intervals of few counts
    cover more by construction.
    """
    result = closure(top, 300, 20265, livetime_s=TEN_YEARS, shift=SHIFT)
    low = (result.e_max < 1001.0) & (result.expected > 0)
    many = (result.expected > 20) & ~low
    one = 1.0 / np.sqrt(300)
    for name in ("electrons", "protons", "background", "background_fraction", "flux"):
        mean, width, coverage = (f(name) for f in (result.mean, result.width, result.coverage))
        assert abs(mean[low].mean()) < 0.06, name
        assert np.abs(mean[low]).max() < 0.1 + 2 * one, name
        assert np.abs(width[low] - 1).max() < 0.1 + 2 * one / np.sqrt(2), name
        assert 0.64 < coverage[many].mean() < 0.74, name
    mean, error = result.ratio("flux_folding")
    assert (np.abs(mean - 1) / error)[low | many].max() < 4.0
    # the control region, which knows no shift, finds two thirds of the background
    assert (result.ratio("sideband_background")[0][low] < 0.85).all()

    sharp = closure(top, 100, 20266, livetime_s=TEN_YEARS, shift=SHIFT, spectrum=cutoff)
    many = sharp.expected - sharp.truth["background"] > 20
    mean, error = sharp.ratio("flux_folding")
    assert (np.abs(mean - 1) / error)[many].max() < 4.5
    assert np.abs(sharp.mean("flux")[many]).max() < 0.45
