"""Reader studies in the records: film by film in each reader's order, no way back, a wash-out, and who sees what."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.records.test_store import Clock, answered

from hilum.errors import UsageError
from hilum.records.access import Access
from hilum.records.audit import entries
from hilum.records.creations import Request
from hilum.records.database import Database
from hilum.records.erasure import Eraser
from hilum.records.reviews import Conflict
from hilum.records.store import Store
from hilum.records.study_reading import ReaderStudies
from hilum.records.study_values import Protocol, Said, StudySlot
from hilum.records.worklist import Wanted, Worklist

DAY = 86_400


class Set:
    """Two films in a study of ada and bob, crossed over."""

    def __init__(self, database: Database) -> None:
        self.clock, self.database = Clock(), database
        store, access = Store(self.database, self.clock), Access(self.database, self.clock)
        self.films = [answered(store, name) for name in "ab"]
        for name, role in (("ada", "reviewer"), ("bob", "reviewer"), ("viv", "viewer")):
            access.add_user(name, [role], password=None, actor="test")
        self.studies = ReaderStudies(self.database, self.clock)

    def create(self, readers: tuple[str, ...] = ("ada", "bob"), **changes: Any) -> None:
        values: dict[str, Any] = {
            "name": "chest-1", "plan_sha256": "9" * 64, "question": "pneumonia", "findings": ("normal", "pneumonia"),
            "answer": "start", "priors": False, "washout_days": 28,
        }  # fmt: skip
        slot = StudySlot
        first = [slot(film="a" * 64, arm="without"), slot(film=self.films[1], arm="with")]
        second = [slot(film=self.films[1], arm="without"), slot(film="a" * 64, arm="with")]
        both = {name: [first, second] for name in readers}
        self.studies.create(Protocol(**{**values, **changes}), both, actor="mel")

    def say(self, session: int, position: int, stage: Any = "final", reader: str = "ada", **more: Any) -> Any:
        said = {"finding": "pneumonia", "rating": 80, **more}
        return self.studies.say("chest-1", reader, Said(session=session, position=position, stage=stage, **said))

    def covered(self, reader: str = "ada") -> list[str]:
        return [
            name
            for name, film in zip("ab", self.films, strict=True)
            if film in self.studies.sight(self.films, reader)[0]
        ]


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Set]:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield Set(database)
    database.close()


def test_a_reader_goes_from_film_to_film_and_waits_for_the_wash_out(both: Set) -> None:
    both.create()
    place = both.studies.at("chest-1", "ada")
    assert place is not None
    assert (place.film_id, place.arm, place.stage, place.reveals) == (both.films[0], "without", "final", False)
    assert both.covered() == ["a", "b"]
    place = both.say(1, 1, seconds=4.5, shown={"zoom": 1})
    assert (place.film_id, place.arm, place.reveals, both.covered()) == (both.films[1], "with", True, ["a"])
    assert both.covered("bob") == ["a", "b"], "another reader's place is another's"
    place = both.say(1, 2)
    assert (place.session, place.film_id, place.done, place.reveals) == (2, "", (2, 0), False)
    assert both.covered() == ["a", "b"]
    both.clock.pass_(28 * DAY - 1)
    with pytest.raises(UsageError, match=r"Session 2 opens on 2026-01-29 \d\d:\d\d UTC: 28 days must lie between"):
        both.say(2, 1)
    both.clock.pass_(1)
    assert both.say(2, 1).reveals
    place = both.say(2, 2)
    assert (place.finished, place.done, place.films, both.covered()) == (True, (2, 2), (2, 2), [])
    with pytest.raises(Conflict, match="not the present one"):
        both.say(2, 2)


def test_nothing_is_said_twice_nor_out_of_order_nor_by_others(both: Set) -> None:
    both.create(("ada",))
    both.say(1, 1)
    for wrong in ((1, 1), (2, 1)):
        with pytest.raises(Conflict, match="an opinion that is recorded is not changed"):
            both.say(*wrong)
    with pytest.raises(Conflict):
        both.say(1, 2, "first")
    for more, words in (({"finding": "mass"}, "'mass' is no finding of the study"), ({"rating": 101}, "is 101, but")):
        with pytest.raises(UsageError, match=words):
            both.say(1, 2, **more)
    with pytest.raises(UsageError, match="You don't read in this study"):
        both.say(1, 1, reader="bob")
    assert both.studies.of("bob") == ()


def test_where_the_protocol_asks_for_it_a_first_opinion_comes_before_the_answer(both: Set) -> None:
    both.create(answer="after")
    assert both.say(1, 1).stage == "first"
    assert both.covered() == ["a", "b"]
    place = both.say(1, 2, "first", finding="normal")
    assert (place.film_id, place.stage, place.reveals, both.covered()) == (both.films[1], "final", True, ["a"])
    assert both.say(1, 2).session == 2
    with both.database.read() as session:
        said = [row.body for row in entries(session) if row.act == "reader-study.read"]
    assert [('"model":null' in row, '"stage":"first"' in row) for row in said] == [
        (True, False), (True, True), (False, False),
    ]  # fmt: skip


def test_what_is_registered_is_checked_and_registered_once(both: Set) -> None:
    for changes, words in (
        ({"readers": ("viv",)}, "'viv' is no user who may review"),
        ({"readers": ("eve",)}, "'eve' is no user"),
        ({"question": "mass"}, "'mass' is none of the findings"),
    ):
        with pytest.raises(UsageError, match=words):
            both.create(**changes)
    slot, protocol = (
        StudySlot(film="c" * 64, arm="with"),
        Protocol(
            name="x",
            plan_sha256="9" * 64,
            question="a",
            findings=("a", "b"),
            answer="start",
            priors=False,
            washout_days=0,
        ),
    )
    with pytest.raises(UsageError, match=r"1 of 1 films are not in the records, such as 'ccc"):
        both.studies.create(protocol, {"ada": [[slot]]}, actor="mel")
    twice = StudySlot(film="a" * 64, arm="with")
    with pytest.raises(UsageError, match="hold a film twice in the same arm"):
        both.studies.create(protocol, {"ada": [[twice], [twice]]}, actor="mel")
    assert both.studies.all() == ()
    request = Request(key_sha256="1" * 64, request_sha256="2" * 64)
    for _ in range(2):
        made = both.studies.create(protocol, {"ada": [[twice]]}, actor="mel", request=request)
        assert list(made.readers) == ["ada"]
    with pytest.raises(UsageError, match="reads some of these films in another open study"):
        both.create()
    both.studies.close("x", actor="mel")
    both.create()
    assert [one.protocol.name for one in both.studies.all()] == ["chest-1", "x"]
    with pytest.raises(UsageError, match="already"):
        both.create()


def test_a_closed_study_covers_nothing_and_takes_nothing(both: Set) -> None:
    both.create()
    assert both.studies.reads("ada")
    both.studies.close("chest-1", actor="mel")
    assert not both.studies.reads("ada")
    assert both.covered() == []
    with pytest.raises(UsageError, match="no open reader study"):
        both.say(1, 1)
    with both.database.read() as session:
        assert [row.act for row in entries(session)][-2:] == ["reader-study.created", "reader-study.closed"]


def test_the_worklist_leaves_out_what_is_to_be_read_in_a_study(both: Set) -> None:
    """Its order is by the model's risk, which is part of the answer."""
    both.create(("ada",))
    worklist = Worklist(both.database, waiting_cap=timedelta(hours=1), clock=both.clock)
    assert worklist.lines(Wanted(), reader="ada").total == 0
    assert worklist.following(None, reader="ada") is None
    assert worklist.lines(Wanted(), reader="bob").total == 2


def test_an_erased_film_leaves_its_study(both: Set) -> None:
    both.create()
    both.say(1, 1)
    Eraser(both.database, both.clock).erase([both.films[0]], actor="mel", by="patient", value="p")
    place = both.studies.at("chest-1", "ada")
    assert place is not None
    assert (place.films, place.done, place.film_id) == ((1, 1), (0, 0), both.films[1])
