"""Peers whose AE title is not on the list, while the service runs: for whoever connects a modality.

A title that nobody announced may be anything, a name among them, so it is in no log, metric or record: only here, in
memory, for the page of operations.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from hilum.records.store import now

MOST = 20
"""Peers that are remembered, those that knocked last."""

LONGEST_TITLE, LONGEST_ADDRESS = 16, 45


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranger:
    """A peer that was refused for its title."""

    title: str
    """What it calls itself; what is not printable ASCII is a question mark."""
    address: str
    """Where it calls from."""
    times: int
    """How often."""
    last: datetime
    """When it came last (UTC)."""


class Strangers:
    """Remembers the last of them.

    Args:
        clock: gives the instant; tests give their own.
    """

    def __init__(self, clock: Callable[[], datetime] = now) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._known: dict[tuple[str, str], Stranger] = {}

    def note(self, title: str, address: str) -> None:
        """Somebody was refused for its title.

        Args:
            title: what it calls itself.
            address: where it calls from.
        """
        kind = _plain(title, LONGEST_TITLE), _plain(address, LONGEST_ADDRESS)
        with self._lock:
            before = self._known.pop(kind, None) or Stranger(
                title=kind[0], address=kind[1], times=0, last=self._clock()
            )
            self._known[kind] = replace(before, times=before.times + 1, last=self._clock())
            while len(self._known) > MOST:
                del self._known[next(iter(self._known))]

    def known(self) -> tuple[Stranger, ...]:
        """All that are remembered, the last first."""
        with self._lock:
            return tuple(reversed(self._known.values()))


def _plain(text: str, longest: int) -> str:
    return "".join(one if one.isascii() and one.isprintable() else "?" for one in text[:longest])
