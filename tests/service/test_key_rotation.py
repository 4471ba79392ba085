"""A new key takes over everything, goes on after a kill, and a wrong one touches nothing."""

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.records.test_store import answer
from tests.service.small import dicom
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.data_keys import Keyring, create_key_file, new_data_key, put_first, read_keyring
from hilum.errors import DataError, FilmError, ServiceError, UsageError
from hilum.files import take_lock
from hilum.records.audit import check, entries
from hilum.records.database import Database
from hilum.records.identifiers import identities
from hilum.records.key_change import bring_under_key, film_files, keys_in_use, require_taken_over
from hilum.records.store import Store, now
from hilum.records.values import Identity
from hilum.sealing import Sealer
from hilum.service.backup import back_up, restore
from hilum.service.film_files import FilmFiles
from hilum.service.intake import Intake
from hilum.service.key_rotation import Applied, HandedOver, apply_keys, key_status, rotate
from hilum.service.rekeying import Rekeying, bring_films

FILMS = 12


def url_in(data: Path) -> str:
    return f"sqlite:///{data / 'hilum.db'}"


def fill(data: Path, keys: Keyring, films: int = FILMS) -> None:
    """A service's folder with films of one patient each."""
    data.mkdir(exist_ok=True)
    database = Database(url_in(data), keys)
    bring_under_key(database, now)
    store, files = Store(database), FilmFiles(data, keys)
    intake = Intake(
        files, store, model_sha256="m" * 64, largest_bytes=1 << 20, least_free_bytes=0, received=lambda _: None
    )
    for number in range(films):
        with intake.begin() as arrival:
            arrival.write(dicom(number + 1, number + 1) + os.urandom(20_000))
            arrival.finish(origin="rest")
        claim = store.claim("w", lease_s=60, max_attempts=3)
        assert claim
        store.record_answer(claim.film_id, "w", Identity(patient_id=f"P{number}"), answer())
    database.close()


def readable(data: Path, keys: Keyring) -> int:
    """Films whose bytes and identifiers are whole under these keys."""
    database, files = Database(url_in(data), keys), FilmFiles(data, keys)
    names = film_files(database)
    for name in names:
        assert hashlib.sha256(files.film(name).read_bytes()).hexdigest() == name
    with database.read() as session:
        ids = [film.film_id for film in Store(database).films(limit=100).films]
        assert {who.patient_id for who in identities(session, ids).values()} == {f"P{n}" for n in range(len(ids))}
        assert check(entries(session)).whole
    database.close()
    return len(names)


def test_what_was_readable_is_encrypted_and_a_new_key_takes_over(tmp_path: Path) -> None:
    data, path = tmp_path / "data", tmp_path / "keys"
    fill(data, Keyring())
    first = create_key_file(path)
    done = apply_keys(data, url_in(data), read_keyring(None, path))
    assert (done.key_id, done.films, done.missing, done.retired) == (first.id, FILMS, (), ())
    second = rotate(data, url_in(data), path)
    assert isinstance(second, Applied)
    assert (second.films, second.retired, read_keyring(None, path).ids) == (
        FILMS,
        (first.id,),
        (second.key_id, first.id),
    )
    alone = Keyring(read_keyring(None, path).keys[:1])
    assert readable(data, alone) == FILMS
    status = key_status(data, url_in(data), alone)
    assert (status.films, status.in_use, status.missing) == ({second.key_id: FILMS}, (second.key_id,), 0)
    assert apply_keys(data, url_in(data), alone).films == 0


@pytest.mark.parametrize("given", [Keyring([new_data_key()]), Keyring()])
def test_a_wrong_or_missing_key_touches_nothing(tmp_path: Path, given: Keyring) -> None:
    data, path = tmp_path / "data", tmp_path / "keys"
    create_key_file(path)
    fill(data, read_keyring(None, path), films=2)
    before = {one: one.read_bytes() for one in data.rglob("*.film")}
    with pytest.raises((ServiceError, UsageError), match="Nothing was touched|No data key is given"):
        apply_keys(data, url_in(data), given)
    with pytest.raises(DataError, match="backup is encrypted with the data key"):
        back_up(data, tmp_path / "no", keys=given)
    assert not (tmp_path / "no").exists()
    assert {one: one.read_bytes() for one in data.rglob("*.film")} == before
    other = tmp_path / "other"
    create_key_file(other)
    with pytest.raises(ServiceError, match="Nothing was touched"):
        rotate(data, url_in(data), other)
    assert len(read_keyring(None, other).ids) == 1, "the file of keys is as it was, too"


