"""How freed memory is kept: chunk after chunk asks for the same large arrays."""

from __future__ import annotations

import ctypes
import functools

__all__ = ["keep_freed_memory"]

#: Parameters of the C library's ``mallopt`` (malloc.h of glibc).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: Arrays below this come from the heap, and this much of it stays with the process when it is free.
_LARGEST_ARRAY, _KEPT = 1 << 26, 1 << 28


@functools.lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Let this process keep up to 256 MB of freed memory instead of giving it back at once.

    Every chunk needs some hundred arrays of up to a few MB. Without this most of them are new pages that the
    kernel must clear, which takes a fifth of the time of a chunk with few selected events, and half as much again
    under Dask, which tells its workers to give memory back above 64 kB. The most memory in use at a time is the same.

    Returns:
        Whether the C library could be told; others than glibc cannot.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_ARRAY)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))
