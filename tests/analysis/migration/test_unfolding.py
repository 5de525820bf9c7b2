import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from migrationtoys import (
    EDGES,
    LIVETIME_S,
    broken,
    cutoff,
    dnde,
    expected,
    fiducial,
    integral,
    leaking,
    perfect,
    power_law,
    sharp,
    synthetic_response,
)
from scipy import optimize, stats

from analysis.exceptions import AnalysisError, HistogramMismatchError
from analysis.flux import flux
from analysis.intervals import garwood
from analysis.migration.binbybin import bin_by_bin
from analysis.migration.folding import forward_fold, log_spline, profiled
from analysis.migration.points import checked_counts, fold, migration_factor
from analysis.migration.response import response_from_sums
from analysis.migration.unfolding import iterative, scan_iterations
from analysis.plots.migration import (
    plot_bin_by_bin,
    plot_closure,
    plot_energy_smearing,
    plot_response,
)
from analysis.plots.style import PlotError

BINS = EDGES.size - 1
EFFICIENCY = np.full(BINS, 0.9)
ZERO = np.zeros(BINS)
WIDTH = np.diff(EDGES)


@pytest.fixture(scope="module")
def responses():
    return {r: synthetic_response(r) for r in (fiducial, leaking)}


def with_cutoff(parameters, edges):
    """Norm, index and inverse cut-off energy in TeV⁻¹; quadrature."""
    norm, index, inverse = parameters
    return integral(lambda e: power_law(e, index) * np.exp(norm - e * inverse / 1000), edges)


def corrected(counts, response, factor):
    """Cut and count with a migration factor."""
    table = flux(
        counts, 0, 0, EFFICIENCY, 0, response.acceptance, 0, LIVETIME_S, EDGES[:-1], EDGES[1:]
    )
    return table.dnde / factor


# --- folding


def test_fold_is_the_direct_integral(responses):
    for smearing, response in responses.items():
        direct = expected(smearing, broken, EFFICIENCY)
        assert fold(response, response.target, LIVETIME_S, EFFICIENCY) == pytest.approx(direct)


@given(
    st.lists(st.floats(0, 1e3), min_size=3, max_size=3),
    st.lists(st.floats(0, 1e3), min_size=3, max_size=3),
    st.floats(0, 100),
    st.lists(st.floats(0, 10), min_size=25, max_size=25),
)
@settings(max_examples=50, deadline=None)
def test_folding_is_linear(one, two, factor, cells):
    edges = np.array([1.0, 2.0, 4.0, 8.0])
    content = np.reshape(cells, (5, 5))
    r = response_from_sums(content, content, [3.0, 2.0, 1.0], edges, edges)
    a, b = np.array(one), np.array(two)
    together = fold(r, a + factor * b, 10.0, [0.5, 1.0, 0.25])
    parts = fold(r, a, 10.0, [0.5, 1.0, 0.25]) + factor * fold(r, b, 10.0, [0.5, 1.0, 0.25])
    assert together == pytest.approx(parts, rel=1e-9, abs=1e-9)


def test_fold_needs_as_many_fluxes_as_true_bins(responses):
    with pytest.raises(HistogramMismatchError, match="flux integrals"):
        fold(responses[fiducial], np.ones(3), 1.0)
    with pytest.raises(HistogramMismatchError, match="efficiency has shape"):
        fold(responses[fiducial], np.ones(BINS), 1.0, np.ones(3))


# --- pieces of the fit


@given(st.floats(-40.0, 5.0), st.floats(-8.0, 3.0))
@settings(max_examples=40, deadline=None)
def test_spline_through_a_power_law_is_its_integral(norm, index):
    nodes = np.array([30.0, 100.0, 150.0, 700.0])
    edges = np.array([20.0, 23.0, 90.0, 120.0, 140.0, 600.0, 800.0])
    got = log_spline(nodes)(norm + index * np.log(nodes), edges)
    power = index + 1 if abs(index + 1) > 1e-6 else 1e-6
    want = np.exp(norm) * edges[:-1] ** power * np.expm1(power * np.diff(np.log(edges))) / power
    assert got == pytest.approx(want, rel=2e-5)


