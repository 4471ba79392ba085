"""Work in a thread that nobody leaves before it has ended."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from fastapi.concurrency import run_in_threadpool

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=contextlib.AbstractContextManager[object])


async def to_its_end(work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Run in a worker's thread; who is cancelled meanwhile is so when the work has ended, whatever came of it.

    Else a deadline (asyncio.timeout) or the server's end leaves the thread to itself, and a film's would write on to a
    file, and to memory, that others have by then.

    Raises:
        Exception: what the work raised.
    """
    running = asyncio.ensure_future(run_in_threadpool(work, *args, **options))
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return running.result()
    if not running.cancelled():
        running.exception()  # nobody asks for it any more
    raise cancelled


async def begun(begin: Callable[[], C]) -> C:
    """Begin in a worker's thread something that has to be left; who is cancelled meanwhile leaves it.

    Raises:
        Exception: what beginning it raised.
    """
    made: list[C] = []
    try:
        await to_its_end(lambda: made.append(begin()))
    except asyncio.CancelledError:
        for one in made:
            one.__exit__(None, None, None)
        raise
    return made[0]
