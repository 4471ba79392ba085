"""Films that came a moment ago are read from memory, once, and what was read is the film."""

import dataclasses
import hashlib
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel, dicom, kept, png

from hilum.data_keys import Keyring, new_data_key
from hilum.direct_io import DirectWriter
from hilum.errors import FilmError
from hilum.imaging.intended_use import GatePolicy
from hilum.imaging.preprocessing import Preprocessing
from hilum.imaging.sandbox import Sandbox
from hilum.inference.preparing import prepare_film
from hilum.records.database import Database
from hilum.records.store import Store
from hilum.service import film_files, recent_films
from hilum.service.app import running
from hilum.service.film_files import FilmFiles
from hilum.service.intake import Arrival, Intake
from hilum.service.recent_films import LARGEST_BYTES, MOST
from hilum.shared_memory import Lent, SharedMemory

READ_FOR = Preprocessing(size=16), GatePolicy()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield Store(database)
    database.close()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(1, preload=("hilum.inference.preparing",)) as opened:
        yield opened


def intake_on(store: Store, folder: Path, *keys: object) -> Intake:
    files = FilmFiles(folder / "data", Keyring(keys))  # type: ignore[arg-type]
    return Intake(
        files, store, model_sha256="m" * 64, largest_bytes=1 << 25, least_free_bytes=0, received=lambda _: None
    )


def send(intake: Intake, content: bytes, piece: int = 1 << 19) -> str:
    """Send a film; the digest under which it is kept."""
    with intake.begin() as arrival:
        for at in range(0, len(content), piece):
            arrival.write(content[at : at + piece])
        film_id = arrival.finish(origin="rest").film_id
    film = intake.store.film(film_id)
    assert film is not None
    return film.file_sha256


def lent(files: FilmFiles, digest: str) -> bytes | None:
    """A film's bytes in memory; None where they are not."""
    with files.film(digest).lent() as source:
        return bytes(source.content()) if isinstance(source, Lent) else None


def test_a_film_is_read_from_memory_once(store: Store, tmp_path: Path) -> None:
    intake = intake_on(store, tmp_path)
    digest = send(intake, png(3))
    assert lent(intake.files, digest) == png(3)
    assert lent(intake.files, digest) is None
    with intake.files.film(digest).lent() as source:
        assert source == intake.files.path(digest)


@pytest.mark.parametrize("content", [dicom(1), dicom(2, Rows=700, Columns=900, PixelData=bytes(630_000)), png(7, 300)])
def test_a_child_reads_the_same_from_memory_as_from_the_disk(
    store: Store, tmp_path: Path, sandbox: Sandbox, content: bytes
) -> None:
    intake = intake_on(store, tmp_path)
    film = intake.files.film(send(intake, content))
    elsewhere = film.path.rename(tmp_path / "elsewhere")  # so that it can only come from memory
    with film.lent() as source:
        from_memory = sandbox.run(prepare_film, source, *READ_FOR, None, film.known_sha256, True)
    elsewhere.rename(film.path)
    with film.lent() as source:
        assert source == film.path
        from_disk = sandbox.run(prepare_film, source, *READ_FOR, None, None, True)
    np.testing.assert_array_equal(from_memory.tile, from_disk.tile)
    first, second = ({**dataclasses.asdict(one), "tile": None} for one in (from_memory, from_disk))
    assert first == second


def test_what_was_read_stays_when_its_memory_is_used_again(store: Store, tmp_path: Path, sandbox: Sandbox) -> None:
    intake, tiles = intake_on(store, tmp_path), []
    for level in range(5, 5 + 3 * MOST):
        film = intake.files.film(send(intake, png(level)))
        with film.lent() as source:
            assert isinstance(source, Lent)
            tiles.append(sandbox.run(prepare_film, source, *READ_FOR, None, film.known_sha256, True).tile)
    assert [int(tile.min()) for tile in tiles] == [int(tile.max()) for tile in tiles] == list(range(5, 5 + 3 * MOST))


