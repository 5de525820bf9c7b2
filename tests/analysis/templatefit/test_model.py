import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iminuit.cost import poisson_chi2, template_chi2_da
from templatetoys import LOG_E, data, model_of, simulation, slope, truth

from analysis.templatefit.bins import fit_bins
from analysis.templatefit.model import deviance

COUNTS = st.integers(0, 5000)


@settings(max_examples=200, deadline=None)
@given(COUNTS, st.floats(0.02, 5000.0), st.floats(1e-3, 10.0))
def test_deviance_is_that_of_dembinski_and_abdelmotteleb(n, mu, relative):
    variance = (relative * mu) ** 2
    got = deviance(np.array(float(n)), np.array(mu), np.array(variance))[0]
    assert got == pytest.approx(template_chi2_da(n, mu, variance), rel=1e-6, abs=1e-6)
    assert got >= -1e-9


@settings(deadline=None)
@given(COUNTS, st.floats(0.02, 5000.0), st.sampled_from([0.0, 1e-14]))
def test_without_simulation_errors_it_is_poisson(n, mu, relative):
    got = deviance(np.array(float(n)), np.array(mu), np.array(relative * mu**2))[0]
    assert got == pytest.approx(poisson_chi2(n, mu), rel=1e-6, abs=1e-6)


def test_values_by_hand():
    zero = np.zeros(1)
    assert deviance(zero, zero + 3.0, zero)[0] == pytest.approx([6.0])  # 2 mu for no count
    # n = 0, k = mu²/v = 9: 2 [-k ln(k / (mu + k))]
    expected = -2 * 9 * np.log(9 / 12)
    assert deviance(zero, zero + 3.0, zero + 1.0)[0] == pytest.approx([expected])


@settings(max_examples=200, deadline=None)
@given(COUNTS, st.one_of(st.floats(-1.0, 0.0099), st.floats(0.0101, 3000.0)), st.floats(1e-3, 3.0))
def test_derivatives_of_the_deviance(n, mu, relative):
    variance = (relative * max(mu, 0.01)) ** 2
    counts = np.array(float(n))

    def q(x):
        return float(deviance(counts, np.array(x[0]), np.array(x[1]))[0])

    _, by_mean, by_variance = deviance(counts, np.array(mu), np.array(variance))
    at = [mu, variance]
    step = 1e-5 * max(abs(mu), 0.01)
    scale = 1e-4 * (abs(q(at)) / max(abs(mu), 0.01) + 1.0)
    assert by_mean == pytest.approx(slope(q, at, 0, step), rel=1e-4, abs=scale)
    step = 1e-4 * variance
    scale = 1e-4 * (abs(q(at)) / variance + 1.0)
    assert by_variance == pytest.approx(slope(q, at, 1, step), rel=1e-3, abs=scale)


def test_continued_below_a_hundredth_event():
    """Value and slope are continuous, and a negative expectation costs more than an empty one."""
    counts = np.array([0.0, 1.0, 50.0])
    v = np.full(3, 1e-6)
    above, at, below = (
        deviance(counts, np.full(3, m), v) for m in (0.01 + 1e-9, 0.01, 0.01 - 1e-9)
    )
    for k in (0, 1):
        assert above[k] == pytest.approx(below[k], rel=1e-4)
    assert (deviance(counts, np.full(3, -5.0), v)[0] > at[0]).all()


def full_model(rng, *, width=True, electron=True, events=30_000.0):
    n = 3
    electrons, protons = simulation(n, rng=rng, events=events)
    counts = data(*truth(n, s0=0.6, s1=0.4), rng)
    bins = fit_bins(counts, electrons, protons)
    powers = np.vander(LOG_E[:n], 2, increasing=True)
    designs = [powers, powers if width else np.zeros((n, 0)), powers[:, :1] if electron else None]
    designs = [d for d in designs if d is not None]
    return model_of(bins.counts, bins.edges, electrons, protons, *designs)


