"""Open HTTP connections: how many there may be, and how slowly one may send and read.

asyncio accepts connections as long as there are file descriptors and waits for each without an end; uvicorn closes
those alone that are idle between two requests. Here they are counted where they are accepted, so that TLS handshakes
count too, and looked at once a second: a request costs nothing for it.
"""

import contextlib
import errno
import heapq
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from hilum.service.logs import logger

Doing = Literal["head", "idle", "body", "work", "reply", "end"]
"""What a connection waits for: a request's head; the next request; the rest of a body; us; a peer that reads; one that
closes too, as over TLS it should."""

RESERVED_FILES = 512
"""File descriptors for everything but HTTP connections: films, records, children, DICOM."""

SHARE_OF_FEW = 4
"""With fewer files than that, so many-th of them are for HTTP connections."""

LEAVING = 64
"""Closed ones that asyncio still has to let go of; until then no further one is accepted."""

ROUNDS = 16
"""Where room is made, this share of those that nobody waits for is closed at once, so that few are searched often."""

GRACE_S, LOOKS = 10.0, 10
"""For asyncio and uvicorn to close what they close themselves, in seconds and in sweeps."""

YOUNG_S, STRICTER = 2.0, 5
"""Where there is no room, a body of that age which comes less than so many times as fast as it must gives way."""

SAYS_EVERY_S = 60.0
NO_FILES = (errno.EMFILE, errno.ENFILE)
SORRY = (
    b'{"type": "urn:hilum:problem:overloaded", "title": "Too many connections", "status": 503, '
    b'"detail": "The service has as many connections as it can. Come again in a few seconds."}'
)
REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 10\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(SORRY), SORRY)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many connections, and how slow."""

    most: int = 512
    """Connections at once."""
    most_of_one: int = 410
    """Of these from one address."""
    head_s: float = 15
    """A TLS handshake and a request's head must be complete after so long, and each further head from its begin on."""
    least_rate: float = 1000
    """Bytes a second that a body must bring on average over each window."""
    window_s: float = 20
    """Length of a window."""
    stalled_s: float = 60
    """A peer that reads nothing of a reply for so long is cut off."""
    keep_alive_s: float = 15
    """Longest time between two requests, which uvicorn keeps."""


class Speaking(Protocol):
    """One connection's HTTP, as :class:`hilum.service.http_protocol.HttpProtocol` speaks it."""

    replies: int
    """Complete ones."""
    came: int
    """Bytes received."""

    def doing(self) -> Doing:
        """What it waits for."""

    def unsent(self) -> int:
        """Bytes of replies that the peer has not taken yet."""

    def cut_off(self, *, says_why: bool) -> None:
        """Close at once; first say, where that can be said, that the request came too slowly."""


class _Open:
    """What is known of one connection."""

    __slots__ = ("address", "at", "phase", "since", "speaking", "taken")

    def __init__(self, taken: "Accepted", address: str, now: float) -> None:
        self.taken, self.address, self.since, self.at = taken, address, now, 0
        self.speaking: Speaking | None = None  # none before the TLS handshake is complete
        self.phase: tuple[int, Doing] = (0, "head")

    def look(self, now: float) -> Doing:
        """What it waits for; ``since`` is when that was first seen."""
        speaking = self.speaking
        if speaking is None:
            return "head"
        doing = speaking.doing()
        phase = (speaking.replies, doing)
        if phase != self.phase:
            self.phase, self.since = phase, now
            self.at = speaking.unsent() if doing == "reply" else speaking.came
        return doing

    def end(self, *, says_why: bool = False) -> None:
        """Close at once."""
        if self.speaking is not None:
            self.speaking.cut_off(says_why=says_why)
            return
        with contextlib.suppress(OSError):
            self.taken.shutdown(socket.SHUT_RDWR)  # asyncio, which has it, sees its end and closes it


