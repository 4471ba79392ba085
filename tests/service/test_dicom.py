"""The DICOM listener: real C-ECHO and C-STORE, and peers that misbehave."""

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pynetdicom import AE, Association
from sqlalchemy import select
from tests.service.conftest import let_in, settings_in
from tests.service.small import CR, SmallDrawing, SmallModel, dataset, dicom, kept

from hilum.errors import ServiceError
from hilum.records.schema import FilmRow
from hilum.service.app import Running, running
from hilum.service.dicom.classes import STORAGE, TRANSFER_SYNTAXES

ECHO = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
DICOM_PORT = 0


@contextlib.contextmanager
def associated(port: int, *contexts: str, title: str = "SCU") -> Iterator[Association]:
    entity = AE(ae_title=title)
    for context in contexts or (CR, ECHO):
        entity.add_requested_context(context)
    association = entity.associate("127.0.0.1", port, ae_title="HILUM")
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
        left = association.dul.socket
        if left is not None and left.socket is not None:
            left.socket.close()  # pynetdicom leaves it open when the peer hung up first


def port_of(service: Running) -> int:
    assert service.dicom_port is not None
    return service.dicom_port


def only_study(http: httpx.Client, sha256: str | None = None) -> dict[str, object]:
    studies = http.get("/api/v1/studies").json()["studies"]
    return http.get(f"/api/v1/studies/{studies[0]['id']}", params={"wait": 60}).json()


def still_serves(service: Running) -> bool:
    for _ in range(10):  # on a busy machine a good peer may be too slow for the impatient service as well
        with associated(port_of(service)) as association:
            if association.is_established and association.send_c_echo().get("Status") == 0x0000:
                return True
    return False


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = settings_in(tmp_path_factory.mktemp("impatient"), dicom_port=0, network_timeout_s=1)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as started:
        yield started


def test_echo(service: Running) -> None:
    assert still_serves(service)


def test_a_stored_film_is_answered(service: Running, http: httpx.Client) -> None:
    with associated(port_of(service)) as association:
        assert association.send_c_store(dataset(201, 230)).Status == 0x0000
    study = only_study(http)
    assert (study["state"], study["origin"], study["answer"]["label"]) == ("answered", "dicom", "pneumonia")  # type: ignore[index]


def test_success_is_said_only_when_film_and_record_are_there(service: Running) -> None:
    with associated(port_of(service)) as association:
        before = sum(service.room.store.counts().values())
        assert association.send_c_store(dataset(202)).Status == 0x0000
        assert sum(service.room.store.counts().values()) == before + 1
    film = service.room.store.films(limit=1).films[0]
    assert service.room.intake.files.path(film.file_sha256).stat().st_size == film.size


def test_one_film_through_both_doors_is_one_film(service: Running, http: httpx.Client) -> None:
    with associated(port_of(service)) as association:
        association.send_c_store(dataset(203))
        association.send_c_store(dataset(203))
    study = only_study(http)
    # What a data set is known by doesn't depend on who wrote the head, so each door alone would keep these bytes.
    assert service.room.intake.files.path(str(study["sha256"])).read_bytes() == kept(dicom(203))
    reply = http.post("/api/v1/studies", content=dicom(203), headers={"Content-Type": "application/dicom"})
    assert (reply.status_code, reply.json()["id"]) == (200, study["id"])


def test_other_bytes_under_an_announced_uid_are_kept_and_set_aside(service: Running, http: httpx.Client) -> None:
    with associated(port_of(service)) as association:
        assert association.send_c_store(dataset(204, 40)).Status == 0x0000
        assert association.send_c_store(dataset(204, 41)).Status == 0x0000
    assert only_study(http)["state"] == "quarantined"


def test_every_class_and_transfer_syntax_is_offered(service: Running) -> None:
    for storage in STORAGE:
        entity = AE()
        for syntax in TRANSFER_SYNTAXES:
            entity.add_requested_context(storage, syntax)
        association = entity.associate("127.0.0.1", port_of(service))
        assert len(association.accepted_contexts) == len(TRANSFER_SYNTAXES)
        association.release()


def test_a_syntax_that_nothing_decodes_is_not_agreed_to(service: Running) -> None:
    """HTJ2K: a film that was taken in it could never be answered; so the peer sends it in another, or says it can't."""
    entity = AE()
    entity.add_requested_context(CR, "1.2.840.10008.1.2.4.201")
    entity.add_requested_context(CR, "1.2.840.10008.1.2.1")
    association = entity.associate("127.0.0.1", port_of(service))
    assert [str(one.transfer_syntax[0]) for one in association.accepted_contexts] == ["1.2.840.10008.1.2.1"]
    association.release()


def test_other_classes_are_refused(service: Running) -> None:
    with associated(port_of(service), CT, ECHO) as association:
        assert [str(c.abstract_syntax) for c in association.rejected_contexts] == [CT]


