"""Earlier films come from a real Orthanc, by C-GET and by C-MOVE; and everything at once over TLS."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.bundle.small import small_bundle
from tests.inference.films import film
from tests.service.pem import issue
from tests.system.test_orthanc import Orthanc, until
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.service.app import Running, running
from hilum.service.settings import read_settings


def taken(number: int, day: str, **changes: Any) -> bytes:
    header = {"patient_id": "4711", "birth_date": "19700101", "study_date": day, "study_time": "101112", **changes}
    return film(number, **header)


HELD = (
    taken(1, "20250101"),
    taken(2, "20240101"),
    taken(3, "20230101"),
    taken(4, "20250601", view_position="LL"),
    taken(5, "20250701", patient_id="47110"),
    taken(6, "20250801", birth_date="19990101"),
)


@contextlib.contextmanager
def reading_room(folder: Path, orthanc: Orthanc, **changes: Any) -> Iterator[Running]:
    given = {"pacs": f"pacs=dicom://ORTHANC@127.0.0.1:{orthanc.dicom_port}", "results_retry_cap_s": 3, **changes}
    settings = read_settings(
        bundle=small_bundle(folder / "small.hilum"),
        data=folder / "data",
        port=0,
        dicom_port=orthanc.hilum_port,
        **given,
    )
    with running(settings) as service:
        yield service


def route(orthanc: Orthanc, content: bytes) -> None:
    stored = orthanc.web.post("/instances", content=content).json()["ID"]
    sent = orthanc.web.post("/modalities/hilum/store", content=stored).json()
    assert sent.get("FailedInstancesCount") == 0, sent


def dates(service: Running, film_id: str) -> list[str]:
    """Study dates of a film's priors, the latest first."""
    import pydicom

    files, films = service.room.intake.files, {one.film_id: one for one in service.room.store.films().films}
    priors = [films[one] for one in service.room.look_ups.priors_of(film_id)]
    assert {(one.origin, one.state, one.reason_code) for one in priors} <= {("pacs", "not-analysed", "prior")}
    return [pydicom.dcmread(files.path(one.file_sha256)).StudyDate for one in priors]


def answered(service: Running) -> str:
    (new,) = (one for one in service.room.store.films().films if one.state == "answered")
    return new.film_id


@pytest.mark.system
@pytest.mark.parametrize("way", ["get", "move"])
def test_priors_come_from_orthanc_when_a_film_is_answered(tmp_path: Path, way: str) -> None:
    orthanc = Orthanc(tmp_path / "orthanc")
    orthanc.start()
    try:
        with reading_room(tmp_path, orthanc, pacs_retrieve=way) as service:
            for one in HELD:
                assert orthanc.web.post("/instances", content=one).status_code == 200
            route(orthanc, taken(100, "20261101"))
            done = {"done": 1}
            until(lambda: service.room.look_ups.counts() == done, f"looked up: {service.room.look_ups.lost()}")
            assert dates(service, answered(service)) == ["20250101", "20240101"]
            at = ["--pacs", f"pacs=dicom://ORTHANC@127.0.0.1:{orthanc.dicom_port}"]
            offered = CliRunner().invoke(app, ["pacs", "echo", *at, "--json"])
            assert json.loads(offered.stdout) == dict.fromkeys(("echo", "find", "find_answered", "get", "move"), True)
            found = CliRunner().invoke(app, ["pacs", "find", *at, "--patient-id", "47110", "--json"])
            (missing,) = json.loads(found.stdout)["studies"]
            fetched = CliRunner().invoke(app, ["pacs", "fetch", missing["study"], *at])
            assert fetched.exit_code == 0, fetched.output
            until(lambda: service.room.store.counts().get("answered") == 2, "a missing film is answered like others")
    finally:
        orthanc.stop()
        orthanc.web.close()


@pytest.mark.system
def test_films_in_priors_and_results_out_over_tls(tmp_path: Path) -> None:
    ours = issue(tmp_path, "hospital")
    theirs, mine = issue(tmp_path, "orthanc-tls", by=ours), issue(tmp_path, "hilum-tls", by=ours)
    both = tmp_path / "both.pem"
    both.write_bytes(mine.certificate.read_bytes() + mine.key.read_bytes())
    orthanc = Orthanc(
        tmp_path / "orthanc",
        tls=True,
        DicomTlsEnabled=True,
        DicomTlsCertificate=str(theirs.certificate),
        DicomTlsPrivateKey=str(theirs.key),
        DicomTlsTrustedCertificates=str(ours.certificate),
    )
    orthanc.start()
    try:
        changes = {
            "pacs": f"pacs=dicoms://ORTHANC@127.0.0.1:{orthanc.dicom_port}",
            "results_to": (f"pacs=dicoms://ORTHANC@127.0.0.1:{orthanc.dicom_port}",),
            "results_ca": ours.certificate,
            "results_certificate": both,
            "dicom_tls": "required",
            "dicom_ca": ours.certificate,
            "dicom_certificate": mine.certificate,
            "dicom_key": mine.key,
        }
        with reading_room(tmp_path, orthanc, **changes) as service:
            assert orthanc.web.post("/instances", content=HELD[0]).status_code == 200
            route(orthanc, taken(100, "20261101"))
            until(lambda: service.room.look_ups.counts() == {"done": 1}, f"looked up: {service.room.look_ups.lost()}")
            assert dates(service, answered(service)) == ["20250101"]
            until(lambda: service.room.outbox.counts() == {"pacs": {"sent": 1}}, f"{service.room.outbox.dead()}")
            assert orthanc.count() == 4
    finally:
        orthanc.stop()
        orthanc.web.close()
