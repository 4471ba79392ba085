"""What answers looked like from outside: kept in the answer's transaction, read back as columns for the monitor.

A row holds no identifier and no pixel: classes of the acquisition (device, view, sex, ten-year age band, size), figures
of the pixels, scores, and, only where the site's policy lets it keep fingerprints, the model's features as float16.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from sqlalchemy import func, select, type_coerce
from sqlalchemy.orm import Session
from sqlalchemy.types import UserDefinedType

from hilum.arrays import Array, Indices, Vector
from hilum.data_keys import Keyring
from hilum.errors import DataError
from hilum.records.schema import AnswerRow, FilmRow, IdentifierRow, ObservationRow, ReviewRow
from hilum.records.sealed_columns import keys_of
from hilum.records.values import NewObservation

GROUPS = ("device", "view_position", "sex", "age_band", "size_class")
"""Classes of the acquisition, as columns of the table."""

STATISTICS = (
    "mean",
    "contrast",
    "black_share",
    "white_share",
    "entropy_bits",
    "sharpness",
    "structure",
    "frontal_fit",
)
"""Figures of the pixels in the order in which they are kept; `hilum.imaging.quality.Quality` says what they are."""

OUTCOMES = ("answered", "abstained", "not-analysed")
CHUNK = 20_000


class _AsItLies(UserDefinedType[Any]):
    """A column's value as the driver gives it: SQLite's instants are texts, PostgreSQL's are instants."""

    cache_ok = True


WHO = (
    IdentifierRow.patient_index,
    func.coalesce(type_coerce(FilmRow.study_instance_uid, _AsItLies), AnswerRow.film_id),
)
"""Columns that tell patients apart without saying who they are; :func:`patients_of` reads them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Classes:
    """A column of texts: each row's number, and the texts."""

    codes: Indices
    """[n] numbers into ``levels``."""
    levels: tuple[str, ...]
    """The texts."""

    def select(self, rows: Array) -> "Classes":
        """Some rows, with all levels."""
        return Classes(codes=self.codes[rows], levels=self.levels)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observations:
    """n answers as columns.

    Raises:
        DataError: columns of different lengths.
    """

    at: Vector
    """[n] seconds since 1970 (UTC) at which the film was acknowledged, ascending."""
    groups: Mapping[str, Classes]
    """:data:`GROUPS` by name."""
    outcome: Indices
    """[n] numbers into :data:`OUTCOMES`."""
    seconds: Vector
    """[n] from acknowledged to answered."""
    statistics: Array
    """[n, 8] :data:`STATISTICS`."""
    findings: tuple[str, ...]
    """What the model tells apart."""
    scores: Array
    """[n, k] calibrated probabilities; NaN where not analysed."""
    features: Array
    """[n, d] features; NaN where none were kept, and d = 0 when none at all."""
    overridden: Indices
    """[n] 1 a reader overrode, 0 agreed, -1 nobody has read it."""
    patient: Indices
    """[n] number of the patient, so that films of one patient aren't counted as many; of the study where nobody knows
    the patient. No identifier."""
    models: Classes
    """Digest of the model that answered."""
    failed_at: Vector = field(default_factory=lambda: np.empty(0))
    """Seconds since 1970 of films that could not be answered at all."""

    def __post_init__(self) -> None:
        n = len(self.at)
        columns = {"outcome": self.outcome, "seconds": self.seconds, "statistics": self.statistics}
        columns |= {"scores": self.scores, "features": self.features, "overridden": self.overridden}
        columns |= {"patient": self.patient, "models": self.models.codes}
        columns |= {name: one.codes for name, one in self.groups.items()}
        wrong = [f"{name} has {len(column)}" for name, column in columns.items() if len(column) != n]
        if wrong:
            raise DataError(f"Observations of {n} answers: {', '.join(wrong)} rows. Give one an answer.")

    def __len__(self) -> int:
        return len(self.at)

    def select(self, rows: Array) -> "Observations":
        """Some answers, by numbers or by a mask; failed films stay."""
        return Observations(
            at=self.at[rows],
            groups={name: one.select(rows) for name, one in self.groups.items()},
            outcome=self.outcome[rows],
            seconds=self.seconds[rows],
            statistics=self.statistics[rows],
            findings=self.findings,
            scores=self.scores[rows],
            features=self.features[rows],
            overridden=self.overridden[rows],
            patient=self.patient[rows],
            models=self.models.select(rows),
            failed_at=self.failed_at,
        )


def joined(first: Observations, second: Observations) -> Observations:
    """One span after another of the same columns, that is of one reading."""

    def both(name: str) -> Array:
        return np.concatenate([getattr(first, name), getattr(second, name)])

    def classes(one: Classes, other: Classes) -> Classes:
        return Classes(codes=np.concatenate([one.codes, other.codes]), levels=one.levels)

    names = ("at", "outcome", "seconds", "statistics", "scores", "features", "overridden", "patient")
    return Observations(
        **{name: both(name) for name in names},
        groups={name: classes(one, second.groups[name]) for name, one in first.groups.items()},
        findings=first.findings,
        models=classes(first.models, second.models),
        failed_at=np.union1d(first.failed_at, second.failed_at),
    )


