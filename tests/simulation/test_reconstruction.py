import numpy as np
import pytest

from processors.geometry import BAR_PITCH_MM, BAR_U_MM, LAYER_MEASURES_Y, LAYER_Z_MM
from processors.showers import f_last, zeta
from simulation.calibrate import fiducial_electrons
from simulation.reconstruction import (
    CORRECTION_LIMIT,
    correction_terms,
    fit_axis,
    fit_correction,
    reconstruct,
)

PROFILE = np.array([17, 80, 159, 182, 165, 120, 82, 52, 32, 21, 13, 9, 5, 4]) / 941


def toy(slope_x, slope_y, x_mm, y_mm, energy_mev=1e5):
    """A shower with exponential sides (6 mm) around an axis through (x, y) at z = 247 mm."""
    z = LAYER_Z_MM - 247.0
    centre = np.where(LAYER_MEASURES_Y, y_mm + slope_y * z, x_mm + slope_x * z)
    edges = np.concatenate([BAR_U_MM - BAR_PITCH_MM / 2, [BAR_U_MM[-1] + BAR_PITCH_MM / 2]])
    d = edges - centre[:, None]
    cdf = 0.5 * (1 + np.sign(d) * (1 - np.exp(-np.abs(d) / 6)))
    return (np.diff(cdf, axis=1) * PROFILE[:, None] * energy_mev)[None]


@pytest.fixture(scope="module")
def electrons():
    return fiducial_electrons(1_600_000, 11)


def angle_deg(axis, direction):
    line = np.stack([axis.slope_x, axis.slope_y, np.ones(len(direction))], axis=1)
    cosine = (line * direction).sum(axis=1) / np.linalg.norm(line, axis=1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


@pytest.mark.parametrize(("slope_x", "slope_y"), [(0.0, 0.0), (0.5, 0.0), (0.0, -0.4), (0.3, 0.6)])
def test_axis_of_a_known_shower(slope_x, slope_y):
    axis = fit_axis(toy(slope_x, slope_y, 10.0, -35.0))
    # even layers measure y: a tilt in x must not leak into y. The correction for the tilted front, which
    # this toy does not have, lengthens slopes by some per cent
    assert axis.slope_x[0] == pytest.approx(slope_x, abs=0.05)
    assert axis.slope_y[0] == pytest.approx(slope_y, abs=0.05)
    assert axis.intercept_x_mm[0] + 247 * axis.slope_x[0] == pytest.approx(10, abs=6)
    assert axis.intercept_y_mm[0] + 247 * axis.slope_y[0] == pytest.approx(-35, abs=6)
    assert axis.fitted[0]


def test_axis_outside_the_bars_is_pulled_inwards():
    axis = fit_axis(toy(0.0, 0.0, 299.0, 0.0))
    assert 275 < axis.intercept_x_mm[0] < 290


def test_too_few_layers_give_exact_zeros():
    image = toy(0.2, 0.2, 0.0, 0.0)
    image[:, 5:] = 0.0  # y keeps layers 0, 2 and 4, x only 1 and 3
    axis = fit_axis(image)
    assert axis.slope_x[0] == 0.0
    assert axis.intercept_x_mm[0] == 0.0
    assert axis.slope_y[0] == pytest.approx(0.2, abs=0.05)
    assert not axis.fitted[0]


def test_layer_variables():
    image = toy(0.0, 0.0, 10.0, 10.0)
    image[image < 2.0] = 0.0
    image[0, 13] = 0.0
    result = reconstruct(image)
    total = image.sum()
    assert result.raw_gev[0] == pytest.approx(total / 1e3)
    assert result.layer_fraction[0] == pytest.approx(image[0].sum(axis=1) / total)
    assert result.layer_fraction.sum() == pytest.approx(1.0)
    assert result.bars_per_layer.dtype == np.uint8
    assert result.bars_per_layer[0].tolist() == (image[0] > 10).sum(axis=1).tolist()
    assert result.hits[0] == (image > 0).sum()
    assert result.rms_l_mm[0] == result.layer_rms_mm[0, 12] > 0
    expected = zeta(result.layer_rms_mm, f_last(result.layer_fraction))
    assert result.zeta[0] == pytest.approx(expected[0])
    axis = result.axis
    centre_y = axis.intercept_y_mm + axis.slope_y * LAYER_Z_MM
    centre_x = axis.intercept_x_mm + axis.slope_x * LAYER_Z_MM
    d2 = (BAR_U_MM - np.where(LAYER_MEASURES_Y, centre_y, centre_x)[:, None]) ** 2
    assert result.rms_r_mm[0] == pytest.approx(np.sqrt((image[0] * d2).sum() / total))


def test_event_without_signal_and_no_events():
    result = reconstruct(np.zeros((1, 14, 22)))
    assert result.raw_gev[0] == result.corrected_gev[0] == result.zeta[0] == result.rms_l_mm[0] == 0
    assert not result.axis.fitted[0]
    assert reconstruct(np.zeros((0, 14, 22))).layer_rms_mm.shape == (0, 14)


def test_unknown_version_is_refused():
    with pytest.raises(ValueError, match="unknown BGO reconstruction 'middle'"):
        reconstruct(np.zeros((1, 14, 22)), "middle")


def test_corrected_energy_of_electrons(electrons):
    bar_mev, energy, _ = electrons
    ratio = reconstruct(bar_mev).corrected_gev / energy
    for low, high in ((50, 200), (200, 1000), (1000, 5000)):
        low_q, median, high_q = np.quantile(
            ratio[(energy > low) & (energy < high)], [0.16, 0.5, 0.84]
        )
        assert median == pytest.approx(1.0, abs=0.005)
        assert 0.0075 < (high_q - low_q) / 2 < 0.016
    old = reconstruct(bar_mev, "old").corrected_gev / energy
    assert np.median(old) / np.median(ratio) == pytest.approx(0.993, abs=0.002)


def test_correction_is_limited(electrons):
    bar_mev = electrons[0][:500].copy()
    bar_mev[:, 13] *= 1000  # unlike any electron
    result = reconstruct(bar_mev)
    factor = result.corrected_gev / result.raw_gev
    assert factor.max() <= CORRECTION_LIMIT * (1 + 1e-12)
    assert factor.min() >= 1.0


def test_fit_finds_the_coefficients_that_made_the_energies(electrons):
    bar_mev = electrons[0].astype(float)
    total = bar_mev.sum(axis=(1, 2))
    fraction = bar_mev.sum(axis=2) / total[:, None]
    for version, n in (("new", 11), ("old", 4)):
        terms = correction_terms(bar_mev, total, fraction, fit_axis(bar_mev, version), version)
        assert terms.shape == (len(total), n)
        truth = np.linspace(0.05, -0.05, n)
        fitted = fit_correction(bar_mev, total / 1e3 * np.exp(terms @ truth), version)
        assert fitted == pytest.approx(truth, abs=1e-8)


def test_angular_resolution_and_slope_scale(electrons):
    bar_mev, energy, direction = electrons
    high = energy > 200
    new, old = (angle_deg(fit_axis(bar_mev[high], v), direction[high]) for v in ("new", "old"))
    assert np.quantile(new, 0.68) < 1.0
    assert 1.3 < np.quantile(old, 0.68) < 3.0
    slope = direction[high, 0] / direction[high, 2]
    assert np.polyfit(slope, fit_axis(bar_mev[high]).slope_x, 1)[0] == pytest.approx(1.0, abs=0.015)
