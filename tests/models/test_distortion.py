import numpy as np
import pytest

from models.distortion import DISTORTED, DistortionError, distort
from processors.features import DEFAULT_VARIABLES
from processors.showers import f_last, layer_rms_mm

N = 400


def events(seed=1):
    """Showers of 100 GeV with an exponential lateral profile, and their variables."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(6, 15, (N, 1, 1))
    lateral = np.exp(-np.abs(np.arange(22) - centre) * rng.uniform(1.0, 1.6, (N, 14, 1)))
    depth = np.exp(-0.5 * ((np.arange(14) - rng.normal(4, 0.5, (N, 1))) / 2.5) ** 2)
    energy = lateral * (depth / lateral.sum(axis=2))[..., None]
    energy *= 1e5 / energy.sum(axis=(1, 2), keepdims=True)
    energy[energy < 2.0] = 0.0
    image = (np.log1p(energy) / 10).astype(np.float32)
    table = np.zeros((N, len(DEFAULT_VARIABLES)), np.float32)
    names = list(DEFAULT_VARIABLES)
    for i in range(14):
        table[:, names.index(f"log_energy_{i}")] = np.log10(np.maximum(energy[:, i].sum(axis=1), 1))
        table[:, names.index(f"rms_{i}")] = layer_rms_mm(energy)[:, i]
    table[:, names.index("rms_r")] = 20.0
    table[:, names.index("theta")] = 33.0
    stk = np.full((N, 6, 4), 0.4, np.float32)
    stk[: N // 2] = 0.0
    return {"image": image, "variables": table, "stk": stk}


def distorted(strength, seed=1):
    batch = events()
    distort(batch, DEFAULT_VARIABLES, batch["image"].copy(), np.random.default_rng(seed), strength)
    return batch


def column(batch, name):
    return batch["variables"][:, DEFAULT_VARIABLES.index(name)]


def test_strength_zero_changes_nothing_but_rounding():
    before, after = events(), distorted(0.0)
    # bars at the threshold may fall below it by rounding
    assert after["image"] == pytest.approx(before["image"], abs=2e-5)
    for name in ("rms_3", "log_energy_5", "theta", "rms_r"):
        assert column(after, name) == pytest.approx(column(before, name), rel=1e-3)


def test_the_total_energy_stays():
    energy = np.expm1(distorted(2.0)["image"].astype(np.float64) * 10)
    # up to what falls below the threshold of 2 MeV
    assert energy.sum(axis=(1, 2)) == pytest.approx(np.full(N, 1e5), rel=1e-3)
    assert energy[energy > 0].min() >= 2.0 * 0.999


def test_variables_follow_the_image():
    batch = distorted(2.0)
    energy = np.expm1(batch["image"].astype(np.float64) * 10)
    layer = energy.sum(axis=2)
    for i in (0, 4, 13):
        assert column(batch, f"rms_{i}") == pytest.approx(
            layer_rms_mm(energy)[:, i], rel=2e-3, abs=0.05
        )
        assert column(batch, f"log_energy_{i}") == pytest.approx(
            np.log10(np.maximum(layer[:, i], 1)), abs=1e-3
        )
    share = f_last(layer / layer.sum(axis=1, keepdims=True))
    assert column(batch, "log_f_last") == pytest.approx(np.log10(np.maximum(share, 1e-6)), abs=2e-3)


def test_widths_of_the_distortion():
    before, after = events(), distorted(1.0)
    moved = np.log(10) * (column(after, "log_energy_6") - column(before, "log_energy_6"))
    # amounts are uniform in 0-1, so the variance is a third; the slope is small in the middle
    assert moved.std() == pytest.approx(0.10 / np.sqrt(3), rel=0.2)
    first = np.log(10) * (column(after, "log_energy_0") - column(before, "log_energy_0"))
    assert first.std() > 2 * moved.std()


def test_what_is_not_of_the_image_stays_and_no_track_stays_none():
    before, after = events(), distorted(2.0)
    untouched = [v for v in DEFAULT_VARIABLES if v not in DISTORTED]
    for name in untouched:
        assert (column(after, name) == column(before, name)).all()
    assert not after["stk"][: N // 2].any()
    assert (after["stk"][N // 2 :, :, :2] != 0.4).mean() > 0.99
    assert (after["stk"][:, :, 2:] == before["stk"][:, :, 2:]).all()


def test_the_same_seed_gives_the_same():
    assert (distorted(1.0, 5)["image"] == distorted(1.0, 5)["image"]).all()
    assert (distorted(1.0, 5)["image"] != distorted(1.0, 6)["image"]).any()


def test_unknown_dependence_is_refused():
    batch = events()
    with pytest.raises(DistortionError, match="'n_hits' cannot follow"):
        distort(batch, ["n_hits"], batch["image"], np.random.default_rng(1), 1.0)
