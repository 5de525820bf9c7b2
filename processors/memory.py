"""How a process that does nothing but read chunks treats its memory: each chunk asks for the same large arrays."""

from __future__ import annotations

import ctypes
import functools
import gc

__all__ = ["keep_freed_memory", "read_chunks_only"]

#: Parameters of the C library's ``mallopt`` (malloc.h of glibc).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: This much of the heap stays with the process when it is free: more than a chunk needs, because glibc gives all of the
#: free end of the heap back when it is longer than that.
_KEPT = 1 << 30
#: Arrays below this come from the heap; older versions of glibc take no more than 32 MB.
_LARGEST_ARRAY = (1 << 30, 1 << 25)


@functools.lru_cache(maxsize=1)
def read_chunks_only() -> None:
    """Settle this process for chunk after chunk, once; not for a process that a user also works in.

    Freed memory stays with it, and what exists now, the modules with all that is in them, is left out of later
    garbage collections: a full one looks at 200 000 objects that live as long as the process, 0.1 s every tenth
    chunk.
    """
    keep_freed_memory()
    gc.collect()  # what is garbage now would stay for ever
    gc.freeze()


def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GB of freed memory instead of giving it back at once.

    Every chunk needs some hundred arrays of up to 100 MB. Without this most of them are new pages that the
    kernel must clear, which takes a third of the time of a chunk with few selected events, and half as much again
    under Dask, which tells its workers to give memory back above 64 kB.

    Returns:
        Whether the C library could be told; others than glibc cannot.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    kept = bool(mallopt(_TRIM_THRESHOLD, _KEPT))
    return any(mallopt(_MMAP_THRESHOLD, size) for size in _LARGEST_ARRAY) and kept
