"""Films on disk: by the digest of their bytes, encrypted where there is a data key, opened in one place.

Whoever wants a film's bytes takes :class:`StoredFilm`. What is encrypted is opened here, in the service's own process;
the sandboxed child that decodes is given plain bytes and never a key. A plain file is given as a path, unless there is
a key: then it lies here from before, and must be what its name says.

A file is put in its place and recorded under a shared lock, and removed under an exclusive one, in this process or
another: so no file is removed between the two.
"""

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hilum.data_keys import NO_KEY, Keyring
from hilum.direct_io import opened_past_cache
from hilum.errors import DataError, FilmError
from hilum.files import replacing, sync_directory, take_lock
from hilum.records import erased_list
from hilum.sealing import CHUNK_BYTES, HEADER_BYTES, Sealer, chunks, key_id_of, new_file_key
from hilum.service.recent_films import RecentFilms
from hilum.shared_memory import Lent

FRESH_S = 60.0
"""A film that this process wrote so short a time ago is not hashed again before it is read."""

REMEMBERED = 2048
NEWEST = 20
"""Of so many films, one that lies here shows that the records and the folder belong together."""

HALF_ENCRYPTED = "??/.*.part.film"
"""Films that were being brought under another key when the process ended."""

HEAD_BYTES, HEADS = 16 * 1024, 256
"""More than most headers take, of as many films as come while DICOMweb's index waits to look at them."""

NO_KEYS = Keyring()
"""Of a service without a data key."""


def film_path(films: Path, file_sha256: str) -> Path:
    """A film's file in the folder of films: by the digest of its bytes, so no path ever comes from a peer."""
    return films.joinpath(file_sha256[:2], f"{file_sha256[2:]}.film")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFilm:
    """A film's file and what opens it."""

    path: Path
    """Where it lies."""
    file_sha256: str
    """Digest of its plain bytes."""
    keys: Keyring = NO_KEYS
    """The ring."""
    fresh: bool = False
    """Whether this process hashed and wrote it a moment ago, so that it is known to be what its name says."""

    recent: RecentFilms | None = None
    """Where its bytes may still lie in memory."""
    first: bytes = b""
    """Its first plain bytes, where they are still known from its coming; else empty."""

    @property
    def known_sha256(self) -> str | None:
        """Digest of what :meth:`source` gives, where it needs no look: fresh, or shown to be whole as it is opened."""
        return self.file_sha256 if self.fresh or self.keys else None

    def key_id(self) -> str:
        """Id of the key that it is encrypted with; empty for a plain file.

        Raises:
            FilmError: it is not there.
        """
        with _opened(self.path, HEADER_BYTES) as stream:
            return key_id_of(stream.read(HEADER_BYTES))

    def heads(self) -> Iterator[bytes]:
        """Its first bytes, and more of them if these don't suffice: not known to be what they were.

        Raises:
            FilmError: as :meth:`chunks`.
            DataError: as :meth:`chunks`.
        """
        if self.first:
            yield self.first
        yield next(self.chunks(), b"")

    def chunks(self) -> Iterator[bytes]:
        """Its plain bytes, piece by piece; only when all have been taken is it known to be whole.

        Raises:
            FilmError: code ``gone``, or ``damaged`` when it was cut, changed or exchanged.
            DataError: its key is not in the ring.
        """
        with _opened(self.path) as stream:
            key_id = key_id_of(stream.read(HEADER_BYTES))
            stream.seek(0)
            if key_id == NO_KEY:
                yield from self._plain(stream)
                return
            self.keys.key(key_id)
            try:
                yield from chunks(stream, self.keys, self.file_sha256)
            except DataError as error:
                raise FilmError(str(error), code="damaged") from None

    def _plain(self, stream: BinaryIO) -> Iterator[bytes]:
        digest = hashlib.sha256()
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk
            digest.update(chunk)  # behind it: who wants the first bytes alone asks for no digest
        if digest.hexdigest() != self.file_sha256:
            raise FilmError("The film's file was changed or damaged on disk. Restore it from a backup.", code="damaged")

    def read_bytes(self) -> bytes:
        """All its plain bytes, known to be whole; raises as :meth:`chunks` does."""
        return b"".join(self.chunks())

    @contextlib.contextmanager
    def lent(self) -> Iterator[Path | bytes | Lent]:
        """The same as :meth:`source` for who is done with it at the end, from memory where it still lies there."""
        if self.recent is None or not self.fresh:
            yield self.source()
            return
        with self.recent.lent(self.file_sha256) as lent:
            yield lent or self.source()

    def source(self) -> Path | bytes:
        """What a sandboxed child is given: a plain file's path, or plain bytes, but never a key.

        Raises:
            FilmError: as :meth:`chunks`.
            DataError: as :meth:`chunks`.
        """
        if self.fresh and not self.keys:
            return self.path
        if self.keys or (self.path.exists() and self.key_id()):
            return self.read_bytes()
        return self.path


def films_elsewhere(data: Path, names: Sequence[str]) -> str:
    """What to say where films that the records name don't lie in a service's folder; empty where one does.

    Args:
        data: the folder.
        names: of the newest films' files.
    """
    folder = data / "films"
    if not names or any(film_path(folder, name).exists() for name in names):
        return ""
    return (
        f"None of the newest {len(names)} films of the records lies in {folder}. Services on one PostgreSQL need one "
        f"folder of films: make {folder} a link to it. After a restore, or on another disk, bring the films there."
    )


