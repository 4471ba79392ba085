"""TLS as PS3.15's BCP 195 profile has it (annex B; RFC 9325): version 1.2 or later, forward secrecy, AES-GCM.

One place for what others connect to (REST, page, DICOM in) and for what we connect to (results, the PACS), and for
saying what is wrong with a certificate before a peer finds out.
"""

import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from hilum.errors import ServiceError

CIPHERS = "ECDHE+AESGCM"
"""Of TLS 1.2 (RFC 9325, 4.2); those of TLS 1.3 are all good."""

Clients = Literal["on", "optional", "required"]
"""Are clients asked for a certificate: no; yes, and one that is shown must be good; yes, and none is no entry."""


def server_context(certificate: Path, key: Path, *, clients: Clients, authorities: Path | None) -> ssl.SSLContext:
    """How peers that connect to us are met.

    Args:
        certificate: PEM file of our certificate and those between it and its authority.
        key: PEM file of its private key.
        clients: whether they have to show a certificate.
        authorities: PEM file of who may have signed clients' certificates.

    Raises:
        ServiceError: a file can't be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _narrow(context)
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        # An encrypted key would be asked for on the terminal: there is none, or nobody at it.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, OSError) as error:
        raise ServiceError(
            f"The certificate {certificate} and the key {key} can't be used together "
            f"({error.strerror or type(error).__name__}). Give PEM files of one pair; hilum serve --check says more."
        ) from None
    if clients != "on":
        _trust(context, authorities)
        context.verify_mode = ssl.CERT_REQUIRED if clients == "required" else ssl.CERT_OPTIONAL
    return context


def client_context(*, authorities: Path | None, own: Path | None) -> ssl.SSLContext:
    """How peers that we connect to are met: their certificate must be good and name the host.

    Args:
        authorities: PEM file of who may have signed it; None: those that the system trusts.
        own: PEM file of our certificate and its key, for peers that ask for one.

    Raises:
        OSError: a file can't be used.
    """
    context = ssl.create_default_context(cafile=authorities)
    _narrow(context)
    if own is not None:
        context.load_cert_chain(own, password=lambda: "")
    return context


def _narrow(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)


def _trust(context: ssl.SSLContext, authorities: Path | None) -> None:
    try:
        context.load_verify_locations(authorities)
    except (ssl.SSLError, OSError, TypeError) as error:
        raise ServiceError(
            f"The authorities {authorities} can't be used ({getattr(error, 'strerror', None) or type(error).__name__})."
            " Give a PEM file of the certificates of those who sign clients' certificates."
        ) from None


def look_at_pair(certificate: Path, key: Path, *, at: datetime | None = None) -> None:
    """Say what a peer would find wrong with a certificate, or a thief right with its key.

    Args:
        certificate: PEM file of the certificate chain, ours first.
        key: PEM file of its private key.
        at: the instant at which it must be valid; None: now.

    Raises:
        ServiceError: the first thing that is wrong.
    """
    ours, secret = read_certificates(certificate)[0], _read_key(key)
    _same_key(ours, secret, certificate, key)
    _in_time(ours, certificate, at or datetime.now(UTC))
    if stat.S_IMODE(key.stat().st_mode) & (stat.S_IROTH | stat.S_IWOTH):
        raise ServiceError(f"Everybody on this machine can read the key {key}. Close it with chmod 600 {key}.")


def look_at_authorities(authorities: Path, *, at: datetime | None = None) -> None:
    """Say what is wrong with a file of authorities.

    Args:
        authorities: PEM file of their certificates.
        at: the instant at which all of them must be valid; None: now.

    Raises:
        ServiceError: the first thing that is wrong.
    """
    for one in read_certificates(authorities):
        _in_time(one, authorities, at or datetime.now(UTC))


def read_certificates(path: Path) -> list[Any]:
    """The certificates in a PEM file.

    Raises:
        ServiceError: there is no such file, or none in it.
    """
    from cryptography import x509

    try:
        return list(x509.load_pem_x509_certificates(_read(path)))
    except ValueError:
        raise ServiceError(f"{path} holds no certificate in PEM form. Give the file that the authority sent.") from None


def _read_key(path: Path) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(_read(path), None)
    except TypeError:
        raise ServiceError(
            f"The key {path} is locked by a passphrase. Unlock it with openssl pkey -in {path} -out OTHER, keep that "
            "file to this user alone, and give it."
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ServiceError(f"{path} holds no private key in PEM form. Give the certificate's key.") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ServiceError(f"{path} can't be read ({error.strerror}). Check the path and its permissions.") from None


def _same_key(certificate: Any, key: Any, certificate_path: Path, key_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if certificate.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        raise ServiceError(
            f"The key {key_path} is not that of the certificate {certificate_path}. Give the two of one pair; the "
            "certificate stands first in its file, before those of its authorities."
        )


def _in_time(certificate: Any, path: Path, at: datetime) -> None:
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if at > until:
        raise ServiceError(f"The certificate in {path} expired on {until:%Y-%m-%d}. Get a new one.")
    if at < since:
        raise ServiceError(
            f"The certificate in {path} is not valid before {since:%Y-%m-%d}. Check this machine's clock."
        )
