"""Which certificate a calling AE title has to show: a title is a claim, and this is its proof.

Written ``TITLE=sha256:HEX`` (the digest of the whole certificate, as ``openssl x509 -fingerprint -sha256`` says it),
``TITLE=cn:NAME`` (its subject's common name) or ``TITLE=san:NAME`` (a DNS name among its alternative names, RFC 5280
4.2.1.6). A title may have several, while one certificate takes the place of another.
"""

import hashlib
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hilum.errors import UsageError

FINGERPRINT = re.compile(r"[0-9a-f]{64}")
KINDS = ("sha256", "cn", "san")


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderCertificate:
    """A certificate that proves a title."""

    title: str
    """The calling AE title."""
    kind: Literal["sha256", "cn", "san"]
    """What of the certificate is compared."""
    value: str
    """With this; a fingerprint in small hex digits, a DNS name in small letters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a peer's certificate says; nothing when it showed none."""

    sha256: str = ""
    """Digest of the certificate."""
    common_names: tuple[str, ...] = ()
    """Of its subject."""
    dns_names: tuple[str, ...] = ()
    """Among its alternative names, in small letters."""

    def proves(self, one: SenderCertificate) -> bool:
        """Is this the certificate that is meant?"""
        if one.kind == "sha256":
            return self.sha256 == one.value
        return one.value in (self.common_names if one.kind == "cn" else self.dns_names)


def read_sender_certificate(text: str) -> SenderCertificate:
    """Read one as it is written.

    Raises:
        UsageError: it is none.
    """
    title, _, rest = text.partition("=")
    kind, _, value = rest.partition(":")
    title, kind, value = title.strip(), kind.strip(), value.strip()
    if kind == "sha256":
        value = value.replace(":", "").lower()
    if kind == "san":
        value = value.lower()
    fit = FINGERPRINT.fullmatch(value) if kind == "sha256" else value
    if not 1 <= len(title) <= 16 or kind not in KINDS or not fit:
        raise UsageError(
            f"{text!r} names no sender's certificate. Write TITLE=sha256:FINGERPRINT, TITLE=cn:NAME or TITLE=san:NAME."
        )
    return SenderCertificate(title=title, kind=kind, value=value)  # type: ignore[arg-type]


def shown(connection: Any) -> Shown:
    """What a peer's certificate says, which TLS has found to be good.

    Args:
        connection: its socket.
    """
    if not isinstance(connection, ssl.SSLSocket):
        return Shown()
    whole, fields = connection.getpeercert(binary_form=True), connection.getpeercert()
    if not whole or not fields:
        return Shown()
    subject: Any = fields.get("subject", ())
    others: Any = fields.get("subjectAltName", ())
    return Shown(
        sha256=hashlib.sha256(whole).hexdigest(),
        common_names=tuple(value for part in subject for name, value in part if name == "commonName"),
        dns_names=tuple(value.lower() for name, value in others if name == "DNS"),
    )


def is_proved(title: str, by: Shown, certificates: Sequence[SenderCertificate]) -> bool:
    """May who shows this call itself so? A title that no certificate is named for needs none.

    Args:
        title: the calling AE title.
        by: what the peer showed.
        certificates: of all senders.
    """
    wanted = [one for one in certificates if one.title == title]
    return not wanted or any(by.proves(one) for one in wanted)
