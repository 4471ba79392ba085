"""Films taken out to be trained on: plain only where they may lie plain, and under the pseudonyms of those before."""

import csv
import hashlib
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest

from hilum.data_keys import Keyring, new_data_key
from hilum.errors import UsageError
from hilum.imaging.dicom_writing import FilmHeader, film_bytes
from hilum.imaging.pseudonyms import Pseudonyms, is_pseudonym
from hilum.records.database import Database
from hilum.records.schema import FilmRow
from hilum.service.film_files import FilmFiles
from hilum.service.releasing import OPAQUE_ID, release

KEY = bytes(range(32))
CANARY = "QANARY"


def content(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 1 << 12, (40, 36), np.uint16)
    header = FilmHeader(patient_id="4711", patient_name=f"{CANARY}^Una", sex="F", age_years=50.0, institution=CANARY)
    return film_bytes(pixels, header)[0]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield made
    made.close()


def files_with(database: Database, folder: Path, *keys: object) -> FilmFiles:
    """Two films, "a" and "b", and "c" whose pixels were erased."""
    files = FilmFiles(folder / "data", Keyring(keys))  # type: ignore[arg-type]
    for number, film in enumerate("abc"):
        plain = content(number)
        digest = hashlib.sha256(plain).hexdigest()
        row = FilmRow(id=film, received_at=datetime.now(UTC), origin="rest", format="dicom", content_sha256=digest)
        row.file_sha256, row.size, row.state = ("" if film == "c" else digest), len(plain), "answered"
        with database.write() as session:
            session.add(row)
        path = files.path(digest)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(plain)
        if keys:
            files.encrypt(digest)
    return files


def rows(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.read_text())))


def test_films_lie_there_with_their_labels_and_what_is_gone_is_named(database: Database, tmp_path: Path) -> None:
    files, out = files_with(database, tmp_path), tmp_path / "out"
    with database.read() as session:
        table, missing = release(session, files, {"a": "normal", "b": "flu", "c": "normal", "d": "normal"}, out)
        again, _ = release(session, files, {"a": "normal", "b": "flu"}, out)
    assert [(one["path"], one["label"], one[OPAQUE_ID]) for one in rows(again)] == [
        ("a.dcm", "normal", "a"),
        ("b.dcm", "flu", "b"),
    ]
    assert table == again
    assert (out / "a.dcm").read_bytes() == content(0)
    assert [path.stat().st_mode & 0o077 for path in (out, out / "a.dcm")] == [0, 0]
    assert "pixels were erased" in missing["c"]
    assert "The records don't know it" in missing["d"]


def test_encrypted_films_are_given_out_without_names_or_by_leave(database: Database, tmp_path: Path) -> None:
    files = files_with(database, tmp_path, new_data_key())
    with database.read() as session:
        with pytest.raises(UsageError, match="Films are encrypted here, .*--pseudonym-key FILE.*--plain"):
            release(session, files, {"a": "normal"}, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        release(session, files, {"a": "normal"}, tmp_path / "hidden", key=KEY)
        release(session, files, {"a": "normal"}, tmp_path / "plain", plain=True)
    hidden = (tmp_path / "hidden" / "a.dcm").read_bytes()
    assert CANARY.encode() not in hidden
    film = pydicom.dcmread(io.BytesIO(hidden))
    assert film.PatientID == Pseudonyms(KEY).patient("id\0\0" + "4711")
    assert is_pseudonym(film.PatientID)
    assert film.PatientSex == "F"
    assert (tmp_path / "plain" / "a.dcm").read_bytes() == content(0)
