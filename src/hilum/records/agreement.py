"""How often readers agreed with each model's answers: what can be said of a model in use before labels come."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, exists, func, select
from sqlalchemy.orm import Session, aliased

from hilum.evaluation.intervals import wilson_interval
from hilum.records.reviews import DECIDED
from hilum.records.schema import ReviewRow


@dataclass(frozen=True, slots=True, kw_only=True)
class InUse:
    """What readers decided of one model's answers."""

    model_sha256: str
    """Which."""
    decided: int
    """Readings that ended in an agreement or an override; the last of each reader of each film."""
    agreed: int
    """Of them, agreements."""
    low: float
    """Lower 95 % bound of the share agreed (Wilson, readings as trials), 0 … 1."""
    high: float
    """Upper bound."""
    reasons: tuple[tuple[str, int], ...]
    """Codes of why readers overrode, the most frequent first; those without one are left out."""

    @property
    def share(self) -> float:
        """Share agreed, 0 … 1."""
        return self.agreed / self.decided


def in_use(session: Session, *, since: datetime) -> dict[str, InUse]:
    """What readers decided since an instant, by the model whose answer they judged.

    A reader's last version counts; one that was withdrawn does not. Agreement is no accuracy: a reader who follows the
    model agrees with its errors as well.

    Args:
        session: of a reading transaction.
        since: only decisions from then on.
    """
    later = aliased(ReviewRow)
    same = and_(later.film_id == ReviewRow.film_id, later.reader == ReviewRow.reader, later.version > ReviewRow.version)
    counts: Counter[tuple[str, str, str]] = Counter()
    query = (
        select(ReviewRow.model_sha256, ReviewRow.decision, ReviewRow.reason_code, func.count())
        .where(ReviewRow.created_at >= since, ReviewRow.decision.in_(DECIDED), ~exists().where(same))
        .group_by(ReviewRow.model_sha256, ReviewRow.decision, ReviewRow.reason_code)
    )
    for model, decision, reason, count in session.execute(query):
        counts[model or "", decision, reason] += count
    return {model: _of(model, counts) for model in sorted({key[0] for key in counts})}


def _of(model: str, counts: Counter[tuple[str, str, str]]) -> InUse:
    mine = {key[1:]: count for key, count in counts.items() if key[0] == model}
    decided = sum(mine.values())
    agreed = sum(count for (decision, _), count in mine.items() if decision == "agree")
    reasons = Counter({reason: count for (decision, reason), count in mine.items() if decision != "agree" and reason})
    low, high = wilson_interval(agreed / decided, decided)
    return InUse(
        model_sha256=model, decided=decided, agreed=agreed, low=low, high=high, reasons=tuple(reasons.most_common())
    )