def test_a_message_that_is_too_large_ends_the_association(service: Running) -> None:
    with associated(port_of(service)) as association:
        big = dataset(205, Rows=2000, Columns=2000, PixelData=bytes(4_000_000))
        with contextlib.suppress(RuntimeError, ValueError):
            assert association.send_c_store(big).get("Status") is None
    assert still_serves(service)


def test_a_film_over_the_cap_but_under_the_message_cap_is_not_understood(service: Running) -> None:
    with associated(port_of(service)) as association:
        big = dataset(206, Rows=1100, Columns=1000, PixelData=bytes(1_100_000))
        assert association.send_c_store(big).Status == 0xC000


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        struct.pack(">BBL", 1, 0, 0xFFFFFFFF) + b"x" * 100,
        struct.pack(">BBL", 1, 0, 0),
        struct.pack(">BBL", 4, 0, 64) + bytes(64),
        struct.pack(">BBL", 9, 0, 4) + bytes(4),
    ],
    ids=["http", "tls", "endless-pdu", "empty-pdu", "data-first", "unknown-type"],
)
def test_bytes_that_are_no_dicom_end_the_connection_and_nothing_else(impatient: Running, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port_of(impatient)), timeout=30) as peer:
        peer.sendall(sent)
        peer.settimeout(30)
        started = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            while peer.recv(4096):
                pass
        assert time.monotonic() - started < 25  # 1 s for the PDU; the rest is for a busy machine
    assert still_serves(impatient)


def test_a_peer_that_trickles_is_cut_off_while_a_good_one_finishes(impatient: Running) -> None:
    """The limit is on the whole PDU, not on each receive."""
    with socket.create_connection(("127.0.0.1", port_of(impatient)), timeout=30) as slow:
        slow.sendall(struct.pack(">BBL", 1, 0, 200))
        started = time.monotonic()
        assert still_serves(impatient)
        with contextlib.suppress(OSError):
            while time.monotonic() - started < 30:
                slow.sendall(b"\0")
                slow.settimeout(0.2)
                with contextlib.suppress(TimeoutError):
                    if not slow.recv(10):
                        break
        assert time.monotonic() - started < 25, "200 bytes at five a second would take 40 s"


def test_a_calling_title_that_is_not_on_the_list_is_rejected(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, dicom_port=0, allowed_ae_titles=("MODALITY",), association_deadline_s=4)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        with associated(port_of(service), title="STRANGER") as association:
            assert association.is_rejected
        with associated(port_of(service), title="MODALITY") as association:
            assert association.send_c_echo().Status == 0x0000
            for _ in range(200):
                if not association.is_established:
                    break
                time.sleep(0.1)
            assert not association.is_established, "the association's own deadline has passed"


def test_skipped_classes_are_accepted_and_dropped(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, dicom_port=0, other_classes="skip")
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        film = dataset(207, SOPClassUID=CT)
        film.file_meta.MediaStorageSOPClassUID = CT
        with associated(port_of(service), CT) as association:
            assert association.send_c_store(film).Status == 0x0000
        assert service.room.store.counts() == {}


def test_a_full_disk_is_out_of_resources_and_ready_says_so(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, dicom_port=0, least_free_mb=10**9)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        with associated(port_of(service)) as association:
            assert association.send_c_store(dataset(208)).Status == 0xA700
        headers = {"Content-Type": "image/png", **let_in(service)}
        reply = httpx.post(f"{service.url}/api/v1/studies", content=dicom(), headers=headers)
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "10")
        ready = httpx.get(f"{service.url}/health/ready")
        told = ready.json()
        assert (ready.status_code, ready.headers["content-type"]) == (503, "application/problem+json")
        assert ready.headers["retry-after"] == "10"
        assert (told["type"], told["status"], told["ready"]) == ("urn:hilum:problem:not-ready", 503, False)
        assert "MiB are needed" in told["checks"]["disk"]
        assert (told["detail"], told["checks"]["dicom"]) == (f"disk: {told['checks']['disk']}", "ok")


def test_a_taken_port_is_named(tmp_path: Path, service: Running) -> None:
    settings = settings_in(tmp_path, dicom_port=port_of(service))
    with (
        pytest.raises(ServiceError, match="DICOM port .* can't be used"),
        running(settings, answering=SmallModel(), drawing=SmallDrawing()),
    ):
        pass


def test_a_film_of_high_priority_is_urgent(service: Running) -> None:
    """(0000,0700) Priority of the request: 1 is high, 0 medium, 2 low (PS3.7 table 9.3-1)."""
    with associated(port_of(service), title="ER") as association:
        for number, priority in ((261, 1), (262, 2)):
            assert association.send_c_store(dataset(number, number % 256), priority=priority).Status == 0x0000
    uids = [f"1.2.826.0.1.3680043.10.1.{number}" for number in (261, 262)]
    with service.room.database.read() as session:
        query = select(FilmRow).where(FilmRow.sop_instance_uid.in_(uids)).order_by(FilmRow.sop_instance_uid)
        rows = list(session.scalars(query))
    assert [(row.urgent, row.sender) for row in rows] == [(True, "dicom:ER"), (False, "dicom:ER")]
