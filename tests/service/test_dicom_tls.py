"""Films in over TLS: who is let in, who is turned away, and what a certificate's keeper is told."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption
from pynetdicom import AE
from tests.service.conftest import settings_in
from tests.service.hostile import listener_of, noted
from tests.service.pem import DAY, Pair, issue, key_pem
from tests.service.small import CR, SmallDrawing, SmallModel, dataset, dicom

from hilum.data_keys import new_data_key
from hilum.errors import ConfigError, ServiceError, UsageError
from hilum.service import child_process
from hilum.service.app import Running, running
from hilum.service.certificates import client_context, look_at_authorities, look_at_pair, server_context
from hilum.service.checking import check_service
from hilum.service.dicom.sender_certificates import read_sender_certificate
from hilum.service.logs import start_logs


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    folder = tmp_path_factory.mktemp("pem")
    ours, others = issue(folder, "ours"), issue(folder, "others")
    return {
        "ours": ours,
        "others": others,
        "server": issue(folder, "server", by=ours),
        "modality": issue(folder, "modality", by=ours),
        "stranger": issue(folder, "stranger", by=others),
        "old": issue(folder, "old", by=ours, since=-2 * DAY, until=-DAY),
        "early": issue(folder, "early", by=ours, since=DAY, until=2 * DAY),
    }


@contextlib.contextmanager
def encrypted(folder: Path, pairs: dict[str, Pair], clients: str, **changes: object) -> Iterator[Running]:
    pair, ca = pairs["server"], None if clients == "on" else pairs["ours"].certificate
    settings = settings_in(
        folder,
        dicom_port=0,
        dicom_tls=clients,
        dicom_certificate=pair.certificate,
        dicom_key=pair.key,
        dicom_ca=ca,
        **changes,
    )
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        yield service


def stored(service: Running, tls: ssl.SSLContext | None, number: int = 1, title: str = "MODALITY") -> bool:
    """Does a sender get a film in?"""
    entity = AE(ae_title=title)
    entity.add_requested_context(CR)
    entity.connection_timeout = entity.acse_timeout = 120
    port = service.dicom_port or 0
    association = entity.associate("127.0.0.1", port, tls_args=(tls, "127.0.0.1") if tls else None)
    left = association.dul.socket.socket if association.dul.socket else None
    try:
        return bool(association.is_established and association.send_c_store(dataset(number)).get("Status") == 0x0000)
    finally:
        if association.is_established:
            association.release()
        if left is not None:
            left.close()  # pynetdicom leaves it open when the peer hung up first


def sender(pairs: dict[str, Pair], name: str | None, **changes: object) -> ssl.SSLContext:
    context = client_context(authorities=pairs["ours"].certificate, own=None)
    if name is not None:
        context.load_cert_chain(pairs[name].certificate, pairs[name].key)
    for key, value in changes.items():
        setattr(context, key, value)
    return context


def test_an_encrypted_film_is_kept_and_a_plain_one_is_not_taken(tmp_path: Path, pairs: dict[str, Pair]) -> None:
    with encrypted(tmp_path, pairs, "on") as service:
        assert stored(service, sender(pairs, None))
        assert not stored(service, None, 2)
        doubting = client_context(authorities=pairs["others"].certificate, own=None)
        assert not stored(service, doubting, 3), "the sender finds out who answers"
        assert sum(service.room.store.counts().values()) == 1


def test_a_demanded_certificate_must_be_shown_and_be_good(tmp_path: Path, pairs: dict[str, Pair]) -> None:
    with encrypted(tmp_path, pairs, "required") as service:
        assert stored(service, sender(pairs, "modality"))
        for name in (None, "stranger", "old", "early"):
            assert not stored(service, sender(pairs, name), 2), name
        assert sum(service.room.store.counts().values()) == 1


def test_the_log_says_what_a_sender_lacks(tmp_path: Path, pairs: dict[str, Pair]) -> None:
    out = io.StringIO()
    start_logs(out)
    with encrypted(tmp_path, pairs, "required") as service:
        for number, context in enumerate([*(sender(pairs, name) for name in (None, "stranger", "old")), None]):
            stored(service, context)
            # Each has a thread of its own there: the next one's line must not come before.
            until(lambda number=number: out.getvalue().count("connection refused") > number)  # type: ignore[misc]
    said = [json.loads(line) for line in out.getvalue().splitlines() if "connection refused" in line]
    assert {one["code"] for one in said} == {"no-tls"}
    assert [one["reason"] for one in said] == [
        "it showed no certificate",
        "its certificate isn't good (unable to get local issuer certificate)",
        "its certificate isn't good (certificate has expired)",
        "no TLS (WRONG_VERSION_NUMBER)",
    ]


def test_a_certificate_that_may_be_shown_must_be_good(tmp_path: Path, pairs: dict[str, Pair]) -> None:
    with encrypted(tmp_path, pairs, "optional") as service:
        assert stored(service, sender(pairs, None), 1)
        assert stored(service, sender(pairs, "modality"), 2)
        assert not stored(service, sender(pairs, "stranger"), 3)


def test_a_title_has_to_show_its_certificate(tmp_path: Path, pairs: dict[str, Pair]) -> None:
    """Any certificate that the authority signed lets a sender in, but not under another's title."""
    folder = tmp_path / "others"
    folder.mkdir()
    other = issue(folder, "other", by=pairs["ours"])
    bound = ("MODALITY=sha256:" + "0" * 64, "MODALITY=cn:modality", "CR2=san:Other.Example")
    with encrypted(tmp_path, pairs, "optional", dicom_sender_certificates=bound) as service:
        others = sender({**pairs, "other": other}, "other")
        assert stored(service, sender(pairs, "modality"), 1)
        assert stored(service, others, 2, "CR2")
        assert stored(service, others, 3, "UNBOUND")
        assert not stored(service, others, 4), "MODALITY shows another certificate"
        assert not stored(service, sender(pairs, "modality"), 5, "CR2")
        assert not stored(service, sender(pairs, None), 6), "MODALITY shows none"
        assert sum(service.room.store.counts().values()) == 3
        database = service.room.database
        deadline = time.monotonic() + 120
        while len(found := noted(database)) < 3:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
    said = [(one["code"], one["calling_ae"], one["certificate"], one["times"]) for one in found]
    assert sorted(said) == sorted(
        [
            ("certificate", "MODALITY", fingerprint(other), 1),
            ("certificate", "CR2", fingerprint(pairs["modality"]), 1),
            ("certificate", "MODALITY", "none", 1),
        ]
    )


