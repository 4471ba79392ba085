"""Films recorded before migration 0016 stay the films that they are, and their results keep their UIDs."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from tests.records.stepping import downgrade
from tests.records.test_store import MODEL, answer
from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel, dicom, png, read, with_head

from hilum.data_keys import Keyring, new_data_key
from hilum.errors import ServiceError, UsageError
from hilum.records.audit import check, entries
from hilum.records.database import Database
from hilum.records.former_films import FormerFilms
from hilum.records.results_out import answer_as_sent
from hilum.records.store import Store
from hilum.service import former_reading, intake
from hilum.service.app import running
from hilum.service.dicom.uids import derived_uid
from hilum.service.film_files import FilmFiles
from hilum.service.film_identity import identity_of
from hilum.service.former_reading import FormerReading
from hilum.service.intake import Intake
from hilum.service.logs import start_logs
from hilum.service.refusals import Refused
from hilum.service.results_out import result_of

KEY = new_data_key()
SITE = {"SourceApplicationEntityTitle": "SITE", "ImplementationVersionName": "OTHER 1.0"}
CAME: Mapping[str, bytes] = {
    "answered": dicom(1),
    "waiting": dicom(2, 20),
    "erased": dicom(3, 30),
    "gone": dicom(4, 40),
    "bare": with_head(dicom(5, 50), MediaStorageSOPInstanceUID=None),
    "picture": png(60),
}
ANSWERED = ("answered", "erased", "gone", "bare", "picture")


def as_it_was(content: bytes) -> tuple[bytes, str]:
    """What was kept of a film before, and what it was known by."""
    if not content[128:].startswith(b"DICM"):
        return content, hashlib.sha256(b"png\0" + content).hexdigest()
    at = 144 + int.from_bytes(content[140:144], "little")
    syntax = str(pydicom.dcmread(io.BytesIO(content)).file_meta.TransferSyntaxUID).encode()
    return bytes(128) + content[128:], hashlib.sha256(b"dicom\0" + syntax + b"\0" + content[at:]).hexdigest()


class Site:
    """A service's folder: its records and films."""

    def __init__(self, data: Path, *keys: object) -> None:
        data.mkdir(exist_ok=True)
        self.url, self.keys = f"sqlite:///{data / 'hilum.db'}", Keyring(keys)  # type: ignore[arg-type]
        self.files, self.ids = FilmFiles(data, self.keys), dict[str, str]()
        self.open()
        for name, content in CAME.items():
            self.ids[name] = self.send(content, request_key="k" * 64 if name == "waiting" else None)
            if name in ANSWERED:
                claim = self.store.claim("w", lease_s=600, max_attempts=3)
                while claim is not None and claim.film_id != self.ids[name]:
                    claim = self.store.claim("w", lease_s=600, max_attempts=3)
                self.store.record_answer(self.ids[name], "w", read(content)[1], answer())
        self.database.close()
        self._age(data / "hilum.db")
        self.open()

    def open(self) -> None:
        self.database = Database(self.url, self.keys)
        self.store = Store(self.database)

    def _age(self, records: Path) -> None:
        """Make of it what the version before would have made."""
        downgrade(self.url, "0015")
        with contextlib.closing(sqlite3.connect(records)) as raw, raw:
            for name, content in CAME.items():
                (new,) = raw.execute("SELECT file_sha256 FROM films WHERE id = ?", (self.ids[name],)).fetchone()
                self.files.path(new).unlink()
                kept, known_by = as_it_was(content)
                digest = "" if name == "erased" else hashlib.sha256(kept).hexdigest()
                values = (known_by, digest, len(kept), self.ids[name])
                raw.execute("UPDATE films SET content_sha256 = ?, file_sha256 = ?, size = ? WHERE id = ?", values)
                raw.execute("UPDATE idempotency_keys SET request_sha256 = ? WHERE film_id = ?", (known_by, values[3]))
                if name not in ("erased", "gone"):
                    path = self.files.path(digest)
                    path.parent.mkdir(exist_ok=True)
                    path.write_bytes(kept)
                    if self.keys:
                        self.files.encrypt(digest)

    def send(self, content: bytes, request_key: str | None = None, **said: Any) -> str:
        door = Intake(
            self.files, self.store, model_sha256=MODEL, largest_bytes=1 << 20, least_free_bytes=0, received=str
        )
        with door.begin() as arrival:
            arrival.write(content)
            return arrival.finish(origin="rest", request_key=request_key, **said).film_id

    def rows(self) -> dict[str, dict[str, Any]]:
        """Each film's row by name; what came later by its id."""
        with self.database.read() as session:
            rows = session.connection().exec_driver_sql("SELECT * FROM films").mappings().all()
        names = {film_id: name for name, film_id in self.ids.items()}
        return {names.get(row["id"], row["id"]): dict(row) for row in rows}

    def read_all(self) -> FormerReading:
        reading = FormerReading(FormerFilms(self.database), self.files, self.store)
        reading.start()
        reading.join(120)
        return reading