def observation_values(
    answer_id: str,
    seen: NewObservation,
    *,
    model_sha256: str,
    received: datetime,
    answered: datetime,
) -> dict[str, Any]:
    """The row that keeps what an answer looked like, for the transaction that records it.

    Args:
        answer_id: the answer.
        seen: what it looked like.
        model_sha256: who answered.
        received: when the film was acknowledged.
        answered: when the answer was recorded.
    """
    return {
        "answer_id": answer_id,
        "observed_at": received,
        "model_sha256": model_sha256,
        "outcome": seen.outcome,
        "seconds": (answered - received).total_seconds(),
        "device": seen.device[:64],
        "view_position": seen.view_position[:16],
        "sex": seen.sex[:16],
        "age_band": seen.age_band[:16],
        "size_class": seen.size_class[:16],
        "pixel_statistics": seen.statistics,
        "scores": seen.scores,
        "features": seen.features,
    }


def read_observations(
    session: Session, findings: Sequence[str], *, since: datetime | None = None, until: datetime | None = None
) -> Observations:
    """Answers of a span of time as columns.

    Args:
        session: of a reading transaction.
        findings: of the models that answered, in their order; answers with another number of scores are left out.
        since: the first instant; None for the beginning.
        until: the first instant that is no longer meant; None for now.

    Raises:
        DataError: a clock jumped, so that an answer stands before its film was received.
    """
    read = _Reader(len(findings), nobody_of(session))
    overrides = _overrides(session)
    for chunk in _rows(session, since, until):
        read.take(chunk, overrides)
    failed = select(FilmRow.received_at).where(FilmRow.state == "failed")
    failures = [at.timestamp() for at in session.scalars(failed) if _inside(at, since, until)]
    return read.finish(tuple(findings), np.array(sorted(failures)))


def observed_findings(session: Session) -> tuple[str, ...]:
    """What the newest answer that analysed a film tells apart.

    Raises:
        DataError: no film was analysed yet.
    """
    query = (
        select(AnswerRow.assessment).where(AnswerRow.risk.is_not(None)).order_by(AnswerRow.created_at.desc()).limit(1)
    )
    said = session.scalar(query)
    if said is None:
        raise DataError("No film was analysed yet, so there is nothing to watch. Let some films in first.")
    return tuple(str(name) for name in json.loads(said).get("findings", ()))


def _inside(at: datetime, since: datetime | None, until: datetime | None) -> bool:
    return (since is None or at >= since) and (until is None or at < until)


def _rows(session: Session, since: datetime | None, until: datetime | None) -> Iterator[Sequence[Any]]:
    """Rows by time, as the database's driver gives them: no value is made into anything on the way."""
    row = ObservationRow
    query = (
        select(
            row.answer_id,
            type_coerce(row.observed_at, _AsItLies),
            row.outcome,
            row.seconds,
            row.model_sha256,
            *WHO,
            row.device,
            row.view_position,
            row.sex,
            row.age_band,
            row.size_class,
            type_coerce(row.pixel_statistics, _AsItLies),
            type_coerce(row.scores, _AsItLies),
            type_coerce(row.features, _AsItLies),
        )
        .join(AnswerRow, AnswerRow.id == row.answer_id)
        .join(FilmRow, FilmRow.id == AnswerRow.film_id)
        .outerjoin(IdentifierRow, IdentifierRow.film_id == AnswerRow.film_id)
        .order_by(row.observed_at, row.answer_id)
    )
    if since is not None:
        query = query.where(row.observed_at >= since)
    if until is not None:
        query = query.where(row.observed_at < until)
    yield from session.connection().execute(query.execution_options(yield_per=CHUNK)).partitions(CHUNK)


def _instants(values: Sequence[Any]) -> Vector:
    """Seconds since 1970."""
    if values and isinstance(values[0], str):
        return np.array(values, dtype="datetime64[us]").astype(np.int64) / 1e6
    return np.array([one.timestamp() for one in values])


def patients_of(rows: Iterable[tuple[Any, Any]], nobody: frozenset[str | None]) -> list[Any]:
    """What tells the patient of each film apart; the study's where nobody knows the patient.

    Args:
        rows: :data:`WHO` of the films.
        nobody: of :func:`nobody_of`.
    """
    return [study if patient in nobody else patient for patient, study in rows]


def nobody_of(session: Session) -> frozenset[str | None]:
    """What stands for "no Patient ID" among the keyed digests of patients; a film that is no DICOM object has none."""
    plain = select(IdentifierRow.patient_index).join(FilmRow, FilmRow.id == IdentifierRow.film_id)
    found = session.scalars(plain.where(FilmRow.format != "dicom").distinct())
    return frozenset((None, *found, *(keys.index("patient", "") for keys in (Keyring(), keys_of(session)))))


