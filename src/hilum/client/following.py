"""The stream of what happens to films, as values; it goes on where it was when the line breaks."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

import httpx

from hilum.client.transport import LATER, Transport, refusal
from hilum.errors import ServiceError

SILENCE_S = 60.0
"""Heartbeats come every 15 s; after so long without one the line is dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmEvent:
    """One change of one film."""

    place: int
    """Where it stands; give it as ``after`` to go on behind it."""
    film: str
    """The film's id."""
    kind: str
    """``received``, ``requeued``, ``answered``, ``failed``, ``quarantined`` or ``reviewed``."""
    at: datetime
    """When (UTC)."""


def follow(
    transport: Transport, after: int | None, *, patience_s: float, sleep: Callable[[float], None] = time.sleep
) -> Iterator[FilmEvent]:
    """Events without an end.

    Args:
        transport: to the service.
        after: go on behind this place; 0 for everything, None from now on.
        patience_s: how long the service may be away.
        sleep: waits; tests give their own.

    Raises:
        ServiceError: it refuses, or was away for longer.
    """
    place, away = after, 0.0
    while True:
        try:
            for event in _once(transport, place):
                away = 0.0
                if isinstance(event, int):
                    place = event
                    continue
                place = event.place
                yield event
            sorry = ServiceError(f"The service at {transport.base_url} ended the stream. Is it stopping?")
        except _Later as error:
            sorry = error.sorry
        except httpx.HTTPError as error:
            sorry = transport.unreachable(error)
        wait = 2.0
        if away + wait > patience_s:
            raise sorry
        sleep(wait)
        away += wait


class _Later(Exception):
    def __init__(self, sorry: ServiceError) -> None:
        self.sorry = sorry
        super().__init__(str(sorry))


def _once(transport: Transport, after: int | None) -> Iterator[FilmEvent | int]:
    """One connection's events, and the places that heartbeats tell."""
    params = {} if after is None else {"after": str(after)}
    timeout = httpx.Timeout(30, read=SILENCE_S)
    with transport.http.stream("GET", "/api/v1/events", params=params, timeout=timeout) as reply:
        if not reply.is_success:
            reply.read()
            if reply.status_code in LATER:
                raise _Later(refusal(reply))
            raise refusal(reply)
        fields: dict[str, str] = {}
        for line in reply.iter_lines():
            name, _, value = line.partition(":")
            if line:
                fields[name] = value.removeprefix(" ")
                continue
            if "data" in fields:
                yield _event(transport, fields)
            elif fields.get("id", "").isdigit():
                yield int(fields["id"])
            fields = {}


def _event(transport: Transport, fields: dict[str, str]) -> FilmEvent:
    try:
        said = json.loads(fields["data"])
        return FilmEvent(
            place=int(fields["id"]), film=said["film"], kind=said["kind"], at=datetime.fromisoformat(said["at"])
        )
    except (KeyError, TypeError, ValueError):
        raise ServiceError(
            f"{transport.base_url} sent an event that is none. Is it a hilum service of this version?"
        ) from None
