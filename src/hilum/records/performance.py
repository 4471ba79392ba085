"""What labels said of the answers when it was measured last: kept by the monitor, shown by the service."""

import json
import secrets
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hilum.records.audit import Act, append
from hilum.records.schema import PerformanceRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One figure, weighted for the films without a label."""

    name: str
    """``sensitivity``, ``specificity``, ``auroc`` or ``calibration gap``."""
    value: float | None
    """The figure; None where it can't be told."""
    low: float | None
    """Lower 95 % bound."""
    high: float | None
    """Upper bound."""
    naive: float | None
    """Of labelled films alone, as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Some films, such as those of one month."""

    name: str
    """``all``, or a month such as ``2026-03``."""
    films: int
    """Films that were analysed."""
    labelled: int
    """Films with a label."""
    estimates: tuple[Estimate, ...]
    """The figures; empty where too few are labelled."""
    why_not: str
    """Why there are none, or what they leave out; empty otherwise."""

    @property
    def completeness(self) -> float:
        """Share of films that have a label, 0 … 1."""
        return self.labelled / self.films if self.films else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measurement of one finding."""

    measured_at: datetime
    """When (UTC)."""
    measured_by: str
    """By whom."""
    finding: str
    """Of which finding."""
    threshold: float
    """At which operating point, 0 … 1."""
    spans: tuple[Span, ...]
    """All films, then months."""


def keep(session: Session, measured: Measured) -> None:
    """Keep a measurement; those before it stay. It is written down in the same transaction."""
    spans = [asdict(span) for span in measured.spans]
    session.add(
        PerformanceRow(
            id=secrets.token_hex(16),
            measured_at=measured.measured_at,
            measured_by=measured.measured_by,
            finding=measured.finding,
            threshold=measured.threshold,
            spans=json.dumps(spans, allow_nan=False),
        )
    )
    whole = measured.spans[0]
    detail = {"finding": measured.finding, "threshold": f"{measured.threshold:.6f}"}
    counted = {"films": whole.films, "labelled": whole.labelled}
    act = Act(actor=measured.measured_by, act="performance.measured", subject="", detail=detail | counted)
    append(session, act, measured.measured_at)


def newest(session: Session) -> tuple[Measured, ...]:
    """The newest measurement of each finding, by finding."""
    rows = session.scalars(select(PerformanceRow).order_by(PerformanceRow.finding, PerformanceRow.measured_at))
    return tuple(_measured(row) for row in {row.finding: row for row in rows}.values())


def _measured(row: PerformanceRow) -> Measured:
    spans = tuple(
        Span(**{**span, "estimates": tuple(Estimate(**one) for one in span["estimates"])})
        for span in json.loads(row.spans)
    )
    return Measured(
        measured_at=row.measured_at,
        measured_by=row.measured_by,
        finding=row.finding,
        threshold=row.threshold,
        spans=spans,
    )
