"""What the verbs on the records share: where they lie."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hilum.records.database import Database

DATABASE = "HILUM_DATABASE_URL"
"""Variable of the environment that names the database, as for ``hilum serve``: a URL may hold a password."""

DataOption = Annotated[
    Path, typer.Option(help="Folder of films and records, as given to hilum serve.", envvar="HILUM_DATA")
]


def url_of(data: Path) -> str:
    """URL of the records: :data:`DATABASE`, else SQLite in the folder."""
    import os

    return os.environ.get(DATABASE) or f"sqlite:///{(data / 'hilum.db').resolve()}"


def open_records(data: Path) -> "Database":
    """The records, to change them; an SQLite file must not be in use by a service.

    Raises:
        ServiceError: they can't be opened or are in use.
    """
    from hilum.records.database import Database

    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Database(url_of(data))
