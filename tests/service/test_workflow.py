"""Films are answered once, retried when it may help, and one bad film does not hold up the others."""

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.service.small import SmallModel, png

from hilum.errors import FilmError
from hilum.records.database import Database
from hilum.records.store import Store
from hilum.records.values import Claim, FilmRecord, NewAnswer, NewFilm
from hilum.service.answering import LINES, Ready
from hilum.service.film_files import FilmFiles
from hilum.service.intake import Intake
from hilum.service.workflow import Workflow


class Bench:
    """Store, intake and workflow around one model."""

    def __init__(self, folder: Path, model: SmallModel, **changes: object) -> None:
        self.database = Database(f"sqlite:///{folder / 'hilum.db'}")
        self.store, self.files = Store(self.database), FilmFiles(folder / "data")
        self.finished: list[str] = []
        values = {"finished": self.finished.append, "backoff_s": 0.01, "lease_s": 60, **changes}
        self.workflow = Workflow(self.store, self.files, model, **values)  # type: ignore[arg-type]
        self.intake = Intake(
            self.files,
            self.store,
            model_sha256=model.model.sha256,
            largest_bytes=1 << 20,
            least_free_bytes=0,
            received=self.workflow.wake,
            offered=self.workflow.offered,
        )

    def send(self, content: bytes) -> str:
        with self.intake.begin() as arrival:
            arrival.write(content)
            return arrival.finish(origin="rest").film_id

    def outcome(self, film_id: str) -> FilmRecord:
        deadline = time.monotonic() + 120
        while True:
            film = self.store.film(film_id)
            assert film is not None
            if film.state not in ("received", "preparing"):
                return film
            assert time.monotonic() < deadline, f"still {film.state}"
            time.sleep(0.01)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(model: SmallModel, **changes: object) -> Bench:
        made.append(Bench(tmp_path, model, **changes))
        return made[-1]

    yield make
    for one in made:
        one.workflow.stop(60)
        one.database.close()


class Moody(SmallModel):
    """Fails in prepare as often as it is told."""

    def __init__(self, error: Exception, times: int) -> None:
        super().__init__()
        self.error, self.left = error, times

    def prepare(self, path: Path) -> Ready:
        if self.left > 0 and len(path.read_bytes()) == len(png(7)):
            self.left -= 1
            raise self.error
        return super().prepare(path)


