"""The plan of a reader study: balanced, repeatable, and readings that don't fit it are refused in one sentence."""

from collections import Counter
from dataclasses import replace
from datetime import date

import pytest

from hilum.config import from_mapping, to_mapping
from hilum.errors import ConfigError, DataError
from hilum.evaluation.reader_study_plan import (
    Reading,
    StudyFilm,
    StudyPlan,
    draw_films,
    make_plan,
    match,
    washout_note,
)

FINDINGS = ("normal", "pneumonia", "covid-19")
READERS = ("ada", "bob", "cyd")
FILMS = tuple(StudyFilm(film_id=f"f{i}", patient_id=f"p{i // 2}", label=FINDINGS[i // 2 % 3]) for i in range(42))


def plan(films: tuple[StudyFilm, ...] = FILMS, readers: tuple[str, ...] = READERS, **more: object) -> StudyPlan:
    settings = {"finding": "pneumonia", "findings": FINDINGS, "washout_days": 28, "seed": 3} | more
    return make_plan(films, readers, **settings)  # type: ignore[arg-type]


def readings(made: StudyPlan) -> list[Reading]:
    """Everybody always right."""
    truth = {film.film_id: film.label for film in made.films}
    return [
        Reading(reader=reader, film_id=slot.film_id, arm=slot.arm, finding=truth[slot.film_id])
        for reader, sessions in made.sessions.items()
        for session in sessions
        for slot in session
    ]


def test_every_reader_reads_every_film_once_each_way() -> None:
    made = plan()
    for reader in READERS:
        first, second = ({slot.film_id: slot.arm for slot in session} for session in made.sessions[reader])
        assert set(first) == set(second) == {film.film_id for film in FILMS}
        assert all(first[film] != second[film] for film in first)


def test_orders_are_balanced_within_class_reader_and_film_and_equal_within_a_patient() -> None:
    made, films = plan(), {film.film_id: film for film in FILMS}
    begun: Counter[str] = Counter()
    for reader in READERS:
        without = [films[slot.film_id] for slot in made.sessions[reader][0] if slot.arm == "without"]
        begun.update(film.film_id for film in without)
        assert set(Counter(film.patient_id for film in without).values()) == {2}
        by_class = Counter(film.label for film in without)
        assert all(abs(2 * by_class[name] - 14) <= 2 for name in FINDINGS)
        assert abs(2 * len(without) - len(FILMS)) <= 2
    assert {begun.get(film.film_id, 0) for film in FILMS} == {1, 2}


def test_a_plan_is_repeated_by_its_seed_and_comes_back_from_json() -> None:
    assert plan() == plan()
    assert plan(seed=4).sessions != plan().sessions
    orders = [[slot.film_id for slot in session] for one in plan().sessions.values() for session in one]
    assert len({tuple(order) for order in orders}) == 6
    assert from_mapping(StudyPlan, to_mapping(plan()), where="plan") == plan()


def test_films_are_drawn_evenly_and_one_a_patient() -> None:
    drawn = draw_films(FILMS, 5, 0)
    assert Counter(film.label for film in drawn) == dict.fromkeys(FINDINGS, 5)
    assert len({film.patient_id for film in drawn}) == 15
    with pytest.raises(DataError, match=r"There are fewer than 8 patients with covid-19"):
        draw_films(FILMS, 8, 0)


def test_readings_become_arrays() -> None:
    found = match(plan(), readings(plan()))
    assert found.calls.shape == (3, 2, 42)
    assert (found.calls == found.truth).all()
    assert found.patient_ids[:3] == ("p0", "p0", "p1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"film_id": "f99"}, r"Row 5: the film is none of the study's"),
        ({"reader": "abe"}, r"Row 5: reader is 'abe'.*ada"),
        ({"arm": "both"}, r"Row 5: arm is 'both'"),
        ({"finding": "covid"}, r"Row 5: finding is 'covid'.*covid-19"),
        ({"finding": ""}, r"Row 5: finding is ''"),
    ],
)
def test_readings_that_are_not_the_plans_are_refused(change: dict[str, str], message: str) -> None:
    said = readings(plan())
    with pytest.raises(DataError, match=message):
        match(plan(), [replace(said[0], where="Row 5", **change), *said[1:]])  # type: ignore[arg-type]


def test_a_reading_twice_or_missing_is_refused() -> None:
    said = readings(plan())
    with pytest.raises(DataError, match=rf"{said[0].reader} has read this film {said[0].arm} the model already"):
        match(plan(), [*said, said[0]])
    unaided = [one for one in said if (one.reader, one.arm) != ("bob", "with")]
    with pytest.raises(DataError, match=r"Reader bob has 42 of 42 films not read with the model"):
        match(plan(), unaided)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"films": (*FILMS, FILMS[0])}, r"Film 43 is there already"),
        ({"films": (replace(FILMS[0], film_id="=1+1"), *FILMS[1:])}, r"Film 1 has no usable film_id"),
        ({"films": (*FILMS[:-1], replace(FILMS[-1], label=""))}, r"Film 42 has no truth among normal, pneumonia"),
        ({"films": FILMS[:2]}, r"no film with pneumonia"),
        ({"films": FILMS[2:4]}, r"no film without pneumonia"),
        ({"films": ()}, r"no film with pneumonia"),
        ({"finding": "pneumonias"}, r"The question is 'pneumonias'"),
        ({"readers": ()}, r"A study needs readers"),
        ({"readers": ("ada", "ada")}, r"A study needs readers, each named once"),
        ({"readers": ("ada b",)}, r"'ada b' is no name of a reader"),
        ({"washout_days": -1}, r"washout_days is -1"),
    ],
)
def test_a_plan_that_measures_nothing_is_refused(more: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(**more)  # type: ignore[arg-type]


def test_a_plan_that_was_changed_is_refused() -> None:
    made = plan()
    first, second = made.sessions["ada"]
    for sessions in ((first, first), (first,), (first, (*second[1:], second[1]))):
        with pytest.raises(ConfigError, match=r"The sessions of reader ada don't hold every film once each way"):
            replace(made, sessions=made.sessions | {"ada": sessions})
    with pytest.raises(ConfigError, match=r"schema 2, but this version reads 1"):
        replace(made, schema=2)


def test_the_washout_is_checked_where_dates_are_known() -> None:
    made = plan(readers=("ada",))
    said = readings(made)
    assert "have no dates" in washout_note(made, said)
    later = [replace(one, read_at=date(2026, 1, 1 if i < 42 else 20)) for i, one in enumerate(said)]
    assert washout_note(made, later) == "42 of 42 pairs of readings with dates lie less than 28 days apart."
    half = [replace(one, read_at=None) if one.film_id < "f2" else one for one in later]
    assert "pairs have no dates" in washout_note(made, half)
