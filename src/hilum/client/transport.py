"""Requests to a service: retried while it says "later", and one sentence where they fail."""

import random
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from hilum.doubts import certificate_doubt
from hilum.errors import ServiceError, UsageError

LATER = (429, 503)
"""Said with Retry-After: the same request, sent again, may be answered."""

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0


class Transport:
    """Sends requests to one service. All that this client sends may be sent twice: what makes something bears a key.

    Args:
        base_url: its address, without a slash at the end.
        key: what lets us in; None for nothing.
        timeout_s: how long a reply may take.
        patience_s: how long a request is tried again, while the service says "later" or lines break. Where nobody
            is there at all, nothing is tried again.
        authorities: PEM file of who may have signed its certificate; None for those that the system trusts.
        sleep: waits; tests give their own.
    """

    def __init__(
        self,
        base_url: str,
        *,
        key: str | None,
        timeout_s: float,
        patience_s: float,
        authorities: Path | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.base_url, self._timeout_s, self._patience_s, self._sleep = base_url, timeout_s, patience_s, sleep
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        tls = _trusting(authorities) if base_url.startswith("https:") else True
        self.http = httpx.Client(base_url=base_url, timeout=timeout_s, trust_env=False, headers=headers, verify=tls)

    def ask(self, method: str, path: str, *, wait_s: float = 0, **arguments: Any) -> httpx.Response:
        """A successful reply.

        Args:
            method: of the request.
            path: of the request.
            wait_s: how much longer than usual the reply may take.
            arguments: of httpx.

        Raises:
            ServiceError: the service can't be reached, refuses, or is not ready within our patience.
        """
        timeout, waited = self._timeout_s + wait_s, 0.0
        for attempt in range(1_000_000):
            reply, sorry = self._once(method, path, timeout, arguments)
            if reply is not None and reply.is_success:
                return reply
            nobody = reply is None and isinstance(sorry.__cause__, httpx.ConnectError)
            if nobody or (reply is not None and reply.status_code not in LATER):
                break
            wait = self._wait_s(reply, attempt)
            if waited + wait > self._patience_s:
                break
            self._sleep(wait)
            waited += wait
        raise sorry

    def _once(
        self, method: str, path: str, timeout: float, arguments: dict[str, Any]
    ) -> tuple[httpx.Response | None, ServiceError]:
        """The reply, if any, and what to say if it is none that helps."""
        try:
            reply = self.http.request(method, path, timeout=timeout, **arguments)
        except httpx.TimeoutException:
            return None, ServiceError(f"The service at {self.base_url} did not reply in {timeout:g} s. Try again.")
        except httpx.HTTPError as error:
            return None, self.unreachable(error)
        return reply, refusal(reply)

    def unreachable(self, error: httpx.HTTPError) -> ServiceError:
        """Nobody is there."""
        doubt = certificate_doubt(error)
        sorry = ServiceError(
            f"The service at {self.base_url} shows a certificate that isn't trusted ({doubt}). Name the PEM file of "
            "its authority: ca in Client, --ca or HILUM_CA for a verb."
            if doubt
            else f"The service at {self.base_url} can't be reached ({type(error).__name__}). Is it running?"
        )
        sorry.__cause__ = error
        return sorry

    def _wait_s(self, reply: httpx.Response | None, attempt: int) -> float:
        said = reply.headers.get("retry-after", "") if reply is not None else ""
        if said.isdigit():
            return min(float(said), LONGEST_WAIT_S)
        longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(attempt, 20))
        return longest * (1 - 0.5 * random.random())  # so that many clients don't come back at the same instant

    def json(self, reply: httpx.Response) -> dict[str, Any]:
        """A reply's body; raises ServiceError where it is no JSON object."""
        try:
            body = reply.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise ServiceError(f"{self.base_url} replied with something that is not JSON. Is it a hilum service?")
        return body

    def pages(
        self, path: str, what: str, size: int, *, onward: str = "cursor", **asked: str
    ) -> Iterator[dict[str, Any]]:
        """All items of a list, fetched page by page.

        Args:
            path: of the list.
            what: the reply's field that has the items.
            size: most items of a page.
            onward: the parameter that takes the page's ``next``.
            asked: other parameters.

        Raises:
            ServiceError: the service refuses or can't be reached.
        """
        params = {"limit": str(size), **asked}
        while True:
            page = self.json(self.ask("GET", path, params=params))
            yield from page[what]
            if not page["next"]:
                return
            params[onward] = str(page["next"])


def _trusting(authorities: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authorities)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"The authorities in {authorities} can't be read ({error.strerror or type(error).__name__}). Give a PEM "
            "file of certificates."
        ) from None


def refusal(reply: httpx.Response) -> ServiceError:
    """What a service says that refuses."""
    try:
        detail = str(reply.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"{reply.reason_phrase}. Is it a hilum service?"
    return ServiceError(f"The service refused ({reply.status_code}): {detail}")
