"""The tables. Identifiers of patients live in a table of their own, apart from results."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from hilum.records.sealed_columns import ExactText, SealedText
from hilum.records.values import STATES

HEAD = "0016"
"""The migration that leads to these tables."""

SENDER_LENGTH = 96


class UtcTime(TypeDecorator[datetime]):
    """An instant in UTC: SQLite knows no time zones, so it is stored without and read back with one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Store as UTC."""
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Read as UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Parent of the tables."""


class FilmRow(Base):
    """One film, by its content: the same content is the same film, whichever door it came through."""

    __tablename__ = "films"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    received_at: Mapped[datetime] = mapped_column(UtcTime)
    origin: Mapped[str] = mapped_column(String(16))
    calling_ae: Mapped[str] = mapped_column(String(16), default="")
    format: Mapped[str] = mapped_column(String(8))
    content_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    file_sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    sop_instance_uid: Mapped[str | None] = mapped_column(ExactText("sop-instance"))
    study_instance_uid: Mapped[str | None] = mapped_column(ExactText("study-instance"))
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[datetime | None] = mapped_column(UtcTime)
    reason_code: Mapped[str] = mapped_column(String(32), default="")
    reason: Mapped[str] = mapped_column(Text, default="")
    sender: Mapped[str] = mapped_column(String(SENDER_LENGTH), default="", server_default="")
    urgent: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    identity_sha256: Mapped[str | None] = mapped_column(String(64))

    __table_args__ = (
        CheckConstraint("state IN ({})".format(", ".join(f"'{s}'" for s in STATES)), name="films_state_known"),
        # Two films that claim one SOP instance UID can't both be in use: the later one is quarantined.
        Index(
            "films_one_per_sop_instance",
            "sop_instance_uid",
            unique=True,
            sqlite_where=text("state <> 'quarantined'"),
            postgresql_where=text("state <> 'quarantined'"),
        ),
        Index("films_by_state", "state", "lease_until"),
        Index("films_by_time", "received_at", "id"),
        # Of films from before migration 0016 it is another digest than the content's, or none yet.
        Index("films_by_identity", "identity_sha256", unique=True),
    )


class IdentifierRow(Base):
    """Who a film is of, encrypted; :mod:`hilum.records.identifiers` reads and writes it.

    Nothing that serves results reads more of it than the accession number.
    """

    __tablename__ = "identifiers"

    film_id: Mapped[str] = mapped_column(ForeignKey("films.id", ondelete="CASCADE"), primary_key=True)
    key_id: Mapped[str] = mapped_column(String(16))
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    patient_index: Mapped[str] = mapped_column(String(64))
    accession_index: Mapped[str] = mapped_column(String(64))

    __table_args__ = (
        Index("identifiers_by_patient", "patient_index"),
        Index("identifiers_by_accession", "accession_index"),
    )


class DataKeyRow(Base):
    """A data key that something in the records or a film is, or may still be, encrypted with: only its id."""

    __tablename__ = "data_keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    since: Mapped[datetime] = mapped_column(UtcTime)


class ErasedFileRow(Base):
    """A film's file that no record names any more and that is still to be removed."""

    __tablename__ = "erased_files"

    file_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcTime)


class AnswerRow(Base):
    """One model version's answer to one film: never two."""

    __tablename__ = "answers"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    film_id: Mapped[str] = mapped_column(ForeignKey("films.id", ondelete="CASCADE"))
    model_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    label: Mapped[str | None] = mapped_column(String(64))
    abstained: Mapped[bool]
    risk: Mapped[float | None] = mapped_column(Double)
    assessment: Mapped[str] = mapped_column(Text)

    __table_args__ = (UniqueConstraint("film_id", "model_sha256", name="answers_one_per_film_and_model"),)


class HeatmapRow(Base):
    """One class activation map of one answer, as the model gave it; pictures are drawn from it when asked for."""

    __tablename__ = "heatmaps"

    answer_id: Mapped[str] = mapped_column(ForeignKey("answers.id", ondelete="CASCADE"), primary_key=True)
    finding: Mapped[str] = mapped_column(String(64), primary_key=True)
    rows: Mapped[int]
    columns: Mapped[int]
    values: Mapped[bytes] = mapped_column(LargeBinary)
    spread: Mapped[bytes | None] = mapped_column(LargeBinary)


