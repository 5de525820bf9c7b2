r"""How well an energy estimate meets the true energy, from the histogram ``energy_ratio`` of a run.

The histogram holds :math:`r = \ln(E / E_\mathrm{true})` of selected simulated electrons. Quantiles of r are
those of the ratio itself, since the exponential is monotonic; bias and widths are given for
:math:`E / E_\mathrm{true} - 1`. The variance of a cumulative share F of weighted events is

.. math:: \sigma_F^2 = [(1-F)^2 V_\mathrm{below} + F^2 V_\mathrm{above}] / W^2

with the sums of squared weights V on either side, F (1 − F)/n for unit weights. The error of a quantile is half
the distance between the quantiles at the ends of the interval of F (R. S. Woodruff, J. Am. Stat. Assoc. 47
(1952) 635), here the score interval (E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209) for
:math:`n = F (1-F) / \sigma_F^2` effective events, which stays inside (0, 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hist import Hist
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from analysis.intervals import ONE_SIGMA
from analysis.templates import inner_bins, select

__all__ = ["TWO_SIGMA", "Resolution", "energy_resolution", "resolution_table", "resolutions"]

FloatArray = NDArray[np.float64]

TWO_SIGMA = math.erf(math.sqrt(2.0))
"""Probability within two standard deviations of a Gaussian, 0.9545; "95 %" for short."""

_FEWEST = 20.0  # effective events without which a bin has no quantiles worth giving
_PARTS = 64  # of a bin of the ratio, in which the cumulative is taken as straight
#: Median, then the ends of the central 68.27 and 95.45 %.
_SHARES = (0.5, *((1 + sign * p) / 2 for p in (ONE_SIGMA, TWO_SIGMA) for sign in (-1, 1)))


@dataclass(frozen=True, eq=False)
class Resolution:
    """Bias and containment of E/E_true − 1 per bin of true energy; every array has shape (n_energy,).

    A quantile that lies in an under- or overflow bin is beyond the axis: the bias is then −1 or inf, a width inf,
    its error NaN. Bins with fewer than 20 effective events have NaN.

    Attributes:
        region: ``fiducial`` or ``topfiducial``.
        estimator: ``e_corr`` or ``cnn``.
        e_min: lower edges of the true energy, GeV.
        e_max: upper edges, GeV.
        effective_counts: (Σw)²/Σw² of the selected electrons.
        bias: median.
        bias_error: its standard deviation; inf where the interval reaches beyond the axis.
        half_68: half the central interval that holds 68.27 %.
        half_68_error: its standard deviation.
        half_68_least: the same with ends beyond the axis put on its border: a lower limit of ``half_68``.
        half_95: half the central interval that holds 95.45 %.
        half_95_error: its standard deviation.
        half_95_least: lower limit of ``half_95``.
    """

    region: str
    estimator: str
    e_min: FloatArray
    e_max: FloatArray
    effective_counts: FloatArray
    bias: FloatArray
    bias_error: FloatArray
    half_68: FloatArray
    half_68_error: FloatArray
    half_68_least: FloatArray
    half_95: FloatArray
    half_95_error: FloatArray
    half_95_least: FloatArray


def energy_resolution(histogram: Hist[Any], *, region: str, estimator: str) -> Resolution:
    """Bias and containment of one energy estimate in one region.

    Args:
        histogram: ``energy_ratio`` with axes region, estimator, energy_true and ratio.
        region: ``fiducial`` or ``topfiducial``.
        estimator: ``e_corr`` or ``cnn``.

    Returns:
        Numbers per bin of true energy.

    Raises:
        HistogramMismatchError: an axis or category is missing, or the storage has no variances.
    """
    part = select(
        histogram, "energy_ratio", ("energy_true", "ratio"), region=region, estimator=estimator
    )
    values, variances = inner_bins(part, "energy_ratio")
    edges = np.asarray(part.axes[0].edges, np.float64)
    border = np.asarray(part.axes[1].edges, np.float64)
    squares = variances.sum(axis=1)
    effective = values.sum(axis=1) ** 2 / np.where(squares > 0, squares, 1.0)
    rows = [
        _summary(v, s, border) if n >= _FEWEST else np.full(8, np.nan)
        for v, s, n in zip(values, variances, effective, strict=True)
    ]
    columns = np.array(rows, np.float64).reshape(-1, 8).T
    return Resolution(
        region, estimator, edges[:-1].copy(), edges[1:].copy(), effective, *map(np.copy, columns)
    )


def resolutions(histogram: Hist[Any]) -> list[Resolution]:
    """All regions and estimators of ``energy_ratio`` in which some bin has enough events.

    Args:
        histogram: with axes region, estimator, energy_true and ratio.

    Returns:
        By region, then estimator, in the order of the axes.

    Raises:
        HistogramMismatchError: an axis is missing, or the storage has no variances.
    """
    axes = {a.name: a for a in histogram.axes}
    every = [
        energy_resolution(histogram, region=str(r), estimator=str(e))
        for r in axes.get("region", ())
        for e in axes.get("estimator", ())
    ]
    return [r for r in every if np.any(r.effective_counts >= _FEWEST)]


def resolution_table(results: Sequence[Resolution], *, note: str = "") -> str:
    """The numbers as CSV; bins without enough events are left out.

    Args:
        results: regions and estimators.
        note: first comment line, such as that the data are synthetic.

    Returns:
        Text of the file.
    """
    lines = [f"# {note}"] if note else []
    lines += [
        (
            "# E/E_true - 1 of selected simulated electrons per bin of true energy: median, half widths of the "
            "central 68.27 and 95.45 %; inf: beyond the axis of the histogram"
        ),
        (
            "region,estimator,e_true_min_gev,e_true_max_gev,effective_counts,bias,bias_error,"
            "half_width_68,half_width_68_error,half_width_95,half_width_95_error"
        ),
    ]
    for r in results:
        columns = (r.bias, r.bias_error, r.half_68, r.half_68_error, r.half_95, r.half_95_error)
        lines += [
            f"{r.region},{r.estimator},{r.e_min[i]:.6g},{r.e_max[i]:.6g},{r.effective_counts[i]:.1f},"
            + ",".join(f"{c[i]:.5g}" for c in columns)
            for i in np.flatnonzero(r.effective_counts >= _FEWEST)
        ]
    return "\n".join(lines) + "\n"


def _summary(values: FloatArray, variances: FloatArray, edges: FloatArray) -> FloatArray:
    """Bias and widths with errors and lower limits of one bin, (8,); input with flow, (n_ratio + 2,)."""
    total = float(values.sum())
    below = np.cumsum(values)[:-1] / total  # at the edges
    squares, all_squares = np.cumsum(variances)[:-1], float(variances.sum())
    curve = PchipInterpolator(edges, below)

    def quantile(share: float) -> float:
        if share < below[0]:
            return -math.inf
        if share > below[-1]:
            return math.inf
        i = int(np.clip(np.searchsorted(below, share) - 1, 0, edges.size - 2))
        x = np.linspace(edges[i], edges[i + 1], _PARTS + 1)
        return float(np.interp(share, np.maximum.accumulate(curve(x)), x))

    left = np.interp(_SHARES, below, squares)  # Σw² below each quantile
    at, errors = [], []
    for share, v in zip(_SHARES, left, strict=True):
        variance = ((1 - share) ** 2 * v + share**2 * (all_squares - v)) / total**2
        n = share * (1 - share) / variance
        centre = (share + 0.5 / n) / (1 + 1 / n)
        reach = math.sqrt(variance + 0.25 / n**2) / (1 + 1 / n)
        at.append(quantile(share))
        ends = quantile(centre - reach), quantile(centre + reach)
        errors.append((math.exp(ends[1]) - math.exp(ends[0])) / 2)
    ratio = np.exp(at)
    inner = np.exp(np.clip(at, edges[0], edges[-1]))
    out = [ratio[0] - 1, errors[0] if math.isfinite(at[0]) else math.nan]
    for i, j in ((1, 2), (3, 4)):
        width, error = math.inf, math.nan
        if math.isfinite(at[i]) and math.isfinite(at[j]):
            rho = _correlation(_SHARES[i], _SHARES[j], left[i], left[j], all_squares)
            both = errors[i] ** 2 + errors[j] ** 2
            width = (ratio[j] - ratio[i]) / 2
            error = math.inf
            if math.isfinite(both):
                error = math.sqrt(max(both - 2 * rho * errors[i] * errors[j], 0.0)) / 2
        out += [width, error, (inner[j] - inner[i]) / 2]
    return np.array(out, np.float64)


def _correlation(p: float, q: float, below: float, below_q: float, every: float) -> float:
    """Correlation of the cumulative shares p < q; Σw² below each of the two and in all."""
    a, b, c = below, below_q - below, every - below_q
    covariance = (1 - p) * (1 - q) * a - p * (1 - q) * b + p * q * c
    one = (1 - p) ** 2 * a + p**2 * (b + c)
    other = (1 - q) ** 2 * (a + b) + q**2 * c
    return float(covariance / math.sqrt(one * other)) if one * other > 0 else 0.0
