"""Child processes of the service: started, asked whether they are there, and started again when they are not.

The model's process and the DICOM listener's are such. A child has no environment but what it needs, no open files but
its own, and ends with its parent: the socket between them then closes.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from hilum.errors import BundleError, HilumError, ServiceError, UsageError
from hilum.files import home
from hilum.service.child_wire import ENDING, FAILED, OUT_OF_MEMORY, PING, receive, send
from hilum.service.logs import logger

STARTUP_S = 120.0
"""How long a child may take to load what it needs; generous, since a busy machine must not refuse a good one."""

BEAT_S = 1.0
"""How often the watchdog asks."""

ANSWER_TO_BEAT_S = 20.0
"""How long an idle child may take to say that it is there; generous for the same reason."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Waits between attempts to start a child that doesn't come up: each is twice the one before."""

BOOT = (
    "import gc, importlib, json, sys; settings = json.loads(sys.argv[1]); sys.path[:] = settings.pop('path'); "
    "gc.disable(); main = importlib.import_module(settings.pop('module')).main; gc.enable(); main(**settings)"
)
"""Imports make objects that stay: collecting between them costs a tenth of the start and finds nothing."""

KINDS: Mapping[str, type[HilumError]] = {"BundleError": BundleError, "ServiceError": ServiceError}


class ChildDied(ServiceError):
    """A child process ended, hung or ran out of memory."""


def child_environment(**more: str) -> dict[str, str]:
    """The least that a child needs, and what is given."""
    return {"LANG": "C.UTF-8", "PATH": os.defpath, "HOME": str(home()), **more}


class ChildProcess:
    """One child process and this side of its sockets; on each it is asked one thing at a time.

    May be killed while others ask it. They learn it by the sockets' end, and the sockets are closed when the last of
    them has left: a number that is closed sooner may be the next child's by the time somebody reads from it.

    Args:
        name: what it is called after "the".
        module: its function ``main`` is called there with ``descriptor``, the child's end of the socket, and `given`.
        given: JSON's kinds; everybody on this machine can read it, so nothing secret.
        environment: all of its environment.
        descriptors: open files that it gets as well, under the same numbers.
        lines: sockets besides the first; where there are any, ``main`` is given their ends as ``lines``.
        memory_setting: what to raise when it has no memory left.
    """

    def __init__(
        self,
        name: str,
        module: str,
        given: Mapping[str, Any],
        *,
        environment: Mapping[str, str],
        descriptors: Sequence[int] = (),
        lines: int = 0,
        memory_setting: str,
    ) -> None:
        self.name, self._memory_setting = name, memory_setting
        self._guard, self._users, self._killed = threading.Lock(), 0, False
        pairs = [socket.socketpair() for _ in range(1 + lines)]
        self._socket, *self._lines = [ours for ours, _ in pairs]
        first, *others = [theirs.fileno() for _, theirs in pairs]
        said = {"path": sys.path, "module": module, "descriptor": first, **given}
        if others:
            said["lines"] = others
        try:
            with contextlib.ExitStack() as stack:
                for _, theirs in pairs:
                    stack.enter_context(theirs)
                self._process = subprocess.Popen(
                    [sys.executable, "-c", BOOT, json.dumps(said)],
                    pass_fds=[first, *others, *descriptors],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=dict(environment),
                    start_new_session=True,  # Ctrl-C at a terminal is for the parent to handle
                )
        except BaseException:
            self._close()
            raise

    @property
    def process_id(self) -> int:
        """Its id."""
        return self._process.pid

    def ask(self, kind: int, content: Any, within_s: float, to: str, *, line: int | None = None) -> Any:
        """Ask one thing and wait for the answer.

        Args:
            kind: what.
            content: JSON's kinds.
            within_s: longest wait.
            to: what it is to do, for the sentence when it doesn't.
            line: by which of the lines; None for the first socket.

        Raises:
            ChildDied: it must then be replaced.
            HilumError: what the child says is wrong.
        """
        connection = self._socket if line is None else self._lines[line]
        with self._using():
            try:
                connection.settimeout(within_s)
                send(connection, kind, content)
            except OSError:
                raise self._ended() from None
            return self._reply(connection, within_s, to)

    def reply(self, within_s: float, to: str) -> Any:
        """Wait for what it says by the first socket; raises as :meth:`ask` does."""
        with self._using():
            return self._reply(self._socket, within_s, to)

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        with self._guard:
            gone = self._killed
            self._users += not gone
        if gone:
            raise self._ended()
        try:
            yield
        finally:
            with self._guard:
                self._users -= 1
                self._close_if_unused()

    def _reply(self, connection: socket.socket, within_s: float, to: str) -> Any:
        try:
            connection.settimeout(within_s)
            status, said, _ = receive(connection)
        except TimeoutError:
            raise ChildDied(f"The {self.name} took longer than {within_s:g} s to {to}, and was stopped.") from None
        except ValueError:
            raise ChildDied(f"The {self.name} said what is no message, and was stopped.") from None
        except (OSError, EOFError):
            raise self._ended() from None
        if status == OUT_OF_MEMORY:
            raise ChildDied(f"The {self.name} has no memory left. Raise {self._memory_setting}.")
        if status == ENDING:
            raise ChildDied(f"The {self.name} ended: {said['text']}")
        if status == FAILED:
            raise KINDS.get(said["kind"], UsageError)(said["text"])
        return said

    def beat(self, within_s: float) -> None:
        """Ask whether it is there; raises as :meth:`ask` does."""
        self.ask(PING, None, within_s, "say that it is there")

    def _ended(self) -> ChildDied:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)
        code = self._process.returncode
        name = signal.Signals(-code).name if code is not None and code < 0 else f"exit {code}"
        return ChildDied(f"The {self.name} ended ({name}).")

    def kill(self) -> None:
        """End the process and collect it; who waits for an answer gets none."""
        with self._guard:
            if not self._killed:
                self._killed = True
                for connection in (self._socket, *self._lines):
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
        self._process.kill()
        self._process.wait()
        with self._guard:
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._killed and not self._users:
            self._close()

    def _close(self) -> None:
        for connection in (self._socket, *self._lines):
            connection.close()


