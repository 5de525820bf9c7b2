"""Compilation of the shower kernels and their own random numbers: one small stream per event.

The generator is SplitMix64 (Steele, Lea and Flood 2014): one 64-bit word of state, so that seeding per
event costs nothing and an event depends on its seed alone, however the events are split over jobs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["State", "compiled", "exponential", "gamma", "normal", "seed_stream", "uniform"]

State = npt.NDArray[np.uint64]
Kernel = TypeVar("Kernel", bound=Callable[..., object])

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_UNIT = 2.0**-53


def compiled(function: Kernel) -> Kernel:
    """Compile with numba to machine code that is kept on disk between runs."""
    return cast("Kernel", numba.njit(cache=True, fastmath=True)(function))


@compiled
def _mix(word: np.uint64) -> np.uint64:
    word = (word ^ (word >> _S30)) * _MIX_1
    word = (word ^ (word >> _S27)) * _MIX_2
    return word ^ (word >> _S31)


@compiled
def seed_stream(state: State, seed: np.uint64) -> None:
    """Start the stream of one event; neighbouring seeds start far from each other."""
    state[0] = _mix(_mix(seed + _GOLDEN) ^ _MIX_1)


@compiled
def uniform(state: State) -> float:
    """Uniform number in the open interval (0, 1)."""
    state[0] += _GOLDEN
    return (float(_mix(state[0]) >> _S11) + 0.5) * _UNIT


@compiled
def exponential(state: State) -> float:
    """Exponential number of mean 1."""
    return -math.log(uniform(state))


@compiled
def normal(state: State) -> float:
    """Standard normal number (Box and Muller)."""
    radius = math.sqrt(-2.0 * math.log(uniform(state)))
    return radius * math.cos(2.0 * math.pi * uniform(state))


@compiled
def gamma(shape: float, state: State) -> float:
    """Gamma number of scale 1 (Marsaglia and Tsang 2000)."""
    boost = 1.0
    if shape < 1.0:
        boost = math.exp(math.log(uniform(state)) / shape)
        shape += 1.0
    d = shape - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        x = normal(state)
        v = 1.0 + c * x
        if v <= 0.0:
            continue
        v = v * v * v
        u = uniform(state)
        if math.log(u) < 0.5 * x * x + d - d * v + d * math.log(v):
            return boost * d * v
