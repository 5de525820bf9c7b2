import numpy as np
import pytest
from hist import Hist, axis
from hypothesis import given, settings
from hypothesis import strategies as st
from migrationtoys import (
    EDGES,
    broken,
    cutoff,
    fiducial,
    integral,
    leaking,
    perfect,
    rates,
    sharp,
    synthetic_response,
)

from analysis.acceptance import acceptance_from_histogram
from analysis.exceptions import HistogramMismatchError
from analysis.migration.binbybin import bin_by_bin, spectrum_weights
from analysis.migration.response import outcome, response_from_sums, response_matrix
from analysis.migration.smearing import energy_smearing

SMALL = np.array([100.0, 200.0, 400.0, 800.0])


def histograms(content, edges=SMALL, weight=0.01, flow=True):
    """``response`` and ``passed`` as the processor fills them, every event of one weight."""
    options = {"underflow": flow, "overflow": flow}
    categories = (
        axis.StrCategory(["electron", "proton"], name="kind"),
        axis.StrCategory(["fiducial", "topfiducial"], name="region"),
    )
    true = axis.Variable(edges, name="energy_true", **options)
    reco = axis.Variable(edges, name="energy", **options)
    response = Hist(*categories, true, reco, storage="weight")
    passed = Hist(*categories, true, storage="weight")
    middle = np.concatenate([[50.0], np.sqrt(edges[:-1] * edges[1:]), [1e4]])
    rows, columns = np.nonzero(content)
    times = np.asarray(content)[rows, columns]
    at_true, at_reco = np.repeat(middle[rows], times), np.repeat(middle[columns], times)
    response.fill("electron", "fiducial", at_true, at_reco, weight=weight)
    passed.fill("electron", "fiducial", at_true, weight=weight)
    return {"response": response, "passed": passed}


CONTENT = np.array(  # true × reco, flow first and last
    [
        [0, 4, 1, 0, 0],
        [5, 80, 10, 0, 0],
        [0, 20, 60, 8, 0],
        [0, 5, 15, 40, 6],
        [0, 0, 2, 9, 3],
    ]
)
FLUX = [2.0, 0.5, 0.1]
META = {
    "target_flux_integral": {"electron": FLUX},
    "generated": {"electron": [{"events": 9, "e_min_gev": 10.0, "e_max_gev": 1e4}]},
}


def test_matrix_by_hand():
    r = response_matrix(histograms(CONTENT), META)
    assert r.matrix[0] == pytest.approx([0.8 / 2, 0.2 / 0.5, 0.05 / 0.1])
    assert r.variance[1] == pytest.approx([1e-3 / 4, 6e-3 / 0.25, 1.5e-3 / 0.01])
    assert r.below == pytest.approx([0.04, 0.01, 0.0])
    assert r.above == pytest.approx([0.0, 0.02, 0.09])
    assert r.lost == pytest.approx([5 / 95, 0.0, 6 / 66])
    assert r.gained == pytest.approx([4 / 109, 3 / 88, 9 / 57])
    assert r.success.all()
    assert r.known.all()


def test_acceptance_is_that_of_the_flux():
    hists = histograms(CONTENT)
    r = response_matrix(hists, META)
    area = acceptance_from_histogram(hists["passed"], FLUX)
    assert r.acceptance == pytest.approx(area.value, rel=1e-12)
    assert np.sqrt(r.acceptance_variance) == pytest.approx(area.error, rel=1e-12)
    assert r.matrix.sum(axis=0) + r.lost_low + r.lost_high == pytest.approx(area.value, rel=1e-12)


def test_factor_by_hand():
    r = response_matrix(histograms(CONTENT), META)
    f = bin_by_bin(r, variations={"twice below": [2.0, 1.0, 1.0]})
    assert f.factor == pytest.approx([109 / 95, 88 / 88, 57 / 66])
    # below the axis: log-linear, one bin on: 4 times the target
    assert f.variations["twice below"][:2] == pytest.approx(
        [(160 + 16 + 25) / 190, (20 + 75 + 4 + 2) / 88]
    )
    assert f.sys_p[0] == 0.0
    assert f.sys_n[0] == pytest.approx(109 / 95 - 201 / 190)
    assert f.acceptance == pytest.approx(np.array([1.09, 0.88, 0.57]) / FLUX)
    assert f.acceptance_error == pytest.approx(0.01 * np.sqrt([109, 88, 57]) / FLUX)


def test_events_in_both_bins_are_correlated():
    """The closed form is the scatter of simulations of this size; independent sums would not be."""
    rng = np.random.default_rng(3)
    mean = rates(leaking, broken) * 4e6
    draws = rng.poisson(mean, (4000, *mean.shape))
    factor = draws[:, :, 1:13].sum(axis=1) / draws[:, 1:13].sum(axis=2)
    response = response_from_sums(mean, mean, integral(broken), EDGES, EDGES)
    f = bin_by_bin(response)
    error = f.error[:12]
    assert factor.std(axis=0) == pytest.approx(error, rel=0.06)
    assert factor.mean(axis=0) == pytest.approx(f.factor[:12], abs=0.01)
    independent = (
        f.factor[:12] * np.sqrt(1 / mean[:, 1:-1].sum(axis=0) + 1 / mean[1:-1].sum(axis=1))[:12]
    )
    assert (independent > 1.3 * error).all()


