"""Where readers are in reader studies, out of slots and opinions; part of whichever transaction asks."""

import json
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, and_, exists, func, select
from sqlalchemy.orm import Session

from hilum.records.study_schema import ReaderStudyRow, StudyOpinionRow, StudySlotRow
from hilum.records.study_values import Place, Protocol


def films_under_study(reader: str) -> Select[str]:
    """Films of open studies in which the reader has a slot left without a final opinion."""
    left = (
        select(StudySlotRow.study)
        .join(ReaderStudyRow, ReaderStudyRow.name == StudySlotRow.study)
        .where(StudySlotRow.reader == reader, ReaderStudyRow.closed_at.is_(None), ~_read())
    )
    return select(StudySlotRow.film_id).where(StudySlotRow.reader == reader, StudySlotRow.study.in_(left))


def _read() -> Any:
    """Whether a slot has its final opinion."""
    same = and_(
        StudyOpinionRow.study == StudySlotRow.study,
        StudyOpinionRow.reader == StudySlotRow.reader,
        StudyOpinionRow.session == StudySlotRow.session,
        StudyOpinionRow.position == StudySlotRow.position,
    )
    return exists().where(same, StudyOpinionRow.stage == "final")


def place_of(session: Session, row: ReaderStudyRow, reader: str, at: datetime) -> Place:
    """Where a reader is in a study; without films when they don't read in it."""
    mine = and_(StudySlotRow.study == row.name, StudySlotRow.reader == reader)
    all_of = dict(_counts(session, mine))
    left = dict(_counts(session, and_(mine, ~_read())))
    numbers = sorted(all_of)
    films = tuple(all_of[number] for number in numbers)
    done = tuple(all_of[number] - left.get(number, 0) for number in numbers)
    query = select(StudySlotRow).where(mine, ~_read()).order_by(StudySlotRow.session, StudySlotRow.position)
    slot = session.scalar(query.limit(1))
    protocol = protocol_of(row)
    if slot is None:
        return Place(protocol=protocol, done=done, films=films)
    opens_at = _opens_at(session, row, reader, slot.session)
    waits = opens_at is not None and opens_at > at
    key = (row.name, reader, slot.session, slot.position, "first")
    first = row.answer == "after" and slot.arm == "with" and session.get(StudyOpinionRow, key) is None
    return Place(
        protocol=protocol,
        done=done,
        films=films,
        session=slot.session,
        position=slot.position,
        film_id="" if waits else slot.film_id,
        arm=slot.arm,  # type: ignore[arg-type]  # the table's check constraint admits no other
        stage="first" if first else "final",
        opens_at=opens_at if waits else None,
    )


def _counts(session: Session, condition: Any) -> list[tuple[int, int]]:
    query = select(StudySlotRow.session, func.count()).where(condition).group_by(StudySlotRow.session)
    return [(number, count) for number, count in session.execute(query)]


def _opens_at(session: Session, row: ReaderStudyRow, reader: str, number: int) -> datetime | None:
    """When a session opens: the wash-out after the reader's last opinion of the sessions before."""
    last = session.scalar(
        select(StudyOpinionRow.created_at)
        .where(StudyOpinionRow.study == row.name, StudyOpinionRow.reader == reader, StudyOpinionRow.session < number)
        .order_by(StudyOpinionRow.created_at.desc())
        .limit(1)
    )
    return None if last is None else last + timedelta(days=row.washout_days)


def protocol_of(row: ReaderStudyRow) -> Protocol:
    """A study's protocol."""
    return Protocol(
        name=row.name,
        plan_sha256=row.plan_sha256,
        question=row.question,
        findings=tuple(json.loads(row.findings)),
        answer=row.answer,  # type: ignore[arg-type]  # create() writes no other
        priors=row.priors,
        washout_days=row.washout_days,
    )