def test_many_films_are_each_answered_once(bench: Callable[..., Bench]) -> None:
    model = SmallModel()
    one = bench(model)
    ids = [one.send(png(level)) for level in range(10, 22)]
    one.workflow.start()
    films = [one.outcome(film_id) for film_id in ids]
    assert [film.answer.risk for film in films if film.answer] == [pytest.approx(v / 255) for v in range(10, 22)]
    assert sum(model.answered) == 12
    deadline = time.monotonic() + 120  # those of one transaction are told one after another, behind it
    while len(one.finished) < len(ids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(one.finished) == sorted(ids)


def test_a_passing_error_is_tried_again(bench: Callable[..., Bench]) -> None:
    one = bench(Moody(FilmError("Slow.", code="timeout"), 2))
    one.workflow.start()
    film = one.outcome(one.send(png(7)))
    assert (film.state, film.attempts, film.reason_code) == ("answered", 3, "")


@pytest.mark.parametrize(
    ("error", "attempts", "code", "words"),
    [
        (FilmError("Slow.", code="timeout"), 3, "timeout", "Slow."),
        (FilmError("Cut short.", code="truncated"), 1, "truncated", "Cut short."),
        (RuntimeError("Canary^Name"), 3, "internal", "RuntimeError"),
    ],
)
def test_a_poison_film_fails_with_its_reason_and_the_others_go_on(
    bench: Callable[..., Bench], error: Exception, attempts: int, code: str, words: str
) -> None:
    one = bench(Moody(error, 99))
    poison, good = one.send(png(7)), one.send(png(100, 40))
    one.workflow.start()
    film = one.outcome(poison)
    assert (film.state, film.attempts, film.reason_code) == ("failed", attempts, code)
    assert words in film.reason
    assert "Canary" not in film.reason
    assert one.outcome(good).state == "answered"


class Held(SmallModel):
    """Answers only when released."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.release = threading.Semaphore(0), threading.Event()

    def answer(self, films: Sequence[Ready]) -> list[NewAnswer]:
        self.begun.release()
        assert self.release.wait(120)
        return super().answer(films)


def test_a_stop_finishes_what_is_in_work_and_leaves_the_rest_queued(bench: Callable[..., Bench]) -> None:
    model = Held()
    one = bench(model, hands=1)
    one.workflow.start()
    in_work = []
    for number in range(LINES):
        in_work.append(one.send(png(50 + number)))
        assert model.begun.acquire(timeout=120)
    waiting = one.send(png(50 + LINES))
    threading.Timer(0.2, model.release.set).start()
    assert one.workflow.stop(120)
    assert [one.outcome(film_id).state for film_id in in_work] == ["answered"] * LINES
    film = one.store.film(waiting)
    assert film is not None
    assert (film.state, film.attempts) == ("received", 0)


@pytest.fixture
def at_leisure(bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Workers that have asked the records, found no more films, and don't ask again by themselves."""
    monkeypatch.setattr("hilum.service.workflow.POLL_S", 3600.0)
    one = bench(SmallModel())
    one.workflow.start()
    assert one.outcome(one.send(png(1))).state == "answered"
    return one


def test_a_film_that_comes_while_none_waits_is_leased_as_it_is_recorded(
    at_leisure: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = at_leisure

    def claims(*_: object, **__: object) -> None:
        raise AssertionError("the records were asked for a film")

    monkeypatch.setattr(one.store, "claims", claims)
    films = [one.outcome(one.send(png(level))) for level in (2, 3)]
    assert [(film.state, film.attempts) for film in films] == [("answered", 1)] * 2


def test_a_film_on_its_way_to_a_worker_that_stops_is_given_back(at_leisure: Bench) -> None:
    one = at_leisure
    ended: list[bool] = []
    stopper = threading.Thread(target=lambda: ended.append(one.workflow.stop(120)))
    with one.workflow.offered() as place:
        assert place.lease is not None
        stopper.start()
        assert one.workflow._stopping.wait(120)
        with one.workflow.offered() as another:
            assert another.lease is None
        stopper.join(0.5)
        assert stopper.is_alive(), "it gave back its films before the last one was recorded"
        film = NewFilm(content_sha256="b" * 64, file_sha256="b" * 64, size=10, format="png", origin="rest")
        receipt = one.store.receive(film, lease=place.lease)
        place.claim = Claim(film_id=receipt.film_id, file_sha256="b" * 64, attempts=1)
    stopper.join(120)
    kept = one.store.film(receipt.film_id)
    assert kept is not None
    assert (ended, kept.state, kept.attempts) == ([True], "received", 0)


def test_a_hanging_model_is_given_up_on_at_the_stop_and_its_film_is_queued(bench: Callable[..., Bench]) -> None:
    model = Held()
    one = bench(model, hands=1)
    film_id = one.send(png(50))
    one.workflow.start()
    assert model.begun.acquire(timeout=120)
    assert not one.workflow.stop(0.1)
    film = one.store.film(film_id)
    assert film is not None
    assert film.state == "received"
    model.release.set()
    time.sleep(0.2)
    film = one.store.film(film_id)
    assert film is not None
    assert film.answer is None, "its lease was given back: a late answer does not count"


class Thing:
    """What is prepared of a film, as an object that can be watched."""

    def __init__(self, values: object) -> None:
        self.values = values


class Watched(SmallModel):
    """Knows which of the films that it prepared are still held by somebody."""

    def __init__(self) -> None:
        super().__init__()
        self.things: list[weakref.ref[Thing]] = []

    def prepare(self, path: Path) -> Ready:
        ready = super().prepare(path)
        thing = Thing(ready.prepared)
        self.things.append(weakref.ref(thing))
        return replace(ready, prepared=thing)

    def answer(self, films: Sequence[Ready]) -> list[NewAnswer]:
        return super().answer([replace(film, prepared=film.prepared.values) for film in films])


def test_an_answered_film_is_let_go_of_though_no_other_comes(bench: Callable[..., Bench]) -> None:
    """What it holds, such as a model that was exchanged since, would stay in memory."""
    model = Watched()
    one = bench(model)
    one.workflow.start()
    for level in range(60, 60 + 2 * LINES):
        one.outcome(one.send(png(level)))
    deadline = time.monotonic() + 60
    while any(thing() is not None for thing in model.things):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(model.things) == 2 * LINES


def test_a_film_is_put_before_the_model_with_its_sender_rank_and_deadline(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the batcher orders by comes from the film, and how long it may wait from the settings."""
    asked: list[dict[str, object]] = []
    one = bench(SmallModel(), answer_s=40, ageing_cap_s=17)
    submit = one.workflow._batcher.submit

    def noted(item: Ready, **how: object) -> object:
        asked.append(how)
        return submit(item, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(one.workflow._batcher, "submit", noted)
    with one.intake.begin() as arrival:
        arrival.write(png(30))
        film_id = arrival.finish(origin="rest", urgent=True).film_id
    one.workflow.start()
    assert one.outcome(film_id).state == "answered"
    (how,) = asked
    assert how == {"sender": "rest", "urgent": True, "within_s": 40, "alone": False}
    assert one.workflow._batcher._turns._cap == 17
