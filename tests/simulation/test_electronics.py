import numpy as np
import pytest

from simulation.electronics import GAIN_SPREAD, NOISE_MEV, SCALE_SPREAD, THRESHOLD_MEV, digitise


def test_empty_bars_stay_below_the_threshold():
    mev = digitise(np.zeros((2000, 14, 22), np.float32), np.random.default_rng(1))
    assert mev.dtype == np.float32
    assert mev.shape == (2000, 14, 22)
    # four standard deviations: 3.2e-5 of 616 000 bars are 20
    assert (mev > 0).sum() == pytest.approx(20, abs=15)
    assert mev[mev > 0].min() >= THRESHOLD_MEV


def test_spread_of_large_signals():
    mev = digitise(np.full((2000, 14, 22), 1.0, np.float32), np.random.default_rng(2))
    event = mev.mean(axis=(1, 2))
    assert mev.mean() == pytest.approx(1000, rel=1e-3)
    within = np.hypot(GAIN_SPREAD, NOISE_MEV / 1000)
    assert (mev / event[:, None, None]).std() == pytest.approx(within, rel=0.01)
    assert event.std() / 1000 == pytest.approx(SCALE_SPREAD, rel=0.05)


def test_threshold_cuts_small_signals():
    mev = digitise(np.full((200, 14, 22), 2.0e-3, np.float32), np.random.default_rng(3))
    assert (mev > 0).mean() == pytest.approx(0.5, abs=0.01)
    assert not ((mev > 0) & (mev < THRESHOLD_MEV)).any()


def test_input_is_left_alone():
    deposits = np.full((3, 14, 22), 0.1, np.float32)
    digitise(deposits, np.random.default_rng(4))
    assert (deposits == np.float32(0.1)).all()
