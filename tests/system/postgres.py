"""A PostgreSQL server of its own for tests, from the distribution's packages, on a socket in a temporary folder."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

USER = "postgres"
"""PostgreSQL refuses to run as root; where tests do, the package's own user runs it."""


def programs() -> Path | None:
    """Folder of ``initdb`` and ``pg_ctl``; None where PostgreSQL is not installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


class Server:
    """Started and stopped at will.

    Args:
        folder: of its data and its socket.
        at: folder of its programs.
    """

    def __init__(self, folder: Path, at: Path) -> None:
        self.folder, self._at = folder, at
        self._user = USER if os.geteuid() == 0 else None
        self._run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "hilum", "-E", "UTF8", "--no-sync")

    def _run(self, program: str, *words: str) -> None:
        command = [str(self._at / program), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=self._user, cwd=self.folder, timeout=240)

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-l", log, "-o", options, "-w", "start")

    def stop(self) -> None:
        """Stop at once, as a pulled plug does."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    def url(self, database: str) -> str:
        """SQLAlchemy URL of one of its databases."""
        return f"postgresql+psycopg://hilum@/{database}?host={self.folder}"

    def fresh(self, database: str) -> str:
        """URL of a new, empty database."""
        self._run("createdb", "-h", str(self.folder), "-U", "hilum", database)
        return self.url(database)


@contextlib.contextmanager
def served(at: Path) -> Iterator[Server]:
    """A server that runs while the block does."""
    folder = Path(tempfile.mkdtemp(prefix="hilum-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, USER)
    try:
        server = Server(folder, at)
        server.start()
        try:
            yield server
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
