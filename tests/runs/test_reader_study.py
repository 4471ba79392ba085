"""A reader study on disk, by its verbs: truth to plan and lists, readings or records to a score and a page."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from sqlalchemy import select
from tests.records.test_store import answer, film
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.errors import ConfigError, DataError, UsageError
from hilum.evaluation.reader_study_report import SEQUENTIAL
from hilum.labels import Findings
from hilum.predictions import GROUPS, Predictions
from hilum.records.access import Access
from hilum.records.database import Database
from hilum.records.erasure import Eraser
from hilum.records.proving import reading
from hilum.records.reader_study import sequential_readings
from hilum.records.reviews import Noted, Reviews
from hilum.records.schema import FilmRow
from hilum.records.store import Store, now
from hilum.records.study_reading import ReaderStudies
from hilum.records.study_values import Said
from hilum.records.values import Identity
from hilum.runs.reader_study import read_plan, read_readings, read_truth

FINDINGS = ("normal", "pneumonia", "covid-19")
TRUTH = {f"film-{i}": FINDINGS[i % 3] for i in range(24)}


def run(*words: str | Path) -> Result:
    done = CliRunner().invoke(app, ["reader-study", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("truth") / "truth.csv"
    path.write_text("film_id,label,patient_id\n" + "".join(f"{f},{t},p-{f}\n" for f, t in TRUTH.items()))
    return path


@pytest.fixture(scope="module")
def study(truth: Path) -> Path:
    """The plan of two readers."""
    out = truth.parent / "study"
    run("create", truth, "--reader", "ada", "--reader", "bob", "--finding", "pneumonia", "--out", out)
    return out


def fill(study: Path, out: Path, says: Callable[[str, str, str], str]) -> list[Path]:
    """Reading lists as readers fill them in."""
    paths = []
    for path in sorted((study / "lists").glob("*.csv")):
        with open(path, newline="") as handle:
            rows = list(csv.DictReader(handle))
        for row in rows:
            row["finding"] = says(row["reader"], row["film_id"], row["arm"])
            row["read_at"] = "2026-01-01" if row["session"] == "1" else "2026-02-10"
        paths.append(out / path.name)
        with open(paths[-1], "w", newline="") as handle:
            writer = csv.DictWriter(handle, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return paths


def says(reader: str, film_id: str, arm: str) -> str:
    """Ada misses two pneumonias without the model; both are right otherwise."""
    return "normal" if (reader, arm) == ("ada", "without") and film_id in ("film-1", "film-4") else TRUTH[film_id]


def test_a_study_from_truth_to_its_page(study: Path, tmp_path: Path) -> None:
    filled = fill(study, tmp_path, says)
    done = run("score", study, *(w for path in filled for w in ("--readings", path)), "--out", tmp_path, "--json")
    score = json.loads((tmp_path / "score.json").read_text())
    first = score["findings"][0]
    assert (score["design"], first["finding"], first["films_with"], first["films_without"]) == (
        "crossover", "pneumonia", 8, 16,
    )  # fmt: skip
    ada, bob = first["readers"]
    assert (ada["sensitivity"]["without"]["value"], ada["sensitivity"]["with_model"]["value"]) == (0.75, 1.0)
    assert (ada["sensitivity"]["gained"], ada["sensitivity"]["mcnemar"]) == (2, 0.5)
    assert bob["sensitivity"]["difference"]["value"] == 0
    assert first["pooled"]["sensitivity"]["difference"]["value"] == 0.125
    assert score["agreement"]["with_model"]["value"] == 1
    assert "0 of 48 pairs of readings with dates lie less than 28 days apart." in score["notes"]
    assert "Only pneumonia is the question" in score["notes"][-1]
    page = (tmp_path / "report.html").read_text()
    said = json.loads(done.stdout.splitlines()[-1])["headline"]
    assert said in page
    assert "sensitivity 0.88 → 1.00, difference +0.12" in said
    assert (tmp_path / "differences.png").stat().st_size > 5000


def test_lists_hold_no_truth_and_a_plan_is_not_overwritten(study: Path, truth: Path) -> None:
    text = (study / "lists" / "ada.csv").read_text()
    assert text.splitlines()[0] == "reader,session,position,film_id,arm,finding,read_at"
    assert len(text.splitlines()) == 49
    assert not any(name in text for name in FINDINGS)
    with pytest.raises(UsageError, match=r"is there already, and a plan that readers follow must not change"):
        run("create", truth, "--reader", "ada", "--finding", "pneumonia", "--out", study)


def test_drawn_films_and_further_answers(truth: Path, tmp_path: Path) -> None:
    run(
        "create", truth, "--reader", "ada", "--finding", "pneumonia", "--each", "3", "--also", "mass", "--out",
        tmp_path / "drawn",
    )  # fmt: skip
    plan = read_plan(tmp_path / "drawn" / "plan.json")
    assert (len(plan.films), plan.findings) == (9, ("covid-19", "normal", "pneumonia", "mass"))
    (filled,) = fill(tmp_path / "drawn", tmp_path, says)
    run("score", tmp_path / "drawn", "--readings", filled, "--out", tmp_path / "out")
    score = json.loads((tmp_path / "out" / "score.json").read_text())
    last = score["findings"][-1]["pooled"]["sensitivity"]["difference"]
    assert (last["value"], last["reason"]) == (None, "No film of the study has mass.")
    assert "No film of the study has mass." in (tmp_path / "out" / "report.html").read_text()


def test_truth_of_parquet_and_of_one_part(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"film_id": ["a", "b"], "label": ["normal", None], "patient_id": [None, "p"], "part": ["test", "fit"]}
    pq.write_table(pa.table(columns), tmp_path / "films.parquet")
    (only,) = read_truth(tmp_path / "films.parquet", part="test")
    assert (only.film_id, only.patient_id, only.label) == ("a", "a", "normal")
    assert read_truth(tmp_path / "films.parquet")[1].label == ""
    with pytest.raises(DataError, match=r"has no film of the part 'train'"):
        read_truth(tmp_path / "films.parquet", part="train")


def test_truth_of_predictions_is_their_known_labels(tmp_path: Path) -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    targets = np.array([[0.0, 1.0], [1.0, 0.0], [np.nan, np.nan]])
    Predictions(
        findings=Findings(("normal", "pneumonia")), film_ids=("a", "b", "c"), patient_ids=("p", "p", "q"),
        logits=scores, probs=scores, targets=targets, groups=dict.fromkeys(GROUPS, ("x",) * 3),
    ).write(tmp_path / "predictions.parquet")  # fmt: skip
    found = read_truth(tmp_path / "predictions.parquet")
    assert [(film.film_id, film.patient_id, film.label) for film in found] == [
        ("a", "p", "pneumonia"),
        ("b", "p", "normal"),
    ]


def test_files_that_are_none_are_refused(study: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"bad\.csv can't be read as a table"):
        read_truth(bad)
    bad.write_text("film,label\na,normal\n")
    with pytest.raises(DataError, match=r"has no column film_id; it has film, label"):
        read_truth(bad)
    bad.write_text("reader,film_id,arm,finding,read_at\nada,film-1,with,normal,yesterday\n")
    with pytest.raises(DataError, match=r"Reading 1 of bad\.csv: read_at is 'yesterday'"):
        read_readings([bad])
    for content in ("[]", "{"):
        (tmp_path / "plan.json").write_text(content)
        with pytest.raises(UsageError, match=r"is no plan of a reader study"):
            read_plan(tmp_path)
    values = json.loads((study / "plan.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps(values | {"washout": 3}))
    with pytest.raises(ConfigError, match=r"unknown key 'washout'"):
        read_plan(tmp_path)


def test_readings_come_from_one_place(study: Path) -> None:
    with pytest.raises(UsageError, match=r"Readings come from one place"):
        run("score", study)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Seven films read first by ada, and then reviewed: by film id the truth."""
    data = tmp_path_factory.mktemp("records")
    database = Database(f"sqlite:///{data / 'hilum.db'}")
    store, reviews, known = Store(database), Reviews(database), {}
    for i in range(7):
        film_id = store.receive(film("0123456789abcdef"[i])).film_id
        store.claim("w", lease_s=60, max_attempts=3)
        store.record_answer(film_id, "w", Identity(), answer())
        known[film_id] = answer().label or ""
        opinion = "normal" if i < 3 else known[film_id]
        reviews.put(film_id, "ada", decision="opinion", finding=opinion, comment="", over=0, read_first=True)
        reviews.put(film_id, "ada", decision="agree", finding=None, comment="", over=1)
    wrong = next(iter(known))
    reviews.put(wrong, "ada", decision="withdraw", finding=None, comment="", over=2)
    reviews.put(wrong, "ada", decision="override", finding="normal", comment="", over=3)
    known[wrong] = "normal"
    database.close()
    return data, known


