"""Readings out of the records: of a study on the pages, or read-first opinions and the reviews after them."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from hilum.errors import UsageError
from hilum.evaluation.reader_study_plan import Reading
from hilum.records.reviews import DECIDED
from hilum.records.schema import AnswerRow, FilmRow, ReviewRow
from hilum.records.study_schema import ReaderStudyRow, StudyOpinionRow, StudySlotRow

SLOT = ("study", "reader", "session", "position")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageReadings:
    """What readers said in a study on the pages."""

    readings: tuple[Reading, ...]
    """The final opinions."""
    there: frozenset[str]
    """The films that the records still hold, by their names in the plan."""
    notes: tuple[str, ...]
    """What must be known to read their score."""


def page_readings(session: Session, name: str, plan_sha256: str) -> PageReadings:
    """What readers said in a registered study.

    Args:
        session: of the records; nothing is written.
        name: of the study.
        plan_sha256: fingerprint of the plan that it is to be scored by.

    Raises:
        UsageError: no such study, or it was registered with another plan.
    """
    study = session.get(ReaderStudyRow, name)
    if study is None:
        raise UsageError(f"The records have no reader study {name!r}. Register it first (study.json of its folder).")
    if study.plan_sha256 != plan_sha256:
        raise UsageError(f"The study {name!r} was registered with another plan. Give the folder that it came from.")
    query = select(StudySlotRow, StudyOpinionRow).outerjoin(
        StudyOpinionRow,
        and_(*(getattr(StudyOpinionRow, part) == getattr(StudySlotRow, part) for part in SLOT)),
    )
    found, there, models, firsts = [], set(), set(), {}
    rows = session.execute(query.where(StudySlotRow.study == name)).all()
    for slot, said in rows:
        there.add(slot.film_name)
        if said is not None and said.stage == "first":
            firsts[slot.reader, slot.session, slot.position] = said.finding
    changed = 0
    for slot, said in rows:
        if said is None or said.stage != "final":
            continue
        changed += firsts.get((slot.reader, slot.session, slot.position), said.finding) != said.finding
        models |= {said.model_sha256} - {None}
        found.append(
            Reading(
                reader=slot.reader, film_id=slot.film_name, arm=slot.arm, finding=said.finding, rating=said.rating,
                read_at=said.created_at.date(), where=f"Session {slot.session}, film {slot.position}",
            )
        )  # fmt: skip
    return PageReadings(
        readings=tuple(found), there=frozenset(there), notes=_page_notes(study, models, changed, len(firsts))
    )


def _page_notes(study: ReaderStudyRow, models: Collection[str | None], changed: int, firsts: int) -> tuple[str, ...]:
    notes = [f"Read on the service's pages as the study {study.name}, each film in its order and without a way back."]
    if study.answer == "after":
        notes.append(
            "With the model, readers gave an opinion before they saw the answer, so a part of the difference is that "
            f"of a second look; after it they changed {changed} of {firsts} opinions."
        )
    if len(models) > 1:
        notes.append(f"Answers of {len(models)} versions of the model were shown: the difference is that of a mixture.")
    return tuple(notes)


def sequential_readings(session: Session, readers: Sequence[str], film_ids: Sequence[str]) -> list[Reading]:
    """What these readers said of these films, before and after.

    The first opinion is the reading without the model; the newest agreement or override that was not withdrawn is the
    one with it. An opinion with the heat map on the screen, after a review, or where the service covered no answers
    (``HILUM_READ_FIRST``; not known of older records), is no reading without the model.

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
        if row.decision == "opinion" and row.version == 1 and row.read_first is not False and not _uncovered(row):
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
