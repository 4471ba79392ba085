"""What happened to films, in the order in which it was committed, for whoever follows along.

There is no second book of it: the audit has a row for every change, written in the change's own transaction, and its
places (1, 2, 3 …) are given in the order of the commits on both databases. A follower that was away, or speaks to
another process now, goes on behind the last place it saw.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Integer, bindparam, select

from hilum.records.audit import tip_of
from hilum.records.database import Database
from hilum.records.schema import AuditRow

KINDS: Mapping[str, str] = {
    "film.received": "received",
    "film.requeued": "requeued",
    "film.answered": "answered",
    "film.failed": "failed",
    "film.quarantined": "quarantined",
    "film.reviewed": "reviewed",
}
"""The audit's acts that change a film, and what followers are told of them. Looks are nobody's business."""

FILES: Mapping[str, str] = {"pixels.erased": "erased", "film.returned": "returned"}
"""Acts that take a film's file away, and bring it back: for those inside the service who read it."""

ROWS = 500
"""Rows of the audit that are read at a time."""

# Made once: to put a statement together takes longer than to run it.
BEHIND = (
    select(AuditRow.seq, AuditRow.act, AuditRow.subject, AuditRow.at)
    .where(AuditRow.seq > bindparam("place"))
    .order_by(AuditRow.seq)
    .limit(bindparam("most", type_=Integer))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmEvent:
    """One change of one film. No identifiers, and nothing of the answer."""

    place: int
    """Its place in the audit; later ones are greater."""
    kind: str
    """One of the values of :data:`KINDS` or :data:`FILES`."""
    film_id: str
    """The film."""
    at: str
    """When (UTC, RFC 3339)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What was found behind a place."""

    events: tuple[FilmEvent, ...]
    """In their order; may be empty although there was something to read."""
    place: int
    """How far was read: go on behind it."""
    more: bool
    """True when there may be more already."""


class Events:
    """Reads them.

    Args:
        database: the records.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def now(self) -> int:
        """The place of the newest row; 0 when there is none."""
        with self._database.read() as session:
            return tip_of(session).seq

    def behind(self, place: int, acts: Mapping[str, str] = KINDS) -> Stretch:
        """What happened behind a place, :data:`ROWS` rows of the audit at most.

        Args:
            place: 0 for everything from the first film on.
            acts: which acts count, and what they are called.
        """
        with self._database.read() as session:
            rows = session.connection().execute(BEHIND, {"place": place, "most": ROWS}).all()
        events = tuple(
            FilmEvent(place=seq, kind=acts[act], film_id=subject, at=at)
            for seq, act, subject, at in rows
            if act in acts
        )
        return Stretch(events=events, place=rows[-1][0] if rows else place, more=len(rows) == ROWS)
