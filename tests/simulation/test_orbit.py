from datetime import datetime
from itertools import pairwise

import numpy as np
import pytest

from simulation import orbit


def test_start_of_flight():
    days = (datetime(2015, 12, 30) - datetime(2013, 1, 1)).days
    assert days * 86_400 == orbit.FLIGHT_START_S


def test_livetime_is_the_share_of_the_seconds_outside_the_saa():
    start, stop = orbit.FLIGHT_START_S + 1234, orbit.FLIGHT_START_S + 98_765
    outside = int((~orbit.in_saa(np.arange(start, stop))).sum())
    assert orbit.livetime_s(start, stop) == pytest.approx(orbit.LIVE_SHARE * outside)
    long = 400 * orbit.ORBIT_S
    ratio = orbit.livetime_s(orbit.FLIGHT_START_S, orbit.FLIGHT_START_S + long) / long
    assert ratio == pytest.approx(0.768)


@pytest.mark.parametrize(("wanted", "longest", "at_least"), [(1e6, 86_400, 1), (50.0, 10, 3)])
def test_runs_follow_each_other_and_reach_the_livetime(wanted, longest, at_least):
    runs = orbit.runs(wanted, orbit.FLIGHT_START_S + 300, 7, longest, at_least)
    assert [r.number for r in runs] == list(range(7, 7 + len(runs)))
    assert all(a.stop_s == b.start_s for a, b in pairwise(runs))
    assert max(r.stop_s - r.start_s for r in runs) <= longest
    assert len(runs) >= at_least
    total = sum(r.to_dict()["livetime_s"] for r in runs)
    assert wanted <= total < wanted + 1


def test_too_many_runs_are_refused():
    with pytest.raises(ValueError, match="cannot be split into 1000 runs"):
        orbit.runs(5.0, orbit.FLIGHT_START_S, 1, 86_400, 1000)
