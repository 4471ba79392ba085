"""Tell an alarm to a webhook: one POST of JSON, tried again while the peer is away. Names of streams, no film."""

import time
from collections.abc import Callable
from typing import Any

from hilum.errors import ServiceError, UsageError

TRIES = 4
FIRST_WAIT_S = 1.0


def tell(
    url: str,
    message: dict[str, Any],
    *,
    timeout_s: float = 10.0,
    pause: Callable[[float], None] = time.sleep,
    allow_http: bool = False,
) -> int:
    """Send a message.

    Args:
        url: ``https://…``; plain http only where it is allowed.
        message: JSON values.
        timeout_s: of one try.
        pause: waits between tries; tests give their own.
        allow_http: whether the way may be unprotected, as on one machine.

    Returns:
        the tries that it took.

    Raises:
        UsageError: no https URL, or the peer refuses the message.
        ServiceError: the peer is away.
    """
    import httpx

    if not url.startswith("https://") and not (allow_http and url.startswith("http://")):
        raise UsageError("The webhook must be an https:// address: what it is told says what a hospital's devices do.")
    for number in range(1, TRIES + 1):
        try:
            reply = httpx.post(url, json=message, timeout=timeout_s, follow_redirects=False)
        except (httpx.HTTPError, httpx.InvalidURL):
            status = None
        else:
            status = reply.status_code
        if status is not None and status < 300:
            return number
        if status is not None and status < 500 and status != 429:
            raise UsageError(
                f"The webhook refused the alarm with status {status}. Check its address and what it takes."
            )
        if number < TRIES:
            pause(FIRST_WAIT_S * 2 ** (number - 1))
    raise ServiceError(f"The webhook didn't take the alarm in {TRIES} tries. The alarm itself is kept in the records.")