class AuditRow(Base):
    """One act or one look, chained to the row before; :mod:`hilum.records.audit` writes and checks it."""

    __tablename__ = "audit"

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[str] = mapped_column(String(32))
    actor: Mapped[str] = mapped_column(String(96))
    act: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str] = mapped_column(String(96), default="")
    body: Mapped[str] = mapped_column(Text)
    hash: Mapped[str] = mapped_column(String(64))

    __table_args__ = (
        Index("audit_by_subject", "subject", "seq"),
        Index("audit_by_actor", "actor", "seq"),
        Index("audit_by_act", "act", "seq"),
        Index("audit_by_time", "at"),
    )


class UserRow(Base):
    """A person or a program that may do what its roles say."""

    __tablename__ = "users"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    password: Mapped[str] = mapped_column(Text, default="")
    roles: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    disabled_at: Mapped[datetime | None] = mapped_column(UtcTime)
    temporary_until: Mapped[datetime | None] = mapped_column(UtcTime)


class ApiKeyRow(Base):
    """A program's key: its secret only as a digest, and what it may do."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    user_name: Mapped[str] = mapped_column(ForeignKey("users.name", ondelete="CASCADE"))
    label: Mapped[str] = mapped_column(String(64), default="")
    secret_sha256: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcTime)


class SessionRow(Base):
    """A person at a page, by the digest of the cookie."""

    __tablename__ = "sessions"

    token_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_name: Mapped[str] = mapped_column(ForeignKey("users.name", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    expires_at: Mapped[datetime] = mapped_column(UtcTime)


class ReviewRow(Base):
    """What a reader decided of a film; a change of mind is a row of its own with the next version."""

    __tablename__ = "reviews"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    film_id: Mapped[str] = mapped_column(ForeignKey("films.id", ondelete="CASCADE"))
    model_sha256: Mapped[str | None] = mapped_column(String(64))
    reader: Mapped[str] = mapped_column(String(64))
    version: Mapped[int]
    decision: Mapped[str] = mapped_column(String(16))
    finding: Mapped[str | None] = mapped_column(String(64))
    comment: Mapped[str] = mapped_column(SealedText("comment"), default="")
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    reason_code: Mapped[str] = mapped_column(String(32), default="", server_default="")
    regions: Mapped[str] = mapped_column(Text, default="", server_default="")
    shown: Mapped[str] = mapped_column(Text, default="", server_default="")
    seconds: Mapped[float | None] = mapped_column(Double)
    read_first: Mapped[bool | None]

    __table_args__ = (UniqueConstraint("film_id", "reader", "version", name="reviews_one_per_version"),)


class ReadingRow(Base):
    """How far the reading of a film is, and who holds it; computed from its reviews in the transaction of each."""

    __tablename__ = "readings"

    film_id: Mapped[str] = mapped_column(ForeignKey("films.id", ondelete="CASCADE"), primary_key=True)
    status: Mapped[str] = mapped_column(String(16), default="unread")
    claimed_by: Mapped[str | None] = mapped_column(String(64))
    claimed_until: Mapped[datetime | None] = mapped_column(UtcTime)


class IdempotencyRow(Base):
    """A sender's key of one request, so that the same request again is the same film."""

    __tablename__ = "idempotency_keys"

    key_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    film_id: Mapped[str] = mapped_column(ForeignKey("films.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(UtcTime)


class DestinationRow(Base):
    """A place that results are sent to: every answer recorded while it is here is queued for it."""

    __tablename__ = "destinations"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    since: Mapped[datetime] = mapped_column(UtcTime)
    reviews: Mapped[bool] = mapped_column(default=False)


class DeliveryRow(Base):
    """One answer, or one reader's review of it, on its way to one destination."""

    __tablename__ = "deliveries"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    answer_id: Mapped[str] = mapped_column(ForeignKey("answers.id", ondelete="CASCADE"))
    destination: Mapped[str] = mapped_column(String(64))
    review_id: Mapped[str] = mapped_column(String(32), default="")
    state: Mapped[str] = mapped_column(String(8))
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    due_at: Mapped[datetime] = mapped_column(UtcTime)
    lease_owner: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[datetime | None] = mapped_column(UtcTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcTime)
    reason_code: Mapped[str] = mapped_column(String(32), default="")
    reason: Mapped[str] = mapped_column(Text, default="")

    __table_args__ = (
        UniqueConstraint("answer_id", "destination", "review_id", name="deliveries_once_per_destination"),
        CheckConstraint("state IN ('waiting', 'sending', 'sent', 'dead')", name="deliveries_state_known"),
        Index("deliveries_by_due", "destination", "state", "due_at"),
    )


class ObservationRow(Base):
    """What one answer looked like from outside, for watching drift: no identifiers, no pixels."""

    __tablename__ = "observations"

    answer_id: Mapped[str] = mapped_column(ForeignKey("answers.id", ondelete="CASCADE"), primary_key=True)
    observed_at: Mapped[datetime] = mapped_column(UtcTime)
    model_sha256: Mapped[str] = mapped_column(String(64))
    outcome: Mapped[str] = mapped_column(String(16))
    seconds: Mapped[float] = mapped_column(Double)
    device: Mapped[str] = mapped_column(String(64))
    view_position: Mapped[str] = mapped_column(String(16))
    sex: Mapped[str] = mapped_column(String(16))
    age_band: Mapped[str] = mapped_column(String(16))
    size_class: Mapped[str] = mapped_column(String(16))
    pixel_statistics: Mapped[bytes] = mapped_column(LargeBinary)
    scores: Mapped[bytes | None] = mapped_column(LargeBinary)
    features: Mapped[bytes | None] = mapped_column(LargeBinary)

    __table_args__ = (Index("observations_by_time", "observed_at"),)


class AlarmRow(Base):
    """One alarm of the monitor and where its owner is with it."""

    __tablename__ = "alarms"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    owner: Mapped[str] = mapped_column(String(64))
    opened_at: Mapped[datetime] = mapped_column(UtcTime)
    culprit: Mapped[str] = mapped_column(String(64))
    detail: Mapped[str] = mapped_column(Text)
    quiet_looks: Mapped[int] = mapped_column(default=0)
    acknowledged_by: Mapped[str] = mapped_column(String(64), default="")
    acknowledged_at: Mapped[datetime | None] = mapped_column(UtcTime)
    closed_by: Mapped[str] = mapped_column(String(64), default="")
    closed_at: Mapped[datetime | None] = mapped_column(UtcTime)
    reason: Mapped[str] = mapped_column(Text, default="")

    __table_args__ = (
        CheckConstraint("state IN ('open', 'acknowledged', 'closed')", name="alarms_state_known"),
        Index("alarms_by_state", "state", "opened_at"),
    )


class ModelRow(Base):
    """A model that may go into production: by its bundle's digest, with the document that let it."""

    __tablename__ = "models"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    version: Mapped[str] = mapped_column(String(64))
    location: Mapped[str] = mapped_column(Text)
    proposal_sha256: Mapped[str] = mapped_column(String(64), default="")
    registered_at: Mapped[datetime] = mapped_column(UtcTime)
    registered_by: Mapped[str] = mapped_column(String(96))


class DeploymentRow(Base):
    """A change of what is in production. The last row is what holds; nothing is ever changed or deleted."""

    __tablename__ = "deployments"

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(UtcTime)
    act: Mapped[str] = mapped_column(String(16))
    production: Mapped[str] = mapped_column(ForeignKey("models.sha256"))
    candidate: Mapped[str | None] = mapped_column(ForeignKey("models.sha256"))
    stage: Mapped[str] = mapped_column(String(8))
    share: Mapped[int] = mapped_column(default=0)
    actor: Mapped[str] = mapped_column(String(96))
    reason: Mapped[str] = mapped_column(Text)

    __table_args__ = (
        CheckConstraint("stage IN ('full', 'shadow', 'canary')", name="deployments_stage_known"),
        CheckConstraint("share >= 0 AND share <= 10000", name="deployments_share_in_ten_thousandths"),
    )


class LookUpRow(Base):
    """One film whose earlier films are to be looked for in a PACS."""

    __tablename__ = "look_ups"

    film_id: Mapped[str] = mapped_column(ForeignKey("films.id", ondelete="CASCADE"), primary_key=True)
    state: Mapped[str] = mapped_column(String(8))
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    due_at: Mapped[datetime] = mapped_column(UtcTime)
    lease_owner: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[datetime | None] = mapped_column(UtcTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcTime)
    reason_code: Mapped[str] = mapped_column(String(32), default="")
    reason: Mapped[str] = mapped_column(Text, default="")

    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'looking', 'done', 'dead')", name="look_ups_state_known"),
        Index("look_ups_by_due", "state", "due_at"),
    )