class Child(Protocol):
    """What is kept."""

    def beat(self, within_s: float) -> None:
        """Say that it is there; raises a HilumError when it is to be replaced."""

    def kill(self) -> None:
        """End it."""


C = TypeVar("C", bound=Child)


class Kept(Generic[C]):
    """A child that is there again after it ended. Usable from several threads.

    Args:
        name: what it is called after "the".
        start: starts one; raises a HilumError when none comes up.
        restarted: told the reason each time another child takes the place of one.
        settle_s: one that ends sooner than this after its start is not replaced at once, but after pauses that grow.

    Raises:
        HilumError: of the first start.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], C],
        *,
        restarted: Callable[[str], None] = lambda reason: None,
        settle_s: float = 0.0,
    ) -> None:
        self._name, self._start, self._restarted, self._settle_s = name, start, restarted, settle_s
        self.lock, self._closed, self._bell = threading.RLock(), threading.Event(), threading.Event()
        self.trouble: str | None = None
        self.restarts, self._failures, self._next_try, self._asked = 0, 0, 0.0, 0
        self.child: C | None = start()
        self._since = time.monotonic()
        self._watchdog = threading.Thread(target=self._watch, name="hilum-watchdog", daemon=True)
        self._watchdog.start()

    @property
    def closed(self) -> bool:
        """True from :meth:`close` on."""
        return self._closed.is_set()

    def close(self) -> None:
        """End the child; what it was asked fails."""
        self._closed.set()
        self._bell.set()
        child = self.child
        if child is not None:
            child.kill()
        self._watchdog.join()

    @contextlib.contextmanager
    def asking(self) -> Iterator[C | None]:
        """The child, while it is asked something with a limit of its own: the watchdog doesn't ask it meanwhile.

        Several may ask at once. None while there is no child.
        """
        with self.lock:
            child = self.child
            self._asked += 1
        try:
            yield child
        finally:
            with self.lock:
                self._asked -= 1

    def look_now(self) -> None:
        """Something happened to the child: the watchdog need not wait for its next beat."""
        self._bell.set()

    def _watch(self) -> None:
        while not self.closed:
            self._bell.wait(BEAT_S)
            self._bell.clear()
            if self.closed or not self.lock.acquire(blocking=False):
                continue
            try:
                if not self._asked:
                    self._look()
            finally:
                self.lock.release()

    def _look(self) -> None:
        if self.child is None:
            if time.monotonic() >= self._next_try:
                self.replace(self.trouble or "")
            return
        try:
            self.child.beat(ANSWER_TO_BEAT_S)
        except HilumError as error:
            self.replace(str(error))
            return
        self.trouble = None
        if time.monotonic() - self._since >= self._settle_s:
            self._failures = 0

    def replace(self, reason: str, died: C | None = None) -> None:
        """Another child in the place of this one, if it comes up; else the watchdog tries again, ever less often.

        Args:
            reason: what was wrong with this one.
            died: the one that it was wrong with; where another has taken its place already, that one stays.
        """
        if died is not None:
            died.kill()  # who else asked it something learns it now
        with self.lock:
            if died is None or self.child is died:
                self._replace(reason)

    def _replace(self, reason: str) -> None:
        early = self.child is not None and time.monotonic() - self._since < self._settle_s
        if self.child is not None:
            self.child.kill()
            self.child = None
        if self.closed:
            return
        if early:
            self._put_off(reason)
            return
        logger().error(f"{self._name} is started again", reason=reason)
        try:
            self.child = self._start()
        except (HilumError, OSError) as error:
            self._put_off(str(error))
            return
        self._since = time.monotonic()
        if self._closed.is_set():  # while it started
            self.child.kill()
        if not self._settle_s:
            self.trouble = None  # else when it has answered, soon
        self._bell.set()
        self.restarts += 1
        self._restarted(reason)

    def _put_off(self, reason: str) -> None:
        self.trouble = f"The {self._name} doesn't come up: {reason}"
        self._failures += 1
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (self._failures - 1))
        self._next_try = time.monotonic() + pause_s
        logger().error(f"{self._name} doesn't come up", reason=reason, again_in_s=pause_s)
