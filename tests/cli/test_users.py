"""``hilum users`` and ``hilum audit``: as an operator uses them, from the shell alone."""

import json
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.errors import DataError, ServiceError, UsageError
from hilum.keys import create_key, read_private_key
from hilum.records.access import Access
from hilum.records.audit import tip_of
from hilum.records.database import Database
from hilum.records.heads import HeadBook
from hilum.records.store import now


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HILUM_DATA", "HILUM_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


def run(*words: str, data: Path, stdin: str | None = None, code: int = 0) -> Result:
    done = CliRunner().invoke(app, [*words, "--data", str(data)], input=stdin)
    assert done.exit_code == code, (done.output, done.exception)
    return done


def said(done: Result) -> dict[str, object]:
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "verb", [("users", "list"), ("users", "disable", "ada"), ("users", "list-keys"), ("audit", "verify")]
)
def test_a_mistyped_folder_is_refused_and_not_taken_for_an_empty_site(verb: tuple[str, ...], tmp_path: Path) -> None:
    done = run(*verb, data=tmp_path / "mistyped", code=1)
    assert isinstance(done.exception, ServiceError)
    assert "mistyped/hilum.db. Give the service's folder with --data." in str(done.exception)
    assert not (tmp_path / "mistyped").exists()


@pytest.mark.parametrize(
    "verb",
    [
        ("users", "list"),
        ("users", "add", "bob", "--role", "viewer", "--no-password"),
        ("results", "list"),
        ("keys", "status"),
        ("privacy", "retain", "--dry-run", "--pixels-days", "9"),
    ],
    ids=" ".join,
)
def test_records_of_an_earlier_version_are_left_to_the_service(verb: tuple[str, ...], tmp_path: Path) -> None:
    """Brought up to date by a look, they would be lost to the earlier version before anybody made a backup."""
    Database(f"sqlite:///{tmp_path / 'hilum.db'}").close()
    with sqlite3.connect(tmp_path / "hilum.db") as raw:
        raw.execute("UPDATE alembic_version SET version_num = '0014'")
    raw.close()
    done = run(*verb, data=tmp_path, code=1)
    assert "of an earlier version of hilum, and this leaves them so. Make a backup" in str(done.exception)
    with sqlite3.connect(tmp_path / "hilum.db") as raw:
        assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [("0014",)]
    raw.close()


def sign(data: Path) -> None:
    """As the service does while it runs."""
    if not (data / "audit.key").exists():
        create_key(data / "audit.key")
    database = Database(f"sqlite:///{data / 'hilum.db'}")
    with database.read() as session:
        tip = tip_of(session)
    HeadBook(data / "audit-heads.jsonl", read_private_key(data / "audit.key")).sign(tip, now())
    database.close()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records with three rows in the audit, the last one signed."""
    data = tmp_path_factory.mktemp("three")
    database = Database(f"sqlite:///{data / 'hilum.db'}")
    for name in ("ada", "bob", "cyd"):
        Access(database).add_user(name, ["admin"], password=None, actor="console")
    database.close()
    sign(data)
    return data


def changed(data: Path, statement: str) -> None:
    with sqlite3.connect(data / "hilum.db") as raw:
        raw.execute(statement)
    raw.close()


def test_users_and_keys_from_the_shell(tmp_path: Path) -> None:
    roles = ("--role", "admin", "--role", "auditor")
    run("users", "add", "ada", *roles, "--password-stdin", data=tmp_path, stdin="a long sentence\n")
    run("users", "add", "pacs", "--role", "reviewer", "--no-password", data=tmp_path)
    assert "pacs" in run("users", "list", data=tmp_path).stdout
    listed = said(run("users", "list", "--json", data=tmp_path))["users"]
    assert [(user["name"], user["password"]) for user in listed] == [("ada", True), ("pacs", False)]  # type: ignore[attr-defined]
    made = said(run("users", "add-key", "pacs", "--scope", "films:send", "--days", "2", "--json", data=tmp_path))
    (kept,) = said(run("users", "list-keys", "--json", data=tmp_path))["keys"]  # type: ignore[misc]
    assert f"until {kept['expires'][:10]}" in run("users", "list-keys", data=tmp_path).stdout
    assert timedelta(days=1) < datetime.fromisoformat(kept["expires"]) - datetime.now(UTC) <= timedelta(days=2)
    assert str(made["key"]).startswith(f"hilum_{made['id']}_")
    assert str(made["key"]) not in (tmp_path / "hilum.db").read_bytes().decode("latin-1")
    run("users", "revoke-key", str(made["id"]), data=tmp_path)
    assert "revoked" in run("users", "list-keys", data=tmp_path).stdout
    run("users", "disable", "pacs", data=tmp_path)
    shown = run("audit", "show", "pacs", data=tmp_path).stdout
    assert "user.added" in shown
    assert "user.disabled" in shown
    assert said(run("audit", "verify", "--json", data=tmp_path)) | {"hash": ""} == {
        "whole": True,
        "rows": 5,
        "hash": "",
        "heads": 0,
        "signed_up_to": 0,
        "first_bad": None,
        "reason": "",
    }


def test_what_no_row_of_the_audit_is_about_is_an_error_that_does_not_repeat_it(tmp_path: Path) -> None:
    """It may be an accession number, typed where a film's id belongs."""
    run("users", "add", "ada", "--role", "admin", "--no-password", data=tmp_path)
    for more in ((), ("--json",)):
        done = run("audit", "show", "ACC-4711", *more, data=tmp_path, code=1)
        assert isinstance(done.exception, UsageError)
        assert "No row of the audit is about that. Give the whole id" in str(done.exception)
        assert "4711" not in f"{done.exception}{done.output}"


