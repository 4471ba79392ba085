"""What the records hold for labelling: overrides, and films that nobody has read."""

import json
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from hilum.arrays import Array, Vector
from hilum.change.feedback import Label
from hilum.errors import DataError
from hilum.records.reviews import FINAL, counting
from hilum.records.schema import AnswerRow, ObservationRow, ReviewRow


def overrides(session: Session) -> list[Label]:
    """Films whose reviews name one and the same finding instead of the model's, or whose disagreement was settled."""
    history: dict[str, list[ReviewRow]] = {}
    for row in session.scalars(select(ReviewRow).order_by(ReviewRow.version)):
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unread:
    """Analysed films that nobody has read yet."""

    film_ids: tuple[str, ...]
    """[n] opaque ids."""
    probs: Array
    """[n, k] probabilities."""
    disagreement: Vector
    """[n] largest spread of the members' probabilities; zeros for a single member."""
    features: Array
    """[n, d] features; d = 0 where the site keeps no fingerprints."""
    labelled: Array
    """[m, d] features of films that were read."""


def unread(session: Session) -> Unread:
    """Films to choose from.

    Raises:
        DataError: there are none.
    """
    read = set(session.scalars(select(ReviewRow.film_id)))
    query = (
        select(AnswerRow.film_id, AnswerRow.assessment, ObservationRow.features)
        .join(ObservationRow, ObservationRow.answer_id == AnswerRow.id)
        .where(ObservationRow.scores.is_not(None))
        .order_by(AnswerRow.created_at, AnswerRow.id)
    )
    rows = {film: (assessment, features) for film, assessment, features in session.execute(query)}
    waiting = [film for film in sorted(rows) if film not in read]
    if not waiting:
        raise DataError("Every analysed film has been read, so there is none to choose. Wait for new ones.")
    said = [json.loads(rows[film][0]) for film in waiting]
    spread = [max(one.get("uncertainty", {}).get("member_std", {}).values(), default=0.0) for one in said]
    width = max((len(rows[film][1] or b"") for film in rows), default=0)
    return Unread(
        film_ids=tuple(waiting),
        probs=np.array([list(one["probs"].values()) for one in said], dtype=np.float64),
        disagreement=np.array(spread, dtype=np.float64),
        features=_features([rows[film][1] for film in waiting], width),
        labelled=_features([rows[film][1] for film in sorted(read & set(rows))], width, only_known=True),
    )


def _features(values: list[bytes | None], width: int, *, only_known: bool = False) -> Array:
    """Rows of one width; a film of which none were kept lies at the origin, or is left out."""
    blank = bytes(width)
    whole = [one if one is not None and len(one) == width else None for one in values]
    kept = [one for one in whole if one is not None] if only_known else [blank if one is None else one for one in whole]
    joined: Array = np.frombuffer(b"".join(kept), "<f2").reshape(len(kept), width // 2)
    return joined.astype(np.float64)
