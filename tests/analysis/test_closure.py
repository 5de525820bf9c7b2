import numpy as np
import pytest

from analysis.closure import QUANTITIES, closure
from analysis.exceptions import AnalysisError
from analysis.templatefit import FitSettings
from analysis.toys.draw import expectation, read_toy_model, truth_table
from analysis.toys.model import ToyModelError

TEN_YEARS = 236_375_620.0  # s of livetime
FITTED = [q for q in QUANTITIES if not q.startswith("sideband")]


@pytest.fixture(scope="module")
def model():
    return read_toy_model("synthetic_omega")


@pytest.fixture(scope="module")
def forty(model):
    return closure(model, 40, 2024, livetime_s=TEN_YEARS)


def test_forty_pseudo_experiments_have_unit_pulls(forty):
    assert forty.number == 40
    assert (forty.failed == 0).all()
    low = forty.e_max < 1001.0
    assert low.sum() == 27
    for name in FITTED:
        mean, width = forty.mean(name)[low], forty.width(name)[low]
        if name == "shift":  # one curve for all energies: no average over them
            assert np.abs(mean).max() < 4.0 / np.sqrt(40), name
            assert np.abs(width - 1).max() < 4.0 / np.sqrt(80), name
            continue
        assert abs(mean.mean()) < 0.1, name
        assert np.abs(mean).max() < 4.5 / np.sqrt(40), name
        assert abs(np.sqrt(np.mean(width**2)) - 1) < 0.1, name
        assert forty.coverage(name).mean() == pytest.approx(0.683, abs=0.06), name
    assert np.abs(forty.mean("coefficients")).max() < 4.0 / np.sqrt(40)
    assert np.abs(forty.width("coefficients") - 1).max() < 4.0 / np.sqrt(80)
    assert forty.deviance.mean() == pytest.approx(forty.ndf.mean(), rel=0.03)
    # the control region takes the protons where they are not
    mean, error = forty.ratio("background")
    assert (np.abs(mean - 1.0) / error).max() < 4.5
    assert mean.mean() == pytest.approx(1.0, abs=0.01)
    assert forty.ratio("sideband_background")[0].mean() < 0.9
    mean, error = forty.ratio("flux")
    assert (np.abs(mean - 1.0) / error).max() < 4.5
    assert (mean < forty.ratio("sideband_flux")[0]).all()
    assert forty.coverage("sideband_background")[low].mean() < 0.1


@pytest.mark.slow
def test_a_thousand_pseudo_experiments(model):
    """41 energy bins, ten years, a shift of 0.8 + 0.4 log10(E/TeV), data and simulation fluctuate.

    Below 1 TeV the mean pull is within 0.1 and the width within 0.9 to 1.1, above it intervals cover 64 to
    74 %. A mean of 1000 has a standard error of 0.03, of which one is allowed for in single bins. Intervals of
    few counts cover more by construction: bins below 20 expected events are bounded from below only.
    """
    result = closure(model, 1000, 20263, livetime_s=TEN_YEARS)
    assert (result.failed == 0).all()
    low = result.e_max < 1001.0
    one = 1.0 / np.sqrt(1000)
    for name in FITTED:
        mean, width, coverage = (f(name) for f in (result.mean, result.width, result.coverage))
        assert abs(mean[low].mean()) < 0.05, name
        assert np.abs(mean[low]).max() < 0.1 + one, name
        assert (np.abs(mean[low]) < 0.1).mean() > 0.95, name
        assert np.abs(width[low] - 1).max() < 0.1, name
        assert coverage[~low].min() > 0.64, name
        if name in ("electrons", "protons", "shift", "background"):
            assert coverage[~low].max() < 0.74, name
    for name in ("flux", "background_fraction"):
        coverage = result.coverage(name)[~low]
        assert 0.64 < coverage.mean() < 0.74, name
        many = result.expected[~low] > 20
        assert coverage[many].max() < 0.74 + 3 * 0.015, name
    assert np.abs(result.mean("coefficients")).max() < 0.1
    assert np.abs(result.width("coefficients") - 1).max() < 0.1
    assert (result.ratio("sideband_background")[0][5:] < 0.9).all()
    mean, error = result.ratio("background")
    assert (np.abs(mean - 1.0) / error).max() < 4.0


def test_same_seed_same_pulls(model):
    settings = FitSettings(e_min_gev=500.0, e_max_gev=2000.0)
    one, two = (closure(model, 2, 5, settings, livetime_s=1e7, shift=(0.3, 0.0)) for _ in range(2))
    other = closure(model, 2, 6, settings, livetime_s=1e7, shift=(0.3, 0.0))
    for name in QUANTITIES:
        assert np.array_equal(one.pulls[name], two.pulls[name], equal_nan=True)
    assert (one.deviance == two.deviance).all()
    assert not np.array_equal(one.deviance, other.deviance)
    fitted = (one.e_min >= 500) & (one.e_max <= 2000)
    assert (one.failed == np.where(fitted, 0, 2)).all()
    assert np.isfinite(one.pulls["protons"][:, fitted]).all()
    assert np.isnan(one.pulls["protons"][:, ~fitted]).all()
    for f in (one.mean, one.width, one.coverage):
        assert np.isfinite(f("protons")).tolist() == fitted.tolist()
    assert np.isfinite(one.ratio("flux")).all(axis=0).tolist() == fitted.tolist()


def test_truth_is_that_of_the_toy(model):
    result = closure(
        model, 1, 1, FitSettings(shift_order=0, e0_gev=500.0), livetime_s=1e7, shift=(0.3, 0.1)
    )
    known = expectation(
        model, model.target_flux_integral["electron"], 1e7, shift=(0.3, 0.1), e0_gev=500.0
    )
    table = truth_table(known, 5.0)
    assert result.truth["background_fraction"] == pytest.approx(table["background_fraction"])
    assert result.truth["background"] == pytest.approx(table["n_proton"])
    assert result.truth["shift"] == pytest.approx(table["proton_shift"])
    assert result.expected == pytest.approx(table["n_data"])
    injected = model.target_flux_integral["electron"] / np.diff(model.energy_edges)
    assert result.truth["flux"] == pytest.approx(injected)
    assert np.isfinite(result.coefficients[0, 0])
    assert np.isnan(result.coefficients[0, 1])  # order 0 has no s1


def test_single_bins_have_shifts_but_no_coefficients(model):
    settings = FitSettings(method="per_bin", e_min_gev=100.0, e_max_gev=300.0)
    result = closure(model, 2, 3, settings, livetime_s=1e7)
    fitted = (result.e_min >= 100) & (result.e_max <= 300)
    assert np.isfinite(result.pulls["shift"][:, fitted]).all()
    assert np.isnan(result.coefficients).all()


def test_refused(model):
    with pytest.raises(AnalysisError, match="at least one pseudo-experiment, got 0"):
        closure(model, 0, 1, livetime_s=1e7)
    with pytest.raises(ToyModelError, match="livetime_s must be positive"):
        closure(model, 1, 1, livetime_s=-1.0)
