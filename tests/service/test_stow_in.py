"""STOW-RS: what is said to be stored is durable, and what is not stored is told with its reason."""

import asyncio
import io
import re
import socket
import zlib
from collections.abc import AsyncIterator, Iterator
from xml.etree import ElementTree

import httpx
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from tests.service.conftest import let_in
from tests.service.small import dataset, dicom, kept, png

from hilum.records.erasure import Eraser
from hilum.records.store import now
from hilum.service.app import Running
from hilum.service.container import recognise
from hilum.service.dicomweb.attributes import Claim, claim_of
from hilum.service.dicomweb.storing import MOST_PARTS, Outcome, Storing, status_of
from hilum.service.pressure import Pressure
from hilum.service.refusals import Refused

STUDY = "1.2.826.0.1.3680043.10.2"
SERIES = "1.2.826.0.1.3680043.10.3"
CT = "1.2.840.10008.5.1.4.1.1.2"
RELATED = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b1'}
JSON = {"Accept": "application/dicom+json"}


@pytest.fixture
def web(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{service.url}/dicom-web", headers=let_in(service), timeout=30) as client:
        yield client


def test_a_refusal_is_read_also_by_who_sends_a_short_body_later(service: Running, web: httpx.Client) -> None:
    """The head is refused before the body has come: a connection that is closed then is reset by what comes."""
    address, key = httpx.URL(service.url), web.headers["Authorization"]
    head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {key}\r\n"
    head += "Content-Type: multipart/related; boundary=%\r\nContent-Length: 900\r\n\r\n"
    with socket.create_connection((address.host, address.port or 0), timeout=60) as peer:
        for _ in range(2):
            peer.sendall(head.encode())
            reply = b""
            while b"boundary of the body" not in reply:
                more = peer.recv(65_536)
                assert more, reply
                reply += more
            assert reply.startswith(b"HTTP/1.1 400")
            peer.sendall(b"x" * 900)


def body(*films: bytes, kind: str = "application/dicom") -> bytes:
    parts = [b"--b1\r\nContent-Type: " + kind.encode() + b"\r\n\r\n" + film + b"\r\n" for film in films]
    return b"".join(parts) + b"--b1--\r\n"


def film(number: int, **changes: object) -> bytes:
    return dicom(number, SeriesInstanceUID=SERIES, **changes)


def reasons(reply: httpx.Response) -> dict[str, int]:
    failed = reply.json().get("00081198", {}).get("Value", [])
    return {one["00081155"]["Value"][0].rpartition(".")[2]: one["00081197"]["Value"][0] for one in failed}


def stored(reply: httpx.Response) -> list[str]:
    return [one["00081155"]["Value"][0].rpartition(".")[2] for one in reply.json().get("00081199", {}).get("Value", [])]


def test_each_part_is_told_what_became_of_it(web: httpx.Client, service: Running) -> None:
    before = service.room.store.counts()
    parts = body(film(8001), film(8002, SOPClassUID=CT), film(8003, StudyInstanceUID="1.2.3"), b"garbage", film(8004))
    reply = web.post(f"/studies/{STUDY}", content=parts, headers=RELATED | JSON)
    assert reply.status_code == 202, reply.text
    assert reply.headers["content-type"] == "application/dicom+json"
    assert stored(reply) == ["8001", "8004"]
    assert reasons(reply) == {"8002": 0x0122, "8003": 0xA900}
    assert reply.json()["0008119A"]["Value"] == [{"00081197": {"vr": "US", "Value": [0xC000]}}]
    assert reply.json()["00081190"]["Value"] == [f"{service.url}/dicom-web/studies/{STUDY}"]
    kept = sum(service.room.store.counts().values()) - sum(before.values())
    assert kept == 2, "nothing of the others is kept"
    assert not list(service.room.intake.files.incoming.iterdir())


def test_a_film_of_which_it_was_erased_whose_it_is_is_stored_again_and_nobody_is_sent_to_fetch_it(
    web: httpx.Client, service: Running
) -> None:
    sent = web.post("/studies", content=body(film(8007, StudyInstanceUID="1.2.8007")), headers=RELATED | JSON)
    (at,) = sent.json()["00081199"]["Value"][0]["00081190"]["Value"]
    assert web.get(at, headers={"Accept": "application/dicom"}).status_code == 200
    answered = web.post(
        "/../api/v1/studies",
        content=film(8007, StudyInstanceUID="1.2.8007"),
        headers={"Content-Type": "application/dicom"},
        params={"wait": 60},
    ).json()
    assert answered["state"] == "answered"
    eraser = Eraser(service.room.database, now)
    eraser.erase_pixels([answered["id"]], actor="test")
    eraser.erase_identifiers([answered["id"]], actor="test")
    again = web.post(
        "/studies", content=body(film(8007, StudyInstanceUID="1.2.8007"), film(8008)), headers=RELATED | JSON
    )
    assert (again.status_code, stored(again)) == (200, ["8007", "8008"])
    assert [("00081190" in one) for one in again.json()["00081199"]["Value"]] == [False, True]
    alone = web.post("/studies", content=body(film(8007, StudyInstanceUID="1.2.8007")), headers=RELATED | JSON)
    assert (alone.status_code, "00081190" in alone.json()) == (200, False)
    assert web.get(at, headers={"Accept": "application/dicom"}).status_code == 404


def test_the_same_again_is_the_same_and_other_bytes_under_its_uid_are_refused(
    web: httpx.Client, service: Running
) -> None:
    first = web.post("/studies", content=body(film(8010)), headers=RELATED | JSON)
    again = web.post("/studies", content=body(film(8010)), headers=RELATED | JSON)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    other = web.post("/studies", content=body(film(8010, level=9)), headers=RELATED | JSON)
    assert (other.status_code, reasons(other)) == (409, {"8010": 0x0111})
    by_rest = web.post(
        "/../api/v1/studies", content=film(8010), headers={"Content-Type": "application/dicom"}, params={"wait": 60}
    )
    assert by_rest.status_code == 200, "both doors know the same film"
    lying = service.room.intake.files.path(by_rest.json()["sha256"]).read_bytes()
    assert lying == kept(film(8010)), "what another door would have kept"


def test_the_answer_is_xml_unless_json_is_asked_for_and_one_film_needs_no_parts(web: httpx.Client) -> None:
    reply = web.post("/studies", content=film(8020), headers={"Content-Type": "application/dicom"})
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/dicom+xml")
    told = {one.get("keyword"): one for one in ElementTree.fromstring(reply.text).iter() if one.get("keyword")}
    assert "".join(told["ReferencedSOPInstanceUID"].itertext()).endswith(".8020")
    assert told["ReferencedSOPSequence"].get("vr") == "SQ"


@pytest.mark.parametrize(
    ("content", "headers", "status", "words"),
    [
        (b"x", {"Content-Type": "application/json"}, 415, "Content-Type must be multipart/related"),
        (b"x", {"Content-Type": 'multipart/related; type="application/dicom+json"; boundary=b'}, 415, "must be"),
        (b"x", {"Content-Type": "multipart/related; type=application/dicom"}, 400, "boundary of the body is missing"),
        (body(), RELATED, 400, "holds no film"),
        (b"--b1\r\n\r\nabc", RELATED, 400, "ends before its last boundary"),
        (b"\r\n", RELATED, 400, "ends before its last boundary"),
        (b"x" * 100_000, RELATED, 400, "Too much stands before"),
        (body(b"x"), RELATED | {"Accept": "text/html"}, 406, "application/dicom\\+json, application/dicom\\+xml"),
        (body(b"x"), RELATED | {"Content-Encoding": "gzip"}, 415, "compressed"),
    ],
)
def test_what_is_no_store_request_is_a_problem(
    web: httpx.Client, content: bytes, headers: dict[str, str], status: int, words: str
) -> None:
    reply = web.post("/studies", content=content, headers=headers)
    assert (reply.status_code, reply.headers["content-type"]) == (status, "application/problem+json"), reply.text
    assert re.search(words, reply.json()["detail"])


def test_a_sender_that_drips_is_cut_off_and_what_came_before_is_kept(service: Running) -> None:
    async def drip() -> AsyncIterator[bytes]:
        yield body(film(8070))[:-4]
        while True:
            yield b"x"
            await asyncio.sleep(0.01)

    before = sum(service.room.store.counts().values())
    storing = Storing(service.room.intake, actor="test", study_uid=None, part_s=1.0)
    with pytest.raises(Refused, match="A part of the body was not complete after 1 s") as refused:
        asyncio.run(storing.take(drip(), "b1"))
    assert refused.value.code == "too-slow"
    assert sum(service.room.store.counts().values()) == before + 1
    assert not list(service.room.intake.files.incoming.iterdir())


def test_parts_without_end_are_cut_off(web: httpx.Client) -> None:
    parts = b"--b1\r\n\r\n\r\n" * (MOST_PARTS + 1)
    reply = web.post("/studies", content=parts, headers=RELATED)
    assert (reply.status_code, "more than 1000 parts" in reply.json()["detail"]) == (400, True)


def test_parts_that_are_no_films_are_told_as_such(web: httpx.Client) -> None:
    for parts in (body(png(3)), body(film(8030), kind="image/png"), body(b""), body(film(8031, StudyInstanceUID=""))):
        reply = web.post("/studies", content=parts, headers=RELATED | JSON)
        assert reply.status_code == 409, reply.text
        assert stored(reply) == []


def test_a_film_that_is_too_large_does_not_harm_its_neighbours(web: httpx.Client) -> None:
    large = film(8040, Rows=1100, Columns=1024, PixelData=bytes(1100 * 1024))
    assert web.post("/studies", content=body(large), headers=RELATED | JSON).status_code == 413
    reply = web.post("/studies", content=body(large, film(8041)), headers=RELATED | JSON)
    assert (reply.status_code, stored(reply), reasons(reply)) == (202, ["8041"], {"8040": 0xA700})


def test_under_pressure_nothing_is_read_and_later_parts_are_told(
    web: httpx.Client, service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.room.intake, "_pressure", Pressure(lambda: 5, most=5).check)
    reply = web.post("/studies", content=body(film(8050)), headers=RELATED | JSON)
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "10")
    monkeypatch.setattr(service.room.intake, "_pressure", Pressure(lambda: 4, most=5).check)
    reply = web.post("/studies", content=body(film(8051), film(8052)), headers=RELATED | JSON)
    assert (reply.status_code, stored(reply), reasons(reply)) == (202, ["8051"], {"8052": 0xA700})


