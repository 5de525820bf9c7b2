import numpy as np
import pytest

from models.smearing import ABSOLUTE, RELATIVE, STK, smear
from processors.features import DEFAULT_VARIABLES

N = 60_000


def smeared(strength, seed=1):
    batch = {
        "variables": np.full((N, len(DEFAULT_VARIABLES)), 20.0, np.float32),
        "image": np.full((N, 2, 2), 0.5, np.float32),
        "stk": np.full((N, 6, 4), 0.4, np.float32),
    }
    batch["stk"][: N // 2] = 0.0
    smear(batch, DEFAULT_VARIABLES, np.random.default_rng(seed), strength)
    return batch


def column(batch, name):
    return batch["variables"][:, DEFAULT_VARIABLES.index(name)].astype(np.float64)


def test_strength_zero_changes_nothing():
    batch = smeared(0.0)
    assert (batch["variables"] == 20.0).all()
    assert (batch["stk"][N // 2 :] == np.float32(0.4)).all()


@pytest.mark.parametrize("name", ["rms_0", "rms_5", "rms_r", "log_energy_1", "log_f_last"])
def test_amplitudes(name):
    # a share uniform in 0-1 of the strength times a normal number: the variance is a third
    values = column(smeared(2.0), name)
    moved = np.log(values / 20.0) if name in RELATIVE else values - 20.0
    largest = RELATIVE.get(name) or ABSOLUTE[name]
    assert moved.std() == pytest.approx(2 * largest / np.sqrt(3), rel=0.02)
    assert moved.mean() == pytest.approx(0.0, abs=0.01)


def test_image_energy_and_angle_stay():
    batch = smeared(2.0)
    assert (batch["image"] == 0.5).all()
    for name in ("log_e_corr", "theta", "stk_n_clusters"):
        assert (column(batch, name) == 20.0).all()


def test_no_track_stays_none_and_clusters_stay():
    stk = smeared(1.0)["stk"]
    assert not stk[: N // 2].any()
    moved = stk[N // 2 :, :, :2].astype(np.float64) - 0.4
    assert moved.std() == pytest.approx(STK / np.sqrt(3), rel=0.02)
    assert (stk[N // 2 :, :, 2:] == np.float32(0.4)).all()


def test_variables_of_an_event_share_its_amount_but_not_their_noise():
    batch = smeared(2.0)
    one, other = (np.log(column(batch, n) / 20.0) for n in ("rms_4", "rms_9"))
    assert np.corrcoef(one, other)[0, 1] == pytest.approx(0.0, abs=0.02)
    # E[a^2 |n||m|]/(...) of a common uniform amount: 9/5 in the mean of the squares
    ratio = np.mean(one**2 * other**2) / (np.mean(one**2) * np.mean(other**2))
    assert ratio == pytest.approx(9 / 5, rel=0.05)


def test_the_same_seed_gives_the_same():
    assert (smeared(1.0, 5)["variables"] == smeared(1.0, 5)["variables"]).all()
    assert (smeared(1.0, 5)["variables"] != smeared(1.0, 6)["variables"]).any()