class PriorRow(Base):
    """A film that is an earlier one of another film's patient: wanted, there, or refused because it is not."""

    __tablename__ = "priors"

    film_id: Mapped[str] = mapped_column(ForeignKey("films.id", ondelete="CASCADE"), primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(ExactText("sop-instance"), primary_key=True)
    state: Mapped[str] = mapped_column(String(8))
    rank: Mapped[int]
    prior_id: Mapped[str | None] = mapped_column(ForeignKey("films.id", ondelete="CASCADE"))

    __table_args__ = (
        CheckConstraint("state IN ('wanted', 'there', 'refused')", name="priors_state_known"),
        Index("priors_by_sop_instance", "sop_instance_uid", "state"),
    )


class DicomObjectRow(Base):
    """One object that DICOMweb finds and fetches: a film, or a result of one, which is made anew when it is fetched."""

    __tablename__ = "dicom_objects"

    sop_instance_uid: Mapped[str] = mapped_column(ExactText("sop-instance"), primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(ExactText("study-instance"))
    series_instance_uid: Mapped[str] = mapped_column(ExactText("series-instance"))
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))
    film_id: Mapped[str] = mapped_column(ForeignKey("films.id", ondelete="CASCADE"))
    answer_id: Mapped[str] = mapped_column(String(32), default="")
    review_id: Mapped[str] = mapped_column(String(32), default="")
    modality: Mapped[str] = mapped_column(String(16), default="")
    study_date: Mapped[str] = mapped_column(String(8), default="")
    header: Mapped[str] = mapped_column(SealedText("dicom-header"), default="")

    __table_args__ = (
        Index("dicom_objects_by_study", "study_instance_uid", "series_instance_uid"),
        Index("dicom_objects_by_date", "study_date", "study_instance_uid"),
        Index("dicom_objects_by_film", "film_id"),
    )


