import numpy as np
import pytest

from analysis.efficiency import signal_efficiency
from analysis.exceptions import CutNotOnEdgeError
from analysis.intervals import ONE_SIGMA
from analysis.templates import Template


def electrons(values, variances=None):
    values = np.asarray(values, dtype=float)
    return Template(
        kind="electron",
        region="fiducial",
        energy_edges=np.arange(1.0, values.shape[0] + 2),
        omega_edges=np.array([-2.0, -1.0, 0.0, 1.0]),
        values=values,
        variances=values if variances is None else np.asarray(variances, dtype=float),
    )


def test_flow_bins_count():
    result = signal_efficiency(electrons([[10, 10, 20, 50, 10]]), -1.0)
    assert result.value == pytest.approx([0.80])
    assert result.error == pytest.approx([0.04])
    assert result.effective_counts == pytest.approx([100])
    assert result.success.tolist() == [True]
    assert (result.e_min.tolist(), result.e_max.tolist(), result.cut) == ([1.0], [2.0], -1.0)
    assert result.lower < result.value < result.upper


def test_weighted_error_by_hand():
    # passed: 3 in sum, 1.5 in squares; failed: 1 and 1
    result = signal_efficiency(electrons([[0, 1, 0, 3, 0]], [[0, 1, 0, 1.5, 0]]), 0.0)
    assert result.value == pytest.approx([0.75])
    assert result.error == pytest.approx([np.sqrt((0.0625 * 1.5 + 0.5625 * 1.0) / 16)])


def test_ends_and_empty_bins():
    result = signal_efficiency(
        electrons([[0, 0, 0, 100, 0], [0, 100, 0, 0, 0], [0, 0, 0, 0, 0]]), 0.0
    )
    assert result.success.tolist() == [True, False, False]
    assert result.value[:2].tolist() == [1.0, 0.0]
    assert np.isnan(result.value[2])
    assert result.error[0] == pytest.approx(1 - ((1 - ONE_SIGMA) / 2) ** 0.01)


def test_cut_must_be_on_an_edge():
    with pytest.raises(CutNotOnEdgeError, match="nearest edges: -1, 0"):
        signal_efficiency(electrons([[0, 0, 0, 100, 0]]), -0.25)