def fingerprint(pair: Pair) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())).hexdigest()


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("CT1=sha256:" + ":".join(["3F"] * 32), "sha256", "3f" * 32),
        (" CT1 = cn:Archive, Hospital ".replace(",", ""), "cn", "Archive Hospital"),
        ("CT1=san:CR2.Hospital.Example", "san", "cr2.hospital.example"),
    ],
)
def test_a_senders_certificate_is_named_in_three_ways(text: str, kind: str, value: str) -> None:
    one = read_sender_certificate(text)
    assert (one.title, one.kind, one.value) == ("CT1", kind, value)


@pytest.mark.parametrize(
    "text", ["CT1", "CT1=3f", "=cn:x", "CT1=cn:", "CT1=md5:3f", "CT1=sha256:3f", "CT1CT1CT1CT1CT1CT=cn:x"]
)
def test_what_names_no_certificate_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"{text!r} names no sender's certificate. Write TITLE=sha256")):
        read_sender_certificate(text)
    with pytest.raises(ConfigError, match="names no sender's certificate"):
        settings_in(tmp_path, dicom_port=0, dicom_sender_certificates=text)


def test_peers_that_never_shake_hands_keep_nobody_out(tmp_path: Path, pairs: dict[str, Pair]) -> None:
    """pynetdicom itself would shake hands where it accepts connections: one silent peer would stop it."""
    hasty = {"maximum_associations": 3, "network_timeout_s": 3}
    with encrypted(tmp_path, pairs, "on", **hasty) as service, contextlib.ExitStack() as stack:
        at = ("127.0.0.1", service.dicom_port or 0)
        silent = [stack.enter_context(socket.create_connection(at, timeout=120)) for _ in range(5)]
        assert any(stored(service, sender(pairs, None)) for _ in range(10)), "a busy machine may be slow as well"
        sixth, seventh = (stack.enter_context(socket.create_connection(at, timeout=120)) for _ in range(2))
        assert seventh.recv(1) == b"", "no more of them than connections in all"
        for one in (*silent, sixth):
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(1) == b"", "and none of them for longer than the network's limit"
        assert any(stored(service, sender(pairs, None), 2) for _ in range(10))


