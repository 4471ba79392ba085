"""Limits on what a DICOM peer may send.

pynetdicom 3.0 reads as many bytes as a PDU's 32-bit length says (its issue 1086), waits for each receive anew, and
queues messages without end. Its socket is wrapped here, where every byte passes.
"""

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from hilum.service.logs import logger

PDU_HEADER_BYTES = 6
ADVERTISED_PDU_BYTES = 256 * 1024
LARGEST_PDU_BYTES = 4 * ADVERTISED_PDU_BYTES
"""Some peers exceed what is advertised; beyond this they are cut off."""

LARGEST_COMMAND_BYTES = 64 * 1024
"""A command has a few hundred, and pynetdicom decodes it element by element, 100 MB in half a minute."""

QUEUED_MESSAGES = 2
SHORT_S, IDLE_S = 0.002, 0.02
"""Longest wait for a peer that sends, and for one that is silent for longer than BUSY_S."""

BUSY_S = 1.0


def _why_no_tls(error: Exception) -> str:
    """Why no TLS came about, as the log tells whoever has to look at the sender."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate isn't good ({error.verify_message})"
    said = getattr(error, "reason", None) or type(error).__name__
    return "it showed no certificate" if said == "PEER_DID_NOT_RETURN_A_CERTIFICATE" else f"no TLS ({said})"


class GuardedSocket(AssociationSocket):
    """A pynetdicom socket that gives up on peers which send too much or too slowly.

    Args:
        plain: the socket that pynetdicom made; this takes its place.
        largest_pdu: bytes of the largest PDU received.
        largest_message: bytes of the largest message received, command and data set together.
        pdu_s: a PDU must be complete after so long.
        association_s: the connection ends after so long, whatever it does.
        least_rate: bytes a second that a message must bring; below it for two halves of ``pdu_s`` in a row it is too
            slow.
    """

    def __init__(
        self,
        plain: AssociationSocket,
        *,
        largest_pdu: int,
        largest_message: int,
        pdu_s: float,
        association_s: float,
        least_rate: float = 0,
    ) -> None:
        # Not the parent's constructor: it would announce the connection to the state machine a second time.
        self.__dict__.update(plain.__dict__)
        self.largest_pdu, self.largest_message, self.pdu_s = largest_pdu, largest_message, pdu_s
        self.ends = time.monotonic() + association_s
        self.message_bytes = 0
        self.least_rate, self.slow = least_rate, False
        self.heard = time.monotonic()
        self.since, self.counted = self.heard, 0
        connection: socket.socket | None = self.socket
        if connection is not None:
            # A request is two PDUs; the second would wait for the first one's acknowledgement, 40 ms each time.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def ready(self) -> bool:
        """True when there is something to read, and room for it."""
        if time.monotonic() > self.ends and self.socket is not None:
            logger().warning("association cut off", code="deadline", reason="association deadline")
            self.close()
            return False
        if self.assoc.dimse.msg_queue.qsize() >= QUEUED_MESSAGES:
            self._count_anew()
            return False  # the peer sends ahead of our answers: it waits
        if not self._await():
            return False
        self.heard = time.monotonic()
        return True

    def _await(self) -> bool:
        """Wait a little for something to read.

        pynetdicom asks a thousand times a second and sleeps a millisecond in between, which costs a film in work time
        and an idle association a processor's time. What we send waits for this, so it is short while the peer sends.
        """
        if super().ready:
            return True
        connection: socket.socket | None = self.socket
        if connection is None or not self._is_connected:
            return False
        quiet_s = time.monotonic() - self.heard
        with contextlib.suppress(OSError, ValueError):  # closed meanwhile: the next look says so
            return bool(select.select([connection], [], [], IDLE_S if quiet_s > BUSY_S else SHORT_S)[0])
        return False

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly so many bytes, or fewer when the peer has gone.

        Raises:
            OSError: the peer exceeds a limit; pynetdicom then closes the connection.
        """
        try:
            self._pace()
            self._check(nr_bytes)
            received = bytearray(nr_bytes)
            count = self._fill(memoryview(received))
        except OSError:
            self.drop()
            raise
        if count < nr_bytes:
            self.drop()
            del received[count:]
        return received

    def _pace(self) -> None:
        """Judge how fast the message comes that is on its way; twice, since a machine that stood still is slow once."""
        if self.assoc.dimse.message is None:
            self._count_anew()
            return
        took = time.monotonic() - self.since
        if took < self.pdu_s / 2:
            return
        before, slow = self.slow, self.message_bytes - self.counted < self.least_rate * took
        if slow and before:
            self._refuse("too-slow", f"a message of less than {self.least_rate:g} bytes a second")
        self._count_anew()
        self.slow = slow

    def _count_anew(self) -> None:
        self.since, self.counted, self.slow = time.monotonic(), self.message_bytes, False

    def _check(self, nr_bytes: int) -> None:
        self.message_bytes += nr_bytes
        if nr_bytes > self.largest_pdu:
            self._refuse("pdu-size", f"a PDU of {nr_bytes} bytes, more than {self.largest_pdu}")
        if self.message_bytes > self.largest_message:
            self._refuse("message-size", f"a message of more than {self.largest_message} bytes")

    def _fill(self, view: memoryview) -> int:
        wanted = len(view)
        ends = min(self.ends, time.monotonic() + self.pdu_s)
        while len(view):
            left = ends - time.monotonic()
            if left <= 0:
                self._refuse("too-slow", f"a PDU that is not complete after {self.pdu_s:g} s")
            connection: socket.socket | None = self.socket
            if connection is None:
                break
            connection.settimeout(left)
            count = connection.recv_into(view)
            if count == 0:
                break
            view = view[count:]
        return wanted - len(view)

    def drop(self) -> None:
        """Close at once: some states of pynetdicom take a failed receive for a closed connection and leave it open."""
        self._shutdown_socket()
        self.socket, self._is_connected = None, False

    def send(self, bytestream: bytes) -> None:
        """Send, giving up on a peer that does not read."""
        if self.socket is not None:
            with contextlib.suppress(OSError):
                self.socket.settimeout(self.pdu_s)
        super().send(bytestream)

    def _shutdown_socket(self) -> None:
        """Close, also when the peer has gone already; pynetdicom would leave the socket open then."""
        connection: socket.socket | None = self.socket
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _refuse(self, code: str, what: str) -> None:
        logger().warning("association cut off", code=code, reason=what)
        raise OSError(f"The peer sent {what}.")


