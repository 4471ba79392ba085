"""The client speaks to a real service, and says in one sentence what went wrong."""

import http.server
import threading
from collections.abc import Iterator
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.service.conftest import let_in, settings_in
from tests.service.pem import issue
from tests.service.small import FINDINGS, SmallDrawing, SmallModel, dicom, png
from tests.service.test_results_rest import given_up

from hilum.client.answers import read_answer
from hilum.client.api import Client
from hilum.config import to_mapping
from hilum.errors import ServiceError, UsageError
from hilum.imaging.intended_use import Check, Gate
from hilum.inference import assessment
from hilum.service.app import Running, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = settings_in(tmp_path_factory.mktemp("client"), dicom_port=None)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as started:
        yield started


@pytest.fixture
def client(service: Running) -> Iterator[Client]:
    with Client(service.url, key=let_in(service)["Authorization"].split()[1]) as opened:
        yield opened


def test_a_film_is_sent_and_answered(client: Client, tmp_path: Path) -> None:
    (tmp_path / "film.dcm").write_bytes(dicom(501, 204))
    answer = client.submit(tmp_path / "film.dcm", wait_s=60)
    assert (answer.state, answer.label, answer.new, answer.finished) == ("answered", "pneumonia", True, True)
    assert sum(answer.probs.values()) == pytest.approx(1)
    assert answer.positive == ("pneumonia",)
    assert answer.uncertainty.mc_std["pneumonia"] == 0.03
    assert (answer.uncertainty.mutual_information, answer.uncertainty.ood_distance) == (0.01, None)
    (check,) = answer.gate.checks
    assert (answer.gate.analyse, check.code, check.outcome, check.sentence) == (True, "chest", "pass", "A chest.")
    assert (answer.provenance.bundle_sha256, answer.provenance.bundle_name) == ("5" * 64, None)
    assert set(answer.heatmaps) == set(FINDINGS)
    again = client.submit(dicom(501, 204))
    assert (again.id, again.new) == (answer.id, False)
    assert client.study(answer.id).label == "pneumonia"


def test_pictures_are_png(client: Client) -> None:
    answer = client.submit(png(120), wait_s=60)
    overlay, layer = (client.heatmap(answer.id, "normal", layer=layer) for layer in (False, True))
    for picture in (client.film(answer.id), overlay, layer):
        assert picture.startswith(b"\x89PNG")


def test_a_film_that_fails_says_why(client: Client) -> None:
    answer = client.submit(png(121)[:40], wait_s=60)
    assert (answer.state, answer.label, answer.probs) == ("failed", None, {})
    assert (answer.gate.analyse, answer.gate.checks, answer.provenance.answered_at) == (None, (), None)
    assert answer.uncertainty.mc_std == {}
    assert "can't be read" in answer.reasons[0]


def test_all_films_are_listed_across_pages(client: Client) -> None:
    sent = {client.submit(png(level, 8)).id for level in range(7)}
    listed = [answer.id for answer in client.studies(page_size=3)]
    assert sent <= set(listed)
    assert len(listed) == len(set(listed))


def test_readiness(client: Client) -> None:
    assert client.ready()
    client.wait_until_ready(1)


def test_a_refusal_is_one_sentence(client: Client) -> None:
    with pytest.raises(ServiceError, match=r"refused \(415\): The body is none of DICOM"):
        client.submit(b"nothing")
    with pytest.raises(ServiceError, match=r"refused \(404\): No film has this id"):
        client.study("x y")
    with pytest.raises(ServiceError, match=r"refused \(422\).*query.state"):
        list(client.studies(state="lost"))


def test_nobody_there_is_one_sentence() -> None:
    with Client("http://127.0.0.1:9") as client:
        assert not client.ready()
        with pytest.raises(ServiceError, match="can't be reached .* Is it running"):
            client.study("x")
        with pytest.raises(ServiceError, match="is not ready after 0.1 s"):
            client.wait_until_ready(0.1)


class Other(http.server.BaseHTTPRequestHandler):
    """Some other web server."""

    def do_GET(self) -> None:
        film = b'"id": "a", "state": "answered", "received_at": "2026-01-05", "sha256": "b", "reason": null'
        bodies = {
            "html": b"<html>",
            "json": b'{"id": 1}',
            "gate": b"{" + film + b', "answer": {"gate": "chest"}}',
            "worklist": b'{"lines": [{"film": 1}], "next": null}',
            "keys": b'{"keys": [{"id": 1}], "next": null}',
        }
        body = bodies.get(self.path.partition("?")[0].rpartition("/")[2])
        self.send_response(200 if body else 404)
        self.end_headers()
        self.wfile.write(body or b"gone")

    def log_message(self, *_: object) -> None:
        return


def test_another_server_is_recognised() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Client(f"http://127.0.0.1:{server.server_port}") as client:
            with pytest.raises(ServiceError, match="not JSON. Is it a hilum service"):
                client.study("html")
            for name in ("json", "gate"):
                with pytest.raises(ServiceError, match="no answer. Is it a hilum service"):
                    client.study(name)
            for some in (client.worklist(), client.api_keys()):
                with pytest.raises(ServiceError, match="no answer. Is it a hilum service of this version"):
                    next(iter(some))
            with pytest.raises(ServiceError, match=r"\(404\): Not Found. Is it a hilum service"):
                client.study("other")
        server.shutdown()


