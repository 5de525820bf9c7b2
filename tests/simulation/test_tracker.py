import numpy as np
import pytest

from processors.geometry import BAR_U_MM
from simulation.primaries import isotropic_rays
from simulation.reconstruction import Axis
from simulation.tracker import (
    MISSING,
    Tracks,
    high_energy_trigger,
    psd,
    selection_words,
    tracks,
)


def vertical(n, x=0.0):
    position = np.tile([x, 0.0, -500.0], (n, 1))
    direction = np.tile([0.0, 0.0, 1.0], (n, 1))
    axis = Axis(np.zeros(n), np.zeros(n), np.full(n, x), np.full(n, 0.1))
    return position, direction, axis


def respond(position, direction, axis, seed=1, energy=500.0, species="proton", splash=0.0):
    n = len(position)
    rng = np.random.default_rng(seed)
    return tracks(
        species,
        position,
        direction,
        np.full(n, energy),
        axis,
        np.full(n, splash),
        np.full(n, np.inf),
        rng,
    )


def test_track_efficiency_of_vertical_electrons():
    track = respond(*vertical(20_000))
    found = track.clusters_x > 0
    assert found.mean() == pytest.approx(0.977, abs=0.005)
    assert track.matched.mean() == pytest.approx(0.96, abs=0.01)
    assert (track.clusters_x[found] <= 6).all()
    assert (track.clusters_x + track.holes_x <= 6).all()
    assert np.median(track.angle_deg[found]) < 0.3
    assert np.median(track.distance_mm[found]) < 1.0
    for name in ("distance_mm", "angle_deg", "charge_x", "charge_y"):
        values = getattr(track, name)
        assert (values[~found] == MISSING).all()
        assert (values[found] >= 0).all()
    assert not track.plane_adc[~found].any()
    assert not track.plane_clusters[~found].any()
    assert np.median(track.charge_x[found]) == pytest.approx(8.1, abs=0.3)  # sqrt(60 ADC) for a MIP


def test_particles_beside_the_stk_have_no_track():
    track = respond(*vertical(1000, x=401.0))
    assert not track.clusters_x.any()
    assert not (track.matched | track.recovered).any()


def test_particles_that_leave_the_stk_early_have_three_clusters():
    # enters at x = 0 in the lowest plane and leaves the sides above the third from below
    direction = np.tile(np.array([-5.0, 0.0, 1.0]) / np.sqrt(26), (5000, 1))
    position = np.tile([0.0, 0.0, -42.0], (5000, 1))
    axis = Axis(np.full(5000, -5.0), np.zeros(5000), np.full(5000, -210.0), np.full(5000, 0.1))
    track = respond(position, direction, axis)
    found = track.clusters_x > 0
    assert set(track.clusters_x[found]) == {3}
    assert not track.matched.any()
    assert track.recovered.sum() > 0.9 * found.sum()


def test_efficiency_falls_with_the_angle():
    rays = isotropic_rays(np.random.default_rng(2), 3_000_000)
    direction = rays.direction
    slope_x, slope_y = direction[:, 0] / direction[:, 2], direction[:, 1] / direction[:, 2]
    z = rays.position_mm[:, 2]
    axis = Axis(
        slope_x,
        slope_y,
        rays.position_mm[:, 0] - slope_x * z,
        rays.position_mm[:, 1] - slope_y * z,
    )
    matched = respond(rays.position_mm, direction, axis).matched
    share = [
        matched[(direction[:, 2] > low) & (direction[:, 2] < low + 0.2)].mean()
        for low in (0.2, 0.5, 0.8)
    ]
    assert share[0] < share[1] < share[2]


def test_wrong_tracks_have_nothing_of_the_shower_around_them():
    position, direction, axis = vertical(100_000)
    alone, shower = (respond(position, direction, axis, species=s) for s in ("proton", "electron"))
    found = shower.clusters_x > 0
    # a wrong track scatters by 40 mm in each view, a true one by less than 1 mm;
    # 0.8 % of the former lie within 5 mm
    wrong = found & (shower.distance_mm > 5.0)
    assert wrong.mean() == pytest.approx(0.02 * 0.992 * found.mean(), abs=0.001)
    last = shower.plane_adc[:, -2:].sum(axis=1)
    assert last[wrong].max() < last[found & ~wrong].mean()
    assert np.median(last[wrong]) == pytest.approx(
        np.median(alone.plane_adc[found, -2:].sum(axis=1)), rel=0.1
    )