def message_complete(event: Any) -> None:
    """A message has been received whole: the next one has its own limit."""
    guarded = event.assoc.dul.socket
    if isinstance(guarded, GuardedSocket):
        guarded.message_bytes = 0


class Server(ThreadedAssociationServer):
    """pynetdicom's server on a socket that listens already.

    Args:
        listening: the socket; whoever else has it open keeps peers waiting while this server is away.
        given: as for pynetdicom's.
    """

    def __init__(self, *given: Any, listening: socket.socket, **more: Any) -> None:
        self._listening = listening
        super().__init__(*given, **more)

    def server_bind(self) -> None:
        """Take the socket."""
        if self.socket is not None:  # the one that its base class made
            self.socket.close()
        self.socket = self._listening
        self.socket.settimeout(self.ae.network_timeout)
        self.server_address = self.socket.getsockname()

    def server_activate(self) -> None:
        """It listens already."""


def watch(association: Any) -> None:
    """Have an association end when one of its threads does.

    pynetdicom 3.0 lets the thread die of what a peer sends (an even context id, a context without a syntax, something
    to answer on a connection that is just closing), and the other one waits on: connection, memory and place in the
    count stay taken. So they do when a peer has closed the connection before it asked for an association, as those do
    who look whether a port is open.

    Args:
        association: one that was not started yet.
    """
    for thread in (association, association.dul):
        thread.run = _ending(thread.run, association)
    association.dul.run = _waking(association.dul.run, association)
    association.dimse.receive_primitive = _brief(association.dimse.receive_primitive, association)


def _brief(receive: Callable[[Any], None], association: Any) -> Callable[[Any], None]:
    """Take no command that is longer than any there is (PS3.7 section 9.3): it is cut off before it is decoded."""

    def taken(primitive: Any) -> None:
        # The first bit of a fragment's header says that it is of a command (PS3.8 annex E.2).
        said = sum(len(value) for _, value in primitive.presentation_data_value_list if value[:1] and value[0] & 1)
        if said:
            begun = association.dimse.message
            said += begun.encoded_command_set.tell() if begun is not None else 0
        if said <= LARGEST_COMMAND_BYTES:
            receive(primitive)
            return
        reason = f"a command of more than {LARGEST_COMMAND_BYTES} bytes"
        logger().warning("association cut off", code="command-size", reason=reason)
        guarded = association.dul.socket
        if isinstance(guarded, GuardedSocket):
            guarded.drop()

    return taken


