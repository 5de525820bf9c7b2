"""How a process that reads chunk after chunk treats its memory: each asks for the same large arrays."""

from __future__ import annotations

import ctypes
import functools
import gc

__all__ = ["freeze_imported", "keep_freed_memory"]

#: Parameters of the C library's ``mallopt`` (malloc.h of glibc).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: Arrays below this come from the heap, and this much of it stays with the process when it is free.
_LARGEST_ARRAY = _KEPT = 1 << 30


@functools.lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GB of freed memory instead of giving it back at once.

    Every chunk needs some hundred arrays of up to a few MB. Without this most of them are new pages that the
    kernel must clear, which takes a third of the time of a chunk with few selected events, and half as much again
    under Dask, which tells its workers to give memory back above 64 kB. The most memory in use at a time is the same.

    Returns:
        Whether the C library could be told; others than glibc cannot.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_ARRAY)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))


@functools.lru_cache(maxsize=1)
def freeze_imported() -> None:
    """Leave what exists now, the modules with all that is in them, out of later garbage collections.

    A full collection looks at some 200 000 objects that live as long as the process: 0.1 s, every tenth chunk.
    """
    gc.freeze()
