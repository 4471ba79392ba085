"""The tables of reader studies: the protocol, who reads what when, and what was said. The truth is in none of them."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Double, ForeignKey, ForeignKeyConstraint, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from hilum.records.schema import Base, UtcTime


class ReaderStudyRow(Base):
    """A reader study that is read on the service's own pages."""

    __tablename__ = "reader_studies"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    plan_sha256: Mapped[str] = mapped_column(String(64))
    question: Mapped[str] = mapped_column(String(64))
    findings: Mapped[str] = mapped_column(Text)
    answer: Mapped[str] = mapped_column(String(8))
    priors: Mapped[bool]
    washout_days: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    created_by: Mapped[str] = mapped_column(String(96))
    closed_at: Mapped[datetime | None] = mapped_column(UtcTime)


class StudySlotRow(Base):
    """One reading to be done: whose, in which session, at which place, of which film, in which arm."""

    __tablename__ = "study_slots"

    study: Mapped[str] = mapped_column(ForeignKey("reader_studies.name", ondelete="CASCADE"), primary_key=True)
    reader: Mapped[str] = mapped_column(String(64), primary_key=True)
    session: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    film_id: Mapped[str] = mapped_column(ForeignKey("films.id", ondelete="CASCADE"))
    film_name: Mapped[str] = mapped_column(String(64))
    arm: Mapped[str] = mapped_column(String(8))

    __table_args__ = (
        UniqueConstraint("study", "reader", "film_id", "arm", name="study_slots_once_each_way"),
        CheckConstraint("arm IN ('without', 'with')", name="study_slots_arm_known"),
        Index("study_slots_by_reader", "reader", "film_id"),
        Index("study_slots_by_film", "film_id"),
    )


class StudyOpinionRow(Base):
    """What a reader said in a slot; never changed."""

    __tablename__ = "study_opinions"

    study: Mapped[str] = mapped_column(String(64), primary_key=True)
    reader: Mapped[str] = mapped_column(String(64), primary_key=True)
    session: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    stage: Mapped[str] = mapped_column(String(8), primary_key=True)
    finding: Mapped[str] = mapped_column(String(64))
    rating: Mapped[int]
    seconds: Mapped[float | None] = mapped_column(Double)
    model_sha256: Mapped[str | None] = mapped_column(String(64))
    shown: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime] = mapped_column(UtcTime)

    __table_args__ = (
        ForeignKeyConstraint(
            ["study", "reader", "session", "position"],
            ["study_slots.study", "study_slots.reader", "study_slots.session", "study_slots.position"],
            ondelete="CASCADE",
            name="study_opinions_in_a_slot",
        ),
        CheckConstraint("stage IN ('first', 'final')", name="study_opinions_stage_known"),
        CheckConstraint("rating >= 0 AND rating <= 100", name="study_opinions_rating_in_range"),
    )
