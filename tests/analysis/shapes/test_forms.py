from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad

from analysis.shapes.forms import Form, ShapeError, cdf, density

LOG = st.floats(-2.0, 2.0)


def test_wide_peak_is_a_gaussian():
    parameters = [1.5, np.log(2.0), np.log(2.0), np.log(9.0), np.log(9.0)]
    x = np.linspace(-8.0, 11.0, 50)
    assert cdf(Form(), x, parameters)[0] == pytest.approx(stats.norm.cdf(x, 1.5, 2.0), abs=1e-13)
    assert density(Form(), x, parameters)[0] == pytest.approx(stats.norm.pdf(x, 1.5, 2.0))


def test_tiny_core_is_a_laplace_distribution():
    k = 1e-6
    parameters = [0.0, np.log(k * 3.0), np.log(k * 3.0), np.log(k), np.log(k)]
    x = np.linspace(-10.0, 10.0, 41)
    assert cdf(Form(), x, parameters)[0] == pytest.approx(stats.laplace.cdf(x, 0, 3.0), abs=1e-5)


def test_halves_are_shared_as_the_widths():
    # both sides scale with sigma at equal k: F(mu) = sigma_left / (sigma_left + sigma_right)
    parameters = [[2.0, np.log(1.0), np.log(3.0), 0.3, 0.3]]
    assert cdf(Form(), [2.0], parameters)[0, 0] == pytest.approx(0.25, abs=1e-14)


def test_last_tail_falls_with_its_slope():
    form = Form(1, 2)
    parameters = [0.0, 0.0, 0.0, 0.0, 0.0, np.log(1.0), np.log(0.3)]
    parameters += [np.log(2.0), np.log(0.5), np.log(4.0), np.log(0.1)]
    start = 1.0 + 2.0 + 4.0  # k sigma + d1 + d2
    up = 1.0 - cdf(form, [start, start + 3.0, start + 6.0], parameters)[0]
    assert up[1:] / up[:-1] == pytest.approx(np.exp(-0.1 * 3.0), rel=1e-9)
    down = cdf(form, [-2.0, -5.0], parameters)[0]
    assert down[1] / down[0] == pytest.approx(np.exp(-0.3 * 3.0), rel=1e-9)
    # the middle exponential, and the density at the breaks is continuous
    y = density(form, [3.0 - 1e-9, 3.0 + 1e-9, 6.9], parameters)[0]
    assert y[1] == pytest.approx(y[0], rel=1e-7)
    assert y[2] / y[1] == pytest.approx(np.exp(-0.5 * 3.9), rel=1e-7)


@pytest.mark.parametrize("form", [Form(0, 0), Form(2, 1), Form(0, 3)])
def test_cumulative_is_the_integral_of_the_density(form):
    rng = np.random.default_rng(3)
    parameters = np.concatenate([[1.0], rng.normal(0.0, 0.4, len(form.names) - 1)])
    assert np.isclose(cdf(form, [-np.inf], parameters)[0, 0], 0.0)
    edges = np.linspace(-12.0, 14.0, 14)
    steps = [
        quad(lambda y: density(form, [y], parameters)[0, 0], a, b, limit=200, points=[(a + b) / 2])
        for a, b in pairwise(edges)
    ]
    assert np.diff(cdf(form, edges, parameters)[0]) == pytest.approx(
        [s[0] for s in steps], abs=2e-7
    )


@given(st.floats(-30, 10), st.lists(LOG, min_size=10, max_size=10))
def test_monotone_and_normalised(mu, logarithms):
    form = Form(1, 2)
    x = np.concatenate([[-np.inf], np.linspace(-60.0, 60.0, 301), [np.inf]])
    f = cdf(form, x, [mu, *logarithms])[0]
    assert f[[0, -1]] == pytest.approx([0.0, 1.0], abs=1e-14)
    assert (np.diff(f) >= -1e-14).all()
    assert f.min() >= 0.0
    assert f.max() <= 1.0


def test_many_energies_at_once():
    rng = np.random.default_rng(5)
    parameters = rng.normal(0.0, 0.5, (4, 5))
    x = np.linspace(-4.0, 4.0, 9)
    together = cdf(Form(), x, parameters)
    assert together.shape == (4, 9)
    for row, one in zip(together, parameters, strict=True):
        assert (row == cdf(Form(), x, one)[0]).all()


def test_names_follow_the_breaks():
    assert Form(1, 2).names == (
        *("mu", "ln_sigma_left", "ln_sigma_right", "ln_k_left", "ln_k_right"),
        *("ln_d1_left", "ln_lambda1_left"),
        *("ln_d1_right", "ln_lambda1_right", "ln_d2_right", "ln_lambda2_right"),
    )


def test_bad_parameters_are_named():
    with pytest.raises(ShapeError, match=r"5 parameters .*got an array of shape"):
        cdf(Form(), [0.0], [1.0, 2.0])
    with pytest.raises(ShapeError, match="ln_k_left of a shape is not finite"):
        cdf(Form(), [0.0], [0.0, 0.0, 0.0, np.nan, 0.0])
    with pytest.raises(ShapeError, match="0 to 4 breaks, got 5"):
        Form(5, 0)
    with pytest.raises(ShapeError, match="got 'two'"):
        Form(0, "two")