@pytest.mark.parametrize(("response", "size"), [(fiducial, 0.001), (leaking, 0.09)])
def test_size_of_the_factor(response, size):
    f = bin_by_bin(synthetic_response(response))
    assert np.abs(f.factor - 1).max() == pytest.approx(size, rel=0.6)
    assert f.success.all()
    assert set(f.reasons) == {""}


def test_fiducial_factor_has_a_closed_form():
    """Relative energies smeared by x, power law E^-g: N_reco / N_true = <exp((g - 1) x)>."""
    response = synthetic_response(fiducial, target=lambda e: e**-3.1)
    f = bin_by_bin(response)
    assert f.factor == pytest.approx(np.exp((2.1 * 0.01) ** 2 / 2), abs=2e-6)
    leak = 0.8 * np.exp((2.1 * 0.07) ** 2 / 2) + 0.2 / (1 + 2.1 * 0.35)
    inside = bin_by_bin(synthetic_response(leaking, target=lambda e: e**-3.1)).factor
    assert inside[:12] == pytest.approx(leak, rel=2e-3)


def test_other_spectra_move_the_leaking_factor():
    wide, narrow = (bin_by_bin(synthetic_response(r)) for r in (leaking, fiducial))
    assert set(wide.variations) == set(spectrum_weights(EDGES))
    for f, name in ((wide, "softer"), (narrow, "softer")):
        assert (f.variations[name] != f.factor).any()
    assert (wide.sys_n + wide.sys_p).max() > 5 * (narrow.sys_n + narrow.sys_p).max()
    # exact factors for the other spectrum, from its own integrals
    truth = bin_by_bin(synthetic_response(leaking, target=lambda e: broken(e) * e**-0.2))
    assert wide.variations["softer"][:-3] == pytest.approx(truth.factor[:-3], abs=2e-3)


@pytest.mark.parametrize("truth", [cutoff, sharp])
def test_reweighted_factor_follows_the_truth(truth):
    response = synthetic_response(leaking)
    weights = integral(truth) / response.target
    own = bin_by_bin(synthetic_response(leaking, target=truth)).factor
    inner = slice(0, 20)  # below the energies that the sharp cut-off empties
    near = np.abs(bin_by_bin(response, weights).factor / own - 1)[inner]
    far = np.abs(bin_by_bin(response).factor / own - 1)[inner]
    assert near.max() < 0.6 * far.max()


def test_perfect_energy_has_no_bias():
    s = energy_smearing(synthetic_response(perfect))
    assert np.abs(s.bias).max() < 0.01
    assert s.half_width == pytest.approx(s.bin_half_width, rel=0.03)
    assert s.stays == pytest.approx(1.0)


def test_leaking_energy():
    r = synthetic_response(leaking, target=lambda e: 1 / e)
    s = energy_smearing(r)
    middle = slice(12, 24)
    # quantiles of the mixture convolved with the bin, from a fine grid
    x = np.linspace(-1, 1, 4001)
    half = 0.06 * np.log(10) / 2
    grid = np.linspace(-half, half, 201)
    cdf = np.mean([leaking(x - g) for g in grid], axis=0)
    q = np.interp([0.158655, 0.5, 0.841345], cdf, x)
    assert s.bias[middle] == pytest.approx(np.expm1(q[1]), abs=0.006)
    # interpolated in bins of 0.138: wider than in truth
    assert s.half_width[middle] == pytest.approx((q[2] - q[0]) / 2, rel=0.15)
    assert s.stays[middle] == pytest.approx(
        np.mean(leaking(half - grid) - leaking(-half - grid)), rel=2e-3
    )
    assert np.isnan(s.bias[-1]) == (r.matrix[:, -1].sum() + r.lost_low[-1] < 0.5 * r.acceptance[-1])
    assert r.lost[0] == pytest.approx(r.lost_low[0] / r.acceptance[0], rel=0.05)


def test_partly_simulated_and_empty_true_bins():
    content = CONTENT.copy()
    content[1] = 0
    meta = {
        **META,
        "generated": {"electron": [{"events": 9, "e_min_gev": 300.0, "e_max_gev": 1e4}]},
    }
    content[0] = 0
    r = response_matrix(histograms(content), meta)
    assert r.success.tolist() == [False, False, True]
    assert r.known.tolist() == [False, False, True]
    f = bin_by_bin(r)
    assert f.success.tolist() == [False, False, True]
    assert np.isnan(f.factor[:2]).all()
    assert "no simulated events" in f.reasons[0]
    assert "does not cover" in f.reasons[1]
    assert f.reasons[2] == ""
    assert np.isfinite(r.condition)


