"""Freed memory is kept for the next step, instead of being given back to the kernel and asked for again.

glibc takes blocks beyond a threshold (at first 128 KiB, at most 32 MiB) from the kernel and returns them when they are
freed. A training step frees and asks for the same activations again and again, and the kernel must clear every page of
4 KiB anew at its first touch; ``tests/training/test_allocator.py`` counts the faults. torch has no caching allocator of
its own for the CPU.

Source: mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
"""

import ctypes
import functools

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES, _BLOCK_BYTES = 2**30, 2**28


@functools.cache
def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GiB of freed memory in blocks of up to 256 MiB, from now on.

    What a process holds at most stays the same but for what lies between blocks. Nothing happens where the C library
    is not glibc.

    Returns:
        whether it was set.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)) and bool(mallopt(_MMAP_THRESHOLD, _BLOCK_BYTES))
