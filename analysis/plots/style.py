"""What all figures share: style, page, header, energy axis, error bars that end at the frame."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.exceptions import AnalysisError

__all__ = [
    "COLOURS",
    "SYNTHETIC_LABEL",
    "Page",
    "PlotError",
    "distances",
    "energy_axis",
    "energy_text",
    "grid",
    "marked",
    "outside_markers",
    "page",
    "points",
]

FloatArray = NDArray[np.float64]

SYNTHETIC_LABEL = "DAMPE-like synthetic data"
#: Colours that stay apart for colour-blind readers (Okabe and Ito).
COLOURS = {
    "data": "#000000",
    "electron": "#0072B2",
    "proton": "#D55E00",
    "total": "#555555",
    "cut": "#009E73",
    "synthetic": "#A3123A",
}

_RC: Any = {
    "font.size": 11.0,
    "axes.labelsize": 12.0,
    "axes.titlesize": 11.0,
    "axes.linewidth": 0.9,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.title_fontsize": 9.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.0,
    "errorbar.capsize": 0.0,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.minor.visible": True,
    "ytick.minor.visible": True,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "mathtext.default": "regular",
    "figure.dpi": 100.0,
    "savefig.dpi": 150.0,
    "savefig.bbox": None,
    "pdf.fonttype": 42,
}

_MARK: ContextVar[str] = ContextVar("mark", default="")


class PlotError(AnalysisError):
    """Input that cannot be drawn."""


@dataclass(frozen=True, eq=False)
class Page:
    """A figure that is being drawn, and the files that it becomes."""

    figure: Figure
    paths: list[Path]


@contextmanager
def marked(text: str) -> Iterator[None]:
    """Write a text into the head of every page that is drawn inside, such as that the data are partial.

    Args:
        text: The text; empty for none.
    """
    token = _MARK.set(text)
    try:
        yield
    finally:
        _MARK.reset(token)


@contextmanager
def page(
    stem: str | os.PathLike[str],
    size: tuple[float, float],
    *,
    synthetic: bool,
    overwrite: bool,
    title: str = "",
) -> Iterator[Page]:
    """Figure that is written as PNG and PDF when the block ends without an error.

    Args:
        stem: Path without suffix; missing folders are made.
        size: Width and height in inches.
        synthetic: Write :data:`SYNTHETIC_LABEL` at the top; the text of :func:`marked` follows.
        overwrite: Replace files that exist.
        title: Text at the right of the top.

    Yields:
        The page.

    Raises:
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    base = Path(stem)
    paths = [base.with_name(base.name + suffix) for suffix in (".png", ".pdf")]
    for path in paths:
        if path.exists() and not overwrite:
            msg = f"{path} exists: choose another name or allow overwriting (--overwrite)"
            raise FileExistsError(msg)
    with mpl.rc_context(_RC):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        marks = [SYNTHETIC_LABEL] * synthetic + [_MARK.get()] * bool(_MARK.get())
        if marks or title:
            # A blank keeps the room for the title free.
            figure.suptitle(
                "\n".join(marks) or " ",
                x=0.015,
                ha="left",
                fontsize=11,
                fontweight="bold",
                color=COLOURS["synthetic"],
            )
        if title:
            figure.text(0.985, 1 - 0.09 / size[1], title, ha="right", va="top")
        yield Page(figure, paths)
        base.parent.mkdir(parents=True, exist_ok=True)
        _write(figure, paths)


def energy_text(e_min: float, e_max: float) -> str:
    """Energy range for a title, with as many digits as it needs."""
    digits = 1 if e_max < 200 else 0
    return f"{e_min:.{digits}f}–{e_max:.{digits}f} GeV"


def energy_axis(ax: Axes, e_min: float, e_max: float, label: str = "Energy (GeV)") -> None:
    """Logarithmic energy axis from e_min to e_max, with decades and a few numbers between."""
    ax.set_xscale("log")
    ax.set_xlim(e_min * 0.92, e_max * 1.09)
    ax.set_xlabel(label)


def points(
    ax: Axes,
    e_min: FloatArray,
    e_max: FloatArray,
    e_ref: FloatArray,
    y: FloatArray,
    errors: tuple[FloatArray, FloatArray],
    **style: Any,
) -> None:
    """Points with asymmetric errors, horizontal bars over the bins; bins with NaN are left out."""
    good = np.isfinite(y)
    low, high = (np.nan_to_num(e)[good] for e in errors)
    if (low < 0).any() or (high < 0).any():
        msg = "error bars must not be negative; give distances from the point, not ends"
        raise PlotError(msg)
    across = [(e_ref - e_min)[good], (e_max - e_ref)[good]]
    options: dict[str, Any] = {"fmt": "o", "elinewidth": 1.1, **style}
    ax.errorbar(e_ref[good], y[good], yerr=[low, high], xerr=across, **options)


def distances(y: FloatArray, lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Distances from the points to the ends of their intervals, rounding below 0 taken away."""
    return np.maximum(y - lower, 0.0), np.maximum(upper - y, 0.0)


def grid(panels: int, most: int = 3) -> tuple[int, int]:
    """Rows and columns of a page of panels: four are two by two."""
    columns = 2 if panels == 4 else min(most, panels)
    return -(-panels // columns), columns


def outside_markers(ax: Axes, x: FloatArray, y: FloatArray, **style: Any) -> None:
    """Small triangles on the frame for points above or below the y range."""
    bottom, top = ax.get_ylim()
    for where, place, marker in ((y > top, 0.97, "^"), (y < bottom, 0.03, "v")):
        if where.any():
            at = np.full(int(where.sum()), place)
            ax.plot(x[where], at, marker, transform=ax.get_xaxis_transform(), ms=3.5, **style)


def _write(figure: Figure, paths: list[Path]) -> None:
    """Write all files under temporary names, then move them to their places."""
    parts = [path.with_name(f".{path.name}.{os.getpid()}.part") for path in paths]
    try:
        for path, part in zip(paths, parts, strict=True):
            # Without dates the same figure gives the same bytes.
            dateless = {"CreationDate": None} if path.suffix == ".pdf" else {}
            figure.savefig(part, format=path.suffix[1:], metadata=dateless)
            figure.set_layout_engine("none")  # found once, kept for the next format
        for path, part in zip(paths, parts, strict=True):
            part.replace(path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
