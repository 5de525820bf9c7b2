import json
from dataclasses import replace

import boost_histogram as bh
import hist
import migrationtoys as mt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from analysis.exceptions import HistogramMismatchError
from analysis.toys.draw import draw_response, expectation, truth_table
from analysis.toys.model import read_toy_model, toy_model, write_toy_model
from analysis.toys.response import (
    REACH,
    Kernel,
    Migration,
    gaussian_response,
    kernel_from,
    sharing_chi2,
)

EDGES = 10 ** (1.38 + 0.06 * np.arange(42))
BINS = EDGES.size - 1
MIDDLE = np.sqrt(EDGES[1:] * EDGES[:-1])
BORDERS = np.linspace(-1.2, 0.8, 401)
INTEGRALS = st.just(0.0) | st.floats(1e-3, 10.0)


def leaking(x):
    """A core of 1.5 %, and for one event in ten an exponential tail of 10 % to low energies."""
    return 0.9 * special.ndtr(x / 0.015) + 0.1 * np.exp(np.minimum(x + 0.01, 0.0) / 0.1)


def kernel(cumulative=leaking, energies=(100.0, 1000.0)):
    row = cumulative(BORDERS)
    row[[0, -1]] = 0.0, 1.0
    return Kernel(np.array(energies), BORDERS, np.tile(row, (len(energies), 1)))


def power(index):
    return lambda e: (e / 100.0) ** -index


def draw_ratios(rng, events):
    """ln E and x of an E^-1 sample, core and tail wider at low energies."""
    log_e = rng.uniform(np.log(EDGES[0] / 1.5), np.log(EDGES[-1] * 1.5), events)
    wide = 1.0 + 0.3 * (np.log(3000.0) - log_e) / np.log(100.0)
    core = rng.normal(0.002, 0.015, events)
    tail = -0.01 - rng.exponential(0.1, events)
    return log_e, np.where(rng.random(events) < 0.9, core, tail) * wide


def histograms(log_e, x, weight):
    true = hist.axis.Variable(EDGES, name="energy_true")
    reco = hist.axis.Variable(EDGES, name="energy")
    region = hist.axis.StrCategory(["fiducial", "topfiducial"], name="region")
    estimator = hist.axis.StrCategory(["e_corr", "cnn"], name="estimator")
    ratio_axis = hist.axis.Regular(400, -1.2, 0.8, name="ratio")
    ratio = hist.Hist(region, estimator, true, ratio_axis, storage=bh.storage.Weight())
    response = hist.Hist(true, reco, storage=bh.storage.Weight())
    ratio.fill(
        region="topfiducial", estimator="cnn", energy_true=np.exp(log_e), ratio=x, weight=weight
    )
    response.fill(np.exp(log_e), np.exp(log_e + x), weight=weight)
    return ratio, response


def test_gaussian_kernel_is_the_gaussian_response():
    sigma = 0.02
    found = Migration(kernel(lambda x: special.ndtr((x - 0.003) / sigma)), EDGES).rates(
        np.ones(BINS), np.ones(BINS), power(3.0)
    )
    shares = found[1:-1] / found[1:-1].sum(axis=1, keepdims=True)
    expected = gaussian_response(EDGES, np.full(BINS, 0.003), np.full(BINS, sigma))
    assert shares == pytest.approx(expected, abs=2e-4)


def test_rates_are_those_of_an_independent_integration():
    edges = mt.EDGES
    integral = mt.integral(mt.sharp)
    made = Migration(kernel(), edges)
    found = made.rates(np.full(integral.size, mt.AREA_M2SR), integral, mt.sharp)
    expected = mt.rates(leaking, mt.sharp)
    off = np.abs(found - expected)[1:-1, 1:-1] / (mt.AREA_M2SR * integral[:, None])
    assert off.max() < 3e-4
    near = expected[1:-1].sum(axis=0)
    assert found[1:-1].sum(axis=0)[1:-1] == pytest.approx(near[1:-1], rel=1e-3)
    # from above the axis: the toys go on by a factor, this integration up to five times
    above = mt.rates(leaking, mt.power_law)[-1, -3:-1]
    found = made.rates(
        np.full(integral.size, mt.AREA_M2SR), mt.integral(mt.power_law), mt.power_law
    )
    assert found[-1, -3:-1] == pytest.approx(above, rel=0.02)


@settings(max_examples=20, deadline=None)
@given(st.lists(INTEGRALS, min_size=BINS, max_size=BINS), st.floats(2.0, 5.0))
def test_each_selected_event_is_reconstructed_somewhere(integrals, index):
    area = np.linspace(0.1, 0.3, BINS)
    flux = np.array(integrals)
    for shape in (None, power(index)):
        found = Migration(kernel(), EDGES).rates(area, flux, shape)
        assert (found >= 0).all()
        assert found[1:-1].sum(axis=1) == pytest.approx(area * flux, abs=1e-12)