def test_a_film_that_is_gone_keeps_the_older_key_in_use(tmp_path: Path) -> None:
    data, path = tmp_path / "data", tmp_path / "keys"
    first = create_key_file(path)
    fill(data, read_keyring(None, path), films=2)
    next(data.rglob("*.film")).unlink()
    done = rotate(data, url_in(data), path)
    assert isinstance(done, Applied)
    assert (done.films, len(done.missing), done.retired) == (1, 1, ())
    assert key_status(data, url_in(data), read_keyring(None, path)).in_use == (first.id, done.key_id)


def test_a_film_that_names_an_unknown_key_stops_no_other_one(tmp_path: Path) -> None:
    """The id lies in the file's head, where damage reaches it."""
    data, older, newer = tmp_path / "data", new_data_key(), new_data_key()
    fill(data, Keyring([older]))
    keys = Keyring([newer, older])
    files = FilmFiles(data, keys)
    name, path = files.names()[0], files.path(files.names()[0])
    content = path.read_bytes()
    path.write_bytes(content.replace(bytes.fromhex(older.id), bytes.fromhex(new_data_key().id), 1))
    done = apply_keys(data, url_in(data), keys)
    assert (done.films, done.missing, done.retired) == (FILMS - 1, (name,), ())


def test_a_running_service_is_handed_the_new_key(tmp_path: Path) -> None:
    """The file is changed, once; who would write beside the service with a key that it doesn't know is refused."""
    data, path = tmp_path / "data", tmp_path / "keys"
    first = create_key_file(path)
    fill(data, read_keyring(None, path), films=2)
    lock = take_lock(data / ".lock")
    handed = rotate(data, url_in(data), path)
    assert isinstance(handed, HandedOver)
    assert read_keyring(None, path).ids == (handed.key_id, first.id)
    assert rotate(data, url_in(data), path) == handed, "it waits for the service, and no third key is made"
    keys = read_keyring(None, path)
    status = key_status(data, url_in(data), keys)
    assert (status.in_use, status.films) == ((first.id,), {first.id: 2})
    with pytest.raises(ServiceError, match=r"takes a new key over when it is started anew"):
        apply_keys(data, url_in(data), keys)
    given = {"HILUM_DATA_KEY_FILE": str(path), "HILUM_DATA": str(data)}
    assert "start the service anew" in run("keys", "rotate", **given)
    refused = CliRunner().invoke(app, ["privacy", "erase", "--patient", "P0"], env=given)
    assert "the records are not under it yet" in str(refused.exception)
    take_over(data, keys)
    before = path.read_bytes()
    with pytest.raises(ServiceError, match=r"still bringing films .* Nothing was changed"):
        rotate(data, url_in(data), path)
    assert path.read_bytes() == before
    os.close(lock)
    with pytest.raises(UsageError, match="There is no folder"):
        apply_keys(tmp_path / "none", url_in(tmp_path), Keyring([new_data_key()]))


def take_over(data: Path, keys: Keyring) -> None:
    """What a service does with the records at its start."""
    database = Database(url_in(data), keys)
    bring_under_key(database, now)
    database.close()


@contextlib.contextmanager
def rekeying(data: Path, keys: Keyring) -> Iterator[tuple[Rekeying, Database]]:
    """What a service does with the films while it runs, at full pace."""
    database = Database(url_in(data), keys)
    thread = Rekeying(FilmFiles(data, keys), database, share=1.0)
    thread.start()
    yield thread, database
    thread.stop()
    database.close()


