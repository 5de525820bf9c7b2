"""Each cut at its border."""

import numpy as np
import pytest

from processors import selections as s
from processors.geometry import path_x0
from processors.ntuple import FIELDS


def test_cuts_read_known_fields_only() -> None:
    for function in (*s.CUTS.values(), *s.REGIONS.values()):
        assert set(s.cut_fields(function)) <= set(FIELDS), function.__name__


def test_energy_range_and_nan() -> None:
    e = np.array([9.99, 10.0, 9999.0, 10_000.0, np.nan])
    assert s.energy_range(e).tolist() == [False, True, True, False, False]


def test_axis_fails_where_a_view_is_exactly_zero() -> None:
    slope = np.array([0.0, 0.0, 0.1, 0.1])
    intercept = np.array([0.0, 5.0, 0.0, np.nan])
    one = np.ones(4)
    assert s.axis(slope, one, intercept, one).tolist() == [False, True, True, False]
    assert s.axis(one, slope, one, intercept).tolist() == [False, True, True, False]


def test_max_layer_ratio() -> None:
    f = np.zeros((2, 14))
    f[0, 3], f[1, 3] = 0.35, 0.3501
    assert s.max_layer_ratio(f).tolist() == [True, False]


def test_regions_are_disjoint_and_share_the_top() -> None:
    # x at the top 0; at the bottom (402 mm below) 0, 279.9 and 280.1
    slope = np.array([0.0, 279.9 / 402, 280.1 / 402, 0.0])
    intercept = -slope * 46.0 + np.array([0, 0, 0, 281.0])
    zero = np.zeros(4)
    assert s.fiducial(slope, zero, intercept, zero).tolist() == [True, True, False, False]
    assert s.topfiducial(slope, zero, intercept, zero).tolist() == [False, False, True, False]


def test_path_in_radiation_lengths() -> None:
    # vertical through the middle: 350 mm of BGO; at 45 degrees from the middle of the top: leaves after 301.25 mm
    slope, zero = np.array([0.0, 1.0]), np.zeros(2)
    intercept = -46.0 * slope
    inside = np.array([402.0, 301.25 * np.sqrt(2)])
    expected = inside * 350.0 / 402.0 / 11.2
    assert path_x0(slope, zero, intercept, zero) == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx([31.25, 33.121], rel=1e-4)
    for cut in expected:
        passed = s.bgo_path(slope, zero, intercept, zero, min_x0=cut * (1 + 1e-9))
        assert passed.tolist() == (expected > cut).tolist()
    assert not s.bgo_path(np.full(1, np.nan), zero[:1], zero[:1], zero[:1])[0]


def test_n_bar_layer13_allows_fewer_than_11_at_100_gev_and_19_at_1_tev() -> None:
    n_bars = np.zeros((4, 14), np.uint8)
    n_bars[:, 13] = [10, 11, 18, 19]
    e = np.array([100.0, 100.0, 1000.0, 1000.0])
    assert s.n_bar_layer13(n_bars, e).tolist() == [True, False, True, False]


def test_max_rms_looks_at_layers_with_one_per_cent() -> None:
    rms = np.zeros((2, 14))
    rms[:, 13] = 150.0
    f = np.zeros((2, 14))
    f[0, 13], f[1, 13] = 0.01, 0.011
    assert s.max_rms(rms, f).tolist() == [True, False]


def test_low_energy_cleaning_limits() -> None:
    # vertical: 170 mm below 100 GeV, 200 mm from 100 to 250 GeV, none above
    total = np.array([169.0, 171.0, 199.0, 201.0, 1.0])
    rms = np.repeat(total[:, None] / 14, 14, axis=1)
    e = np.array([50.0, 50.0, 100.0, 249.0, 250.0])
    zero = np.zeros(5)
    expected = [False, True, False, True, True]
    assert s.low_energy_cleaning(rms, e, zero, zero).tolist() == expected


def test_track_with_recovery() -> None:
    x = np.array([4, 4, 3, 3, 5, 5, 5])
    y = np.array([4, 5, 3, 4, 5, 5, 2])
    holes_x = np.array([1, 2, 0, 1, 0, 0, 0])
    zero = np.zeros(7)
    distance = np.array([39.0, 1, 1, 1, 41, 1, 1])
    angle = np.array([1.0, 1, 1, 1, 1, 11, 1])
    args = (x, y, holes_x, zero, distance, angle)
    assert s.track(*args).tolist() == [True, False, True, False, False, False, False]
    assert s.track(*args, recover_three=False).tolist() == [True] + [False] * 6


def test_psd_match_needs_a_hit_inside_the_psd() -> None:
    nan = np.nan
    x = np.array([39.0, 41.0, 59.0, nan, nan, nan])
    y = np.array([99.0, 99.0, 99.0, nan, 50.0, nan])
    clusters = np.array([5, 5, 3, 5, 5, 5])
    zero = np.zeros(6)
    at_x = np.array([0, 0, 0, 0, 0, 401.0])  # the last axis misses the PSD
    passed = s.psd_match(x, y, clusters, clusters, zero, zero, at_x, zero)
    assert passed.tolist() == [True, False, True, False, False, True]


def test_psd_charge() -> None:
    nan = np.nan
    qx = np.array([2.0, 2.7, 2.5, 7.9, 8.1, nan, 2.0])
    qy = np.array([2.0, 2.7, 7.6, nan, nan, nan, 7.9])
    expected = [True, False, False, True, False, True, True]
    assert s.psd_charge(qx, qy).tolist() == expected


def test_stk_charge() -> None:
    nan = np.nan
    x = np.array([7.7, 45.0, 9.0, 11.0, 9.0, nan, 39.0])
    y = np.array([7.7, 36.0, 26.0, 26.0, 24.0, nan, 40.0])
    assert s.stk_charge(x, y).tolist() == [True, False, False, True, True, True, True]


def test_stk_core_lines() -> None:
    # 50 GeV, 12 clusters: |-1693.3133 + 394.41844 * 12| = 3039.71; no line above 3 TeV
    e = np.array([50.0, 50.0, 4000.0])
    core = np.array([3039.0, 3040.0, 1e9])
    assert s.stk_core(core, np.full(3, 12.0), e).tolist() == [True, False, True]
