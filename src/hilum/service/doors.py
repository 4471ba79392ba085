"""Who comes in: one-time links for a first start and a demo, and a limit on guessing.

There is no default password and no account that is made by itself. A service without an admin gives one link, good for
one use, to whoever reads its console; behind it the first admin chooses a name and a password.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

FIRST_ADMIN = ""
"""What a link leads to that is for no user yet."""

FAILURES, WITHIN_S, REMEMBERED = 5, 300.0, 10_000


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

    def wait_s(self, name: str) -> float:
        """Seconds until this name may try again; 0 when it may now."""
        with self._lock:
            recent = self._recent(name)
            return recent[0] + WITHIN_S - self._clock() if len(recent) >= FAILURES else 0.0

    def failed(self, name: str) -> None:
        """Count a failure."""
        with self._lock:
            self._failed[name] = [*self._recent(name), self._clock()]
            self._failed.move_to_end(name)
            while len(self._failed) > REMEMBERED:
                self._failed.popitem(last=False)

    def _recent(self, name: str) -> list[float]:
        since = self._clock() - WITHIN_S
        return [at for at in self._failed.get(name, ()) if at > since]
