"""Return memory that glibc holds back: a station runs for months beside other programs."""

from __future__ import annotations

import ctypes

# <malloc.h>
_M_ARENA_MAX = -8
#: Heaps for all threads. By default each has one of its own, up to eight for every core, and each
#: keeps the most that any image ever took of it.
_HEAPS = 1


def share_one_heap() -> None:
    """Make all threads that are started from now on share one heap."""
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _HEAPS)


def give_back() -> None:
    """Return the memory that an image took to the system."""
    malloc_trim = _function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(ctypes.c_size_t(0))


def _function(name: str) -> ctypes._NamedFuncPointer | None:
    """Of the C library; `None` where it is not glibc."""
    return getattr(ctypes.CDLL(None), name, None)
