"""Answers go into the records: all that are ready at once, in few statements however many they are.

Who waits for an answer and is shown it from memory is written down in the same transaction.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.orm import Session

from hilum.errors import ServiceError
from hilum.records.audit import Act, append_all
from hilum.records.identifiers import keep_identities
from hilum.records.look_ups import queue_look_up
from hilum.records.observations import observation_values
from hilum.records.results_out import queue_answers
from hilum.records.schema import AnswerRow, FilmRow, HeatmapRow, ObservationRow
from hilum.records.shadows import keep_shadow
from hilum.records.values import Answered, AnswerRecord, FilmRecord, Identity, NewObservation, Recorded, State

SERVICE = "service"
"""The actor of what no user did."""

SAME_UID = (
    "Another film with the same SOP instance UID and other content was received before; a person must compare them."
)
OTHER_UID = "The film's SOP instance UID is not the one that its sender announced; a person must look at it."

FILMS: Any = FilmRow.__table__
ANSWERS: Any = AnswerRow.__table__
_THESE: Any = bindparam("these", expanding=True)
# Made once: to put a statement together takes longer than to run it.
NEEDED = (
    select(
        *(
            FILMS.c[name]
            for name in (
                "id",
                "received_at",
                "origin",
                "calling_ae",
                "format",
                "file_sha256",
                "size",
                "sop_instance_uid",
                "state",
                "attempts",
                "lease_owner",
            )
        )
    )
    .where(FILMS.c.id.in_(_THESE))
    .order_by(FILMS.c.id)
    .with_for_update()
)
ANSWERED = select(ANSWERS.c.film_id, ANSWERS.c.model_sha256).where(ANSWERS.c.film_id.in_(_THESE))
IN_USE = select(FILMS.c.sop_instance_uid).where(
    FILMS.c.sop_instance_uid.in_(bindparam("uids", expanding=True)), FILMS.c.state != "quarantined"
)
NEW_ANSWERS, NEW_HEATMAPS, NEW_OBSERVATIONS = insert(AnswerRow), insert(HeatmapRow), insert(ObservationRow)
CLOSE = (
    update(FILMS)
    .where(FILMS.c.id == bindparam("film_id"))
    .values(
        state=bindparam("to_state"),
        reason_code=bindparam("code"),
        reason=bindparam("why"),
        sop_instance_uid=bindparam("sop_uid"),
        study_instance_uid=bindparam("study_uid"),
        lease_owner=None,
        lease_until=None,
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What becomes of one film."""

    one: Answered
    """Its answer."""
    film: Any
    """Its row, the columns :data:`NEEDED`."""
    state: State
    """Its state now."""
    uid: str | None
    """Its SOP instance UID now."""
    code: str = ""
    """Why it has no answer."""
    reason: str = ""
    """The same in one sentence."""
    answer: AnswerRecord | None = None
    """The answer, where it is new."""
    answer_id: str = ""
    """Its id."""
    said: str = ""
    """Its assessment, as it is kept."""


def record(
    session: Session,
    owner: str,
    answered: Sequence[Answered],
    at: datetime,
    *,
    viewers: Mapping[str, Sequence[str]],
    priors: bool,
) -> list[Recorded]:
    """Record answers, their heat maps, who the films are of and who is shown them.

    Args:
        session: of a writing transaction.
        owner: who holds the leases.
        answered: the answers.
        at: now.
        viewers: by film id, who will be shown the answer once this is durable.
        priors: whether earlier films are looked for.

    Raises:
        ServiceError: a film is not in the records.
    """
    films = _films(session, [one.film_id for one in answered])
    mine = [one for one in answered if (row := films[one.film_id]).lease_owner == owner and row.state == "preparing"]
    there, taken = _answers_there(session, mine), _uids_in_use(session, mine, films)
    outcomes: dict[str, _Outcome] = {}
    for one in mine:
        if one.film_id not in outcomes:
            outcomes[one.film_id] = _outcome(one, films[one.film_id], there, taken, at)
    _write(session, list(outcomes.values()), at, viewers, priors)
    return [_recorded(outcomes.pop(one.film_id, None), viewers) for one in answered]


def uid_in_use(session: Session, uid: str | None) -> bool:
    """Whether a film that is not set aside has this SOP instance UID."""
    if uid is None:
        return False
    in_use = select(FilmRow.id).where(FilmRow.sop_instance_uid == uid, FilmRow.state != "quarantined").limit(1)
    return session.scalar(in_use) is not None


def has_answer(session: Session, film_id: str, model_sha256: str) -> bool:
    """Whether a model has answered a film."""
    same = select(AnswerRow.id).where(AnswerRow.film_id == film_id, AnswerRow.model_sha256 == model_sha256)
    return session.scalar(same) is not None


def _films(session: Session, film_ids: Sequence[str]) -> dict[str, Any]:
    found = {row.id: row for row in session.connection().execute(NEEDED, {"these": film_ids})}
    for film_id in film_ids:
        if film_id not in found:
            raise ServiceError(f"Film {film_id} is not in the records. It may have been erased.")
    return found


def _answers_there(session: Session, mine: Sequence[Answered]) -> set[tuple[str, str]]:
    rows = session.connection().execute(ANSWERED, {"these": [one.film_id for one in mine]})
    return {(film, model) for film, model in rows}


def _uids_in_use(session: Session, mine: Sequence[Answered], films: Mapping[str, Any]) -> set[str]:
    """Those of the films' own UIDs that another film has; the films that are recorded here are added as they come."""
    new = {
        one.identity.sop_instance_uid
        for one in mine
        if one.identity.sop_instance_uid and films[one.film_id].sop_instance_uid is None
    }
    if not new:
        return set()
    return set(session.connection().execute(IN_USE, {"uids": sorted(new)}).scalars())


