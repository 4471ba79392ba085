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

from hilum.records.values import STATES

HEAD = "0001"
"""The migration that leads to these tables."""


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
    sop_instance_uid: Mapped[str | None] = mapped_column(String(64))
    study_instance_uid: Mapped[str | None] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[datetime | None] = mapped_column(UtcTime)
    reason_code: Mapped[str] = mapped_column(String(32), default="")
    reason: Mapped[str] = mapped_column(Text, default="")

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
    )


class IdentifierRow(Base):
    """Who a film is of. Nothing that serves results reads more of it than the accession number."""

    __tablename__ = "identifiers"

    film_id: Mapped[str] = mapped_column(ForeignKey("films.id", ondelete="CASCADE"), primary_key=True)
    patient_id: Mapped[str] = mapped_column(Text, default="")
    accession_number: Mapped[str] = mapped_column(Text, default="")


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
