"""Training and validation curves of a network."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from analysis.plots.style import COLOURS, PlotError, grid, page

__all__ = ["draw_training"]

FloatArray = NDArray[np.float64]

_STEPS = ("epoch", "step")
_WORDS = {"auc": "AUC", "lr": "Learning rate"}


def draw_training(
    history: Mapping[str, Sequence[float]],
    title: str,
    path: str | os.PathLike[str],
    *,
    best: float | None = None,
    synthetic: bool = True,
) -> list[Path]:
    """Training and validation curves, one panel per quantity.

    ``loss`` (or ``train_loss``) and ``val_loss`` share a panel, and so for every other quantity.

    Args:
        history: Name to one value per epoch; ``epoch`` (or ``step``), if there, is the abscissa, else
            epochs count from 1. NaN leaves a point out.
        title: What was trained.
        path: Path of the figure; a suffix .png or .pdf is dropped, both are written. The figure of an
            earlier state of the same training is replaced.
        best: Epoch whose weights were kept, marked by a line.
        synthetic: Whether the events are simulated.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        PlotError: Curves of different length, or none.
    """
    curves = {k: np.asarray(v, np.float64) for k, v in history.items()}
    sizes = {v.shape for v in curves.values()}
    if len(sizes) > 1:
        msg = (
            f"the training curves have different shapes, {sorted(sizes)}: one value per epoch each"
        )
        raise PlotError(msg)
    step = next((name for name in _STEPS if name in curves), "epoch")
    x = curves.pop(step, np.arange(1, (sizes or {(0,)}).pop()[0] + 1))
    if not curves or not x.size:
        msg = "the history holds no training curve: nothing to draw"
        raise PlotError(msg)
    panels: dict[str, dict[str, FloatArray]] = {}
    for name, values in curves.items():
        word, quantity = _split(name)
        panels.setdefault(quantity, {})[word] = values
    stem = Path(path)
    stem = stem.with_suffix("") if stem.suffix in {".png", ".pdf"} else stem
    rows, columns = grid(len(panels))
    size = (4.4 * columns, 0.6 + 3.4 * rows)
    with page(stem, size, synthetic=synthetic, overwrite=True, title=title) as sheet:
        axes = sheet.figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes[len(panels) :]:
            ax.remove()
        for ax, (quantity, parts) in zip(axes, panels.items(), strict=False):
            for word, values in parts.items():
                colour, line = _TRAINING_STYLE[word]
                ax.plot(x, values, line, marker="o", ms=3, color=COLOURS[colour], label=word)
            if best is not None:
                ax.axvline(best, color=COLOURS["cut"], ls=":", lw=1.4, label="kept")
            ax.set_xlabel(step.capitalize())
            ax.set_ylabel(_WORDS.get(quantity, quantity.replace("_", " ").capitalize()))
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            ax.xaxis.minorticks_off()
            if x.size == 1:
                ax.set_xlim(x[0] - 1, x[0] + 1)
            seen = np.concatenate(list(parts.values()))
            seen = seen[np.isfinite(seen)]
            if seen.size and seen.min() > 0 and seen.max() > 20 * seen.min():
                ax.set_yscale("log")
            ax.grid(alpha=0.25, lw=0.6)
            if len(parts) > 1 or best is not None:
                ax.legend()
    return sheet.paths


_TRAINING_STYLE = {"training": ("electron", "-"), "validation": ("proton", "--")}


def _split(name: str) -> tuple[str, str]:
    """Sample and quantity of a curve's name: ``val_loss`` is the validation's loss."""
    head, _, rest = name.partition("_")
    word = next((w for w in _TRAINING_STYLE if w.startswith(head)), None)
    return (word, rest) if word and rest else ("training", name)
