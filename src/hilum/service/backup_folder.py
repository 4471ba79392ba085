"""The folder that a backup or a restore is written into: locked meanwhile, so that what a killed one left is known.

Such remains hold films. Whoever writes the next one beside them removes them, and never one that is being written.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from hilum.files import replacing_directory, take_lock

LOCK = ".being-written"
"""Locked file in such a folder; it goes when the folder is whole and has its name."""


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Write a folder whole or not at all, readable by its owner alone; yields the folder to write into, locked."""
    lock = None
    try:
        with replacing_directory(path) as folder:
            lock = _born(folder)
            yield folder
        (path / LOCK).unlink(missing_ok=True)  # after the renaming: killed before it, the remains are still known
    finally:
        if lock is not None:
            os.close(lock)


def _born(folder: Path) -> int | None:
    """Lock a new folder; None where the file system has no locks, and nobody then takes it for remains."""
    while True:
        folder.mkdir(exist_ok=True)
        folder.chmod(0o700)  # without a data key its films lie readable, as in the service's folder, which is so, too
        try:
            descriptor = take_lock(folder / LOCK)
        except (BlockingIOError, FileNotFoundError):
            continue  # another one removes it, for remains, since it was not locked yet
        except OSError:
            (folder / LOCK).unlink(missing_ok=True)
            return None
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # removed in between


def remove_remains(path: Path) -> int:
    """Remove what killed backups and restores left beside a path; gives how many.

    Those of another user, which can't be removed, are left.
    """
    removed = 0
    for lock in sorted(path.parent.glob(f".*.part/{LOCK}")):
        with contextlib.suppress(OSError):  # it is being written, or is another user's
            descriptor = take_lock(lock)
            try:
                removed += _remove(lock)
            finally:
                os.close(descriptor)
    return removed


def _remove(lock: Path) -> bool:
    """Remove the folder of a lock; the lock last, so that whoever is killed here leaves remains that are known."""
    for path in lock.parent.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
    lock.unlink()
    lock.parent.rmdir()
    return True
