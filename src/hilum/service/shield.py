"""What wraps every reply: security headers, a log line without identifiers, and no traceback."""

import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hilum.service.logs import logger, where
from hilum.service.rest.problems import problem

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
NOT_KEPT = "no-store"
STATIC = "/static/"


class Shield:
    """ASGI middleware, the outermost."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its reply back with headers."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, seen = time.monotonic(), {"status": 0}

        async def send_shielded(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                message["headers"] = [*message["headers"], *_headers(scope["path"])]
            await send(message)

        try:
            await self.app(scope, receive, send_shielded)
        except Exception as error:
            logger().error("request failed", route=_route(scope), **where(error))
            if seen["status"]:
                raise  # half a reply is out: the connection must end
            sorry = problem(500, "internal", "Internal error", "The service failed at this; its log says where.")
            await sorry(scope, receive, send_shielded)
        finally:
            milliseconds = round(1000 * (time.monotonic() - started), 1)
            logger().debug("request", route=_route(scope), status=seen["status"], milliseconds=milliseconds)


def _headers(path: str) -> list[tuple[bytes, bytes]]:
    cache = "no-cache" if path.startswith(STATIC) else NOT_KEPT
    return [(k.lower().encode(), v.encode()) for k, v in {**HEADERS, "Cache-Control": cache}.items()]


def _route(scope: Scope) -> str:
    """The route's pattern, never the address itself: a peer may put anything there."""
    route: Any = scope.get("route")
    return f"{scope['method']} {getattr(route, 'path', '?')}"
