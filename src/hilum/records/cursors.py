"""Where a page of a list ended, as one opaque word."""

import base64
import binascii
from datetime import datetime

from hilum.errors import UsageError


def write_cursor(received_at: datetime, film_id: str) -> str:
    """A cursor that stands after a film."""
    return base64.urlsafe_b64encode(f"{received_at.isoformat()}|{film_id}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """The film that a cursor stands after.

    Raises:
        UsageError: it is none of ours.
    """
    try:
        when, film_id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split("|")
        instant = datetime.fromisoformat(when)
    except (ValueError, binascii.Error):
        instant, film_id = None, ""
    if instant is None or instant.tzinfo is None:
        raise UsageError("The cursor is not one that this service gave. Leave it out to start from the newest film.")
    return instant, film_id
