"""Fits of the 2017 table against published and independently computed figures."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize

from analysis.exceptions import AnalysisError
from analysis.flux import flux
from analysis.fluxtable import FluxTable
from analysis.published import load
from analysis.spectrum.cost import FitOptions, Response, make_cost
from analysis.spectrum.data import BreakData, from_flux_table, from_published, select
from analysis.spectrum.fit import BreakFit, contour, fit, profile
from analysis.spectrum.models import quadrature, spectral_model
from analysis.spectrum.significance import significance

FloatArray = NDArray[np.float64]
LAW = spectral_model("power_law")
BROKEN = spectral_model("smoothly_broken_power_law")
T = 3.4916e7

QUADRATURE = FitOptions()
AVERAGED = FitOptions(bin_average=True)
STATISTICAL = FitOptions(systematics=False)
NUISANCE = FitOptions("nuisance")
POISSON = FitOptions("poisson")
POISSON_STATISTICAL = FitOptions("poisson", systematics=False)


def dampe(leave_out: tuple[float, ...] = ()) -> BreakData:
    return select(from_published(load("dampe_2017_electron_positron")), leave_out_gev=leave_out)


@cache
def both(options: FitOptions, leave_out: tuple[float, ...] = ()) -> tuple[BreakFit, BreakFit]:
    data = dampe(leave_out)
    return fit(data, LAW, options), fit(data, BROKEN, options)


# Digits as the re-derivation of the 2017 table gives them: value and error of Phi0 (1e-4), g1, g2, Eb;
# cost of broken and single power law with degrees of freedom; difference, two-sided sigma.
RECORDED = [
    (QUADRATURE, "1.622(13) 3.093(11) 3.92(19) 912(97)", "22.3/24 77.7/26 55.4", 7.14),
    (AVERAGED, "1.622(13) 3.093(11) 3.92(19) 911(97)", "22.6/24 78.0/26 55.5", 7.14),
    (STATISTICAL, "1.619(3) 3.086(5) 3.89(18) 883(85)", "34.7/24 112.2/26 77.6", 8.53),
    (NUISANCE, "1.617(23) 3.089(10) 3.98(21) 930(100)", "32.8/18 80.2/20 47.4", 6.57),
    (POISSON, "1.635(23) 3.106(9) 4.01(26) 1039(132)", "38.8/18 67.0/20 28.2", 4.95),
    (POISSON_STATISTICAL, "1.621(3) 3.089(4) 3.84(19) 922(103)", "46.0/24 90.7/26 44.8", 6.37),
]


@pytest.mark.parametrize(("options", "parameters", "costs", "sigma"), RECORDED)
def test_recorded_figures(options: FitOptions, parameters: str, costs: str, sigma: float) -> None:
    """Every recorded digit comes back."""
    law, broken = both(options)
    assert law.valid
    assert broken.valid
    for text, value, error in zip(
        parameters.split(),
        broken.values / (1e-4, 1, 1, 1),
        broken.errors / (1e-4, 1, 1, 1),
        strict=True,
    ):
        digits = len(text.split("(")[0].partition(".")[2])
        assert f"{value:.{digits}f}({error * 10**digits:.0f})" == text
    test = significance(law, broken)
    told = f"{broken.cost:.1f}/{broken.ndf} {law.cost:.1f}/{law.ndf} {test.delta:.1f}"
    assert told == costs
    assert test.two_sided == pytest.approx(sigma, abs=0.01)
    assert test.one_sided < test.two_sided


def test_published_parameters() -> None:
    """Nature 552, 63: 3.09 +- 0.01, 3.92 +- 0.20, 914 +- 98 GeV, (1.62 +- 0.01) 1e-4."""
    broken = both(QUADRATURE)[1]
    published = np.array([1.62e-4, 3.09, 3.92, 914.0])
    errors = np.array([0.01e-4, 0.01, 0.20, 98.0])
    assert np.all(np.abs(broken.values - published) < 0.4 * errors)
    assert np.all(np.abs(broken.errors / errors - 1) < 0.35)


def test_background_as_a_factor() -> None:
    law, broken = both(FitOptions("poisson", background="factor"))
    assert law.cost - broken.cost == pytest.approx(30.74, abs=0.02)
    assert significance(law, broken).two_sided == pytest.approx(5.19, abs=0.05)


def test_without_the_1400_gev_bin() -> None:
    law, broken = both(QUADRATURE, (1400.0,))
    np.testing.assert_allclose(broken.values[1:], [3.093, 4.04, 889], rtol=1e-3)
    assert (broken.ndf, law.ndf) == (23, 25)
    assert broken.cost == pytest.approx(9.9, abs=0.05)
    assert law.cost - broken.cost == pytest.approx(65.4, abs=0.05)
    assert any("left out as asked: 1318.3-1513.6 GeV" in note for note in dampe((1400.0,)).notes)


def independent(method: str, broken: bool) -> Callable[[FloatArray], float]:
    """The cost functions written down anew from the printed columns; x as in ``SCALE``."""
    table = load("dampe_2017_electron_positron")
    use = (table.e_min > 54) & (table.e_max < 2631)
    low, high, mean, y, stat, sys = (
        v[use]
        for v in (table.e_min, table.e_max, table.e_mean, table.dnde, table.stat_n, table.sys_n)
    )
    n, area, d_area, f, df = (
        table.extra[key][use]
        for key in (
            "counts",
            "acceptance_m2sr",
            "acceptance_err",
            "bkg_fraction",
            "bkg_fraction_err",
        )
    )
    edges = np.logspace(np.log10(low[0]), np.log10(high[-1]), 7)
    number = np.searchsorted(edges, mean) - 1
    relative = np.hypot(d_area / area, df / (1 - f)) if method == "poisson" else sys / y
    sigma = np.array([relative[number == j].mean() for j in range(6)])
    steps = (np.arange(200) + 0.5) / 200  # midpoint rule in ln E
    grid = low[:, None] * (high / low)[:, None] ** steps

    def model(e: FloatArray, x: FloatArray) -> FloatArray:
        out = x[0] * 1e-4 * (e / 100) ** -x[1]
        if broken:
            out = out * (1 + (e / (900 * x[3])) ** ((x[2] - x[1]) / 0.1)) ** -0.1
        return np.asarray(out)

    def cost(x: FloatArray) -> float:
        if method == "quadrature":
            return float(np.sum((model(mean, x) - y) ** 2 / (stat**2 + sys**2)))
        w = x[-6:]
        prior = np.sum(((w - 1) / sigma) ** 2)
        if method == "nuisance":
            return float(np.sum((model(mean, x) * w[number] - y) ** 2 / stat**2) + prior)
        integral = np.sum(model(grid, x) * grid, axis=1) * np.log(high / low) / 200
        mu = area * T * integral * w[number] + f * n
        return float(2 * np.sum(mu - n + n * np.log(n / mu)) + prior)

    return cost


@pytest.mark.parametrize("options", [QUADRATURE, NUISANCE, POISSON])
def test_independent_minimisation(options: FitOptions) -> None:
    """scipy on a cost function of its own: minimum to 1e-3, parameters to 1 % of their errors."""
    for broken, ours in zip((False, True), both(options), strict=True):
        cost = independent(options.method, broken)
        start = [1.6, 3.1, *((3.8, 1.1) if broken else ()), *[1.0] * ours.nuisances.size]
        found = optimize.minimize(cost, start, method="BFGS", options={"gtol": 1e-4})
        for _ in range(3):
            found = optimize.minimize(
                cost, found.x, method="Nelder-Mead",
                options={"xatol": 1e-7, "fatol": 1e-9, "maxfev": 8000, "adaptive": True},
            )  # fmt: skip
            found = optimize.minimize(cost, found.x, method="BFGS", options={"gtol": 1e-4})
        assert ours.cost == pytest.approx(found.fun, abs=1e-3)
        x = found.x[: ours.values.size] * [1e-4, 1, 1, 900][: ours.values.size]
        assert np.all(np.abs(ours.values - x) < 0.01 * ours.errors)


def test_profile_meets_minos_and_contour_the_profile() -> None:
    broken = both(QUADRATURE)[1]
    for i, name in enumerate(BROKEN.parameters):
        ends = broken.values[i] + broken.minos[i] * [-1, 1]
        np.testing.assert_allclose(profile(broken, name, ends), 1.0, atol=0.01)
    at = broken.values[3]
    eb, g2 = np.array([at - 100, at, at + 100]), np.linspace(3.3, 5.0, 171)
    surface = contour(broken, ("break_gev", "index2"), eb, g2)
    assert surface.shape == (171, 3)
    assert surface.min() > -1e-3
    np.testing.assert_allclose(surface.min(axis=0), profile(broken, "break_gev", eb), atol=0.01)
    with pytest.raises(AnalysisError, match="has no parameter 'cutoff_gev'"):
        profile(broken, "cutoff_gev", eb)


def test_band_is_the_propagated_error() -> None:
    law = both(QUADRATURE)[0]
    value, error = law.band(np.array([100.0]))
    assert value[0] == pytest.approx(law.values[0], rel=1e-12)
    assert error[0] == pytest.approx(law.errors[0], rel=1e-9)


def test_larger_models_are_never_worse() -> None:
    law, broken = both(QUADRATURE)
    cut = fit(dampe(), spectral_model("power_law_cutoff"), minos=False)
    mixed = fit(dampe(), spectral_model("smoothly_broken_power_law_cutoff"), minos=False)
    double = fit(dampe(), spectral_model("double_broken_power_law"), minos=False)
    free = fit(
        dampe(), spectral_model("smoothly_broken_power_law", free_smoothness=True), minos=False
    )
    assert cut.cost < law.cost
    for one in (mixed, double, free):
        assert one.cost <= broken.cost + 1e-2
    assert double.values[4] <= double.values[5]


def test_a_break_that_is_not_there() -> None:
    """An exact power law: no gain, the cut-off at its limit without an error."""
    data = dampe()
    exact = replace(data, dnde=LAW.flux(data.e_ref, (1.6e-4, 3.1)))
    law = fit(exact, LAW)
    np.testing.assert_allclose(law.values, [1.6e-4, 3.1], rtol=1e-7)
    cut = fit(exact, spectral_model("power_law_cutoff"))
    assert cut.cost == pytest.approx(0, abs=1e-3)
    assert "cutoff_gev" in cut.at_limit or cut.values[2] > 1e5
    broken = fit(exact, BROKEN, minos=False)
    assert broken.cost <= law.cost + 1e-9


def test_response_without_migration_changes_nothing() -> None:
    data = dampe()
    edges = np.append(data.e_min, data.e_max[-1])
    diagonal = Response(np.diag(data.acceptance), edges)
    plain, folded = (fit(data, BROKEN, POISSON, response=r, minos=False) for r in (None, diagonal))
    # printed edges of neighbours are the same
    np.testing.assert_allclose(folded.values, plain.values, rtol=1e-6)


def test_response_folds() -> None:
    """Counts folded with 20 % migration and a power law give the power law back."""
    data = dampe()
    true = np.append(np.geomspace(40, 55, 5)[:-1], [*data.e_min, data.e_max[-1], 3000.0, 3500.0])
    ln = np.log(np.sqrt(true[1:] * true[:-1]))
    matrix = np.exp(-0.5 * ((np.log(data.e_ref)[:, None] - ln) / 0.15) ** 2)
    area = 0.28 * matrix / matrix.sum(axis=0)
    rule = quadrature(true[:-1], true[1:])
    per_bin = rule.weights @ LAW.flux(np.exp(rule.ln_e), (1.6e-4, 3.1))
    exposed = replace(
        data, acceptance=np.full(28, 0.28), exposure=np.full(28, 0.28 * 0.9 * T),
        counts=0.9 * T * area @ per_bin, background_fraction=np.zeros(28),
    )  # fmt: skip
    found = fit(exposed, LAW, POISSON_STATISTICAL, response=Response(area, true))
    np.testing.assert_allclose(found.values, [1.6e-4, 3.1], rtol=1e-5)
    assert found.cost == pytest.approx(0, abs=1e-6)
    with pytest.raises(AnalysisError, match="need \\(28, 34\\)"):
        fit(exposed, LAW, POISSON_STATISTICAL, response=Response(area[:, 1:], true))
    with pytest.raises(AnalysisError, match="folds expected counts"):
        fit(exposed, LAW, QUADRATURE, response=Response(area, true))


def own_table(failed: int = 3) -> FluxTable:
    """The 2017 columns through the program's own flux function, with some bins failed."""
    table = load("dampe_2017_electron_positron")
    extra = {key: table.extra[key].copy() for key in table.extra}
    extra["acceptance_m2sr"][:failed] = np.nan
    size = table.dnde.size
    made = flux(
        extra["counts"], extra["bkg_fraction"], np.zeros(size), np.full(size, 0.5),
        np.zeros(size), 2 * extra["acceptance_m2sr"], np.zeros(size), T,
        table.e_min, table.e_max, meta={"synthetic": True, "flux": {"background_mc_limited_bins": [9]}},
    )  # fmt: skip
    background = extra["bkg_fraction_err"] / (1 - extra["bkg_fraction"])
    scale = made.dnde * np.hypot(extra["acceptance_err"] / extra["acceptance_m2sr"], background)
    return made.with_systematic("acceptance_scale", scale, scale)


