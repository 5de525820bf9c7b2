import numpy as np
import pytest

from processors.geometry import (
    BGO_BOTTOM_MM,
    BGO_TOP_MM,
    FIDUCIAL_HALF_WIDTH_MM,
    GENERATION_RADIUS_M,
)
from processors.spectrum import ELECTRON_2017, PROTON_2026, Spectrum
from simulation.primaries import (
    BGO_BOX,
    SPHERE_CENTRE_MM,
    TOTAL_ETENDUE_M2SR,
    TRIGGER_BOX,
    Box,
    isotropic_rays,
    log_uniform_energies,
    spectrum_energies,
    thin_outside,
)


def test_total_etendue():
    assert pytest.approx(37.70, abs=0.005) == TOTAL_ETENDUE_M2SR


def test_pure_geometry_acceptances():
    # 8e7 rays thrown: 0.13 % and 0.08 % statistical error
    rng = np.random.default_rng(2)
    fiducial = top_only = thrown = 0
    for _ in range(8):
        rays = isotropic_rays(rng, 10_000_000)
        inside = [
            (np.abs(rays.at_depth(z)[:, :2]) < FIDUCIAL_HALF_WIDTH_MM).all(axis=1)
            for z in (BGO_TOP_MM, BGO_BOTTOM_MM)
        ]
        fiducial += int((inside[0] & inside[1]).sum())
        top_only += int((inside[0] & ~inside[1]).sum())
        thrown += rays.thrown
    assert fiducial / thrown * TOTAL_ETENDUE_M2SR == pytest.approx(0.2918, rel=0.006)
    assert top_only / thrown * TOTAL_ETENDUE_M2SR == pytest.approx(0.693, rel=0.005)
    # a horizontal square sees pi times its area
    square = np.pi * (2e-3 * FIDUCIAL_HALF_WIDTH_MM) ** 2
    assert (fiducial + top_only) / thrown * TOTAL_ETENDUE_M2SR == pytest.approx(square, rel=0.004)


@pytest.mark.parametrize("box", [BGO_BOX, TRIGGER_BOX, Box(100.0, 400.0, 700.0)])
def test_etendue_of_a_box_is_half_pi_times_its_surface(box):
    # Cauchy: a convex body in an isotropic flux from one hemisphere has etendue pi S / 2
    rays = isotropic_rays(np.random.default_rng(3), 4_000_000, box)
    width, height = 2e-3 * box.half_width_mm, 1e-3 * (box.z_max_mm - box.z_min_mm)
    surface = 2 * width**2 + 4 * width * height
    etendue = len(rays.direction) / rays.thrown * TOTAL_ETENDUE_M2SR
    assert etendue == pytest.approx(np.pi * surface / 2, rel=0.015)


def test_rays_start_on_the_sphere_and_point_down_into_the_box():
    rays = isotropic_rays(np.random.default_rng(4), 100_000)
    radius = np.linalg.norm(rays.position_mm - SPHERE_CENTRE_MM, axis=1)
    assert radius == pytest.approx(1e3 * GENERATION_RADIUS_M)
    assert np.linalg.norm(rays.direction, axis=1) == pytest.approx(1.0)
    assert (rays.direction[:, 2] > 0).all()
    assert (((SPHERE_CENTRE_MM - rays.position_mm) * rays.direction).sum(axis=1) > 0).all()
    path = np.linspace(0, 3000, 3001)
    points = rays.position_mm[:500, None, :] + path[:, None] * rays.direction[:500, None, :]
    half = BGO_BOX.half_width_mm
    within = (np.abs(points[..., :2]) < half).all(axis=2)
    within &= (points[..., 2] > BGO_BOX.z_min_mm) & (points[..., 2] < BGO_BOX.z_max_mm)
    # rays that cut a corner by less than the step are not seen
    assert within.any(axis=1).mean() > 0.99


def test_flux_through_a_horizontal_plane_follows_the_cosine_law():
    rays = isotropic_rays(np.random.default_rng(5), 2_000_000)
    on_square = (np.abs(rays.at_depth(250.0)[:, :2]) < 200.0).all(axis=1)
    cosine = rays.direction[on_square, 2]
    assert cosine.mean() == pytest.approx(2 / 3, abs=0.005)
    azimuth = np.arctan2(rays.direction[on_square, 1], rays.direction[on_square, 0])
    assert abs(np.exp(1j * azimuth).mean()) < 0.02


