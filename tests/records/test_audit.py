"""The audit's chain: written with the act, and any flip, delete, swap, insert or cut is found and placed."""

import contextlib
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from hilum.errors import DataError, UsageError
from hilum.keys import create_key, read_private_key, read_public_key
from hilum.records import audit
from hilum.records.audit import GENESIS, Act, Entry, Tip, append, canonical, check, digest, entries, entry_after, tip_of
from hilum.records.database import Database
from hilum.records.heads import HeadBook, read_heads
from hilum.records.proving import Proof, prove

START = datetime(2026, 1, 1, tzinfo=UTC)
FIELDS = ("seq", "at", "actor", "act", "subject", "body", "hash")


def chain(length: int) -> list[Entry]:
    rows: list[Entry] = []
    tip = Tip(seq=0, hash=GENESIS)
    for i in range(length):
        act = Act(actor=f"reader{i % 3}", act="film.viewed", subject=f"{i:032x}", detail={"i": i, "who": "ä–Ω"})
        rows.append(entry_after(tip, act, START + timedelta(seconds=i)))
        tip = Tip(seq=rows[-1].seq, hash=rows[-1].hash)
    return rows


def tips(rows: list[Entry], every: int = 1) -> list[Tip]:
    return [Tip(seq=row.seq, hash=row.hash) for row in rows if row.seq % every == 0 or row is rows[-1]]


def test_a_body_is_what_the_standard_says_by_hand() -> None:
    (row,) = chain(1)
    assert row.body == (
        '{"act":"film.viewed","actor":"reader0","at":"2026-01-01T00:00:00.000000Z","detail":{"i":0,"who":"ä–Ω"},'
        f'"previous":"{"0" * 64}","seq":1,"subject":"{"0" * 32}"}}'
    )
    assert row.hash == digest(row.body)


@pytest.mark.parametrize("value", [1.5, float("nan"), 2**53, {"é": 1}, {1: 2}, b"x", [{"a": 0.0}]])
def test_what_has_no_one_text_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="can't stand in the audit"):
        canonical({"detail": value})


def flip(rows: list[Entry], chance: random.Random) -> int:
    at, name = chance.randrange(len(rows)), chance.choice(FIELDS)
    value = getattr(rows[at], name)
    if isinstance(value, int):
        rows[at] = replace(rows[at], seq=value ^ (1 << chance.randrange(12)))
        return at + 1
    place = chance.randrange(len(value))
    other = chr(ord(value[place]) ^ (1 << chance.randrange(6)))
    rows[at] = replace(rows[at], **{name: value[:place] + other + value[place + 1 :]})
    return at + 1


def delete(rows: list[Entry], chance: random.Random) -> int:
    at = chance.randrange(len(rows))
    del rows[at]
    return at + 1


def swap(rows: list[Entry], chance: random.Random) -> int:
    one, other = sorted(chance.sample(range(len(rows)), 2))
    if chance.random() < 0.5:
        rows[one], rows[other] = rows[other], rows[one]
    else:  # in place: the numbers stay, what they say is exchanged
        a, b = rows[one], rows[other]
        rows[one], rows[other] = replace(b, seq=a.seq), replace(a, seq=b.seq)
    return one + 1


def insert(rows: list[Entry], chance: random.Random) -> int:
    at = chance.randrange(len(rows))
    if chance.random() < 0.5:
        rows.insert(at, rows[chance.randrange(len(rows))])
        return at + 1 if rows[at].seq != at + 1 else at + 2
    previous = Tip(seq=at, hash=rows[at - 1].hash if at else GENESIS)
    forged = entry_after(previous, Act(actor="mallory", act="film.viewed"), START)
    rows[at:] = [forged, *(replace(row, seq=row.seq + 1) for row in rows[at:])]
    return at + 1


def truncate(rows: list[Entry], chance: random.Random) -> int:
    left = chance.randrange(len(rows))
    del rows[left:]
    return left + 1


def rewrite(rows: list[Entry], chance: random.Random) -> int:
    """Change a row and compute the chain anew from there: only signed heads can tell."""
    at = chance.randrange(len(rows))
    tip = Tip(seq=at, hash=rows[at - 1].hash if at else GENESIS)
    for i in range(at, len(rows)):
        said = json.loads(rows[i].body)
        act = Act(actor="mallory" if i == at else said["actor"], act=said["act"], subject=said["subject"])
        rows[i] = entry_after(tip, replace(act, detail=said["detail"]), datetime.fromisoformat(said["at"]))
        tip = Tip(seq=rows[i].seq, hash=rows[i].hash)
    return at + 1


TAMPERINGS = (flip, delete, swap, insert, truncate, rewrite)