def test_a_service_with_a_certificate_of_the_hospitals_own_is_reached_and_another_is_told_why(tmp_path: Path) -> None:
    """On the network TLS is demanded, and its authority is seldom one that the system trusts."""
    authority, stranger = issue(tmp_path, "authority"), issue(tmp_path, "stranger")
    own = issue(tmp_path, "hilum", by=authority)
    settings = settings_in(tmp_path, dicom_port=None, tls_certificate=own.certificate, tls_key=own.key)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        with Client(service.url, ca=authority.certificate) as client:
            assert client.ready()
        for ca in (None, stranger.certificate):
            with (
                Client(service.url, ca=ca) as client,
                pytest.raises(ServiceError, match=r"certificate that isn't trusted \(.*--ca or HILUM_CA"),
            ):
                client.submit(png(90))
    with pytest.raises(UsageError, match="can't be read"):
        Client("https://127.0.0.1:1", ca=tmp_path / "none.pem")


def opened(service: Running, role: str) -> Client:
    return Client(service.url, key=let_in(service, role)["Authorization"].split()[1])


def test_a_real_assessments_words_are_read_whole() -> None:
    """What the service says of a real model's answer; its own fields, so that none is forgotten here."""
    made = {field.name: field.name for field in fields(assessment.Provenance)}
    made |= {"preprocessing_version": 3, "answered_at": "2026-01-05T00:00:00+00:00"}  # type: ignore[dict-item]
    check = Check(code="adult", outcome="unknown", sentence="The age isn't told.", refuses=True)
    said = {
        "label": None, "probabilities": None, "positive": [], "abstained": False, "reasons": [], "heatmaps": {},
        "uncertainty": {"mc_mean": {"normal": 0.5}, "member_std": {"normal": 0.1}, "ood_distance": 1.5},
        "gate": to_mapping(Gate(analyse=False, checks=(check,))), "provenance": made,
    }  # fmt: skip
    reply = {"id": "0", "state": "not-analysed", "received_at": "2026-01-05T00:00:00+00:00", "sha256": "0" * 64}
    answer = read_answer(reply | {"reason": None, "answer": said})
    assert asdict(answer.provenance) == made | {"answered_at": datetime(2026, 1, 5, tzinfo=UTC)}
    assert asdict(answer.gate) == {"analyse": False, "checks": (asdict(check),)}
    assert (answer.uncertainty.mc_mean, answer.uncertainty.member_std) == ({"normal": 0.5}, {"normal": 0.1})
    assert (answer.uncertainty.ood_distance, answer.uncertainty.mutual_information) == (1.5, None)


def test_keys_are_listed_without_their_secrets(service: Running) -> None:
    with opened(service, "admin") as client:
        key_id, secret = client.add_key("test-admin", ["films:read"], label="for a list", days=7)
        (mine,) = [one for one in client.api_keys(page_size=2) if one.id == key_id]
        assert (mine.user, mine.label, mine.scopes, mine.revoked_at) == (
            "test-admin",
            "for a list",
            ("films:read",),
            None,
        )
        assert mine.expires_at is not None
        assert mine.expires_at - mine.created_at == timedelta(days=7)
        assert secret not in str(mine)
        client.revoke_key(key_id)
        assert next(one for one in client.api_keys() if one.id == key_id).revoked_at is not None


def test_the_audit_is_read_across_pages_and_comes_to_an_end(service: Running, client: Client) -> None:
    film = client.submit(png(133), wait_s=60).id
    with opened(service, "auditor") as auditor:
        rows = list(auditor.audit(page_size=3))
        assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
        about = list(auditor.audit(subject=film))
        assert [(row.act, row.subject) for row in about[:2]] == [("film.received", film), ("film.answered", film)]
        assert next(auditor.audit(after=rows[-1].seq)).seq == rows[-1].seq + 1
        with pytest.raises(UsageError, match="pages of 2 rows or more"):
            next(auditor.audit(page_size=1))
    with pytest.raises(ServiceError, match=r"\(403\).*audit:read"):
        next(client.audit())


def test_dead_letters_are_read_and_tried_again(service: Running) -> None:
    for number in range(5):
        given_up(service.room.database, 8100 + number)
    with opened(service, "model-manager") as client:
        dead = list(client.dead_letters(page_size=2))
        assert [one.film for one in dead] == [f"film{8104 - number}" for number in range(5)]
        assert {(one.destination, one.code, one.reason) for one in dead} == {
            ("pacs", "sop-class", "PACS does not take it.")
        }
        (pacs,) = client.destinations()
        assert (pacs.name, pacs.dead, pacs.waiting) == ("pacs", 5, 0)
        assert client.requeue_results(dead[0].id) == 1
        assert client.requeue_results() == 4
        assert list(client.dead_letters()) == []
        with pytest.raises(ServiceError, match=r"\(422\)"):
            client.requeue_results("nothing")