def test_rays_depend_on_the_generator_only():
    first, second = (isotropic_rays(np.random.default_rng(6), 10_000) for _ in range(2))
    assert np.array_equal(first.position_mm, second.position_mm)
    assert isotropic_rays(np.random.default_rng(6), 0).direction.shape == (0, 3)


def test_bad_requests_are_refused():
    rng = np.random.default_rng(7)
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        isotropic_rays(rng, -1)
    with pytest.raises(ValueError, match="sticks out"):
        isotropic_rays(rng, 10, Box(1000.0, -500.0, 500.0))


def test_log_uniform_energies():
    e = log_uniform_energies(np.random.default_rng(8), 100_000, 10.0, 1e5)
    assert e.min() >= 10
    assert e.max() <= 1e5
    counts, _ = np.histogram(np.log10(e), bins=4, range=(1, 5))
    assert counts == pytest.approx(25_000, abs=600)


@pytest.mark.parametrize(
    "spectrum",
    [ELECTRON_2017, PROTON_2026, Spectrum(1.0, 1.0, (1.0,)), Spectrum(1.0, 1.0, (0.0,))],
    ids=["e", "p", "E^-1", "flat"],
)
def test_spectrum_energies_follow_the_spectrum(spectrum):
    n = 200_000
    e = spectrum_energies(np.random.default_rng(9), n, spectrum, 85.0, 2e4)
    edges = np.geomspace(85, 2e4, 13)
    expected = n * spectrum.integral(edges[:-1], edges[1:]) / spectrum.integral(85.0, 2e4)
    counts, _ = np.histogram(e, edges)
    assert counts.sum() == n
    keep = expected > 5
    chi2 = ((counts - expected)[keep] ** 2 / expected[keep]).sum()
    assert chi2 < 32  # 0.1 % of 12 degrees of freedom


def test_thinning_outside_the_fiducial_volume_is_unbiased():
    rng = np.random.default_rng(8)
    rays = isotropic_rays(rng, 4_000_000, BGO_BOX)
    thin, weight = thin_outside(rng, rays, 0.2)
    assert thin.thrown == rays.thrown
    assert set(np.unique(weight)) == {1.0, 5.0}
    # binomial error of the thinned number, in units of rays
    outside = (weight == 5.0).sum()
    assert abs(weight.sum() - len(rays.direction)) < 4 * 5 * np.sqrt(0.8 * outside)

    def inside(some):
        ends = [some.at_depth(z)[:, :2] for z in (BGO_TOP_MM, BGO_BOTTOM_MM)]
        return np.all([np.abs(e) < FIDUCIAL_HALF_WIDTH_MM for e in ends], axis=(0, 2))

    assert inside(thin).sum() == inside(rays).sum()
    assert (weight[inside(thin)] == 1.0).all()
    whole, ones = thin_outside(rng, rays, 1.0)
    assert len(whole.direction) == len(rays.direction)
    assert (ones == 1.0).all()


@pytest.mark.parametrize("region", ["topfiducial", "both"])
def test_thinning_can_keep_the_rays_that_leave_through_a_side(region):
    rays = isotropic_rays(np.random.default_rng(9), 400_000, BGO_BOX)
    thin, weight = thin_outside(np.random.default_rng(10), rays, 0.0, region)
    assert (weight == 1.0).all()

    def number(some):
        top, bottom = (
            (np.abs(some.at_depth(z)[:, :2]) < FIDUCIAL_HALF_WIDTH_MM).all(axis=1)
            for z in (BGO_TOP_MM, BGO_BOTTOM_MM)
        )
        return {"topfiducial": (top & ~bottom).sum(), "fiducial": (top & bottom).sum()}

    kept, thrown = number(thin), number(rays)
    assert kept["topfiducial"] == thrown["topfiducial"]
    # of the fiducial rays only those within the margin of the border are left
    share = kept["fiducial"] / thrown["fiducial"]
    assert share == 1.0 if region == "both" else 0.05 < share < 0.2