def test_spline_is_smooth_and_meets_its_nodes():
    nodes, values = np.array([30.0, 100.0, 150.0, 700.0]), np.array([-1.0, -4.0, -6.0, -9.0])
    edges = np.geomspace(10.0, 2000.0, 4001)
    log_flux = np.log(log_spline(nodes)(values, edges) / np.diff(edges))
    centre = np.log(edges[:-1] * edges[1:]) / 2
    assert np.interp(np.log(nodes), centre, log_flux) == pytest.approx(values, abs=1e-4)
    slope = np.gradient(log_flux, centre)
    assert np.abs(np.diff(slope)).max() < 0.05  # no kink at a node
    for outside in (centre < np.log(29.9), centre > np.log(703.0)):
        assert np.ptp(slope[outside][1:-1]) < 1e-3
    pieces = log_spline(nodes)(values, np.geomspace(80.0, 200.0, 500))
    wide = log_spline(nodes)(values, np.array([80.0, 200.0]))
    assert wide[0] == pytest.approx(pieces.sum(), rel=1e-3)


def test_nodes_must_ascend():
    for nodes in ([1.0], [2.0, 1.0], [0.0, 1.0]):
        with pytest.raises(AnalysisError, match="ascending node energies"):
            log_spline(nodes)


@pytest.mark.parametrize(
    ("n", "mu", "b", "b_err", "relative"),
    [
        (12, 8.0, 3.0, 1.5, 0.1),
        (0, 2.0, 0.5, 1.0, 0.3),
        (0, 2.0, 3.0, 0.4, 0.0),
        (3, 7.0, 0.1, 2.0, 0.05),
        (5, 4.0, 0.0, 1.0, 0.2),
        (7, 5.0, 1.0, 0.0, 0.0),
        (400, 300.0, 30.0, 10.0, 0.1),
    ],
)
def test_profile_is_the_minimum_over_both_nuisances(n, mu, b, b_err, relative):
    """The closed form against a numerical minimum with background >= 0."""

    def cost(x):
        background, beta = b + b_err * x[0], 1 + relative * x[1]
        mean = max(beta * mu + background, 1e-12)
        saturated = stats.poisson.logpmf(n, n) if n else 0.0
        return -2 * (stats.poisson.logpmf(n, mean) - saturated) + x[0] ** 2 + x[1] ** 2

    low = -b / b_err if b_err else -5.0
    bounds = [(low, 20.0), (-1 / relative if relative else -5, 20.0)]
    found = optimize.minimize(
        cost, [max(low, 0.0), 0.0], bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-9}
    )
    _, got = profiled(*(np.array([float(x)]) for x in (mu, n, b, b_err, relative)))
    assert got[0] == pytest.approx(found.fun, abs=2e-6)


def test_profile_without_errors_is_the_poisson_deviance():
    total, got = profiled(np.array([3.0]), np.array([5.0]), np.array([1.0]), ZERO[:1], ZERO[:1])
    assert total == pytest.approx(4.0)
    assert got == pytest.approx(2 * (4 - 5 + 5 * np.log(5 / 4)))


# --- closure


def test_identity_gives_back_the_counts():
    response = synthetic_response(perfect)
    n = np.random.default_rng(1).poisson(expected(perfect, broken, EFFICIENCY)).astype(float)
    b = 0.1 * n
    plain = corrected(n - b, response, 1.0)
    interval = garwood(n)
    fitted = forward_fold(n, b, ZERO, EFFICIENCY, response, LIVETIME_S)
    unfolded = iterative(n, b, EFFICIENCY, response, LIVETIME_S, iterations=60)
    assert fitted.dnde == pytest.approx(plain, rel=1e-9)
    assert fitted.factor == pytest.approx(1.0)
    scale = plain / np.where(n > 0, n - b, 1.0)
    some = n > 0
    assert unfolded.dnde[some] == pytest.approx(plain[some], rel=1e-6)
    low, high = scale * (n - interval.lower), scale * (interval.upper - n)
    # the size of the fit's error follows its own expectation, not N: equal where they agree
    assert fitted.dnde_errn[:8] == pytest.approx(low[:8], rel=0.05)
    assert fitted.dnde_errp[:8] == pytest.approx(high[:8], rel=0.05)
    assert np.sqrt(np.diag(unfolded.covariance))[some] == pytest.approx((scale * np.sqrt(n))[some])


