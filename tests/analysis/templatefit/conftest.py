"""Templates without fluctuations, and data with shifted protons."""

import pytest
from templatetoys import S0, S1, data, simulation, truth


@pytest.fixture(scope="module")
def exact():
    """Templates without fluctuations, as of 200 000 events."""
    return simulation()


@pytest.fixture(scope="module")
def shifted():
    """Expected data whose protons are shifted."""
    return data(*truth(s0=S0, s1=S1))
