"""A PostgreSQL cluster of a story's own: made by initdb in a folder, on a free port of loopback, with a password."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from hilum.demo.programs import beside, program, until
from hilum.errors import MissingExtra, ServiceError, UsageError

USER = "postgres"
"""PostgreSQL refuses to run as root; there its package's own user runs it."""

NAME = "hilum"
"""Of its user and its database."""


def programs() -> Path:
    """Folder of PostgreSQL's programs.

    Raises:
        UsageError: it is not installed.
        MissingExtra: its driver for Python is not.
    """
    if find_spec("psycopg") is None:
        raise MissingExtra("postgres", "hilum demo --clinic")
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)  # Debian keeps them off the PATH
    return program("initdb", package="postgresql", also=versions).resolve().parent


@contextlib.contextmanager
def cluster(folder: Path, port: int) -> Iterator[str]:
    """A cluster that runs while the block does.

    Args:
        folder: a new one is made there, below ``postgres``.
        port: of loopback.

    Yields:
        SQLAlchemy URL of its one database.

    Raises:
        UsageError: PostgreSQL is not installed, or its user can't reach the folder.
        ServiceError: it doesn't start.
    """
    at, user = programs(), USER if os.geteuid() == 0 else None
    own, password = folder / "postgres", secrets.token_hex(16)
    own.mkdir(mode=0o700)
    (own / "password").write_text(password)
    if user:
        _reachable(own)
        for path in (own, own / "password"):
            shutil.chown(path, user, user)
    made = [
        "-U",
        NAME,
        f"--pwfile={own / 'password'}",
        "--auth=scram-sha-256",
        "-E",
        "UTF8",
        "--no-locale",
        "--no-sync",
    ]
    _run([at / "initdb", "-D", own / "data", *made], own, user)
    settings = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    command: list[str | Path] = [at / "postgres", "-D", own.resolve() / "data", "-p", str(port), *settings]
    with beside("postgres", command, folder, ends_by=signal.SIGINT, user=user, cwd=own):
        address = ["-h", "127.0.0.1", "-p", str(port), "-U", NAME]
        ready = [str(at / "pg_isready"), "-q", *address]
        until(lambda: subprocess.run(ready, check=False).returncode == 0, "PostgreSQL is ready", within_s=60)
        _create_database(port, password)
        yield f"postgresql+psycopg://{NAME}:{password}@127.0.0.1:{port}/{NAME}"


def _reachable(own: Path) -> None:
    """Refuse a folder that PostgreSQL's user can't come to."""
    closed = [str(path) for path in own.resolve().parents if not path.stat().st_mode & 0o001]
    if closed:
        raise UsageError(
            f"PostgreSQL doesn't run as root, and its user {USER!r} can't enter {closed[-1]}. Give a folder that "
            "everybody may enter with --out, or run the story as another user than root."
        )


def _create_database(port: int, password: str) -> None:
    import psycopg

    where = {"host": "127.0.0.1", "port": port, "user": NAME, "password": password, "dbname": "postgres"}
    with psycopg.connect(**where, autocommit=True) as connection:  # type: ignore[arg-type]  # plain keywords
        connection.execute(f"CREATE DATABASE {NAME}")


def _run(command: list[str | Path], cwd: Path, user: str | None) -> None:
    rights = {"user": user, "group": user, "extra_groups": []} if user else {}
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        **rights,  # type: ignore[call-overload]  # the same keywords for both
    )
    if done.returncode:
        raise ServiceError(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
