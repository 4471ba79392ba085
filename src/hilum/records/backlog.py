"""How much waits to be answered."""

from sqlalchemy import func, select

from hilum.records.database import Database
from hilum.records.schema import FilmRow
from hilum.records.values import WAITING

# Made once: to put a statement together takes longer than to run it.
WAIT = select(func.count()).select_from(FilmRow).where(FilmRow.state.in_(WAITING))


def backlog(database: Database) -> int:
    """Films that were acknowledged and have neither an answer nor a reason yet; counted from an index.

    Raises:
        ServiceError: the database is away.
    """
    with database.read() as session:
        return int(session.connection().execute(WAIT).scalar_one())
