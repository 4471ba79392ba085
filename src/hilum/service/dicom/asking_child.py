"""The process that asks the PACS: what it answers is received and decoded here, and nowhere else.

It is told what to look for by the service over an inherited socket, and ends when that closes. Films that are fetched
go to the service over a channel of their own, as the listener's do; it has no records, no data key, no model.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from hilum.sealing import sealed_bytes
from hilum.service.child_wire import OK, OUT_OF_MEMORY, PING, limit, receive, send
from hilum.service.destinations import read_destination
from hilum.service.dicom.far_intake import FarIntake
from hilum.service.dicom.listener_child import tell_news
from hilum.service.dicom.loading import load
from hilum.service.dicom.pacs import Pacs, asking, fetch
from hilum.service.dicom.patients import Ambiguous, Patient
from hilum.service.dicom.priors import Film, Found, Level, find_priors
from hilum.service.dicom.receiving import announced, answer_store, keep
from hilum.service.dicom.unfetched import Unfetched
from hilum.service.logs import logger, where
from hilum.service.refusals import Refused
from hilum.service.renewing import renewed_client

FIND, FETCH = 16, 17
"""What it is asked: which priors a film has; to fetch films."""

OPEN_FILES = 64


def main(
    *,
    descriptor: int,
    news: int,
    channel: int,
    node: str,
    authorities: str | None,
    certificate: str | None,
    memory_mb: int,
    **limits: Any,
) -> None:
    """Limit itself, and ask as it is told.

    Args:
        descriptor: the inherited end of the socket.
        news: descriptor of the socket for lines of the log.
        channel: descriptor of the socket for films.
        node: the PACS, as its setting has it.
        authorities: PEM file of who may have signed its certificate.
        certificate: PEM file of ours.
        memory_mb: address space on top of what is in use once all is loaded.
        limits: further fields of :class:`~hilum.service.dicom.pacs.Pacs`.
    """
    load()
    tell_news(socket.socket(fileno=news))
    with socket.socket(fileno=descriptor) as told:
        read = read_destination(node)
        tls = renewed_client(_path(authorities), _path(certificate)).current if read.tls else None
        pacs = Pacs(node=read, tls=tls, **limits)
        intake = FarIntake([socket.socket(fileno=channel)], pacs.largest_film_bytes)
        file_bytes = sealed_bytes(pacs.largest_film_bytes) + (1 << 20)
        limit(memory_mb=memory_mb, file_bytes=file_bytes, open_files=OPEN_FILES)
        try:
            send(told, OK)
            _serve(told, pacs, intake)
        except (EOFError, OSError):
            pass  # the service has ended
        except MemoryError:
            send(told, OUT_OF_MEMORY)
        finally:
            os._exit(0)  # a thread of an association would keep it


def _serve(told: socket.socket, pacs: Pacs, intake: FarIntake) -> None:
    while True:
        kind, content, _ = receive(told)
        if kind == PING:
            send(told, OK)
            continue
        send(told, OK, _answer(kind, content, told, pacs, intake))


def _answer(kind: int, asked: Any, told: socket.socket, pacs: Pacs, intake: FarIntake) -> Mapping[str, Any]:
    try:
        return {"done": _find(told, pacs, asked) if kind == FIND else _fetch(pacs, intake, asked)}
    except Unfetched as error:
        return _why(error)
    except Ambiguous as error:
        return {"ambiguous": {"text": str(error), "code": error.code}}
    except MemoryError:
        raise
    except Exception as error:
        logger().error("a PACS could not be asked", **where(error))
        text = f"An internal error ({type(error).__name__}) while the PACS was asked; the log says where."
        return {"unfetched": {"text": text, "code": "internal", "permanent": False}}


def _why(error: Unfetched) -> Mapping[str, Any]:
    return {"unfetched": {"text": str(error), "code": error.code, "permanent": error.permanent}}


def _find(told: socket.socket, pacs: Pacs, asked: Mapping[str, Any]) -> Sequence[Mapping[str, str]]:
    said = asked["film"]
    film = Film(
        **said
        | {
            "patient": Patient(**said["patient"]),
            "charset": tuple(said["charset"]),
            "taken": tuple(said["taken"]),
        }
    )
    with asking(pacs) as ask_it:

        def ask(level: Level, keys: Mapping[str, str]) -> Sequence[Any]:
            try:
                return ask_it(level, keys)
            except Unfetched as error:
                # No polite end: where memory ran out, pynetdicom's threads may have died with a lock in their hands.
                send(told, OK, _why(error))
                os._exit(0)

        today = date.fromisoformat(asked["today"])
        return [asdict(one) for one in find_priors(ask, film, years=asked["years"], count=asked["count"], today=today)]


def _fetch(pacs: Pacs, intake: FarIntake, asked: Mapping[str, Any]) -> str:
    films = [Found(**one) for one in asked["films"]]
    wanted = {one.sop_instance_uid for one in films}

    def receive_one(event: Any) -> int:
        _, sop_instance = announced(event)
        if sop_instance not in wanted:
            raise Refused("The PACS sends a film that it was not asked for.", code="unsupported")
        title = pacs.node.ae_title
        keep(event, intake, sop_instance_uid=sop_instance, calling_ae=title, named=True, fetched=True)
        return 0x0000

    return fetch(pacs, films, way=asked["way"], keep=lambda event: answer_store(event, receive_one))


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