def _outcome(one: Answered, film: Any, there: set[tuple[str, str]], taken: set[str], at: datetime) -> _Outcome:
    uid, code = _identified(one.identity, film.sop_instance_uid, taken)
    if code:
        reason = OTHER_UID if code == "uid-mismatch" else SAME_UID
        return _Outcome(one=one, film=film, state="quarantined", uid=uid, code=code, reason=reason)
    if uid is not None:
        taken.add(uid)
    answer = one.answer
    state: State = "answered" if answer.analysed else "not-analysed"
    code, reason = ("", "") if answer.analysed else ("outside-intended-use", answer.reason)
    if (one.film_id, answer.model_sha256) in there:
        return _Outcome(one=one, film=film, state=state, uid=uid, code=code, reason=reason)
    said = json.dumps(answer.assessment, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    record = AnswerRecord(
        model_sha256=answer.model_sha256,
        created_at=at,
        label=answer.label,
        abstained=answer.abstained,
        risk=answer.risk,
        assessment=json.loads(said),
        findings=tuple(sorted(heatmap.finding for heatmap in answer.heatmaps)),
    )
    return _Outcome(
        one=one,
        film=film,
        state=state,
        uid=uid,
        code=code,
        reason=reason,
        answer=record,
        answer_id=secrets.token_hex(16),
        said=said,
    )


def _identified(identity: Identity, known: str | None, taken: set[str]) -> tuple[str | None, str]:
    """The film's UID now, and why the film must be set aside; empty when it need not be."""
    uid = identity.sop_instance_uid
    if uid is None or uid == known:
        return known, ""
    if known is not None:
        return known, "uid-mismatch"
    return uid, "same-uid-other-content" if uid in taken else ""


def _write(
    session: Session, outcomes: Sequence[_Outcome], at: datetime, viewers: Mapping[str, Sequence[str]], priors: bool
) -> None:
    if not outcomes:
        return
    keep_identities(session, {o.one.film_id: o.one.identity for o in outcomes})
    session.connection().execute(CLOSE, [_closed(o) for o in outcomes])
    new = [o for o in outcomes if o.answer is not None]
    _insert(session, NEW_ANSWERS, [_answer_values(o) for o in new])
    _insert(session, NEW_HEATMAPS, [values for o in new for values in _heatmap_values(o)])
    seen = [(o, o.one.answer.observation) for o in new]
    _insert(session, NEW_OBSERVATIONS, [_observed(o, one, at) for o, one in seen if one is not None])
    for o in new:
        keep_shadow(session, o.one.film_id, o.one.answer, at)
    queue_answers(session, {o.answer_id: o.film for o in new if o.one.answer.analysed}, at)
    if priors:
        for o in outcomes:
            if o.state == "answered":
                queue_look_up(session, session.get_one(FilmRow, o.one.film_id), at)
    append_all(session, [act for o in outcomes for act in _acts(o, viewers.get(o.one.film_id, ()))], at)


def _insert(session: Session, statement: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        session.connection().execute(statement, rows)


def _closed(o: _Outcome) -> dict[str, Any]:
    said = {"film_id": o.one.film_id, "to_state": o.state, "code": o.code, "why": o.reason}
    return {**said, "sop_uid": o.uid, "study_uid": o.one.identity.study_instance_uid}


def _answer_values(o: _Outcome) -> dict[str, Any]:
    same = ("model_sha256", "created_at", "label", "abstained", "risk")
    values = {name: getattr(o.answer, name) for name in same}
    return {**values, "id": o.answer_id, "film_id": o.one.film_id, "assessment": o.said}


def _heatmap_values(o: _Outcome) -> list[dict[str, Any]]:
    return [
        {
            "answer_id": o.answer_id,
            "finding": heatmap.finding,
            "rows": heatmap.rows,
            "columns": heatmap.columns,
            "values": heatmap.values,
            "spread": heatmap.spread,
        }
        for heatmap in o.one.answer.heatmaps
    ]


def _observed(o: _Outcome, seen: NewObservation, at: datetime) -> dict[str, Any]:
    version, received = o.one.answer.model_sha256, o.film.received_at
    return observation_values(o.answer_id, seen, model_sha256=version, received=received, answered=at)


def _acts(o: _Outcome, viewers: Sequence[str]) -> list[Act]:
    film_id = o.one.film_id
    if o.state == "quarantined":
        return [Act(actor=SERVICE, act="film.quarantined", subject=film_id, detail={"code": o.code})]
    if o.answer is None:
        return []
    answer, said = o.answer, hashlib.sha256(o.said.encode()).hexdigest()
    facts = {"model": answer.model_sha256, "label": answer.label, "abstained": answer.abstained}
    seen = {"model": answer.model_sha256}
    return [
        Act(actor=SERVICE, act="film.answered", subject=film_id, detail={**facts, "assessment_sha256": said}),
        *(Act(actor=viewer, act="film.viewed", subject=film_id, detail=seen) for viewer in viewers),
    ]


def _recorded(o: _Outcome | None, viewers: Mapping[str, Sequence[str]]) -> Recorded:
    if o is None:
        return Recorded(state=None)
    if o.answer is None or not viewers.get(o.one.film_id):
        return Recorded(state=o.state)
    film = FilmRecord(
        film_id=o.one.film_id,
        received_at=o.film.received_at,
        origin=o.film.origin,
        calling_ae=o.film.calling_ae,
        format=o.film.format,
        file_sha256=o.film.file_sha256,
        size=o.film.size,
        state=o.state,
        attempts=o.film.attempts,
        reason_code=o.code,
        reason=o.reason,
        answer=o.answer,
    )
    return Recorded(state=o.state, film=film)
