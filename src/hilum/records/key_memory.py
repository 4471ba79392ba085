"""Keys that were looked up, so that not every request asks the records; a revocation counts at once."""

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Generic, TypeVar

from hilum.records.database import Database

T = TypeVar("T")
MOST = 1024
"""Keys that are remembered."""


class KeyMemory(Generic[T]):
    """Who has which key, until anything is revoked.

    Where other processes may revoke without our hearing of it, nothing is remembered.

    Args:
        database: the records; it counts revocations.
        clock: gives the instant.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database, self._clock = database, clock
        self._known: dict[bytes, tuple[T, datetime | None, int]] = {}

    def find(self, given: str) -> T | None:
        """Who has a key; None where the records must be asked."""
        caller, expires_at, revocations = self._known.get(_place(given), (None, None, -1))
        if revocations != self._database.revocations or (expires_at is not None and expires_at <= self._clock()):
            return None
        return caller

    def keep(self, given: str, caller: T, *, expires_at: datetime | None, revocations: int | None) -> None:
        """Remember who has a key.

        Args:
            given: the key.
            caller: who has it.
            expires_at: until when it counts; None for no end.
            revocations: the database's count before the records were asked; None while one was under way.
        """
        if not self._database.alone or revocations is None:
            return
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[_place(given)] = caller, expires_at, revocations


def _place(given: str) -> bytes:
    return hashlib.sha256(given.encode()).digest()
