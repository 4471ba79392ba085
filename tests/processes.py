"""Commands that are interrupted as at a terminal, and which processes are there: to prove that none was left."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path


def marked(text: str) -> list[str]:
    """Processes that name this in their words or their environment: the story's, and whatever these started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if path.name != str(os.getpid()) and text.encode() in (path / "cmdline").read_bytes() + environment(path):
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def environment(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return (path / "environ").read_bytes()
    return b""


def at_a_terminal(words: list[str], mark: str, **pipes: int) -> subprocess.Popen[str]:
    """``hilum`` in a session of its own, where Ctrl-C works also when whoever runs the tests has switched it off.

    Args:
        words: the verb and its arguments.
        mark: ``NAME=VALUE`` in its environment and in that of all that it starts.
        pipes: as :class:`subprocess.Popen` takes them.
    """
    name, _, value = mark.partition("=")
    return subprocess.Popen(
        [sys.executable, "-m", "hilum", *words],
        text=True,
        start_new_session=True,
        env=os.environ | {name: value},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell ignores behind an &
        **pipes,  # type: ignore[call-overload]  # the same for all
    )


def family(pid: int) -> list[int]:
    """A process and those that it started, and they."""
    found, parents = [pid], {}
    for one in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(one.parent.name)] = int(one.read_text().rpartition(")")[2].split()[1])
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def family_mb(pid: int) -> float:
    """Memory of a process and all that it started; pages that several of them share count once together (PSS)."""
    total = 0
    for one in family(pid):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return total / 1024
