"""What the listener's process says of itself: lines of the log, which are written, counted, and noted in the audit."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from hilum.records.peers import TITLES
from hilum.service.dicom.refusal_book import RefusalBook
from hilum.service.dicom.terms import STRANGER, STRANGER_AT
from hilum.service.logs import logger

LEVELS = ("info", "warning", "error")
OUTCOMES = {"film received": "received", "film refused": "refused", "film skipped": "skipped"}
REFUSALS = ("association rejected", "association cut off", "classes refused", "connection refused")
CODES = frozenset(TITLES)
"""Why a connection or an association is refused or cut off."""

MOST_FIELDS, LONGEST_TEXT = 12, 200
OWN = ("event", "level", "timestamp", STRANGER, STRANGER_AT, "self", "method_name")
"""No fields of a line: what is said otherwise or not at all, and the logger's own arguments."""


class Counts(Protocol):
    """Where it is counted."""

    def dicom_film(self, outcome: str) -> None:
        """A C-STORE came to this."""

    def dicom_refusal(self, code: str) -> None:
        """A connection or an association was refused or cut off."""


class Hearing:
    """Hears the listener's process.

    Args:
        counts: where it is counted.
        book: where refusals are noted.
        knocked: told the title and the address of a peer whose title is not on the list: neither is written anywhere.
    """

    def __init__(
        self, counts: Counts, book: RefusalBook, knocked: Callable[[str, str], None] = lambda title, address: None
    ) -> None:
        self._counts, self._book, self._knocked = counts, book, knocked

    def __call__(self, said: Mapping[str, Any]) -> None:
        """Take one line."""
        event, fields = str(said.get("event"))[:LONGEST_TEXT], _plain(said)
        if event in OUTCOMES:
            self._counts.dicom_film(OUTCOMES[event])
        if event in REFUSALS:
            code = fields["code"] if fields.get("code") in CODES else "other"
            self._counts.dicom_refusal(code)
            self._book.note(code, str(fields.get("calling_ae", "")), str(fields.get("certificate", "")))
        if event in REFUSALS and STRANGER in said:
            self._knocked(str(said[STRANGER])[:LONGEST_TEXT], str(said.get(STRANGER_AT, ""))[:LONGEST_TEXT])
        write_down(said)


def write_down(said: Mapping[str, Any]) -> None:
    """Write one line of another process's log into ours; nothing of it is believed but its form."""
    level = said.get("level")
    write = getattr(logger(), level if level in LEVELS else "error")
    write(str(said.get("event"))[:LONGEST_TEXT], **_plain(said))


def _plain(said: Mapping[str, Any]) -> dict[str, Any]:
    fields = [(name, value) for name, value in said.items() if name not in OWN and name.isidentifier()]
    return {name: _short(value) for name, value in fields[:MOST_FIELDS]}


def _short(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list):
        return [str(one)[:LONGEST_TEXT] for one in value[:MOST_FIELDS]]
    return str(value)[:LONGEST_TEXT]
