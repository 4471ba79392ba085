"""DICOM peers on the page of operations: who may send, whom we call, who was turned away and why; strangers' titles
stand nowhere else."""

import html
import io
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from cryptography import x509
from tests.service.conftest import let_in, settings_in
from tests.service.hostile import noted
from tests.service.pem import DAY, issue
from tests.service.small import SmallDrawing, SmallModel, dataset, dicom
from tests.service.test_dicom import CR, CT, ECHO, associated, port_of
from tests.service.test_privacy import log  # noqa: F401  # a fixture

from hilum.records.audit import Act, append, entries
from hilum.records.peers import films_by_peer
from hilum.records.store import now
from hilum.service.app import Running, running
from hilum.service.dicom.hearing import CODES
from hilum.service.dicom.strangers import MOST, Strangers
from hilum.service.web.peers import WHY, peers_of

STRANGER = "STRANGE<B>9"
AS_DICOM = {"Content-Type": "application/dicom"}


def until(happened: Callable[[], object], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def section(service: Running) -> str:
    """The section as it is read, without its tags."""
    with httpx.Client(base_url=service.url, timeout=90, headers=let_in(service, "admin")) as http:
        _, _, text = http.get("/operations").text.partition('id="peers"')
    assert STRANGER not in text, "it is escaped"
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", text)))


def test_who_sends_who_is_called_and_who_is_turned_away(tmp_path: Path, log: io.StringIO) -> None:  # noqa: F811
    settings = settings_in(
        tmp_path,
        dicom_port=0,
        ae_title="HILUM2",
        allowed_ae_titles=("CR1", "CR2"),
        pacs="archive=dicoms://PACS@127.0.0.1:9",
        results_to=("pacs=dicom://PACS@127.0.0.1:9", "web=https://user:secret@pacs.example/dicom-web"),
    )
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        for title in ("CR1", STRANGER, STRANGER):
            with associated(port_of(service), title=title) as association:
                if title == "CR1":
                    assert association.send_c_store(dataset(871)).Status == 0x0000
                else:
                    assert association.is_rejected
        until(lambda: noted(service.room.database))
        said = section(service)
        (last,) = (one.last for one in films_by_peer(service.room.database, since=now() - DAY))
        today = f"{last:%Y-%m}"  # this month, or the one that ended meanwhile
        for words in (
            f"AE title HILUM2 Port {service.dicom_port} on 127.0.0.1 Incoming in the clear",
            f"CR1 may send films in the clear 1 {today}",
            "CR2 may send films in the clear 0 – 0",
            "archive is asked for earlier films PACS 127.0.0.1:9 TLS; its certificate is checked none",
            "pacs gets results PACS 127.0.0.1:9 in the clear –",
            "web gets results DICOMweb pacs.example:443 TLS; its certificate is checked –",
            f"{STRANGER} from 127.0.0.1 Its AE title is not on the list. Add it to HILUM_ALLOWED_AE_TITLES",
            "all titles that are not on the list, those named here among them",
        ):
            assert words in said, said
        assert "secret" not in said
        assert "Any AE title may send" not in said
        with service.room.database.read() as session:
            audit = "".join(row.body for row in entries(session))
        elsewhere = log.getvalue() + audit + service.room.metrics.text().decode()
        assert "association rejected" in log.getvalue()
        assert "STRANGE" not in elsewhere, "a title that nobody announced may be anything"


def test_a_film_tells_who_sent_it(tmp_path: Path, log: io.StringIO) -> None:  # noqa: F811
    """Its record, the REST view and the page say the title; log and audit where the settings name it."""
    for named, folder in ((True, tmp_path / "listed"), (False, tmp_path / "any")):
        folder.mkdir()
        settings = settings_in(folder, dicom_port=0, allowed_ae_titles=("CR1",) if named else ())
        with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
            with associated(port_of(service), title="CR1") as association:
                assert association.send_c_store(dataset(873)).Status == 0x0000
            with httpx.Client(base_url=service.url, timeout=90, headers=let_in(service)) as http:
                (film,) = http.get("/api/v1/studies").json()["studies"]
                assert (film["origin"], film["calling_ae"]) == ("dicom", "CR1")
                assert "over DICOM, AE title CR1" in http.get(f"/films/{film['id']}").text
                sent = http.post("/api/v1/studies?wait=60", content=dicom(874), headers=AS_DICOM).json()
                assert (sent["origin"], sent["calling_ae"]) == ("rest", "")
                assert "over REST</dd>" in http.get(f"/films/{sent['id']}").text
            with service.room.database.read() as session:
                (came,) = (one for one in entries(session, subject=film["id"]) if one.act == "film.received")
            assert json.loads(came.body)["detail"].get("calling_ae") == ("CR1" if named else None)
        lines = [json.loads(one) for one in log.getvalue().splitlines()]
        told = [one.get("calling_ae") for one in lines if one["event"] == "film received" and one["film"] == film["id"]]
        assert told == ["CR1" if named else None]


def test_a_peer_that_sends_nothing_since_a_class_was_refused_is_told(tmp_path: Path, log: io.StringIO) -> None:  # noqa: F811
    """It was let in, and says something that helps nobody: "no presentation context"."""
    settings = settings_in(tmp_path, dicom_port=0, allowed_ae_titles=("CR1", "CT1", "PACS"))
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        for title, classes in (("PACS", [CT, CR]), ("CR1", [ECHO]), ("CT1", [CT, CR, ECHO])):
            with associated(port_of(service), *classes, title=title) as association:
                if title == "PACS":
                    assert association.send_c_store(dataset(872)).Status == 0x0000
        until(lambda: noted(service.room.database))
        said = section(service)
        assert "CT1 It sent nothing, after SOP classes that it offered were not taken" in said
        assert "CT1 may send films in the clear 0 – 1" in said
        assert re.search(r"PACS may send films in the clear 1 \S+ \S+ UTC 0", said), "it sent a film"
        assert 'hilum_dicom_refusals_total{code="sop-class"} 1.0' in service.room.metrics.text().decode()
        (line,) = [json.loads(one) for one in log.getvalue().splitlines() if '"classes refused"' in one]
        assert (line["calling_ae"], line["sop_classes"]) == ("CT1", [CT])


def test_without_a_list_any_title_may_send_and_without_a_listener_none(tmp_path: Path) -> None:
    folders = tmp_path / "a", tmp_path / "b"
    for folder, port in zip(folders, (0, None), strict=True):
        folder.mkdir()
        with running(settings_in(folder, dicom_port=port), answering=SmallModel(), drawing=SmallDrawing()) as service:
            said = section(service)
        assert ("Any AE title may send" in said) is (port is not None)
        assert ("no DICOM listener" in said) is (port is None)
        assert "No film came over DICOM in this time." in said
        assert "HILUM_RESULTS_TO and HILUM_PACS name none." in said


def test_certificates_are_told_with_their_end_and_the_one_that_was_shown(tmp_path: Path) -> None:
    pair = issue(tmp_path, "server")
    good_until = x509.load_pem_x509_certificate(pair.certificate.read_bytes()).not_valid_after_utc
    settings = settings_in(
        tmp_path,
        dicom_port=0,
        dicom_tls="required",
        dicom_certificate=pair.certificate,
        dicom_key=pair.key,
        dicom_ca=pair.certificate,
        dicom_sender_certificates=("CR7=cn:cr7",),
    )
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        for code, more in (
            ("certificate", {"calling_ae": "CR7", "certificate": "ab" * 32}),
            ("certificate", {"calling_ae": "CR7", "certificate": "none"}),
            ("no-tls", {}),
        ):
            with service.room.database.write() as session:
                append(
                    session,
                    Act(actor="dicom", act="association.refused", detail={"code": code, "times": 2} | more),
                    now(),
                )
        said, room = section(service), service.room
        assert f"Certificate good until {good_until:%Y-%m}" in said
        assert "TLS; a good certificate is required" in said
        assert "CR7 may send films TLS; it must show the certificate named for it 0 – 4" in said
        assert "names another certificate for it than it showed, which was none. 4" in said
        assert "It spoke no TLS, as HILUM_DICOM_TLS=required wants it, or showed no certificate that" in said
        later = peers_of(room, datetime.now(UTC) + timedelta(days=2))
        assert later.refused == (), "a day's refusals are shown"
        assert ("Certificate", f"expired on {good_until:%Y-%m-%d}") in later.own
        pair.certificate.unlink()
        assert "server.pem can't be read" in dict(peers_of(room, datetime.now(UTC)).own)["Certificate"]


def test_strangers_are_few_short_and_plain() -> None:
    strangers = Strangers()
    for number in range(3 * MOST):
        strangers.note(f"T{number}", "10.0.0.1")
    strangers.note("T59\x00é" + "x" * 99, "a" * 999)
    strangers.note("T58", "10.0.0.1")
    known = strangers.known()
    assert len(known) == MOST
    assert (known[0].title, known[0].times) == ("T58", 2)
    assert known[1].title == "T59??" + "x" * 11
    assert len(known[1].address) == 45


def test_every_reason_has_its_mend() -> None:
    assert CODES - set(WHY) == {"certificate", "no-tls"}
