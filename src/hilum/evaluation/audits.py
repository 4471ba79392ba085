"""Audits: rows with a number, an interval and a verdict, and one chance of a false alarm for all of them together.

Two dozen questions at 5 % each would raise a false alarm on most clean cohorts. Here all questions that can end in
an alarm form one family: Holm's step-down (Holm 1979, Scand J Stat 6:65) keeps the chance of any false alarm at
:data:`FAMILY`, whatever the questions have to do with one another. What the rest of a report looks for has shares of
its own (:mod:`hilum.evaluation.false_alarms`): 5 % in all. An alarm also needs an effect that counts: on very many
films a trifle is significant too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hilum.config import BESIDE
from hilum.errors import DataError
from hilum.evaluation.backing import Backing, Key
from hilum.evaluation.confounding import Flag, Severity
from hilum.evaluation.estimates import NAN, Estimate, from_plain, to_plain
from hilum.evaluation.false_alarms import AUDITS
from hilum.evaluation.intervals import Resampling
from hilum.intervals import p_value

FAMILY = AUDITS
"""Chance that any of the audits raises a false alarm, by Holm."""

SCHEMA = 2

AuditVerdict = Literal["alarm", "clear", "note", "not estimable"]
"""Alarm: a way round the disease was found. Clear: looked for and not found. Note: measured, and it can't alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """One question, and what was found."""

    name: str
    """Stable name, such as ``border-only model``."""
    about: str = ""
    """What it concerns, such as a source, a group or a view; empty when the name says all."""
    measure: str
    """What the value is, such as ``AUROC`` or ``share of films``."""
    value: Estimate
    """The number with its interval, or why there is none."""
    chance: float = NAN
    """What the value would be if nothing were wrong; NaN when there is no such number."""
    effect: float = NAN
    """What is held against the floor, such as a fall; NaN where it is the value itself."""
    floor: float = NAN
    """The effect from which an alarm is possible; NaN for a note."""
    p_value: float = NAN
    """Chance of such a value if nothing were wrong; NaN when it is no test."""
    adjusted: float = NAN
    """The same after Holm, over all audits; NaN when it is no test."""
    severity: Severity = "red"
    """What an alarm means for the report."""
    verdict: AuditVerdict = "note"
    """What was found."""
    sentence: str = ""
    """The finding in one sentence; of an alarm it stands in the verdict box, and of a clear row it says so."""
    if_clear: str = ""
    """What a clear row says instead of the common sentence; empty once the verdict is known."""
    films: str = ""
    """Which films were asked, such as ``fit part, out of fold``."""
    paper: str = ""
    """Where the audit comes from."""
    backing: Backing | None = field(default=None, metadata=BESIDE, compare=False, repr=False)
    """The scores behind it, written beside the JSON; None where ``predictions.parquet`` holds them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A film whose label may be wrong."""

    film_id: str
    """SHA-256 of the film."""
    label: str
    """Its label."""
    answer: str
    """What a model that never saw its patient says."""
    probability: float
    """How probable that model thinks its answer, 0 … 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audits:
    """All audits of a run."""

    schema: int = SCHEMA
    """Version of this layout."""
    rows: tuple[Audit, ...]
    """The audits, in the order of the report."""
    candidates: tuple[Candidate, ...] = ()
    """Films whose label may be wrong, the most confident disagreement first."""
    features: str = ""
    """What the light models read, in words."""
    family: float = FAMILY
    """Chance that any row raises a false alarm."""
    settings: Resampling = field(default_factory=Resampling)
    """Of the intervals."""
    permutations: int = 0
    """Most shuffles of each test against chance."""

    @property
    def alarms(self) -> tuple[Audit, ...]:
        """The rows that raise one."""
        return tuple(row for row in self.rows if row.verdict == "alarm")

    @property
    def backings(self) -> dict[Key, Backing]:
        """The scores behind the rows, by name and what they are about."""
        return {(row.name, row.about): row.backing for row in self.rows if row.backing is not None}

    @property
    def flags(self) -> tuple[Flag, ...]:
        """The alarms as flags for the verdict, red first."""
        flags = [
            Flag(severity=row.severity, code=f"audit-{'-'.join(row.name.split())}", sentence=row.sentence)
            for row in self.alarms
        ]
        return tuple(sorted(flags, key=lambda flag: flag.severity != "red"))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, NaN as null; :meth:`from_json` gives the same back."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Audits":
        """Read back what :meth:`to_json` wrote.

        Raises:
            DataError: another version of the layout.
            ConfigError: fields that are unknown, missing or of a wrong type.
        """
        if values.get("schema") != SCHEMA:
            raise DataError(
                f"These audits have schema {values.get('schema')!r}, but this version reads {SCHEMA}. Evaluate the run "
                "again."
            )
        return from_plain(cls, values, where="audits")


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's adjusted p-values; NaN stays NaN and isn't counted.

    Args:
        p_values: of all tests of a family.
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [NAN] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        adjusted[i] = highest
    return tuple(adjusted)


def concluded(rows: Sequence[Audit], family: float = FAMILY) -> tuple[Audit, ...]:
    """Rows with their verdicts: all tests among them are one family.

    A row alarms when its adjusted p-value is at most ``family`` and its effect at or above its floor. A row without a
    value is not estimable; one without a p-value is a note. Until then a row's sentence is that of an alarm.
    """
    return tuple(replace(row, sentence=_sentence(row), if_clear="") for row in judged(rows, family))


def judged(rows: Sequence[Audit], family: float = FAMILY) -> tuple[Audit, ...]:
    """Rows with adjusted p-values and verdicts, their sentences as they are."""
    adjusted = holm([row.p_value for row in rows])
    return tuple(
        replace(row, adjusted=p, verdict=_verdict(row, p, family)) for row, p in zip(rows, adjusted, strict=True)
    )


def _sentence(row: Audit) -> str:
    """What a row says once its verdict is known."""
    if row.verdict == "not estimable":
        return f"Not estimable: {row.value.reason}"
    if row.verdict != "clear":
        return row.sentence
    if row.if_clear:
        return row.if_clear
    chance = "" if math.isnan(row.chance) else f", where {row.chance:.3g} means that nothing is wrong"
    about = f" ({row.about})" if row.about else ""
    return (
        f"Looked for and not found: {row.name}{about}. {row.measure[:1].upper()}{row.measure[1:]} {row.value.text(3)}"
        f"{chance}; p {p_value(row.adjusted, '.2g', equals='= ')} over all audits."
    )


def _verdict(row: Audit, adjusted: float, family: float) -> AuditVerdict:
    if not row.value.estimable:
        return "not estimable"
    if math.isnan(adjusted):
        return "note"
    effect = row.value.value if math.isnan(row.effect) else row.effect
    return "alarm" if adjusted <= family and effect >= row.floor else "clear"
