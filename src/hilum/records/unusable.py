"""What is said of a database that can't be used: which one, why, and the mend. Never its password, never a row."""

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from hilum.errors import ServiceError

LONGEST = 200
"""Characters of what the driver says."""


def unusable(error: Exception, url: str) -> ServiceError:
    """One sentence of a database that could not be opened, read or brought up to date.

    Args:
        error: what SQLAlchemy or an import raised.
        url: of the database.
    """
    kind = type(error).__name__
    if isinstance(error, ArgumentError | NoSuchModuleError | ImportError):
        return ServiceError(
            f"HILUM_DATABASE_URL can't be used ({kind}). Give postgresql+psycopg://USER@HOST/NAME, after pip install "
            "'hilum[postgres]', or sqlite:///FILE."
        )
    at = make_url(url)
    if at.get_backend_name() == "sqlite":
        return ServiceError(
            f"The database {at.database} can't be opened or brought up to date ({kind}). Check that its folder is "
            "writable and that the file is a hilum database."
        )
    why = refused_connection(error)
    if why:
        return ServiceError(
            f"There is no connection to the database {at.database} as user {at.username}: {why}. Check "
            "HILUM_DATABASE_URL, and the password in ~/.pgpass."
        )
    return ServiceError(
        f"The database {at.database} can't be read or brought up to date ({kind}). Check that it is a hilum database "
        f"and that user {at.username} owns it."
    )


def refused_connection(error: Exception) -> str:
    """What PostgreSQL's driver says of a connection that never came about; empty for every other fault.

    That names host, user and database alone; what it says of a statement may quote values, which may be identifiers.
    """
    said = error.orig if isinstance(error, DBAPIError) and error.statement is None else None
    if said is None or getattr(said, "sqlstate", None) is not None:
        return ""
    lines = str(said).strip().splitlines()
    first = next((line for line in lines if " failed: " in line), lines[0] if lines else "it does not say why")
    return " ".join(first.removeprefix("connection failed: ").split())[:LONGEST].rstrip(".")
