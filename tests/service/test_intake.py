"""Nothing is acknowledged before it is durable, and nothing half is left."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.service.small import dicom, png

from hilum.errors import ServiceError
from hilum.records.audit import check, entries
from hilum.records.database import Database
from hilum.records.store import Store
from hilum.records.values import Receipt
from hilum.service.container import recognise
from hilum.service.film_files import FilmFiles
from hilum.service.intake import PATIENCE_S, Intake
from hilum.service.refusals import Refused


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield Store(database)
    database.close()


def intake_on(store: Store, folder: Path, fsync: Callable[[int], None] = os.fsync, **changes: object) -> Intake:
    values = {"model_sha256": "m" * 64, "largest_bytes": 1 << 20, "least_free_bytes": 0, "received": lambda _: None}
    return Intake(FilmFiles(folder / "data"), store, fsync=fsync, **{**values, **changes})  # type: ignore[arg-type]


def send(intake: Intake, content: bytes, chunk: int = 1 << 16) -> str:
    with intake.begin() as arrival:
        for at in range(0, len(content), chunk):
            arrival.write(content[at : at + chunk])
        return arrival.finish(origin="rest").film_id


def files_in(intake: Intake) -> list[Path]:
    return [path for path in (*intake.files.incoming.rglob("*"), *intake.files.films.rglob("*")) if path.is_file()]


def test_bytes_lie_where_their_digest_says(store: Store, tmp_path: Path) -> None:
    intake = intake_on(store, tmp_path)
    send(intake, png())
    digest = hashlib.sha256(png()).hexdigest()
    assert intake.files.path(digest).read_bytes() == png()
    assert files_in(intake) == [intake.files.path(digest)]
    assert oct(intake.files.path(digest).stat().st_mode & 0o777) == "0o600"


@pytest.mark.parametrize("chunk", [1, 127, 131, 1 << 16])
def test_however_it_is_cut_a_film_is_the_same(store: Store, tmp_path: Path, chunk: int) -> None:
    intake = intake_on(store, tmp_path)
    assert send(intake, dicom(), chunk) == send(intake, dicom())
    assert len(files_in(intake)) == 1


def test_file_and_folders_are_synced_before_the_record(store: Store, tmp_path: Path) -> None:
    seen: list[tuple[str, dict[str, int]]] = []

    def fsync(descriptor: int) -> None:
        seen.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), store.counts()))
        os.fsync(descriptor)

    intake = intake_on(store, tmp_path, fsync)
    send(intake, png())
    digest = hashlib.sha256(png()).hexdigest()
    assert [name for name, _ in seen][1:] == [str(intake.files.films / digest[:2])]
    assert seen[0][0].startswith(str(intake.files.incoming))
    assert all(counts == {} for _, counts in seen)


def failing(code: int, at: int) -> Callable[[int], None]:
    calls = iter(range(1000))

    def fsync(descriptor: int) -> None:
        if next(calls) == at:
            raise OSError(code, os.strerror(code))
        os.fsync(descriptor)

    return fsync


@pytest.mark.parametrize("at", [0, 1])
def test_after_a_failed_sync_nothing_is_acknowledged_any_more(store: Store, tmp_path: Path, at: int) -> None:
    """A second fsync may report success for pages that are lost: the lesson of PostgreSQL in 2018."""
    intake = intake_on(store, tmp_path, failing(errno.EIO, at))
    with pytest.raises(Refused, match="storage failed") as raised:
        send(intake, png())
    assert (raised.value.code, raised.value.films_fault) == ("storage-failed", False)
    assert store.counts() == {}
    with pytest.raises(Refused, match="storage failed"):
        intake.begin()


def test_after_a_full_disk_it_goes_on_when_there_is_room(store: Store, tmp_path: Path) -> None:
    intake = intake_on(store, tmp_path, failing(errno.ENOSPC, 0))
    with pytest.raises(Refused, match="disk is full") as raised:
        send(intake, png())
    assert raised.value.code == "no-space"
    assert (store.counts(), files_in(intake)) == ({}, [])
    assert send(intake, png())


def test_a_nearly_full_disk_refuses_before_anything_is_written(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="kept free"):
        intake_on(store, tmp_path, least_free_bytes=1 << 60).begin()


def test_a_database_that_is_away_refuses(tmp_path: Path, store: Store) -> None:
    intake = intake_on(store, tmp_path)
    with store._database.write() as session:
        session.connection().exec_driver_sql("ALTER TABLE films RENAME TO gone")
    with pytest.raises(Refused, match="not accepted; send it again") as raised:
        send(intake, png())
    assert raised.value.code == "records-away"


def limit_pages(store: Store, pages: int) -> None:
    """SQLite's own limit: what comes after fails as on a full disk (SQLITE_FULL)."""
    with store._database.write() as session:
        session.connection().exec_driver_sql(f"PRAGMA max_page_count = {pages}")