def tamper(count: int, seed: int) -> None:
    chance, whole = random.Random(seed), chain(16)
    signed = tips(whole)
    assert check(whole, signed).whole
    for i in range(count):
        rows, how = list(whole), TAMPERINGS[i % len(TAMPERINGS)]
        place = how(rows, chance)
        verdict = check(rows, signed)
        assert verdict.first_bad == place, (how.__name__, i, verdict)
        assert verdict.reason


def test_a_thousand_tamperings_are_all_found_and_placed() -> None:
    tamper(1_000, 7)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_fifty_thousand_tamperings_are_all_found_and_placed() -> None:
    tamper(50_000, 8)


def test_without_heads_all_but_a_cut_end_and_a_new_chain_are_found() -> None:
    chance, whole = random.Random(1), chain(30)
    for how in (flip, swap, insert):
        rows = list(whole)
        assert not check(rows if how(rows, chance) else [], ()).whole
    assert check(whole[:10]).whole
    assert not check(whole[:10], tips(whole, 15)).whole
    assert check([], tips(whole)).first_bad == 1


def test_a_head_far_behind_places_a_new_chain_at_that_head() -> None:
    rows = chain(30)
    signed = tips(rows, 10)
    assert rewrite(rows, random.Random(3)) <= 10
    assert check(rows, signed).first_bad == 10


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield database
    database.close()


def test_a_row_is_there_exactly_when_its_act_is(database: Database) -> None:
    with database.write() as session:
        append(session, Act(actor="a", act="one"), START)
        append(session, Act(actor="a", act="two"), START)
    with pytest.raises(ZeroDivisionError), database.write() as session:
        append(session, Act(actor="a", act="three"), START)
        _ = 1 / 0
    with database.read() as session:
        rows = entries(session)
        assert [row.act for row in rows] == ["one", "two"]
        assert check(rows) == audit.Verdict(rows=2, tip=tip_of(session), first_bad=None, reason="")
        assert [row.act for row in entries(session, after=1)] == ["two"]


def test_a_change_in_the_database_is_found(database: Database) -> None:
    with database.write() as session:
        for i in range(5):
            append(session, Act(actor="a", act="film.viewed", subject=f"film{i}"), START)
    with database.write() as session:
        session.execute(text("UPDATE audit SET subject = 'film9' WHERE seq = 3"))
    with database.read() as session:
        verdict = check(entries(session))
        assert (verdict.rows, verdict.first_bad) == (2, 3)
        assert "a column was changed" in verdict.reason


def test_heads_are_signed_read_back_and_a_forged_one_is_named(tmp_path: Path) -> None:
    create_key(tmp_path / "audit.key")
    create_key(tmp_path / "other.key")
    key, other = (read_private_key(tmp_path / name) for name in ("audit.key", "other.key"))
    public = read_public_key(tmp_path / "audit.key.pub")
    rows, path = chain(4), tmp_path / "heads.jsonl"
    book = HeadBook(path, key)
    assert [book.sign(tip, START) for tip in (tips(rows)[1], tips(rows)[1], tips(rows)[3])] == [True, False, True]
    assert [head.tip for head in read_heads(path, [public])] == [tips(rows)[1], tips(rows)[3]]
    with path.open("ab") as raw:
        raw.write(b'{"broken off')
    assert len(read_heads(path, [public])) == 2, "a line that a crash broke off is not there yet"
    HeadBook(path, other).sign(Tip(seq=9, hash="f" * 64), START)
    with pytest.raises(DataError, match="line 3 was signed by none of the keys given"):
        read_heads(path, [public])
    text_ = path.read_text().splitlines()
    path.write_text(text_[0].replace('"seq":2', '"seq":3') + "\n")
    with pytest.raises(DataError, match="line 1 doesn't fit its signature, whose key .* is given: it was changed"):
        read_heads(path, [public])
    path.write_text('{"seq": 1}\n')
    with pytest.raises(DataError, match="line 1 is no signed head"):
        read_heads(path, [public])


def test_heads_that_are_gone_are_told_where_their_key_is_there(tmp_path: Path) -> None:
    url, heads = f"sqlite:///{tmp_path / 'hilum.db'}", tmp_path / "heads.jsonl"
    with contextlib.closing(Database(url)) as database, database.write() as session:
        append(session, Act(actor="ada", act="film.viewed"), START)

    def proved(*keys: Path) -> Proof:
        return prove(url=url, export=None, heads=heads, heads_given=False, keys=keys)

    assert proved().heads == 0
    create_key(tmp_path / "audit.key")
    public = tmp_path / "audit.key.pub"
    with pytest.raises(DataError, match=r"The signed heads .*heads.jsonl are gone, though .*audit.key.pub is there"):
        proved(public)
    HeadBook(heads, read_private_key(tmp_path / "audit.key")).sign(Tip(seq=1, hash="0" * 64), START)
    assert not proved(public).verdict.whole
