"""How the processors are shared between the service's threads and its children.

A model's thread that is broken off for every piece of a film that comes by the network finds its weights gone from the
processor's cache when it goes on. With Linux's SCHED_BATCH (sched(7)) a thread that wakes up waits for the end of the
running one's turn, some milliseconds, and nobody gets less than before.
"""

import contextlib
import gc
import os


def take_long_turns() -> None:
    """Let this thread, and every thread and child it starts from now on, not break off those that run.

    Nothing happens where the system has no such policy or doesn't allow it.
    """
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def keep_what_is_there() -> None:
    """Take everything that was made until now for lasting: the collector walks through it no more."""
    gc.collect()
    gc.freeze()
