"""Mini-batches from a prepared sample: the split, the drawing of events, the mirroring, and the figures of merit.

Events are drawn so that in every bin of log10 E_corr both classes are equally frequent, whatever spectra
the files were generated with; within a class and a bin in proportion to a power of the sampling weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.evaluation import auc
from models.recipes import Recipe
from models.samples import Prepared, SampleError
from processors.geometry import LAYER_MEASURES_Y

__all__ = [
    "accuracy",
    "drawing_weights",
    "figures_of_merit",
    "gather",
    "mirror",
    "select",
    "statistics",
]

Rows = npt.NDArray[np.intp]
Values = npt.NDArray[np.float64]
Arrays = dict[str, npt.NDArray[np.float32]]

#: Variables that change sign when the x or the y view is mirrored; all others stay.
_ODD: Mapping[str, tuple[str, ...]] = {
    "x": ("slope_x", "x_top", "x_bottom"),
    "y": ("slope_y", "y_top", "y_bottom"),
}
_LAYERS: Mapping[str, Rows] = {
    "x": np.flatnonzero(~LAYER_MEASURES_Y),
    "y": np.flatnonzero(LAYER_MEASURES_Y),
}


def select(sample: Prepared, recipe: Recipe) -> tuple[Rows, Rows]:
    """Events that a recipe trains on and those held out.

    Args:
        sample: The prepared sample of the recipe's region.
        recipe: The recipe.

    Returns:
        Ascending rows of the training and of the validation events; the energy network sees electrons.

    Raises:
        SampleError: If a class has fewer than two events in one of the two.
    """
    low, high = recipe.energy_range_gev
    margin = recipe.training.margin
    e_corr, label = sample.arrays["e_corr"], sample.arrays["label"]
    inside = (e_corr >= low / margin) & (e_corr < high * margin)
    if recipe.task == "energy":
        inside &= label == 1
    rows = np.flatnonzero(inside)
    rng = np.random.default_rng([recipe.training.seed, 1])
    held_out = rng.random(len(rows)) < recipe.training.validation_share
    training, validation = rows[~held_out], rows[held_out]
    for part in (training, validation):
        for kind in (1,) if recipe.task == "energy" else (0, 1):
            if (n := int((label[part] == kind).sum())) < 2:
                msg = (
                    f"only {n} {'electrons' if kind else 'protons'} of the sample lie in "
                    f"{low:g}-{high:g} GeV for training or for validation; simulate more events there"
                )
                raise SampleError(msg)
    if len(validation) > recipe.training.validation_events:
        chosen = rng.choice(len(validation), recipe.training.validation_events, replace=False)
        validation = validation[np.sort(chosen)]
    return training, validation


def drawing_weights(label: Values, e_corr: Values, weight: Values, recipe: Recipe) -> Values:
    """Probabilities with which events are drawn.

    Args:
        label: 1 for electrons, 0 for protons, shape (n,).
        e_corr: Corrected energy, GeV, shape (n,).
        weight: Importance-sampling weight, shape (n,).
        recipe: Gives bins, power and the number of events from which a bin is full.

    Returns:
        Shape (n,), sum 1: each class and full bin has the same share, a bin that is not full less, in
        proportion to its events; an energy bin without one of the classes is not used by a classifier.
    """
    t = recipe.training
    cell = np.floor(np.log10(e_corr) * t.bins_per_decade).astype(np.int64)
    cell -= cell.min()
    bins = int(cell.max()) + 1
    classes = np.asarray(label, np.int64)
    index = classes * bins + cell
    count = np.bincount(index, minlength=2 * bins).reshape(2, bins)
    if recipe.task == "classifier":
        share = np.tile(np.minimum(count.min(axis=0), t.full_bin), (2, 1)).astype(np.float64)
    else:
        share = np.minimum(count, t.full_bin).astype(np.float64)
    powered = np.asarray(weight, np.float64) ** t.weight_power
    total = np.bincount(index, powered, minlength=2 * bins)
    if not share.sum() > 0:
        msg = "no energy bin has both electrons and protons; simulate both over the same energies"
        raise SampleError(msg)
    factor = np.divide(share.ravel(), total, out=np.zeros(2 * bins), where=total > 0)
    out = powered * factor[index]
    return np.asarray(out / out.sum())


def gather(
    sample: Prepared, rows: Rows, inputs: Sequence[str], columns: npt.NDArray[np.intp]
) -> Arrays:
    """Inputs of some events as float32.

    Args:
        sample: The sample.
        rows: Rows, any order, shape (n,).
        inputs: Names of the network's inputs.
        columns: Columns of ``variables`` that it takes.

    Returns:
        Name to array, shape (n, …).
    """
    out: Arrays = {}
    for name in inputs:
        values = sample.arrays[name][rows]
        out[name] = np.ascontiguousarray(
            values[:, columns] if name == "variables" else values, np.float32
        )
    return out


def mirror(batch: Arrays, variables: Sequence[str], flip: Mapping[str, npt.NDArray[Any]]) -> None:
    """Mirror the x or the y view of some events, in place.

    The detector is symmetric under x -> -x and y -> -y: the bars of a view change order, and with them the
    signs of the axis parameters of that view. Applied twice it changes nothing.

    Args:
        batch: Inputs, shape (n, …).
        variables: Names of the columns of ``variables``.
        flip: View (``x``, ``y``) to the events to mirror, boolean, shape (n,).
    """
    for view, chosen in flip.items():
        rows = np.flatnonzero(chosen)
        if "image" in batch:
            layers = _LAYERS[view]
            batch["image"][rows[:, None], layers] = batch["image"][rows[:, None], layers][..., ::-1]
        if "variables" in batch:
            for name in _ODD[view]:
                if name in variables:
                    batch["variables"][rows, list(variables).index(name)] *= -1


def statistics(batch: Arrays) -> dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Means and standard deviations for the normalisation.

    Args:
        batch: Inputs of a part of the training sample.

    Returns:
        ``variables`` per column, ``image`` as a whole, ``stk`` per feature over events with a track.
    """
    out: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {}
    if "variables" in batch:
        values = batch["variables"].astype(np.float64)
        out["variables"] = (values.mean(axis=0), values.std(axis=0))
    if "image" in batch:
        image = batch["image"].astype(np.float64)
        out["image"] = (np.array([image.mean()]), np.array([image.std()]))
    if "stk" in batch:
        planes = batch["stk"][batch["stk_mask"][:, 0] > 0].astype(np.float64)
        if len(planes):
            out["stk"] = (planes.mean(axis=(0, 1)), planes.std(axis=(0, 1)))
        else:
            out["stk"] = (np.zeros(4), np.ones(4))
    return out


def accuracy(score: Values, label: Values, weight: Values) -> float:
    """Weighted share of events on the right side of logit 0."""
    return float(np.average((score > 0) == (label == 1), weights=weight))


def figures_of_merit(
    recipe: Recipe,
    answer: Values,
    target: Values,
    weight: Values,
) -> dict[str, float]:
    """AUC and accuracy, or mean and 68 % containment of E_answer / E_true - 1."""
    if recipe.task == "classifier":
        return {
            "auc": auc(answer, target == 1, weight),
            "accuracy": accuracy(answer, target, weight),
        }
    error = np.expm1(answer - target)
    order = np.argsort(np.abs(error))
    reached = np.cumsum(weight[order]) / weight.sum()
    return {
        "bias": float(np.average(error, weights=weight)),
        "containment_68": float(np.abs(error)[order][np.searchsorted(reached, 0.68)]),
    }
