"""Users, keys and sessions: nothing by default, secrets kept as digests, each change in the audit."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from hilum.errors import UsageError
from hilum.records.access import KEY_PREFIX, Access, OwnPasswordFirst, csrf_token
from hilum.records.audit import check, entries
from hilum.records.database import Database
from hilum.records.roles import ROLES, scopes_of

GOOD = "a long sentence is best"


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield database
    database.close()


@pytest.fixture
def access(database: Database, clock: Clock) -> Access:
    return Access(database, clock)


def test_a_fresh_database_has_no_user_and_no_key(access: Access) -> None:
    assert (access.users(), access.list_keys(), access.has_admin()) == ((), (), False)


def test_a_password_opens_a_session_that_ends(access: Access, clock: Clock) -> None:
    access.add_user("ada", ["reviewer", "auditor", "reviewer"], password=GOOD, actor="console")
    assert access.users()[0].roles == ("reviewer", "auditor")
    assert access.log_in("ada", GOOD + "!") is None
    token = access.log_in("ada", GOOD)
    assert token
    caller = access.by_session(token)
    assert caller is not None
    assert (caller.name, caller.scopes) == ("ada", ROLES["reviewer"] | ROLES["auditor"])
    assert access.by_session(token[:-1]) is None
    clock.now += timedelta(minutes=15)
    assert access.by_session(token) is None


def test_what_is_done_puts_a_sessions_end_off_and_what_a_page_asks_by_itself_does_not(
    access: Access, clock: Clock
) -> None:
    access.add_user("ada", ["viewer"], password=None, actor="console")
    token, began = access.begin_session("ada", how="link"), clock.now
    for _ in range(3):
        clock.now += timedelta(minutes=14)
        caller = access.by_session(token, active=True)
        assert caller is not None
        assert caller.left_s == 15 * 60
        assert caller.at_most_s == 12 * 3600 - (clock.now - began).total_seconds()
    clock.now += timedelta(minutes=14)
    assert access.by_session(token) is not None
    clock.now += timedelta(minutes=2)
    assert access.by_session(token, active=True) is None, "it is over, whatever is done now"


def test_a_session_ends_at_last_whatever_is_done(access: Access, clock: Clock) -> None:
    access.add_user("ada", ["viewer"], password=None, actor="console")
    token = access.begin_session("ada", how="link")
    for _ in range(12 * 6 - 1):
        clock.now += timedelta(minutes=10)
        caller = access.by_session(token, active=True)
    assert caller is not None
    assert caller.left_s == caller.at_most_s == 600
    clock.now += timedelta(minutes=10)
    assert access.by_session(token, active=True) is None


def test_the_end_of_a_session_is_written_down_once_and_why(access: Access, database: Database, clock: Clock) -> None:
    for name in ("ada", "bob"):
        access.add_user(name, ["viewer"], password=None, actor="console")
    idle, left = access.begin_session("ada", how="link"), access.begin_session("bob", how="link")
    clock.now += timedelta(minutes=20)
    assert access.by_session(idle) is None
    assert access.by_session(idle) is None
    assert access.by_session(left) is None
    access.begin_session("ada", how="link")
    with database.read() as session:
        ended = [row for row in entries(session) if row.act == "session.expired"]
    assert sorted(row.actor for row in ended) == ["ada", "bob"]
    assert all('"ended_at":"2026-01-01T00:15:00+00:00","why":"idle"' in row.body for row in ended)


def test_logging_out_a_new_password_and_disabling_end_sessions(access: Access) -> None:
    access.add_user("ada", ["viewer"], password=None, actor="console")
    assert access.log_in("ada", "") is None, "who has no password can't come by one"

    def begun() -> str:
        return access.begin_session("ada", how="link")

    first = begun()
    caller = access.by_session(first)
    assert caller is not None
    access.log_out(caller)
    second = begun()
    assert (access.by_session(first), access.by_session(second) is None) == (None, False)
    access.disable("ada", actor="console")
    assert access.by_session(second) is None
    with pytest.raises(UsageError, match="is disabled"):
        begun()


def test_a_key_does_what_it_says_until_it_is_over(access: Access, clock: Clock) -> None:
    access.add_user("pacs", ["reviewer"], password=None, actor="console")
    key, secret = access.add_key("pacs", ["films:send"], days=1, actor="console")
    caller = access.by_key(secret)
    assert caller is not None
    assert (caller.name, caller.scopes) == ("pacs", {"films:send"})
    for wrong in (secret[:-1], secret[len(KEY_PREFIX) :], f"{KEY_PREFIX}{key.id}_", "", KEY_PREFIX, f"{secret}x"):
        assert access.by_key(wrong) is None
    clock.now += timedelta(days=1)
    assert access.by_key(secret) is None
    _, lasting = access.add_key("pacs", actor="console")
    caller = access.by_key(lasting)
    assert caller is not None
    assert caller.scopes == ROLES["reviewer"]
    access.revoke_key(access.list_keys()[-1].id, actor="console")
    assert access.by_key(lasting) is None


def test_a_disabled_users_key_counts_no_more(access: Access) -> None:
    access.add_user("pacs", ["viewer"], password=None, actor="console")
    _, secret = access.add_key("pacs", actor="console")
    access.disable("pacs", actor="console")
    assert access.by_key(secret) is None


def test_a_remembered_key_is_forgotten_at_any_revocation_and_when_it_ends(database: Database) -> None:
    clock = Clock()
    access, elsewhere = Access(database, clock), Access(database, clock)
    access.add_user("pacs", ["viewer"], password=None, actor="console")
    access.add_user("modality", ["viewer"], password=None, actor="console")
    key, secret = access.add_key("pacs", actor="console")
    _, other = access.add_key("modality", days=1, actor="console")
    assert access.memory.find(secret) is None, "it was not looked up yet"
    assert access.by_key(secret) is not None
    if not database.alone:
        assert access.memory.find(secret) is None, "another process may revoke it"
        return
    assert access.by_key(secret) == access.memory.find(secret) is not None
    assert access.by_key(other) == access.memory.find(other) is not None
    assert access.memory.find(secret + "x") is None
    elsewhere.revoke_key(key.id, actor="console")
    assert (access.memory.find(secret), access.by_key(secret), access.memory.find(secret)) == (None, None, None)
    assert access.memory.find(other) is None
    assert access.by_key(other) == access.memory.find(other) is not None
    clock.now += timedelta(days=1)
    assert access.memory.find(other) is None
    elsewhere.disable("modality", actor="console")
    assert access.by_key(other) is None


def test_no_secret_lies_in_the_database_or_the_audit(access: Access, database: Database) -> None:
    access.add_user("ada", ["admin"], password=GOOD, actor="console")
    _, secret = access.add_key("ada", actor="console")
    token = access.log_in("ada", GOOD) or ""
    access.log_in("ada", "the wrong " + GOOD)
    access.log_in("typed-a-password-here", GOOD)
    with database.read() as session:
        kept = "".join(
            str(session.execute(text(f"SELECT * FROM {table}")).fetchall())
            for table in ("users", "api_keys", "sessions", "audit")
        )
        acts = [row.act for row in entries(session)]
        assert check(entries(session)).whole
    assert "$argon2id$" in kept
    for word in (GOOD, secret, secret.rpartition("_")[2], token, "typed-a-password-here"):
        assert word not in kept
    assert acts == ["user.added", "key.added", "login.succeeded", "login.failed", "login.failed"]


def test_a_password_costs_what_the_standard_recommends() -> None:
    import subprocess
    import sys

    code = "from hilum.records.passwords import hash_password as h; print(h('a long sentence is best'))"
    kept = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_a_key_can_not_do_more_than_its_user(access: Access) -> None:
    access.add_user("ada", ["viewer"], password=None, actor="console")
    with pytest.raises(UsageError, match="has no role with users:write"):
        access.add_key("ada", ["users:write"], actor="console")


def test_the_last_admin_stays(access: Access) -> None:
    access.add_user("ada", ["admin"], password=None, actor="console")
    with pytest.raises(UsageError, match="is the last admin"):
        access.disable("ada", actor="console")
    access.add_user("bob", ["admin"], password=None, actor="console")
    access.disable("ada", actor="bob")
    assert access.has_admin()


@pytest.mark.parametrize(
    ("name", "roles", "password", "words"),
    [
        ("Ada", ["viewer"], None, "is no user's name"),
        ("ada b", ["viewer"], None, "is no user's name"),
        ("ada", ["viewr"], None, "Did you mean 'viewer'"),
        ("ada", [], None, "No role is given"),
        ("ada", ["viewer"], "short", "has 5 characters"),
        ("adam", ["viewer"], "adam and eve 1234", "holds the user's name"),
        ("taken", ["viewer"], None, "already"),
    ],
)
def test_what_is_wrong_with_a_user_is_told(
    access: Access, name: str, roles: list[str], password: str | None, words: str
) -> None:
    access.add_user("taken", ["viewer"], password=None, actor="console")
    with pytest.raises(UsageError, match=words):
        access.add_user(name, roles, password=password, actor="console")


def test_an_unknown_user_or_key_is_told(access: Access) -> None:
    for act in (
        lambda: access.set_password("nobody", GOOD, actor="a"),
        lambda: access.disable("nobody", actor="a"),
        lambda: access.add_key("nobody", actor="a"),
        lambda: access.revoke_key("none", actor="a"),
    ):
        with pytest.raises(UsageError, match="There is no"):
            act()


def test_no_role_may_do_everything_and_auditors_see_no_film() -> None:
    assert all(scopes_of([role]) < scopes_of(ROLES) for role in ROLES)
    assert scopes_of(["auditor"]) == {"audit:read", "alarms:read"}
    assert "audit:read" not in scopes_of(["admin", "reviewer", "viewer", "model-manager"])


def test_the_forms_token_is_not_the_cookies_digest() -> None:
    assert csrf_token("a" * 64) != csrf_token("b" * 64)
    assert csrf_token("a" * 64) != "a" * 64


def test_a_temporary_password_runs_out_ends_sessions_and_is_for_others(access: Access, clock: Clock) -> None:
    access.add_user("ada", ["admin"], password=GOOD, actor="console")
    access.add_user("bob", ["viewer"], password=GOOD, actor="ada")
    before = access.log_in("bob", GOOD) or ""
    with pytest.raises(UsageError, match="lock you out"):
        access.set_temporary_password("ada", actor="ada")
    given = access.set_temporary_password("bob", actor="ada")
    assert access.by_session(before) is None
    assert access.log_in("bob", GOOD) is None
    with pytest.raises(OwnPasswordFirst):
        access.log_in("bob", given)
    clock.now += timedelta(hours=72)
    assert access.log_in("bob", given) is None
    with pytest.raises(UsageError, match="no longer good"):
        access.choose_password("bob", GOOD)
    again = access.set_temporary_password("bob", actor="ada")
    with pytest.raises(UsageError, match="another password than the temporary"):
        access.choose_password("bob", again)
    access.choose_password("bob", GOOD)
    assert access.log_in("bob", GOOD)
    access.disable("bob", actor="ada")
    with pytest.raises(UsageError, match="is disabled"):
        access.set_temporary_password("bob", actor="ada")
