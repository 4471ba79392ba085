"""Films whose answer a reader must not see before labelling them: a label that leans on it teaches nothing."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, select
from sqlalchemy.orm import Session

from hilum.records.labelling_schema import BlindLabelRow, LabelHoldRow, LabelTaskRow
from hilum.records.schema import AuditRow

OPENED = "film.viewed"
"""The act of who is shown a film with its answer."""


def to_label(reader: str) -> Select[str]:
    """Films that wait for labels and that this reader has neither labelled nor opened with their answers."""
    here = LabelTaskRow.film_id
    return select(here).where(LabelTaskRow.state == "waiting", ~_labelled(here, reader), ~opened(here, reader))


def sight(
    session: Session, film_ids: Sequence[str], reader: str, at: datetime
) -> tuple[frozenset[str], frozenset[str]]:
    """Which of these films the reader is to label, and which are in front of the reader for it now.

    Args:
        session: of a transaction.
        film_ids: the films.
        reader: who looks.
        at: now.
    """
    waiting = session.scalars(to_label(reader).where(LabelTaskRow.film_id.in_(film_ids)))
    here = LabelHoldRow.film_id
    held = select(here).where(
        here.in_(film_ids), LabelHoldRow.reader == reader, LabelHoldRow.until > at, ~_labelled(here, reader)
    )
    return frozenset(waiting), frozenset(session.scalars(held))


def opened(film_id: Any, reader: str) -> ColumnElement[bool]:
    """The reader has opened the film's answer."""
    return exists().where(AuditRow.subject == film_id, AuditRow.actor == reader, AuditRow.act == OPENED, film_id != "")


def _labelled(film_id: Any, reader: str) -> ColumnElement[bool]:
    return exists().where(BlindLabelRow.film_id == film_id, BlindLabelRow.reader == reader)
