"""A look: one span of films against one half of the reference, all streams together.

A pair of looks in a row that both find the same stream is an alarm; :class:`hilum.monitoring.plan.WatchPlan` says why
that keeps the budget.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hilum.arrays import Array, Vector
from hilum.errors import DataError
from hilum.evaluation.audits import holm
from hilum.monitoring.plan import DAY_S, WatchPlan
from hilum.monitoring.two_sample import (
    Found,
    compare_classes,
    compare_features,
    compare_numbers,
    compare_shares,
    in_order,
)
from hilum.randomness import stream
from hilum.records.observations import GROUPS, OUTCOMES, STATISTICS, Observations

Kind = Literal["class", "number", "features", "share"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLook:
    """What a look found in one stream."""

    name: str
    """Such as ``device``, ``pixels: mean``, ``score: covid-19``, ``features``, ``abstained``."""
    kind: Kind
    """What is compared."""
    found: Found
    """Effect and p-value."""
    adjusted: float
    """The p-value after Holm's correction over the look's streams; NaN when there is none."""
    floor: float
    """Least effect that matters."""
    fires: bool
    """Significant, and the effect at or above its floor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look."""

    number: int
    """1, 2, 3 …; the half of the reference that it was compared with follows from it."""
    since: float
    """First instant of its span, seconds since 1970."""
    until: float
    """First instant after it."""
    films: int
    """Films in it, one of each patient."""
    reference: int
    """Films of the half that they were compared with."""
    level: float
    """Chance that it finds anything where nothing changed."""
    streams: tuple[StreamLook, ...]
    """Every stream."""

    @property
    def fired(self) -> tuple[str, ...]:
        """Streams that it found something in."""
        return tuple(stream.name for stream in self.streams if stream.fires)


def one_a_patient(films: Observations, plan: WatchPlan) -> Observations:
    """Films that count: a patient's first one after two looks' time without any.

    Films of one patient are alike: a few patients with a film a day would look like a change. So who comes again within
    twice ``look_days`` isn't counted again, in the reference and in looks alike, and two looks in a row share no
    patient. Where patients come back on later days, the first films only say who was there already.
    """
    if not len(films):
        return films
    order = np.lexsort((films.at, films.patient))
    gap = np.diff(films.at[order], prepend=-np.inf)
    gap[np.flatnonzero(np.diff(films.patient[order], prepend=-1))] = np.inf
    pause = 2 * plan.look_days * plan.day_s
    again = np.empty(len(films), dtype=bool)
    again[order] = gap < pause
    if np.any((gap < pause) & (gap > plan.day_s)):
        again |= films.at < films.at[0] + pause
    return films.select(~again) if again.any() else films


def halves(reference: Observations) -> tuple[Observations, Observations]:
    """The reference in two: every other patient by first film, so that both halves cover its whole time."""
    _, first, patient = np.unique(reference.patient, return_index=True, return_inverse=True)
    odd, failed = (np.argsort(np.argsort(first))[patient] % 2).astype(bool), reference.failed_at
    one, other = reference.select(~odd), reference.select(odd)
    return replace(one, failed_at=failed[::2]), replace(other, failed_at=failed[1::2])


def look(reference: Observations, window: Observations, plan: WatchPlan, *, number: int) -> Look:
    """Compare a span with its half of the reference.

    Args:
        reference: the whole reference; the half is taken here.
        window: films of the span.
        plan: how the site is watched.
        number: which look, from 1.

    Raises:
        DataError: the window or the reference is too small.
    """
    reference = one_a_patient(reference, plan)
    half = halves(reference)[number % 2]
    return _look(len(reference), half, numbers_of(half), one_a_patient(window, plan), plan, number)


def _look(
    usual: int,
    half: Observations,
    numbers: Mapping[str, Vector],
    window: Observations,
    plan: WatchPlan,
    number: int,
) -> Look:
    """A look at films that count; ``usual`` is how many the whole reference holds."""
    if len(window) < plan.least_films:
        raise DataError(
            f"The window of look {number} holds {len(window)} films, but {plan.least_films} are needed. "
            "Join it to the next one."
        )
    if usual < plan.least_reference:
        raise DataError(f"The reference holds {usual} films, but {plan.least_reference} are needed. Wait longer.")
    rng = stream(plan.seed, "look", number)
    found = list(compared(half, window, plan, rng, numbers))
    adjusted = holm([one.p_value for _, _, one, _ in found])
    level = plan.look_level
    streams = tuple(
        StreamLook(
            name=name,
            kind=kind,
            found=one,
            adjusted=p,
            floor=floor,
            fires=bool(p <= level and one.effect >= floor),  # NaN fires nothing
        )
        for (name, kind, one, floor), p in zip(found, adjusted, strict=True)
    )
    return Look(
        number=number,
        since=float(window.at[0]),
        until=float(window.at[-1]),
        films=len(window),
        reference=len(half),
        level=level,
        streams=streams,
    )


def numbers_of(films: Observations) -> dict[str, Vector]:
    """Each stream of numbers by name."""
    found = {f"pixels: {name.replace('_', ' ')}": films.statistics[:, i] for i, name in enumerate(STATISTICS)}
    found |= {f"score: {name}": films.scores[:, i] for i, name in enumerate(films.findings)}
    return found | {"time to answer": np.log1p(np.maximum(films.seconds, 0))}


def compared(
    reference: Observations,
    window: Observations,
    plan: WatchPlan,
    rng: np.random.Generator,
    usual: Mapping[str, Vector],
) -> Iterator[tuple[str, Kind, Found, float]]:
    """Each stream with its name, its kind, what was found and its floor; ``usual`` are the reference's numbers."""
    for name in GROUPS:
        a, b = reference.groups[name], window.groups[name]
        k = len(a.levels)
        counts = np.bincount(a.codes, minlength=k), np.bincount(b.codes, minlength=k)
        yield name.replace("_", " "), "class", compare_classes(*counts, rng), plan.share_floor
    for name, values in numbers_of(window).items():
        yield name, "number", compare_numbers(usual[name], values, rng), plan.distance_floor
    if reference.features.shape[1]:
        found = compare_features(reference.features, window.features, rng)
        yield "features", "features", found, plan.features_floor
    for name, a_share, b_share in _shares(reference, window):
        yield name, "share", compare_shares(a_share, b_share), plan.share_floor


