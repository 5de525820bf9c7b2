"""Processor time of alternatives taken in turns, and the memory of this process."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Stages", "in_use_mb", "interleaved", "peak_rss_mb", "ratio", "rss_mb"]

Times = dict[str, list[float]]


def interleaved(functions: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    """Processor time of each function, s, in rounds taken in turns after one that warms up.

    Processor time of all threads of this process, so that waiting for other work on the machine does not
    count; turns, because what does count of it (caches, clock) then falls on all alike.
    """
    times: Times = {name: [] for name in functions}
    for round_ in range(rounds + 1):
        for name, function in functions.items():
            gc.collect()
            start = time.process_time()
            function()
            elapsed = time.process_time() - start
            if round_:
                times[name].append(elapsed)
    return times


def ratio(times: Mapping[str, Sequence[float]], over: Sequence[str], under: Sequence[str]) -> float:
    """Median over the rounds of the summed times of some functions over those of others."""
    top = np.sum([times[n] for n in over], axis=0)
    bottom = np.sum([times[n] for n in under], axis=0)
    return float(np.median(top / bottom))


def rss_mb() -> float:
    """Memory of this process that is in use, MB (10^6 bytes)."""
    return _status("VmRSS")


class _Mallinfo2(ctypes.Structure):
    """``struct mallinfo2`` of malloc.h of glibc 2.33 and later."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd",
            "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    )  # fmt: skip


def in_use_mb() -> float:
    """Memory that this process asked for and did not free, MB: a leak shows at once, also in a heap with free space.

    Raises:
        AttributeError: If the C library cannot tell.
    """
    gc.collect()
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Mallinfo2
    found = mallinfo2()
    return float(found.uordblks + found.hblkhd) / 1e6


def peak_rss_mb() -> float:
    """The most memory that this process ever had in use, MB."""
    return _status("VmHWM")


def _status(key: str) -> float:
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    msg = f"/proc/self/status has no {key}; the memory of a process can be measured on Linux only"
    raise OSError(msg)


class Stages:
    """Exclusive processor time per stage: the time in a stage less that in the stages inside it.

    Functions are wrapped while the context is open; what is in none of them is ``rest``.

    Attributes:
        seconds: Stage to time, s.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stack: list[str] = ["rest"]
        self._last = 0.0

    def _switch(self) -> None:
        now = time.process_time()
        here = self._stack[-1]
        self.seconds[here] = self.seconds.get(here, 0.0) + now - self._last
        self._last = now

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what is inside for a stage."""
        self._switch()
        self._stack.append(name)
        try:
            yield
        finally:
            self._switch()
            self._stack.pop()

    def wrapped(self, function: Callable[..., Any], name: str | Callable[..., str]) -> Any:
        """The function, counted for a stage; its name may depend on the arguments."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name if isinstance(name, str) else name(*args, **kwargs)):
                return function(*args, **kwargs)

        return call

    @contextlib.contextmanager
    def over(self, places: Mapping[str, str | Callable[..., str]]) -> Iterator[None]:
        """Wrap functions for as long as the context is open.

        Args:
            places: ``module:attribute`` or ``module:Class.attribute`` to the stage.

        Raises:
            KeyError: If a function is not there: a stage that is not measured would go unnoticed.
        """
        with contextlib.ExitStack() as undo:
            for place, name in places.items():
                module, _, path = place.partition(":")
                owner: Any = import_module(module)
                *outer, last = path.split(".")
                for part in outer:
                    owner = getattr(owner, part)
                original = owner.__dict__[last]
                plain = original.__func__ if isinstance(original, classmethod) else original
                new = self.wrapped(plain, name)
                setattr(owner, last, classmethod(new) if isinstance(original, classmethod) else new)
                undo.callback(setattr, owner, last, original)
            self._last = time.process_time()
            try:
                yield
            finally:
                self._switch()