def test_own_table_equals_the_published_one() -> None:
    """Efficiency 0.5 and twice the acceptance: the same counts, the same Poisson fit."""
    data = select(from_flux_table(own_table()))
    assert data.synthetic
    assert len(data) == 28
    assert any("3 bins without a flux are left out: 24.0-36.3 GeV" in note for note in data.notes)
    assert any("bounded by the Monte Carlo alone" in note for note in data.notes)
    ours = fit(data, BROKEN, POISSON_STATISTICAL, minos=False)
    published = both(POISSON_STATISTICAL)[1]
    np.testing.assert_allclose(ours.values, published.values, rtol=1e-6)
    least = fit(data, BROKEN, QUADRATURE, minos=False)
    assert np.all(np.abs(least.values - both(QUADRATURE)[1].values) < 0.3 * least.errors)


def test_simulation_statistics_belong_to_each_bin() -> None:
    """As a Gaussian factor of each expectation, profiled by hand; not shared by intervals."""
    table = own_table(0)
    share = 0.02 * table.dnde
    data = select(from_flux_table(table.with_systematic("acceptance", share, share)))
    exact = select(from_flux_table(table))
    np.testing.assert_allclose(data.simulation, 0.02)
    np.testing.assert_allclose(data.relative_sys, exact.relative_sys)
    np.testing.assert_allclose(data.stat**2, exact.stat**2 + (0.02 * exact.dnde) ** 2)
    cost = make_cost(data, BROKEN, POISSON)
    found = fit(data, BROKEN, POISSON, minos=False)
    theta = np.concatenate((BROKEN.internal(found.values), np.ones(cost.sigma.size)))
    mu = cost.predict(theta)[0]
    beta = np.linspace(0.9, 1.1, 200_001)
    for n, m in zip(data.counts, mu, strict=True):
        gauss = 2 * (m * beta - n + n * np.log(n / (m * beta))) + ((beta - 1) / 0.02) ** 2
        k = 1 / 0.02**2
        profiled = 2 * (n * np.log(n / m) - (n + k) * np.log1p((n - m) / (m + k)))
        assert profiled == pytest.approx(gauss.min(), abs=0.02 * max(gauss.min(), 1.0))
    total = sum(
        2 * (n * np.log(n / m) - (n + 2500.0) * np.log1p((n - m) / (m + 2500.0)))
        for n, m in zip(data.counts, mu, strict=True)
    )
    assert cost.evaluate(theta, cost.target, cost.error)[0] == pytest.approx(total)