def test_the_oldest_goes_when_its_room_is_wanted(store: Store, tmp_path: Path) -> None:
    intake = intake_on(store, tmp_path)
    digests = [send(intake, png(level)) for level in range(MOST + 2)]
    there = [lent(intake.files, digest) is not None for digest in digests]
    assert there == [False, False] + [True] * MOST


def test_films_beyond_the_room_there_is_are_kept_as_well_as_others(store: Store, tmp_path: Path) -> None:
    intake = intake_on(store, tmp_path)
    taken = [intake.files.recent.take() for _ in range(MOST)]
    assert None not in taken
    digest = send(intake, png(9))
    assert intake.files.path(digest).read_bytes() == png(9)
    assert lent(intake.files, digest) is None
    for room in taken:
        assert room is not None
        intake.files.recent.give_back(room)
    assert lent(intake.files, send(intake, png(10))) == png(10)


def test_a_larger_film_is_read_from_the_disk(store: Store, tmp_path: Path) -> None:
    side = 2100
    content = dicom(3, Rows=side, Columns=side, PixelData=bytes(range(100)) * (side * side // 100))
    assert len(content) > LARGEST_BYTES
    intake = intake_on(store, tmp_path)
    with intake.begin() as arrival:
        arrival.write(content[: 1 << 19])
        assert not arrival.waits(1 << 19)
        assert arrival.waits(LARGEST_BYTES)
    digest = send(intake, content)
    assert hashlib.sha256(intake.files.path(digest).read_bytes()).hexdigest() == digest
    assert lent(intake.files, digest) is None


def test_no_bytes_of_an_encrypted_film_stay(store: Store, tmp_path: Path) -> None:
    intake = intake_on(store, tmp_path, new_data_key())
    with intake.files.film(send(intake, png(4))).lent() as source:
        assert source == png(4)


def test_a_film_that_is_no_longer_fresh_is_read_from_the_disk(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = intake_on(store, tmp_path)
    digest = send(intake, png(5))
    monkeypatch.setattr(film_files, "FRESH_S", 0.0)
    assert lent(intake.files, digest) is None


def test_an_erased_film_is_gone_from_memory(store: Store, tmp_path: Path) -> None:
    intake = intake_on(store, tmp_path)
    digest = send(intake, png(6))
    (room, size) = intake.files.recent._kept[digest]
    assert room.memory[:size] == png(6)
    intake.files.remove(digest)
    assert room.memory[:size] == bytes(size)
    assert lent(intake.files, digest) is None


def test_the_same_film_again_takes_one_room(store: Store, tmp_path: Path) -> None:
    intake = intake_on(store, tmp_path)
    digests = {send(intake, png(8)) for _ in range(3 * MOST)}
    assert len(digests) == 1
    assert len(intake.files.recent._kept) == 1
    assert len([room for _ in range(MOST) if (room := intake.files.recent.take())]) == MOST


def test_a_child_that_hangs_is_dead_before_its_memory_is_used_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake, order = intake_on(store, tmp_path), []
    film = intake.files.film(send(intake, png(2)))
    with Sandbox(1, wall_s=0.5, preload=()) as box:
        child = next(iter(box._children))
        real = child.kill
        monkeypatch.setattr(child, "kill", lambda: (real(), order.append(child.process.returncode)))
        monkeypatch.setattr(intake.files.recent._rooms, "give_back", lambda room: order.append("given back"))
        with pytest.raises(FilmError, match="longer"), film.lent() as source:
            assert isinstance(source, Lent)
            box.run(time.sleep, 60)
    assert order[:2] == [-9, "given back"]


def test_without_such_memory_films_go_through_the_cache(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_here(self: SharedMemory, size: int) -> None:
        raise OSError("no memory to share")

    monkeypatch.setattr(recent_films.SharedMemory, "__init__", none_here)
    intake = intake_on(store, tmp_path)
    digest = send(intake, png(11))
    assert intake.files.path(digest).read_bytes() == png(11)
    assert lent(intake.files, digest) is None


@pytest.mark.parametrize("keys", [(), (new_data_key(),)], ids=["plain", "encrypted"])
@pytest.mark.parametrize("piece", [70_000, 300_000])
def test_what_is_not_said_to_wait_never_goes_to_the_disk(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: tuple[object, ...], piece: int
) -> None:
    """Whatever the writer holds back of earlier bytes: a head that is not whole, a chunk to be encrypted."""
    handed, hand_on = list[int](), DirectWriter._hand_on

    def watched(writer: DirectWriter, view: memoryview, count: int) -> None:
        handed.append(count)
        hand_on(writer, view, count)

    monkeypatch.setattr(DirectWriter, "_hand_on", watched)
    content, waited = png(1) + bytes(3 * LARGEST_BYTES), 0
    with intake_on(store, tmp_path, *keys).begin() as arrival:
        for at in range(0, len(content), piece):
            waits, before = arrival.waits(piece), len(handed)
            arrival.write(content[at : at + piece])
            assert waits or len(handed) == before
            waited += waits
        assert len(handed) == 3
    assert waited < 12


@pytest.mark.parametrize("door", ["/api/v1/studies", "/dicom-web/studies"])
def test_the_disk_is_never_waited_for_where_all_requests_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    """A film larger than its room is written by a worker's thread where it waits; its other bytes need none."""
    side, seen, write = 2400, set(), Arrival.write
    content = dicom(4, Rows=side, Columns=side, PixelData=bytes(range(100)) * (side * side // 100))

    def watched(arrival: Arrival, chunk: bytes | memoryview) -> None:
        seen.add((threading.current_thread().name == "hilum-web", arrival.waits(len(chunk))))
        write(arrival, chunk)

    monkeypatch.setattr(Arrival, "write", watched)
    with (
        running(settings_in(tmp_path), answering=SmallModel(), drawing=SmallDrawing()) as service,
        httpx.Client(base_url=service.url, timeout=90, headers=let_in(service)) as http,
    ):
        sent = http.post(door, content=content, headers={"Content-Type": "application/dicom"})
        assert sent.status_code in (200, 201), sent.text
        (path,) = (tmp_path / "data" / "films").rglob("*.film")
        assert path.read_bytes() == kept(content)
    assert seen == {(True, False), (False, True)}


def test_the_first_bytes_of_a_film_are_known_without_its_file(store: Store, tmp_path: Path) -> None:
    intake = intake_on(store, tmp_path)
    digest = send(intake, dicom(5))
    intake.files.path(digest).unlink()
    assert next(intake.files.film(digest).heads()) == kept(dicom(5))[: film_files.HEAD_BYTES]
    intake.files.remove(digest)
    with pytest.raises(FilmError):
        next(intake.files.film(digest).heads())


def test_heads_are_of_the_newest_films_and_of_none_that_is_encrypted(store: Store, tmp_path: Path) -> None:
    files = intake_on(store, tmp_path).files
    for number in range(film_files.HEADS + 1):
        files.placed(f"{number:064x}", b"head")
    assert files.film(f"{1:064x}").first == b"head"
    assert files.film(f"{0:064x}").first == b""
    encrypted = intake_on(store, tmp_path, new_data_key())
    assert encrypted.files.film(send(encrypted, png(1))).first == b""


def test_films_that_are_placed_at_the_same_time_are_all_remembered(store: Store, tmp_path: Path) -> None:
    files, failed, interval = intake_on(store, tmp_path).files, list[Exception](), sys.getswitchinterval()

    def place(thread: int) -> None:
        try:
            for number in range(10_000):
                files.placed(f"{thread:032x}{number:032x}", b"head")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=place, args=(thread,)) for thread in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert failed == []
    files.placed("f" * 64, b"head")
    assert len(files._heads) == film_files.HEADS
