"""Films recorded before migration 0016, when a film's identity was a digest of its own beside that of its file.

Their ``content_sha256`` stays what it was, since the UIDs of their results are derived from it. What the same film is
known by today is computed from its bytes: at the start of the service for all whose bytes are there. Until then, and
for those whose bytes were erased, a film that arrives is asked for its former identity instead.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import and_, bindparam, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hilum.records.database import Database
from hilum.records.schema import FilmRow

Former = Literal["unread", "some", "none"]
"""Whether the records hold former films: perhaps such as have no identity of today yet, only others, or none."""

FILMS: Any = FilmRow.__table__
UNREAD = and_(FILMS.c.identity_sha256.is_(None), FILMS.c.file_sha256 != "")
FORMER = or_(FILMS.c.identity_sha256.is_(None), FILMS.c.identity_sha256 != FILMS.c.content_sha256)
# Made once: to put a statement together takes longer than to run it.
SAME = select(FILMS.c.id).where(FILMS.c.identity_sha256 == bindparam("identity"))
SAME_FORMER = select(FILMS.c.id).where(FILMS.c.content_sha256 == bindparam("former"))
FORMER_OF_UID = select(FILMS.c.id).where(
    FILMS.c.sop_instance_uid == bindparam("uid"), FILMS.c.state != "quarantined", FORMER
)
IDENTIFY = (
    update(FILMS)
    .where(FILMS.c.id == bindparam("film_id"), FILMS.c.identity_sha256.is_(None))
    .values(identity_sha256=bindparam("identity"))
)


class FormerNeeded(Exception):
    """A film arrived that may be a former one: its former identity says."""


def same_film(session: Session, identity: str, former: str | None) -> str | None:
    """Id of the film with these bytes.

    Args:
        session: of a writing transaction.
        identity: digest of the file as kept.
        former: what its identity was before migration 0016; None where that was not computed.
    """
    connection = session.connection()
    there: str | None = connection.execute(SAME, {"identity": identity}).scalar()
    if there is None and former is not None:
        there = connection.execute(SAME_FORMER, {"former": former}).scalar()
        if there is not None:
            connection.execute(IDENTIFY, {"film_id": there, "identity": identity})
    return there


def is_former(session: Session, uid: str | None) -> bool:
    """Whether a former film that is not set aside has this SOP instance UID."""
    return uid is not None and session.connection().execute(FORMER_OF_UID, {"uid": uid}).scalar() is not None


class FormerFilms:
    """Former films, for who computes their identity.

    Args:
        database: the records.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def any(self) -> bool:
        """Whether there is a former film."""
        with self._database.read() as session:
            return session.execute(select(FILMS.c.id).where(FORMER).limit(1)).scalar() is not None

    def unread(self) -> int:
        """Films without an identity whose files are there."""
        with self._database.read() as session:
            return session.execute(select(func.count()).select_from(FILMS).where(UNREAD)).scalar_one()

    def next(self, after: str, most: int) -> list[tuple[str, str]]:
        """Ids of films without an identity and what names their files, in the order of ids, behind an id."""
        unread = select(FILMS.c.id, FILMS.c.file_sha256).where(UNREAD, FILMS.c.id > after)
        with self._database.read() as session:
            rows = session.execute(unread.order_by(FILMS.c.id).limit(most))
            return [(row[0], row[1]) for row in rows]

    def identify(self, found: Mapping[str, str]) -> Sequence[str]:
        """Write identities down.

        Args:
            found: by film id; films that have one by now, or are gone, are passed over.

        Returns:
            ids of films that another film's bytes are the same as; they stay without.
        """
        try:
            self._write(found)
        except IntegrityError:
            return [film_id for film_id, identity in found.items() if not self._write_one(film_id, identity)]
        return ()

    def _write_one(self, film_id: str, identity: str) -> bool:
        try:
            self._write({film_id: identity})
        except IntegrityError:
            return False
        return True

    def _write(self, found: Mapping[str, str]) -> None:
        rows = [{"film_id": film_id, "identity": identity} for film_id, identity in found.items()]
        if rows:
            self._database.share(lambda session: session.connection().execute(IDENTIFY, rows))
