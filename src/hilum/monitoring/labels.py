"""Labels from what readers decided, for performance: one a film, and none where readers disagree."""

import math
from collections.abc import Iterable
from datetime import datetime

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session, defer

from hilum.errors import UsageError, nearest
from hilum.monitoring.performance import UNKNOWN, Labelled, Performance, by_group, by_month, measure
from hilum.records.observations import WHO, nobody_of, observed_findings, patients_of
from hilum.records.performance import Estimate, Measured, Span
from hilum.records.reviews import FINAL, counting
from hilum.records.schema import AnswerRow, FilmRow, IdentifierRow, ObservationRow, ReviewRow

SUBGROUPS = ("sex", "age_band", "device", "view_position", "reader")
NOBODY = "nobody yet"
SEVERAL = "several readers"


def measured(session: Session, finding: str, threshold: float) -> tuple[Performance, ...]:
    """Performance of one finding: all films, by month of acquisition, by subgroup and by reader.

    Args:
        session: of a reading transaction.
        finding: what is measured.
        threshold: its operating point.

    Raises:
        UsageError: the model knows no such finding.
        DataError: no film was analysed yet.
    """
    films = labelled_films(session, finding)
    found = [measure(films, threshold=threshold, name="all"), *by_month(films, threshold=threshold)]
    for group in SUBGROUPS:
        found += by_group(films, group, threshold=threshold)
    return tuple(found)


def to_keep(found: tuple[Performance, ...], *, finding: str, threshold: float, by: str, at: datetime) -> Measured:
    """What :func:`measured` found, as the records keep it: all films and months; groups may name readers."""
    spans = [one for one in found if ": " not in one.name]
    return Measured(
        measured_at=at,
        measured_by=by,
        finding=finding,
        threshold=threshold,
        spans=tuple(
            Span(
                name=one.name, films=one.films, labelled=one.labelled, why_not=one.why_not,
                estimates=tuple(
                    Estimate(
                        name=f.name, value=_told(f.value), low=_told(f.low), high=_told(f.high), naive=_told(f.naive)
                    ) for f in one.figures
                ),
            )
            for one in spans
        ),
    )  # fmt: skip


def _told(value: float) -> float | None:
    return None if math.isnan(value) else value


def labelled_films(session: Session, finding: str) -> Labelled:
    """Each analysed film with its newest answer's score and the label that its readers agree on."""
    findings = observed_findings(session)
    if finding not in findings:
        raise UsageError(f"{finding!r} is not a finding of the model. {nearest(finding, findings)}")
    column, said = findings.index(finding), _reviews(session)
    rows = {}
    query = (
        select(
            AnswerRow.film_id,
            AnswerRow.label,
            AnswerRow.abstained,
            ObservationRow.observed_at,
            ObservationRow.scores,
            ObservationRow.sex,
            ObservationRow.age_band,
            ObservationRow.device,
            ObservationRow.view_position,
            WHO[0].label("patient"),
            WHO[1].label("study"),
        )
        .join(ObservationRow, ObservationRow.answer_id == AnswerRow.id)
        .join(FilmRow, FilmRow.id == AnswerRow.film_id)
        .outerjoin(IdentifierRow, IdentifierRow.film_id == AnswerRow.film_id)
        .where(ObservationRow.scores.is_not(None))
        .order_by(AnswerRow.created_at, AnswerRow.id)
    )
    for row in session.execute(query):
        if row.scores is not None and len(row.scores) == 4 * len(findings):
            rows[row.film_id] = row  # a newer model's answer to the same film takes the older one's place
    reviews = {film: said.get(film, {}) for film in rows}
    labels = [_label(reviews[film].values(), row.label, finding) for film, row in rows.items()]
    who = patients_of(((row.patient, row.study) for row in rows.values()), nobody_of(session))
    numbers = {one: number for number, one in enumerate(dict.fromkeys(who))}
    return Labelled(
        films=tuple(rows),
        patient=np.array([numbers[one] for one in who], dtype=np.int64),
        at=np.array([row.observed_at.timestamp() for row in rows.values()]),
        score=np.array([np.frombuffer(row.scores, "<f4")[column] for row in rows.values()], dtype=np.float64),
        label=np.array(labels, dtype=np.int64),
        abstained=np.array([row.abstained for row in rows.values()], dtype=bool),
        groups={
            "sex": tuple(row.sex for row in rows.values()),
            "age_band": tuple(row.age_band for row in rows.values()),
            "device": tuple(row.device for row in rows.values()),
            "view_position": tuple(row.view_position for row in rows.values()),
            "reader": tuple(_reader(one) for one in reviews.values()),
        },
    )


def _reviews(session: Session) -> dict[str, dict[str, tuple[str, str | None]]]:
    """By film and reader, the decision and finding that count; one who settled a disagreement counts alone."""
    history: dict[str, list[ReviewRow]] = {}
    said = select(ReviewRow).options(defer(ReviewRow.comment)).order_by(ReviewRow.version)  # which may lie encrypted
    for row in session.scalars(said):
        history.setdefault(row.film_id, []).append(row)
    found = {}
    for film, rows in history.items():
        counts = {who: row for who, row in counting(rows).items() if row.decision in FINAL}
        settled = {who: row for who, row in counts.items() if row.decision == "adjudicate"}
        found[film] = {who: (row.decision, row.finding) for who, row in (settled or counts).items()}
    return found


def _label(said: Iterable[tuple[str, str | None]], answered: str | None, finding: str) -> int:
    classes = {answered if decision == "agree" else other for decision, other in said}
    if len(classes) != 1 or None in classes:
        return UNKNOWN  # nobody has read it, readers disagree, or they agreed to an answer without a label
    return int(classes == {finding})


def _reader(said: dict[str, tuple[str, str | None]]) -> str:
    return NOBODY if not said else next(iter(said)) if len(said) == 1 else SEVERAL
