"""Selection: each film is drawn with the probability that is kept, and estimates weighted by it are unbiased."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import insert
from sqlalchemy import select as query
from tests.monitoring.filling import fill, said

from hilum.change.overrides import overrides
from hilum.errors import DataError, UsageError
from hilum.evaluation.selection import SHARES, distance_to_labelled, inclusion, select, uncertainty
from hilum.monitoring.simulation import Site, simulate
from hilum.records.database import Database
from hilum.records.schema import AnswerRow, ReviewRow
from hilum.records.unread import unread


def parts(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(seed)
    return {name: chance.gamma(0.5, size=n) for name in ("uncertain", "diverse", "disagreement")}


def test_films_are_drawn_with_the_probabilities_that_are_kept() -> None:
    given, counts, runs = parts(60), np.zeros(60), 3000
    chance = np.random.default_rng(1)
    for _ in range(runs):
        drawn = select(12, chance, **given)
        assert len(set(drawn.rows.tolist())) == 12
        counts[drawn.rows] += 1
    error = np.sqrt(drawn.probability * (1 - drawn.probability) / runs)
    assert drawn.probability.sum() == pytest.approx(12)
    assert np.all(np.abs(counts / runs - drawn.probability) <= 4.5 * error + 1e-9)


def test_the_mixture_has_its_shares() -> None:
    zero = np.zeros(100)
    one = np.eye(100)
    drawn = select(1, np.random.default_rng(0), uncertain=one[0], diverse=one[1], disagreement=one[2])
    assert drawn.probability[:4] == pytest.approx([0.304, 0.204, 0.104, 0.004])
    assert sum(SHARES.values()) == pytest.approx(1)
    alike = select(1, np.random.default_rng(0), uncertain=zero, diverse=zero, disagreement=zero)
    assert alike.probability == pytest.approx(np.full(100, 0.01))


def test_weighting_by_the_kept_probabilities_is_unbiased() -> None:
    given, chance = parts(400, 2), np.random.default_rng(3)
    value = given["uncertain"]  # what was drawn on purpose is what would mislead
    found, naive = [], []
    for _ in range(400):
        drawn = select(50, chance, **given)
        weights = 1 / drawn.probability[drawn.rows]
        found.append((value[drawn.rows] * weights).sum() / 400)
        naive.append(value[drawn.rows].mean())
    assert np.mean(found) == pytest.approx(value.mean(), abs=4 * np.std(found) / 20)
    assert np.mean(naive) > 1.3 * value.mean()


def test_no_film_is_more_than_certain() -> None:
    found = inclusion(np.array([0.9, 0.05, 0.03, 0.02]), 2)
    assert found.tolist() == pytest.approx([1.0, 0.5, 0.3, 0.2])
    assert inclusion(np.full(3, 1 / 3), 3).tolist() == [1.0, 1.0, 1.0]


def test_distance_is_to_the_nearest_labelled_film_in_standard_deviations() -> None:
    features, labelled = np.array([[0.0], [3.0]]), np.array([[0.0], [1.0]])
    spread = np.array([0.0, 3.0, 0.0, 1.0]).std()
    assert distance_to_labelled(features, labelled).tolist() == pytest.approx([0, 2 / spread])
    assert distance_to_labelled(features, np.empty((0, 1))).tolist() == [1, 1]
    assert uncertainty(np.array([[0.5, 0.5], [1.0, 0.0]])).tolist() == pytest.approx([np.log(2), 0], abs=1e-9)


def test_what_can_not_be_drawn_is_said() -> None:
    with pytest.raises(UsageError, match="61 films can't be drawn from 60"):
        select(61, np.random.default_rng(0), **parts(60))
    with pytest.raises(DataError, match="diverse must hold 60 values"):
        select(5, np.random.default_rng(0), **parts(60) | {"diverse": np.full(60, np.nan)})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    fill(database, simulate(Site(films_a_day=20), 3, np.random.default_rng(0)))
    with database.write() as session:
        films = [row.film_id for row in session.scalars(query(AnswerRow)) if row.risk is not None]
        said = (
            '{"findings":["normal","pneumonia","covid-19"],"probs":{"normal":0.6,"pneumonia":0.399,"covid-19":0.001}}'
        )
        for row in session.scalars(query(AnswerRow)):
            row.assessment = said
        rows = [
            (films[0], "ann", "override", "pneumonia"),
            (films[1], "ann", "override", "covid-19"),
            (films[2], "ann", "override", "covid-19"),
            (films[2], "bob", "agree", None),
            (films[3], "ann", "override", "pneumonia"),
            (films[3], "bob", "agree", None),
            (films[3], "eve", "adjudicate", "pneumonia"),
        ]
        values = [
            {
                "id": f"r{i}",
                "film_id": film,
                "model_sha256": "a" * 64,
                "reader": reader,
                "version": 1,
                "decision": decision,
                "finding": finding,
                "comment": "",
                "created_at": datetime.now(UTC),
            }
            for i, (film, reader, decision, finding) in enumerate(rows)
        ]
        session.execute(insert(ReviewRow), values)
    database.close()
    return tmp_path


def test_overrides_that_readers_agree_on_become_labels_and_read_films_are_not_drawn(data: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    first = said("labels", "collect", "--data", data, "--labels", labels)
    assert first["states"] == {"quarantined": 2, "outlier": 1}  # the third is not settled, the fourth is
    assert said("labels", "collect", "--data", data, "--labels", labels)["version"] == 1
    from hilum.change.feedback import read_labels

    one = next(label for label in read_labels(labels).labels if label.state == "quarantined")
    assert said("labels", "accept", one.film_id, "--by", "zoe", "--labels", labels)["states"]["accepted"] == 1
    other = next(label for label in read_labels(labels).labels if label.state == "outlier")
    assert said("labels", "reject", other.film_id, "--by", "eve", "--labels", labels)["version"] == 3
    out = tmp_path / "queue.jsonl"
    drawn = said("labels", "choose", 10, "--data", data, "--out", out)
    assert len(out.read_text().splitlines()) == drawn["films"] == 10
    assert one.film_id not in out.read_text()


def test_a_batch_is_drawn_into_the_queue(data: Path) -> None:
    drawn = said("labels", "draw", 10, "--second", 0.3, "--data", data)
    assert (drawn["films"], drawn["twice"]) == (10, 3)
    rest = said("labels", "choose", 1, "--data", data, "--out", data / "list.jsonl")
    assert rest["of"] == drawn["of"] - 10


def test_nothing_to_choose_is_said(data: Path) -> None:
    from hilum.records.proving import reading

    with reading(f"sqlite:///{data / 'hilum.db'}") as session:
        assert [one.source for one in overrides(session)] == ["ann", "ann", "eve"]
        assert len(unread(session).film_ids) > 20
    database_free = f"sqlite:///{data / 'empty.db'}"
    Database(database_free).close()
    with (
        reading(database_free) as session,
        pytest.raises(DataError, match="Every analysed film has been read or drawn"),
    ):
        unread(session)
