"""The toy sample is made once."""

import pytest
from toysample import toy_sample

from models.samples import Prepared


@pytest.fixture(scope="session")
def sample() -> Prepared:
    return toy_sample()