def test_while_its_key_is_gone_the_listener_says_so(
    tmp_path: Path, pairs: dict[str, Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that takes the place of another reads the certificate anew."""
    monkeypatch.setattr(child_process, "FIRST_PAUSE_S", 0.1)
    key, away = tmp_path / "server.key", tmp_path / "away.key"
    shutil.copy(pairs["server"].key, key)
    ours = {**pairs, "server": dataclasses.replace(pairs["server"], key=key)}
    with encrypted(tmp_path, ours, "on") as service:
        assert service.room.health().checks["dicom"] == "ok"
        key.rename(away)
        os.kill(listener_of(service), signal.SIGKILL)
        until(lambda: "can't be used together" in service.room.health().checks["dicom"])
        assert not service.room.health().ready
        away.rename(key)
        until(lambda: service.room.health().checks["dicom"] == "ok")
        assert stored(service, sender(pairs, None))


def until(happened: Callable[[], bool], within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_old_protocols_and_weak_ciphers_are_not_spoken(tmp_path: Path, pairs: dict[str, Pair]) -> None:
    pair = pairs["server"]
    context = server_context(pair.certificate, pair.key, clients="on", authorities=None)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    for cipher in context.get_ciphers():
        assert cipher["protocol"] == "TLSv1.3" or cipher["name"].startswith("ECDHE-"), cipher
        assert "GCM" in cipher["name"] or cipher["protocol"] == "TLSv1.3", cipher
    with encrypted(tmp_path, pairs, "on") as service:
        weak = sender(pairs, None)
        weak.maximum_version = ssl.TLSVersion.TLSv1_2
        weak.set_ciphers("AES128-SHA256")
        assert not stored(service, weak)


def test_what_is_wrong_with_a_pair_is_said(tmp_path: Path, pairs: dict[str, Pair]) -> None:
    good, old, early = pairs["server"], pairs["old"], pairs["early"]
    look_at_pair(good.certificate, good.key)
    rubbish, locked, open_key = tmp_path / "rubbish", tmp_path / "locked", tmp_path / "open"
    rubbish.write_text("none")
    locked.write_bytes(key_pem(good.signer, BestAvailableEncryption(b"secret")))
    shutil.copy(good.key, open_key)
    open_key.chmod(0o644)
    both = tmp_path / "both"
    both.write_bytes(good.certificate.read_bytes() + good.key.read_bytes())
    both.chmod(0o600)
    look_at_pair(both, both)
    for certificate, key, said in (
        (tmp_path / "none", good.key, "none can't be read .No such file"),
        (good.certificate, tmp_path / "none", "none can't be read .No such file"),
        (rubbish, good.key, "rubbish holds no certificate in PEM form"),
        (good.certificate, rubbish, "rubbish holds no private key in PEM form"),
        (good.certificate, old.key, "old.key is not that of the certificate .*server.pem"),
        (good.certificate, locked, "locked is locked by a passphrase"),
        (good.certificate, open_key, "Everybody on this machine can read the key .*open. .*chmod 600"),
        (old.certificate, old.key, "old.pem expired on 20"),
        (early.certificate, early.key, "early.pem is not valid before 20"),
    ):
        with pytest.raises(ServiceError, match=said):
            look_at_pair(certificate, key)
    with pytest.raises(ServiceError, match="old.pem expired on"):
        look_at_authorities(old.certificate)


def test_what_can_not_be_used_stops_the_start(tmp_path: Path, pairs: dict[str, Pair]) -> None:
    pair, locked = pairs["server"], tmp_path / "locked"
    locked.write_bytes(key_pem(pair.signer, BestAvailableEncryption(b"secret")))
    for key in (pairs["old"].key, locked, tmp_path / "none"):
        with pytest.raises(ServiceError, match=f"and the key {key} can't be used together"):
            server_context(pair.certificate, key, clients="on", authorities=None)
    for authorities in (tmp_path / "none", locked, None):
        with pytest.raises(ServiceError, match=f"The authorities {authorities} can't be used"):
            server_context(pair.certificate, pair.key, clients="required", authorities=authorities)


def test_a_check_looks_at_every_certificate(tmp_path: Path, pairs: dict[str, Pair]) -> None:
    good, old = pairs["server"], pairs["old"]
    own = tmp_path / "own.pem"
    own.write_bytes(good.certificate.read_bytes() + good.key.read_bytes())
    settings = settings_in(
        tmp_path,
        dicom_port=0,
        tls_certificate=good.certificate,
        tls_key=good.key,
        dicom_tls="required",
        dicom_ca=old.certificate,
        results_certificate=own,
    )
    found = check_service(settings)
    assert found["tls"] == "ok"
    assert "old.pem expired" in found["dicom tls"]
    assert "Everybody on this machine can read" in found["results tls"]
    own.chmod(0o600)
    changes = {"dicom_ca": pairs["ours"].certificate, "results_ca": pairs["ours"].certificate}
    found = check_service(settings.model_copy(update=changes))
    assert (found["dicom tls"], found["results tls"]) == ("ok", "ok")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dicom_certificate": "c"}, "HILUM_DICOM_CERTIFICATE and HILUM_DICOM_KEY go together"),
        ({"dicom_certificate": "c", "dicom_key": "k"}, "certificate is given but not used: set HILUM_DICOM_TLS"),
        ({"dicom_sender_certificates": "A=cn:a"}, "HILUM_DICOM_SENDER_CERTIFICATES says which .* not asked for any"),
        ({"dicom_tls": "on"}, "HILUM_DICOM_TLS=on needs a certificate"),
        ({"dicom_tls": "required", "dicom_certificate": "c", "dicom_key": "k"}, "HILUM_DICOM_CA names who signs"),
        ({"dicom_tls": "on", "dicom_certificate": "c", "dicom_key": "k", "dicom_ca": "a"}, "leave it out otherwise"),
        (
            {"host": "10.0.0.1", "tls_certificate": "c", "tls_key": "k", "allowed_ae_titles": "CR1"},
            "films would come in over DICOM in the clear: encrypt them with HILUM_DICOM_TLS=on",
        ),
        (
            {"host": "10.0.0.1", "tls_certificate": "c", "tls_key": "k", "dicom_tls": "on"},
            "any AE title may send: name the senders .* or demand certificates",
        ),
    ],
)
def test_settings_that_make_no_sense_are_told(tmp_path: Path, given: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings_in(tmp_path, dicom_port=0, **given)


def test_certificates_of_senders_stand_in_for_titles(tmp_path: Path) -> None:
    given = {"host": "10.0.0.1", "tls_certificate": "c", "tls_key": "k", "dicom_tls": "required", "dicom_ca": "a"}
    assert settings_in(tmp_path, dicom_port=0, data_key=new_data_key().text, **given).allowed_ae_titles == ()


@pytest.mark.system
def test_dcmtk_sends_over_tls(tmp_path: Path, pairs: dict[str, Pair]) -> None:
    program = shutil.which("storescu")
    assert program, "install dcmtk"
    (tmp_path / "film.dcm").write_bytes(dicom(7))
    with encrypted(tmp_path, pairs, "required") as service:
        for name, goes in (("modality", True), ("stranger", False)):
            shown = ["+tls", str(pairs[name].key), str(pairs[name].certificate), "+cf", str(pairs["ours"].certificate)]
            to = ["-aec", "HILUM", "127.0.0.1", str(service.dicom_port), str(tmp_path / "film.dcm")]
            done = subprocess.run([program, *shown, *to], timeout=240, capture_output=True)
            assert (done.returncode == 0) is goes, (name, done.stderr)
        assert sum(service.room.store.counts().values()) == 1
