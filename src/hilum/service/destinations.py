"""Where results are sent: a DICOM node (C-STORE) or a DICOMweb server (STOW-RS), each named in one setting.

``pacs=dicom://ORTHANC@10.0.0.7:4242`` is a node without TLS, ``dicoms://…`` one with TLS, and
``archive=https://archive.example/dicom-web`` a DICOMweb server. ``https://user:password@…`` logs in by HTTP Basic.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit

from hilum.errors import HilumError

FORM = "Write NAME=dicom://AETITLE@HOST:PORT, NAME=dicoms://AETITLE@HOST:PORT or NAME=https://HOST/PATH"
PACS_FORM = "Write NAME=dicom://AETITLE@HOST:PORT, or NAME=dicoms://AETITLE@HOST:PORT for TLS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """One place that results go to."""

    name: str
    """As the settings name it; shown in logs and dead letters."""
    kind: Literal["dicom", "stow"]
    """C-STORE or STOW-RS."""
    host: str
    """Host name or address."""
    port: int
    """TCP port."""
    tls: bool
    """Encrypted; the certificate is checked."""
    ae_title: str = ""
    """Called AE title of a DICOM node."""
    url: str = ""
    """Base address of a DICOMweb server, without a login and without a slash at the end."""
    login: tuple[str, str] | None = None
    """User and password for HTTP Basic; never shown."""

    def __repr__(self) -> str:
        return f"Destination({self.name!r}, {self.kind})"


class Undelivered(HilumError):
    """A result could not be handed over.

    Attributes:
        code: stable machine-readable reason.
        permanent: trying again would not help before a person has changed something.
    """

    def __init__(self, message: str, *, code: str, permanent: bool = False) -> None:
        self.code, self.permanent = code, permanent
        super().__init__(message)


def read_destination(text: str) -> Destination:
    """A destination from its setting.

    Raises:
        ValueError: what is wrong with it, without its password.
    """
    name, parts, port = _parts(text, "destination", FORM)
    if parts.scheme in ("dicom", "dicoms"):
        return _node(name, parts, port, "destination", FORM)
    if parts.scheme in ("http", "https"):
        return _server(name, parts, port)
    raise ValueError(f"destination {name!r} has the scheme {parts.scheme!r}. {FORM}")


def read_pacs(text: str) -> Destination:
    """A PACS that is asked, from its setting: a destination over DICOM.

    Raises:
        ValueError: what is wrong with it, and the forms that it may have.
    """
    name, parts, port = _parts(text, "PACS", PACS_FORM)
    if parts.scheme not in ("dicom", "dicoms"):
        raise ValueError(f"PACS {name!r} has the scheme {parts.scheme!r}, and a PACS is asked over DICOM. {PACS_FORM}")
    return _node(name, parts, port, "PACS", PACS_FORM)


def _parts(text: str, what: str, form: str) -> tuple[str, SplitResult, int | None]:
    """Name, address and port of a setting; ``what`` and ``form`` are for messages."""
    name, _, address = text.partition("=")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) or not address:
        raise ValueError(f"a {what} has no name of letters and digits. {form}")
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise ValueError(f"{what} {name!r} has no address that can be read. {form}") from None
    if not parts.hostname:
        raise ValueError(f"{what} {name!r} names no host. {form}")
    return name, parts, port


def _node(name: str, parts: SplitResult, port: int | None, what: str, form: str) -> Destination:
    title = unquote(parts.username or "")
    if not 1 <= len(title) <= 16 or not title.isascii() or "\\" in title:
        raise ValueError(f"{what} {name!r} has no AE title of 1 to 16 ASCII characters. {form}")
    if not port:
        raise ValueError(f"{what} {name!r} has no port. {form}")
    return Destination(
        name=name, kind="dicom", host=parts.hostname or "", port=port, tls=parts.scheme == "dicoms", ae_title=title
    )


def _server(name: str, parts: SplitResult, port: int | None) -> Destination:
    tls, host = parts.scheme == "https", parts.hostname or ""
    if not tls and not _loopback(host):
        raise ValueError(f"destination {name!r} would send films' identifiers over plain http to {host}. Use https")
    login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    shown = f"[{host}]" if ":" in host else host
    place = f"{shown}:{port}" if port else shown
    return Destination(
        name=name,
        kind="stow",
        host=host,
        port=port or (443 if tls else 80),
        tls=tls,
        url=f"{parts.scheme}://{place}{parts.path.rstrip('/')}",
        login=login,
    )


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