def test_full_records_refuse_keep_what_they_have_and_go_on_when_there_is_room(store: Store, tmp_path: Path) -> None:
    intake = intake_on(store, tmp_path)
    limit_pages(store, 1)  # SQLite makes it as many as there are
    told: set[str] = set()
    with pytest.raises(Refused, match="not accepted; send it again") as raised:
        for size in range(2, 400):
            told.add(send(intake, png(100, size)))
    assert raised.value.code == "records-away"
    assert store.counts() == {"received": len(told)}
    limit_pages(store, 1 << 20)
    told |= {send(intake, png(100, size)) for size in range(2, 30)}
    assert store.counts() == {"received": len(told)}
    with store._database.read() as session:
        rows = entries(session)
    assert check(rows).whole
    assert {row.subject for row in rows} == told, "no act without its row, and no row without its act"


@pytest.mark.parametrize("call", ["open", "replace"])
def test_a_folder_that_can_be_read_only_refuses(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    intake = intake_on(store, tmp_path)

    def refuses(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuses)
        with pytest.raises(Refused, match="storage failed") as raised:
            send(intake, png())
    assert raised.value.code == "storage-failed"
    assert (store.counts(), files_in(intake)) == ({}, [])


def test_what_was_not_finished_is_not_kept(store: Store, tmp_path: Path) -> None:
    intake = intake_on(store, tmp_path)
    with intake.begin() as arrival:
        arrival.write(png())
    assert (store.counts(), files_in(intake)) == ({}, [])


def test_left_overs_of_a_killed_process_are_removed_at_start(store: Store, tmp_path: Path) -> None:
    (tmp_path / "data" / "incoming").mkdir(parents=True)
    (tmp_path / "data" / "incoming" / "half").write_bytes(b"half")
    assert files_in(intake_on(store, tmp_path)) == []


def test_too_many_bytes_are_refused_as_they_come(store: Store, tmp_path: Path) -> None:
    intake = intake_on(store, tmp_path, largest_bytes=1000)
    with intake.begin() as arrival, pytest.raises(Refused, match="larger than the"):
        for _ in range(20):
            arrival.write(bytes(100))


def test_a_stopping_intake_refuses_new_films_and_finishes_the_current(store: Store, tmp_path: Path) -> None:
    intake = intake_on(store, tmp_path)
    with intake.begin() as arrival:
        arrival.write(png())
        intake.stop()
        assert arrival.finish(origin="rest").new
    with pytest.raises(Refused, match="is stopping"):
        intake.begin()


def test_the_transfer_syntax_is_part_of_what_a_film_is() -> None:
    one, other = dicom(), dicom().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0")
    assert recognise(one).content_starts == recognise(other).content_starts
    assert recognise(one).syntax == b"1.2.840.10008.1.2.1"
    assert recognise(one).kept_head != recognise(other).kept_head


@pytest.mark.parametrize("cut", range(132, 400, 7))
def test_a_head_that_is_cut_anywhere_is_recognised_or_refused(cut: int) -> None:
    whole = recognise(dicom())
    try:
        container = recognise(dicom()[:cut])
    except Refused:
        assert cut < whole.content_starts
    else:
        assert container.format == "dicom"


@pytest.mark.parametrize(("patient", "busy"), [(True, True), (True, False), (False, True)])
def test_only_who_waits_for_a_busy_worker_anyway_is_recorded_with_others(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patient: bool, busy: bool
) -> None:
    waits, receive = [], store.receive

    def watched(*args: Any, patience_s: float, **options: Any) -> Receipt:
        waits.append(patience_s)
        return receive(*args, patience_s=patience_s, **options)

    monkeypatch.setattr(store, "receive", watched)
    with intake_on(store, tmp_path, busy=lambda: busy).begin() as arrival:
        arrival.write(png())
        assert arrival.finish(origin="rest", patient=patient).new
    assert waits == [PATIENCE_S if patient and busy else 0.0]


def test_a_refusal_is_a_service_error() -> None:
    assert issubclass(Refused, ServiceError)
