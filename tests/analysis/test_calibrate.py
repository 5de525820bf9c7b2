"""Offsets from control samples: closed forms, and errors that are what they say."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from analysis.calibrate import (
    CalibrationFitError,
    Offsets,
    Sample,
    contamination,
    fit_nodes,
    hats,
    measure,
)
from analysis.plots.calibration import OffsetCurve, plot_calibration
from analysis.plots.style import PlotError

EDGES = np.arange(0.0, 100.5, 0.5)


def exact(mean: float, width: float, total: float, *, events: float = 1e9) -> Sample:
    """A Gaussian variable without statistics: what infinitely many events would give."""

    def counts(at: float) -> np.ndarray:
        return total * np.diff(norm.cdf(EDGES, at, width))[None]

    # an offset is subtracted: it moves the mean down
    change = (counts(mean - 0.5) - counts(mean + 0.5)) / 1.0
    return Sample(counts(mean), counts(mean) * total / events, change, np.array([2.5]))


def poisson(sample: Sample, rng: np.random.Generator) -> Sample:
    counts = rng.poisson(sample.counts).astype(float)
    return Sample(counts, counts, np.zeros_like(counts), sample.log_energy)


def nothing() -> Sample:
    empty = np.zeros((1, len(EDGES) - 1))
    return Sample(empty, empty, empty, np.array([np.nan]))


def offsets(x: list[float], y: list[float], s: list[float]) -> Offsets:
    n = len(x)
    return Offsets(*(np.array(v, float) for v in (x, y, s)), *np.zeros((4, n)))


def test_hats_sum_to_one_and_interpolate() -> None:
    nodes = np.array([2.0, 2.5, 3.5])
    x = np.array([1.0, 2.0, 2.25, 3.0, 3.5, 4.0])
    expected = [[1, 0, 0], [1, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 1], [0, 0, 1]]
    np.testing.assert_allclose(hats(x, nodes), expected)


def test_nodes_of_a_broken_line_come_back_exactly() -> None:
    nodes, values = [100.0, 1000.0, 3000.0], [5.0, -1.0, 2.0]
    x = np.linspace(2.05, 3.45, 12)
    y = np.interp(x, np.log10(nodes), values)
    fit = fit_nodes(offsets(list(x), list(y), [0.3] * 12), nodes, max_error=5.0)
    np.testing.assert_allclose(fit.values, values, atol=1e-9)
    assert (fit.chi2, fit.ndf) == (pytest.approx(0.0, abs=1e-9), 9)


def test_one_node_is_the_weighted_mean() -> None:
    fit = fit_nodes(offsets([2.2, 2.6], [1.0, 4.0], [1.0, 0.5]), [300.0], max_error=5.0)
    assert fit.values[0] == pytest.approx((1.0 + 4.0 * 4) / 5)
    assert fit.errors[0] == pytest.approx(np.sqrt(1 / 5))
    assert fit.chi2 == pytest.approx(9 / 1.25)  # (4 - 1)^2 / (1 + 0.25)


def test_nodes_without_data_or_with_large_errors_are_left_out() -> None:
    nodes = [20.0, 100.0, 1000.0, 10_000.0]
    x = [2.1, 2.3, 2.5, 2.7, 2.9]
    fit = fit_nodes(offsets(x, [2.0] * 5, [0.1] * 5), nodes, max_error=5.0)
    assert fit.used.tolist() == [False, True, True, False]
    np.testing.assert_allclose(fit.values, 2.0)
    loose = fit_nodes(offsets(x, [2.0] * 5, [9.0] * 5), nodes, max_error=5.0)
    assert loose.used.sum() == 1  # the mean alone has an error of 9/sqrt(5)
    assert loose.errors[0] == pytest.approx(9 / np.sqrt(5))
    empty = fit_nodes(offsets([2.1], [np.nan], [np.nan]), nodes, max_error=5.0)
    assert not empty.used.any()
    assert empty.values.size == 0


def test_contamination_solves_the_two_tags() -> None:
    def total(n: float) -> Sample:
        counts = np.full((1, 4), n / 4)
        return Sample(counts, np.zeros((1, 4)), np.zeros((1, 4)), np.array([2.5]))

    # 1000 signal of which 50 in the other tag, 400 others of which 40 here
    data = (total(950 + 40), total(50 + 360))
    signal = (total(9.5), total(0.5))
    other = (total(20.0), total(180.0))
    expected, error = contamination(data, signal, other)
    assert expected[0] == pytest.approx(40.0)
    assert error[0] > 0.3 * 40
    none, at_least = contamination((total(100), total(0)), signal, other)
    assert (none[0], at_least[0]) == (0.0, 1.0)


def test_an_offset_without_noise() -> None:
    truth = exact(50.0, 8.0, 4000.0)
    model = exact(51.2, 8.0, 3.0)
    data = Sample(truth.counts, truth.counts, truth.change * 0, truth.log_energy)
    result = measure((data, nothing()), (model, nothing()), (nothing(), nothing()))
    assert result.offset[0] == pytest.approx(1.2, abs=0.02)
    # eight bins keep nearly all of the information: sigma / sqrt(N) = 0.126
    assert result.error[0] == pytest.approx(8 / np.sqrt(4000), rel=0.06)
    assert result.contamination[0] == 0.0
    assert result.ndf[0] == 6


def test_contamination_is_taken_out() -> None:
    truth, others = exact(50.0, 8.0, 4000.0), exact(30.0, 5.0, 600.0)
    mixed = Sample(truth.counts + others.counts, truth.counts, truth.change * 0, truth.log_energy)
    other_tag = exact(30.0, 5.0, 5400.0)
    result = measure(
        (mixed, other_tag),
        (exact(51.0, 8.0, 3.0), nothing()),
        (exact(30.0, 5.0, 0.1), exact(30.0, 5.0, 0.9)),
    )
    assert result.offset[0] == pytest.approx(1.0, abs=0.03)
    assert result.contamination[0] == pytest.approx(600 / 4600, abs=0.003)


def test_errors_are_the_scatter_of_pseudo_experiments() -> None:
    rng = np.random.default_rng(11)
    truth, model = exact(50.0, 8.0, 300.0), exact(50.5, 8.0, 3.0)
    pulls = []
    for _ in range(300):
        data = poisson(truth, rng)
        result = measure((data, nothing()), (model, nothing()), (nothing(), nothing()))
        pulls.append((result.offset[0] - 0.5) / result.error[0])
    assert abs(np.mean(pulls)) < 0.2
    assert np.std(pulls) == pytest.approx(1.0, abs=0.12)


def test_bins_that_cannot_be_measured() -> None:
    rng = np.random.default_rng(2)
    model = exact(50.0, 8.0, 3.0)
    few = poisson(exact(50.0, 8.0, 15.0), rng)
    assert not measure((few, nothing()), (model, nothing()), (nothing(), nothing())).measured.any()
    still = Sample(model.counts, model.variance, model.change * 0, model.log_energy)
    data = poisson(exact(50.0, 8.0, 400.0), rng)
    assert not measure((data, nothing()), (still, nothing()), (nothing(), nothing())).measured.any()
    short = Sample(*(np.ones((1, 3)),) * 3, np.array([2.5]))
    with pytest.raises(CalibrationFitError, match="different bins"):
        measure((data, nothing()), (short, nothing()), (nothing(), nothing()))


def test_a_figure_of_nothing_is_refused(tmp_path: Path) -> None:
    nan, node = np.full(3, np.nan), np.array([100.0])
    energy = np.array([100.0, 200.0, 300.0])
    curve = OffsetCurve("electron", energy, nan, nan, node, node * 0, node * 0)
    with pytest.raises(PlotError, match="no offset was measured"):
        plot_calibration([("layer 0", [curve])], tmp_path / "figure", synthetic=True)
    assert not list(tmp_path.iterdir())
