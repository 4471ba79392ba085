"""Orthanc routes films in and gets results back, by C-STORE and STOW-RS; while it is away, none is lost."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from tests.bundle.small import small_bundle
from tests.inference.films import film

from hilum.demo.programs import free_ports
from hilum.records.reviews import Reviews
from hilum.service.app import Running, running
from hilum.service.settings import read_settings

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
REPORT, CAPTURE = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.7"


class Orthanc:
    """An Orthanc of its own: free ports, an empty store."""

    def __init__(self, folder: Path, *, tls: bool = False, **more: Any) -> None:
        program = shutil.which("Orthanc") or shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None or not PLUGIN.exists():
            if os.environ.get("CI") == "true":
                pytest.fail("Orthanc or its DICOMweb plugin is missing. Install orthanc and orthanc-dicomweb.")
            pytest.skip("needs the packages orthanc and orthanc-dicomweb")
        self.http_port, self.dicom_port, self.hilum_port = free_ports(3)
        self.folder, self.program, self.process = folder, program, None
        settings = {
            "Name": "test",
            "StorageDirectory": str(folder / "store"),
            "IndexDirectory": str(folder / "store"),
            "Plugins": [str(PLUGIN)],
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomPort": self.dicom_port,
            "DicomAet": "ORTHANC",
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowStore": True,
            "DicomModalities": {
                "hilum": {"AET": "HILUM", "Host": "127.0.0.1", "Port": self.hilum_port, "UseDicomTls": tls}
            },
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            **more,
        }
        folder.mkdir(exist_ok=True)
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self.web = httpx.Client(base_url=f"http://127.0.0.1:{self.http_port}", timeout=90, trust_env=False)

    def start(self) -> None:
        with open(self.folder / "orthanc.log", "ab") as log:
            self.process = subprocess.Popen([self.program, str(self.folder / "orthanc.json")], stdout=log, stderr=log)
        until(self._answers, "Orthanc answers")

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.web.get("/system").status_code == 200
        return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(120)
            self.process = None

    def instances(self) -> list[Any]:
        """Everything that it holds, read by pydicom."""
        held = self.web.get("/instances").json()
        return [pydicom.dcmread(io.BytesIO(self.web.get(f"/instances/{one}/file").content)) for one in held]

    def count(self) -> int:
        return int(self.web.get("/statistics").json()["CountInstances"])


def until(true: Callable[[], bool], what: str, within_s: float = 240) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.1)


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    made = Orthanc(tmp_path / "orthanc")
    made.start()
    try:
        yield made
    finally:
        made.stop()
        made.web.close()


@contextlib.contextmanager
def reading_room(folder: Path, orthanc: Orthanc, *destinations: str) -> Iterator[Running]:
    settings = read_settings(
        bundle=small_bundle(folder / "small.hilum"),
        data=folder / "data",
        port=0,
        dicom_port=orthanc.hilum_port,
        results_to=destinations,
        results_retry_cap_s=3,
        results_organization="St. Synthetic",
    )
    with running(settings) as service:
        yield service


def by_dicom(orthanc: Orthanc) -> str:
    return f"pacs=dicom://ORTHANC@127.0.0.1:{orthanc.dicom_port}"


def by_web(orthanc: Orthanc) -> str:
    return f"web=http://127.0.0.1:{orthanc.http_port}/dicom-web"


@pytest.mark.system
def test_a_film_that_orthanc_routes_in_comes_back_as_report_and_heat_map(orthanc: Orthanc, tmp_path: Path) -> None:
    sent = film(1, patient_name="Żółć^Synthetic", accession_number="A-17", study_date="20261101", study_time="101112")
    with reading_room(tmp_path, orthanc, by_dicom(orthanc), by_web(orthanc)) as service:
        stored = orthanc.web.post("/instances", content=sent).json()["ID"]
        assert orthanc.web.post("/modalities/hilum/store", content=stored).json()["FailedInstancesCount"] == 0
        # Both ways lead to the same Orthanc, and both carry the same objects: it must hold each of them once.
        until(
            lambda: service.room.outbox.counts() == {"pacs": {"sent": 1}, "web": {"sent": 1}},
            f"both are sent: {service.room.outbox.counts()} {service.room.outbox.dead()}",
        )
        held = {one.SOPClassUID: one for one in orthanc.instances()}
        assert orthanc.count() == 3
        source, report, capture = held[pydicom.dcmread(io.BytesIO(sent)).SOPClassUID], held[REPORT], held[CAPTURE]
        for made in (report, capture):
            for tag in (0x00080005, 0x00100010, 0x00100020, 0x00080050, 0x00080020, 0x00080030, 0x0020000D):
                assert made[tag].value == source[tag].value, hex(tag)
        assert report.VerificationFlag == "UNVERIFIED"
        referenced = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
        assert referenced.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert "not for diagnosis" in capture.DerivationDescription
        assert len(orthanc.web.get("/studies").json()) == 1, "all three in one study"
        assert len(orthanc.web.get("/series").json()) == 3
        found = orthanc.web.get(f"/dicom-web/studies/{source.StudyInstanceUID}/instances", params={"00080016": REPORT})
        assert [one["00080018"]["Value"] for one in found.json()] == [[report.SOPInstanceUID]]
        # A reader overrides: the verified successor follows, and names the report as its predecessor.
        (reviewed,) = service.room.store.films().films
        Reviews(service.room.database, undo=timedelta(0)).put(
            reviewed.film_id, "ada", decision="override", finding="normal", comment="", over=0
        )
        until(lambda: orthanc.count() == 4, "the review is sent")
        (verified,) = (one for one in orthanc.instances() if one.get("VerificationFlag") == "VERIFIED")
        before = verified.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
        assert before.ReferencedSOPInstanceUID == report.SOPInstanceUID
        assert str(verified.VerifyingObserverSequence[0].VerifyingObserverName) == "ada"


AWAY_S = 60.0
"""How long the PACS is stopped."""


@pytest.mark.system
def test_while_orthanc_is_away_results_wait_also_over_a_restart(orthanc: Orthanc, tmp_path: Path) -> None:
    assert shutil.which("storescu"), "install dcmtk"
    orthanc.stop()
    stopped, paths = time.monotonic(), []
    for number in range(3):
        paths.append(tmp_path / f"{number}.dcm")
        paths[-1].write_bytes(film(number, accession_number=f"A{number}"))
    with reading_room(tmp_path, orthanc, by_dicom(orthanc)) as service:
        to = ["127.0.0.1", str(orthanc.hilum_port)]
        subprocess.run(["storescu", "-aec", "HILUM", *to, *map(str, paths)], check=True, timeout=240)
        until(lambda: service.room.store.counts() == {"answered": 3}, "three films are answered")
        until(lambda: sum(service.room.outbox.counts()["pacs"].values()) == 3, "three results are queued")
        assert "sent" not in service.room.outbox.counts()["pacs"]
    with reading_room(tmp_path, orthanc, by_dicom(orthanc)) as service:
        while time.monotonic() - stopped < AWAY_S:  # films come all the while
            one = tmp_path / f"{len(paths)}.dcm"
            one.write_bytes(film(len(paths), accession_number=f"A{len(paths)}"))
            subprocess.run(["storescu", "-aec", "HILUM", *to, str(one)], check=True, timeout=240)
            paths.append(one)
            time.sleep(5)
        sent = len(paths)
        assert sent > 3
        until(lambda: service.room.store.counts() == {"answered": sent}, "each film is answered meanwhile")
        assert set(service.room.outbox.counts()["pacs"]) <= {"waiting", "sending"}
        orthanc.start()
        until(lambda: service.room.outbox.counts() == {"pacs": {"sent": sent}}, "all are sent after it is back")
        assert orthanc.count() == 2 * sent
        accessions = sorted(one.AccessionNumber for one in orthanc.instances())
        assert accessions == sorted([f"A{number}" for number in range(sent)] * 2)
        before = sorted(one.SOPInstanceUID for one in orthanc.instances())
        with (
            service.room.outbox._database.write() as session
        ):  # as if the process had died before it wrote down that it sent
            from sqlalchemy import text

            session.execute(text("UPDATE deliveries SET state = 'waiting'"))
        service.room.senders.wake()
        until(lambda: service.room.outbox.counts() == {"pacs": {"sent": sent}}, "all are sent again")
        assert sorted(one.SOPInstanceUID for one in orthanc.instances()) == before


@pytest.mark.system
def test_orthanc_stores_finds_and_fetches_by_dicomweb(orthanc: Orthanc, tmp_path: Path) -> None:
    """A film by STOW-RS, and its report and heat map by QIDO-RS and WADO-RS: nobody has to be known by DIMSE."""
    sent = film(1, patient_name="Żółć^Synthetic", accession_number="A-17", study_date="20261101")
    with reading_room(tmp_path, orthanc) as service:
        access = service.room.access
        access.add_user("orthanc", ["reviewer"], password=None, actor="test")
        key = access.add_key("orthanc", ["films:send", "dicom:read"], actor="test")[1]
        server = {"Url": f"{service.url}/dicom-web", "HttpHeaders": {"Authorization": f"Bearer {key}"}}
        assert orthanc.web.put("/dicom-web/servers/hilum", json=server).status_code == 200
        stored = orthanc.web.post("/instances", content=sent).json()["ID"]
        told = orthanc.web.post("/dicom-web/servers/hilum/stow", json={"Resources": [stored], "Synchronous": True})
        assert told.status_code == 200, told.text
        until(lambda: service.room.store.counts() == {"answered": 1}, "the film is answered")
        study = str(pydicom.dcmread(io.BytesIO(sent)).StudyInstanceUID)

        def found() -> list[Any]:
            asked = {"Uri": "/instances", "Arguments": {"AccessionNumber": "A-17"}}
            reply = orthanc.web.post("/dicom-web/servers/hilum/qido", json=asked)
            assert reply.status_code == 200, reply.text
            return reply.json()

        until(lambda: len(found()) == 3, "film, report and heat map are found")
        fetch = {"Resources": [{"Study": study}], "Synchronous": True}
        reply = orthanc.web.post("/dicom-web/servers/hilum/retrieve", json=fetch)
        assert reply.status_code == 200, reply.text
        assert orthanc.count() == 3
        held = {one.SOPClassUID: one for one in orthanc.instances()}
        assert held[REPORT].VerificationFlag == "UNVERIFIED"
        assert held[CAPTURE].PatientName == "Żółć^Synthetic"
        assert len(orthanc.web.get("/studies").json()) == 1
