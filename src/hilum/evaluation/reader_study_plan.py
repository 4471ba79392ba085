"""The plan of a reader study: who reads which film when and in which arm, and readings checked against it.

A balanced crossover: each reader reads each film once in the first session and once, after the washout, in the second,
one time with the model and one time without; half of a reader's patients of every class begin without it.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

import numpy as np

from hilum.arrays import Indices
from hilum.errors import ConfigError, DataError, nearest
from hilum.evaluation.intervals import Cohort
from hilum.evaluation.reader_study import ARMS, Readings
from hilum.randomness import stream

Arm = Literal["without", "with"]

READER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
FILM = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/:-]{0,255}")
"""What a film may be called: nothing that a table calculator takes for a formula."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFilm:
    """A film of the study."""

    film_id: str
    """SHA-256 of the file, or the film's id in the records, or another name without a hint of the truth."""
    patient_id: str
    """Pseudonym of the patient."""
    label: str
    """The truth: one of the plan's findings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One reading to be done."""

    film_id: str
    """Which film."""
    arm: Arm
    """Without the model, or with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """A whole study, fixed before the first film is read."""

    finding: str
    """The question: sensitivity and specificity for this one come first."""
    findings: tuple[str, ...]
    """What readers may answer; exclusive."""
    films: tuple[StudyFilm, ...]
    """The films with their truth: not for readers' eyes."""
    readers: tuple[str, ...]
    """Who reads."""
    sessions: dict[str, tuple[tuple[Slot, ...], ...]]
    """By reader the two sessions, each in the order of reading."""
    washout_days: int
    """Least days between a reader's two readings of a film."""
    seed: int
    """Of the draw and of the intervals."""
    schema: int = 1
    """Version of this form."""

    def __post_init__(self) -> None:
        problems = [*_naming(self), *_truth(self)]
        problems = problems or [said for name in self.readers for said in _sessions(self, name)]
        if problems:
            raise ConfigError(problems)


def _naming(plan: StudyPlan) -> list[str]:
    """What is wrong with names and numbers."""
    found = []
    if plan.schema != 1:
        found.append(
            f"The plan has schema {plan.schema}, but this version reads 1. Score it with the one that made it."
        )
    if plan.washout_days < 0 or plan.seed < 0:
        found.append(f"washout_days is {plan.washout_days} and seed {plan.seed}, but neither may be below 0.")
    if not plan.readers or len(set(plan.readers)) < len(plan.readers):
        found.append("A study needs readers, each named once. Give --reader NAME for each of them.")
    found += [
        f"{name!r} is no name of a reader. Use letters, digits, dots and dashes."
        for name in plan.readers
        if not READER.fullmatch(name)
    ]
    bad = [row for row, film in enumerate(plan.films, 1) if not FILM.fullmatch(film.film_id)]
    if bad:
        found.append(f"Film {bad[0]} has no usable film_id. Begin it with a letter or a digit, without commas.")
    first: dict[str, int] = {}
    twice = [row for row, film in enumerate(plan.films, 1) if first.setdefault(film.film_id, row) != row]
    if twice:
        found.append(f"Film {twice[0]} is there already: its film_id occurs twice. Keep one of them.")
    return found


def _truth(plan: StudyPlan) -> list[str]:
    """What is wrong with the question and the films' truth."""
    if plan.finding not in plan.findings:
        return [
            f"The question is {plan.finding!r}, which is none of the findings. {nearest(plan.finding, plan.findings)}"
        ]
    unknown = [row for row, film in enumerate(plan.films, 1) if film.label not in plan.findings]
    if unknown:
        return [f"Film {unknown[0]} has no truth among {', '.join(plan.findings)}. Label it, or leave it out."]
    count = sum(film.label == plan.finding for film in plan.films)
    if 0 < count < len(plan.films):
        return []
    lacking = "with" if count == 0 else "without"
    return [f"The study has no film {lacking} {plan.finding}, so it can't measure both errors. Add some."]


def _sessions(plan: StudyPlan, reader: str) -> list[str]:
    """Whether a reader's two sessions hold every film once each, in opposite arms."""
    arms = [{slot.film_id: slot.arm for slot in session} for session in plan.sessions.get(reader, ())]
    films = {film.film_id for film in plan.films}
    whole = len(arms) == 2 and all(set(one) == films for one in arms)
    once = whole and all(len(session) == len(films) for session in plan.sessions[reader])
    if once and all(arms[0][film] != arms[1][film] for film in films):
        return []
    return [f"The sessions of reader {reader} don't hold every film once each way. Make the plan again with create."]


def make_plan(
    films: Sequence[StudyFilm], readers: Sequence[str], *, finding: str, findings: Sequence[str], washout_days: int,
    seed: int,
) -> StudyPlan:  # fmt: skip
    """Draw a balanced crossover.

    Patients are shuffled within their class and dealt in turn to the two orders, beginning at another one for every
    second reader; a patient's films share an order, so that no session shows one of them in each arm. Each session has
    its own random order of films.

    Args:
        films: with their truth.
        readers: who reads.
        finding: the question.
        findings: what readers may answer.
        washout_days: least days between the two readings.
        seed: of the draw.

    Raises:
        ConfigError: what :class:`StudyPlan` refuses.
    """
    begin = (
        _deal(films, findings, seed) if films and all(film.label in findings for film in films) else [0] * len(films)
    )
    sessions = {}
    for number, reader in enumerate(readers):
        both = []
        for session in range(2):
            order = stream(seed, "reader-study", reader, session).permutation(len(films))
            arms: list[Arm] = [ARMS[(begin[i] + number + session) % 2] for i in order]  # type: ignore[misc]
            both.append(tuple(Slot(film_id=films[i].film_id, arm=arm) for i, arm in zip(order, arms, strict=True)))
        sessions[reader] = tuple(both)
    return StudyPlan(
        finding=finding, findings=tuple(findings), films=tuple(films), readers=tuple(readers), sessions=sessions,
        washout_days=washout_days, seed=seed,
    )  # fmt: skip


