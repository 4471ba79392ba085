"""What DICOM peers did of late: films that came from each, and refusals; for whoever connects them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from hilum.records.database import Database
from hilum.records.schema import AuditRow, FilmRow

MOST_ROWS = 2000
"""So many rows of refusals are looked at, the newest: whoever knocks without end must not make a page slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """Films that a peer sent."""

    title: str
    """What it calls itself."""
    origin: str
    """``dicom`` for films that it sent, ``pacs`` for those that we asked it for."""
    films: int
    """How many."""
    last: datetime
    """When the last one was received (UTC)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedKind:
    """Refusals of one kind."""

    code: str
    """Why."""
    title: str
    """As whom the peer called; empty where the settings don't know its title."""
    certificate: str
    """SHA-256 of the certificate that was shown last, or ``none``; empty where it is not what was wrong."""
    times: int
    """How often."""
    last: datetime
    """When the newest of their rows was written (UTC)."""


def films_by_peer(database: Database, *, since: datetime) -> tuple[Came, ...]:
    """Films that came over DICOM, by the sender's AE title; read from the index of films by time.

    Args:
        database: the records.
        since: from then on.
    """
    peer = FilmRow.calling_ae, FilmRow.origin
    query = (
        select(*peer, func.count(), func.max(FilmRow.received_at))
        .where(FilmRow.received_at >= since, FilmRow.calling_ae != "")
        .group_by(*peer)
        .order_by(*peer)
    )
    with database.read() as session:
        return tuple(
            Came(title=title, origin=origin, films=int(films), last=last)
            for title, origin, films, last in session.execute(query)
        )


REFUSED = "association.refused"
"""Act of the audit: a DICOM peer was turned away or cut off."""

TITLES = {
    "title": "an AE title that is not on the list",
    "certificate": "another certificate than its AE title has to show",
    "no-tls": "no TLS, or no certificate that is trusted",
    "sop-class": "SOP classes that are not taken",
    "too-many": "too many associations at once",
    "too-many-of-one": "too many associations from one address",
    "deadline": "an association that lasted too long",
    "pdu-size": "a PDU larger than agreed",
    "command-size": "a command longer than any there is",
    "message-size": "a film that is too large",
    "too-slow": "silence, or a PDU or message that took too long",
    "memory": "no memory left beside what others sent",
    "protocol": "something that the protocol doesn't have",
}
"""What a peer was refused or cut off for, by code, in a phrase."""


def title_of(act: str, detail: Mapping[str, Any]) -> str:
    """What a refusal's code in a row of the audit means; empty for a row of another act."""
    return TITLES.get(str(detail.get("code")), "a reason that the log names") if act == REFUSED else ""


def refusals(database: Database, *, since: datetime) -> tuple[RefusedKind, ...]:
    """Associations and connections that were refused or cut off, by title and reason, the newest first.

    Args:
        database: the records.
        since: from then on.
    """
    first = select(AuditRow.seq).where(AuditRow.at >= since.isoformat()).order_by(AuditRow.at).limit(1)
    query = (
        select(AuditRow.at, AuditRow.body).where(AuditRow.act == REFUSED).order_by(AuditRow.seq.desc()).limit(MOST_ROWS)
    )
    found: dict[tuple[str, str], RefusedKind] = {}
    with database.read() as session:
        # From a place in the chain on, which the index of acts knows: by time it would read all older refusals as well.
        begin = session.scalar(first)
        for at, body in session.execute(query.where(AuditRow.seq >= begin)) if begin is not None else ():
            said = json.loads(body)["detail"]
            code, title, times = str(said["code"]), str(said.get("calling_ae", "")), int(said["times"])
            newest = found.get((title, code))
            found[title, code] = RefusedKind(
                code=code,
                title=title,
                certificate=newest.certificate if newest else str(said.get("certificate", "")),
                times=times + (newest.times if newest else 0),
                last=newest.last if newest else datetime.fromisoformat(at),
            )
    return tuple(found.values())
