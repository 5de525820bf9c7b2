"""Geometry against the published positions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors import geometry as g
from processors import selections as s


def test_layers_and_bars_stand_where_the_geometry_files_say() -> None:
    assert g.LAYER_Z_MM[[0, -1]].tolist() == [58.5, 435.5]
    assert g.BAR_U_MM[[0, 10, 11, -1]].tolist() == [-288.75, -13.75, 13.75, 288.75]
    assert g.LAYER_Z_MM[0] - 12.5 == g.BGO_TOP_MM
    assert g.LAYER_Z_MM[-1] + 12.5 == g.BGO_BOTTOM_MM
    assert pytest.approx((21 * 27.5 + 25) / 2) == g.BGO_HALF_WIDTH_MM
    assert g.LAYER_MEASURES_Y[:2].tolist() == [True, False]
    assert np.pi * g.GENERATION_RADIUS_M**2 == pytest.approx(6.0, abs=1e-9)


@given(st.integers(0, 13), st.integers(0, 21))
def test_bar_identifiers_round_trip(layer: int, bar: int) -> None:
    identifier = g.global_bar_id(layer, bar)
    assert (int(g.layer_of_id(identifier)), int(g.bar_of_id(identifier))) == (layer, bar)
    assert int(identifier) == layer * 2048 + bar * 64


def test_border_of_the_square_and_nan_are_outside() -> None:
    x = np.array([279.99, 280.0, -280.0, np.nan])
    zero = np.zeros(4)
    inside = g.in_square(zero, zero, x, zero, 46.0, 280.0)
    assert inside.tolist() == [True, False, False, False]


def test_slope_moves_the_axis_with_depth() -> None:
    # x = 100 + 0.5 z crosses 280 at z = 360, between the top (46) and the bottom (448)
    line = (np.array([0.5]), np.array([0.0]), np.array([100.0]), np.array([0.0]))
    assert g.in_square(*line, g.BGO_TOP_MM, 280.0).all()
    assert not g.in_square(*line, g.BGO_BOTTOM_MM, 280.0).any()


def _rays_through_the_top(n: int) -> tuple[np.ndarray, ...]:
    """Isotropic rays through the fiducial square at the top, by points and cosine-weighted directions."""
    rng = np.random.default_rng(11)
    x, y = rng.uniform(-280.0, 280.0, (2, n))
    phi, tangent2 = rng.uniform(0.0, 2 * np.pi, n), rng.random(n)
    tangent = np.sqrt(tangent2 / (1.0 - tangent2))  # sin² of the zenith is uniform
    sx, sy = tangent * np.cos(phi), tangent * np.sin(phi)
    return sx, sy, x - g.BGO_TOP_MM * sx, y - g.BGO_TOP_MM * sy


def test_geometric_factors_of_both_regions_and_of_the_path_cuts() -> None:
    whole = np.pi * 0.56**2  # m² sr of the square at the top
    # view factor of two parallel squares of side 560 mm at a distance of 402 mm, in closed form
    x = 560.0 / 402.0
    u = np.sqrt(1 + x**2)
    seen = np.log(u**2 / np.sqrt(1 + 2 * x**2)) + 2 * x * u * np.arctan(x / u)
    fiducial = whole * 2 / (np.pi * x**2) * (seen - 2 * x * np.arctan(x))
    assert fiducial == pytest.approx(0.2918, abs=3e-4)
    assert whole - fiducial == pytest.approx(0.693, abs=5e-4)
    axis = _rays_through_the_top(2_000_000)
    leaves = s.topfiducial(*axis)
    assert whole * leaves.mean() == pytest.approx(whole - fiducial, abs=1.5e-3)
    # an independent integration, to three digits
    for cut, factor in ((10.0, 0.571), (15.0, 0.484), (20.0, 0.400), (25.0, 0.319)):
        share = (leaves & s.bgo_path(*axis, min_x0=cut)).mean()
        assert whole * share == pytest.approx(factor, abs=2e-3), cut
