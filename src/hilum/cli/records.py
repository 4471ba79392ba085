"""What the verbs on the records share: where they lie."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from hilum.data_keys import Keyring
    from hilum.records.database import Database

DATA_KEY, DATA_KEY_FILE = "HILUM_DATA_KEY", "HILUM_DATA_KEY_FILE"
"""Variables of the environment that hold data keys, or name the file of them."""

DATABASE = "HILUM_DATABASE_URL"
"""Variable of the environment that names the database, as for ``hilum serve``: a URL may hold a password."""

HEADS, AUDIT_KEY = "HILUM_AUDIT_HEADS", "HILUM_AUDIT_KEY"
"""Variables of the environment that name the audit's signed heads and the key that signs them, elsewhere."""

DataOption = Annotated[
    Path, typer.Option(help="Folder of films and records, as given to hilum serve.", envvar="HILUM_DATA")
]


def url_of(data: Path) -> str:
    """URL of the records: :data:`DATABASE`, else SQLite in the folder."""
    return url_given() or f"sqlite:///{(data / 'hilum.db').resolve()}"


def url_given() -> str | None:
    """URL of the records, where :data:`DATABASE` gives one."""
    import os

    return os.environ.get(DATABASE) or None


def signing_key() -> Path | None:
    """The audit's private key, where :data:`AUDIT_KEY` names another place than the service's folder."""
    import os

    return Path(os.environ[AUDIT_KEY]) if os.environ.get(AUDIT_KEY) else None


def signed_heads() -> Path | None:
    """The audit's signed heads, where :data:`HEADS` names another place than the service's folder."""
    import os

    return Path(os.environ[HEADS]) if os.environ.get(HEADS) else None


def open_records(data: Path, *, make: bool = False, keys: "Keyring | None" = None) -> "Database":
    """The records, to look at them or change them beside a running service or without one; closed by ``with``.

    Args:
        data: the service's folder.
        make: make folder and records where there are none; else a mistyped folder would be taken for an empty site.
        keys: data keys, for who reads what is encrypted.

    Raises:
        ServiceError: there are none, they can't be opened, or are of another version; only ``hilum serve``, and what
            can't be done otherwise, brings them up to date.
    """
    from hilum.errors import ServiceError
    from hilum.records.database import Database

    if make:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    elif not records_there(data):
        raise ServiceError(f"There are no records at {data / 'hilum.db'}. Give the service's folder with --data.")
    return Database(url_of(data), keys, beside=True, upgrade=False)


def records_there(data: Path) -> bool:
    """Whether there are a service's records."""
    import os

    return bool(os.environ.get(DATABASE)) or (data / "hilum.db").exists()


@contextlib.contextmanager
def records_if_any(data: Path) -> "Iterator[Session | None]":
    """One writing transaction on a service's records, beside it; None where there are none.

    For acts on files whose rows the service's audit is to hold; whoever signs elsewhere has no records.

    Raises:
        ServiceError: there are records, and they can't be written.
    """
    if not records_there(data):
        yield None
        return
    with open_records(data) as database, database.write() as session:
        yield session


def unaudited(data: Path) -> str:
    """What a verb says where there were no records."""
    return f"not in an audit: there are no records in {data} (--data, {DATABASE})"


def keyring_given() -> "Keyring":
    """The data keys of the environment, as for ``hilum serve``.

    Raises:
        UsageError: they can't be used.
    """
    import os

    from hilum.data_keys import read_keyring

    path = os.environ.get(DATA_KEY_FILE)
    return read_keyring(os.environ.get(DATA_KEY), Path(path) if path else None)
