"""What a film is known by, from the bytes of its file as it lies: today's digest, and the one before migration 0016."""

import hashlib
import sys
from collections.abc import Iterable
from io import RawIOBase
from typing import Any

from hilum.service.container import HEAD_BYTES, recognise
from hilum.service.film_writing import FilmWriter


class _Nowhere(RawIOBase):
    def write(self, content: Any) -> int:
        return len(content)


def identity_of(chunks: Iterable[bytes]) -> str:
    """Digest of the film as it would be kept if it came now.

    Raises:
        Refused: it is of no known kind.
    """
    writer = FilmWriter(_Nowhere(), key=None, largest_bytes=sys.maxsize)
    for chunk in chunks:
        writer.write(chunk)
    return writer.finish().file_sha256


def former_identity_of(chunks: Iterable[bytes]) -> str:
    """What a film was known by before migration 0016: its kind, a DICOM file's transfer syntax, and the data set.

    Raises:
        Refused: it is of no known kind.
    """
    digest = hashlib.sha256()
    head: bytes | None = b""
    for chunk in chunks:
        if head is None:
            digest.update(chunk)
            continue
        head += chunk
        if len(head) >= HEAD_BYTES:
            _begin(digest, head)
            head = None
    if head is not None:
        _begin(digest, head)
    return digest.hexdigest()


def _begin(digest: Any, head: bytes) -> None:
    container = recognise(head[:HEAD_BYTES])
    digest.update(container.format.encode() + b"\0")
    if container.format == "dicom":
        digest.update(container.syntax + b"\0")
    digest.update(memoryview(head)[container.content_starts :])
