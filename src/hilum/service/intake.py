"""The door: a film is acknowledged only when its bytes and its record are durable.

Bytes go to ``incoming/``, encrypted where there is a data key, are synced, and are renamed to ``films/ab/cdef….film``
by the digest of the plain bytes: no path ever comes from a peer. The folder is synced, the record is committed, and
only then is the sender answered. Killed in between, either nothing is known of the film, and the sender, never
answered, sends it again; or all of it is.

The 128-byte preamble of an uploaded DICOM file can make it an executable or a web page as well (CVE-2019-11687). It is
set to zero, and File Meta Information of our own takes the place of the sender's (:mod:`.container`), before anything
is hashed or kept: so the digest on record is that of the bytes on disk, and the same film has the same one.
"""

import contextlib
import mmap
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from hilum.direct_io import DirectWriter
from hilum.errors import FilmError, ServiceError
from hilum.records.queue import Lease
from hilum.records.store import Store
from hilum.records.values import Claim, NewFilm, Receipt
from hilum.sealing import new_file_key
from hilum.service.film_files import HEAD_BYTES, FilmFiles, StoredFilm
from hilum.service.film_identity import former_identity_of
from hilum.service.film_writing import FilmWriter, Written, pass_by, refused_by
from hilum.service.refusals import Refused
from hilum.shared_memory import SharedMemory

PATIENCE_S = 0.05
"""At most: whatever else is recorded meanwhile, as answers are, takes the film along."""


@dataclass(slots=True)
class Place:
    """A worker's place for one film."""

    lease: Lease | None
    """What the worker leases it by; None when none has room."""
    claim: Claim | None = None
    """The film, once it is recorded and leased."""


@contextlib.contextmanager
def nobody() -> Iterator[Place]:
    """No worker has a place: films wait in the records."""
    yield Place(lease=None)


