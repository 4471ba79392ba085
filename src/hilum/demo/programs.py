"""Other programs beside a story: found, started in a folder, and stopped with it, also after a kill."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from hilum.errors import ServiceError, UsageError

END_S = 20.0
"""How long a verb may take to end when the story is interrupted; then it is killed."""

GIVEN_BY_KERNEL = Path("/proc/sys/net/ipv4/ip_local_port_range")
PORTS = 20_000, 32_768
"""Below those that Linux gives away unasked; few programs have one of them by custom."""


def program(name: str, *, package: str, also: Sequence[Path] = ()) -> Path:
    """Where a program lies.

    Args:
        name: of its file.
        package: of Debian and Ubuntu, for the message.
        also: folders to look in beside PATH.

    Raises:
        UsageError: it is not installed.
    """
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, [*also, "/usr/sbin"])))
    if found is None:
        raise UsageError(f"{name} is not installed, and the clinic's story needs it: apt-get install {package}.")
    return Path(found)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on just now.

    None of them is one that the kernel gives to whoever connects somewhere, before the program is there that shall
    listen on it; unless it gives all.
    """
    try:
        first, last = map(int, GIVEN_BY_KERNEL.read_text().split())
    except OSError:  # not Linux: what RFC 6335 calls dynamic ports, and Linux's own
        first, last = 32768, 65535
    numbers = [port for port in range(*PORTS) if not first <= port <= last] or [0] * count
    random.SystemRandom().shuffle(numbers)
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        for number in numbers:
            one = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):  # somebody has it
                one.bind(("127.0.0.1", number))
                found.append(one.getsockname()[1])
            if len(found) == count:
                break
        return found


def until(true: Callable[[], bool], what: str, *, within_s: float, every_s: float = 0.1) -> None:
    """Wait until something is so.

    Raises:
        ServiceError: it isn't, after so long.
    """
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            raise ServiceError(f"Not within {within_s:g} s: {what}. The logs in the story's folder say more.")
        time.sleep(every_s)


@contextlib.contextmanager
def beside(
    name: str,
    command: Sequence[str | Path],
    folder: Path,
    *,
    ends_by: signal.Signals = signal.SIGTERM,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    cwd: Path | None = None,
    within_s: float = 60,
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs while the block does; its log is ``NAME.log`` and its number ``NAME.pid`` in the folder.

    It has a session of its own, so that Ctrl-C reaches the story alone, which then stops its programs in their order.

    Args:
        name: what it is called.
        command: its words; one names the folder, by which :func:`stop_left_over` knows it again.
        folder: of its log.
        ends_by: the signal that ends it well.
        environment: None for this process's.
        user: runs it, where this process is root.
        cwd: folder that it starts in.
        within_s: how long it may take to end; then it is killed.
    """
    rights = {"user": user, "group": user, "extra_groups": []} if user else {}
    with (
        open(folder / f"{name}.log", "ab") as log,
        subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=dict(environment) if environment is not None else None,
            cwd=cwd,
            **rights,  # type: ignore[call-overload]  # the same keywords for all
        ) as process,
    ):
        note = folder / f"{name}.pid"
        note.write_text(f"{process.pid}\n")
        try:
            yield process
        finally:
            process.send_signal(ends_by)
            try:
                process.wait(within_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            note.unlink(missing_ok=True)


def run_to_end(
    command: Sequence[str | Path], *, environment: Mapping[str, str], given: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; where the story is interrupted meanwhile, it and all that it started ends first.

    It has a session of its own, so that Ctrl-C reaches the story alone.

    Args:
        command: its words.
        environment: of the program.
        given: standard input.
    """
    words = [str(word) for word in command]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, text=True, env=dict(environment), start_new_session=True, **pipes) as process:  # type: ignore[call-overload]  # the same for all
        try:
            out, error = process.communicate(given)
        except BaseException:
            _end_session(process)
            raise
    return subprocess.CompletedProcess(words, process.returncode, out, error)


def _end_session(process: "subprocess.Popen[str]") -> None:
    """End a program and what it started in its session: as by Ctrl-C, and by force where that takes too long."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)


def stop_left_over(folder: Path) -> list[str]:
    """Stop what a story that was killed left running in this folder.

    Returns:
        names of what was stopped. Only a process whose command line names the folder is touched, since numbers of
        processes are given anew.
    """
    stopped = []
    for note in sorted(folder.glob("*.pid")):
        number = note.read_text().strip()
        words = Path(f"/proc/{number}/cmdline")
        with contextlib.suppress(OSError, ProcessLookupError, ValueError):
            if os.fsencode(folder.resolve()) in words.read_bytes():
                # SIGQUIT is PostgreSQL's immediate stop, which takes its own processes along; others just end.
                os.kill(int(number), signal.SIGQUIT if note.stem == "postgres" else signal.SIGKILL)
                stopped.append(note.stem)
                until(lambda seen=words: not _runs(seen), f"{note.stem} ends", within_s=20)  # type: ignore[misc]
        note.unlink(missing_ok=True)
    return stopped


def _runs(words: Path) -> bool:
    with contextlib.suppress(OSError):
        return bool(words.read_bytes())  # a zombie's is empty
    return False
