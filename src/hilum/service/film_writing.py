"""A film's bytes on their way into a file: told apart, hashed, and encrypted where there is a data key.

Both who write films use it: the intake, and the listener's own process, which is handed an open file and the key of
that file alone.
"""

import errno
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from io import RawIOBase

from hilum.sealing import CHUNK_BYTES, FileKey, Sealer
from hilum.service.container import HEAD_BYTES, PREAMBLE_BYTES, Container, recognise
from hilum.service.refusals import Refused

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def pass_by(_: str) -> None:
    """Do nothing at a named point; tests kill the process there instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written."""

    file_sha256: str
    """Digest of the plain bytes."""
    content_sha256: str
    """Digest of what makes it this film and no other, whatever it came in."""
    size: int
    """Plain bytes."""
    format: str
    """``dicom``, ``png`` or ``jpeg``."""


class FilmWriter:
    """Writes one film.

    Args:
        file: where to; unbuffered.
        key: what it is encrypted with; None leaves it plain.
        largest_bytes: largest film.
        point: told ``write`` just before each write.
    """

    def __init__(
        self, file: RawIOBase, *, key: FileKey | None, largest_bytes: int, point: Callable[[str], None] = pass_by
    ) -> None:
        self._file, self._largest_bytes, self._point = file, largest_bytes, point
        self._head: bytearray | None = bytearray()
        self._container: Container | None = None
        self._file_digest, self._content_digest = hashlib.sha256(), hashlib.sha256()
        self._size = 0
        self._sealer = Sealer(key) if key else None

    @property
    def format(self) -> str:
        """Kind of file; known after :data:`HEAD_BYTES` bytes or at the finish."""
        return self._container.format if self._container else ""

    def write(self, chunk: bytes | memoryview) -> None:
        """Add bytes.

        Raises:
            Refused: too many, of no known kind, or the disk is full.
        """
        self._size += len(chunk)
        if self._size > self._largest_bytes:
            raise Refused(
                f"The film is larger than the {self._largest_bytes >> 20} MiB accepted. "
                "Raise HILUM_LARGEST_FILM_MB if films of this size are expected.",
                code="too-large",
            )
        if self._head is None:
            self._keep(chunk, chunk)
            return
        self._head += chunk
        if len(self._head) >= HEAD_BYTES:
            self._keep_head()

    def finish(self, expected: str | None = None) -> Written:
        """Write what is left.

        Args:
            expected: kind of file that the sender declared; None for any.

        Raises:
            Refused: as for :meth:`write`, or it is of another kind.
        """
        if self._head is not None:
            self._keep_head()
        if expected is not None and expected != self.format:
            raise Refused(
                f"The body is declared as {expected} but is {self.format}. Declare what it is.", code="unsupported"
            )
        digest = self._file_digest.hexdigest()
        if self._sealer is not None:
            self._write(self._sealer.finish(digest))
        content = self._content_digest.hexdigest()
        return Written(file_sha256=digest, content_sha256=content, size=self._size, format=self.format)

    def _keep_head(self) -> None:
        head, self._head = self._head or bytearray(), None
        self._container = container = recognise(bytes(head[:HEAD_BYTES]))
        if container.format == "dicom":
            head[:PREAMBLE_BYTES] = bytes(PREAMBLE_BYTES)
        self._content_digest.update(container.content_prefix)
        self._keep(head, memoryview(head)[container.content_starts :])

    def _keep(self, chunk: bytes | bytearray | memoryview, content: bytes | memoryview) -> None:
        self._file_digest.update(chunk)
        self._content_digest.update(content)
        self._point("write")
        if self._sealer is None:
            self._write(chunk)
            return
        view = memoryview(chunk)
        for at in range(0, len(view), CHUNK_BYTES):  # so that no second copy of a whole film is in memory
            self._write(self._sealer.update(view[at : at + CHUNK_BYTES]))

    def _write(self, content: bytes | bytearray | memoryview) -> None:
        rest = memoryview(content)
        try:
            while len(rest):
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise refused_by(error) from None


def refused_by(error: OSError) -> Refused:
    """What a failed call of the file system means for the sender."""
    if error.errno in FULL:
        return Refused(
            "The disk is full; nothing of the film was kept. Free some, then send it again.", code="no-space"
        )
    what = os.strerror(error.errno) if error.errno else type(error).__name__
    return Refused(
        f"The storage failed ({what}); nothing of the film was kept. Check the disk, then start the service again.",
        code="storage-failed",
    )