def test_bin_by_bin_is_biased_where_folding_is_not(responses):
    """Leaking events, no fluctuations, and a spectrum that is not the target."""
    response = responses[leaking]
    for truth, wrong in ((cutoff, 0.005), (sharp, 0.02)):
        counts = expected(leaking, truth, EFFICIENCY)
        true, seen = dnde(truth), slice(0, 22)
        naive = corrected(counts, response, bin_by_bin(response).factor) / true - 1
        assert np.abs(naive[seen]).max() > wrong
        unfolded = iterative(counts, ZERO, EFFICIENCY, response, LIVETIME_S, iterations=8)
        left = unfolded.dnde / true - 1
        assert np.abs(left[seen]).max() < 0.45 * np.abs(naive[seen]).max()
        assert unfolded.success.all()
    counts = expected(leaking, cutoff, EFFICIENCY)
    fitted = forward_fold(
        *(counts, ZERO, ZERO, EFFICIENCY, response, LIVETIME_S),
        model=with_cutoff,
        start=[0.1, 3.0, 0.2],
    )
    # what is left is the change of the spectrum inside a bin, and beyond the next to the axis
    left = np.abs(fitted.dnde / dnde(cutoff) - 1)
    assert left[:-2].max() < 0.002
    assert left.max() < 0.01
    assert fitted.parameters == pytest.approx([0.0, 3.1, 1 / 3], abs=0.03)
    assert fitted.valid
    assert fitted.chi2 < 0.01
    assert fitted.ndf == BINS - 3


def test_factor_of_the_fit_is_the_bin_by_bin_factor_of_its_spectrum(responses):
    response = responses[leaking]
    counts = expected(leaking, broken, EFFICIENCY)
    fitted = forward_fold(counts, ZERO, ZERO, EFFICIENCY, response, LIVETIME_S)
    assert fitted.factor == pytest.approx(bin_by_bin(response).factor, abs=0.003)
    assert fitted.dnde == pytest.approx(corrected(counts, response, fitted.factor), rel=1e-9)


@pytest.mark.parametrize("truth", [broken, cutoff])
@pytest.mark.parametrize("smearing", [fiducial, leaking])
def test_pulls(responses, smearing, truth):
    """100 toys: a mean is known to 0.1 per bin, a width to 0.07; averages over bins much better."""
    response, mu, true = responses[smearing], expected(smearing, truth, EFFICIENCY), dnde(truth)
    rng = np.random.default_rng(20)
    b, b_err = 0.1 * mu, 0.02 * mu
    pulls, covered = {"fit": [], "iterative": []}, []
    for _ in range(100):
        n = rng.poisson(mu + b)
        guess = np.maximum(rng.normal(b, b_err), 0.0)
        inputs = EFFICIENCY, response, LIVETIME_S
        results = {
            "fit": forward_fold(n, guess, b_err, *inputs),
            "iterative": iterative(n, guess, *inputs, iterations=4, background_error=b_err),
        }
        for name, result in results.items():
            with np.errstate(divide="ignore", invalid="ignore"):
                pulls[name].append((result.dnde - true) / np.sqrt(np.diag(result.covariance)))
        fit = results["fit"]
        covered.append((fit.dnde - fit.dnde_errn <= true) & (true <= fit.dnde + fit.dnde_errp))
        assert fit.valid
    many = mu > 20
    for name, drawn in pulls.items():
        pull = np.array(drawn)[:, many]
        mean, width = pull.mean(axis=0), pull.std(axis=0)
        assert abs(mean.mean()) < 0.1, name
        assert 0.9 < width.mean() < 1.1, name
        assert np.abs(mean).max() < 0.1 + 3.3 / np.sqrt(100), name
        assert (np.abs(width - 1) < 0.1 + 3.3 / np.sqrt(200)).all(), name
    share = np.mean(covered, axis=0)
    assert 0.64 < share[many].mean() < 0.76
    few = (mu > 1) & ~many
    assert share[few].mean() > 0.66  # Garwood: never below, more for few counts
    assert share[few].min() > 0.55


