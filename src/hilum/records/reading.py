"""From rows to records."""

import json

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from hilum.records.schema import AnswerRow, FilmRow, HeatmapRow
from hilum.records.values import AnswerRecord, FilmRecord


def film_records(session: Session, query: Select[FilmRow]) -> list[FilmRecord]:
    """The films that a query gives, in its order, each with its newest answer: three queries however many films."""
    films = list(session.scalars(query))
    answers = _newest_answers(session, [film.id for film in films])
    return [_film(film, answers.get(film.id)) for film in films]


def _newest_answers(session: Session, film_ids: list[str]) -> dict[str, AnswerRecord]:
    if not film_ids:
        return {}
    # Oldest first, so that the newest is the one that stays in the dict.
    query = select(AnswerRow).where(AnswerRow.film_id.in_(film_ids)).order_by(AnswerRow.created_at, AnswerRow.id.desc())
    rows = {row.film_id: row for row in session.scalars(query)}
    maps: dict[str, list[str]] = {row.id: [] for row in rows.values()}
    for answer_id, finding in session.execute(
        select(HeatmapRow.answer_id, HeatmapRow.finding).where(HeatmapRow.answer_id.in_(list(maps)))
    ):
        maps[answer_id].append(finding)
    return {film_id: _answer(row, maps[row.id]) for film_id, row in rows.items()}


def _answer(row: AnswerRow, findings: list[str]) -> AnswerRecord:
    return AnswerRecord(
        model_sha256=row.model_sha256,
        created_at=row.created_at,
        label=row.label,
        abstained=row.abstained,
        risk=row.risk,
        assessment=json.loads(row.assessment),
        findings=tuple(sorted(findings)),
    )


def _film(row: FilmRow, answer: AnswerRecord | None) -> FilmRecord:
    return FilmRecord(
        film_id=row.id,
        received_at=row.received_at,
        origin=row.origin,
        calling_ae=row.calling_ae,
        format=row.format,
        file_sha256=row.file_sha256,
        size=row.size,
        state=row.state,  # type: ignore[arg-type]  # the table's check constraint admits no other
        attempts=row.attempts,
        reason_code=row.reason_code,
        reason=row.reason,
        answer=answer,
    )
