"""The queue of films: which are leased next, in the order of :mod:`hilum.records.turns`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Integer, bindparam, func, or_, select, update
from sqlalchemy.orm import Session

from hilum.records.schema import FilmRow
from hilum.records.turns import Head, Turns
from hilum.records.values import WAITING, Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """How films are leased."""

    owner: str
    """Who takes them."""
    seconds: float
    """For how long."""

    def taken(self, at: datetime) -> dict[str, Any]:
        """Columns of a film that is leased as it is recorded: what :func:`lease_films` writes for a first claim."""
        until = at + timedelta(seconds=self.seconds)
        return {"state": "preparing", "attempts": 1, "lease_owner": self.owner, "lease_until": until}


FILMS: Any = FilmRow.__table__
_FREE = (
    FILMS.c.state.in_(WAITING),
    or_(FILMS.c.lease_until.is_(None), FILMS.c.lease_until < bindparam("now", type_=FILMS.c.lease_until.type)),
)
# Made once: to put a statement together takes longer than to run it.
SENDERS = (
    select(FILMS.c.sender, FILMS.c.urgent, func.min(FILMS.c.received_at, type_=FILMS.c.received_at.type))
    .where(*_FREE)
    .group_by(FILMS.c.sender, FILMS.c.urgent)
)
NEXT = (
    select(
        *(FILMS.c[name] for name in ("id", "file_sha256", "attempts", "sender", "urgent", "reason_code", "received_at"))
    )
    .where(*_FREE, FILMS.c.sender == bindparam("by"), FILMS.c.urgent == bindparam("urgent"))
    .order_by(FILMS.c.received_at, FILMS.c.id)
    .limit(bindparam("most", type_=Integer))
    .with_for_update(skip_locked=True)  # for databases with many writers; SQLite has one and leaves it out
)
TAKE = (
    update(FILMS)
    .where(FILMS.c.id == bindparam("film_id"))
    .values(state="preparing", attempts=bindparam("tries"), lease_owner=bindparam("by"), lease_until=bindparam("until"))
)


def lease_films(
    session: Session,
    turns: Turns,
    at: datetime,
    how: Lease,
    *,
    most: int,
    most_claims: int,
    broken: Callable[[FilmRow], None],
) -> list[Claim]:
    """Lease films that wait, in turn.

    Args:
        session: of a writing transaction.
        turns: who had the last turns.
        at: now.
        how: for whom and for how long.
        most: so many films.
        most_claims: a film that was claimed so often has taken its workers down with it.
        broken: closes a film that was claimed too often.
    """
    waiting = _Waiting(session, at, most)
    claims: list[Claim] = []
    while len(claims) < most and (row := waiting.next(turns)) is not None:
        if row.attempts >= most_claims:
            broken(session.get_one(FilmRow, row.id))
            continue
        claims.append(
            Claim(
                film_id=row.id,
                file_sha256=row.file_sha256,
                attempts=row.attempts + 1,
                sender=row.sender,
                urgent=row.urgent,
                suspect=row.reason_code == "model-died",
            )
        )
    if claims:
        until = at + timedelta(seconds=how.seconds)
        taken = [{"film_id": one.film_id, "tries": one.attempts, "by": how.owner, "until": until} for one in claims]
        session.connection().execute(TAKE, taken)
    return claims


class _Waiting:
    """The films that nobody holds, a queue for each sender and rank; rows are read as their turn comes."""

    def __init__(self, session: Session, at: datetime, most: int) -> None:
        self._session, self._at, self._most = session, at, most
        found = session.connection().execute(SENDERS, {"now": at})
        self._oldest: dict[tuple[str, bool], datetime] = {(sender, urgent): first for sender, urgent, first in found}
        self._rows: dict[tuple[str, bool], list[Any]] = {}

    def next(self, turns: Turns) -> Any:
        """The row, the columns of :data:`NEXT`, whose turn it is; None when none waits."""
        while self._oldest:
            keys = list(self._oldest)
            heads = [
                Head(sender=key[0], urgent=key[1], waited_s=(self._at - self._oldest[key]).total_seconds())
                for key in keys
            ]
            key = keys[turns.choose(heads)]
            if key not in self._rows:
                self._rows[key] = self._read(*key)
            row = self._rows[key].pop(0) if self._rows[key] else None
            if self._rows[key]:
                self._oldest[key] = self._rows[key][0].received_at
            else:
                del self._oldest[key]
            if row is not None:  # None: another process took them in between
                return row
        return None

    def _read(self, sender: str, urgent: bool) -> list[Any]:
        mine = {"now": self._at, "by": sender, "urgent": urgent, "most": self._most}
        return list(self._session.connection().execute(NEXT, mine))