def test_shape_inside_a_bin_counts():
    made, integral = Migration(kernel(), EDGES), np.ones(BINS)
    i = 20
    half = np.sqrt(EDGES[i] * EDGES[i + 1])
    shapes = (lambda e: 1.0 * (e < half), lambda e: 1.0 * (e >= half))
    shares = [made.rates(integral, integral, shape)[i + 1] for shape in shapes]
    for share, (low, high) in zip(shares, ((EDGES[i], half), (half, EDGES[i + 1])), strict=True):
        energy = np.linspace(low, high, 2001)
        below = leaking(np.log(EDGES[i] / energy))
        # ∫ of a constant flux: even in E
        assert share[: i + 1].sum() == pytest.approx(below.mean(), rel=0.01)
    assert shares[0][i] > 4 * shares[1][i]


def test_nothing_is_selected_below_the_least_energy():
    made = Migration(kernel(), EDGES, float(EDGES[10]))
    free = Migration(kernel(), EDGES)
    flux = MIDDLE**-2.0
    one, two = (m.rates(np.ones(BINS), flux) for m in (made, free))
    assert not one[:, :11].any()
    assert one[:, 11:] == pytest.approx(two[:, 11:])


def test_flux_that_is_a_step():
    flux = np.where(EDGES[:-1] < 2900.0, MIDDLE**-2.0, 0.0)
    for shape in (None, lambda e: np.where(e < 3000.0, e**-3.0, 0.0)):
        found = Migration(kernel(), EDGES).rates(np.ones(BINS), flux, shape)
        assert np.isfinite(found).all()
        assert found[1:-1].sum(axis=1) == pytest.approx(flux)


def test_kernel_of_simulated_events_has_their_migration():
    """Toys from 200 000 pooled events against the migration of other 400 000."""
    rng = np.random.default_rng(5)
    ratio, _ = histograms(*draw_ratios(rng, 200_000), 1.0)
    made = kernel_from(ratio, EDGES, "topfiducial", "cnn", np.ones(BINS, bool))
    log_e, x = draw_ratios(rng, 400_000)
    _, response = histograms(log_e, x, np.exp(log_e) ** -2.0)
    values, variances = (f(flow=True)[1:-1] for f in (response.values, response.variances))
    flux = values.sum(axis=1)
    shares = Migration(made, EDGES).rates(np.ones(BINS), flux, power(3.0))[1:-1]
    shares /= shares.sum(axis=1, keepdims=True)
    chi2, ndf = sharing_chi2(shares, values, variances)
    assert ndf > 150
    # the statistics of both samples, half as many events in one: pooled over three bins and more
    assert stats.chi2.sf(chi2 / 1.5, ndf) > 1e-3
    # a Gaussian, even one of the best width, misses the tails
    wrong = gaussian_response(EDGES, np.zeros(BINS), np.full(BINS, 0.02))
    assert sharing_chi2(wrong, values, variances)[0] > 20 * ndf


def test_bins_that_lost_a_tail_take_the_kernel_of_the_next():
    ratio, _ = histograms(*draw_ratios(np.random.default_rng(6), 100_000), 1.0)
    clear = EDGES[:-1] > 100.0
    made = kernel_from(ratio, EDGES, "topfiducial", "cnn", clear)
    first = int(np.argmax(clear))
    assert (made.cumulative[:first] == made.cumulative[first]).all()
    with pytest.raises(HistogramMismatchError, match="no e_corr events"):
        kernel_from(ratio, EDGES, "topfiducial", "e_corr", clear)
    with pytest.raises(HistogramMismatchError, match="has no estimator 'mlp'"):
        kernel_from(ratio, EDGES, "topfiducial", "mlp", clear)


def test_chi2_of_shares():
    shares = np.array([[0.0, 0.9, 0.1, 0.0]])
    values = np.array([[0.0, 85.0, 15.0, 0.0]])
    assert sharing_chi2(shares, values, values, least=5.0) == (
        pytest.approx(25 / 90 + 25 / 10),
        1,
    )
    # events of weight 2 are half as many
    assert sharing_chi2(shares, 2 * values, 4 * values, least=5.0)[0] == pytest.approx(250 / 90)
    # what is expected too rarely stands together with the rarest
    values = np.array([[50.0, 40.0, 10.0]])
    assert sharing_chi2(np.array([[0.5, 0.48, 0.02]]), values, values) == (pytest.approx(0.0), 1)


@pytest.fixture(scope="module")
def top():
    return read_toy_model("synthetic_omega_topfiducial")


