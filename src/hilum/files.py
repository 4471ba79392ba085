"""Atomic files: after a crash or a full disk there is the old artefact or the new one, never half of one."""

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def sync_directory(folder: Path) -> None:
    """Make renames inside a folder durable (fsync of the directory)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def home() -> Path:
    """The user's home; for a user that has no entry, as a container's may have none, a folder that is not there."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/nonexistent")


@contextlib.contextmanager
def replacing(
    path: Path, *, under: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
) -> Iterator[Path]:
    """Write a file whole or not at all.

    Yields a temporary path beside ``path``. When the block ends well the temporary file is synced and renamed over
    ``path``, and the folder is synced; when it raises, the temporary file is removed and ``path`` is as it was.

    Args:
        path: the file.
        under: what is entered for the renaming alone, such as a lock; when it raises, ``path`` is as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: some writers choose the format by it.
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.part{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        with under():
            os.replace(temporary, path)
            sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_directory(path: Path) -> Iterator[Path]:
    """Write a folder whole or not at all; an existing one is moved aside, replaced, and removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    temporary.mkdir()
    old = path.with_name(f".{path.name}.{uuid.uuid4().hex}.old")
    try:
        yield temporary
        sync_tree(temporary)
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
        sync_directory(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def take_lock(path: Path) -> int:
    """Lock a file that stands for something one process may have; the kernel gives it back however this one ends.

    Returns:
        a descriptor; closing it gives the lock back.

    Raises:
        BlockingIOError: another process has it.
        OSError: the file can't be made or opened.
    """
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def sync_tree(folder: Path) -> None:
    """Sync every file below a folder, and the folders."""
    for root, _, names in os.walk(folder):
        for name in names:
            with open(Path(root) / name, "rb") as handle:
                os.fsync(handle.fileno())
        sync_directory(Path(root))


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically and durably."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, private from its first byte on, never over another, and durable.

    Raises:
        FileExistsError: something is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    sync_directory(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically and durably."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON (indented, in the given order, no NaN) atomically and durably."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def append_durably(path: Path, lines: bytes) -> None:
    """Add whole lines to a file that only grows, durably; the file is made when absent, for its owner alone.

    Args:
        path: the file.
        lines: what is added; it ends with a newline.

    Raises:
        OSError: the file can't be written.
    """
    fresh = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, lines)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if fresh:
        sync_directory(path.parent)


def drop_broken_line(path: Path) -> None:
    """Take away a last line that a crash broke off; the next one would be joined to it."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
