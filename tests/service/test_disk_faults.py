"""Disks that fail anywhere, again and again: nothing is acknowledged that is not there, and nothing half is left."""

import contextlib
import errno
import hashlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from tests.service.small import png

from hilum.records.audit import check, entries
from hilum.records.database import Database
from hilum.records.store import Store
from hilum.service import intake as intake_module
from hilum.service.film_files import FilmFiles
from hilum.service.intake import Intake
from hilum.service.refusals import Refused

ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE)


class Disk:
    """The operating system as the intake sees it; the call that is told fails, or the one after so many."""

    def __init__(self) -> None:
        self.left, self.error, self.failed = -1, 0, ""

    def fail(self, after: int, error: int) -> None:
        self.left, self.error, self.failed = after, error, ""

    def heal(self) -> None:
        self.left = -1

    def step(self, name: str) -> None:
        if self.left == 0:
            self.failed = name
            raise OSError(self.error, os.strerror(self.error))
        self.left -= self.left > 0

    def fsync(self, descriptor: int) -> None:
        self.step("fsync")
        os.fsync(descriptor)

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in ("open", "replace", "fdopen"):
            return real

        def call(*args: Any, **keywords: Any) -> Any:
            self.step(name)
            made = real(*args, **keywords)
            return Writing(made, self) if name == "fdopen" else made

        return call


class Writing:
    """A file whose writes may fail, or take only a part of what they were given."""

    def __init__(self, file: Any, disk: Disk) -> None:
        self._file, self._disk = file, disk

    def write(self, content: memoryview) -> int:
        self._disk.step("write")
        return int(self._file.write(content[: max(1, len(content) // 2)]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextlib.contextmanager
def commits_that_fail(when: Callable[[], bool], database: Database) -> Iterator[None]:
    """The records fail as they are to be committed, before SQLite's COMMIT is executed."""

    def lost(_: Any) -> None:
        if when():
            raise OperationalError("COMMIT", {}, OSError(errno.ENOSPC, "full"))

    event.listen(database._writer, "commit", lost)
    try:
        yield
    finally:
        event.remove(database._writer, "commit", lost)


def faults(folder: Path, count: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Send so many films, each while something fails; the kinds of calls that failed."""
    chance, disk, failed = random.Random(seed), Disk(), set[str]()
    monkeypatch.setattr(intake_module, "os", disk)
    database = Database(f"sqlite:///{folder / 'hilum.db'}")
    store = Store(database)

    def opened() -> Intake:
        return Intake(
            FilmFiles(folder / "data"),
            store,
            model_sha256="m" * 64,
            largest_bytes=1 << 20,
            least_free_bytes=0,
            received=lambda _: None,
            fsync=disk.fsync,
        )

    intake, acknowledged = opened(), dict[str, str]()
    records_fail = [False]
    with commits_that_fail(lambda: records_fail[0], database):
        for number in range(count):
            content = png(number % 255 + 1, 16 + number // 255)
            records_fail[0] = chance.random() < 0.15
            if not records_fail[0]:
                disk.fail(chance.randrange(12), chance.choice(ERRNOS))
            with contextlib.suppress(Refused):
                acknowledged[send(intake, content)] = hashlib.sha256(content).hexdigest()
                assert not records_fail[0], "an error of the commit is no acknowledgement"
            failed |= {"commit"} if records_fail[0] else {disk.failed} - {""}
            disk.heal()
            records_fail[0] = False
            if intake.broken:  # a sync failed: the service ends, and somebody starts it again
                with pytest.raises(Refused, match="start the service again"):
                    send(intake, content)
                intake = opened()
            film_id = send(intake, content)
            digest = hashlib.sha256(content).hexdigest()
            assert acknowledged.setdefault(film_id, digest) == digest
    again = opened()
    assert not list(again.files.incoming.iterdir()), "nothing half is left"
    assert len(acknowledged) == count == sum(store.counts().values())
    for film_id, digest in acknowledged.items():
        record = store.film(film_id)
        assert record is not None
        assert record.file_sha256 == digest
        assert hashlib.sha256(again.files.path(digest).read_bytes()).hexdigest() == digest
    with database.read() as session:
        assert check(entries(session)).whole
    database.close()
    return failed


def send(intake: Intake, content: bytes) -> str:
    with intake.begin() as arrival:
        for at in range(0, len(content), 40):
            arrival.write(content[at : at + 40])
        return arrival.finish(origin="rest").film_id


def test_faults_at_random_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = faults(tmp_path, 60, 1, monkeypatch)
    assert failed == {"open", "fdopen", "write", "fsync", "replace", "commit"}


@pytest.mark.long
def test_five_hundred_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: Callable[[int], int]) -> None:
    faults(tmp_path, counted(500), 2, monkeypatch)
