"""Columns that lie encrypted where the service has a data key; what uses them reads and writes plain text.

The keys are the database's (:class:`hilum.records.database.Database`), which hangs them on its engines' dialect, where
a column's type finds them. Without a key the text lies there as it is.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Dialect, String, Text
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeDecorator

from hilum.data_keys import Keyring

_NONE = Keyring()


class SealedText(TypeDecorator[str]):
    """Text of which no two rows look alike; it can't be searched.

    Args:
        kind: what it is: a text of one kind can't pass for another.
    """

    impl = Text
    cache_ok = True
    exact = False

    def __init__(self, kind: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.kind = kind

    def bind_processor(self, dialect: Dialect) -> Callable[[str | None], str | None]:
        """Encrypts."""
        seal, kind, exact = keys_of(dialect).seal_text, self.kind, self.exact
        return lambda value: None if value is None else seal(value, kind, exact=exact)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[str | None], str | None]:
        """Decrypts."""
        unseal, kind, exact = keys_of(dialect).open_text, self.kind, self.exact
        return lambda value: None if value is None else unseal(value, kind, exact=exact)

    def process_literal_param(self, value: str | None, dialect: Dialect) -> str:
        """Never: a value in a statement's own text would stand there unencrypted."""
        raise NotImplementedError


class ExactText(SealedText):
    """Text that is found by its exact value: equal texts look alike, and nothing else is told of them."""

    cache_ok = True
    exact = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """PostgreSQL holds a column to its length, and a ciphertext is longer than its text; SQLite doesn't."""
        return Text() if dialect.name == "postgresql" else String(64)


def hang_keys(dialect: Dialect, keys: Keyring) -> None:
    """Give an engine's dialect the keys."""
    setattr(dialect, "hilum_keys", keys)  # noqa: B010 - a dialect has no such field of its own


def keys_of(place: Dialect | Session) -> Keyring:
    """The keys of an engine's dialect or of a transaction."""
    dialect = place.get_bind().dialect if isinstance(place, Session) else place
    keys: Keyring = getattr(dialect, "hilum_keys", _NONE)
    return keys
