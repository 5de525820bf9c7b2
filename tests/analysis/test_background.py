import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.background import proton_background
from analysis.exceptions import AnalysisError, CutNotOnEdgeError, HistogramMismatchError
from analysis.templates import Template

EDGES = np.array([-3.0, -2.0, -1.0, 0.0, 1.0])  # control [-2, -1), signal from 0
CUT, CONTROL = 0.0, (-2.0, -1.0)


def make(kind, control, passed, weight=1.0, between=3.0):
    """One energy bin per entry; ``weight`` is that of each event."""
    control, passed = np.atleast_1d(control).astype(float), np.atleast_1d(passed).astype(float)
    columns = [np.full(control.shape, 5.0), np.full(control.shape, 7.0), control]
    columns += [np.full(control.shape, between), passed / 2, passed / 2]
    values = np.stack(columns, axis=1)
    return Template(
        kind, "fiducial", np.arange(1.0, control.size + 2), EDGES, values, values * weight
    )


def test_by_hand():
    result = proton_background(
        make("data", 400, 50), make("proton", 200, 4, weight=0.5), CUT, CONTROL
    )
    assert result.scale == pytest.approx([2.0])
    assert result.scale_error == pytest.approx([2.0 * np.sqrt(1 / 400 + 0.5 / 200)])
    assert result.value == pytest.approx([8.0])
    # 8 effective protons above the cut count as sqrt(8 + 1)
    assert result.error == pytest.approx([8.0 * np.sqrt(1 / 400 + 0.5 / 200 + 9 / 64)])
    assert result.fraction == pytest.approx([0.16])
    assert result.fraction_error == pytest.approx(result.error / 50)
    assert (result.n_data.tolist(), result.n_control.tolist()) == ([50.0], [400.0])
    assert (result.cut, result.control) == (0.0, (-2.0, -1.0))
    assert result.success.all()
    assert not result.mc_limited.any()


@settings(deadline=None)
@given(st.floats(1e-9, 1e9))
def test_scale_of_the_simulation_drops_out(scale):
    data = make("data", [400, 90], [50, 0])
    one = proton_background(data, make("proton", [200, 30], [4, 2]), CUT, CONTROL)
    scaled = make("proton", np.array([200, 30]) * scale, np.array([4, 2]) * scale, weight=scale)
    other = proton_background(data, scaled, CUT, CONTROL)
    assert other.fraction[0] == pytest.approx(one.fraction[0])
    assert other.value == pytest.approx(one.value)
    assert other.error == pytest.approx(one.error)
    assert np.isnan(other.fraction[1])  # no data above the cut; the protons are known all the same
    assert other.value[1] == pytest.approx(6.0)


def test_error_is_the_spread_of_toys():
    rng = np.random.default_rng(552)
    n = 40000
    data = make("data", rng.poisson(300, n), rng.poisson(500, n))
    # each simulated event weighs 0.2
    protons = make("proton", 0.2 * rng.poisson(1500, n), 0.2 * rng.poisson(100, n), weight=0.2)
    result = proton_background(data, protons, CUT, CONTROL)
    pull = (result.value - 20.0) / result.error
    assert np.std(pull) == pytest.approx(1.0, abs=0.03)
    assert np.mean(result.value) == pytest.approx(20.0, abs=0.1)


def test_electrons_in_the_control_region_are_solved_for():
    # data = 2 protons + 10 electrons: control 2*200 + 10*1 = 410, passed 2*4 + 10*20 = 208
    data, protons = make("data", 410, 208), make("proton", 200, 4)
    electrons = make("electron", 1, 20)
    letter = proton_background(data, protons, CUT, CONTROL)
    solved = proton_background(data, protons, CUT, CONTROL, electrons=electrons)
    assert letter.scale == pytest.approx([2.05])
    assert solved.scale == pytest.approx([2.0], rel=1e-12)
    assert solved.value == pytest.approx([8.0], rel=1e-12)


def test_electron_subtraction_error_is_the_spread_of_toys():
    rng = np.random.default_rng(17)
    n = 40000
    data = make("data", rng.poisson(600, n), rng.poisson(2100, n))
    protons = make("proton", rng.poisson(2000, n), rng.poisson(400, n))
    electrons = make("electron", rng.poisson(200, n), rng.poisson(4000, n))
    # r = 0.05, s = (600 - 105) / (2000 - 20) = 0.25
    result = proton_background(data, protons, CUT, CONTROL, electrons=electrons)
    assert np.mean(result.scale) == pytest.approx(0.25, rel=2e-3)
    assert np.std((result.scale - 0.25) / result.scale_error) == pytest.approx(1.0, abs=0.02)
    assert np.std((result.value - 100.0) / result.error) == pytest.approx(1.0, abs=0.02)


def test_no_electron_simulation_means_no_subtraction():
    data, protons = make("data", 400, 50), make("proton", 200, 4)
    result = proton_background(data, protons, CUT, CONTROL, electrons=make("electron", 5, 0))
    assert result.scale == pytest.approx([2.0])


def test_no_simulated_proton_above_the_cut_is_an_error_not_a_zero():
    result = proton_background(
        make("data", 400, 50), make("proton", 200, 0, weight=0.5), CUT, CONTROL
    )
    assert result.success.all()
    assert result.mc_limited.all()
    assert result.value == pytest.approx([0.0])
    # scale 2, weight 0.5 per event, 1.148 events
    assert result.error == pytest.approx([2.0 * 0.5 * 1.147874], rel=1e-6)
    assert result.fraction_error == pytest.approx(result.error / 50)


def test_empty_regions_are_flagged_alone():
    data = make("data", [0, 400, 400, 100], [50, 50, 50, 3000])
    protons = make("proton", [200, 0, 200, 200], [4, 4, 4, 4])
    electrons = make("electron", [1, 1, 1, 100], [1000, 1000, 1000, 1000])
    result = proton_background(data, protons, CUT, CONTROL, electrons=electrons)
    # the last bin has more electrons than data in the control region
    assert result.success.tolist() == [False, False, True, False]
    for values in (result.scale, result.value, result.error, result.fraction, result.scale_error):
        assert np.isnan(values).tolist() == [True, True, False, True]


def test_low_border_may_be_open():
    result = proton_background(make("data", 400, 50), make("proton", 200, 4), CUT, (-np.inf, -1.0))
    assert result.n_control == pytest.approx([412.0])
    assert result.scale == pytest.approx([412.0 / 212.0])


def test_bad_regions_and_bins():
    data, protons = make("data", 400, 50), make("proton", 200, 4)
    with pytest.raises(AnalysisError, match="reaches above the cut -1;"):
        proton_background(data, protons, -1.0, (-2.0, 0.0))
    with pytest.raises(CutNotOnEdgeError, match=r"-1\.3 is not on a bin edge"):
        proton_background(data, protons, CUT, (-2.0, -1.3))
    with pytest.raises(HistogramMismatchError, match="proton template differ"):
        proton_background(data, make("proton", [1, 2], [1, 2]), CUT, CONTROL)
