"""Training on a toy sample: it learns, it resumes, it stops where it should."""

from pathlib import Path

import numpy as np
import pytest
import torch
from toysample import toy_recipe, toy_sample

from models.samples import Prepared
from models.training import TrainingError, load_checkpoint, train


@pytest.mark.parametrize("network", ["dnn", "cnn", "hamf"])
def test_loss_falls(network: str, sample: Prepared, tmp_path: Path) -> None:
    trained = train(toy_recipe(network, epochs=4), sample, tmp_path)
    h = trained.history
    assert h["train_loss"][-1] < 0.95 * h["train_loss"][0]
    assert h["val_loss"][-1] < 0.6  # ln 2 = 0.693 is ignorance
    assert h["val_auc"][-1] > 0.75
    assert trained.metrics["val_auc"] == h["val_auc"][trained.metrics["best_epoch"] - 1]
    assert trained.metrics["training_electrons"] > 1000
    assert trained.stopped == "epochs"
    assert {p.name for p in tmp_path.iterdir()} == {
        "checkpoint.pt",
        "history.json",
        "metrics.json",
        "recipe.json",
    }


def test_energy_network_learns_the_leakage(sample: Prepared, tmp_path: Path) -> None:
    recipe = toy_recipe("energy", epochs=6)
    trained = train(recipe, sample, tmp_path)
    electrons = sample.arrays["label"] == 1
    ratio = np.log(sample.arrays["e_true"] / sample.arrays["e_corr"])[electrons]
    untrained = np.quantile(np.abs(np.expm1(np.median(ratio) - ratio)), 0.68)
    assert trained.metrics["val_containment_68"] < 0.6 * untrained
    assert abs(trained.metrics["val_bias"]) < 0.05


@pytest.mark.parametrize("network", ["dnn", "hamf"])
def test_resumed_is_uninterrupted(network: str, sample: Prepared, tmp_path: Path) -> None:
    recipe = toy_recipe(network, epochs=3, bfloat16_share=0.4)
    whole = train(recipe, sample, tmp_path / "whole")
    # the limit stops after every epoch: the first is always done
    first = train(recipe, sample, tmp_path / "parts", max_minutes=1e-9)
    assert first.stopped == "time"
    assert len(first.history["train_loss"]) == 1
    second = train(recipe, sample, tmp_path / "parts", resume=True)
    assert second.stopped == whole.stopped == "epochs"
    assert second.history == whole.history
    a, b = (load_checkpoint(t.checkpoint) for t in (whole, second))
    for key in ("network", "mean", "best"):
        assert a[key].keys() == b[key].keys()
        assert all(torch.equal(a[key][k], b[key][k]) for k in a[key])
    again = train(recipe, sample, tmp_path / "parts", resume=True)
    assert again.history == whole.history


def test_same_seed_same_network_other_seed_another(sample: Prepared, tmp_path: Path) -> None:
    runs = {}
    for label, seed in (("a", 3), ("b", 3), ("c", 4)):
        recipe = toy_recipe(seed=seed, epochs=1)
        runs[label] = train(recipe, sample, tmp_path / label).history
    assert runs["a"] == runs["b"]
    assert runs["a"] != runs["c"]


def test_another_recipe_or_sample_is_not_resumed(sample: Prepared, tmp_path: Path) -> None:
    train(toy_recipe(epochs=1), sample, tmp_path)
    with pytest.raises(TrainingError, match="another recipe, number of epochs or sample"):
        train(toy_recipe(epochs=2), sample, tmp_path, resume=True)


def test_early_stop(sample: Prepared, tmp_path: Path) -> None:
    """Without labels that mean anything the validation loss soon rises."""
    rng = np.random.default_rng(1)
    arrays = {**sample.arrays, "label": rng.integers(0, 2, len(sample)).astype(float)}
    blind = Prepared(sample.folder, sample.variables, arrays, "cd" * 32, synthetic=True)
    trained = train(toy_recipe(epochs=40, patience=2, ema=0.0), blind, tmp_path)
    assert trained.stopped == "early"
    assert len(trained.history["val_loss"]) == trained.metrics["best_epoch"] + 2
    assert min(trained.history["val_loss"]) == trained.metrics["val_loss"]
    assert 0.4 < trained.metrics["val_auc"] < 0.6


def test_a_loss_that_is_not_finite_stops(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="lower learning_rate"):
        train(
            toy_recipe("cnn", learning_rate=1e30, epochs=2, mirror=False),
            toy_sample(1500),
            tmp_path,
        )
    assert not (tmp_path / "checkpoint.pt").exists()


def test_progress_counts_events(sample: Prepared, tmp_path: Path) -> None:
    seen: list[float] = []
    told: list[float] = []
    train(
        toy_recipe(epochs=2),
        sample,
        tmp_path,
        advance=seen.append,
        report=lambda figures: told.append(figures["epoch"]),
    )
    assert sum(seen) == 2 * 3072
    assert told == [1.0, 2.0]


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match=r"checkpoint\.pt' cannot be read"):
        load_checkpoint(path)
    torch.save({"something": 1}, path)
    with pytest.raises(TrainingError, match="no checkpoint of 'cre train'"):
        load_checkpoint(path)