def test_energies_beyond_the_simulation_are_unknown():
    meta = {
        **META,
        "generated": {"electron": [{"events": 9, "e_min_gev": 10.0, "e_max_gev": 800.0}]},
    }
    content = CONTENT.copy()
    content[-1] = 0
    r = response_matrix(histograms(content), meta)
    assert r.success.all()
    assert r.known.tolist() == [True, True, False]
    good, reasons = outcome(r)
    assert good.tolist() == [True, True, False]
    assert "migrates into it is unknown" in reasons[2]


def test_samples_that_touch_cover_a_bin():
    samples = [(10.0, 250.0), (250.0, 350.0), (340.0, 1e4)]
    args = (CONTENT, CONTENT, FLUX, SMALL, SMALL)
    assert response_from_sums(*args, simulated=samples).success.all()
    gap = [(10.0, 250.0), (260.0, 1e4)]
    assert response_from_sums(*args, simulated=gap).success.tolist() == [True, False, True]


def test_bin_without_target_flux_or_reconstructed_events():
    r = response_from_sums(CONTENT, CONTENT, [2.0, 0.0, 0.1], SMALL, SMALL)
    assert r.success.tolist() == [True, False, True]
    assert r.acceptance[1] == 0
    content = CONTENT.copy()
    content[:, 2] = 0
    empty = response_from_sums(content, content, FLUX, SMALL, SMALL)
    assert "no simulated events in this reconstructed bin" in outcome(empty)[1][1]


def test_singular_and_empty_matrix():
    same = np.ones((5, 5))
    assert response_from_sums(same, same, FLUX, SMALL, SMALL).condition == np.inf
    assert response_from_sums(0 * same, same, FLUX, SMALL, SMALL).condition == np.inf
    unit = np.diag([1.0, 1, 1, 1, 1])
    assert response_from_sums(unit, unit, FLUX, SMALL, SMALL).condition == pytest.approx(1.0)


@given(
    st.lists(st.integers(0, 50), min_size=25, max_size=25),
    st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_no_event_is_lost(cells, flux):
    content = np.reshape(cells, (5, 5)).astype(float)
    r = response_from_sums(content, content, flux, SMALL, SMALL)
    inner = content[:, 1:-1].sum()
    assert (r.matrix @ r.target + r.below + r.above).sum() == pytest.approx(inner, abs=1e-9)
    assert (r.acceptance * r.target).sum() == pytest.approx(content[1:-1].sum(), abs=1e-9)
    if content[1:-1].any():
        assert (r.kernel()[0] @ r.target).sum() == pytest.approx(inner, abs=1e-9)


def drop(name, **changes):
    return {k: v for k, v in {**histograms(CONTENT), **changes}.items() if k != name}


@pytest.mark.parametrize(
    ("hists", "meta", "says"),
    [
        (drop("passed"), META, "no histogram 'passed'"),
        (drop(""), {}, "target_flux_integral.electron"),
        (drop(""), {**META, "target_flux_integral": {"electron": [1.0]}}, "flux integrals, got"),
        (drop("", passed=histograms(2 * CONTENT)["passed"]), META, "same events"),
        (drop("", passed=histograms(CONTENT, edges=SMALL + 1)["passed"]), META, "differ"),
        (histograms(CONTENT, flow=False), META, "no under- or overflow"),
    ],
)
def test_unusable_files(hists, meta, says):
    with pytest.raises(HistogramMismatchError, match=says):
        response_matrix(hists, meta)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"content": CONTENT[:-1]}, "shape"),
        ({"content": -CONTENT}, "content of the response"),
        ({"variance": CONTENT * np.nan}, "variance of the response"),
        ({"true_edges": SMALL[::-1]}, "true energy must be positive and ascend"),
        ({"reco_edges": SMALL - 100}, "reconstructed energy must be positive and ascend"),
    ],
)
def test_unusable_sums(change, says):
    base = {"content": CONTENT, "variance": CONTENT, "target": FLUX}
    base |= {"true_edges": SMALL, "reco_edges": SMALL}
    with pytest.raises(HistogramMismatchError, match=says):
        response_from_sums(**{**base, **change})


def test_factor_needs_the_same_bins_and_finite_weights():
    fine = np.array([100.0, 150.0, 200.0, 400.0, 800.0])
    content = np.ones((6, 5))
    r = response_from_sums(content, content, np.ones(4), fine, SMALL)
    with pytest.raises(HistogramMismatchError, match="use forward folding"):
        bin_by_bin(r)
    good = response_from_sums(CONTENT, CONTENT, FLUX, SMALL, SMALL)
    for weights in ([1.0, 1.0], [1.0, -1.0, 1.0], [1.0, np.nan, 1.0]):
        with pytest.raises(HistogramMismatchError, match="weights of a spectrum"):
            bin_by_bin(good, weights)
    zero = bin_by_bin(good, [1.0, 0.0, 1.0], {})
    assert zero.success.tolist() == [True, False, True]
    assert zero.reasons[1] == "no flux in this bin"
    assert zero.sys_n[0] == 0.0