@pytest.mark.parametrize("keyless", [True, False], ids=["readable before", "another key before"])
def test_a_service_encrypts_films_while_it_serves(tmp_path: Path, keyless: bool) -> None:
    data, path = tmp_path / "data", tmp_path / "keys"
    first = create_key_file(path)
    fill(data, Keyring() if keyless else read_keyring(None, path))
    if not keyless:
        put_first(path, new_data_key())
    keys = read_keyring(None, path)
    take_over(data, keys)
    assert readable(data, keys) == FILMS, "before any film was encrypted"
    with rekeying(data, keys) as (thread, database):
        thread.join(30)
        assert key_status(data, url_in(data), keys).films == {keys.active_id: FILMS}
        with database.read() as session:
            said = [json.loads(one.body)["detail"] for one in entries(session) if one.act == "data-key.applied"]
    assert said == [{"key": keys.active_id, "retired": [] if keyless else [first.id], "films": FILMS}]
    assert readable(data, Keyring(keys.keys[:1])) == FILMS
    with rekeying(data, keys) as (again, _):
        assert not again.under_way, "there is nothing to do any more"


def test_a_service_that_stops_goes_on_with_films_at_its_next_start(tmp_path: Path) -> None:
    data, path = tmp_path / "data", tmp_path / "keys"
    create_key_file(path)
    keys = read_keyring(None, path)
    fill(data, Keyring())
    take_over(data, keys)
    with Database(url_in(data), keys) as database:
        assert bring_films(FilmFiles(data, keys), database, actor="service", after_each=lambda n, _: n < 5) is None
    assert key_status(data, url_in(data), keys).films == {"": FILMS - 5, keys.active_id: 5}
    with rekeying(data, keys) as (thread, _):
        thread.join(30)
    assert key_status(data, url_in(data), keys).films == {keys.active_id: FILMS}


@pytest.mark.parametrize("moment", [now, lambda: now() - timedelta(days=400)], ids=["", "the clock was set back"])
def test_an_older_key_that_comes_first_again_takes_the_records_over_too(
    tmp_path: Path, moment: Callable[[], datetime]
) -> None:
    """Else they would stay under the newer key, which is written down as needed no more once the films are done."""
    data, older, newer = tmp_path / "data", new_data_key(), new_data_key()
    fill(data, Keyring([older]))
    take_over(data, Keyring([newer, older]))
    back = Keyring([older, newer])
    with Database(url_in(data), back) as database, pytest.raises(ServiceError, match="not under it yet"):
        require_taken_over(database)
    with Database(url_in(data), back) as database:
        assert bring_under_key(database, moment) > 0
        assert bring_under_key(database, moment) == 0
        require_taken_over(database)
    with rekeying(data, back) as (thread, database):
        thread.join(30)
        assert keys_in_use(database) == (older.id,)
    assert readable(data, Keyring([older])) == FILMS


def test_a_film_that_is_removed_while_it_is_encrypted_stays_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, path = tmp_path / "data", tmp_path / "keys"
    create_key_file(path)
    keys = read_keyring(None, path)
    fill(data, Keyring(), films=1)
    files = FilmFiles(data, keys)
    (name,) = files.names()
    finish = Sealer.finish

    def removed(self: Sealer, called: str) -> bytes:
        files.remove(name)
        return finish(self, called)

    monkeypatch.setattr(Sealer, "finish", removed)
    with pytest.raises(FilmError, match="was removed while it was encrypted"):
        files.encrypt(name)
    assert not [one for one in files.films.rglob("*") if one.is_file()]


def test_one_process_encrypts_the_films_of_a_folder(tmp_path: Path) -> None:
    data, path = tmp_path / "data", tmp_path / "keys"
    create_key_file(path)
    keys = read_keyring(None, path)
    fill(data, Keyring(), films=2)
    files = FilmFiles(data, keys)
    place = files.encrypting()
    with pytest.raises(ServiceError, match="Another process encrypts"):
        apply_keys(data, url_in(data), keys)
    os.close(place)
    half = files.films / "00/.half.part.film"
    half.write_bytes(b"of a process that was killed")
    assert apply_keys(data, url_in(data), keys).films == 2
    assert not half.exists()


