"""What people decide in files is in the service's audit: with the act, not without it, late where left out."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.change.made import NAMES, evidence, key, plan
from tests.change.test_change_verb import said
from tests.change.test_feedback import label
from typer.testing import CliRunner

from hilum.change import journal
from hilum.change.feedback import EMPTY, LabelRules, LabelSet, collect, decide, read_labels, read_versions, write_labels
from hilum.change.gate import gate
from hilum.change.rollout import approve, propose
from hilum.cli.verbs import app
from hilum.errors import DataError, UsageError
from hilum.records.audit import append, entries
from hilum.records.database import Database

AT = datetime(2026, 3, 1, tzinfo=UTC)
RULES = LabelRules()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A service's folder with records."""
    (tmp_path / "data").mkdir()
    Database(f"sqlite:///{tmp_path / 'data' / 'hilum.db'}").close()
    return tmp_path / "data"


@pytest.fixture
def database(data: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{data / 'hilum.db'}")
    yield database
    database.close()


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Three labels in quarantine, as ``hilum labels collect`` leaves them."""
    write_labels(tmp_path / "labels", collect(EMPTY, [label(1), label(2), label(3)], RULES))
    return tmp_path / "labels"


def sought(data: Path, act: str) -> list[dict[str, Any]]:
    rows = said("audit", "search", "--act", act, "--data", data)["rows"]
    assert said("audit", "verify", "--data", data)["whole"]
    return list(reversed(rows))


def test_a_decision_about_a_label_is_a_row_with_who_what_and_which_version(data: Path, labels: Path) -> None:
    at = ("--labels", labels, "--data", data)
    accepted = said("labels", "accept", "f01", "--by", "eve", *at)
    rejected = said("labels", "reject", "f02", "--by", "dan", *at)
    assert accepted["audited"]
    collected, first, second = sought(data, "label")
    assert (collected["act"], collected["detail"]["films"]) == ("labels.collected", ["f01", "f02", "f03"])
    assert collected["detail"]["late"]  # it was written where no records were
    assert (first["act"], first["actor"], first["subject"]) == ("label.accepted", "eve", "f01")
    assert (second["act"], second["actor"], second["subject"]) == ("label.rejected", "dan", "f02")
    assert [row["detail"]["sha256"] for row in (first, second)] == [accepted["sha256"], rejected["sha256"]]
    assert first["detail"] | {"set": "", "sha256": ""} == {
        "set": "",
        "sha256": "",
        "version": 2,
        "late": False,
        "finding": "covid-19",
        "source": "ann",
        "was": "quarantined",
    }
    shown = said("audit", "show", "f01", "--data", data)["rows"]
    assert [row["act"] for row in shown] == ["label.accepted"]


def test_what_was_decided_elsewhere_is_written_down_late_and_once(data: Path, labels: Path) -> None:
    said("labels", "accept", "f01", "--by", "eve", "--labels", labels, "--data", data)
    away = said("labels", "accept", "f02", "--by", "eve", "--labels", labels, "--data", data.parent / "none")
    assert not away["audited"]
    said("labels", "accept", "f03", "--by", "dan", "--labels", labels, "--data", data)
    rows = sought(data, "label.accepted")
    assert [(row["subject"], row["detail"]["late"]) for row in rows] == [("f01", False), ("f02", True), ("f03", False)]


def test_without_records_a_verb_says_that_no_audit_holds_it(labels: Path) -> None:
    words = ["labels", "accept", "f01", "--by", "eve", "--labels", str(labels), "--data", "nowhere"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "not in an audit: there are no records in nowhere (--data, HILUM_DATABASE_URL)" in done.stdout


def test_an_act_that_failed_leaves_no_row(data: Path, labels: Path, database: Database) -> None:
    """Another process wrote the same version at the same moment: neither file nor audit say what it would have been."""
    known = read_labels(labels)
    mine, other = (decide(known, name, accept=True, by="eve", rules=RULES) for name in ("f01", "f02"))
    write_labels(labels, other)
    with pytest.raises(UsageError, match="is there with other labels"), database.write() as session:
        journal.label_rows(session, [known, mine], AT, made=2)
        write_labels(labels, mine)
    with database.read() as session:
        assert entries(session) == []


def rewritten(labels: Path) -> None:
    """The set as somebody would leave it who wants another label in it: each version fits the one before."""
    versions = list(read_versions(labels))
    last = versions[-1]
    changed = tuple(replace(one, finding="normal") if one.film_id == "f01" else one for one in last.labels)
    (labels / f"labels-{last.version:05d}.json").unlink()
    write_labels(labels, replace(last, labels=changed))


def shorter(labels: Path) -> None:
    for path in sorted(labels.glob("labels-*.json"))[1:]:
        path.unlink()


@pytest.mark.parametrize(
    ("change", "there"), [(rewritten, "but the folder has [0-9a-f]{12}… in its place"), (shorter, "has fewer versions")]
)
def test_a_set_that_was_changed_behind_the_audit_is_refused(data: Path, labels: Path, change: Any, there: str) -> None:
    said("labels", "accept", "f01", "--by", "eve", "--labels", labels, "--data", data)
    said("labels", "accept", "f02", "--by", "eve", "--labels", labels, "--data", data)
    change(labels)
    with pytest.raises(DataError, match=f"The audit knows version 3 of this label set as .*{there}"):
        said("labels", "accept", "f03", "--by", "eve", "--labels", labels, "--data", data)
    with Database(f"sqlite:///{data / 'hilum.db'}").read() as session:
        assert not [row for row in entries(session) if row.subject == "f03"]


def test_two_sets_do_not_disturb_each_other(database: Database) -> None:
    one, two = (collect(EMPTY, [label(number)], RULES) for number in (1, 2))
    accepted = decide(one, "f01", accept=True, by="eve", rules=RULES)
    with database.write() as session:
        assert journal.label_rows(session, [one], AT) == 1
        assert journal.label_rows(session, [two], AT) == 1
        assert journal.label_rows(session, [one, accepted], AT, made=2) == 1
        assert journal.label_rows(session, [one, accepted], AT) == 0
        assert journal.label_rows(session, list[LabelSet](), AT) == 0


def test_a_signature_is_noted_before_its_file_is_written(database: Database, tmp_path: Path) -> None:
    """Where the audit can't be written, nothing is signed."""
    equal = evidence(2500)

    def away(_: object) -> None:
        raise RuntimeError("the disk is full")

    path = tmp_path / "proposal.json"
    with pytest.raises(RuntimeError, match="disk is full"):
        propose(path, plan(), equal, name="ds", key=key(8), note=away)
    assert not path.exists()
    propose(path, plan(), equal, name="ds", key=key(8))
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="disk is full"):
        approve(path, plan(), equal, name=NAMES[0], key=key(1), note=away)
    assert path.read_bytes() == before


def test_what_is_called_again_after_a_kill_is_noted_once(database: Database) -> None:
    act = journal.judged(gate(plan(), evidence(60)), evidence(60), actor="ds")
    with database.write() as session:
        journal.note_once(session, act, AT)
        journal.note_once(session, act, AT)
        journal.note_once(session, replace(act, actor="other"), AT)
        append(session, act, AT)  # whoever asks the gate himself is written down each time
    with database.read() as session:
        rows = entries(session, subject="c" * 64)
    assert [row.actor for row in rows] == ["ds", "other", "ds"]
    detail = json.loads(rows[0].body)["detail"]
    assert not detail["passed"]
    assert any(one.startswith("approvals: ") for one in detail["not_passed"])
