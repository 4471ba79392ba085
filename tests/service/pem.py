"""Certificates of an authority of the tests' own."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as forms
from cryptography.hazmat.primitives.asymmetric import rsa

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path
    signer: Any


def issue(
    folder: Path, name: str, *, by: "Pair | None" = None, since: timedelta = -DAY, until: timedelta = DAY
) -> Pair:
    """A certificate for 127.0.0.1, signed by an authority, or an authority's own."""
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    issuer = x509.load_pem_x509_certificate(by.certificate.read_bytes()).subject if by else subject
    today, here = datetime.now(UTC), ipaddress.ip_address("127.0.0.1")
    made = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(today + since)
        .not_valid_after(today + until)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(here), x509.DNSName(f"{name}.example")]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .sign(by.signer if by else key, hashes.SHA256())
    )
    pair = Pair(certificate=folder / f"{name}.pem", key=folder / f"{name}.key", signer=key)
    pair.certificate.write_bytes(made.public_bytes(forms.Encoding.PEM))
    pair.key.write_bytes(key_pem(key, forms.NoEncryption()))
    pair.key.chmod(0o600)
    return pair


def key_pem(key: Any, lock: Any) -> bytes:
    """A private key in PEM form."""
    made: bytes = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, lock)
    return made
