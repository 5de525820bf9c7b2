"""Drawing of events and mirroring, against closed forms."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.batches import accuracy, drawing_weights, gather, mirror, select, statistics
from models.recipes import Recipe, TrainingSection
from models.samples import Prepared, SampleError
from processors.geometry import BAR_U_MM, LAYER_MEASURES_Y

NAMES = ("log_e_corr", "slope_x", "y_top", "x_bottom", "theta")
VIEW_OF_LAYER = np.where(LAYER_MEASURES_Y, "y", "x")


def recipe(**training: object) -> Recipe:
    return Recipe(
        name="toy",
        network="hamf",
        region="fiducial",
        energy_range_gev=(100.0, 1000.0),
        variables=NAMES,
        training=TrainingSection.model_validate(training),
    )


def toy(n: int, seed: int = 1) -> Prepared:
    rng = np.random.default_rng(seed)
    energy = 10 ** rng.uniform(1.8, 3.2, n)
    arrays = {
        "variables": rng.normal(size=(n, len(NAMES))).astype(np.float32),
        "image": rng.random((n, 14, 22)).astype(np.float16),
        "stk": rng.random((n, 6, 4)).astype(np.float16),
        "stk_mask": (rng.random((n, 1)) < 0.8).astype(np.float16),
        "label": (rng.random(n) < 0.7).astype(np.float64),
        "e_true": energy * 1.1,
        "e_corr": energy,
        "weight": rng.choice([1.0, 9.0], n),
    }
    return Prepared(Path("toy"), NAMES, arrays, "0" * 64, synthetic=True)


def test_selection_has_the_range_and_its_margin() -> None:
    sample = toy(20_000)
    training, validation = select(sample, recipe(margin=1.2, validation_share=0.25))
    both = np.concatenate([training, validation])
    energy = sample.arrays["e_corr"]
    inside = np.flatnonzero((energy >= 100 / 1.2) & (energy < 1200))
    assert np.array_equal(np.sort(both), inside)
    assert len(validation) / len(both) == pytest.approx(0.25, abs=0.012)  # 3 sigma
    again = select(sample, recipe(margin=1.2, validation_share=0.25))
    assert np.array_equal(again[0], training)
    few = select(sample, recipe(validation_events=100))[1]
    assert len(few) == 100


def test_the_energy_network_sees_electrons_only() -> None:
    sample = toy(2000)
    energy = recipe().model_copy(update={"network": "energy"})
    for rows in select(sample, energy):
        assert (sample.arrays["label"][rows] == 1).all()


def test_too_few_events_are_refused() -> None:
    sample = toy(500)
    none = replace(sample, arrays={**sample.arrays, "label": np.ones(500)})
    with pytest.raises(SampleError, match="only 0 protons"):
        select(none, recipe())


def test_drawing_by_hand() -> None:
    """Two bins, power 1/2: weights 1 and 9 count 1 : 3 within their class and bin."""
    label = np.array([1, 1, 0, 0, 1, 0, 0, 1.0])
    energy = np.array([150, 160, 150, 160, 450, 450, 460, 90_000.0])
    weight = np.array([1, 1, 1, 9, 1, 4, 4, 1.0])
    p = drawing_weights(label, energy, weight, recipe(bins_per_decade=2, full_bin=2))
    # bins: 100-316 has 2 and 2, 316-1000 has 1 electron and 2 protons, 9e4 has no proton
    assert p == pytest.approx(np.array([1, 1, 0.5, 1.5, 1, 0.5, 0.5, 0]) / 6)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_classes_and_bins_are_balanced(seed: int, power: float) -> None:
    rng = np.random.default_rng(seed)
    n = 3000
    label = (rng.random(n) < 0.9).astype(float)
    energy = 10 ** rng.uniform(2, 4, n)
    p = drawing_weights(
        label, energy, rng.uniform(1, 50, n), recipe(weight_power=power, full_bin=5)
    )
    assert p.sum() == pytest.approx(1)
    bins = np.floor(np.log10(energy) * 10).astype(int)
    for b in np.unique(bins):
        classes = [p[(bins == b) & (label == k)].sum() for k in (0, 1)]
        assert classes[0] == pytest.approx(classes[1])
        assert classes[0] <= 1 / 38


def test_samples_that_do_not_overlap_are_refused() -> None:
    with pytest.raises(SampleError, match="no energy bin has both"):
        drawing_weights(np.array([1, 0.0]), np.array([100, 5000.0]), np.ones(2), recipe())


def line_image(intercept: dict[str, float], slope: dict[str, float]) -> np.ndarray:
    """An image with one bar per layer, the one nearest to a straight axis."""
    image = np.zeros((1, 14, 22), np.float32)
    for layer in range(14):
        view = VIEW_OF_LAYER[layer]
        u = intercept[view] + slope[view] * layer * 29.0
        image[0, layer, int(np.argmin(np.abs(BAR_U_MM - u)))] = 1.0
    return image


@pytest.mark.parametrize("view", ["x", "y"])
def test_mirroring_is_the_mirrored_axis(view: str) -> None:
    intercept, slope = {"x": 100.0, "y": -37.0}, {"x": -0.4, "y": 0.21}
    batch = {"image": line_image(intercept, slope)}
    mirror(batch, (), {view: np.array([True])})
    intercept[view] *= -1
    slope[view] *= -1
    assert np.array_equal(batch["image"], line_image(intercept, slope))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_mirroring_is_an_involution(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = ("variables", "image", "stk", "stk_mask")
    sample = toy(40, seed)
    batch = gather(sample, rng.permutation(40), inputs, np.arange(5))
    kept = {k: v.copy() for k, v in batch.items()}
    flip = {"x": rng.random(40) < 0.5, "y": rng.random(40) < 0.5}
    mirror(batch, NAMES, flip)
    sign = np.ones((40, 5))
    sign[flip["x"][:, None] & np.isin(NAMES, ["slope_x", "x_bottom"])] = -1
    sign[flip["y"][:, None] & np.isin(NAMES, ["y_top"])] = -1
    assert np.array_equal(batch["variables"], kept["variables"] * sign)
    assert np.allclose(batch["image"].sum(axis=2), kept["image"].sum(axis=2), rtol=1e-6)
    assert np.array_equal(batch["stk"], kept["stk"])
    mirror(batch, NAMES, flip)
    for name, values in kept.items():
        assert np.array_equal(batch[name], values)


def test_statistics_ignore_planes_without_a_track() -> None:
    batch = gather(
        toy(300), np.arange(300), ("variables", "image", "stk", "stk_mask"), np.arange(5)
    )
    found = statistics(batch)
    track = batch["stk_mask"][:, 0] == 1
    assert found["stk"][0] == pytest.approx(batch["stk"][track].mean(axis=(0, 1)), rel=1e-5)
    assert found["variables"][1] == pytest.approx(batch["variables"].std(axis=0), rel=1e-5)
    assert found["image"][0].shape == (1,)


def test_accuracy_is_weighted() -> None:
    score, label = np.array([1.0, -1.0, 2.0]), np.array([1.0, 1.0, 0.0])
    assert accuracy(score, label, np.array([2.0, 1.0, 1.0])) == pytest.approx(0.5)
