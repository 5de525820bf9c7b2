"""Blocks of a sample on several processes, their results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

__all__ = ["cores", "in_order"]

Task = TypeVar("Task")
Result = TypeVar("Result")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> Generator[Result]:
    """Results of tasks, in order, with a bounded number of them waiting.

    Args:
        work: What to do with a task; it and its results must travel to other processes.
        tasks: The tasks.
        workers: Processes; this one alone if 1.
        progress: Called with the tasks done and the tasks in total.

    Yields:
        The result of each task.
    """
    total = len(tasks)
    if min(workers, total) == 1:
        for done, task in enumerate(tasks, start=1):
            result = work(task)
            if progress is not None:
                progress(done, total)
            yield result
        return
    pool = ProcessPoolExecutor(
        min(workers, total), mp_context=get_context("spawn")
    )  # no fork of threads
    waiting: deque[Future[Result]] = deque()
    todo = iter(tasks)
    try:
        for done in range(1, total + 1):
            new = islice(todo, max(0, 3 * workers - len(waiting)))
            waiting.extend(pool.submit(work, task) for task in new)
            result = waiting.popleft().result()
            if progress is not None:
                progress(done, total)
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