@pytest.mark.parametrize(
    ("failures", "status"),
    [((0, 0), 200), ((0, "busy"), 202), (("unsupported",), 409), (("too-large",), 413), (("no-space", "x"), 503)],
)
def test_the_status_tells_of_all_parts_together(failures: tuple[object, ...], status: int) -> None:
    outcomes = [
        Outcome(claim=Claim(), receipt=None, failure=0 if one == 0 else 0xA700, code=str(one or "")) for one in failures
    ]
    assert status_of(outcomes) == status


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian], ids=lambda s: s.name
)
def test_what_a_film_claims_is_read_in_every_encoding(syntax: str) -> None:
    content = encoded(8060, syntax)
    claim = claim_of(content)
    assert (claim.sop_instance_uid.rpartition(".")[2], claim.series_instance_uid) == ("8060", SERIES)
    assert claim_of(content[:200]) == Claim()


def encoded(number: int, syntax: str) -> bytes:
    one, out = dataset(number, SeriesInstanceUID=SERIES), io.BytesIO()
    one.file_meta.TransferSyntaxUID = syntax
    one.save_as(out, enforce_file_format=True)
    return out.getvalue()


def test_a_deflated_bomb_claims_nothing_and_is_not_blown_up(web: httpx.Client) -> None:
    whole = encoded(8061, DeflatedExplicitVRLittleEndian)
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = whole[: recognise(whole).content_starts] + deflater.compress(bytes(10**8)) + deflater.flush()
    assert claim_of(bomb) == Claim()
    assert web.post("/studies", content=body(bomb), headers=RELATED | JSON).status_code == 409
