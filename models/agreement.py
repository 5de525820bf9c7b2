"""Do two samples agree: a two-sample test, and data against electron and proton templates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from models.evaluation import EvaluationError, bin_numbers, effective_number

__all__ = [
    "Agreement",
    "MeanPerBin",
    "TwoSample",
    "mean_per_bin",
    "template_agreement",
    "two_sample_test",
]

Values = npt.ArrayLike
FloatArray = npt.NDArray[np.float64]

_ROUNDS = 20


@dataclass(frozen=True)
class TwoSample:
    """Weighted two-sample Kolmogorov-Smirnov test.

    Attributes:
        distance: Largest distance of the two cumulative distributions.
        p_value: Probability of a larger one for samples of one distribution (asymptotic).
        effective_first: Effective number of events of the first sample.
        effective_second: The same of the second.
    """

    distance: float
    p_value: float
    effective_first: float
    effective_second: float


def two_sample_test(
    first: Values,
    second: Values,
    first_weights: Values | None = None,
    second_weights: Values | None = None,
) -> TwoSample:
    r"""Kolmogorov-Smirnov test of two weighted samples.

    The p-value is that of Kolmogorov's distribution at
    :math:`(\sqrt{n} + 0.12 + 0.11/\sqrt{n})\,D` (Stephens 1970), with
    :math:`n = n_1 n_2 / (n_1 + n_2)` of the effective numbers (Σw)²/Σw².

    Args:
        first: Shape (n,), finite.
        second: Shape (m,), finite.
        first_weights: Shape (n,); default 1.
        second_weights: Shape (m,); default 1.

    Returns:
        Distance and p-value.

    Raises:
        EvaluationError: A sample is empty or a value is not finite.
    """
    values, weights = [], []
    for x, given in ((first, first_weights), (second, second_weights)):
        v = np.asarray(x, np.float64)
        w = np.ones(v.size) if given is None else np.asarray(given, np.float64)
        if not v.size or not w.sum() > 0 or not np.isfinite(v).all():
            msg = "a two-sample test needs two samples of finite values with positive weight"
            raise EvaluationError(msg)
        values.append(v)
        weights.append(w)
    points = np.unique(np.concatenate(values))
    shares = []
    for v, w in zip(values, weights, strict=True):
        order = np.argsort(v, kind="stable")
        below = np.concatenate([[0.0], np.cumsum(w[order])]) / w.sum()
        shares.append(below[np.searchsorted(v[order], points, side="right")])
    distance = float(np.abs(shares[0] - shares[1]).max())
    numbers = [effective_number(w) for w in weights]
    root = math.sqrt(numbers[0] * numbers[1] / sum(numbers))
    p = float(special.kolmogorov((root + 0.12 + 0.11 / root) * distance))
    return TwoSample(distance, p, *numbers)


@dataclass(frozen=True, eq=False)
class Agreement:
    """Data against the sum of two templates that were scaled to them.

    Attributes:
        chi2: Σ (data − sum)² / variance over the merged bins.
        ndf: Merged bins minus the fitted templates.
        p_value: Probability of a larger chi2; NaN without a degree of freedom.
        electrons: Factor of the electron template.
        protons: Factor of the proton template.
        edges: Edges of the merged bins, shape (m + 1,).
        data: Counts in them, shape (m,).
        expected: Sum of the scaled templates, shape (m,).
        variance: Variance of the difference, shape (m,).
    """

    chi2: float
    ndf: int
    p_value: float
    electrons: float
    protons: float
    edges: FloatArray
    data: FloatArray
    expected: FloatArray
    variance: FloatArray


def template_agreement(
    data: Values,
    electrons: Values,
    protons: Values,
    electron_variance: Values,
    proton_variance: Values,
    edges: Values,
    *,
    least: float = 10.0,
) -> Agreement:
    """How well a score histogram of data is described by electron and proton templates.

    Both normalisations are fitted, not negative, by weighted least squares; the variance of a bin is the
    expected count plus the scaled variances of the templates, iterated. Bins are merged from the left
    until each holds the least number of expected events.

    Args:
        data: Counts, shape (n,).
        electrons: Electron template, any norm, shape (n,).
        protons: Proton template, shape (n,).
        electron_variance: Σw² of the electron template, shape (n,).
        proton_variance: Σw² of the proton template, shape (n,).
        edges: Bin edges, shape (n + 1,).
        least: Expected events that a merged bin has at least.

    Returns:
        Factors, chi2 and the merged bins.

    Raises:
        EvaluationError: No data, or a template is empty.
    """
    parts = [
        np.asarray(x, np.float64)
        for x in (data, electrons, protons, electron_variance, proton_variance)
    ]
    border = np.asarray(edges, np.float64)
    if not all(p.sum() > 0 for p in parts[:3]):
        msg = "data, electron and proton histograms must all hold events to be compared"
        raise EvaluationError(msg)
    factors = _fitted(parts, np.maximum(parts[0], 1.0))
    start = _merging(factors[0] * parts[1] + factors[1] * parts[2], least)
    merged = [np.add.reduceat(p, start) for p in parts]
    variance = np.maximum(merged[0], 1.0)
    for _ in range(_ROUNDS):
        factors = _fitted(merged, variance)
        expected = factors[0] * merged[1] + factors[1] * merged[2]
        variance = expected + factors[0] ** 2 * merged[3] + factors[1] ** 2 * merged[4]
        variance = np.maximum(variance, 1e-12)
    chi2 = float(((merged[0] - expected) ** 2 / variance).sum())
    ndf = start.size - int(np.count_nonzero(factors > 0))
    return Agreement(
        chi2,
        ndf,
        float(special.chdtrc(ndf, chi2)) if ndf > 0 else math.nan,
        float(factors[0]),
        float(factors[1]),
        np.append(border[start], border[-1]),
        merged[0],
        expected,
        variance,
    )


def _fitted(parts: list[FloatArray], variance: FloatArray) -> FloatArray:
    """Factors of the two templates, not negative, of least weighted squares."""
    sigma = np.sqrt(variance)
    scale = np.array([parts[0].sum() / parts[i].sum() for i in (1, 2)])  # both columns of one size
    columns = np.column_stack([parts[1] * scale[0] / sigma, parts[2] * scale[1] / sigma])
    solution, _ = optimize.nnls(columns, parts[0] / sigma)
    return np.asarray(solution * scale, np.float64)


def _merging(expected: FloatArray, least: float) -> npt.NDArray[np.intp]:
    """First bins of groups that hold the least expected events each; the rest joins the last group."""
    start, held = [0], 0.0
    for i, one in enumerate(expected):
        if held >= least:
            start.append(i)
            held = 0.0
        held += one
    if held < least and len(start) > 1:
        start.pop()
    return np.asarray(start, np.intp)


@dataclass(frozen=True, eq=False)
class MeanPerBin:
    """Weighted means per bin; ``mean`` and ``error`` have shape (n_bins, m).

    Attributes:
        edges: Bin edges, shape (n_bins + 1,).
        mean: Mean of each of the m values; NaN in an empty bin.
        error: Standard deviation of the mean.
        events: Events per bin, shape (n_bins,).
    """

    edges: FloatArray
    mean: FloatArray
    error: FloatArray
    events: npt.NDArray[np.int64]


def mean_per_bin(
    values: Values, x: Values, edges: Values, weights: Values | None = None
) -> MeanPerBin:
    """Mean of values (such as attention weights) in bins of another variable (such as energy).

    Args:
        values: Shape (n, m).
        x: What is binned, shape (n,).
        edges: Bin edges.
        weights: Shape (n,); default 1.

    Returns:
        Means with their errors √(Σw²(v − mean)²)/Σw.
    """
    v, border = np.asarray(values, np.float64), np.asarray(edges, np.float64)
    w = np.ones(len(v)) if weights is None else np.asarray(weights, np.float64)
    number, n = bin_numbers(x, border), border.size - 1
    use = number >= 0
    v, w, number = v[use], w[use], number[use]
    total = np.bincount(number, w, n)
    safe = np.where(total > 0, total, np.nan)
    mean = np.column_stack([np.bincount(number, w * c, n) for c in v.T]) / safe[:, None]
    spread = w[:, None] ** 2 * (v - mean[number]) ** 2
    error = np.sqrt(np.column_stack([np.bincount(number, c, n) for c in spread.T])) / safe[:, None]
    return MeanPerBin(border, mean, error, np.bincount(number, minlength=n))