def test_extra_systematics_widen_the_priors() -> None:
    table = own_table()
    wider = table.with_systematic("scale", 0.1 * table.dnde, 0.1 * table.dnde)
    costs = [make_cost(select(from_flux_table(t)), LAW, POISSON) for t in (table, wider)]
    assert np.all(costs[1].sigma > np.hypot(0.99 * costs[0].sigma, 0.09))


def test_refusals() -> None:
    data = dampe()
    everything = from_published(load("dampe_2017_electron_positron"))
    with pytest.raises(AnalysisError, match="range 500 to 100 GeV is empty"):
        select(everything, 500, 100)
    with pytest.raises(
        AnalysisError, match=r"no usable bin between 1 and 2 GeV; it covers 27\.5 to"
    ):
        select(everything, 1, 2)
    with pytest.raises(AnalysisError, match="covers nothing; 8 bins without flux, edges or"):
        select(from_published(load("hess_2008_electron_positron")))
    with pytest.raises(AnalysisError, match="20 GeV, to be left out, lies in no bin"):
        select(everything, leave_out_gev=[20.0])
    with pytest.raises(AnalysisError, match="3 bins are too few for the 4 parameters"):
        fit(select(everything, 100, 170), BROKEN)
    with pytest.raises(AnalysisError, match="too few for the 10 parameters"):
        fit(select(everything, 100, 400), BROKEN, NUISANCE)
    with pytest.raises(AnalysisError, match="no counts with a background fraction"):
        fit(select(from_published(load("calet_2023_electron_positron"))), LAW, POISSON)
    with pytest.raises(AnalysisError, match="no acceptance and livetime"):
        fit(replace(data, exposure=data.exposure * np.nan), LAW, POISSON)
    with pytest.raises(AnalysisError, match="28 of 28 bins have no statistical error > 0"):
        fit(replace(data, stat=data.stat * 0), LAW)
    with pytest.raises(AnalysisError, match="0 bins with a flux"):
        fit(replace(data, dnde=data.dnde * 0), LAW)
    with pytest.raises(AnalysisError, match="no fit method 'magic'"):
        FitOptions("magic")  # type: ignore[arg-type]
    with pytest.raises(AnalysisError, match="must not be negative"):
        FitOptions(nuisances=-1)
    with pytest.raises(AnalysisError, match="positive number of seconds"):
        from_published(load("dampe_2017_electron_positron"), -1.0)


@pytest.mark.parametrize("name", ["ams02_2014_electron_positron", "calet_2023_electron_positron"])
def test_weak_and_strong_breaks_of_other_experiments(name: str) -> None:
    """No warning on the way to an open interval, and a clear softening in CALET's table."""
    data = select(from_published(load(name)))
    law, broken = fit(data, LAW), fit(data, BROKEN)
    assert broken.valid
    assert broken.cost <= law.cost
    if name.startswith("calet"):
        assert 600 < broken.values[3] < 1000
        assert significance(law, broken).two_sided > 4


def test_livetime_of_another_published_set() -> None:
    with_time = from_published(load("dampe_2017_electron_positron"), 2 * T)
    plain = from_published(load("dampe_2017_electron_positron"))
    np.testing.assert_allclose(with_time.exposure, 2 * plain.exposure)
