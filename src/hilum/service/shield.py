"""What wraps every reply: security headers, a log line without identifiers, and no traceback."""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hilum.service.logs import logger, where
from hilum.service.rest.problems import RETRY_AFTER_S, problem

HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
STATIC = "/static/"
HEADERS_OF_STATIC = (*HEADERS, (b"cache-control", b"no-cache"))
HEADERS_OF_OTHERS = (*HEADERS, (b"cache-control", b"no-store"))
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
LARGE = frozenset(("/api/v1/studies", "/api/v1/models", "/dicom-web/studies"))
STUDY = "/dicom-web/studies/"
LARGEST_BODY = 1024 * 1024
"""Where films and bundles come in, which have limits of their own, and the limit for everything else: JSON is read
whole before anybody asks who sent it."""

TOO_LARGE = "The body is larger than the 1 MiB that anything but a film or a bundle may have. Send less."
MOST_AT_ONCE = 150
"""Requests in work at once. One that waits for the rest of its body is in no work: a peer takes no place by silence.
Films and bundles, whose sender is known before their first byte is read, are in work from then on: each has an open
file."""

BROKEN_OFF = 400
BODY_S = 30.0
TOO_SLOW = f"The body was not complete after {BODY_S:g} s. Send it over a faster line."
"""Films and bundles have a limit of their own; a megabyte of anything else is there after so long."""

ALWAYS = frozenset(("/health/live", "/health/ready"))
"""Who asks for these would take an overloaded service for a broken one, and start it anew."""

OVERLOADED = "The service has as many requests in work as it can. Send this one again in a few seconds."


class KnownHosts:
    """ASGI middleware: answers to the names that it is called by, against DNS rebinding.

    Args:
        app: what is behind it.
        names: host names; ``*`` for any, ``*.example`` for all below one.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str]) -> None:
        self.app, self.names = app, tuple(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and not self._known(Headers(scope=scope).get("host", "").lower()):
            said = "The request is for a host that this service is not. Name it in HILUM_ALLOWED_HOSTS if it is."
            await problem(400, "unknown-host", "Unknown host", said)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _known(self, host: str) -> bool:
        name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
        return any(
            known in ("*", name) or (known.startswith("*.") and name.endswith(known[1:])) for known in self.names
        )


class Shield:
    """ASGI middleware, the outermost.

    Args:
        app: what is shielded.
        counted: told route, status and seconds of each request.
        most: requests in work at once; further ones get 503 and when to come again.
    """

    def __init__(
        self,
        app: ASGIApp,
        counted: Callable[[str, int, float], None] = lambda *_: None,
        most: int = MOST_AT_ONCE,
    ) -> None:
        self.app, self.counted, self.most, self.in_work = app, counted, most, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its reply back with headers."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, seen, request_id = time.monotonic(), {"status": 0, "bytes": 0, "whole": False}, secrets.token_hex(8)
        structlog.contextvars.bind_contextvars(request=request_id)  # ours: a peer's could hold anything

        large = scope["path"] in LARGE or scope["path"].startswith(STUDY)

        async def receive_some() -> Message:
            message = await (receive() if seen["whole"] else self._from_peer(receive, started + BODY_S))
            seen["whole"] = not message.get("more_body", False)
            seen["bytes"] += len(message.get("body", b""))
            if seen["bytes"] > LARGEST_BODY:
                raise HTTPException(413, TOO_LARGE)
            return message

        async def send_shielded(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                named = (b"x-request-id", request_id.encode())
                said = {name for name, _ in message["headers"]}  # a route may say itself how its reply is kept
                every = HEADERS_OF_STATIC if scope["path"].startswith(STATIC) else HEADERS_OF_OTHERS
                ours = [header for header in every if header[0] not in said]
                message["headers"] = [*message["headers"], *ours, named]
            await send(message)

        self.in_work += 1
        try:
            if self.in_work > self.most and scope["path"] not in ALWAYS:
                again = {"Retry-After": RETRY_AFTER_S, "Connection": "close"}
                await problem(503, "overloaded", "Too many requests at once", OVERLOADED, again)(
                    scope, receive, send_shielded
                )
                return
            if _announced(scope) > LARGEST_BODY and not large:
                sorry = problem(413, "too-large", "The body is too large", TOO_LARGE, {"Connection": "close"})
                await sorry(scope, receive, send_shielded)
                return
            await self.app(scope, receive if large else receive_some, send_shielded)
        except ClientDisconnect:
            seen["status"] = seen["status"] or BROKEN_OFF  # nobody is left to be told, and it is no fault of ours
        except Exception as error:
            logger().error("request failed", route=_route(scope), **where(error))
            if seen["status"]:
                raise  # half a reply is out: the connection must end
            sorry = problem(500, "internal", "Internal error", "The service failed at this; its log says where.")
            await sorry(scope, receive, send_shielded)
        finally:
            self.in_work -= 1
            seconds = time.monotonic() - started
            milliseconds = round(1000 * seconds, 1)
            self.counted(_route(scope), seen["status"], seconds)
            logger().debug("request", route=_route(scope), status=seen["status"], milliseconds=milliseconds)
            structlog.contextvars.unbind_contextvars("request")

    async def _from_peer(self, receive: Receive, until: float) -> Message:
        """Wait for more of a body, until then (``time.monotonic``); meanwhile the request is in no work."""
        self.in_work -= 1
        try:
            async with asyncio.timeout(until - time.monotonic()):
                return await receive()
        except TimeoutError:
            raise HTTPException(408, TOO_SLOW, {"Connection": "close"}) from None
        finally:
            self.in_work += 1


def _announced(scope: Scope) -> int:
    """Bytes of the body as the peer announces them; 0 when it doesn't."""
    length = dict(scope["headers"]).get(b"content-length", b"")
    return int(length) if length.isdigit() and len(length) < 19 else 0


def _route(scope: Scope) -> str:
    """The route's pattern, never the address itself: a peer may put anything there."""
    route: Any = scope.get("route")
    method = scope["method"] if scope["method"] in METHODS else "OTHER"
    return f"{method} {getattr(route, 'path', '?')}"
