"""Readings out of the records: the opinion before the answer was uncovered, and the review after it."""

import json
from collections.abc import Iterator, Sequence

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from hilum.evaluation.reader_study_plan import Reading
from hilum.records.reviews import DECIDED
from hilum.records.schema import AnswerRow, FilmRow, ReviewRow


def sequential_readings(session: Session, readers: Sequence[str], film_ids: Sequence[str]) -> list[Reading]:
    """What these readers said of these films, before and after.

    The first opinion is the reading without the model; the newest agreement or override that was not withdrawn is the
    one with it. An opinion with the heat map on the screen, or after a review, is no reading without the model. Whether
    the service covered answers at all (``HILUM_READ_FIRST``) is not in the records.

    Args:
        session: of the records; nothing is written.
        readers: names of users.
        film_ids: ids of the records, or SHA-256 of the files.
    """
    asked = set(film_ids)
    names: dict[str, str] = {}
    for start in range(0, len(film_ids), 400):
        part = film_ids[start : start + 400]
        query = select(FilmRow.id, FilmRow.file_sha256).where(or_(FilmRow.id.in_(part), FilmRow.file_sha256.in_(part)))
        names |= {row: row if row in asked else digest for row, digest in session.execute(query)}
    found: list[Reading] = []
    for film, name in sorted(names.items()):
        for reader in readers:
            found += _of(session, film, name, reader)
    return found


def _uncovered(row: ReviewRow) -> bool:
    """Whether the model's heat map was on the reader's screen, as the page wrote down."""
    return bool(json.loads(row.shown or "{}").get("heat_map"))


def _of(session: Session, film: str, name: str, reader: str) -> Iterator[Reading]:
    """The readings of one film by one reader."""
    mine = select(ReviewRow).where(ReviewRow.film_id == film, ReviewRow.reader == reader).order_by(ReviewRow.version)
    opinion: ReviewRow | None = None
    stack: list[ReviewRow] = []
    for row in session.scalars(mine):
        if row.decision == "opinion" and row.version == 1 and not _uncovered(row):
            opinion = row
        elif row.decision == "withdraw" and stack:
            stack.pop()
        elif row.decision in DECIDED:
            stack.append(row)
    where = f"The records, a film read by {reader}"
    if opinion is not None:
        said = opinion.finding or ""
        yield Reading(
            reader=reader, film_id=name, arm="without", finding=said, read_at=opinion.created_at.date(), where=where
        )
    if stack:
        last = stack[-1]
        answer = select(AnswerRow.label).where(AnswerRow.film_id == film, AnswerRow.model_sha256 == last.model_sha256)
        said = (session.scalar(answer) if last.decision == "agree" else last.finding) or ""
        yield Reading(
            reader=reader, film_id=name, arm="with", finding=said, read_at=last.created_at.date(), where=where
        )