def _deal(films: Sequence[StudyFilm], findings: Sequence[str], seed: int) -> list[int]:
    """0 or 1 for each film: which arm the first reader begins with; equal within a patient, balanced within a class."""
    classes = np.array([findings.index(film.label) for film in films], dtype=np.int64)
    cohort = Cohort.of([film.patient_id for film in films], classes)
    rng, dealt, turn = stream(seed, "reader-study", "deal"), np.zeros(cohort.patients, dtype=np.int64), 0
    for stratum in np.unique(cohort.stratum):
        members = rng.permutation(np.flatnonzero(cohort.stratum == stratum))
        dealt[members] = (np.arange(len(members)) + turn) % 2
        turn += len(members)  # an odd class is evened out by the next one
    return [int(one) for one in dealt[cohort.patient]]


def draw_films(films: Sequence[StudyFilm], each: int, seed: int) -> tuple[StudyFilm, ...]:
    """Films drawn at random: as many of every label, and one a patient.

    Raises:
        DataError: a label has fewer patients.
    """
    left = Counter({film.label: each for film in films})
    taken, patients = [], set()
    for i in stream(seed, "reader-study", "films").permutation(len(films)):
        film = films[i]
        if left[film.label] and film.patient_id not in patients:
            left[film.label] -= 1
            patients.add(film.patient_id)
            taken.append(i)
    short = [label for label, missing in left.items() if missing]
    if short:
        raise DataError(f"There are fewer than {each} patients with {min(short)}. Ask for fewer films with --each.")
    return tuple(films[i] for i in sorted(taken))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one reader said of one film in one arm."""

    reader: str
    """Who."""
    film_id: str
    """Of which film."""
    arm: str
    """``without`` or ``with``."""
    finding: str
    """What."""
    rating: float | None = None
    """How sure the reader is of the question, 0 to 100; None where it was not asked for."""
    read_at: date | None = None
    """When, where it is known."""
    where: str = "The readings"
    """Row and file, for messages."""


def match(plan: StudyPlan, readings: Iterable[Reading]) -> Readings:
    """The readings as arrays.

    Raises:
        DataError: a film, reader, arm or finding that is not the plan's, a reading twice, or one that is missing.
    """
    films = {film.film_id: i for i, film in enumerate(plan.films)}
    known = (("reader", plan.readers), ("arm", ARMS), ("finding", plan.findings))
    calls = np.full((len(plan.readers), len(ARMS), len(films)), -1, dtype=np.int64)
    ratings = np.full(calls.shape, np.nan)
    for one in readings:
        if one.film_id not in films:
            raise DataError(f"{one.where}: the film is none of the study's. Leave the reading out, or mend film_id.")
        for name, allowed in known:
            value = getattr(one, name)
            if value not in allowed:
                raise DataError(f"{one.where}: {name} is {value!r}. {nearest(value, allowed)}")
        at = plan.readers.index(one.reader), ARMS.index(one.arm), films[one.film_id]
        if calls[at] >= 0:
            raise DataError(
                f"{one.where}: {one.reader} has read this film {one.arm} the model already. Keep one of the two."
            )
        calls[at] = plan.findings.index(one.finding)
        ratings[at] = np.nan if one.rating is None else one.rating
    _all_there(plan, calls)
    return Readings(
        findings=plan.findings,
        readers=plan.readers,
        patient_ids=tuple(film.patient_id for film in plan.films),
        truth=np.array([plan.findings.index(film.label) for film in plan.films], dtype=np.int64),
        calls=calls,
        ratings=None if np.isnan(ratings).any() else ratings,
    )


def of_films(plan: StudyPlan, there: Collection[str]) -> StudyPlan:
    """The plan of some of its films alone: those that the records still hold.

    Raises:
        ConfigError: too few are left to ask the question.
    """
    sessions = {
        reader: tuple(tuple(slot for slot in session if slot.film_id in there) for session in both)
        for reader, both in plan.sessions.items()
    }
    return replace(plan, films=tuple(film for film in plan.films if film.film_id in there), sessions=sessions)


def _all_there(plan: StudyPlan, calls: Indices) -> None:
    missing = (calls < 0).sum(axis=2)
    if missing.any():
        reader, arm = np.argwhere(missing)[0]
        raise DataError(
            f"Reader {plan.readers[reader]} has {missing[reader, arm]} of {len(plan.films)} films not read {ARMS[arm]} "
            "the model. Add these readings; a study with holes isn't scored."
        )


def washout_note(plan: StudyPlan, readings: Iterable[Reading]) -> str:
    """One sentence on whether the washout was kept."""
    days: dict[tuple[str, str], list[date]] = {}
    for one in readings:
        if one.read_at is not None:
            days.setdefault((one.reader, one.film_id), []).append(one.read_at)
    gaps = [abs((both[1] - both[0]).days) for both in days.values() if len(both) == 2]
    pairs = len(plan.films) * len(plan.readers)
    if not gaps:
        return f"The readings have no dates (read_at), so the washout of {plan.washout_days} days is not checked."
    short = sum(gap < plan.washout_days for gap in gaps)
    return (
        f"{short} of {len(gaps)} pairs of readings with dates lie less than {plan.washout_days} days apart"
        f"{'' if len(gaps) == pairs else f'; {pairs - len(gaps)} pairs have no dates'}."
    )
