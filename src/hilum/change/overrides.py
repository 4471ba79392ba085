"""Labels in the records: overrides, and what readers of the labelling queue agreed on."""

import json

from sqlalchemy import select
from sqlalchemy.orm import Session, defer

from hilum.change.feedback import Label
from hilum.records.labelling import agreed_finding, newest_labels
from hilum.records.labelling_schema import LabelTaskRow
from hilum.records.reviews import FINAL, counting
from hilum.records.schema import AnswerRow, ReviewRow


def new_labels(session: Session) -> list[Label]:
    """One label a film, from overrides and from the labelling queue; films that both name otherwise have none."""
    found = {one.film_id: one for one in labelled(session)}
    for one in overrides(session):
        other = found.get(one.film_id)
        if other is None:
            found[one.film_id] = one
        elif other.finding != one.finding:
            del found[one.film_id]
    return [found[film] for film in sorted(found)]


def labelled(session: Session) -> list[Label]:
    """Films of the labelling queue whose readers agree; the first of those readers is the source."""
    tasks = select(LabelTaskRow).where(LabelTaskRow.state == "agreed").order_by(LabelTaskRow.film_id)
    found = []
    for task in session.scalars(tasks):
        given = newest_labels(session, task.film_id)
        finding = agreed_finding([one.finding for one in given])
        first = min((one for one in given if one.finding == finding), key=lambda one: (one.created_at, one.reader))
        chance = _probability(session, task.film_id, str(finding))
        found.append(
            Label(
                film_id=task.film_id,
                finding=str(finding),
                source=first.reader,
                probability=chance,
                drawn_with=task.probability,
            )
        )
    return found


def overrides(session: Session) -> list[Label]:
    """Films whose reviews name one and the same finding instead of the model's, or whose disagreement was settled."""
    history: dict[str, list[ReviewRow]] = {}
    said = select(ReviewRow).options(defer(ReviewRow.comment)).order_by(ReviewRow.version)  # which may lie encrypted
    for row in session.scalars(said):
        history.setdefault(row.film_id, []).append(row)
    found = []
    for film, versions in sorted(history.items()):
        counts = [row for row in counting(versions).values() if row.decision in FINAL]
        rows = [row for row in counts if row.decision == "adjudicate"] or counts
        findings = {row.finding for row in rows if row.decision != "agree"}
        if len(findings) == 1 and all(row.decision != "agree" for row in rows):
            first = min(rows, key=lambda row: (row.created_at, row.reader))
            finding = str(first.finding)
            chance = _probability(session, film, finding)
            found.append(Label(film_id=film, finding=finding, source=first.reader, probability=chance))
    return found


def _probability(session: Session, film: str, finding: str) -> float:
    query = select(AnswerRow.assessment).where(AnswerRow.film_id == film).order_by(AnswerRow.created_at.desc()).limit(1)
    said = session.scalar(query)
    return float(json.loads(said).get("probs", {}).get(finding, 0.0)) if said else 0.0