def test_matched_and_recovered_are_what_they_say():
    def one(x, y, holes=0, distance=5.0, angle=1.0):
        number = [np.array([v], np.int32) for v in (x, y, holes, holes)]
        zero = np.zeros(1)
        rest = (np.zeros((1, 12)), np.zeros((1, 12), np.int32), zero, zero)
        t = Tracks(*number, np.array([distance]), np.array([angle]), *rest)
        return bool(t.matched[0]), bool(t.recovered[0])

    assert one(4, 6) == (True, False)
    assert one(4, 4, holes=1) == (True, False)
    assert one(5, 4, holes=2) == (False, False)
    assert one(3, 6) == (False, True)
    assert one(3, 3, holes=1) == (False, False)
    assert one(6, 6, distance=40.0) == (False, False)
    assert one(6, 6, angle=10.0) == (False, False)
    assert one(0, 0, distance=MISSING, angle=MISSING) == (False, False)


def test_trigger_thresholds():
    image = np.zeros((6, 14, 22))
    image[:, :3, 5] = 231.0
    image[:, 3, 9] = 47.0
    image[1, 3] = 45.0 / 22  # layer 3 has no leading bar
    for k in range(3):
        image[2 + k, k, 5] = 229.0
    image[5] = 0.0
    fired = high_energy_trigger(np.repeat(image, 2000, axis=0), np.random.default_rng(1))
    share = fired.reshape(6, 2000).mean(axis=1)
    assert share[0] == pytest.approx(0.998, abs=0.004)
    assert not share[1:].any()


def test_psd_signals():
    position, direction, _ = vertical(20_000)
    splash = np.zeros((20_000, 2))
    quiet = psd(position, direction, splash, np.random.default_rng(3))
    hit = quiet.charge_x > 0
    assert hit.mean() == pytest.approx(0.997, abs=0.002)
    assert np.median(quiet.charge_x[hit]) == pytest.approx(1.03, abs=0.03)
    assert (quiet.charge_x[~hit] == MISSING).all()
    assert (quiet.match_x_mm[~hit] == MISSING).all()
    # the usual charge cut keeps nearly all
    keep = (quiet.charge_x < 2.6) | (quiet.charge_y < 2.6)
    assert 0.991 < keep.mean() < 0.999
    loud = psd(position, direction, splash + 10.0, np.random.default_rng(3))
    assert np.median(loud.charge_x[hit]) == pytest.approx(np.sqrt(11.1), abs=0.05)
    assert (loud.match_x_mm > 40).sum() > (quiet.match_x_mm > 40).sum()
    outside = psd(position + np.array([411.0, 0, 0]), direction, splash, np.random.default_rng(3))
    assert (outside.charge_x == MISSING).all()
    assert (outside.charge_y == MISSING).all()


def test_selection_words():
    n = 5
    position, direction, _ = vertical(n)
    track = respond(position, direction, vertical(n)[2])
    x = np.array([279.0, 281.0, 0.0, 0.0, 0.0])
    slope = np.array([0.0, 0.0, 0.7, 0.1, 0.0])
    axis = Axis(slope, np.zeros(n), x, np.array([0.1, 0.1, 0.1, 0.1, 0.0]))
    image = np.zeros((n, 14, 22))
    image[:, :, 10] = 100.0
    image[3, 2, 0] = 200.0
    triggered = np.array([True, False, True, True, True])
    outside = np.array([True, True, False, True, True])
    selection, decision = selection_words(axis, image, track, triggered, outside)
    assert selection.dtype == decision.dtype == np.int32
    bits = [(selection >> bit) & 1 for bit in range(5)]
    assert bits[0].tolist() == [1, 1, 0, 1, 1]
    assert bits[1].tolist() == [1, 0, 1, 1, 1]
    # the last axis has no fit in y
    assert bits[2].tolist() == [1, 0, 0, 1, 0]
    assert bits[3].tolist() == [1, 1, 1, 0, 1]
    assert bits[4].tolist() == track.matched.astype(int).tolist()
    assert ((decision >> 11) == track.recovered).all()
    assert BAR_U_MM[10] < 0  # the bar used above is an inner one
