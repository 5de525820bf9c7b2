"""Progress: a bar on a terminal, a line every ten seconds in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

__all__ = ["progress"]

_EVERY_S = 10.0


@contextmanager
def progress(label: str, total: float, unit: str = "events") -> Iterator[Callable[[float], None]]:
    """Report how far a piece of work is, on standard error.

    Args:
        label: What is being done.
        total: How much there is to do.
        unit: Of what.

    Yields:
        A function to call with the amount just done.
    """
    if sys.stderr.isatty():
        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task(label, total=total)
            yield lambda amount: bar.advance(task, amount)
        return
    done, start = 0.0, time.monotonic()
    told = start

    def advance(amount: float) -> None:
        nonlocal done, told
        done += amount
        now = time.monotonic()
        if now - told >= _EVERY_S:
            told = now
            print(  # noqa: T201
                f"{label}: {done:.0f} of {total:.0f} {unit}, {now - start:.0f} s",
                file=sys.stderr,
                flush=True,
            )

    yield advance
    elapsed = time.monotonic() - start
    print(f"{label}: {done:.0f} {unit} in {elapsed:.1f} s", file=sys.stderr, flush=True)  # noqa: T201