def test_simulation_error_is_the_scatter_of_simulations():
    """Counts fixed, the response drawn anew: the covariance of the simulation, for both methods."""
    exact = synthetic_response(leaking, weight=1.0)
    content = np.vstack([exact.below, (exact.matrix * exact.target).T, exact.above])
    content = np.hstack([np.zeros((BINS + 2, 1)), content, np.zeros((BINS + 2, 1))])
    content[1:-1, 0] = exact.lost_low * exact.target
    content[1:-1, -1] = exact.lost_high * exact.target
    share = content / content.sum(axis=1, keepdims=True)
    events = 6000.0  # per true bin
    weight = content.sum(axis=1, keepdims=True) / events
    mu = expected(leaking, broken, EFFICIENCY, livetime_s=LIVETIME_S * 1e3)
    rng = np.random.default_rng(9)
    drawn = {"fit": [], "iterative": []}
    inputs = ZERO, ZERO, EFFICIENCY
    for _ in range(100):
        sums = rng.poisson(events * share) * weight
        response = response_from_sums(sums, sums * weight, exact.target, EDGES, EDGES)
        fit = forward_fold(mu, *inputs, response, LIVETIME_S * 1e3)
        unfolded = iterative(mu, ZERO, EFFICIENCY, response, LIVETIME_S * 1e3, iterations=4)
        drawn["fit"].append(fit.dnde)
        drawn["iterative"].append(unfolded.dnde)
    for name, result in (("fit", fit), ("iterative", unfolded)):
        error = np.sqrt(np.diag(result.covariance_simulation))
        ratio = np.std(drawn[name], axis=0) / error
        assert 0.9 < np.median(ratio) < 1.1, name
        assert (np.abs(ratio - 1) < 0.3).all(), name


def test_efficiency_error_moves_the_whole_bin():
    response = synthetic_response(perfect)
    mu = expected(perfect, broken, EFFICIENCY, livetime_s=1e12)
    for result in (
        forward_fold(
            mu, ZERO, ZERO, EFFICIENCY, response, 1e12, efficiency_error=0.05 * EFFICIENCY
        ),
        iterative(
            mu, ZERO, EFFICIENCY, response, 1e12, iterations=2, efficiency_error=0.05 * EFFICIENCY
        ),
    ):
        assert np.sqrt(np.diag(result.covariance)) == pytest.approx(0.05 * result.dnde, rel=0.02)
        assert result.dnde_errp == pytest.approx(0.05 * result.dnde, rel=0.07)


# --- iterative unfolding


@given(
    st.lists(st.floats(0, 500), min_size=3, max_size=3).filter(lambda n: sum(n) > 1),
    st.lists(st.floats(0.01, 5), min_size=9, max_size=9),
    st.integers(1, 6),
)
@settings(max_examples=40, deadline=None)
def test_iterations_conserve_the_total(counts, cells, iterations):
    edges = np.array([1.0, 2.0, 4.0, 8.0])
    content = np.zeros((5, 5))
    content[1:-1, 1:-1] = np.reshape(cells, (3, 3))
    ranges = [(0.1, 100.0)]
    r = response_from_sums(content, content, [3.0, 2.0, 1.0], edges, edges, simulated=ranges)
    result = iterative(counts, 0.0, 0.7, r, 10.0, iterations=iterations)
    back = fold(r, result.dnde * np.diff(edges), 10.0, 0.7)
    assert back.sum() == pytest.approx(sum(counts), rel=1e-9)
    assert result.folded == pytest.approx(back, rel=1e-9, abs=1e-12)
    assert (result.dnde >= 0).all()


def test_derivatives_are_those_of_finite_differences(responses):
    """Errors of N and b through the iterations, against the iteration itself."""
    response = responses[leaking]
    mu = expected(leaking, broken, EFFICIENCY)
    b = 0.2 * mu + 0.5

    def run(n, background):
        return iterative(n, background, EFFICIENCY, response, LIVETIME_S, iterations=3)

    start = run(mu + b, b)
    by_n, by_b = np.empty((BINS, BINS)), np.empty((BINS, BINS))
    for k in range(BINS):
        step = np.where(np.arange(BINS) == k, 1e-3 * mu[k], 0.0)
        by_n[:, k] = (run(mu + b + step, b).dnde - run(mu + b - step, b).dnde) / (2 * step[k])
        by_b[:, k] = (run(mu + b, b + step).dnde - run(mu + b, b - step).dnde) / (2 * step[k])
    scale = np.sqrt(np.outer(np.diag(start.covariance), np.diag(start.covariance)))
    numeric = (by_n * start.folded) @ by_n.T
    assert numeric / scale == pytest.approx(start.covariance / scale, abs=1e-4)
    with_error = iterative(
        mu + b, b, EFFICIENCY, response, LIVETIME_S, iterations=3, background_error=0.3 * b
    )
    added = np.diag(with_error.covariance - start.covariance)
    assert added == pytest.approx(np.diag((by_b * (0.3 * b) ** 2) @ by_b.T), rel=1e-3)


