"""On what terms peers are met: plain values, so that the listener's process need not know the service's settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hilum.service.renewing import Renewed, renewed_server

STRANGER, STRANGER_AT = "stranger", "stranger_at"
"""Fields of the listener's news that are never written: an AE title that is not on the list, and its peer's address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Titles, limits and certificates."""

    ae_title: str
    """Our AE title."""
    allowed_ae_titles: tuple[str, ...] = ()
    """Calling AE titles that may send; empty for any."""
    named_ae_titles: tuple[str, ...] = ()
    """Peers' AE titles that the settings name; only these are logged."""
    skip_other_classes: bool = False
    """Accept, drop and log other storage classes."""
    pacs_ae_title: str | None = None
    """The PACS that may send what we asked for by C-MOVE; None when none is asked."""
    largest_film_bytes: int = 128 << 20
    """Largest film."""
    maximum_associations: int = 10
    """Associations at once."""
    associations_per_address: int = 8
    """Associations at once from one address."""
    association_deadline_s: float = 900
    """An association is closed after so long, whatever it does."""
    network_timeout_s: float = 30
    """A peer that is silent for so long, or takes so long over one PDU, is cut off."""
    least_rate: float = 1000
    """Bytes a second that a message must bring; a slower peer is cut off."""
    tls: Literal["off", "on", "optional", "required"] = "off"
    """Whether connections are encrypted, and peers asked for a certificate."""
    certificate: str = ""
    """PEM file of our certificate chain."""
    key: str = ""
    """PEM file of its private key."""
    authorities: str | None = None
    """PEM file of who may have signed peers' certificates."""
    sender_certificates: tuple[str, ...] = ()
    """Certificates that calling AE titles have to show, as :mod:`.sender_certificates` reads them."""

    def context(self) -> Renewed | None:
        """How peers' connections are encrypted, by the certificates as they are then; None where they are not.

        Raises:
            ServiceError: a certificate can't be used.
        """
        if self.tls == "off":
            return None
        authorities = Path(self.authorities) if self.authorities else None
        return renewed_server(Path(self.certificate), Path(self.key), clients=self.tls, authorities=authorities)


def asked_for(request: Any, calling: str, terms: Terms) -> bool:
    """Does a film come because of our own C-MOVE, by what it says?

    The C-STORE then names us as the move's originator (PS3.7, 9.1.1.1); some archives name nobody there, or themselves.

    Args:
        request: the C-STORE.
        calling: who sends.
        terms: who we are, and who is asked.
    """
    pacs = terms.pacs_ae_title
    if pacs is None:
        return False
    originator = str(request.MoveOriginatorApplicationEntityTitle or "").strip()
    return originator == terms.ae_title or (calling == pacs and originator in ("", pacs))
