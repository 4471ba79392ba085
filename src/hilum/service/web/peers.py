"""DICOM peers as the page of operations shows them: who may send, whom we call, and who was turned away, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hilum.errors import ServiceError
from hilum.records.peers import Came, RefusedKind, films_by_peer, refusals
from hilum.service.certificates import read_certificates
from hilum.service.destinations import Destination
from hilum.service.dicom.sender_certificates import read_sender_certificate
from hilum.service.reading_room import ReadingRoom
from hilum.service.settings import Settings

FILMS_DAYS = 30
"""Films of so many days are counted."""

REFUSED_HOURS = 24
"""Refusals of so many hours are shown."""

SENDERS_TLS = {
    "off": "in the clear",
    "on": "TLS; senders are asked for no certificate",
    "optional": "TLS; a certificate that it shows must be good",
    "required": "TLS; a good certificate is required",
}
"""How films come in, by ``HILUM_DICOM_TLS``."""

NOT_LISTED = (
    "Its AE title is not on the list. Add it to HILUM_ALLOWED_AE_TITLES, letter by letter, and start the service again."
)
WHY = {
    "title": NOT_LISTED,
    "sop-class": (
        "It sent nothing, after SOP classes that it offered were not taken; the log names them. "
        "Send CR, DX and Secondary Capture alone, or let HILUM_OTHER_CLASSES=skip take others and drop them."
    ),
    "too-many": "Too many associations at once; HILUM_MAXIMUM_ASSOCIATIONS says how many there may be.",
    "too-many-of-one": "Too many from one address at once; HILUM_ASSOCIATIONS_PER_ADDRESS says how many.",
    "deadline": "Its association lasted longer than HILUM_ASSOCIATION_DEADLINE_S.",
    "pdu-size": "It sent a PDU of more than 1 MiB, although less was agreed.",
    "command-size": "It sent a command of more than 64 KiB, where a few hundred bytes are usual.",
    "message-size": "It sent a film larger than HILUM_LARGEST_FILM_MB.",
    "too-slow": "It was silent, or took over one PDU, for longer than HILUM_NETWORK_TIMEOUT_S, or was slower than "
    "HILUM_LEAST_UPLOAD_RATE.",
    "memory": "There was no memory left beside what others sent; HILUM_LISTENER_MEMORY_MB says how much there is.",
    "protocol": "It sent what the protocol doesn't have.",
}
"""Why a peer was refused and what mends it, by code; the others depend on more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderView:
    """An AE title that may send films, or did."""

    title: str
    """The calling AE title."""
    what: str
    """What it may do, in a phrase."""
    tls: str
    """How it comes in."""
    films: int
    """Films of the last :data:`FILMS_DAYS` days."""
    last: datetime | None
    """When the last of them came; None for none."""
    refused: int
    """Times that it was refused in the last :data:`REFUSED_HOURS` hours under this title."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledView:
    """A peer that we call."""

    name: str
    """As the settings name it."""
    what: str
    """What for."""
    title: str
    """Its AE title, or ``DICOMweb``."""
    address: str
    """Host and port."""
    tls: str
    """How we connect."""
    films: str
    """What came from it of late, or where that is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedView:
    """Peers that were turned away, for one reason."""

    who: str
    """Title and address, as far as they are known."""
    why: str
    """What was wrong, and the mend."""
    times: int
    """How often."""
    last: datetime
    """When last (UTC)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersView:
    """The section."""

    own: tuple[tuple[str, str], ...]
    """What we are to them: a word and what it is."""
    senders: tuple[SenderView, ...]
    """Who may send."""
    any_title: bool
    """Any AE title may."""
    called: tuple[CalledView, ...]
    """Whom we call."""
    refused: tuple[RefusedView, ...]
    """Who was turned away, the newest first."""


def peers_of(room: ReadingRoom, at: datetime) -> PeersView:
    """All peers that the settings name, those that came, and those that were turned away.

    Args:
        room: the service.
        at: now.
    """
    settings = room.settings
    came = films_by_peer(room.database, since=at - timedelta(days=FILMS_DAYS))
    turned = refusals(room.database, since=at - timedelta(hours=REFUSED_HOURS))
    return PeersView(
        own=_own(settings, room.listener.port if room.listener else None, at),
        senders=_senders(settings, came, turned) if settings.dicom_port is not None else (),
        any_title=settings.dicom_port is not None and not settings.allowed_ae_titles,
        called=_called(settings, came),
        refused=_refused(room, turned, at),
    )


def _own(settings: Settings, port: int | None, at: datetime) -> tuple[tuple[str, str], ...]:
    said = [("AE title", settings.ae_title)]
    if settings.dicom_port is None:
        return (*said, ("Incoming", "no DICOM listener"))
    said += [("Port", f"{port if port is not None else settings.dicom_port} on {settings.host}")]
    said += [("Incoming", SENDERS_TLS[settings.dicom_tls])]
    if settings.dicom_tls != "off" and settings.dicom_pair is not None:
        said += [("Certificate", _until(settings.dicom_pair[0], at))]
    if settings.results_certificate is not None:
        said += [("When we call", _until(settings.results_certificate, at))]
    return tuple(said)


def _until(certificate: Path, at: datetime) -> str:
    """Until when a certificate of ours is good."""
    try:
        until = read_certificates(certificate)[0].not_valid_after_utc
    except ServiceError as error:
        return str(error)
    days = (until - at).days
    return f"expired on {until:%Y-%m-%d}" if until < at else f"good until {until:%Y-%m-%d}, {days} days"


def _senders(settings: Settings, came: Sequence[Came], turned: Sequence[RefusedKind]) -> tuple[SenderView, ...]:
    sent = {one.title: one for one in came if one.origin == "dicom"}
    proved = {read_sender_certificate(text).title for text in settings.dicom_sender_certificates}
    listed = settings.allowed_ae_titles or sorted(proved)
    titles = list(dict.fromkeys([*listed, *sent]))
    shown = []
    for title in titles:
        what = "may send films" if title in listed or not settings.allowed_ae_titles else "sent films; not listed now"
        tls = "TLS; it must show the certificate named for it" if title in proved else SENDERS_TLS[settings.dicom_tls]
        one = sent.get(title)
        shown.append(
            SenderView(
                title=title, what=what, tls=tls,
                films=one.films if one else 0, last=one.last if one else None,
                refused=sum(kind.times for kind in turned if kind.title == title),
            )
        )  # fmt: skip
    return tuple(shown)


def _called(settings: Settings, came: Sequence[Came]) -> tuple[CalledView, ...]:
    shown = []
    if settings.pacs_node is not None:
        fetched = [one for one in came if one.origin == "pacs" and one.title == settings.pacs_node.ae_title]
        told = f"{fetched[0].films}, last {fetched[0].last:%Y-%m-%d %H:%M} UTC" if fetched else "none"
        shown.append(_call(settings, settings.pacs_node, "is asked for earlier films", told))
    return (*shown, *(_call(settings, one, "gets results", "") for one in settings.destinations))


def _call(settings: Settings, one: Destination, what: str, films: str) -> CalledView:
    host = f"[{one.host}]" if ":" in one.host else one.host
    ours = ", ours is shown if it asks" if settings.results_certificate is not None else ""
    return CalledView(
        name=one.name, what=what, title=one.ae_title or "DICOMweb", address=f"{host}:{one.port}", films=films,
        tls=f"TLS; its certificate is checked{ours}" if one.tls else "in the clear",
    )  # fmt: skip


def _refused(room: ReadingRoom, turned: Sequence[RefusedKind], at: datetime) -> tuple[RefusedView, ...]:
    recent = at.astimezone(UTC) - timedelta(hours=REFUSED_HOURS)
    strangers = [
        RefusedView(
            who=f"{one.title or '(no title)'} from {one.address}", why=NOT_LISTED, times=one.times, last=one.last
        )
        for one in room.strangers.known()
        if one.last >= recent
    ]
    unnamed = {"title": "all titles that are not on the list, those named here among them"}
    kept = [
        RefusedView(
            who=kind.title or unnamed.get(kind.code, "not known"), why=_why(kind, room.settings), times=kind.times,
            last=kind.last,
        )
        for kind in turned
    ]  # fmt: skip
    return tuple(sorted([*strangers, *kept], key=lambda one: one.last, reverse=True))


def _why(kind: RefusedKind, settings: Settings) -> str:
    if kind.code == "certificate":
        shown = f"sha256:{kind.certificate}" if kind.certificate not in ("", "none") else "none"
        return f"HILUM_DICOM_SENDER_CERTIFICATES names another certificate for it than it showed, which was {shown}."
    if kind.code == "no-tls":
        more = ", or showed no certificate that HILUM_DICOM_CA signed" if settings.dicom_ca is not None else ""
        return f"It spoke no TLS, as HILUM_DICOM_TLS={settings.dicom_tls} wants it{more}."
    return WHY.get(kind.code, "Its connection was refused or cut off; the log says more.")