def _shares(reference: Observations, window: Observations) -> Iterator[tuple[str, tuple[int, int], tuple[int, int]]]:
    for name, counted in (("abstained", _abstained), ("not analysed", _refused), ("overridden", _overridden)):
        yield name, counted(reference), counted(window)
    if len(window.failed_at):
        yield "failed", _failed(reference), _failed(window)


def _abstained(films: Observations) -> tuple[int, int]:
    analysed = films.outcome != OUTCOMES.index("not-analysed")
    return int((films.outcome == OUTCOMES.index("abstained")).sum()), int(analysed.sum())


def _refused(films: Observations) -> tuple[int, int]:
    return int((films.outcome == OUTCOMES.index("not-analysed")).sum()), len(films)


def _overridden(films: Observations) -> tuple[int, int]:
    return int((films.overridden == 1).sum()), int((films.overridden >= 0).sum())


def _failed(films: Observations) -> tuple[int, int]:
    """Failures in the films' span, of all films in it."""
    inside = (films.failed_at >= films.at[0]) & (films.failed_at <= films.at[-1])
    failed = int(inside.sum())
    return failed, failed + len(films)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A site's time so far: its reference, and every look."""

    reference: Observations
    """What is usual."""
    spans: tuple[Observations, ...]
    """Films of each look."""
    looks: tuple[Look, ...]
    """Looks, oldest first."""
    waiting: int
    """Films since the last look: too few, or their days are not over."""


def watch(films: Observations, plan: WatchPlan, *, now: float) -> Watched:
    """Cut a site's films into the reference and spans, and look at each. Pure: the same films give the same looks.

    Args:
        films: all that was kept, by time.
        plan: how the site is watched.
        now: seconds since 1970; days that are not over are not looked at.

    Raises:
        DataError: no films, films of the future, or times that don't ascend.
    """
    _check_clock(films, now)
    films = one_a_patient(films, plan)
    reference, first = _reference(films, plan)
    spans, waiting = _spans(films, first, plan, now)
    # A half's numbers are put in order once: each look then only merges its own into them.
    parts = [(half, {name: in_order(one) for name, one in numbers_of(half).items()}) for half in halves(reference)]
    looks = tuple(_look(len(reference), *parts[i % 2], span, plan, i) for i, span in enumerate(spans, 1))
    return Watched(reference=reference, spans=tuple(spans), looks=looks, waiting=waiting)


def _check_clock(films: Observations, now: float) -> None:
    if not len(films):
        raise DataError("No answers were kept in this span of time, so there is nothing to look at. Give a longer one.")
    if np.any(np.diff(films.at) < 0):
        row = int(np.argmax(np.diff(films.at) < 0)) + 2
        raise DataError(f"Row {row} was received before the row above it: the clock jumped, or rows aren't in order.")
    if films.at[-1] > now + 3600:
        ahead = (films.at[-1] - now) / DAY_S
        raise DataError(
            f"The last film was received {ahead:.1f} days after now: a clock jumped. Set the clocks right first."
        )


def _reference(films: Observations, plan: WatchPlan) -> tuple[Observations, int]:
    """The films that are usual, and the row that the first look begins at."""
    end = films.at[0] + plan.reference_days * plan.day_s
    first = max(int(np.searchsorted(films.at, end)), min(plan.least_reference, len(films)))
    return films.select(np.arange(first)), first


def _spans(films: Observations, first: int, plan: WatchPlan, now: float) -> tuple[list[Observations], int]:
    spans: list[Observations] = []
    if first >= len(films):
        return spans, 0
    begin, end = first, films.at[first] + plan.look_days * plan.day_s
    while end <= now:
        until = int(np.searchsorted(films.at, end))
        if until - begin >= plan.least_films:
            spans.append(films.select(np.arange(begin, until)))
            begin = until
        end += plan.look_days * plan.day_s
    return spans, len(films) - begin


def persistent(looks: Sequence[Look]) -> tuple[str, ...]:
    """Streams that the last two looks both found something in: an alarm when there is any."""
    if len(looks) < 2:
        return ()
    before = set(looks[-2].fired)
    return tuple(name for name in looks[-1].fired if name in before)


def outcome_shares(films: Observations) -> dict[str, tuple[int, int]]:
    """Abstained, not analysed and overridden, each as (hits, of so many), for a page."""
    return {"abstained": _abstained(films), "not analysed": _refused(films), "overridden": _overridden(films)}


def throughput(spans: Sequence[Observations]) -> Array:
    """Films a day of each span; [n]."""
    days = [max(1.0, (float(span.at[-1]) - float(span.at[0])) / DAY_S) for span in spans]
    return np.array([len(span) / day for span, day in zip(spans, days, strict=True)])