def test_more_iterations_less_bias_more_error(responses):
    response = responses[leaking]
    counts = expected(leaking, cutoff, EFFICIENCY)
    scan = scan_iterations(counts, ZERO, EFFICIENCY, response, LIVETIME_S, iterations=12)
    assert scan.iterations.tolist() == list(range(1, 13))
    middle = slice(3, 20)
    error = scan.error[:, middle].mean(axis=1)
    assert (np.diff(error) > 0).all()
    assert (np.diff(scan.chi2) < 0).all()
    bias = np.abs(scan.dnde / dnde(cutoff) - 1)[:, middle].max(axis=1)
    assert bias[5] < 0.3 * bias[0]
    estimate = np.abs(scan.bias / scan.dnde)[:, middle].max(axis=1)
    assert estimate[0] > 3 * estimate[5]
    one = iterative(counts, ZERO, EFFICIENCY, response, LIVETIME_S, iterations=7)
    assert one.dnde == pytest.approx(scan.dnde[6])
    assert one.bias == pytest.approx(scan.bias[6])


def test_empty_bins_keep_an_upper_error(responses):
    n = np.random.default_rng(4).poisson(expected(leaking, broken, EFFICIENCY) / 30)
    empty = n == 0
    assert empty.any()
    for result in (
        forward_fold(n, ZERO, ZERO, EFFICIENCY, responses[leaking], LIVETIME_S),
        iterative(n, ZERO, EFFICIENCY, responses[leaking], LIVETIME_S, iterations=30),
    ):
        assert result.success.all()
        assert (result.dnde_errn >= 0).all()
        per_count = 1 / (LIVETIME_S * EFFICIENCY * responses[leaking].acceptance * WIDTH)
        # the last bin also answers for what comes from above the axis
        assert (result.dnde_errp / per_count)[empty].min() > 1.5
        assert (result.dnde_errp / per_count)[:-1][empty[:-1]].min() > 1.8


def test_few_counts_are_fitted_with_one_power_law(responses):
    n = np.zeros(BINS)
    n[[0, 1, 2, 4, 7]] = [4, 2, 1, 1, 1]
    result = forward_fold(n, ZERO, ZERO, EFFICIENCY, responses[leaking], LIVETIME_S)
    assert result.valid
    assert result.parameters.size == 2
    assert result.factor == pytest.approx(bin_by_bin(responses[leaking]).factor, rel=0.15)


# --- input that cannot be used


def test_unusable_bins_fail_alone(responses):
    response = responses[leaking]
    mu = expected(leaking, broken, EFFICIENCY)
    eff, n, b = EFFICIENCY.copy(), mu.copy(), ZERO.copy()
    eff[3], eff[9], n[14], b[20] = np.nan, 0.0, np.nan, np.nan
    fitted = forward_fold(n, b, ZERO, eff, response, LIVETIME_S)
    bad = [3, 9, 14, 20]
    assert np.flatnonzero(~fitted.success).tolist() == bad
    assert [fitted.reasons[i] for i in bad] == [
        "efficiency is not finite",
        "no efficiency: no electron simulation above the cut",
        "counts is not finite",
        "background is not finite",
    ]
    for values in (fitted.dnde, fitted.dnde_errn, fitted.dnde_errp, fitted.factor, fitted.folded):
        assert np.flatnonzero(np.isnan(values)).tolist() == bad
    assert np.isnan(fitted.covariance[3]).all()
    others = np.delete(fitted.dnde / dnde(broken), bad)
    assert others == pytest.approx(1.0, abs=0.02)
    unfolded = iterative(n, b, eff, response, LIVETIME_S)
    assert set(bad) & set(np.flatnonzero(unfolded.success)) == set()
    assert "of its events are in usable energy bins" in unfolded.reasons[9]