def test_shipped_topfiducial_model(top, tmp_path):
    assert top.region == "topfiducial"
    assert top.meta["synthetic"] is True
    assert top.energy_label == "CNN energy (GeV)"
    assert top.energy["topfiducial"]["model"] == "energy_topfiducial"
    assert top.kernel is not None
    migration = top.meta["migration"]
    assert (migration["from"], migration["estimator"]) == ("energy_ratio", "cnn")
    assert stats.chi2.sf(migration["chi2"], migration["ndf"]) > 1e-3
    used = top.energy_edges[:-1] >= top.least_gev
    assert ((top.acceptance > 0.15) & (top.acceptance < 0.45))[used].all()
    core = [np.interp(q, top.kernel.cumulative[25], top.kernel.borders) for q in (0.16, 0.84)]
    assert (core[1] - core[0]) / 2 == pytest.approx(0.011, abs=0.004)
    write_toy_model(top, tmp_path / "m.json")
    back = read_toy_model(tmp_path / "m.json")
    integral = top.target_flux_integral["electron"]
    assert back.rates(integral) == pytest.approx(top.rates(integral), rel=1e-5, abs=1e-12)
    assert (back.least_gev, back.energy) == (top.least_gev, top.energy)
    # shares of the file are those of the kernel
    rates = top.rates(integral)[1:-1]
    total = rates.sum(axis=1)[used]
    assert rates[used] / total[:, None] == pytest.approx(top.response[used], abs=1e-6)
    for simulated, true in zip(top.simulated_gev, top.energy_edges[[0, -1]], strict=True):
        assert max(simulated / true, true / simulated) == pytest.approx(REACH)


def test_bins_below_the_least_energy_are_empty(top):
    integral = top.target_flux_integral["electron"]
    truth = expectation(top, integral, 1e7, shift=(1.2, 0.6))
    empty = top.energy_edges[:-1] < top.least_gev
    assert empty.sum() < 20
    for part in (truth.electrons, truth.protons):
        assert not part[empty].any()
        assert (part[~empty].sum(axis=1) > 0).all()
    table = json.loads(json.dumps(truth_table(truth, 5.0)))
    assert [v is None for v in table["efficiency"]] == empty.tolist()


def test_drawn_response_has_the_errors_of_its_events(top):
    rng = np.random.default_rng(3)
    target = top.rates(top.target_flux_integral["electron"])
    draws = np.array([draw_response(top, rng, 4000.0) for _ in range(40)])
    mean, variance = draws[:, 0].mean(axis=0), draws[:, 1].mean(axis=0)
    many = (variance > 0) & (target**2 > 30 * variance)  # 30 events and more
    pull = (mean - target)[many] / np.sqrt(variance[many] / 40)
    assert abs(pull.mean()) < 4 / np.sqrt(pull.size)
    assert pull.std() == pytest.approx(1.0, abs=0.15)
    spread = draws[:, 0].var(axis=0, ddof=1)[many] / variance[many]
    assert spread.mean() == pytest.approx(1.0, abs=0.1)


def test_model_from_a_run_with_an_energy_network(top):
    """A run whose electrons have the kernel of the model, with a card that cuts the energy at 110 GeV."""
    rng = np.random.default_rng(8)
    integral = top.target_flux_integral["electron"]
    hists, meta = made_run(replace(top, least_gev=0.0), rng)
    meta["card"] = {"cuts": ["axis", {"energy_range": {"min_gev": 110.0, "max_gev": 20_000.0}}]}
    again = toy_model(hists, meta, top.parametrisation, name="again")
    assert again.least_gev == pytest.approx(125.9, abs=0.1)
    assert again.energy == top.energy
    assert again.meta["migration"]["estimator"] == "cnn"
    used = again.energy_edges[:-1] > 150.0
    assert again.acceptance[used] == pytest.approx(top.acceptance[used], rel=0.02)
    a, b = (m.rates(integral)[1:-1][used] / integral[used, None] for m in (again, top))
    assert a == pytest.approx(b, abs=0.006)
    meta["card"] = None
    assert toy_model(hists, meta, top.parametrisation, name="x").least_gev == 0.0


def made_run(model, rng):
    """Histograms of a run, as projected, with ``energy_ratio`` drawn from the kernel of a model."""
    from analysis.selection import project  # noqa: PLC0415
    from analysis.toys.file import toy_histograms  # noqa: PLC0415

    whole = replace(model, proton_rate=np.maximum(model.proton_rate, 1e-3 * 100.0 / model.energies))
    truth = expectation(whole, whole.target_flux_integral["electron"], 1e6)
    hists, meta = project(*toy_histograms(truth, rng, {}, electron_events=20_000.0))
    events = 20_000
    axis = hist.axis.Regular(400, -1.2, 0.8, name="ratio")
    region = hist.axis.StrCategory(["topfiducial"], name="region")
    estimator = hist.axis.StrCategory(["e_corr", "cnn"], name="estimator")
    true = hist.axis.Variable(model.energy_edges, name="energy_true")
    ratio = hist.Hist(region, estimator, true, axis, storage=bh.storage.Weight())
    view = ratio.view(flow=True)
    share = np.diff(model.kernel.cumulative, axis=1)
    counts = rng.multinomial(events, share / share.sum(axis=1, keepdims=True))
    view.value[0, 1, 1:-1] = counts
    view.variance[0, 1, 1:-1] = counts
    return {**hists, "energy_ratio": ratio}, dict(meta)
