"""A film's bytes on their way into a file: told apart, under a head of our own, hashed, and encrypted where there is a
data key. What is kept depends on the film alone, so the digest of it is both its name on disk and its identity.

Both who write films use it: the intake, and the listener's own process, which is handed an open file and the key of
that file alone.
"""

import errno
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass

from hilum.direct_io import Sink
from hilum.sealing import CHUNK_BYTES, FileKey, Sealer, sealed_bytes
from hilum.service.container import HEAD_BYTES, Container, recognise
from hilum.service.refusals import Refused

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def pass_by(_: str) -> None:
    """Do nothing at a named point; tests kill the process there instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written."""

    file_sha256: str
    """Digest of the plain bytes kept, and what makes it this film and no other, whatever it came in."""
    size: int
    """Plain bytes kept."""
    format: str
    """``dicom``, ``png`` or ``jpeg``."""


class FilmWriter:
    """Writes one film.

    Args:
        file: where to.
        key: what it is encrypted with; None leaves it plain.
        largest_bytes: largest film, as it comes.
        point: told ``write`` just before each write.
    """

    def __init__(
        self, file: Sink, *, key: FileKey | None, largest_bytes: int, point: Callable[[str], None] = pass_by
    ) -> None:
        self._file, self._largest_bytes, self._point = file, largest_bytes, point
        self._head: bytearray | None = bytearray()
        self._container: Container | None = None
        self._digest = hashlib.sha256()
        self._came = self._kept = 0
        self._sealer = Sealer(key) if key else None

    @property
    def format(self) -> str:
        """Kind of file; known after :data:`HEAD_BYTES` bytes or at the finish."""
        return self._container.format if self._container else ""

    @property
    def named_uid(self) -> str | None:
        """SOP instance UID that a DICOM file's head names; known when the format is."""
        return self._container.named_uid if self._container else None

    def most_written(self, count: int) -> int:
        """Most bytes that go to the file when so many come: what was held back until then is among them."""
        if self._head is not None:
            count += HEAD_BYTES
        return count if self._sealer is None else sealed_bytes(count + CHUNK_BYTES)

    def write(self, chunk: bytes | memoryview) -> None:
        """Add bytes.

        Raises:
            Refused: too many, of no known kind, or the disk is full.
        """
        self._came += len(chunk)
        if self._came > self._largest_bytes:
            raise Refused(
                f"The film is larger than the {self._largest_bytes >> 20} MiB accepted. "
                "Raise HILUM_LARGEST_FILM_MB if films of this size are expected.",
                code="too-large",
            )
        if self._head is None:
            self._keep(chunk)
            return
        view = memoryview(chunk)
        more = HEAD_BYTES - len(self._head)
        self._head += view[:more]
        if len(self._head) == HEAD_BYTES:
            self._keep_head()
            if len(view) > more:
                self._keep(view[more:])

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
        digest = self._digest.hexdigest()
        if self._sealer is not None:
            self._write(self._sealer.finish(digest))
        try:
            self._file.flush()
        except OSError as error:
            raise refused_by(error) from None
        return Written(file_sha256=digest, size=self._kept, format=self.format)

    def _keep_head(self) -> None:
        head, self._head = bytes(self._head or b""), None
        self._container = container = recognise(head)
        self._keep(container.kept_head + head[container.content_starts :])

    def _keep(self, chunk: bytes | memoryview) -> None:
        self._digest.update(chunk)
        self._kept += len(chunk)
        self._point("write")
        if self._sealer is None:
            self._write(chunk)
            return
        view = memoryview(chunk)
        for at in range(0, len(view), CHUNK_BYTES):  # so that no second copy of a whole film is in memory
            self._write(self._sealer.update(view[at : at + CHUNK_BYTES]))

    def _write(self, content: bytes | memoryview) -> None:
        rest = memoryview(content)
        try:
            while len(rest):
                rest = rest[self._file.write(rest) or 0 :]
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
