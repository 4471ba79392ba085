"""Where a page of a list ended, as one opaque word."""

import base64
import binascii
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, or_

from hilum.errors import UsageError

YEARS = range(1970, 9999)
"""Years in which a time of ours lies: in others a time zone or an age can't be taken away."""


def write_cursor(at: datetime, item: str) -> str:
    """A cursor that stands after an item of a list: its instant, and what tells it from others of that instant."""
    return base64.urlsafe_b64encode(f"{at.isoformat()}|{item}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """The item that a cursor stands after.

    Raises:
        UsageError: it is none of ours.
    """
    try:
        when, item = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split("|")
        instant = datetime.fromisoformat(when)
    except (ValueError, binascii.Error):
        instant, item = None, ""
    if instant is None or instant.tzinfo is None or instant.year not in YEARS or "\0" in item:
        raise bad_cursor()
    return instant, item


def behind(cursor: str, at: Any, item: Any) -> ColumnElement[bool]:
    """What stands behind a cursor in a list that has the newest first, and items of one instant by their names.

    Args:
        cursor: as :func:`write_cursor` makes it.
        at: the column of the instant.
        item: the column of the name.

    Raises:
        UsageError: the cursor is none of ours.
    """
    instant, name = read_cursor(cursor)
    return or_(at < instant, and_(at == instant, item > name))


def bad_cursor() -> UsageError:
    """What is said of a cursor that is none."""
    return UsageError("The cursor is not one that this service gave for this list. Leave it out to begin anew.")
