"""Films lie encrypted where there is a key, are opened in one place, and nobody else's bytes pass for theirs."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel, dicom, kept, png, with_head

from hilum.data_keys import Keyring, new_data_key
from hilum.errors import DataError, FilmError
from hilum.records.database import Database
from hilum.records.store import Store
from hilum.sealing import CHUNK_BYTES, MAGIC
from hilum.service import film_files
from hilum.service.app import running
from hilum.service.film_files import FilmFiles
from hilum.service.film_writing import Written
from hilum.service.intake import Intake

OLD, NEW = new_data_key(), new_data_key()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield Store(database)
    database.close()


def intake_on(store: Store, folder: Path, *keys: object) -> Intake:
    files = FilmFiles(folder / "data", Keyring(keys))  # type: ignore[arg-type]
    return Intake(
        files, store, model_sha256="m" * 64, largest_bytes=1 << 23, least_free_bytes=0, received=lambda _: None
    )


def send(intake: Intake, content: bytes) -> str:
    with intake.begin() as arrival:
        arrival.write(content)
        return arrival.finish(origin="rest").film_id


def test_every_folder_of_films_is_durable_before_the_first_film(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[Path, list[str]]] = []
    monkeypatch.setattr(
        film_files, "sync_directory", lambda folder: synced.append((folder, sorted(p.name for p in folder.iterdir())))
    )
    for times in (1, 2):
        files = FilmFiles(tmp_path / "data")
        assert (files.films, [f"{n:02x}" for n in range(256)]) in synced[-3:], times
    assert [folder for folder, _ in synced] == [
        *(files.films, tmp_path / "data", tmp_path),
        *(files.films, tmp_path / "data"),  # its own entry is old by now
    ]


def test_with_a_key_a_film_lies_encrypted_and_is_the_same_film(store: Store, tmp_path: Path) -> None:
    content = kept(dicom(PatientComments="Canary " * 3) + os.urandom(3 << 20))
    intake = intake_on(store, tmp_path, OLD)
    first = send(intake, content)
    digest = hashlib.sha256(content).hexdigest()
    lying = intake.files.path(digest).read_bytes()
    assert lying.startswith(MAGIC)
    assert b"Canary" not in lying
    film = intake.files.film(digest)
    assert film.read_bytes() == film.source() == content
    assert max(len(chunk) for chunk in film.chunks()) == CHUNK_BYTES
    assert (film.key_id(), send(intake, content)) == (OLD.id, first)
    assert list(intake.files.incoming.iterdir()) == []


def test_another_key_no_key_and_touched_bytes_are_named(store: Store, tmp_path: Path) -> None:
    intake = intake_on(store, tmp_path, OLD)
    for content in (png(1), png(2)):
        send(intake, content)
    one, two = (hashlib.sha256(content).hexdigest() for content in (png(1), png(2)))
    with pytest.raises(DataError, match=f"data key {OLD.id}, and given are {NEW.id}"):
        FilmFiles(tmp_path / "data", Keyring([NEW])).film(one).read_bytes()
    with pytest.raises(DataError, match="none is given"):
        FilmFiles(tmp_path / "data").film(one).source()
    os.replace(intake.files.path(two), intake.files.path(one))
    with pytest.raises(FilmError, match="put in another's place") as raised:
        intake.files.film(one).read_bytes()
    assert raised.value.code == "damaged"
    with pytest.raises(FilmError, match="can't be read any more") as raised:
        intake.files.film(two).source()
    assert raised.value.code == "gone"
    with pytest.raises(FilmError, match="pixels were erased"):
        intake.files.film("")


def test_a_plain_film_from_before_is_read_if_it_is_what_its_name_says(store: Store, tmp_path: Path) -> None:
    send(intake_on(store, tmp_path), png(1))
    digest = hashlib.sha256(png(1)).hexdigest()
    plain, keyed = FilmFiles(tmp_path / "data"), FilmFiles(tmp_path / "data", Keyring([NEW, OLD]))
    assert plain.film(digest).source() == plain.path(digest)
    assert keyed.film(digest).source() == png(1)
    keyed.path(digest).write_bytes(png(3))
    with pytest.raises(FilmError, match="changed or damaged on disk"):
        keyed.film(digest).source()


def test_a_film_is_encrypted_anew(store: Store, tmp_path: Path) -> None:
    send(intake_on(store, tmp_path, OLD), png(1))
    digest = hashlib.sha256(png(1)).hexdigest()
    files = FilmFiles(tmp_path / "data", Keyring([NEW, OLD]))
    assert files.encrypt(digest)
    assert not files.encrypt(digest), "once is enough"
    assert not FilmFiles(tmp_path / "data").encrypt(digest)
    assert files.path(digest).stat().st_mode & 0o777 == 0o600
    assert FilmFiles(tmp_path / "data", Keyring([NEW])).film(digest).read_bytes() == png(1)


def test_the_same_film_in_another_container_leaves_no_second_file(store: Store, tmp_path: Path) -> None:
    intake = intake_on(store, tmp_path)
    first = send(intake, dicom())
    assert send(intake, with_head(dicom(), SourceApplicationEntityTitle="SITE")) == first
    assert sorted(path.name for path in intake.files.films.rglob("*.film")) == [
        intake.files.path(hashlib.sha256(kept(dicom())).hexdigest()).name
    ]


def test_no_file_is_removed_between_its_place_and_its_record(tmp_path: Path) -> None:
    files, order = FilmFiles(tmp_path / "data"), []
    with files.placing(), files.placing():
        thread = threading.Thread(target=lambda: _remove(files, order))
        thread.start()
        thread.join(0.1)
        order.append("recorded")
    thread.join()
    assert order == ["recorded", "removed"]
    lock = str(tmp_path / "data/.films.lock")
    code = f"import fcntl, os; fcntl.flock(os.open({lock!r}, 2), fcntl.LOCK_SH | fcntl.LOCK_NB)"
    with files.removing():
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 1


def _remove(files: FilmFiles, order: list[str]) -> None:
    with files.removing():
        order.append("removed")


def test_a_service_with_a_key_answers_and_draws(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, data_key=OLD.text)
    with (
        running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service,
        httpx.Client(base_url=service.url, timeout=90, headers=let_in(service)) as http,
    ):
        sent = http.post("/api/v1/studies?wait=60", content=png(90), headers={"Content-Type": "image/png"}).json()
        assert sent["state"] == "answered"
        assert http.get(f"/api/v1/studies/{sent['id']}/film.png").status_code == 200
        assert http.get(f"/api/v1/studies/{sent['id']}/heatmap/pneumonia.png").status_code == 200
    assert [path.read_bytes()[:8] for path in settings.data.rglob("*.film")] == [MAGIC]


def test_only_what_this_process_hashed_just_now_is_taken_for_what_its_name_says(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(png(1)).hexdigest()
    intake, store.former = intake_on(store, tmp_path), "none"  # else what the other process wrote would be looked at
    send(intake, png(1))
    assert intake.files.film(digest).known_sha256 == digest
    monkeypatch.setattr(film_files, "FRESH_S", 0.0)
    assert intake.files.film(digest).known_sha256 is None, "it may have changed meanwhile"
    monkeypatch.undo()
    assert FilmFiles(tmp_path / "data").film(digest).known_sha256 is None, "another process wrote it"
    with intake.begin() as arrival:
        os.write(arrival.descriptor, png(2))
        told = Written(file_sha256="f" * 64, size=len(png(2)), format="png")
        arrival.finish(origin="dicom", written=told)
    assert intake.files.film("f" * 64).known_sha256 is None, "who was told its digest didn't compute it"
    assert FilmFiles(tmp_path / "data", Keyring([OLD])).film(digest).known_sha256 == digest, "shown as it is opened"


def test_as_many_films_are_remembered_as_a_service_has_in_hand(store: Store, tmp_path: Path) -> None:
    files = intake_on(store, tmp_path).files
    for number in range(film_files.REMEMBERED + 1):
        files.placed(f"{number:064x}")
    assert files.film(f"{film_files.REMEMBERED:064x}").fresh
    assert not files.film("0" * 64).fresh