def test_a_password_is_never_asked_for_without_a_terminal(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["users", "add", "ada", "--role", "admin", "--data", str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    assert "--password-stdin" in str(done.exception)


def test_users_and_keys_are_changed_beside_a_service_which_forgets_a_revoked_key_at_once(tmp_path: Path) -> None:
    run("users", "add", "ada", "--role", "admin", "--no-password", data=tmp_path)
    service = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    access = Access(service)
    run("users", "add", "pacs", "--role", "reviewer", "--no-password", data=tmp_path)
    made = said(run("users", "add-key", "pacs", "--json", data=tmp_path))
    other = str(said(run("users", "add-key", "pacs", "--json", data=tmp_path))["key"])
    for secret in (str(made["key"]), other):
        assert access.by_key(secret) == access.memory.find(secret) is not None
    run("users", "revoke-key", str(made["id"]), data=tmp_path)
    assert (access.memory.find(str(made["key"])), access.by_key(str(made["key"]))) == (None, None)
    assert access.by_key(other) == access.memory.find(other) is not None
    run("users", "disable", "pacs", data=tmp_path)
    assert (access.memory.find(other), access.by_key(other)) == (None, None)
    assert "pacs" in run("users", "list", data=tmp_path).stdout
    assert "the audit is whole" in run("audit", "verify", data=tmp_path).stdout
    service.close()


@pytest.mark.parametrize(
    ("statement", "first_bad", "words"),
    [
        ("UPDATE audit SET actor = 'eve' WHERE seq = 2", 2, "a column was changed"),
        ("UPDATE audit SET body = replace(body, 'console', 'c0nsole') WHERE seq = 1", 1, "doesn't match its hash"),
        ("DELETE FROM audit WHERE seq = 2", 2, "Row 2 is missing"),
        ("DELETE FROM audit WHERE seq = 3", 3, "the end was cut off"),
        ("DELETE FROM audit", 1, "the end was cut off"),
    ],
)
def test_what_was_changed_in_the_database_or_an_export_is_named(
    three: Path, tmp_path: Path, statement: str, first_bad: int, words: str
) -> None:
    tmp_path = Path(shutil.copytree(three, tmp_path / "data"))
    out = tmp_path / "audit.jsonl"
    run("audit", "export", str(out), data=tmp_path)
    assert "1 signed head, the last one of row 3" in run("audit", "verify", data=tmp_path).stdout
    changed(tmp_path, statement)
    done = run("audit", "verify", data=tmp_path, code=1)
    assert f"CHANGED at row {first_bad}" in done.stdout
    assert words in done.stdout
    assert "the audit is whole" in run("audit", "verify", "--export", str(out), data=tmp_path).stdout
    run("audit", "export", str(out), data=tmp_path)
    assert words in run("audit", "verify", "--export", str(out), data=tmp_path, code=1).stdout


def test_files_that_are_not_what_they_should_be_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"seq": 1}\n')
    for words, kind, text in (
        (["--export", str(tmp_path / "x.jsonl")], DataError, "line 1 is no row of an audit"),
        (["--export", str(tmp_path / "none")], UsageError, "can't be read"),
        ([], ServiceError, "There are no records at"),
        (["--heads", str(tmp_path / "none")], UsageError, "The heads"),
    ):
        run_in = ["audit", "verify", *words, "--data", str(tmp_path)]
        if "--heads" in words:
            create_key(tmp_path / "audit.key")
        done = CliRunner().invoke(app, run_in)
        assert isinstance(done.exception, kind), done.output
        assert text in str(done.exception)


def test_heads_and_key_that_lie_elsewhere_are_found_by_their_settings(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them a cut end would not be told, where the heads were put on another disk as the page says."""
    data, other = Path(shutil.copytree(three, tmp_path / "data")), tmp_path / "other"
    other.mkdir()
    for name, there in (("audit-heads.jsonl", "heads"), ("audit.key", "signs"), ("audit.key.pub", "signs.pub")):
        shutil.move(data / name, other / there)
    monkeypatch.setenv("HILUM_AUDIT_HEADS", str(other / "heads"))
    monkeypatch.setenv("HILUM_AUDIT_KEY", str(other / "signs"))
    assert "1 signed head, the last one of row 3" in run("audit", "verify", data=data).stdout
    changed(data, "DELETE FROM audit WHERE seq = 3")
    assert "the end was cut off" in run("audit", "verify", data=data, code=1).stdout


def test_an_export_that_is_older_than_the_heads_is_told_from_a_cut_one_by_how_to_make_it(
    three: Path, tmp_path: Path
) -> None:
    data, out = Path(shutil.copytree(three, tmp_path / "data")), tmp_path / "audit.jsonl"
    run("audit", "export", str(out), data=data)
    run("users", "add", "dan", "--role", "viewer", "--no-password", data=data)
    sign(data)
    told = run("audit", "verify", "--export", str(out), data=data, code=1).stdout
    assert "copy the heads first, then export" in told
    assert "copy the heads first" not in run("audit", "verify", data=data).stdout


def test_heads_without_their_key_say_which_file_is_missing(three: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    words = ["audit", "verify", "--export", str(tmp_path / "a.jsonl"), "--heads", str(three / "audit-heads.jsonl")]
    run("audit", "export", str(tmp_path / "a.jsonl"), data=three)
    done = run(*words, data=elsewhere, code=1)
    assert "Give the service's audit.key.pub with --key" in str(done.exception)
    create_key(elsewhere / "audit.key")
    assert "give that one's file with --key" in str(run(*words, data=elsewhere, code=1).exception)


def test_an_act_that_no_row_has_is_answered_with_those_that_there_are(three: Path) -> None:
    assert "acts that rows have: user.added" in run("audit", "search", "--act", "users.", data=three).stdout
    assert "acts that rows have" not in run("audit", "search", "--act", "user.", data=three).stdout


def test_heads_from_after_a_backup_contradict_what_came_back_and_the_restore_is_named(
    three: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(three, tmp_path / "data"))
    run("backup", str(tmp_path / "kept"), data=data)
    run("users", "add", "dan", "--role", "viewer", "--no-password", data=data)
    sign(data)
    run("restore", str(tmp_path / "kept"), data=tmp_path / "again")
    assert "the audit is whole" in run("audit", "verify", data=tmp_path / "again").stdout
    newer = ("--heads", str(data / "audit-heads.jsonl"))
    told = run("audit", "verify", *newer, data=tmp_path / "again", code=1).stdout
    assert "CHANGED at row 4" in told
    assert "row 4 says that these records come from a backup" in told