def _ending(run: Callable[[], None], association: Any) -> Callable[[], None]:
    def watched() -> None:
        try:
            run()
        except Exception as error:
            code, reason = "protocol", f"what the protocol does not have ({type(error).__name__})"
            if isinstance(error, MemoryError):
                code, reason = "memory", "no memory left for what it sends, beside what others send"
            logger().warning("association cut off", code=code, reason=reason)
            association.is_aborted, association.is_established = True, False
            association._kill = association.dul._kill_thread = True
            association._reactor_checkpoint.set()
            guarded = association.dul.socket
            if isinstance(guarded, GuardedSocket):
                guarded.drop()

    return watched


def _waking(run: Callable[[], None], association: Any) -> Callable[[], None]:
    """Behind all that the connection's thread has said it says that no more will come."""

    def woken() -> None:
        try:
            run()
        finally:
            association.dul.to_user_queue.put(None)

    return woken


def _admit(association: Any, admits: Callable[[str], bool]) -> None:
    """Have a peer's AE title judged before anything is negotiated; pynetdicom has no place to ask.

    A refused one gets "rejected permanent, calling AE title not recognised" (PS3.8 section 9.3.4).
    """
    acse = association.acse
    negotiate = acse._negotiate_as_acceptor

    def judged() -> None:
        title = str(association.requestor.primitive.calling_ae_title).strip()
        if admits(title):
            negotiate()
            return
        acse.send_reject(0x01, 0x01, 0x03)
        association.kill()

    acse._negotiate_as_acceptor = judged


def guarded_handler(
    guard: Callable[[AssociationSocket], GuardedSocket],
    most_connections: int,
    *,
    most_of_one: int,
    tls: Callable[[], ssl.SSLContext] | None = None,
    handshake_s: float = 30,
    admits: Callable[[str, Any], bool] | None = None,
) -> type[RequestHandler]:
    """A request handler for pynetdicom's server whose sockets are guarded and whose connections are counted.

    pynetdicom would shake hands where it accepts connections, so that one silent peer kept out all others; here it is
    done in the connection's own thread, and has an end.

    Args:
        guard: wraps a socket.
        most_connections: connections at once, negotiated or not; further ones are closed unanswered.
        most_of_one: connections at once from one address, so that no single host keeps all others out.
        tls: gives how a peer that connects now is met; None without TLS.
        handshake_s: the TLS handshake must be complete after so long.
        admits: may the peer on this socket call itself by this AE title? None admits all.
    """
    shaking_hands = threading.Semaphore(most_connections)

    class GuardedHandler(RequestHandler):
        def handle(self) -> None:
            if len(self.server.active_associations) >= most_connections:
                self._turn_away("too-many", "too many connections")
                return
            if self._of_the_same() >= most_of_one:
                self._turn_away("too-many-of-one", "too many connections from one address")
                return
            if tls is not None and not self._encrypt(tls()):
                return
            super().handle()

        def _of_the_same(self) -> int:
            others = [one.requestor.address_info for one in self.server.active_associations]
            return sum(one is not None and one.address == self.client_address[0] for one in others)

        def _encrypt(self, context: ssl.SSLContext) -> bool:
            if not shaking_hands.acquire(blocking=False):
                self._turn_away("too-many", "too many connections that shake hands")
                return False
            try:
                self.request.settimeout(handshake_s)
                self.request = context.wrap_socket(self.request, server_side=True)
            except (ssl.SSLError, OSError, ValueError) as error:
                self._turn_away("no-tls", _why_no_tls(error))
                return False
            finally:
                shaking_hands.release()
            return True

        def _turn_away(self, code: str, why: str) -> None:
            logger().warning("connection refused", code=code, reason=why)
            self.server.shutdown_request(self.request)

        def _create_association(self) -> Any:
            association = super()._create_association()
            plain = association.dul.socket
            if plain is not None:
                association.dul.socket = guard(plain)
            watch(association)
            if admits is not None:
                _admit(association, lambda title: admits(title, self.request))
            return association

    return GuardedHandler