def _overrides(session: Session) -> dict[str, int]:
    """1 by answer where a reader's newest decision overrode it, else 0; an undone one counts as if it had not been."""
    query = (
        select(AnswerRow.id, AnswerRow.label, ReviewRow.decision, ReviewRow.finding)
        .join(ReviewRow, (ReviewRow.film_id == AnswerRow.film_id) & (ReviewRow.model_sha256 == AnswerRow.model_sha256))
        .order_by(ReviewRow.created_at, ReviewRow.version)
    )
    found: dict[str, int] = {}
    for answer, label, decision, finding in session.execute(query):
        if decision == "withdraw":
            found.pop(answer, None)
        elif decision != "opinion":
            found[answer] = int(decision == "override" or (decision == "adjudicate" and finding != label))
    return found


class _Reader:
    """Rows into columns, chunk by chunk; texts become numbers at once, so that a million rows stay small."""

    def __init__(self, k: int, nobody: frozenset[str | None]) -> None:
        self._k, self._nobody = k, nobody
        self._codes: dict[str, dict[str, int]] = {name: {} for name in ("model", "patient", *GROUPS)}
        self._parts: dict[str, list[Array]] = {}
        self._width = 0

    def take(self, rows: Sequence[Any], overrides: Mapping[str, int]) -> None:
        """Add a chunk."""
        k = self._k
        rows = [r for r in rows if r[13] is None or len(r[13]) == 4 * k]
        if not rows:
            return
        (ids, at, outcome, seconds, model, who, study, *groups, statistics, scores, features) = zip(*rows, strict=True)
        self._add("at", _instants(at))
        self._add("outcome", np.array([OUTCOMES.index(one) for one in outcome], dtype=np.int8))
        patient = patients_of(zip(who, study, strict=True), self._nobody)
        self._add("seconds", np.array(seconds))
        self._add("overridden", np.array([overrides.get(one, -1) for one in ids], dtype=np.int8))
        for name, column in zip(("model", "patient", *GROUPS), (model, patient, *groups), strict=True):
            known = self._codes[name]
            self._add(name, np.array([known.setdefault(one, len(known)) for one in column], dtype=np.int32))
        self._add("statistics", np.frombuffer(b"".join(statistics), "<f4").reshape(len(rows), len(STATISTICS)))
        self._add("scores", _together(scores, 4 * k, "<f4"))
        width = max((len(one) for one in features if one is not None), default=0)
        self._width = max(self._width, width)
        self._add("features", _together(features, width, "<f2"))

    def _add(self, name: str, column: Array) -> None:
        self._parts.setdefault(name, []).append(column)

    def _column(self, name: str, empty: Array) -> Array:
        return np.concatenate(self._parts[name]) if name in self._parts else empty

    def _features(self) -> Array:
        """Chunks of another width (another model's, or kept before features were) count as none."""
        width = self._width // 2
        parts = [
            part if part.shape[1] == width else np.full((len(part), width), np.nan, dtype=np.float16)
            for part in self._parts.get("features", [])
        ]
        return np.concatenate(parts) if parts else np.empty((0, width), dtype=np.float16)

    def finish(self, findings: tuple[str, ...], failed_at: Vector) -> Observations:
        """All of them."""
        seconds = self._column("seconds", np.empty(0))
        if len(seconds) and float(seconds.min()) < -1.0:
            raise DataError(
                f"A clock jumped: an answer stands {-float(seconds.min()):.0f} s before its film was received. "
                "Set the server's clock right, and give a span of time without that."
            )
        texts = {name: tuple(known) for name, known in self._codes.items()}
        none = np.empty(0, dtype=np.int32)
        return Observations(
            at=self._column("at", np.empty(0)),
            groups={name: Classes(codes=self._column(name, none), levels=texts[name]) for name in GROUPS},
            outcome=self._column("outcome", none),
            seconds=seconds,
            statistics=self._column("statistics", np.empty((0, len(STATISTICS)))),
            findings=findings,
            scores=self._column("scores", np.empty((0, self._k))),
            features=self._features(),
            overridden=self._column("overridden", none),
            patient=self._column("patient", none),
            models=Classes(codes=self._column("model", none), levels=texts["model"]),
            failed_at=failed_at,
        )


def _together(values: Sequence[bytes | None], size: int, kind: str) -> Array:
    """Rows of bytes as an array [n, …]; NaN where there are none."""
    blank = np.full(size // np.dtype(kind).itemsize, np.nan, dtype=kind).tobytes()
    joined = b"".join(one if one is not None and len(one) == size else blank for one in values)
    return np.frombuffer(joined, kind).reshape(len(values), size // np.dtype(kind).itemsize)


def to_instant(seconds: float) -> datetime:
    """Seconds since 1970 as an instant in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
