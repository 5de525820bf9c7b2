from dataclasses import replace

import numpy as np
import pytest
from templatetoys import make

from analysis.exceptions import HistogramMismatchError
from analysis.templatefit.result import FitResult, check_axes
from analysis.templatefit.resultfile import fit_text, read_fit


def result(**changes):
    """Three energy bins, of which the first and the last were fitted; a shift of two coefficients."""
    rng = np.random.default_rng(1)
    square = rng.normal(size=(8, 8))
    covariance = square @ square.T
    plain = {
        "e_min": np.array([100.0, 200.0, 400.0]),
        "e_max": np.array([200.0, 400.0, 800.0]),
        "used": np.array([0, 2]),
        "parameters": np.array([10.0, 3.0, 100.0, 30.0, 0.5, 0.2, 1.1, -0.1]),
        "covariance": covariance,
        "raw_covariance": 1.1 * covariance,
        "shift_design": np.array([[1.0, -1.0], [1.0, 2.0]]),
        "width_design": np.ones((2, 1)),
        "electron_design": np.ones((2, 1)),
        "window": (np.full(3, -np.inf), np.full(3, np.inf)),
        "n_data": np.array([110.0, 0.0, 33.0]),
        "n_bins": np.array([20.0, 0.0, 12.0]),
        "deviance": np.array([17.0, np.nan, 9.0]),
        "unsupported": np.zeros(3),
        "at_limit": np.zeros(3, dtype=bool),
        "success": np.array([True, False, True]),
        "reasons": (None, "no data in the window", None),
        "edm": 1e-6,
        "settings": {},
    }
    return FitResult(**{**plain, **changes})


def test_values_and_errors_stand_at_their_energies():
    r = result()
    errors = np.sqrt(np.diag(r.covariance))
    for (value, error), values, at in (
        (r.electrons, [10.0, 3.0], 0),
        (r.protons, [100.0, 30.0], 2),
    ):
        assert value[[0, 2]].tolist() == values
        assert error[[0, 2]] == pytest.approx(errors[at : at + 2])
        assert np.isnan([value[1], error[1]]).all()


def test_curves_and_their_errors():
    r = result()
    value, error = r.shift
    assert value[[0, 2]] == pytest.approx([0.5 - 0.2, 0.5 + 0.4])
    c = r.covariance[4:6, 4:6]
    assert error[0] ** 2 == pytest.approx(c[0, 0] - 2 * c[0, 1] + c[1, 1])
    assert error[2] ** 2 == pytest.approx(c[0, 0] + 4 * c[0, 1] + 4 * c[1, 1])
    assert r.width[0][[0, 2]] == pytest.approx([1.1, 1.1])
    assert r.electron_shift[0][[0, 2]] == pytest.approx([-0.1, -0.1])
    assert np.isnan(r.width[0][1])
    assert list(r.coefficients) == ["s0", "s1", "w0", "e0"]
    assert r.coefficients["w0"] == (1.1, pytest.approx(np.sqrt(r.covariance[6, 6])))


def test_degrees_of_freedom():
    assert result().ndf == 32 - 8
    kept = result().covariance.copy()
    kept[4:6], kept[:, 4:6] = 0.0, 0.0
    assert result(covariance=kept).ndf == 32 - 6


def test_without_shift_and_width():
    none = np.zeros((2, 0))
    r = result(
        parameters=np.array([10.0, 3.0, 100.0, 30.0]),
        covariance=np.eye(4),
        raw_covariance=np.eye(4),
        shift_design=none,
        width_design=none,
        electron_design=none,
    )
    assert r.shift[0][[0, 2]].tolist() == [0.0, 0.0]
    assert r.width[0][[0, 2]].tolist() == [1.0, 1.0]
    assert r.electron_shift[1][[0, 2]].tolist() == [0.0, 0.0]
    assert r.coefficients == {}


def test_a_bin_that_failed_does_not_touch_its_neighbours():
    broken = np.eye(6)
    broken[[1, 3, 5]] = broken[:, [1, 3, 5]] = np.nan
    parameters = np.array([10.0, np.nan, 100.0, np.nan, 0.5, np.nan])
    none = np.zeros((2, 0))
    r = result(
        parameters=parameters,
        covariance=broken,
        raw_covariance=broken,
        shift_design=np.eye(2),
        width_design=none,
        electron_design=none,
        success=np.array([True, False, False]),
        reasons=(None, "no data", "the fit did not converge"),
    )
    for value, error in (r.electrons, r.protons, r.shift):
        assert np.isfinite([value[0], error[0]]).all()
        assert np.isnan([value[1:], error[1:]]).all()


def test_a_fit_without_a_minimum_survives_its_file(tmp_path):
    unknown, matrix = np.full(8, np.nan), np.full((8, 8), np.nan)
    r = result(
        parameters=unknown,
        covariance=matrix,
        raw_covariance=matrix,
        edm=np.inf,
        success=np.zeros(3, dtype=bool),
        reasons=("the fit did not converge",) * 3,
    )
    path = tmp_path / "fit.json"
    path.write_text(fit_text(r), encoding="utf-8")
    back = read_fit(path)
    assert back.edm == np.inf
    assert np.isnan(back.parameters).all()
    assert back.reasons == r.reasons
    assert fit_text(back) == fit_text(r)


def test_check_axes():
    data = make("data", np.ones((2, 202)))
    check_axes(data, make("proton", np.zeros((2, 202))))
    with pytest.raises(HistogramMismatchError, match="score bins of the proton template differ"):
        check_axes(data, replace(make("proton", np.ones((2, 202))), omega_edges=np.arange(202.0)))
    with pytest.raises(HistogramMismatchError, match="energy bins of the electron template"):
        check_axes(data, make("electron", np.ones((3, 202))))