@pytest.fixture(params=["plain", "encrypted"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "data", *([KEY] if request.param == "encrypted" else []))
    yield made
    made.database.close()


def other_head(name: str) -> bytes:
    """The same film as another sender sends it."""
    return with_head(CAME[name], **SITE) if name not in ("bare", "picture") else CAME[name]


def test_until_it_is_read_a_former_film_is_known_by_what_it_was_known_by(site: Site) -> None:
    before, files = site.rows(), site.files.names()
    assert {row["identity_sha256"] for row in before.values()} == {None}
    for name in CAME:
        assert site.send(other_head(name)) == site.ids[name], name
    after = site.rows()
    assert after.keys() == before.keys()
    for name in CAME:
        assert after[name]["content_sha256"] == before[name]["content_sha256"], "results' UIDs are derived from it"
        assert after[name]["identity_sha256"] == identity_of([CAME[name]])
        assert after[name]["reason_code"] == ""
    assert set(site.files.names()) - set(files) == {identity_of([CAME["erased"]])}, "its pixels are back, and no others"
    assert after["answered"]["file_sha256"] == before["answered"]["file_sha256"]
    with site.database.read() as session:
        assert check(entries(session)).whole


def test_read_once_it_is_known_by_the_digest_of_todays_file(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.read_all()
    rows = site.rows()
    assert site.store.former == "some"
    assert {name for name, row in rows.items() if row["identity_sha256"] is None} == {"erased", "gone"}
    for name in ("answered", "waiting", "bare", "picture"):
        assert rows[name]["identity_sha256"] == identity_of([CAME[name]])
    asked: list[str] = []
    former_identity_of = intake.former_identity_of

    def counted(chunks: Iterator[bytes]) -> str:
        asked.append("once")
        return former_identity_of(chunks)

    monkeypatch.setattr(intake, "former_identity_of", counted)
    for name in ("answered", "waiting", "bare", "picture"):
        assert site.send(other_head(name)) == site.ids[name], name
    new = site.send(dicom(9))
    assert asked == [], "nothing is hashed twice any more"
    for name in ("erased", "gone"):
        assert site.send(other_head(name)) == site.ids[name], "by the UID that its head names"
    assert asked == ["once"] * 2
    assert site.rows().keys() == {*CAME, new}


def test_a_film_under_other_uids_than_its_own_is_found_by_what_the_sender_announces(site: Site) -> None:
    """Its head named another instance than its data set, and no new film with such a head is the same."""
    site.read_all()
    odd = with_head(CAME["answered"], MediaStorageSOPInstanceUID="1.2.3", **SITE)
    assert site.send(odd, sop_instance_uid="1.2.826.0.1.3680043.10.1.1") == site.ids["answered"]
    assert site.rows()["answered"]["identity_sha256"] == identity_of([CAME["answered"]])


@pytest.mark.parametrize("done", [False, True])
def test_another_film_under_a_former_films_uid_is_still_set_aside(site: Site, done: bool) -> None:
    if done:
        site.read_all()
    other = site.send(dicom(1, 99), sop_instance_uid="1.2.826.0.1.3680043.10.1.1")
    assert site.rows()[other]["reason_code"] == "same-uid-other-content"
    assert site.send(dicom(1, 99)) == other


def test_a_key_of_a_request_is_good_over_the_upgrade(site: Site) -> None:
    assert site.send(other_head("waiting"), request_key="k" * 64) == site.ids["waiting"]
    with pytest.raises(UsageError, match="used for another film"):
        site.send(dicom(10), request_key="k" * 64)


def test_stopped_it_goes_on_at_the_next_start(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(former_reading, "FILMS_AT_ONCE", 2)
    reading = FormerReading(FormerFilms(site.database), site.files, site.store)
    seen: list[str] = []

    def stopping(chunks: Iterator[bytes]) -> str:
        seen.append(identity_of(chunks))
        if len(seen) == 3:
            reading._stopping.set()
        return seen[-1]

    monkeypatch.setattr(former_reading, "identity_of", stopping)
    reading.start()
    reading.join(120)
    done = {row["identity_sha256"] for row in site.rows().values()} - {None}
    assert (done, site.store.former) == (set(seen), "unread")
    monkeypatch.setattr(former_reading, "identity_of", identity_of)
    site.read_all()
    assert sum(row["identity_sha256"] is not None for row in site.rows().values()) == 4
    assert site.store.former == "some"
    site.read_all().stop()


def test_the_log_says_how_many_are_left(site: Site) -> None:
    out = io.StringIO()
    start_logs(out)
    site.read_all()
    begun, gone, ended = (json.loads(line) for line in out.getvalue().splitlines())
    assert (begun["event"], begun["remaining"]) == ("films from before an upgrade are read", 5)
    assert (gone["event"], gone["film"], gone["code"]) == ("film without identity", site.ids["gone"], "gone")
    assert (ended["event"], ended["remaining"]) == ("films from before an upgrade read", 1)


def test_films_of_a_folder_elsewhere_are_counted_and_not_all_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Services on one PostgreSQL that share no folder of films wrote a line for each film of the others."""
    monkeypatch.setattr(former_reading, "NAMED_GONE", 2)
    shutil.rmtree(site.files.films)
    out = io.StringIO()
    start_logs(out)
    site.read_all()
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [one["event"] for one in said].count("film without identity") == 2
    counted = next(one for one in said if one["event"] == "films without identity")
    assert (counted["films"], counted["code"]) == (5, "gone")


def test_without_the_key_nothing_is_identified_and_nothing_breaks(tmp_path: Path) -> None:
    site = Site(tmp_path / "data", KEY)
    reading = FormerReading(FormerFilms(site.database), FilmFiles(tmp_path / "data"), site.store)
    reading.start()
    reading.join(120)
    assert {row["identity_sha256"] for row in site.rows().values()} == {None}
    site.database.close()


def test_while_the_records_are_away_it_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, calls = Site(tmp_path / "data"), iter(range(9))
    monkeypatch.setattr(former_reading, "AGAIN_AFTER_S", 0.0)
    films = FormerFilms(site.database)
    identify = films.identify

    def away_once(found: Mapping[str, str]) -> Any:
        if next(calls) == 0:
            raise ServiceError("The records are away.")
        return identify(found)

    monkeypatch.setattr(films, "identify", away_once)
    reading = FormerReading(films, site.files, site.store)
    reading.start()
    reading.join(120)
    assert site.store.former == "some"
    assert sum(row["identity_sha256"] is not None for row in site.rows().values()) == 4
    site.database.close()


def test_two_films_that_are_one_today_do_not_stop_the_others(tmp_path: Path) -> None:
    site = Site(tmp_path / "data")
    films = FormerFilms(site.database)
    one, two, three = (site.ids[name] for name in ("answered", "waiting", "bare"))
    assert list(films.identify({one: "1" * 64, two: "1" * 64, three: "3" * 64})) == [two]
    assert site.rows()["bare"]["identity_sha256"] == "3" * 64
    assert films.identify({one: "2" * 64, "f" * 32: "4" * 64}) == (), "who has one keeps it; who is gone is passed over"
    assert site.rows()["answered"]["identity_sha256"] == "1" * 64
    site.database.close()


def test_a_film_of_which_nothing_is_left_is_a_new_film_once_the_others_are_read(tmp_path: Path) -> None:
    site = Site(tmp_path / "data")
    with site.database.write() as session:
        session.connection().exec_driver_sql("UPDATE films SET sop_instance_uid = NULL WHERE file_sha256 = ''")
    site.read_all()
    assert site.send(CAME["erased"]) not in site.ids.values()
    site.database.close()


def test_a_new_site_has_none(tmp_path: Path) -> None:
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'hilum.db'}")) as database:
        store = Store(database)
        reading = FormerReading(FormerFilms(database), FilmFiles(tmp_path / "data"), store)
        reading.start()
        reading.join(120)
        assert store.former == "none"


def test_the_same_former_film_through_many_doors_at_once_is_one(site: Site) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(site.send, [other_head("answered"), CAME["answered"]] * 20))
    assert ids == {site.ids["answered"]}
    assert identity_of([CAME["answered"]]) not in site.files.names()


def test_a_film_that_can_not_be_read_back_is_not_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path / "data")
    replace = os.replace

    def spoil(source: Path, target: Path) -> None:
        replace(source, target)
        target.write_bytes(b"")

    monkeypatch.setattr(os, "replace", spoil)
    with pytest.raises(Refused, match="was not accepted; send it again") as raised:
        site.send(dicom(11))
    assert raised.value.code == "storage-failed"
    assert site.rows().keys() == CAME.keys()
    site.database.close()


def test_a_started_service_takes_its_films_along(tmp_path: Path) -> None:
    """The whole way: another head at the door gives the same film, and its report has the UID that it had."""
    site = Site(tmp_path / "data")
    site.database.close()
    uid, model = "1.2.826.0.1.3680043.10.1.1", SmallModel(MODEL)
    series = {"Content-Type": "application/dicom"}
    with (
        running(settings_in(tmp_path), answering=model, drawing=SmallDrawing()) as service,
        httpx.Client(base_url=service.url, timeout=90, headers=let_in(service)) as http,
    ):
        assert service.room.former_reading is not None
        service.room.former_reading.join(120)
        assert service.room.store.former == "some"
        again = http.post("/api/v1/studies?wait=60", content=other_head("answered"), headers=series)
        assert (again.status_code, again.json()["id"], again.json()["state"]) == (200, site.ids["answered"], "answered")
        known = service.room.dicomweb.indexer.now(site.ids["answered"])
        (told,) = known.answers
        with service.room.database.read() as session:
            sent = answer_as_sent(session, told.id)
        assert known.content_sha256 == sent.content_sha256 == as_it_was(CAME["answered"])[1]
        assert result_of(sent).uid("report", uid) == derived_uid("report", uid, known.content_sha256, MODEL)
        states = service.room.store.counts()
    assert "quarantined" not in states
    assert sum(states.values()) == len(CAME)
