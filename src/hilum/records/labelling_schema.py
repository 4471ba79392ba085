"""The tables of labelling: batches that were drawn, films to be labelled, who holds one, and what readers said."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from hilum.records.schema import Base, UtcTime
from hilum.records.sealed_columns import SealedText


class LabelBatchRow(Base):
    """One draw: how, out of how many, by whom."""

    __tablename__ = "label_batches"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    drawn_at: Mapped[datetime] = mapped_column(UtcTime)
    drawn_by: Mapped[str] = mapped_column(String(96))
    films: Mapped[int]
    pool: Mapped[int]
    twice: Mapped[int]
    how: Mapped[str] = mapped_column(Text)


class LabelTaskRow(Base):
    """A film that was drawn, its probability of being drawn, and how far its labelling is."""

    __tablename__ = "label_tasks"

    film_id: Mapped[str] = mapped_column(ForeignKey("films.id", ondelete="CASCADE"), primary_key=True)
    batch_id: Mapped[str] = mapped_column(ForeignKey("label_batches.id"))
    place: Mapped[int]
    probability: Mapped[float] = mapped_column(Double)
    readings: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))

    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'agreed', 'differ', 'undecided')", name="label_tasks_state_known"),
        Index("label_tasks_by_state", "state", "batch_id", "place"),
    )


class LabelHoldRow(Base):
    """A film in front of a reader, or one that the reader passed over."""

    __tablename__ = "label_holds"

    film_id: Mapped[str] = mapped_column(ForeignKey("films.id", ondelete="CASCADE"), primary_key=True)
    reader: Mapped[str] = mapped_column(String(64), primary_key=True)
    until: Mapped[datetime] = mapped_column(UtcTime)
    passed: Mapped[bool] = mapped_column(default=False)


class BlindLabelRow(Base):
    """What a reader said of a film without the model's answer; a change of mind is a row with the next version."""

    __tablename__ = "blind_labels"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    film_id: Mapped[str] = mapped_column(ForeignKey("films.id", ondelete="CASCADE"))
    reader: Mapped[str] = mapped_column(String(64))
    version: Mapped[int]
    finding: Mapped[str | None] = mapped_column(String(64))
    reason_code: Mapped[str] = mapped_column(String(32), default="")
    comment: Mapped[str] = mapped_column(SealedText("label-comment"), default="")
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    seconds: Mapped[float | None] = mapped_column(Double)
    shown: Mapped[str] = mapped_column(Text, default="")

    __table_args__ = (UniqueConstraint("film_id", "reader", "version", name="blind_labels_one_per_version"),)
