"""Alarms in the records: of many who take one on or close it at once, one does, and the audit says who."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hilum.errors import UsageError
from hilum.records.alarms import Alarm, AlarmMovedOn, Alarms, NoSuchAlarm, detail_of
from hilum.records.audit import check, entries
from hilum.records.database import Database
from hilum.records.schema import AlarmRow
from hilum.records.store import now


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield database
    database.close()


def opened(database: Database, alarm_id: str) -> Alarm:
    alarm = Alarm(
        id=alarm_id, state="open", owner="qm", opened_at=now(), streams=("device",), culprit="device", sentence="So."
    )
    row = AlarmRow(id=alarm.id, state="open", owner="qm", opened_at=alarm.opened_at, culprit="device")
    row.detail = detail_of(alarm, 3.0)
    with database.write() as session:
        session.add(row)
    return alarm


def test_of_many_at_once_one_takes_it_on_and_one_closes_it(database: Database) -> None:
    alarms, made = Alarms(database), opened(database, "a1")
    assert alarms.counts() == {"open": 1, "acknowledged": 0}

    def tried(step: Callable[[str], Alarm]) -> list[str]:
        def one(name: str) -> str:
            try:
                step(name)
            except AlarmMovedOn:
                return ""
            return name

        with ThreadPoolExecutor(6) as pool:
            return [name for name in pool.map(one, "abcdef") if name]

    (taker,) = tried(lambda name: alarms.acknowledge(made.id, by=name))
    assert alarms.counts() == {"open": 0, "acknowledged": 1}
    assert [one.id for one in alarms.unsettled()] == [made.id]
    (closer,) = tried(lambda name: alarms.close(made.id, by=name, reason="A new detector."))
    assert alarms.counts() == {"open": 0, "acknowledged": 0}
    assert alarms.unsettled() == ()
    (kept,) = alarms.newest(limit=5)
    assert (kept.state, kept.acknowledged_by, kept.closed_by, kept.streams) == ("closed", taker, closer, ("device",))
    with database.read() as session:
        rows = entries(session)
    assert [(row.act, row.actor) for row in rows if row.subject == made.id] == [
        ("alarm.acknowledged", taker), ("alarm.closed", closer),
    ]  # fmt: skip
    assert check(rows).whole


def test_what_makes_no_sense_changes_nothing(database: Database) -> None:
    alarms, made = Alarms(database), opened(database, "a1")
    with pytest.raises(NoSuchAlarm, match="There is no alarm a2"):
        alarms.acknowledge("a2", by="ada")
    with pytest.raises(UsageError, match="closed with a reason"):
        alarms.close(made.id, by="ada", reason=" ")
    assert alarms.newest(limit=5) == (made,)
    with database.read() as session:
        assert not [row for row in entries(session) if row.subject == made.id]
