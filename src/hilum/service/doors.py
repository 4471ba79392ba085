"""Who comes in: one-time links for a first start and a demo, and a limit on guessing.

There is no default password and no account that is made by itself. A service without an admin gives one link, good for
one use, to whoever reads its console; behind it the first admin chooses a name and a password.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from hilum.errors import ServiceError

R = TypeVar("R")
FIRST_ADMIN = ""
"""What a link leads to that is for no user yet."""

FAILURES, WITHIN_S, REMEMBERED = 5, 300.0, 10_000
MOST_AT_DOOR = 20
"""Passwords that are checked or wait for it, two at a time and a fifth of a second each."""


class Links:
    """One-time links, kept in memory only: they end with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, str] = {}

    def make(self, user: str) -> str:
        """A token that lets its bearer in once, as a user or to make the first admin."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._open[token] = user
        return token

    def leads_to(self, token: str) -> str | None:
        """Whom a token is for; None when it was used or never made."""
        with self._lock:
            return self._open.get(token)

    def use(self, token: str) -> str | None:
        """Use a token up; None when somebody was faster."""
        with self._lock:
            return self._open.pop(token, None)


class Throttle:
    """Counts failed logins by name: five within five minutes, then a wait.

    Args:
        clock: gives seconds; tests give their own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._failed: OrderedDict[str, list[float]] = OrderedDict()

    def attempt(self, name: str) -> float:
        """Count an attempt before it is made, so that many at once are no more than one after another.

        Returns:
            0 where it may be made; else seconds until this name may try again, and nothing is counted.
        """
        with self._lock:
            recent = self._recent(name)
            if len(recent) >= FAILURES:
                return recent[0] + WITHIN_S - self._clock()
            self._failed[name] = [*recent, self._clock()]
            self._failed.move_to_end(name)
            while len(self._failed) > REMEMBERED:
                self._failed.popitem(last=False)
            return 0.0

    def succeeded(self, name: str) -> None:
        """The last attempt was no failure."""
        with self._lock:
            self._failed[name] = self._recent(name)[:-1]
            if not self._failed[name]:
                del self._failed[name]

    def _recent(self, name: str) -> list[float]:
        since = self._clock() - WITHIN_S
        return [at for at in self._failed.get(name, ()) if at > since]


class Door:
    """Where passwords are checked: in threads of its own, and not too many may wait.

    Attributes:
        waiting: how many are checked or wait.
        turned_away: how many found too many there.
    """

    def __init__(self) -> None:
        self._threads, self.waiting, self.turned_away = anyio.CapacityLimiter(2), 0, 0

    async def check(self, function: Callable[..., R], *given: Any) -> R:
        """Run a function that checks or hashes a password.

        Raises:
            ServiceError: too many wait already.
        """
        if self.waiting >= MOST_AT_DOOR:
            self.turned_away += 1
            raise ServiceError("Too many log in at once. Try again in a few seconds.")
        self.waiting += 1
        try:
            return await anyio.to_thread.run_sync(function, *given, limiter=self._threads)
        finally:
            self.waiting -= 1
