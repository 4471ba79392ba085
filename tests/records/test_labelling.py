"""The labelling queue: drawn with kept probabilities, a reader a film unless two are meant, never after the answer."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import insert, select
from tests.monitoring.filling import fill
from tests.records.test_store import Clock

from hilum.change.feedback import EMPTY, LabelRules, collect
from hilum.change.overrides import labelled, new_labels
from hilum.errors import DataError, UsageError
from hilum.monitoring.simulation import Site, simulate
from hilum.records.audit import check, entries
from hilum.records.cursors import write_cursor
from hilum.records.database import Database
from hilum.records.labelling import BlindLabel, Labelling, agreed_finding
from hilum.records.labelling_batches import LabelBatches
from hilum.records.labelling_schema import LabelTaskRow
from hilum.records.reviews import Conflict
from hilum.records.schema import AnswerRow, FilmRow, ReviewRow
from hilum.records.store import Store

SAID = {"findings": ["normal", "pneumonia", "covid-19"], "probs": {"normal": 0.6, "pneumonia": 0.399, "covid-19": 1e-3}}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield database
    database.close()


def filled(database: Database) -> Database:
    """Records with some sixty answered films that nobody has read."""
    fill(database, simulate(Site(films_a_day=20), 3, np.random.default_rng(0)))
    with database.write() as session:
        for row in session.scalars(select(AnswerRow)):
            row.assessment = json.dumps(SAID)
    return database


@pytest.fixture
def records(database: Database) -> Database:
    return filled(database)


@pytest.fixture
def batches(records: Database, clock: Clock) -> LabelBatches:
    return LabelBatches(records, clock)


@pytest.fixture
def queue(records: Database, clock: Clock) -> Labelling:
    return Labelling(records, clock)


def put(queue: Labelling, reader: str, finding: str | None = "normal", **more: object) -> BlindLabel:
    film = queue.following(reader)
    assert film is not None
    return queue.put(film, reader, finding=finding, **more)  # type: ignore[arg-type]


def test_a_batch_is_drawn_once_with_its_probabilities_and_a_share_that_is_read_twice(
    batches: LabelBatches, records: Database
) -> None:
    batch = batches.draw(10, second=0.25, actor="mel", seed=3)
    assert (batch.films, batch.twice, batch.states) == (10, 3, {"waiting": 10})
    with records.read() as session:
        tasks = list(session.scalars(select(LabelTaskRow)))
        (row,) = [one for one in entries(session) if one.act == "labelling.drawn"]
    assert sorted(one.place for one in tasks) == list(range(10))
    assert sorted(one.readings for one in tasks) == [1] * 7 + [2] * 3
    assert all(0 < one.probability <= 1 for one in tasks)
    assert json.loads(row.body)["detail"] == {"films": 10, "pool": batch.pool, "seed": 3, "twice": 3}
    other = batches.draw(batch.pool - 10, second=0, actor="mel")
    assert other.pool == batch.pool - 10, "what was drawn is not drawn again"
    with pytest.raises(DataError, match="read or drawn"):
        batches.draw(1, second=0, actor="mel")
    assert [one.id for one in batches.all()] in ([batch.id, other.id], [other.id, batch.id])
    with pytest.raises(UsageError, match="share of second readers is 1.5"):
        batches.draw(1, second=1.5, actor="mel")


def test_films_without_a_picture_and_read_ones_are_not_drawn(batches: LabelBatches, records: Database) -> None:
    with records.write() as session:
        films = list(session.scalars(select(FilmRow).where(FilmRow.state == "answered").order_by(FilmRow.id)))
        films[0].file_sha256 = ""
        review = {"id": "r", "film_id": films[1].id, "reader": "ann", "version": 1, "decision": "agree", "comment": ""}
        session.execute(insert(ReviewRow), [review | {"created_at": films[1].received_at}])
    assert batches.draw(5, second=0, actor="mel").pool == len(films) - 2


def test_a_film_is_in_front_of_one_reader_until_the_hold_runs_out(
    queue: Labelling, batches: LabelBatches, clock: Clock
) -> None:
    batches.draw(2, second=0, actor="mel")
    first, second = queue.following("ann"), queue.following("bob")
    assert first != second
    assert queue.following("ann") == first, "the same after the page was loaded again"
    assert queue.following("cyd") is None
    assert (queue.waiting("ann"), queue.waiting("cyd")) == (1, 0)
    with pytest.raises(Conflict, match="Other readers label this film now"):
        queue.put(str(first), "cyd", finding="normal")
    clock.pass_(240)
    assert queue.hold(str(first), "ann")
    clock.pass_(240)
    assert queue.following("cyd") == second, "bob's hold ran out, ann's was renewed"
    assert not queue.hold(str(second), "bob")
    queue.release(str(first), "ann")
    assert queue.following("bob") == first


def test_a_film_that_was_passed_over_comes_last(queue: Labelling, batches: LabelBatches) -> None:
    batches.draw(3, second=0, actor="mel")
    first = str(queue.following("ann"))
    queue.release(first, "ann", passed=True)
    seen = []
    for _ in range(3):
        film = str(queue.following("ann"))
        seen.append(film)
        queue.put(film, "ann", finding="normal")
    assert seen[-1] == first
    assert queue.following("ann") is None


def test_two_readers_label_a_film_at_once_only_where_two_are_meant(queue: Labelling, batches: LabelBatches) -> None:
    batches.draw(1, second=1, actor="mel")
    film = str(queue.following("ann"))
    assert queue.following("bob") == film
    assert queue.following("cyd") is None
    queue.put(film, "ann", finding="normal")
    assert queue.following("cyd") is None, "ann's label and bob's hold are the two"
    queue.put(film, "bob", finding="pneumonia")
    (open_one,) = queue.unsettled(viewer="mel")
    assert (open_one.state, [one.finding for one in open_one.labels]) == ("differ", ["normal", "pneumonia"])
    assert queue.ask_another(film, actor="mel") == 3
    assert queue.unsettled(viewer="mel") == ()
    with pytest.raises(UsageError, match="nothing to settle"):
        queue.ask_another(film, actor="mel")
    assert queue.following("ann") is None, "who has labelled it is no third reader"
    assert put(queue, "cyd", "pneumonia").film_id == film
    assert batches.all()[0].states == {"agreed": 1}


def test_who_can_not_tell_says_why_and_a_film_that_nobody_can_tell_is_shown(
    queue: Labelling, batches: LabelBatches
) -> None:
    batches.draw(1, second=0, actor="mel")
    film = str(queue.following("ann"))
    for finding, reason in ((None, ""), ("normal", "other"), (None, "bored")):
        with pytest.raises(UsageError, match="one of both|is no reason"):
            queue.put(film, "ann", finding=finding, reason_code=reason)
    queue.put(film, "ann", finding=None, reason_code="cut-off", comment="no apices")
    (open_one,) = queue.unsettled(viewer="mel")
    assert (open_one.state, open_one.labels[0].comment) == ("undecided", "no apices")
    assert agreed_finding([None, "normal"]) is None
    assert agreed_finding([None, "normal", "normal"]) == "normal"


def test_a_film_whose_answer_was_opened_is_for_other_readers(
    queue: Labelling, batches: LabelBatches, records: Database
) -> None:
    batches.draw(1, second=0, actor="mel")
    film = str(queue.following("ann"))
    Store(records).film(film, viewer="ann")
    with pytest.raises(UsageError, match="your label would lean on it"):
        queue.put(film, "ann", finding="normal")
    queue.release(film, "ann")
    assert (queue.following("ann"), queue.following("bob")) == (None, film)
    queue.put(film, "bob", finding="normal")
    assert queue.again(film, "bob").version == 1
    Store(records).film(film, viewer="bob")
    with pytest.raises(UsageError, match="your label would lean on it"):
        queue.again(film, "bob")


def test_labels_are_events_and_a_reply_that_was_lost_makes_none_twice(
    queue: Labelling, batches: LabelBatches, records: Database
) -> None:
    batches.draw(1, second=0, actor="mel")
    shown = {"zoom": 1.25, "window": [0, 4095]}
    first = put(queue, "ann", "normal", comment="clear", seconds=12.5, shown=shown)
    assert (first.version, first.seconds, first.shown) == (1, 12.5, shown)
    assert queue.put(first.film_id, "ann", finding="normal", comment="clear") == first
    with pytest.raises(Conflict, match="Version 1 of your label is there, not 0"):
        queue.put(first.film_id, "ann", finding="pneumonia")
    changed = queue.put(first.film_id, "ann", finding="pneumonia", over=1)
    assert changed.version == 2
    with pytest.raises(UsageError, match="not in the labelling queue"):
        queue.put("f" * 32, "ann", finding="normal")
    with pytest.raises(UsageError, match="have not labelled"):
        queue.again(first.film_id, "bob")
    with records.read() as session:
        rows = entries(session)
    told = [json.loads(row.body)["detail"] for row in rows if row.act == "film.labelled"]
    assert [(one["version"], one["finding"]) for one in told] == [(1, "normal"), (2, "pneumonia")]
    assert told[0]["shown"] == {"zoom": "1.25", "window": [0, 4095]}
    assert "clear" not in "".join(row.body for row in rows)
    assert [row.act for row in rows if row.subject == first.film_id] == ["labelling.viewed", *["film.labelled"] * 2]
    assert check(rows).whole


def test_agreed_labels_are_quarantined_with_their_probability_and_settle_nothing_against_an_override(
    queue: Labelling, batches: LabelBatches, records: Database
) -> None:
    batches.draw(3, second=0, actor="mel")
    for finding in ("pneumonia", "covid-19", None):
        put(queue, "ann", finding, reason_code="" if finding else "other")
    with records.write() as session:
        found = labelled(session)
        review = {"id": "r", "reader": "zoe", "version": 1, "decision": "override", "comment": "", "film_id": ""}
        review |= {"created_at": datetime.now(UTC), "finding": "normal", "model_sha256": "a" * 64}
        session.execute(insert(ReviewRow), [review | {"film_id": found[0].film_id}])
        session.flush()
        kept = new_labels(session)
    assert {one.finding for one in found} == {"pneumonia", "covid-19"}
    assert all(one.source == "ann" and one.drawn_with for one in found)
    assert [one.film_id for one in kept] == [found[1].film_id], "two people say two things of the first"
    states = {one.finding: one.state for one in collect(EMPTY, found, LabelRules()).labels}
    assert states == {"pneumonia": "quarantined", "covid-19": "outlier"}


def test_films_without_an_agreement_come_in_pages_and_each_page_is_written_down(
    queue: Labelling, batches: LabelBatches, records: Database, clock: Clock
) -> None:
    for _ in range(2):
        batches.draw(3, second=1, actor="mel")
        clock.pass_(60)
    for reader, finding in (("ann", "normal"), ("bob", "pneumonia")):
        while (film := queue.following(reader)) is not None:
            queue.put(film, reader, finding=finding)
    whole = [one.film_id for one in queue.unsettled(viewer="test")]
    assert len(whole) == 6
    walked: list[str] = []
    cursor: str | None = None
    while True:
        page = queue.unsettled_page(viewer="mel", limit=2, cursor=cursor)
        walked += [one.film_id for one in page.films]
        if (cursor := page.next_cursor) is None:
            break
    assert walked == whole
    with records.read() as session:
        looks = [row.body for row in entries(session) if row.act == "labels.viewed" and row.actor == "mel"]
    assert [[film in body for film in whole].count(True) for body in looks] == [2, 2, 2]
    with pytest.raises(UsageError, match="for this list"):
        queue.unsettled_page(viewer="mel", cursor=write_cursor(clock.now, "a"))


def test_batches_come_in_pages(batches: LabelBatches, clock: Clock) -> None:
    for second in (0, 0, 60, 0):
        clock.pass_(second)
        batches.draw(1, second=0, actor="mel")
    newest = batches.all(limit=2)
    rest = batches.all(cursor=write_cursor(newest[-1].drawn_at, newest[-1].id))
    assert (*newest, *rest) == batches.all()
    assert (len(newest), len(rest)) == (2, 2)
