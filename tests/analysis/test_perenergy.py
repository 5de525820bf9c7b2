import numpy as np
import pytest

from analysis.exceptions import AnalysisError
from analysis.perenergy import per_energy

EDGES = [24.0, 100.0, 1000.0, 5000.0]


def test_number_steps_and_array():
    assert per_energy(5.0, EDGES).tolist() == [5.0, 5.0, 5.0]
    assert per_energy([[24.0, 4.0], [1000.0, 6.0]], EDGES).tolist() == [4.0, 4.0, 6.0]
    assert per_energy([[100.0, 4.0], [1000.0, 6.0]], EDGES).tolist() == [4.0, 4.0, 6.0]
    assert per_energy([1.0, 2.0, 3.0], EDGES).tolist() == [1.0, 2.0, 3.0]


def test_a_step_inside_a_bin_starts_with_the_next_one():
    assert per_energy([[24.0, 4.0], [500.0, 6.0]], EDGES).tolist() == [4.0, 4.0, 6.0]
    # an edge written with a few digits is still that edge
    assert per_energy([[24.0, 4.0], [1000.0 * (1 + 1e-10), 6.0]], EDGES).tolist() == [4.0, 4.0, 6.0]


@pytest.mark.parametrize("wrong", [[1.0, 2.0], [[100.0, 1.0], [24.0, 2.0]], [[1.0, 2.0, 3.0]]])
def test_neither_number_nor_steps(wrong):
    with pytest.raises(AnalysisError, match="neither a number nor a list"):
        per_energy(wrong, EDGES)


def test_the_result_is_a_copy():
    values = np.ones(3)
    per_energy(values, EDGES)[0] = 7.0
    assert values[0] == 1.0
