"""Logs: one JSON object a line, without identifiers of patients.

Only opaque film ids, states, counts and durations are logged. Foreign exceptions may quote data in their message, so
only their kind and where they arose are written.
"""

import contextlib
import logging
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any, TextIO

import structlog

FOREIGN = ("uvicorn.error", "asyncio")
"""The loggers of others whose lines are written beside ours."""

MOST_LINES, WINDOW_S = 20, 60.0
"""Of each of them, and each severity: what a peer can cause must not fill the disk."""

_STAMPS: tuple[Any, ...] = (
    structlog.contextvars.merge_contextvars,  # the request's own id, where there is one
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


class _Sink:
    """Takes one line after another; where that fails, the service goes on without them."""

    def __init__(self, write: Callable[[dict[str, Any]], object]) -> None:
        # May be taken again by who has it: a finaliser that runs while a line is written may have one as well.
        self._write, self._lock = write, threading.RLock()

    def _take(self, line: dict[str, Any]) -> None:
        with self._lock, contextlib.suppress(Exception):
            self._write(line)

    debug = info = warning = error = critical = _take


class _Foreign(logging.Handler):
    """Writes another's lines as ours, without what its exceptions say, and no more than so many of them a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[int, tuple[float, int]] = {}  # by severity: begin, and lines since

    def emit(self, record: logging.LogRecord) -> None:
        level = min(logging.CRITICAL, max(logging.DEBUG, record.levelno // 10 * 10))  # structlog has no others
        if not self._has_room(level):
            return
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            logger().log(level, "an exception that nobody caught", **where(error))
            return
        try:
            said = record.getMessage()
        except Exception:  # its values don't fit its text
            said = "a line that can't be put together"
        logger().log(level, said.partition("\n")[0])  # asyncio's further lines show objects, and what is in them

    def _has_room(self, level: int) -> bool:
        """True where the line may be written; says before it how many were not."""
        now = time.monotonic()
        begun, count = self._windows.get(level, (now, 0))
        if now - begun >= WINDOW_S:
            if count > MOST_LINES:
                logger().log(level, "lines left out", lines=count - MOST_LINES, seconds=round(now - begun))
            begun, count = now, 0
        self._windows[level] = begun, count + 1
        return count < MOST_LINES


def _made(write: Callable[[dict[str, Any]], object], level: int) -> Any:
    # Neither by structlog's global settings, which belong to whoever uses this package, nor by way of logging, whose
    # records cost more than all else of a line.
    kind = structlog.make_filtering_bound_logger(level)  # what is not written costs nothing
    return structlog.wrap_logger(_Sink(write), processors=(*_STAMPS, _as_it_is), wrapper_class=kind).bind()


def _as_it_is(_: Any, __: str, said: MutableMapping[str, Any]) -> Any:
    return (said,), {}


_log: Any = _made(lambda said: None, logging.CRITICAL)


def logger() -> Any:
    """The service's logger; silent until :func:`start_logs` or :func:`hand_logs`."""
    return _log


def start_logs(out: TextIO | None = None, level: int = logging.INFO) -> None:
    """Write logs as JSON lines.

    Args:
        out: where to; standard error when None.
        level: least severity written.
    """
    global _log
    stream, text = out or sys.stderr, structlog.processors.JSONRenderer(sort_keys=True)

    def write(said: dict[str, Any]) -> None:
        stream.write(str(text(None, "", said)) + "\n")
        stream.flush()

    _log = _made(write, level)
    for name in FOREIGN:
        log = logging.getLogger(name)
        log.handlers[:], log.propagate = [_Foreign()], False
        log.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = True
    quieten()


def hand_logs(take: Callable[[dict[str, Any]], object], level: int = logging.INFO) -> None:
    """Give each line to somebody else, who writes it.

    Args:
        take: given event, level, time and what else the line holds.
        level: least severity given.
    """
    global _log
    _log = _made(take, level)
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
