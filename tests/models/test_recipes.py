"""Recipes: the shipped ones, and what is refused."""

from pathlib import Path

import pytest
import yaml

from models.recipes import RecipeError, load_recipe, shipped_recipes
from processors.features import DEFAULT_VARIABLES, TOPFIDUCIAL_VARIABLES

CONTENT = {
    "name": "mine",
    "network": "dnn",
    "region": "fiducial",
    "energy_range_gev": [100.0, 1000.0],
    "variables": ["rms_3", "log_e_corr"],
}


def write(path: Path, **change: object) -> Path:
    path.write_text(yaml.safe_dump({**CONTENT, **change}), "utf-8")
    return path


def test_eight_networks_are_shipped() -> None:
    recipes = {name: load_recipe(name) for name in shipped_recipes()}
    assert sorted(recipes) == [
        "cnn_fiducial",
        "cnn_topfiducial",
        "dnn_fiducial",
        "dnn_topfiducial",
        "energy_topfiducial",
        "hamf_fiducial",
        "hamf_topfiducial_high",
        "hamf_topfiducial_low",
    ]
    assert all(name == recipe.name for name, recipe in recipes.items())
    assert recipes["hamf_fiducial"].variables == DEFAULT_VARIABLES
    assert recipes["dnn_topfiducial"].variables == TOPFIDUCIAL_VARIABLES
    assert recipes["energy_topfiducial"].task == "energy"
    low, high = (recipes[f"hamf_topfiducial_{end}"].energy_range_gev for end in ("low", "high"))
    assert (low, high) == ((20.0, 1000.0), (1000.0, 20000.0))
    assert len({r.training.seed for r in recipes.values()}) == 8


def test_networks_of_a_region_share_their_sample() -> None:
    hashes = {n: load_recipe(n).simulation_hash() for n in shipped_recipes()}
    assert hashes["hamf_fiducial"] == hashes["dnn_fiducial"] == hashes["cnn_fiducial"]
    assert hashes["hamf_topfiducial_low"] == hashes["hamf_topfiducial_high"]
    assert hashes["hamf_fiducial"] != hashes["hamf_topfiducial_low"]
    for name in shipped_recipes():
        for line in load_recipe(name).simulation:
            assert "--triggered-only" in line
            assert "--seed" in line


def test_hash_depends_on_recipe_seed_and_sample_only(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path / "a.yaml"))
    same = load_recipe(write(tmp_path / "b.yaml", simulation=["--kind electron"]))
    seed = load_recipe(write(tmp_path / "c.yaml", training={"seed": 2}))
    assert recipe.training_hash("s") == same.training_hash("s")
    assert recipe.training_hash("s") != recipe.training_hash("t")
    assert recipe.training_hash("s") != seed.training_hash("s")
    assert len(recipe.training_hash("s")) == 64


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variables": ["rms_14"]}, "unknown variable 'rms_14'"),
        ({"variables": ["rms_1", "rms_1"]}, "more than once"),
        ({"variables": "mine"}, "known: default, topfiducial"),
        ({"energy_range_gev": [100.0, 100.0]}, "must ascend"),
        ({"network": "bdt"}, "network"),
        ({"epoch": 3}, "epoch"),
        ({"training": {"margin": 0.5}}, "training.margin"),
    ],
)
def test_wrong_entries_are_named(tmp_path: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe(write(tmp_path / "bad.yaml", **change))


def test_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(RecipeError, match="hamf_fiducial"):
        load_recipe("hamf")
