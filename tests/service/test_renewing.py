"""A certificate that is renewed is shown from the next connection on; one that can't be used changes nothing."""

import os
import shutil
import socket
import ssl
from pathlib import Path

import httpx
import pytest
from pynetdicom import AE
from tests.service.conftest import settings_in
from tests.service.pem import Pair, issue
from tests.service.small import CR, SmallDrawing, SmallModel, dataset

from hilum.errors import ServiceError
from hilum.service.app import Running, running
from hilum.service.certificates import client_context
from hilum.service.renewing import Renewed, renewed_client, renewed_server


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    folder = tmp_path_factory.mktemp("pem")
    ours = issue(folder, "ours")
    return {"ours": ours} | {name: issue(folder, name, by=ours) for name in ("first", "second", "third")}


def put(file: Path, source: Path) -> None:
    """As those do who renew certificates: whole, by a rename."""
    new = file.with_suffix(".new")
    shutil.copy(source, new)
    os.replace(new, file)


def name_shown(port: int, pairs: dict[str, Pair]) -> str:
    context = client_context(authorities=pairs["ours"].certificate, own=None)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=120) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as encrypted,
    ):
        subject = encrypted.getpeercert()["subject"]  # type: ignore[index]
    return dict(pair[0] for pair in subject)["commonName"]  # type: ignore[misc]


def test_a_renewed_certificate_is_shown_and_a_half_renewed_one_is_not(tmp_path: Path, pairs: dict[str, Pair]) -> None:
    certificate, key = tmp_path / "own.pem", tmp_path / "own.key"
    put(certificate, pairs["first"].certificate)
    put(key, pairs["first"].key)
    settings = settings_in(
        tmp_path / "service",
        dicom_port=0,
        dicom_tls="on",
        dicom_certificate=certificate,
        dicom_key=key,
        tls_certificate=certificate,
        tls_key=key,
    )
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        ports = (service.dicom_port or 0, int(service.url.rsplit(":", 1)[1]))
        assert [name_shown(port, pairs) for port in ports] == ["first", "first"]
        trusting = client_context(authorities=pairs["ours"].certificate, own=None)
        entity = AE(ae_title="MODALITY")
        entity.add_requested_context(CR)
        before = entity.associate("127.0.0.1", ports[0], tls_args=(trusting, "127.0.0.1"))
        assert before.is_established
        with httpx.Client(base_url=service.url, verify=trusting, timeout=90) as web:
            assert web.get("/health/live").status_code == 200
            put(certificate, pairs["second"].certificate)
            assert [name_shown(port, pairs) for port in ports] == ["first", "first"], "the key is still the old one"
            put(key, pairs["second"].key)
            assert [name_shown(port, pairs) for port in ports] == ["second", "second"]
            key.unlink()
            assert [name_shown(port, pairs) for port in ports] == ["second", "second"]
            assert before.send_c_store(dataset(1)).Status == 0x0000, "an association goes on as it began"
            before.release()
            assert web.get("/health/live").status_code == 200
        assert restarts(service) == 0


def restarts(service: Running) -> int:
    assert service.room.listener is not None
    return service.room.listener.restarts


def test_what_is_wrong_is_told_at_the_start_and_changes_nothing_later(tmp_path: Path, pairs: dict[str, Pair]) -> None:
    with pytest.raises(ServiceError, match="can't be used together"):
        renewed_server(pairs["first"].certificate, pairs["second"].key, clients="on", authorities=None)
    with pytest.raises(OSError, match="No such file"):
        renewed_client(tmp_path / "none.pem", None)
    authorities = tmp_path / "authorities.pem"
    put(authorities, pairs["ours"].certificate)
    renewed = renewed_client(authorities, None)
    first = renewed.current()
    assert renewed.current() is first
    authorities.write_text("nothing")
    assert renewed.current() is first
    put(authorities, pairs["ours"].certificate)
    assert renewed.current() is not first


def test_a_change_while_the_files_are_read_is_not_missed(tmp_path: Path) -> None:
    file = tmp_path / "own.pem"
    file.write_text("1")
    made: list[str] = []

    def make() -> ssl.SSLContext:
        made.append(file.read_text())
        if len(made) == 1:
            file.write_text("12")
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    renewed = Renewed(make, (file, None))
    renewed.current()
    renewed.current()
    assert made == ["1", "12"]
