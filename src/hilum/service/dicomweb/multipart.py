"""multipart/related (RFC 2387, RFC 2046 section 5.1), read as it comes: no part is held whole."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from hilum.errors import UsageError

LONGEST_HEADER, MOST_PADDING, MOST_AROUND = 16 * 1024, 256, 64 * 1024
BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,199}[0-9A-Za-z'()+_,./:=?-]")
"""RFC 2046 allows 70 characters; Orthanc's DICOMweb plugin 1.7 sends 73."""

PARAMETER = re.compile(r';\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;"\s]*)')


class Malformed(UsageError):
    """A body is not what it says it is; nothing more of it is read."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What was read."""

    kind: Literal["part", "data", "end"]
    """A part begins, goes on, or ends."""
    content: bytes = b""
    """The part's bytes; for its beginning, its header."""


def parameters(value: str) -> tuple[str, dict[str, str]]:
    """A media type in lower case and its parameters, their names in lower case (RFC 9110 section 8.3.1)."""
    kind, _, _ = value.partition(";")
    found = {}
    for name, text in PARAMETER.findall(value):
        quoted = text.startswith('"')
        found[name.lower()] = re.sub(r"\\(.)", r"\1", text[1:-1]) if quoted else text
    return kind.strip().lower(), found


def header_of(block: bytes, name: str) -> str:
    """One field of a part's header; empty where it has none."""
    for line in block.decode("latin-1").split("\r\n"):
        field, _, value = line.partition(":")
        if field.strip().lower() == name:
            return value.strip()
    return ""


class Reader:
    """Takes a body in chunks of any size and gives its parts in pieces.

    Args:
        boundary: as the Content-Type names it.
        most_parts: further ones are malformed.

    Raises:
        Malformed: the boundary is none.
    """

    def __init__(self, boundary: str, most_parts: int) -> None:
        if not BOUNDARY.fullmatch(boundary):
            raise Malformed("The boundary of the body is missing or is none. Name it in the Content-Type.")
        self._delimiter, self._most = b"\r\n--" + boundary.encode("ascii"), most_parts
        self._buffer = bytearray(b"\r\n")  # the first delimiter has no line before it
        self._state: Literal["before", "line", "header", "data", "after"] = "before"
        self._parts = self._around = 0

    @property
    def finished(self) -> bool:
        """True when the last delimiter was read."""
        return self._state == "after"

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        """Read on.

        Raises:
            Malformed: the body is no multipart, or has too much of something.
        """
        self._buffer += chunk
        while True:
            state, before = self._state, len(self._buffer)
            yield from getattr(self, f"_{state}")()
            if self._state == state and len(self._buffer) == before:
                return

    def _before(self) -> Iterator[Piece]:
        at = self._buffer.find(self._delimiter)
        if at >= 0:
            del self._buffer[: at + len(self._delimiter)]
            self._state = "line"
        else:
            self._ignore(len(self._buffer) - len(self._delimiter) + 1)
        yield from ()

    def _line(self) -> Iterator[Piece]:
        """Behind a delimiter: two dashes at the end of all, else nothing but padding to the end of the line."""
        if self._buffer.startswith(b"--"):
            self._state = "after"
            return
        at = self._buffer.find(b"\r\n")
        padding = self._buffer[:at] if at >= 0 else self._buffer
        if len(padding) > MOST_PADDING or (at >= 0 and padding.strip(b" \t")):
            raise Malformed("Behind a boundary stands something other than the end of the line.")
        if at < 0:
            return
        self._parts += 1
        if self._parts > self._most:
            raise Malformed(f"The body has more than {self._most} parts. Send it in several requests.")
        del self._buffer[:at]  # the line's end stays: a header may be empty
        self._state = "header"
        yield from ()

    def _header(self) -> Iterator[Piece]:
        at = self._buffer.find(b"\r\n\r\n")
        if at > LONGEST_HEADER or (at < 0 and len(self._buffer) > LONGEST_HEADER):
            raise Malformed(f"A part's header is longer than {LONGEST_HEADER} bytes.")
        if at < 0:
            return
        header = bytes(self._buffer[2:at]) if at else b""
        del self._buffer[: at + 4]
        self._state = "data"
        yield Piece("part", header)

    def _data(self) -> Iterator[Piece]:
        at = self._buffer.find(self._delimiter)
        sure = at if at >= 0 else len(self._buffer) - len(self._delimiter) + 1
        if sure > 0:
            content = bytes(self._buffer[:sure])
            del self._buffer[:sure]
            yield Piece("data", content)
        if at >= 0:
            del self._buffer[: len(self._delimiter)]
            self._state = "line"
            yield Piece("end")

    def _after(self) -> Iterator[Piece]:
        self._ignore(len(self._buffer))
        yield from ()

    def _ignore(self, count: int) -> None:
        if count <= 0:
            return
        self._around += count
        if self._around > MOST_AROUND:
            raise Malformed("Too much stands before the first or behind the last boundary. Is the boundary right?")
        del self._buffer[:count]


def part_header(boundary: str, content_type: str, location: str) -> bytes:
    """What stands before a part's bytes in a body of ours."""
    return f"--{boundary}\r\nContent-Type: {content_type}\r\nContent-Location: {location}\r\n\r\n".encode()


def last_line(boundary: str) -> bytes:
    """What ends a body of ours."""
    return f"--{boundary}--\r\n".encode()
