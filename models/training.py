"""Training: from a recipe and a prepared sample to a checkpoint, resumable after every epoch.

All randomness of an epoch follows from the seed and the number of the epoch, so a training that was
interrupted and resumed gives the same network as one that was not. Kept are the running mean of the weights
(its decay is the recipe's ``ema``) of the epoch with the lowest validation loss.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.swa_utils import AveragedModel

from models.batches import (
    drawing_weights,
    figures_of_merit,
    gather,
    mirror,
    select,
    statistics,
)
from models.networks import INPUTS_OF, make_network, set_normalisation
from models.recipes import Recipe
from models.samples import Prepared
from models.smearing import smear
from processors.exceptions import CreError

__all__ = ["Trained", "TrainingError", "load_checkpoint", "set_threads", "train"]

CHECKPOINT = "checkpoint.pt"
#: Warm-up of the learning rate, share of all steps; it starts and ends at the peak over 25 and over 1000.
_WARM_UP = 0.1
#: Exponent of sigma in the weight of the Gaussian likelihood (Seitzer et al., arXiv:2203.09168).
_BETA = 0.5
_LOOK_EVERY = 25
_EVALUATION_BATCH = 2048
_STATISTICS_EVENTS = 100_000


class TrainingError(CreError):
    """A training cannot start, be resumed, or go on."""


@dataclass(frozen=True)
class Trained:
    """Result of a training.

    Attributes:
        checkpoint: Its file.
        history: Quantity to one value per epoch; ``train_…`` and ``val_…``.
        metrics: Validation figures of the kept epoch, and counts.
        stopped: Why it ended: ``epochs``, ``early`` (no improvement) or ``time``.
    """

    checkpoint: Path
    history: Mapping[str, Sequence[float]]
    metrics: Mapping[str, Any]
    stopped: str


@dataclass
class _State:
    """What a checkpoint keeps."""

    network: Any
    mean: Any
    optimiser: Any
    history: dict[str, list[float]]
    best: dict[str, Any]
    best_epoch: int = -1
    best_loss: float = math.inf
    stopped: str = ""

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history.get("train_loss", []))


class _Data:
    """Training and validation events of a recipe."""

    def __init__(self, recipe: Recipe, sample: Prepared, device: str) -> None:
        self.sample, self.recipe, self.device = sample, recipe, device
        self.inputs = INPUTS_OF[recipe.network]
        self.columns = sample.columns(recipe.variables)
        self.training, self.validation = select(sample, recipe)
        self.probability = self._weights(self.training)
        self.validation_weight = self._weights(self.validation)

    def _weights(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        a = self.sample.arrays
        return drawing_weights(a["label"][rows], a["e_corr"][rows], a["weight"][rows], self.recipe)

    def draw(self, rng: np.random.Generator, n: int) -> npt.NDArray[np.intp]:
        """Rows of n training events, drawn with replacement."""
        return self.training[rng.choice(len(self.training), n, p=self.probability)]

    def target(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """Label, or ln(E_true / E_corr)."""
        a = self.sample.arrays
        if self.recipe.task == "energy":
            return np.asarray(np.log(a["e_true"][rows] / a["e_corr"][rows]))
        return np.asarray(a["label"][rows])

    def batch(
        self, rows: npt.NDArray[np.intp], rng: np.random.Generator | None
    ) -> tuple[list[Any], Any]:
        """Inputs in the network's order, and the target, as tensors; smeared and mirrored with an rng."""
        arrays = gather(self.sample, rows, self.inputs, self.columns)
        if rng is not None:
            t = self.recipe.training
            if t.smearing:
                smear(arrays, self.recipe.variables, rng, t.smearing)
            if t.mirror:
                coin = rng.random((2, len(rows))) < 0.5
                mirror(arrays, self.recipe.variables, {"x": coin[0], "y": coin[1]})
        tensors = [torch.from_numpy(arrays[name]).to(self.device) for name in self.inputs]
        target = torch.from_numpy(self.target(rows).astype(np.float32)).to(self.device)
        return tensors, target


