"""Logs: one JSON object a line, without identifiers of patients.

Only opaque film ids, states, counts and durations are logged. Foreign exceptions may quote data in their message, so
only their kind and where they arose are written.
"""

import functools
import logging
import sys
import traceback
import warnings
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, TextIO

import structlog

NAME = "hilum.service"
_STAMPS: tuple[Any, ...] = (
    structlog.contextvars.merge_contextvars,  # the request's own id, where there is one
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)
_PROCESSORS: tuple[Any, ...] = (
    structlog.stdlib.filter_by_level,  # first: what is not written costs nothing
    *_STAMPS,
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
)


def logger() -> Any:
    """The service's logger; silent until :func:`start_logs`."""
    log = logging.getLogger(NAME)
    if not log.handlers:
        log.addHandler(logging.NullHandler())  # without it Python would print warnings itself
        log.propagate = False
    return _bound()


@functools.cache
def _bound() -> Any:
    # Not by structlog's global settings: they belong to whoever uses this package.
    log = logging.getLogger(NAME)
    return structlog.wrap_logger(log, processors=_PROCESSORS, wrapper_class=structlog.stdlib.BoundLogger).bind()


def start_logs(out: TextIO | None = None, level: int = logging.INFO) -> None:
    """Write logs as JSON lines.

    Args:
        out: where to; standard error when None.
        level: least severity written.
    """
    handler = logging.StreamHandler(out or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_STAMPS, _without_exception],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(sort_keys=True),
            ],
        )
    )
    for name in (NAME, "uvicorn.error"):
        log = logging.getLogger(name)
        log.handlers[:], log.propagate = [handler], False
        log.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = True
    quieten()


def quieten() -> None:
    """Keep pynetdicom and pydicom from logging what peers sent; our own lines say what matters of it.

    Their warnings quote it as well, each in new words, and Python would remember every one of them.
    """
    for name in ("pynetdicom", "pydicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        warnings.filterwarnings("ignore", module=rf"{name}(\..*)?$")


def where(error: BaseException) -> dict[str, Any]:
    """What may be logged of an unforeseen exception: its kind, and file and line of each frame."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return {
        "error": type(error).__name__,
        "at": [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames],
    }


def _without_exception(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    info = event.pop("exc_info", None)
    if info and isinstance(info, tuple) and info[1] is not None:
        event.update(where(info[1]))
        event["event"] = "an exception that nobody caught"
    return event