def test_true_bin_without_simulation():
    content = synthetic_response(leaking)
    sums = np.zeros((BINS + 2, BINS + 2))
    sums[1:-1, 1:-1] = (content.matrix * content.target).T
    sums[0, 1:-1], sums[-1, 1:-1] = content.below, content.above
    sums[11] = 0
    response = response_from_sums(sums, sums * 1e-9, content.target, EDGES, EDGES)
    mu = expected(leaking, broken, EFFICIENCY)
    fitted = forward_fold(mu, ZERO, ZERO, EFFICIENCY, response, LIVETIME_S)
    assert np.flatnonzero(~fitted.success).tolist() == [9, 10, 11]
    assert "no simulated events" in fitted.reasons[10]
    assert "unknown" in fitted.reasons[9]
    unfolded = iterative(mu, ZERO, EFFICIENCY, response, LIVETIME_S)
    assert not unfolded.success[10]
    assert "does not cover" in unfolded.reasons[10]


def test_singular_matrix_is_still_unfolded():
    edges = np.array([1.0, 2.0, 4.0, 8.0])
    content = np.ones((5, 5))
    r = response_from_sums(content, content * 1e-6, [3.0, 2.0, 1.0], edges, edges)
    assert r.condition == np.inf
    result = iterative([10.0, 12.0, 8.0], 0.0, 1.0, r, 1.0)
    assert np.isfinite(result.dnde[result.success]).all()
    assert np.isfinite(result.covariance[np.ix_(result.success, result.success)]).all()


def test_finer_true_bins():
    """Response of 26 measured bins in 52 true ones: points in the measured bins."""
    fine = 10 ** (np.log10(EDGES[0]) + 0.03 * np.arange(2 * BINS + 1))
    wide = np.array([fine[0] / 5, *fine, fine[-1] * 5])
    middle = np.sqrt(wide[:-1] * wide[1:])
    borders = np.log(np.concatenate([[1e-9], EDGES, [1e12]]))
    steps = np.diff(leaking(borders - np.log(middle)[:, None]), axis=1)
    target = integral(broken, wide)
    content = 0.3 * target[:, None] * steps
    r = response_from_sums(content, content * 1e-9, target[1:-1], fine, EDGES)
    counts = fold(r, r.target, LIVETIME_S, EFFICIENCY)
    fitted = forward_fold(counts, ZERO, ZERO, EFFICIENCY, r, LIVETIME_S)
    assert fitted.dnde == pytest.approx(dnde(broken), rel=0.02)
    assert np.isfinite(fitted.factor).all()
    rate = r.kernel()[0] @ r.target
    assert migration_factor(r, r.target, rate) == pytest.approx(fitted.factor, rel=0.01)
    unfolded = iterative(counts, ZERO, EFFICIENCY, r, LIVETIME_S)
    assert unfolded.dnde.shape == (2 * BINS,)
    assert np.isnan(unfolded.factor).all()


def test_fit_that_does_not_converge_is_flagged(responses):
    mu = expected(fiducial, broken, EFFICIENCY)

    def infinite(parameters, edges):
        return integral(broken, edges) * np.where(parameters[0] == 1.0, 1.0, np.nan)

    result = forward_fold(
        *(mu, ZERO, ZERO, EFFICIENCY, responses[fiducial], LIVETIME_S), model=infinite, start=[0.0]
    )
    assert not result.valid
    assert not result.success.any()
    assert np.isnan(result.dnde).all()
    assert set(result.reasons) == {"the fit of the folded model did not converge"}


def test_limits_of_the_parameters(responses):
    mu = expected(leaking, broken, EFFICIENCY)
    result = forward_fold(
        *(mu, ZERO, ZERO, EFFICIENCY, responses[leaking], LIVETIME_S),
        model=with_cutoff,
        start=[0.0, 3.0, 0.1],
        limits=[(None, None), (2.9, 3.05), (0.0, None)],
    )
    assert 2.9 <= result.parameters[1] <= 3.05


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"counts": np.full(BINS, -1.0)}, AnalysisError, "counts must not be negative"),
        ({"background": np.full(BINS, -1.0)}, AnalysisError, "background must not be negative"),
        ({"livetime_s": 0.0}, AnalysisError, "livetime must be positive"),
        ({"livetime_s": np.nan}, AnalysisError, "livetime must be positive"),
        ({"counts": np.ones(3)}, HistogramMismatchError, r"counts has shape \(3,\)"),
        ({"efficiency": np.nan}, AnalysisError, "usable energy bin"),
    ],
)
def test_unusable_input(responses, change, error, says):
    given_ = {
        "counts": np.full(BINS, 9.0),
        "background": ZERO,
        "efficiency": EFFICIENCY,
        "response": responses[fiducial],
        "livetime_s": LIVETIME_S,
        **change,
    }
    with pytest.raises(error, match=says):
        forward_fold(**given_, background_error=ZERO)
    with pytest.raises(error, match=says):
        iterative(**given_)


