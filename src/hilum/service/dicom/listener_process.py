"""The DICOM listener in a process of its own: what a peer does to it, it doesn't do to the service.

The service holds the socket that listens, so the port stays taken and peers wait while a process that ended is being
replaced. Films come over channels that only the two have an end of (:mod:`.far_intake`, :mod:`.reception`).
"""

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hilum.errors import HilumError
from hilum.service.child_process import STARTUP_S, ChildProcess, Kept, child_environment
from hilum.service.child_wire import STOP, receive
from hilum.service.dicom.far_intake import SAID
from hilum.service.dicom.reception import Reception
from hilum.service.dicom.terms import Terms
from hilum.service.logs import logger
from hilum.service.ports import bound
from hilum.service.settings import MIB, Settings

NAME = "DICOM listener's process"
SETTLE_S = 5.0
"""A process that ends sooner than this is replaced after a pause, and after a longer one the next time."""

QUEUED = 128
"""Connections that wait to be taken. Beyond that the kernel drops them, and a peer tries again after a second, three,
seven."""

# Few arenas: each would reserve 64 MiB of the memory that is limited. A film's memory is kept for the next one.
MEMORY = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}

Said = Mapping[str, Any]


class ListenerProcess:
    """Listens until stopped.

    Args:
        settings: address, titles and limits.
        reception: receives films.
        said: told each line of the listener's log.
        restarted: told the reason each time another process takes the place of one.

    Raises:
        ServiceError: the port is taken, or a certificate can't be used.
    """

    def __init__(
        self,
        settings: Settings,
        reception: Reception,
        *,
        said: Callable[[Said], None],
        restarted: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._terms, self._memory_mb = terms_of(settings), settings.listener_memory_mb
        self._reception, self._said = reception, said
        self._terms.context()  # a certificate that can't be used is named now
        self._kept: Kept[_Child] | None = None
        self._listening = bound(settings.host, settings.dicom_port or 0, what="DICOM port", option="--dicom-port")
        self._listening.listen(QUEUED)
        try:
            self._kept = Kept(NAME, self._start, restarted=restarted, settle_s=SETTLE_S)
        except BaseException:
            self._listening.close()
            raise
        self._kept.look_now()

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self._listening.getsockname()[1])

    @property
    def trouble(self) -> str | None:
        """Why no film can come in just now; None when all is well."""
        return self._kept.trouble if self._kept else None

    @property
    def ready(self) -> bool:
        """True while a process takes connections."""
        child = self._kept.child if self._kept else None
        return child is not None and child.ready

    @property
    def process_id(self) -> int | None:
        """Of the process; None while there is none."""
        child = self._kept.child if self._kept else None
        return child.process.process_id if child else None

    @property
    def restarts(self) -> int:
        """How often another process took the place of one."""
        return self._kept.restarts if self._kept else 0

    def stop(self, within_s: float) -> None:
        """Take no further association, let those that run finish, then abort what is left."""
        kept = self._kept
        if kept is None:
            return
        child = kept.child
        if child is not None and child.ready:
            with kept.lock, contextlib.suppress(HilumError):
                child.process.ask(STOP, within_s, within_s + 10, "let its peers go")
        kept.close()
        self._listening.close()

    def _start(self) -> "_Child":
        return _Child(self)

    def _receive(self, child: "_Child", channel: socket.socket) -> None:
        with channel:
            try:
                self._reception.serve(channel)
            except ValueError as error:
                self._distrust(child, str(error))

    def _hear(self, child: "_Child", news: socket.socket) -> None:
        with news:
            try:
                while True:
                    kind, content, _ = receive(news)
                    if kind != SAID or not isinstance(content, dict):
                        raise ValueError(f"a message of kind {kind} where news come")
                    self._said(content)
            except (EOFError, OSError):
                pass
            except ValueError as error:
                self._distrust(child, str(error))
        if self._kept:
            self._kept.look_now()  # it ended

    def _distrust(self, child: "_Child", what: str) -> None:
        """It said what no listener says: whoever took it over gets no second word."""
        logger().error("listener's process is not trusted any more", reason=what)
        kept = self._kept
        if kept is None:
            return
        with kept.lock:
            if kept.child is child:
                kept.replace(f"The {NAME} said what it can't have meant ({what}).")


class _Child:
    """The process, and the threads that hear it."""

    def __init__(self, owner: ListenerProcess) -> None:
        self.ready = False
        pairs = [socket.socketpair() for _ in range(1 + owner._terms.maximum_associations)]
        ours, theirs = [our for our, _ in pairs], [their for _, their in pairs]
        try:
            self.process = self._launched(owner, [one.fileno() for one in theirs])
        except BaseException:
            for one in ours:
                one.close()
            raise
        finally:
            for one in theirs:
                one.close()
        for number, connection in enumerate(ours):
            hear = owner._receive if number else owner._hear
            threading.Thread(target=hear, args=(self, connection), name="hilum-dicom", daemon=True).start()

    def _launched(self, owner: ListenerProcess, theirs: Sequence[int]) -> ChildProcess:
        listening = owner._listening.fileno()
        given = {"terms": dataclasses.asdict(owner._terms), "memory_mb": owner._memory_mb}
        return ChildProcess(
            NAME,
            "hilum.service.dicom.listener_child",
            {"listening": listening, "news": theirs[0], "channels": theirs[1:], **given},
            environment=child_environment(**MEMORY),
            descriptors=[listening, *theirs],
            memory_setting="HILUM_LISTENER_MEMORY_MB",
        )

    def beat(self, within_s: float) -> None:
        """Ask whether it is there, or first wait until it is; raises a HilumError."""
        if self.ready:
            self.process.beat(within_s)
        else:
            self.process.reply(STARTUP_S, "come up")
            self.ready = True

    def kill(self) -> None:
        """End it."""
        self.process.kill()


def most_of_one(maximum_associations: int) -> int:
    """Associations that one address may have by default: four fifths, so that a fifth is left for others."""
    return maximum_associations - maximum_associations // 5


def terms_of(settings: Settings) -> Terms:
    """What the settings say of how peers are met."""
    pair = settings.dicom_pair if settings.dicom_tls != "off" else None
    return Terms(
        ae_title=settings.ae_title,
        allowed_ae_titles=settings.allowed_ae_titles,
        named_ae_titles=settings.named_ae_titles,
        skip_other_classes=settings.other_classes == "skip",
        pacs_ae_title=settings.pacs_node.ae_title if settings.pacs_node else None,
        largest_film_bytes=settings.largest_film_mb * MIB,
        maximum_associations=settings.maximum_associations,
        associations_per_address=settings.associations_per_address or most_of_one(settings.maximum_associations),
        association_deadline_s=settings.association_deadline_s,
        network_timeout_s=settings.network_timeout_s,
        least_rate=settings.least_upload_rate,
        tls=settings.dicom_tls if pair else "off",
        certificate=str(pair[0].absolute()) if pair else "",
        key=str(pair[1].absolute()) if pair else "",
        authorities=str(settings.dicom_ca.absolute()) if settings.dicom_ca else None,
        sender_certificates=settings.dicom_sender_certificates,
    )
