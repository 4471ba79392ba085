"""Films from files: DICOM, PNG, JPEG and TIFF."""

import contextlib
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hilum.arrays import Pixels
from hilum.direct_io import DirectReader
from hilum.errors import FilmError
from hilum.imaging.beside import beside
from hilum.imaging.dicom_reading import is_dicom, read_dicom, read_dicom_facts
from hilum.imaging.limits import Limits
from hilum.imaging.radiograph import FilmFacts, Radiograph
from hilum.imaging.raster_reading import raster_format, read_raster, read_raster_facts

HASHED_BESIDE = 1 << 22
"""Bytes of a file from which its digest is taken while it is decoded: two milliseconds or more. For less, starting the
thread and handing the lock to and fro costs a fifth of what the digest does."""

__all__ = ["Limits", "read_facts", "read_film"]


def read_film(
    source: Path | str | bytes,
    *,
    limits: Limits = Limits(),  # noqa: B008 - a frozen value
    second_decoder: bool = False,
    sha256: str | None = None,
) -> Radiograph:
    """Read a film: decode it and bring its pixels into presentation values.

    Args:
        source: a file, or its bytes.
        limits: what the film may cost; checked before anything is decoded.
        second_decoder: compressed DICOM pixels are decoded a second time by other software, and a film about which the
            two disagree is refused.
        sha256: digest of the bytes, where it is known; None to compute it.

    Returns:
        The film. Damage that can be worked around is named in its ``flags``.

    Raises:
        FilmError: the film can't be read; its ``code`` is one of ``empty``, ``too-large``, ``truncated``,
            ``unreadable``, ``not-an-image`` (neither DICOM, PNG, JPEG nor TIFF, or more than one frame),
            ``no-pixels``, ``unsupported-syntax``, ``decoders-disagree``.
    """
    return film_of(file_content(source, limits), limits, second_decoder=second_decoder, sha256=sha256)


def film_of(
    content: bytes | memoryview, limits: Limits, *, second_decoder: bool = False, sha256: str | None = None
) -> Radiograph:
    """The same from its bytes, no more than the limits allow; pixels may lie where these do."""

    def read() -> tuple[Pixels, FilmFacts, tuple[str, ...]]:
        if is_dicom(content[:132]):
            return read_dicom(content, limits, second_decoder=second_decoder)
        return read_raster(bytes(content), raster_format(bytes(content[:16])), limits)

    # The digest of a full-size film takes as long as bringing its pixels into order.
    (pixels, facts, flags), digest = beside(
        read,
        lambda: sha256 or hashlib.sha256(content).hexdigest(),
        worth_it=sha256 is None and len(content) >= HASHED_BESIDE,
    )
    return Radiograph(pixels=pixels, facts=facts, sha256=digest, flags=flags)


def read_facts(source: Path | str | bytes, *, limits: Limits = Limits()) -> FilmFacts:  # noqa: B008 - a frozen value
    """Read what a film's header says; its pixels are not read, and a file's are not even loaded.

    Args:
        source: a file, or its bytes.
        limits: what the film may cost.

    Raises:
        FilmError: as for `read_film`, where the header alone shows it.
    """
    if isinstance(source, bytes):
        limits.check_file(len(source))
        return _facts(io.BytesIO(source), limits)
    try:
        with open(source, "rb") as stream:
            limits.check_file(stream.seek(0, io.SEEK_END))
            return _facts(stream, limits)
    except OSError as error:
        raise _cannot_open(error) from error


def _facts(stream: BinaryIO, limits: Limits) -> FilmFacts:
    stream.seek(0)
    head = stream.read(132)
    stream.seek(0)
    if is_dicom(head):
        return read_dicom_facts(stream, limits)
    return read_raster_facts(stream, raster_format(head), limits)


def file_content(source: Path | str | bytes, limits: Limits) -> bytes:
    """Bytes of a film's file, no more than the limits allow.

    Raises:
        FilmError: code "empty", "too-large" or "unreadable".
    """
    if isinstance(source, bytes):
        limits.check_file(len(source))
        return source
    try:
        with open(source, "rb") as stream:
            size = stream.seek(0, io.SEEK_END)
            limits.check_file(size)
            stream.seek(0)
            # No more than was checked, should the file grow meanwhile; `read` sets aside as much as it is asked for.
            content = stream.read(size)
    except OSError as error:
        raise _cannot_open(error) from error
    limits.check_file(len(content))
    return content


@contextlib.contextmanager
def content_past_cache(source: Path, limits: Limits) -> Iterator[bytes | memoryview]:
    """The same past the disk's cache, which is left to what is read more often; gone when the context is left.

    Raises:
        FilmError: code "empty", "too-large" or "unreadable".
    """
    with contextlib.ExitStack() as stack:
        try:
            reader = stack.enter_context(DirectReader(source))
            size = os.fstat(reader.fileno()).st_size
            limits.check_file(size)
            content = reader.first(size)
        except OSError as error:
            raise _cannot_open(error) from error
        limits.check_file(len(content))
        yield content


def _cannot_open(error: OSError) -> FilmError:
    # The path stays out of the message: file names often hold a patient's name.
    return FilmError(f"The film can't be opened: {error.strerror or 'unknown reason'}.", code="unreadable")
