"""Requests drawn from the service's own description, in this process; none may end in a 5xx."""

import random
import warnings
from collections import Counter

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode

from hilum.service.app import Running, create_app

ENDLESS = ("GET", "/api/v1/events")
"""Streams end when the follower goes away, and this one doesn't."""


@schemathesis.serializer("application/dicom", "multipart/related", "image/png", "image/jpeg")
def as_bytes(ctx: object, value: object) -> bytes:
    """What is drawn for a film: bytes as they are, anything else as its text."""
    data = getattr(value, "data", value)
    return data if isinstance(data, bytes) else str(data).encode("utf-8", "replace")


def fuzz(
    service: Running, headers: dict[str, str], known: dict[str, str], *, examples: int, seed_: int
) -> Counter[int]:
    """Send so many requests to every operation; gives the statuses, and fails on the first 5xx.

    Args:
        service: what is asked.
        headers: of somebody who may do anything.
        known: real values of parts of addresses; drawn ones alone would rarely get past a 404.
        examples: requests to each operation.
        seed_: of what is drawn.
    """
    chance = random.Random(seed_)
    app = create_app(service.room)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "127.0.0.1"})
    schema.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    statuses: Counter[int] = Counter()
    for found in schema.get_all_operations():
        operation = found.ok()
        if (operation.method.upper(), operation.path) == ENDLESS:
            continue

        @seed(seed_)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def run(case: schemathesis.Case) -> None:
            for name in known.keys() & (case.path_parameters or {}).keys():
                if chance.random() < 0.7:
                    case.path_parameters[name] = known[name]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reply = case.call(base_url="http://127.0.0.1", headers=headers)
            statuses[reply.status_code] += 1
            told = f"{case.method} {case.formatted_path}: {reply.status_code} {reply.headers.get('content-type')}"
            assert reply.status_code < 500, told
            if reply.status_code >= 400 and not (case.path.startswith("/dicom-web") and reply.status_code == 409):
                assert reply.headers["content-type"][0].startswith("application/problem+json"), told

        run()
    return statuses