def test_no_counts(responses):
    args = ZERO, ZERO, EFFICIENCY, responses[fiducial], LIVETIME_S
    with pytest.raises(AnalysisError, match="nothing to fit"):
        forward_fold(ZERO, *args)
    unfolded = iterative(*args)
    assert (unfolded.dnde == 0).all()
    assert (unfolded.dnde_errp > 0).all()


def test_unusable_settings(responses):
    response = responses[fiducial]
    n = np.full(BINS, 9.0)
    args = n, ZERO, EFFICIENCY, response, LIVETIME_S
    with pytest.raises(AnalysisError, match="start values"):
        forward_fold(n, ZERO, ZERO, EFFICIENCY, response, LIVETIME_S, model=with_cutoff)
    one = np.where(np.arange(BINS) == 4, 0.9, np.nan)
    with pytest.raises(AnalysisError, match="1 usable energy bins cannot fix 2 parameters"):
        forward_fold(n, ZERO, ZERO, one, response, LIVETIME_S)
    for iterations in (0, 1.5):
        with pytest.raises(AnalysisError, match="number of iterations"):
            iterative(*args, iterations=iterations)
        with pytest.raises(AnalysisError, match="number of iterations"):
            scan_iterations(*args, iterations=iterations)
    with pytest.raises(AnalysisError, match="prior must be positive"):
        iterative(*args, prior=ZERO)
    with pytest.raises(HistogramMismatchError, match="prior has shape"):
        iterative(*args, prior=np.ones(2))


def test_checked_counts_broadcasts(responses):
    data = checked_counts(4, 1, 0, 0.5, 0, responses[fiducial], 10.0)
    assert data.exposure == pytest.approx(5.0)
    assert data.used.all()


# --- figures


def test_figures(responses, tmp_path):
    response = responses[leaking]
    counts = expected(leaking, broken, EFFICIENCY)
    fitted = forward_fold(counts, ZERO, ZERO, EFFICIENCY, response, LIVETIME_S)
    unfolded = iterative(counts, ZERO, EFFICIENCY, response, LIVETIME_S)
    factors = bin_by_bin(response)
    options = {"synthetic": True, "title": "top-fiducial"}
    written = [
        *plot_response(response, tmp_path / "response", **options),
        *plot_energy_smearing(response, tmp_path / "smearing", **options),
        *plot_bin_by_bin(factors, EDGES, tmp_path / "factor", **options),
        *plot_closure(
            {"fit": fitted, "iterative": unfolded}, dnde(broken), tmp_path / "closure", **options
        ),
    ]
    assert [p.name for p in written[::2]] == [
        "response.png",
        "smearing.png",
        "factor.png",
        "closure.png",
    ]
    assert all(path.stat().st_size > 5000 for path in written)
    with pytest.raises(FileExistsError):
        plot_response(response, tmp_path / "response", **options)


def test_figures_of_nothing(responses, tmp_path):
    zero = np.zeros((5, 5))
    edges = np.array([1.0, 2.0, 4.0, 8.0])
    empty = response_from_sums(zero, zero, np.ones(3), edges, edges)
    fitted = iterative(np.ones(BINS), 0.0, 1.0, responses[fiducial], 1.0)
    with pytest.raises(PlotError, match="no true bin"):
        plot_response(empty, tmp_path / "a", synthetic=True)
    with pytest.raises(PlotError, match="no factor"):
        plot_bin_by_bin(bin_by_bin(empty), edges, tmp_path / "b", synthetic=True)
    with pytest.raises(PlotError, match="results with 3 bins"):
        plot_closure({"fit": fitted}, np.ones(3), tmp_path / "c", synthetic=True)
    with pytest.raises(PlotError, match="error below 100 %"):
        plot_closure({"fit": fitted}, np.full(BINS, 1e-30), tmp_path / "c", synthetic=True)