def test_a_backup_needs_its_key_and_holds_none(tmp_path: Path) -> None:
    data, path = tmp_path / "data", tmp_path / "keys"
    key = create_key_file(path)
    keys = read_keyring(None, path)
    fill(data, keys, films=2)
    assert back_up(data, tmp_path / "kept", keys=keys).films == 2
    kept = b"".join(one.read_bytes() for one in (tmp_path / "kept").rglob("*") if one.is_file())
    assert key.text.encode() not in kept
    assert key.raw not in kept
    with pytest.raises(DataError, match=f"data key {key.id}, which is not given"):
        restore(tmp_path / "kept", tmp_path / "back")
    put_first(path, new_data_key())
    assert restore(tmp_path / "kept", tmp_path / "back", keys=read_keyring(None, path)).films == 2
    assert readable(tmp_path / "back", keys) == 2
    film = next((tmp_path / "kept").rglob("*.film"))
    film.write_bytes(film.read_bytes()[:-1])
    with pytest.raises(DataError, match="is damaged"):
        restore(tmp_path / "kept", tmp_path / "again", keys=keys)


KILLED = """
import sys
from pathlib import Path
from hilum.service.key_rotation import rotate
print("go", flush=True)
rotate(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
"""
SERVED = """
import sys
from pathlib import Path
from hilum.data_keys import new_data_key, put_first, read_keyring
from hilum.records.database import Database
from hilum.records.key_change import bring_under_key
from hilum.records.store import now
from hilum.service.film_files import FilmFiles
from hilum.service.rekeying import Rekeying
data, path = Path(sys.argv[1]), Path(sys.argv[3])
print("go", flush=True)
put_first(path, new_data_key())
keys = read_keyring(None, path)
database = Database(sys.argv[2], keys)
bring_under_key(database, now)
thread = Rekeying(FilmFiles(data, keys), database, share=1.0)
thread.start()
thread.join()
"""


def kill_often(tmp_path: Path, times: int) -> int:
    """Rotations, by the command and by a service in turn, that are killed at a random moment and run again, until
    nothing is left to do."""
    data, path, killed = tmp_path / "data", tmp_path / "keys", 0
    create_key_file(path)
    fill(data, read_keyring(None, path))
    for seed in range(times):
        words = [sys.executable, "-c", (KILLED, SERVED)[seed % 2], str(data), url_in(data), str(path)]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(random.Random(seed).uniform(0, 0.6))
            child.send_signal(signal.SIGKILL)
        killed += child.returncode == -signal.SIGKILL
        keys = read_keyring(None, path)
        assert readable(data, keys) == FILMS, f"after kill {seed}"
        if key_status(data, url_in(data), keys).in_use != (keys.active_id,):
            rotate(data, url_in(data), path)
        alone = Keyring(read_keyring(None, path).keys[:1])
        assert readable(data, alone) == FILMS, f"after going on {seed}"
        assert not list(data.rglob("*.part.film"))
    return killed


def test_a_killed_rotation_goes_on(tmp_path: Path) -> None:
    assert kill_often(tmp_path, 2) >= 0


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_rotation_killed_often_goes_on(tmp_path: Path) -> None:
    assert kill_often(tmp_path, 200) > 100


def run(*words: str, **environment: str) -> str:
    done = CliRunner().invoke(app, list(words), env=environment)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_commands_say_what_they_did(tmp_path: Path) -> None:
    data, path = tmp_path / "data", tmp_path / "keys"
    fill(data, Keyring(), films=1)
    assert "Keep a copy apart" in run("keys", "new-data-key", str(path))
    given = {"HILUM_DATA_KEY_FILE": str(path), "HILUM_DATA": str(data)}
    assert "films under no key: 1" in run("keys", "status", **given)
    assert "1 film more" in run("keys", "apply", "--quiet", **given)
    assert "backups from before still do" in run("keys", "rotate", "--quiet", **given)
    done = CliRunner().invoke(app, ["keys", "rotate", "--data", str(data)], env={"HILUM_DATA_KEY_FILE": ""})
    assert "which is not set" in str(done.exception or done.output)
