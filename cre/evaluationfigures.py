"""The figures of an evaluation: from its results to the plots of the analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.plots.classifiers import Curve, plot_auc, plot_comparison, plot_rejection, plot_roc
from analysis.plots.networks import (
    Distribution,
    EnergyCurve,
    plot_attention,
    plot_distributions,
    plot_energy_quality,
)
from models.containment import Containment
from models.performance import Performance
from models.rejection import Rejection
from processors.score import ScoreAxis

__all__ = ["draw_performance", "energy_curve"]

_MAIN = 0.9
_LABELS = {"true energy": "True energy (GeV)", "leakage": "Leakage, 1 − E$_{raw}$/E$_{true}$"}


def draw_performance(
    result: Performance,
    axes: Mapping[str, ScoreAxis],
    folder: Path,
    *,
    title: str,
    synthetic: bool,
    overwrite: bool = False,
) -> list[Path]:
    """Draw everything that an evaluation holds.

    Args:
        result: The evaluation.
        axes: Score to its histogram axis.
        folder: Where the figures go.
        title: Text over each figure, such as the region.
        synthetic: Whether the events are simulated.
        overwrite: Replace files that exist.

    Returns:
        Paths of the figures.

    Raises:
        FileExistsError: A file exists and ``overwrite`` is not set.
    """
    common: dict[str, Any] = {"synthetic": synthetic, "overwrite": overwrite, "title": title}
    bands = [r.name for r in result.ranges]
    out = plot_roc(
        {
            band: {
                n: (c.electron_efficiency, c.proton_efficiency)
                for n, c in result.rocs[band].items()
            }
            for band in bands
        },
        folder / "roc",
        **common,
    )
    out += plot_auc(
        {
            band: {n: (a.of(n), *a.interval(n)) for n in result.names}
            for band, a in result.auc.items()
        },
        folder / "auc",
        **common,
    )
    efficiencies = sorted({e for _, e in result.rejections})
    out += plot_rejection(
        {e: {n: _rejection(result.rejections[n, e]) for n in result.names} for e in efficiencies},
        folder / "rejection",
        **common,
    )
    main = _MAIN if _MAIN in efficiencies else efficiencies[0]
    at_main = {n: result.rejections[n, main] for n in result.names}
    out += plot_comparison(
        {n: _rejection(r) for n, r in at_main.items()},
        {n: _background(r) for n, r in at_main.items() if np.isfinite(r.background_fraction).any()},
        {n: _one_minus_auc(result, n) for n in result.names},
        folder / "comparison",
        efficiency=main,
        **common,
    )
    for name in result.names:
        out += plot_distributions(
            {band: _samples(result, band, name) for band in bands},
            np.linspace(axes[name].low, axes[name].high, axes[name].bins + 1),
            folder / f"score_{name}",
            label=axes[name].label,
            cuts={band: _cut(result, band, name, axes[name]) for band in bands},
            notes={
                band: f"data / MC: χ²/ndf = {a[name].chi2:.0f}/{a[name].ndf}"
                for band, a in result.agreement.items()
            },
            **common,
        )
    if result.attention:
        out += plot_attention(
            {name: (m.mean, m.error) for name, m in result.attention.items()},
            result.bin_edges_gev,
            result.modalities,
            folder / "attention",
            **common,
        )
    if result.energy is not None:
        out += plot_energy_quality(
            {
                _LABELS[by]: {
                    "corrected energy": energy_curve(result.energy.before[by]),
                    "energy network": energy_curve(result.energy.after[by]),
                }
                for by in result.energy.before
            },
            folder / "energy",
            logarithmic=[_LABELS["true energy"]],
            **common,
        )
    return out


def energy_curve(c: Containment) -> EnergyCurve:
    """Bias and widths of an energy estimate, as the figures take them."""
    return EnergyCurve(
        c.edges,
        c.bias,
        c.bias_error,
        c.half_width_68,
        c.half_width_68_error,
        c.half_width_95,
        c.half_width_95_error,
    )


def _rejection(r: Rejection) -> Curve:
    return Curve(r.e_min_gev, r.e_max_gev, r.value, r.lower, r.upper)


def _background(r: Rejection) -> Curve:
    return Curve(
        r.e_min_gev,
        r.e_max_gev,
        r.background_fraction,
        r.background_fraction_lower,
        r.background_fraction_upper,
    )


def _one_minus_auc(result: Performance, name: str) -> Curve:
    def column(values: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array(values, np.float64)

    edges, nan = result.bin_edges_gev, float("nan")
    ends = [(nan, nan) if a is None else a.interval(name) for a in result.bin_auc]
    return Curve(
        edges[:-1],
        edges[1:],
        # 1 - AUC below 1e-12 is rounding
        column([nan if a is None else round(1 - a.of(name), 12) for a in result.bin_auc]),
        column([max(round(1 - high, 12), 0.0) for _, high in ends]),
        column([round(1 - low, 12) for low, _ in ends]),
    )


def _samples(result: Performance, band: str, name: str) -> dict[str, Distribution]:
    d = result.distributions[band][name]
    samples = {
        "electrons": Distribution(d.electrons, d.electrons_variance),
        "protons": Distribution(d.protons, d.protons_variance),
    }
    return samples | ({"data": Distribution(d.data, d.data)} if d.data.any() else {})


def _cut(result: Performance, band: str, name: str, axis: ScoreAxis) -> float:
    """Score that 90 % of the electrons of a range exceed, to the width of a bin."""
    d = result.distributions[band][name].electrons
    number = int(np.searchsorted(np.cumsum(d), (1 - _MAIN) * d.sum()))
    return axis.low + (axis.high - axis.low) * number / axis.bins
