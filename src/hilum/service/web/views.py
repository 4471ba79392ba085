"""What a page shows of a film, as plain words and numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hilum.records.priors import Prior
from hilum.records.reviews import REASONS, Review
from hilum.records.values import WAITING, FilmRecord
from hilum.service.web.phrases import (
    DECISION_WORDS,
    STATE_WORDS,
    came,
    door_words,
    how_long_before,
    percent,
    probability_phrase,
    waited,
)

BAR_WIDTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One finding's probability, drawn."""

    finding: str
    """Its name."""
    probability: float
    """Calibrated, 0 … 1."""
    words: str
    """In per cent."""
    spread: str
    """``± 4 %``, or empty when the model gives none."""
    fill: float
    """Length of the bar, 0 … :data:`BAR_WIDTH`."""
    low: float
    """Start of the whisker."""
    high: float
    """End of the whisker."""
    positive: bool
    """True when it reaches its operating point."""
    threshold: str
    """Its operating point in per cent; empty when there is none."""
    mark: float
    """Where the operating point lies on the bar; -1 when there is none."""
    heatmap: str
    """Address of its heat map's layer; empty when there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmView:
    """A film on a page."""

    film_id: str
    """Opaque id."""
    short_id: str
    """Its first eight digits: enough to speak of it."""
    accession: str
    """Accession number; empty when not recorded."""
    received: datetime
    """When it came."""
    came: str
    """The same for people: the time, with its date where it is a day ago."""
    waited: str
    """How long ago, coarsely; empty where the date says it."""
    door: str
    """Which way it came, in words."""
    state: str
    """Machine word."""
    state_words: str
    """The same for people."""
    waiting: bool
    """True while an answer is to come."""
    finding: str
    """What the model says; empty when nothing."""
    phrase: str
    """How sure, in words."""
    risk: float | None
    """Probability of anything but normal."""
    risk_words: str
    """The same in per cent."""
    risk_fill: float
    """Length of the risk bar, 0 … :data:`BAR_WIDTH`."""
    uncertainty: str
    """Spread of the finding's probability; empty when there is none."""
    abstained: bool
    """True when the film goes to a person without a label."""
    reason: str
    """Why there is no answer; empty otherwise."""
    reasons: tuple[str, ...]
    """Why the model abstained."""
    bars: tuple[Bar, ...]
    """One a finding, most probable first."""
    shown: str
    """Finding whose heat map is shown first."""
    checks: tuple[Mapping[str, Any], ...]
    """The gate's checks: code, outcome, sentence."""
    provenance: tuple[tuple[str, str], ...]
    """Name and value."""


def film_view(
    film: FilmRecord, *, now: datetime, accession: str = "", thresholds: Mapping[str, float] | None = None
) -> FilmView:
    """A film as a page shows it; ``thresholds`` are the operating points of the model in service."""
    answer = film.answer
    said = answer.assessment if answer else {}
    bars = _bars(film, said, thresholds or {})
    label = answer.label if answer else None
    top = next((bar for bar in bars if bar.finding == label), None)
    abnormal = next((bar.finding for bar in bars if bar.finding != "normal"), "")
    risk = answer.risk if answer else None
    return FilmView(
        film_id=film.film_id,
        short_id=film.film_id[:8],
        accession=accession,
        received=film.received_at,
        came=came(film.received_at, now),
        waited=waited(film.received_at, now),
        door=door_words(film.origin, film.calling_ae),
        state=film.state,
        state_words=STATE_WORDS[film.state],
        waiting=film.state in WAITING,
        finding=label or "",
        phrase=probability_phrase(top.probability) if top else "",
        risk=risk,
        risk_words="" if risk is None else percent(risk),
        risk_fill=0 if risk is None else BAR_WIDTH * risk,
        uncertainty=top.spread if top else "",
        abstained=bool(answer and answer.abstained),
        reason=film.reason,
        reasons=tuple(said.get("reasons", ())),
        bars=bars,
        shown=label if label and label != "normal" else abnormal,
        checks=tuple(said.get("gate", {}).get("checks", ())),
        provenance=_provenance(said),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewView:
    """A reader's opinion on a page."""

    reader: str
    """Whose."""
    words: str
    """What it is, such as ``overrode: normal``."""
    reason: str
    """Why; empty when none was given."""
    comment: str
    """In the reader's own words."""
    at: datetime
    """When (UTC)."""


def review_view(review: Review) -> ReviewView:
    """A review as a page shows it."""
    words = DECISION_WORDS.get(review.decision, review.decision)
    return ReviewView(
        reader=review.reader,
        words=f"{words}: {review.finding}" if review.finding else words,
        reason=REASONS.get(review.noted.reason_code, ""),
        comment=review.comment,
        at=review.created_at,
    )


def prior_words(prior: Prior | None, *, blinded: bool = False) -> str:
    """What stands over an earlier film: when it was taken, and how long before the other one.

    Args:
        prior: the earlier film; None for none.
        blinded: without the day itself, which may tell whose film it is.
    """
    if prior is None:
        return ""
    if prior.study_date is None:
        return "Prior, study date not recorded" + ("" if blinded else f", received {prior.received_at:%Y-%m-%d}")
    interval = "" if prior.later_date is None else how_long_before(prior.study_date, prior.later_date)
    day = "" if blinded else f"{prior.study_date:%Y-%m-%d}"
    return ", ".join(one for one in (f"Prior {day}".strip(), interval) if one)


def _bars(film: FilmRecord, said: Mapping[str, Any], thresholds: Mapping[str, float]) -> tuple[Bar, ...]:
    probabilities = said.get("probs") or {}
    spreads = said.get("uncertainty", {}).get("mc_std") or {}
    positive = said.get("positive", ())
    heatmaps = film.answer.findings if film.answer else ()
    bars = []
    for finding, p in sorted(probabilities.items(), key=lambda item: -item[1]):
        spread = spreads.get(finding)
        reach = spread or 0.0
        bars.append(
            Bar(
                finding=finding,
                probability=p,
                words=percent(p),
                spread="" if spread is None else f"± {100 * spread:.0f} %" if spread >= 0.005 else "± < 1 %",
                fill=round(BAR_WIDTH * p, 1),
                low=round(BAR_WIDTH * max(0.0, p - reach), 1),
                high=round(BAR_WIDTH * min(1.0, p + reach), 1),
                positive=finding in positive,
                threshold=percent(thresholds[finding]) if finding in thresholds else "",
                mark=round(BAR_WIDTH * thresholds[finding], 1) if finding in thresholds else -1.0,
                heatmap=f"/api/v1/studies/{film.film_id}/heatmap/{finding}.png" if finding in heatmaps else "",
            )
        )
    return tuple(bars)


def _provenance(said: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name.replace("_", " "), str(value)) for name, value in (said.get("provenance") or {}).items())
