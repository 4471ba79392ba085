"""Films that nobody has read or was asked to label yet: what a draw for labelling chooses from."""

import json
from dataclasses import dataclass

import numpy as np
from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from hilum.arrays import Array, Vector
from hilum.errors import DataError
from hilum.records.labelling_schema import LabelTaskRow
from hilum.records.schema import AnswerRow, FilmRow, ObservationRow, ReviewRow

LARGEST_POOL = 20_000
"""A draw chooses from the newest films, at most so many."""

MOST_LABELLED = 2_000
"""Films that were read, the newest first, to which distances are measured."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unread:
    """Analysed films to choose from."""

    film_ids: tuple[str, ...]
    """[n] opaque ids."""
    probs: Array
    """[n, k] probabilities."""
    disagreement: Vector
    """[n] largest spread of the members' probabilities; zeros for a single member."""
    features: Array
    """[n, d] features; d = 0 where the site keeps no fingerprints."""
    labelled: Array
    """[m, d] features of films that were read, or drawn for labelling."""


def unread(session: Session, *, most: int = LARGEST_POOL) -> Unread:
    """Films that have a picture and an answer, and that nobody has read; drawn ones are not drawn again.

    Args:
        session: of a reading transaction.
        most: the newest so many.

    Raises:
        DataError: there are none.
    """
    read = exists().where(ReviewRow.film_id == AnswerRow.film_id)
    drawn = exists().where(LabelTaskRow.film_id == AnswerRow.film_id)
    query = (
        select(AnswerRow.film_id, AnswerRow.assessment, ObservationRow.features)
        .outerjoin(ObservationRow, ObservationRow.answer_id == AnswerRow.id)
        .join(FilmRow, FilmRow.id == AnswerRow.film_id)
        .where(AnswerRow.risk.is_not(None), FilmRow.file_sha256 != "")
        .order_by(AnswerRow.created_at.desc(), AnswerRow.id)
    )
    found: dict[str, tuple[dict[str, float], float, bytes | None]] = {}
    findings: list[str] = []
    for film, said, features in session.execute(query.where(~read, ~drawn).limit(2 * most)):
        answer = json.loads(said)
        probs = answer.get("probs", {})
        findings = findings or list(probs)
        if len(found) < most and list(probs) == findings:  # of an older model that tells other findings apart: none
            spread = max(answer.get("uncertainty", {}).get("member_std", {}).values(), default=0.0)
            found.setdefault(film, (probs, spread, features))
    if not found:
        raise DataError("Every analysed film has been read or drawn, so there is none to choose. Wait for new ones.")
    known = [row[2] for row in session.execute(query.where(read | drawn).limit(MOST_LABELLED))]
    order = sorted(found)
    width = max((len(one) for one in (*known, *(found[film][2] for film in order)) if one), default=0)
    return Unread(
        film_ids=tuple(order),
        probs=np.array([list(found[film][0].values()) for film in order], dtype=np.float64),
        disagreement=np.array([found[film][1] for film in order], dtype=np.float64),
        features=_features([found[film][2] for film in order], width),
        labelled=_features(known, width, only_known=True),
    )


def _features(values: list[bytes | None], width: int, *, only_known: bool = False) -> Array:
    """Rows of one width; a film of which none were kept lies at the origin, or is left out."""
    blank = bytes(width)
    whole = [one if one is not None and len(one) == width else None for one in values]
    kept = [one for one in whole if one is not None] if only_known else [blank if one is None else one for one in whole]
    joined: Array = np.frombuffer(b"".join(kept), "<f2").reshape(len(kept), width // 2)
    return joined.astype(np.float64)
