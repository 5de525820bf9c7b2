"""Reference events moved sideways until their showers leave through a side."""

import numpy as np
import pytest

from processors.geometry import LAYER_MEASURES_Y, LAYER_Z_MM
from simulation.leaking import axis_mm
from simulation.moved import Moves, _interpolated, draw_moves, moved_image, moved_reference
from simulation.validation import load_reference, simulate


@pytest.fixture(scope="module")
def events():
    return load_reference("electron").take(np.arange(600))


def test_moved_events_are_topfiducial(events):
    moves = draw_moves(events, np.random.default_rng(1))
    moved = moved_reference(events, moves)
    assert moves.rows.size > 400
    ends = np.abs(axis_mm(moved, [46.0, 448.0]))
    i = np.arange(moves.rows.size)
    assert (ends[:, 0] < 280).all()
    assert (ends[i, 1, moves.view] >= 280).all()
    assert (ends[i, 1, 1 - moves.view] < 280).all()
    assert moved.direction == pytest.approx(events.direction[moves.rows])
    assert moved.energy_gev == pytest.approx(events.energy_gev[moves.rows])
    # nothing is made: never more energy than before, and often much less
    left = moved.image_gev.sum(axis=(1, 2)) / events.image_gev[moves.rows].sum(axis=(1, 2))
    assert left.max() < 1 + 1e-12
    assert 0.1 < (left < 0.7).mean() < 0.5
    again = draw_moves(events, np.random.default_rng(1))
    assert (again.bars == moves.bars).all()


def test_bars_of_the_moved_view_keep_their_energy(events):
    i = int(np.flatnonzero(np.abs(events.direction[:, 0]) > 0.3)[0])
    one = events.take(np.array([i]))
    for view, bars in ((0, 3), (1, -5)):
        moves = Moves(np.array([i]), np.array([view]), np.array([bars]), np.array([0.4]))
        image = moved_image(one.image_gev, moves)[0]
        for layer in range(14):
            old, new = one.image_gev[0, layer], image[layer]
            if LAYER_MEASURES_Y[layer] == (view == 1):
                assert new == pytest.approx(np.r_[np.zeros(3), old[:-3]] if bars > 0 else
                                            np.r_[old[5:], np.zeros(5)])  # fmt: skip
            else:  # the wall cuts its bars: one factor for all
                assert 0 <= new.sum() <= old.sum()
                assert new * old.sum() == pytest.approx(old * new.sum())
    still = Moves(np.array([i]), np.array([0]), np.array([0]), np.array([0.4]))
    assert moved_image(one.image_gev, still)[0] == pytest.approx(one.image_gev[0])
    with pytest.raises(ValueError, match="1 images for 2 moves"):
        moved_image(
            one.image_gev, Moves(np.arange(2), np.zeros(2, int), np.ones(2, int), np.ones(2))
        )


def test_shares_between_layers_are_exact_for_a_logistic_profile():
    """Share inside 1/(1 + exp((z - z0)/a)) at the depth that a shorter bar sees."""

    def share(z):
        return 1 / (1 + np.exp((z - 330.0) / 30.0))

    known = LAYER_MEASURES_Y
    got = _interpolated(np.where(known, share(LAYER_Z_MM), np.nan), known, 4.0)
    late = ~known & (share(LAYER_Z_MM) < 0.999)
    assert late.sum() >= 4
    assert got[late] == pytest.approx(share(LAYER_Z_MM[late] + 4.0), abs=1e-9)
    assert got[0] == 1.0


def test_moved_showers_are_like_those_simulated_there():
    """Closure of moving: the energy kept is right to 2 % where at least 40 % is kept."""
    events = load_reference("electron")
    moves = draw_moves(events, np.random.default_rng(2))
    there = moved_reference(events, moves)
    moved = moved_image(simulate("electron", events.take(moves.rows), 5), moves)
    direct = simulate("electron", there, 6)
    kept, expected = (x.sum(axis=(1, 2)) / there.energy_gev for x in (moved, direct))
    for low, high in ((0.4, 0.7), (0.7, 0.85), (0.85, 1.0)):
        # classes of the mean of both: neither is favoured
        rows = ((kept + expected) / 2 >= low) & ((kept + expected) / 2 < high)
        assert rows.sum() > 100
        assert kept[rows].mean() == pytest.approx(expected[rows].mean(), rel=0.025)
    assert kept.mean() == pytest.approx(expected.mean(), rel=0.01)
