"""A toy sample in memory: electrons are narrow and early, protons wide and late, energies overlap."""

from pathlib import Path

import numpy as np

from models.recipes import Recipe
from models.samples import Prepared
from processors.geometry import BAR_U_MM

NAMES = ("log_e_corr", "rms_r", "slope_x", "y_top", "theta")


def toy_sample(n: int = 4000, seed: int = 5) -> Prepared:
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.5).astype(np.float64)
    energy = 10 ** rng.uniform(2, 3, n)
    leak = rng.uniform(0.0, 0.4, n)
    width = np.where(label == 1, 25.0, 38.0) * rng.lognormal(0, 0.25, n)
    depth = np.where(label == 1, 4.5, 6.0) + rng.normal(0, 1.2, n)
    centre = rng.uniform(-200, 200, n)
    layer = np.exp(-0.5 * ((np.arange(14) - depth[:, None]) / 3) ** 2)
    layer *= np.where(np.arange(14) > 14 * (1 - leak[:, None]), 0.1, 1.0)
    shape = np.exp(-0.5 * ((BAR_U_MM - centre[:, None]) / width[:, None]) ** 2) + 1e-4
    image = layer[:, :, None] * (shape / shape.sum(axis=1, keepdims=True))[:, None]
    total = layer.sum(axis=1) / 7.0
    image *= (energy / layer.sum(axis=1))[:, None, None] * 1e3
    track = rng.random((n, 1)) < 0.8
    stk = rng.normal(0.5, 0.1, (n, 6, 4)) + np.where(label == 1, 0.0, 0.05)[:, None, None]
    variables = np.column_stack(
        [
            np.log10(energy),
            width * rng.lognormal(0, 0.3, n),
            rng.normal(0, 0.3, n),
            centre,
            rng.uniform(0, 40, n),
        ]
    )
    arrays = {
        "variables": variables.astype(np.float32),
        "image": (np.log1p(image) / 10).astype(np.float16),
        "stk": (stk * track[:, :, None]).astype(np.float16),
        "stk_mask": track.astype(np.float16),
        "label": label,
        "e_true": energy / total,
        "e_corr": energy,
        "weight": np.where(label == 1, 1.0, rng.choice([1.0, 4.0], n)),
    }
    return Prepared(Path("toy"), NAMES, arrays, "ab" * 32, synthetic=True)


def toy_recipe(network: str = "dnn", **training: object) -> Recipe:
    settings: dict[str, object] = {
        "seed": 3,
        "epochs": 2,
        "events_per_epoch": 3072,
        "batch": 256,
        "ema": 0.8,
        "learning_rate": 0.004,
        "validation_share": 0.2,
    }
    return Recipe.model_validate(
        {
            "name": f"toy_{network}",
            "network": network,
            "region": "fiducial",
            "energy_range_gev": (100.0, 1000.0),
            "variables": NAMES,
            "options": {} if network == "dnn" else {"channels": (8, 8, 16)},
            "training": {**settings, **training},
        }
    )
