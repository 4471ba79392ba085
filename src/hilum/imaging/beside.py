"""Two things at a time: NumPy and hashlib let other threads run while they work on what is large.

On what is small, threads only wait for Python's lock by turns, so the caller says whether it is worth it.
"""

import os
import threading
from collections.abc import Callable
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def beside(first: Callable[[], A], second: Callable[[], B], *, worth_it: bool) -> tuple[A, B]:
    """What both give; the second runs in a thread of its own meanwhile, where that gains anything.

    Args:
        first: runs in this thread; when it raises, the second is waited for and its result or error dropped.
        second: touches nothing that the first one writes.
        worth_it: False runs one after the other.
    """
    if not worth_it or _processors() < 2:
        return first(), second()
    results: list[B] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(second())
        except BaseException as error:  # handed over to whoever waits
            errors.append(error)

    thread = threading.Thread(target=run, name="beside")
    try:
        thread.start()
    except RuntimeError:  # no room for a thread, as in a sandbox that is nearly full
        return first(), second()
    try:
        ours = first()
    finally:
        thread.join()
    if errors:
        raise errors[0]
    return ours, results[0]


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