def test_gradient_of_all_parameters():
    model = full_model(np.random.default_rng(12))
    at = np.array([41e3, 11e3, 4.2e3, 79e4, 25e4, 8.1e4, 0.613, 0.417, 1.04, 0.02, -0.0513])
    value, gradient = model.evaluate(at)
    assert value > 0
    steps = [1.0] * 3 + [5.0] * 3 + [1e-7] * 5
    numeric = [slope(lambda x: model.evaluate(x)[0], at, k, step) for k, step in enumerate(steps)]
    assert gradient == pytest.approx(numeric, rel=2e-4, abs=1e-6 * np.abs(gradient).max())
    # where the yields have the wrong sign as well
    at[1], at[4] = -300.0, 26e4
    numeric = [slope(lambda x: model.evaluate(x)[0], at, k, step) for k, step in enumerate(steps)]
    gradient = model.evaluate(at)[1]
    assert gradient == pytest.approx(numeric, rel=2e-4, abs=1e-6 * np.abs(gradient).max())


def test_unpack_and_expected_add_up():
    model = full_model(np.random.default_rng(13))
    at = np.array([41e3, 11e3, 4.2e3, 79e4, 25e4, 8.1e4, 0.6, 0.4, 1.04, 0.02, -0.05])
    n_e, n_p, shift, width, moved = model.unpack(at)
    assert shift == pytest.approx(0.6 + 0.4 * LOG_E[:3])
    assert width == pytest.approx(1.04 + 0.02 * LOG_E[:3])
    assert moved == pytest.approx(np.full(3, -0.05))
    electrons, var_e, protons, var_p = model.expected(at)
    assert electrons.sum(axis=1) == pytest.approx(n_e)  # an open window loses nothing
    assert protons.sum(axis=1) == pytest.approx(n_p)
    assert var_e.sum(axis=1) == pytest.approx(n_e**2 / 30_000, rel=0.02)
    assert var_p.sum(axis=1) == pytest.approx(n_p**2 / 30_000, rel=0.02)


def test_curvature_is_the_second_derivative_on_average():
    """Expected data and a nearly exact simulation: half the Hessian of the Poisson deviance."""
    n = 2
    electrons, protons = simulation(n, events=1e9)
    electrons_in, protons_in = truth(n, s0=0.613)
    bins = fit_bins(data(electrons_in, protons_in), electrons, protons)
    model = model_of(bins.counts, bins.edges, electrons, protons, np.ones((n, 1)))
    at = np.array([*electrons_in.sum(axis=1), *protons_in.sum(axis=1), 0.613])
    steps = np.array([10.0, 10.0, 100.0, 100.0, 1e-4])
    hessian = np.array(
        [slope(lambda x: model.evaluate(x)[1], at, k, step) for k, step in enumerate(steps)]
    )
    scale = np.sqrt(np.diag(hessian))
    got = model.curvature(at) / np.outer(scale, scale)
    assert got == pytest.approx(hessian / np.outer(scale, scale), abs=0.02)


def test_covariance_of_kept_parameters_is_zero_and_singular_ones_are_nan():
    model = full_model(np.random.default_rng(14), width=False, electron=False)
    at = np.array([41e3, 11e3, 4.2e3, 79e4, 25e4, 8.1e4, 0.6, 0.4])
    free = np.array([True] * 6 + [False, True])
    raw, corrected = model.covariances(at, free)
    for matrix in (raw, corrected):
        assert (matrix[6] == 0).all()
        assert np.linalg.eigvalsh(matrix[np.ix_(free, free)]).min() > 0
        assert matrix == pytest.approx(matrix.T)
    # part of the fluctuation of a template cancels in its yield
    assert (np.diag(corrected)[:6] < np.diag(raw)[:6]).all()
    electrons = simulation(3, rng=np.random.default_rng(15))[0]
    same = model_of(model.counts, model.edges, electrons, electrons)
    for matrix in same.covariances(at[:6], np.ones(6, dtype=bool)):
        assert np.isnan(matrix).all()