def test_read_first_records_are_scored_as_sequential_reading(
    records: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six films with the finding ada misses two before the answer is uncovered, and none after."""
    monkeypatch.delenv("HILUM_DATABASE_URL", raising=False)
    data, known = records
    label = answer().label
    (tmp_path / "truth.csv").write_text("film_id,label\n" + "".join(f"{f},{t}\n" for f, t in known.items()))
    run("create", tmp_path / "truth.csv", "--reader", "ada", "--finding", label, "--out", tmp_path / "s")
    run("score", tmp_path / "s", "--records", "--data", data, "--out", tmp_path / "out")
    score = json.loads((tmp_path / "out" / "score.json").read_text())
    sensitivity = score["findings"][0]["readers"][0]["sensitivity"]
    assert (score["design"], score["notes"][0]) == ("sequential", SEQUENTIAL)
    assert (sensitivity["without"]["value"], sensitivity["with_model"]["value"]) == (pytest.approx(4 / 6), 1.0)
    assert "not a crossover" in (tmp_path / "out" / "report.html").read_text()


def test_films_in_the_records_are_found_by_their_files_hash_too(records: tuple[Path, dict[str, str]]) -> None:
    data, _ = records
    with reading(f"sqlite:///{data / 'hilum.db'}") as session:
        found = sequential_readings(session, ["ada", "bob"], [film("3").file_sha256])
        assert [(one.reader, one.arm, one.film_id) for one in found] == [
            ("ada", "without", film("3").file_sha256),
            ("ada", "with", film("3").file_sha256),
        ]


def test_an_opinion_beside_the_heat_map_or_after_a_review_is_not_without_the_model(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    store, reviews = Store(database), Reviews(database)
    film_id = store.receive(film("a")).film_id
    store.claim("w", lease_s=60, max_attempts=3)
    store.record_answer(film_id, "w", Identity(), answer())
    seen = Noted(shown={"heat_map": "pneumonia"})
    opinion: dict[str, Any] = {"decision": "opinion", "finding": "normal", "comment": "", "read_first": True}
    reviews.put(film_id, "ada", over=0, noted=seen, **opinion)
    reviews.put(film_id, "bob", decision="agree", finding=None, comment="", over=0)
    reviews.put(film_id, "bob", decision="withdraw", finding=None, comment="", over=1)
    reviews.put(film_id, "bob", over=2, **opinion)
    reviews.put(film_id, "cyd", over=0, noted=Noted(shown={"zoom": 1}), **opinion)
    with database.read() as session:
        found = sequential_readings(session, ["ada", "bob", "cyd"], [film_id])
    database.close()
    assert [(one.reader, one.arm, one.finding) for one in found] == [("cyd", "without", "normal")]


def test_an_opinion_where_no_answer_was_covered_is_not_without_the_model(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    store, reviews = Store(database), Reviews(database)
    film_id = store.receive(film("a")).film_id
    store.claim("w", lease_s=60, max_attempts=3)
    store.record_answer(film_id, "w", Identity(), answer())
    for reader, first in (("ada", False), ("bob", True)):
        reviews.put(film_id, reader, decision="opinion", finding="normal", comment="", over=0, read_first=first)
    with database.read() as session:
        found = sequential_readings(session, ["ada", "bob"], [film_id])
    database.close()
    assert [one.reader for one in found] == ["bob"]


PAGE_FILMS = "0123456789ab"


def page_study(folder: Path, **options: str) -> tuple[Path, Path]:
    """Twelve films, a third of them pneumonia, planned for ada and registered: the plan's folder and the records."""
    data, out = folder / "data", folder / "study"
    data.mkdir()
    database = Database(f"sqlite:///{data / 'hilum.db'}")
    store = Store(database)
    for name in PAGE_FILMS:
        film_id = store.receive(film(name)).film_id
        store.claim("w", lease_s=60, max_attempts=3)
        store.record_answer(film_id, "w", Identity(), answer())
    Access(database).add_user("ada", ["reviewer"], password=None, actor="test")
    database.close()
    rows = "".join(f"{name * 64},{'pneumonia' if i < 6 else 'normal'}\n" for i, name in enumerate(PAGE_FILMS))
    (folder / "truth.csv").write_text("film_id,label\n" + rows)
    words = ["--reader", "ada", "--finding", "pneumonia", "--washout-days", "0", "--name", "chest-1", "--out", out]
    run("create", folder / "truth.csv", *words, *(w for name, value in options.items() for w in (f"--{name}", value)))
    return out, data


def read_all(data: Path) -> list[str]:
    """Ada reads all: without the model two pneumonias look normal to her, with it none; her film ids in order."""
    database = Database(f"sqlite:///{data / 'hilum.db'}")
    studies, seen = ReaderStudies(database), []
    while (place := studies.at("chest-1", "ada")) is not None and not place.finished:
        with database.read() as session:
            name = str(session.scalar(select(FilmRow.file_sha256).where(FilmRow.id == place.film_id)))
        at = PAGE_FILMS.index(name[0])
        ill = at < 6 and not (at < 2 and not place.reveals)
        said = {"finding": "pneumonia" if ill else "normal", "rating": 90 - at if ill else 5 + at}
        studies.say("chest-1", "ada", Said(session=place.session, position=place.position, stage=place.stage, **said))
        seen.append(place.film_id)
    database.close()
    return seen


def test_a_study_on_the_pages_is_registered_and_scored_with_its_confidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HILUM_DATABASE_URL", raising=False)
    out, data = page_study(tmp_path, answer="after")
    assert not any(f'"{word}"' in (out / "study.json").read_text() for word in ("label", "films", "patient_id"))
    assert "ada find" in run("register", out, "--data", data).output
    with pytest.raises(DataError, match="has 12 of 12 films not read without"):
        run("score", out, "--study", "chest-1", "--data", data, "--out", tmp_path / "early")
    seen = read_all(data)
    assert len(seen) == 12 + 24, "twelve films without the model, and two opinions of each with it"
    done = run("score", out, "--study", "chest-1", "--data", data, "--out", tmp_path / "scored")
    score = json.loads((tmp_path / "scored" / "score.json").read_text())
    ada = score["findings"][0]["readers"][0]["sensitivity"]
    assert (score["design"], ada["without"]["value"], ada["with_model"]["value"]) == (
        "crossover", pytest.approx(4 / 6), 1.0,
    )  # fmt: skip
    mean, of_ada = score["areas"]
    assert of_ada["with_model"]["value"] == 1.0
    assert mean["difference"]["value"] == pytest.approx(of_ada["difference"]["value"])
    assert of_ada["difference"]["value"] == pytest.approx(1 / 3)
    assert "after it they changed 2 of 12 opinions" in done.output
    assert "AUROC of the confidence" in (tmp_path / "scored" / "report.html").read_text()
    # A film that was erased since is left out for every reader, and said so; another plan is refused.
    database = Database(f"sqlite:///{data / 'hilum.db'}")
    Eraser(database, now).erase([seen[0]], actor="test", by="patient", value="p")
    database.close()
    again = run("score", out, "--study", "chest-1", "--data", data, "--out", tmp_path / "again")
    assert "1 of 12 films were erased since" in again.output
    plan = json.loads((out / "plan.json").read_text())
    (out / "plan.json").write_text(json.dumps(plan | {"seed": 7}))
    with pytest.raises(UsageError, match="registered with another plan"):
        run("score", out, "--study", "chest-1", "--data", data)
    with pytest.raises(UsageError, match="no reader study 'other'"):
        run("score", out, "--study", "other", "--data", data)


def test_what_can_not_be_registered_says_why(study: Path, truth: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"film-0' can't be found in the records by that name"):
        run("create", truth, "--reader", "a", "--finding", "pneumonia", "--name", "x", "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    with pytest.raises(UsageError, match=r"is no reader study to be registered"):
        run("register", study, "--data", tmp_path)


def test_a_rating_in_a_list_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("reader,film_id,arm,finding,rating\nada,a,with,normal,12.5\nada,b,with,normal,\n")
    assert [one.rating for one in read_readings([path])] == [12.5, None]
    path.write_text("reader,film_id,arm,finding,rating\nada,a,with,normal,high\n")
    with pytest.raises(DataError, match=r"rating is 'high'"):
        read_readings([path])