class FilmFiles:
    """The folder of films.

    Args:
        data: the service's folder.
        keys: the data keys; an empty ring keeps films plain.
        sole: this is the service of the folder, so what lies half received belongs to a dead one.
    """

    def __init__(self, data: Path, keys: Keyring = NO_KEYS, *, sole: bool = True) -> None:
        self.keys, self.incoming, self.films = keys, data / "incoming", data / "films"
        self.erased_list = data / erased_list.NAME
        self._placed: dict[str, float] = {}
        self._heads: dict[str, bytes] = {}
        self.recent = RecentFilms()
        """Films of which this process still has the bytes."""
        new = not data.exists()
        for folder in (data, self.incoming, self.films):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # All of them, and synced before any film comes: none is acknowledged whose folder a power cut could take.
        for first in range(256):
            (self.films / f"{first:02x}").mkdir(mode=0o700, exist_ok=True)
        for folder in (self.films, data, *([data.absolute().parent] if new else [])):
            sync_directory(folder)
        # Beside the films themselves: services on one PostgreSQL have a link to one folder, and one lock.
        self._lock = self.films.resolve().parent / ".films.lock"
        for left_over in self.incoming.iterdir() if sole else ():  # never acknowledged: their senders send again
            left_over.unlink()

    def path(self, file_sha256: str) -> Path:
        """Where a film's file lies; :meth:`film` opens it."""
        return film_path(self.films, file_sha256)

    def film(self, file_sha256: str) -> StoredFilm:
        """A film's file.

        Args:
            file_sha256: as recorded; empty when its pixels were erased.

        Raises:
            FilmError: code ``erased``.
        """
        if not file_sha256:
            raise FilmError("The film's pixels were erased, as the site's retention says.", code="erased")
        fresh = time.monotonic() - self._placed.get(file_sha256, float("-inf")) < FRESH_S
        path = self.path(file_sha256)
        return StoredFilm(
            path=path,
            file_sha256=file_sha256,
            keys=self.keys,
            fresh=fresh,
            recent=self.recent,
            first=self._heads.get(file_sha256, b"") if fresh else b"",
        )

    def placed(self, file_sha256: str, first: bytes = b"") -> None:
        """Say that this process hashed a film and has just put it in its place.

        Args:
            file_sha256: the film.
            first: its first bytes, for :attr:`StoredFilm.first`; none of an encrypted one.
        """
        self._placed[file_sha256] = time.monotonic()
        if first:
            self._heads[file_sha256] = first
        for one in list(self._heads)[:-HEADS]:
            self._heads.pop(one, None)
        if len(self._placed) > REMEMBERED:
            for one in list(self._placed)[: REMEMBERED // 2]:
                self._placed.pop(one, None)

    def names(self) -> list[str]:
        """What names all files that lie here."""
        return sorted(path.parent.name + path.stem for path in self.films.glob("??/[0-9a-f]*.film"))

    def placing(self) -> contextlib.AbstractContextManager[None]:
        """Held while a file is put in its place and recorded."""
        return _locked(self._lock, fcntl.LOCK_SH)

    def removing(self) -> contextlib.AbstractContextManager[None]:
        """Held while files that no record names any more are removed, and while one takes another's place."""
        return _locked(self._lock, fcntl.LOCK_EX)

    def encrypting(self) -> int:
        """Become the one process that brings these films under another key; removes what a dead one left half done.

        Returns:
            a descriptor; closing it gives the place back.

        Raises:
            BlockingIOError: another process is at it.
        """
        descriptor = take_lock(self._lock.with_name(".encrypting.lock"))
        for left_over in self.films.glob(HALF_ENCRYPTED):
            left_over.unlink(missing_ok=True)
        return descriptor

    def remove(self, file_sha256: str) -> None:
        """Remove a film's file, durably; the caller holds :meth:`removing` or has just put it there."""
        self.recent.forget(file_sha256)
        self._heads.pop(file_sha256, None)
        path = self.path(file_sha256)
        path.unlink(missing_ok=True)
        if path.parent.exists():
            sync_directory(path.parent)

    def encrypt(self, file_sha256: str) -> bool:
        """Bring a film's file under the active key: the old file or the new one is there, whatever happens.

        Films come and go meanwhile: only the renaming is done under :meth:`removing`, and a film that was removed
        before it stays so.

        Returns:
            False when it was under that key already.

        Raises:
            FilmError: it is gone or damaged.
            DataError: its key is not in the ring.
        """
        film, key = self.film(file_sha256), self.keys.active
        if key is None or film.key_id() == key.id:
            return False
        sealer = Sealer(new_file_key(key))

        @contextlib.contextmanager
        def unless_removed() -> Iterator[None]:
            with self.removing():
                if not film.path.exists():
                    raise FilmError("The film was removed while it was encrypted anew.", code="gone")
                yield

        with replacing(film.path, under=unless_removed) as temporary:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as out:
                for chunk in film.chunks():
                    out.write(sealer.update(chunk))
                out.write(sealer.finish(file_sha256))
        return True


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _opened(path: Path, ahead: int = CHUNK_BYTES) -> BinaryIO:
    try:
        return opened_past_cache(path, ahead)
    except OSError as error:
        raise FilmError(
            f"The film's file can't be read any more ({error.strerror}). Check the data folder's disk.", code="gone"
        ) from None