class Connections:
    """Those that are open. Used by the event loop's thread alone.

    Args:
        limits: how many, and how slow.
        closed: told why, once for each connection that was refused or cut off.
        clock: seconds.
    """

    def __init__(
        self,
        limits: Limits,
        closed: Callable[[str], None] = lambda code: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits, self._closed, self._clock = limits, closed, clock
        self._open: dict[int, _Open] = {}
        self._leaving: dict[int, tuple[_Open, int]] = {}
        self._swept = clock()
        self._of = Counter[str]()
        self._unsaid = Counter[str]()
        self._says_again = 0.0

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    @property
    def full(self) -> bool:
        """True while so many wait to be let go of that none may come."""
        return len(self._leaving) >= LEAVING

    def enter(self, taken: "Accepted", address: str) -> bool:
        """Count one that was accepted; False when there is no room for it, nor could be made."""
        full = "too-many-of-one" if self._of[address] >= self.limits.most_of_one else None
        if full is None and len(self._open) >= self.limits.most:
            full = "too-many"
        if full and not self.make_room(address if full == "too-many-of-one" else None):
            self._note(full)
            return False
        taken.leaves = self._left
        self._open[taken.number] = _Open(taken, address, self._clock())
        self._of[address] += 1
        return True

    def speaks(self, number: int, speaking: Speaking) -> None:
        """The connection of this file descriptor speaks HTTP now."""
        one = self._open.get(number)
        if one is not None:
            one.speaking = speaking

    def make_room(self, address: str | None) -> bool:
        """Close what nobody waits for; False if there is nothing like that.

        Those first that never had a reply, then those between two requests, of both the longest waiting first; then
        the slowest bodies.

        Args:
            address: from which; None for any.
        """
        now = self._clock()
        waiting = [
            (*rank, number)
            for number, one in self._open.items()
            if (address is None or one.address == address) and (rank := self._rank(one, now))
        ]
        for _, _, number in heapq.nsmallest(1 + len(waiting) // ROUNDS, waiting):
            self._let_go(number, "made-room").end()
        return bool(waiting)

    def _rank(self, one: _Open, now: float) -> tuple[int, float] | None:
        """The lower, the sooner it gives way; None for those that don't."""
        doing, speaking = one.look(now), one.speaking
        if doing in ("head", "idle", "end"):
            return (1 if one.phase[0] and doing != "end" else 0, one.since)
        took = now - one.since
        if doing != "body" or speaking is None or took < YOUNG_S or not took:
            return None
        rate = (speaking.came - one.at) / took
        return (2, rate) if rate < STRICTER * self.limits.least_rate else None

    def sweep(self) -> None:
        """Cut off what is too slow, and say so in the log, once a minute at most."""
        now = self._clock()
        stood_still = now - self._swept
        self._swept = now
        if stood_still > GRACE_S:  # the machine or this thread did; no peer is to blame for it
            for one in self._open.values():
                one.since += stood_still
        looked = [(number, self._too_slow(one, one.look(now), now)) for number, one in self._open.items()]
        for number, code in ((number, code) for number, code in looked if code):
            self._let_go(number, code).end(says_why=code in ("slow-head", "slow-body"))
        for number, (one, looks) in list(self._leaving.items()):
            self._leaving[number] = (one, looks + 1)
            if looks >= LOOKS:
                one.taken.close()  # asyncio never took it over, or has forgotten it
        if self._unsaid and now >= self._says_again:
            logger().warning("connections closed", open=len(self._open), **self._unsaid)
            self._unsaid.clear()
            self._says_again = now + SAYS_EVERY_S

    def end(self) -> None:
        """Close what is left when the event loop has ended: it lets go of none that it was just taking."""
        for one in [*self._open.values(), *(one for one, _ in self._leaving.values())]:
            one.taken.close()

    def _too_slow(self, one: _Open, doing: Doing, now: float) -> str | None:
        limits, took, speaking = self.limits, now - one.since, one.speaking
        if doing in ("head", "idle"):
            silent = speaking is not None and not speaking.came
            longest_s = limits.head_s if doing == "head" else limits.keep_alive_s + GRACE_S
            return ("silent" if silent else "slow-head") if took > longest_s else None
        if speaking is None or doing == "work":
            return None
        if doing == "end":  # asyncio waits half as long for it
            return "no-reader" if took > limits.stalled_s else None
        if doing == "body":
            if took < limits.window_s:
                return None
            if speaking.came - one.at < limits.least_rate * took:
                return "slow-body"
            one.since, one.at = now, speaking.came
            return None
        unsent = speaking.unsent()
        if unsent < one.at:  # more is no progress: we wrote it
            one.since = now
        one.at = unsent
        return "no-reader" if now - one.since > limits.stalled_s else None

    def _let_go(self, number: int, code: str) -> _Open:
        """It counts no more from now on; its file descriptor comes back when asyncio has closed it."""
        self._note(code)
        one = self._open.pop(number)
        self._discount(one)
        self._leaving[number] = (one, 0)
        return one

    def _left(self, number: int) -> None:
        one = self._open.pop(number, None)
        if one is not None:
            self._discount(one)
        self._leaving.pop(number, None)

    def _discount(self, one: _Open) -> None:
        self._of[one.address] -= 1
        if not self._of[one.address]:
            del self._of[one.address]

    def _note(self, code: str) -> None:
        if code != "silent":  # browsers connect in advance
            self._unsaid[code.replace("-", "_")] += 1
        self._closed(code)


class Accepted(socket.socket):
    """An accepted connection that says when it is closed."""

    __slots__ = ("leaves", "number")

    def __init__(self, family: int, kind: int, protocol: int, number: int) -> None:
        self.leaves: Callable[[int], None] = lambda number: None
        self.number = number
        super().__init__(family, kind, protocol, fileno=number)

    def close(self) -> None:
        """Close; its number is free for another one only after that is said."""
        if self.fileno() >= 0:
            self.leaves(self.number)
        super().close()


class Entrance(socket.socket):
    """A socket that listens and lets as many in as there is room for; asyncio accepts by it.

    Args:
        bound: the socket, which this takes over.
        connections: those that are open.
        says_why: tell who is refused; over TLS that can't be said.
    """

    __slots__ = ("_connections", "_says_why")

    def __init__(self, bound: socket.socket, connections: Connections, *, says_why: bool) -> None:
        self._connections, self._says_why = connections, says_why
        family, kind, protocol = bound.family, bound.type, bound.proto
        super().__init__(family, kind, protocol, fileno=bound.detach())

    def accept(self) -> tuple[Accepted, object]:
        """The next connection that there is room for.

        Raises:
            BlockingIOError: none waits, or asyncio must let others go first.
            OSError: as of a socket.
        """
        for _ in range(ROUNDS):
            if self._connections.full:
                break
            try:
                number, address = self._accept()  # type: ignore[attr-defined]
            except OSError as error:
                if error.errno in NO_FILES and self._connections.make_room(None):
                    break
                raise
            taken = Accepted(self.family, self.type, self.proto, number)
            try:
                if self._connections.enter(taken, address[0]):
                    return taken, address
            except BaseException:
                taken.close()
                raise
            self._refuse(taken)
        raise BlockingIOError(errno.EAGAIN, "others first")

    def _refuse(self, taken: Accepted) -> None:
        with taken, contextlib.suppress(OSError):
            if self._says_why:
                taken.setblocking(False)
                taken.send(REFUSAL)
                taken.shutdown(socket.SHUT_WR)


def most_open(wanted: int) -> int:
    """How many connections there may be by the limit of open files, which is raised for as many where it may be.

    Args:
        wanted: at most so many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    files = wanted + RESERVED_FILES
    if soft < files:
        files = files if hard == resource.RLIM_INFINITY else min(files, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
            soft = files
    most = min(wanted, max(soft - RESERVED_FILES, soft // SHARE_OF_FEW))
    if most < wanted:
        reason = f"the limit of open files is {soft}; raise it (ulimit -n) to {wanted + RESERVED_FILES}"
        logger().warning("fewer connections than wanted", most=most, reason=reason)
    return most
