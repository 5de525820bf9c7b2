"""The figure of a run in time: rate, efficiency and flux per month, each against a constant and a drift."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from numpy.typing import NDArray

from analysis.constancy import Constancy
from analysis.plots.style import COLOURS, outside_markers, page
from analysis.stability import Series, Stability

__all__ = ["plot_stability"]

FloatArray = NDArray[np.float64]

_EPOCH = datetime(2013, 1, 1, tzinfo=UTC)
_YEAR_S = 365.25 * 86_400


def plot_stability(
    found: Stability,
    stem: str | os.PathLike[str],
    *,
    synthetic: bool,
    overwrite: bool,
    title: str = "",
) -> list[Path]:
    """Draw rate, efficiency and flux against the date, each over its mean, with constant and drift.

    Args:
        found: The months.
        stem: Path without suffix.
        synthetic: Whether the data are simulated.
        overwrite: Replace files that exist.
        title: Text at the right of the top.

    Returns:
        The files.

    Raises:
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    notes = found.notes
    energies = f"{notes['e_min_gev']:.0f}–{notes['e_max_gev']:.0f} GeV"
    dates = _dates(found.mean_s)
    with page(stem, (8.6, 8.8), synthetic=synthetic, overwrite=overwrite, title=title) as sheet:
        axes = sheet.figure.subplots(3, 1, sharex=True)
        panels = (
            (axes[0], "above the cut", found.rate, "Rate / mean", "electron"),
            (axes[0], "control region", found.control_rate, "Rate / mean", "proton"),
            (
                axes[1],
                "no failed cut, of at most one",
                found.efficiency,
                "Efficiency / mean",
                "data",
            ),
            (axes[2], "flux", found.flux, "Flux / mean", "data"),
        )
        for shift, (ax, name, series, label, colour) in enumerate(panels):
            _series(ax, dates + (5.0 if shift == 1 else 0.0), series, name, COLOURS[colour])
            ax.set_ylabel(label)
        _line(axes[2], found, COLOURS["cut"])
        for ax, shown in zip(axes, ((0, 1), (2,), (3,)), strict=True):
            ax.axhline(1.0, color=COLOURS["total"], lw=0.8, ls=":")
            _vertical_range(ax, dates, [panels[i][2] for i in shown])
            ax.legend(loc="upper left", fontsize=8.5)
        axes[0].set_title(f"{energies}, {notes['region']}", loc="left")
        locator = AutoDateLocator()  # type: ignore[no-untyped-call]
        axes[2].xaxis.set_major_locator(locator)
        axes[2].xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        axes[2].set_xlabel("Date (UTC)")
    return sheet.paths


def _dates(seconds: FloatArray) -> FloatArray:
    """Mission elapsed seconds as days of matplotlib."""
    start = float(date2num(_EPOCH))  # type: ignore[no-untyped-call]
    return np.asarray(start + seconds / 86_400)


def _vertical_range(ax: Axes, dates: FloatArray, shown: list[Series]) -> None:
    """All points with an error like that of most; others are marked on the frame, the legend has room."""
    ends: list[float] = []
    for series in shown:
        mean, good = _mean(series), np.isfinite(series.value)
        error = series.upper + series.lower
        usual = good & (error <= 3.0 * np.median(error[good]))
        ends += ((series.value - series.lower)[usual] / mean).tolist()
        ends += ((series.value + series.upper)[usual] / mean).tolist()
    low, high = min(ends), max(ends)
    room = max(high - low, 1e-3)
    ax.set_ylim(low - 0.1 * room, high + 0.35 * room)
    for series in shown:
        outside_markers(ax, dates, series.value / _mean(series), color=COLOURS["total"])


def _mean(series: Series) -> float:
    """What a series is drawn over."""
    test = series.test
    mean = test.mean if test is not None and test.mean > 0 else float(np.nanmean(series.value))
    return mean if mean > 0 else 1.0


def _series(ax: Axes, dates: FloatArray, series: Series, name: str, colour: str) -> None:
    """Points over their mean; the test in the legend."""
    test, mean = series.test, _mean(series)
    good = np.isfinite(series.value)
    value, low, high = (x[good] / mean for x in (series.value, series.lower, series.upper))
    label = name if test is None else f"{name}: {constancy_text(test)}"
    ax.errorbar(dates[good], value, [low, high], fmt="o", color=colour, elinewidth=1.1, label=label)


def _line(ax: Axes, found: Stability, colour: str) -> None:
    """The fitted drift of the flux."""
    test = found.flux.test
    if test is None or not np.isfinite(test.drift_per_year):
        return
    years = (found.mean_s - np.average(found.mean_s, weights=found.livetime_s)) / _YEAR_S
    ends = np.array([years.min(), years.max()])
    ends_at = _dates(np.array([found.mean_s.min(), found.mean_s.max()]))
    ax.plot(ends_at, 1 + test.drift_per_year * ends, color=colour, label="fitted drift")


def constancy_text(test: Constancy) -> str:
    """χ², p-value and drift in one line."""
    text = f"χ²/ndf {test.chi2:.1f}/{test.ndf}, p {test.p_value:.2g}"
    if np.isfinite(test.drift_per_year):
        text += (
            f", drift {100 * test.drift_per_year:+.2f} ± {100 * test.drift_error:.2f} % per year"
        )
    return text
