"""Jagged branches whose baskets stay apart: the same values as joined, whatever the baskets and the range."""

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st

from processors.jagged import Jagged, _Apart, join, read_jagged

#: Values of each event, in baskets of these numbers of events.
BASKETS = (3, 1, 40, 7, 200, 2)


@pytest.fixture(scope="module")
def column(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ak.Array]:
    generator = np.random.default_rng(3)
    path = tmp_path_factory.mktemp("jagged") / "jagged.root"
    whole = []
    with uproot.recreate(path) as file:
        tree = file.mktree("t", {"x": "var * int32", "y": "float32"})
        for n in BASKETS:
            counts = generator.poisson(4, n) * (generator.random(n) < 0.8)
            values = generator.integers(-1000, 1000, counts.sum()).astype(np.int32)
            whole.append(ak.unflatten(values, counts))
            tree.extend({"x": whole[-1], "y": np.arange(n, dtype=np.float32)})
    return path, ak.concatenate(whole)


@given(data=st.data())
def test_any_events_of_any_range(column: tuple[Path, ak.Array], data: st.DataObject) -> None:
    path, whole = column
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    with uproot.open(path) as file:
        jagged = read_jagged(file["t"]["x"], start, stop)
    expected = whole[start:stop]
    assert jagged.offsets.dtype == np.int64
    np.testing.assert_array_equal(np.diff(jagged.offsets), ak.to_numpy(ak.num(expected)))
    np.testing.assert_array_equal(join(jagged.parts), ak.to_numpy(ak.flatten(expected)))
    size = int(jagged.offsets[-1])
    index = data.draw(st.lists(st.integers(0, size - 1), unique=True) if size else st.just([]))
    chosen = np.sort(np.array(index, np.int64))
    taken = jagged.take(chosen)
    assert taken.dtype.isnative
    np.testing.assert_array_equal(taken, ak.to_numpy(ak.flatten(expected))[chosen])


def test_the_baskets_are_not_joined(column: tuple[Path, ak.Array]) -> None:
    path, whole = column
    with uproot.open(path) as file:
        jagged = read_jagged(file["t"]["x"], 0, len(whole))
    assert len(jagged.parts) == len(BASKETS)


def test_a_column_that_was_read_already_is_the_same(column: tuple[Path, ak.Array]) -> None:
    path, whole = column
    jagged = Jagged.from_awkward(whole)
    with uproot.open(path) as file:
        other = read_jagged(file["t"]["x"], 0, len(whole))
    np.testing.assert_array_equal(jagged.offsets, other.offsets)
    np.testing.assert_array_equal(join(jagged.parts), join(other.parts))


def test_a_flat_branch_is_refused(column: tuple[Path, ak.Array]) -> None:
    with uproot.open(column[0]) as file, pytest.raises(ValueError, match="axis"):
        read_jagged(file["t"]["y"], 0, 10)


def test_events_of_a_vector_have_a_header() -> None:
    """What ROOT writes for std::vector<float>: ten bytes before the values of each event."""
    events = [[1.0, 2.0], [], [3.0]]
    content = b"".join(b"\x40" + b"h" * 9 + np.array(e, ">f4").tobytes() for e in events)
    ends = np.cumsum([0, *(10 + 4 * len(e) for e in events)]).astype(np.int32)
    apart = _Apart(uproot.AsDtype(">f4"), header_bytes=10)
    nothing: Any = None
    basket = apart.basket_array(
        np.frombuffer(content, np.uint8), ends, nothing, nothing, {}, 0, nothing, {}
    )
    jagged = apart.final_array({0: basket}, 1, 3, [0, 3], nothing, nothing, {})
    assert jagged.offsets.tolist() == [0, 0, 1]
    assert jagged.take(np.array([0])).tolist() == [3.0]


@pytest.mark.parametrize(
    ("start", "stop", "borders"), [(12, 13, [0, 9, 20, 30]), (0, 30, [0, 10, 20, 31])]
)
def test_a_basket_with_another_number_of_events_is_refused(
    start: int, stop: int, borders: list[int]
) -> None:
    """Otherwise every later event would get the values of its neighbour."""
    nothing: Any = None
    baskets: dict[int, Any] = {}
    apart = _Apart(uproot.AsDtype(">f4"))
    for number in range(3):
        content = np.arange(10, dtype=">f4").view(np.uint8)
        ends = np.arange(0, 44, 4, dtype=np.int32)
        baskets[number] = apart.basket_array(content, ends, nothing, nothing, {}, 0, nothing, {})
    good = apart.final_array({1: baskets[1]}, 12, 13, [0, 10, 20, 30], nothing, nothing, {})
    assert good.parts[0].tolist() == [2.0]
    asked = {k: b for k, b in baskets.items() if borders[k] < stop and borders[k + 1] > start}
    with pytest.raises(ValueError, match="does not hold its events"):
        apart.final_array(asked, start, stop, borders, nothing, nothing, {})
    with pytest.raises(ValueError, match="hold 20 of the events 0 to 30"):
        apart.final_array(
            {k: baskets[k] for k in (0, 1)}, 0, 30, [0, 10, 20, 30], nothing, nothing, {}
        )