class Intake:
    """Accepts films.

    Args:
        files: where they lie.
        store: where they are recorded.
        model_sha256: the version in service; a film that it has not answered yet is queued again.
        largest_bytes: largest film.
        least_free_bytes: with less free disk nothing is accepted.
        pressure: raises Refused when no further film may come in.
        begins_at_once: whether ``pressure`` can tell just now without a look at the records.
        busy: whether so many films wait for the model that a further one has time.
        named_ae_titles: peers' AE titles that the audit may name.
        received: told each film's id after it is durable, to wake the workers, where none of them has it already.
        offered: opens a worker's place for a film that is about to be recorded.
        fsync: makes a descriptor durable; tests make it fail.
        point: told the name of each step just before it: write, fsync, rename, commit, ack.
    """

    def __init__(
        self,
        files: FilmFiles,
        store: Store,
        *,
        model_sha256: str,
        largest_bytes: int,
        least_free_bytes: int,
        received: Callable[[str], None],
        offered: Callable[[], contextlib.AbstractContextManager[Place]] = nobody,
        pressure: Callable[[], None] = lambda: None,
        begins_at_once: Callable[[], bool] = lambda: False,
        busy: Callable[[], bool] = lambda: False,
        named_ae_titles: Collection[str] = (),
        fsync: Callable[[int], None] = os.fsync,
        point: Callable[[str], None] = pass_by,
    ) -> None:
        self.files, self.store, self.model_sha256 = files, store, model_sha256
        self.largest_bytes, self.least_free_bytes = largest_bytes, least_free_bytes
        self.received, self.offered, self.fsync, self.point = received, offered, fsync, point
        self._pressure, self.begins_at_once, self.busy = pressure, begins_at_once, busy
        self.named_ae_titles = frozenset(named_ae_titles)
        self.broken: str | None = None
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Accept nothing more."""
        self._stopping.set()

    def begin(self) -> "Arrival":
        """Make ready for one film.

        Raises:
            Refused: stopping, storage failed before, too many films wait, or the disk is nearly full.
        """
        if self._stopping.is_set():
            raise Refused("The service is stopping. Send the film again in a minute.", code="stopping")
        if self.broken:
            raise Refused(self.broken, code="storage-failed")
        self._pressure()
        try:
            free = shutil.disk_usage(self.files.films).free
            if free < self.least_free_bytes:
                raise Refused(
                    f"The disk has {free >> 20} MiB left, less than the {self.least_free_bytes >> 20} MiB kept free. "
                    "Free some, then send the film again.",
                    code="no-space",
                )
            return Arrival(self)
        except OSError as error:
            raise self.refusal(error) from None

    def refusal(self, error: OSError, *, while_syncing: bool = False) -> Refused:
        """What a failed call means. After a failed sync nothing can be trusted: nothing more is acknowledged."""
        refused = refused_by(error)
        if while_syncing and refused.code == "storage-failed":
            self.broken = str(refused)
        return refused


class Arrival:
    """One film on its way in: write its bytes, then finish; leaving without finishing keeps nothing."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._path = intake.files.incoming / uuid.uuid4().hex
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._placed = False
        active = intake.files.keys.active
        self.key = new_file_key(active) if active else None
        """What the file is encrypted with; None leaves it plain."""
        self._room: SharedMemory | None = None
        self._sink = DirectWriter(self._file, self._memory)
        self._writer = FilmWriter(
            self._sink,
            key=self.key,
            largest_bytes=intake.largest_bytes,
            point=intake.point,
        )

    def _memory(self) -> mmap.mmap | None:
        self._room = self._intake.files.recent.take()
        return None if self._room is None else self._room.memory

    def __enter__(self) -> "Arrival":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._room is not None:
            self._intake.files.recent.give_back(self._room)
            self._room = None
        if not self._placed:
            self._path.unlink(missing_ok=True)

    @property
    def descriptor(self) -> int:
        """The open file, for who writes it in our place."""
        return self._file.fileno()

    @property
    def format(self) -> str:
        """Kind of file; known after its first bytes or at the finish."""
        return self._writer.format

    def waits(self, count: int) -> bool:
        """Whether adding so many bytes may wait for the disk."""
        return self._sink.waits(self._writer.most_written(count))

    def write(self, chunk: bytes | memoryview) -> None:
        """Add bytes.

        Raises:
            Refused: too many, of no known kind, or the disk is full.
        """
        self._writer.write(chunk)

    def finish(
        self,
        *,
        origin: str,
        actor: str | None = None,
        request_key: str | None = None,
        calling_ae: str = "",
        sop_instance_uid: str | None = None,
        expected: str | None = None,
        urgent: bool = False,
        written: Written | None = None,
        patient: bool = False,
    ) -> Receipt:
        """Make the film durable and record it.

        Args:
            origin: which door it came through.
            actor: who sent it, for the audit; None where only the door is known.
            request_key: digest of the sender and its Idempotency-Key; None when it gave none.
            calling_ae: what the peer called itself.
            sop_instance_uid: what the peer announced.
            expected: kind of file that the sender declared; None for any.
            urgent: whether the sender asked for it to be read at once.
            written: what somebody else wrote to :attr:`descriptor`; None for what came by :meth:`write`.
            patient: whether the sender waits for the answer anyway; then the film may be recorded with others that
                come, while the workers have enough to do.

        Returns:
            the receipt: now, and not before, the sender may be told.

        Raises:
            Refused: nothing was kept.
            UsageError: the key was used for another film.
        """
        hashed_here = written is None
        written = written or self._writer.finish(expected)
        digest = written.file_sha256
        film = NewFilm(
            content_sha256=digest,
            file_sha256=digest,
            size=written.size,
            format=written.format,
            origin=origin,
            calling_ae=calling_ae,
            named_ae=calling_ae if calling_ae in self._intake.named_ae_titles else "",
            sop_instance_uid=sop_instance_uid,
            named_uid=self._writer.named_uid,
            request_key=request_key,
            sender=f"dicom:{calling_ae}" if calling_ae else actor or origin,
            urgent=urgent,
        )
        self._make_durable()
        with self._placing(), self._intake.offered() as place:
            self._place(digest)
            if hashed_here:
                self._intake.files.placed(digest, self._keep(written))
            patience_s = PATIENCE_S if patient and self._intake.busy() else 0.0
            receipt = self._record(film, actor or origin, place.lease, patience_s)
            if receipt.leased:
                place.claim = Claim(
                    film_id=receipt.film_id, file_sha256=digest, attempts=1, sender=film.sender, urgent=urgent
                )
            if receipt.file_sha256 != digest:  # it came before migration 0016, and is kept under the head of then
                with contextlib.suppress(OSError):
                    self._intake.files.remove(digest)
        self._intake.point("ack")
        if not receipt.leased:
            self._intake.received(receipt.film_id)
        return receipt

    def _keep(self, written: Written) -> bytes:
        """Leave a plain film where it lies in memory, for its decoder; its first bytes, empty where it doesn't."""
        if self._room is None or not self._sink.whole or self.key is not None:
            return b""
        room, self._room = self._room, None
        first = bytes(memoryview(room.memory)[: min(written.size, HEAD_BYTES)])
        self._intake.files.recent.keep(written.file_sha256, room, written.size)
        return first

    @contextlib.contextmanager
    def _placing(self) -> Iterator[None]:
        """Between the rename and the commit nobody may take the file for one that no record names."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._intake.files.placing())
            except OSError as error:
                raise self._intake.refusal(error) from None
            yield

    def _record(self, film: NewFilm, actor: str, lease: Lease | None, patience_s: float) -> Receipt:
        self._intake.point("commit")
        store, model_sha256 = self._intake.store, self._intake.model_sha256

        try:
            return store.receive(
                film,
                model_sha256=model_sha256,
                actor=actor,
                former=lambda: self._former_identity(film.file_sha256),
                lease=lease,
                patience_s=patience_s,
            )
        except Refused:
            raise
        except ServiceError as error:
            raise Refused(f"{error} The film was not accepted; send it again.", code="records-away") from None

    def _former_identity(self, digest: str) -> str:
        # Not by its name, which the same film may lose again that comes through another door at this moment.
        path = Path(f"/proc/self/fd/{self.descriptor}")
        film = StoredFilm(path=path, file_sha256=digest, keys=self._intake.files.keys)
        try:
            return former_identity_of(film.chunks())
        except FilmError as error:
            raise Refused(f"{error} The film was not accepted; send it again.", code="storage-failed") from None

    def _make_durable(self) -> None:
        try:
            self._intake.point("fsync")
            self._intake.fsync(self._file.fileno())
        except OSError as error:
            raise self._intake.refusal(error, while_syncing=True) from None

    def _place(self, digest: str) -> None:
        target = self._intake.files.path(digest)
        try:
            self._intake.point("rename")
            os.replace(self._path, target)
            self._placed = True
            self._sync_folder(target.parent)
        except OSError as error:
            raise self._intake.refusal(error, while_syncing=True) from None

    def _sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._intake.fsync(descriptor)
        finally:
            os.close(descriptor)