class FollowerRow(Base):
    """How far somebody inside the service has followed the events."""

    __tablename__ = "followers"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    place: Mapped[int] = mapped_column(BigInteger)


class CreationRow(Base):
    """A request with an Idempotency-Key that made something other than a film, so that it is not made twice."""

    __tablename__ = "creations"

    key_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(96))
    created_at: Mapped[datetime] = mapped_column(UtcTime)


class ShadowRow(Base):
    """What a candidate in shadow said of a film beside the model that answered it; shown to nobody."""

    __tablename__ = "shadow_answers"

    film_id: Mapped[str] = mapped_column(ForeignKey("films.id", ondelete="CASCADE"), primary_key=True)
    model_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    beside_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    label: Mapped[str | None] = mapped_column(String(64))
    abstained: Mapped[bool]
    risk: Mapped[float | None] = mapped_column(Double)


class PerformanceRow(Base):
    """What labels said of the answers to one finding, when it was measured; older rows stay."""

    __tablename__ = "performance"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    measured_at: Mapped[datetime] = mapped_column(UtcTime)
    measured_by: Mapped[str] = mapped_column(String(64))
    finding: Mapped[str] = mapped_column(String(64))
    threshold: Mapped[float] = mapped_column(Double)
    spans: Mapped[str] = mapped_column(Text)

    __table_args__ = (Index("performance_by_finding", "finding", "measured_at"),)