def train(
    recipe: Recipe,
    sample: Prepared,
    output: Path,
    *,
    resume: bool = False,
    device: str | None = None,
    max_minutes: float = 40.0,
    advance: Callable[[float], None] | None = None,
    report: Callable[[Mapping[str, float]], None] | None = None,
) -> Trained:
    """Train a network.

    Args:
        recipe: The recipe.
        sample: Prepared events of its region.
        output: Folder for ``checkpoint.pt``, ``history.json``, ``metrics.json`` and ``recipe.json``.
        resume: Go on from the folder's checkpoint, if there is one.
        device: ``cpu`` or ``cuda``; by default a GPU if there is one.
        max_minutes: Training ends before the epoch that would pass this limit; counted per call.
        advance: Told the number of events just trained on.
        report: Told epoch, losses and figures of merit after every epoch.

    Returns:
        The result; the same whether or not the training was interrupted and resumed.

    Raises:
        TrainingError: If the checkpoint belongs to another recipe or sample, or the loss is not finite.
        SampleError: If the sample has too few events for the recipe.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    start = time.monotonic()
    data = _Data(recipe, sample, device)
    state = _new_state(recipe, data, device)
    training_hash = recipe.training_hash(sample.identity)
    path = output / CHECKPOINT
    if resume and path.exists():
        _restore(state, load_checkpoint(path), training_hash, path)
    output.mkdir(parents=True, exist_ok=True)
    _write_json(output / "recipe.json", recipe.model_dump(mode="json"))
    longest = 0.0
    while not state.stopped:
        before = time.monotonic()
        if state.epoch and (before - start + longest) > 60 * max_minutes:
            break
        figures = _train_epoch(state, data, advance) | _validate(state.mean.module, data)
        for name, value in figures.items():
            state.history.setdefault(name, []).append(value)
        if figures["val_loss"] < state.best_loss:
            state.best_loss, state.best_epoch = figures["val_loss"], state.epoch
            state.best = {k: v.detach().cpu().clone() for k, v in _weights(state.mean.module)}
        if state.epoch >= recipe.training.epochs:
            state.stopped = "epochs"
        elif state.epoch - state.best_epoch >= recipe.training.patience:
            state.stopped = "early"
        _save(path, state, recipe, sample, training_hash)
        longest = max(longest, time.monotonic() - before)
        if report is not None:
            report({"epoch": float(state.epoch), **figures})
    metrics = _metrics(state, data)
    _write_json(output / "history.json", state.history)
    _write_json(output / "metrics.json", metrics)
    return Trained(path, state.history, metrics, state.stopped or "time")


def set_threads(threads: int | None) -> None:
    """Use so many threads; None leaves the choice to PyTorch, which takes one per core."""
    if threads is not None:
        torch.set_num_threads(threads)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are accepted from the file.

    Args:
        path: ``checkpoint.pt`` of a training.

    Returns:
        Its content.

    Raises:
        TrainingError: If it cannot be read.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as err:  # torch raises whatever it trips over in a damaged file
        text = (str(err) or "no message").strip().splitlines()[0]
        msg = f"checkpoint {str(path)!r} cannot be read ({type(err).__name__}: {text}); train again"
        raise TrainingError(msg) from err
    if content.get("format") != 1:
        msg = f"{str(path)!r} is no checkpoint of 'cre train'"
        raise TrainingError(msg)
    return content


def _new_state(recipe: Recipe, data: _Data, device: str) -> _State:
    """Network with fresh weights and the normalisation of the training sample."""
    torch.manual_seed(recipe.training.seed)
    network = make_network(recipe.network, len(recipe.variables), recipe.options)
    rng = np.random.default_rng([recipe.training.seed, 2])
    rows = np.sort(data.draw(rng, min(_STATISTICS_EVENTS, 4 * len(data.training))))
    numbers: dict[str, Any] = dict(statistics(gather(data.sample, rows, data.inputs, data.columns)))
    if recipe.task == "energy":
        target = data.target(rows)
        numbers["target"] = (np.array([target.mean()]), np.array([target.std()]))
    set_normalisation(network, numbers)
    network.to(device, memory_format=torch.channels_last)
    decay = recipe.training.ema

    def follow(means: Any, values: Any, number: Any) -> None:
        share = 1.0 - min(decay, (1.0 + float(number)) / (10.0 + float(number)))
        for old, new in zip(means, values, strict=True):
            if old.is_floating_point():
                old.lerp_(new, share)
            else:
                old.copy_(new)

    mean = AveragedModel(network, multi_avg_fn=follow, use_buffers=True)
    optimiser = torch.optim.AdamW(
        network.parameters(),
        lr=recipe.training.learning_rate,
        weight_decay=recipe.training.weight_decay,
        fused=True,
    )
    return _State(network, mean, optimiser, {}, {})


def _learning_rate(step: int, steps: int, peak: float) -> float:
    """One cycle: cosine from peak / 25 to the peak, cosine to peak / 1000."""
    warm = max(1, round(_WARM_UP * steps))
    if step < warm:
        low, share = peak / 25, step / warm
        return low + (peak - low) * 0.5 * (1 - math.cos(math.pi * share))
    low, share = peak / 1000, (step - warm) / max(1, steps - warm)
    return low + (peak - low) * 0.5 * (1 + math.cos(math.pi * share))


def _loss(recipe: Recipe, outputs: Sequence[Any], target: Any) -> Any:
    """Loss per event: cross-entropy of the logit, or minus the logarithm of the Gaussian likelihood."""
    if recipe.task == "classifier":
        return binary_cross_entropy_with_logits(outputs[0], target, reduction="none")
    log_ratio, log_sigma = outputs
    return 0.5 * ((target - log_ratio) * torch.exp(-log_sigma)) ** 2 + log_sigma


def _train_epoch(
    state: _State, data: _Data, advance: Callable[[float], None] | None
) -> dict[str, float]:
    recipe = data.recipe
    t = recipe.training
    steps = max(1, t.events_per_epoch // t.batch)
    epoch = state.epoch
    coarse = epoch < t.bfloat16_share * t.epochs
    rng = np.random.default_rng([t.seed, 3, epoch])
    torch.manual_seed(int(rng.integers(2**62)))  # dropout
    rows = data.draw(rng, steps * t.batch).reshape(steps, t.batch)
    state.network.train()
    losses, outputs, targets = [], [], []
    for step in range(steps):
        for group in state.optimiser.param_groups:
            group["lr"] = _learning_rate(epoch * steps + step, t.epochs * steps, t.learning_rate)
        inputs, target = data.batch(rows[step], rng)
        with torch.autocast(data.device, torch.bfloat16, enabled=coarse):
            out = tuple(o.float() for o in state.network(*inputs))
        each = _loss(recipe, out, target)
        loss = each.mean()
        if recipe.task == "energy":  # else events with a large sigma would hardly be learnt
            loss = (each * torch.exp(2 * _BETA * out[1].detach())).mean()
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        state.optimiser.step()
        state.mean.update_parameters(state.network)
        losses.append(each.detach().mean())
        outputs.append(out[0].detach())
        targets.append(target)
        if (step + 1) % _LOOK_EVERY == 0 or step + 1 == steps:
            value = float(torch.stack(losses[-_LOOK_EVERY:]).mean())
            if not math.isfinite(value):
                msg = (
                    f"the loss is not finite (epoch {epoch + 1}, step {step + 1}); lower learning_rate in the "
                    "recipe, the last checkpoint is intact"
                )
                raise TrainingError(msg)
        if advance is not None:
            advance(float(t.batch))
    answer = torch.cat(outputs).double().cpu().numpy()
    truth = torch.cat(targets).double().cpu().numpy()
    figures = figures_of_merit(recipe, answer, truth, np.ones(len(truth)))
    loss_value = float(torch.stack(losses).double().mean())
    return {f"train_{k}": v for k, v in ({"loss": loss_value} | figures).items()}


def _validate(network: Any, data: _Data) -> dict[str, float]:
    """Loss and figures of merit on the events held out, weighted as they would be drawn."""
    network.eval()
    answers, losses = [], []
    with torch.inference_mode():
        for start in range(0, len(data.validation), _EVALUATION_BATCH):
            inputs, target = data.batch(data.validation[start : start + _EVALUATION_BATCH], None)
            out = network(*inputs)
            answers.append(out[0].double().cpu().numpy())
            losses.append(_loss(data.recipe, out, target).double().cpu().numpy())
    answer, weight = np.concatenate(answers), data.validation_weight
    loss = float(np.average(np.concatenate(losses), weights=weight))
    if not math.isfinite(loss):
        msg = "the validation loss is not finite; lower learning_rate in the recipe"
        raise TrainingError(msg)
    figures = figures_of_merit(data.recipe, answer, data.target(data.validation), weight)
    return {f"val_{k}": v for k, v in ({"loss": loss} | figures).items()}


def _metrics(state: _State, data: _Data) -> dict[str, Any]:
    kept = state.best_epoch - 1
    label = data.sample.arrays["label"]
    return {
        "epochs": state.epoch,
        "best_epoch": state.best_epoch,
        **{k: v[kept] for k, v in state.history.items() if k.startswith("val_")},
        "training_electrons": int((label[data.training] == 1).sum()),
        "training_protons": int((label[data.training] == 0).sum()),
        "validation_events": len(data.validation),
    }


def _weights(network: Any) -> list[tuple[str, Any]]:
    return list(network.state_dict().items())


def _save(path: Path, state: _State, recipe: Recipe, sample: Prepared, training_hash: str) -> None:
    content = {
        "format": 1,
        "recipe": recipe.model_dump_json(),
        "training_hash": training_hash,
        "synthetic": sample.synthetic,
        "network": state.network.state_dict(),
        "mean": state.mean.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "history": state.history,
        "best": state.best,
        "best_epoch": state.best_epoch,
        "best_loss": state.best_loss,
        "stopped": state.stopped,
    }
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    torch.save(content, part)
    part.replace(path)
    _write_json(path.with_name("history.json"), state.history)


def _restore(state: _State, content: Mapping[str, Any], training_hash: str, path: Path) -> None:
    if content["training_hash"] != training_hash:
        msg = (
            f"{str(path)!r} was made with another recipe, number of epochs or sample; train into another "
            "folder, or without --resume"
        )
        raise TrainingError(msg)
    state.network.load_state_dict(content["network"])
    state.mean.load_state_dict(content["mean"])
    state.optimiser.load_state_dict(content["optimiser"])
    state.history = {k: list(v) for k, v in content["history"].items()}
    state.best = dict(content["best"])
    state.best_epoch = int(content["best_epoch"])
    state.best_loss = float(content["best_loss"])
    state.stopped = str(content["stopped"])


def _write_json(path: Path, content: Any) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    part.replace(path)
