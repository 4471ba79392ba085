"""The folder that a backup or a restore is written into: whole or not at all, and locked meanwhile.

By the lock it is known what a killed one left. Such remains hold films: whoever writes the next one removes them, and
never those of one that is being written.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from hilum.errors import ServiceError
from hilum.files import replacing_directory, sync_directory, sync_tree, take_lock

LOCK = ".being-written"
"""Locked file in such a folder; it goes when the folder is whole and has its name."""

UNFINISHED = ".restore-unfinished"
"""Locked file in a folder that is filled where it is; while it lies there, the folder is nobody's to use."""


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Write a folder whole or not at all, readable by its owner alone; yields the folder to write into, locked.

    Args:
        path: the folder. It appears at once at the end, in the place of an empty one; an empty one that can't be
            replaced (a mount, or in a folder that isn't ours) is filled where it is, under a mark until it is whole.
    """
    if path.is_dir() and (path.is_mount() or not os.access(path.absolute().parent, os.W_OK | os.X_OK)):
        with _filled(path) as folder:
            yield folder
        return
    lock = None
    try:
        with replacing_directory(path) as folder:
            lock = _born(folder)
            yield folder
        (path / LOCK).unlink(missing_ok=True)  # after the renaming: killed before it, the remains are still known
    finally:
        if lock is not None:
            os.close(lock)


def require_finished(path: Path) -> None:
    """Refuse a folder that a restore was killed over.

    Raises:
        ServiceError: it is one, or it is being filled.
    """
    if (path / UNFINISHED).exists():
        raise ServiceError(f"{path} holds a part of a restore that did not end. Run hilum restore into it again.")


@contextlib.contextmanager
def _filled(path: Path) -> Iterator[Path]:
    mark = path / UNFINISHED
    lock = _locked(mark)
    try:
        with contextlib.suppress(PermissionError):  # of a mount that belongs to somebody else
            path.chmod(0o700)
        sync_directory(path)
        folder = path / f".{uuid.uuid4().hex}.part"
        folder.mkdir(mode=0o700)
        yield folder
        sync_tree(folder)
        for part in sorted(folder.iterdir()):
            part.rename(path / part.name)
        folder.rmdir()
        sync_directory(path)
        mark.unlink()
        sync_directory(path)
    except BaseException:
        _empty(path, mark)
        raise
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


def _locked(mark: Path) -> int | None:
    """Mark an empty folder; None where the file system has no locks."""
    try:
        return take_lock(mark)
    except BlockingIOError:
        raise ServiceError(f"{mark.parent} is being filled by another hilum restore. Wait for it.") from None
    except OSError:
        mark.touch(mode=0o600)
        return None


def remove_remains(path: Path) -> int:
    """Remove what killed backups and restores left beside a path, and a killed restore in it; gives how many.

    Those of another user, which can't be removed, are left.
    """
    removed = 0
    for lock in (*sorted(path.parent.glob(f".*.part/{LOCK}")), *path.glob(UNFINISHED)):
        with contextlib.suppress(OSError):  # it is being written, or is another user's
            descriptor = take_lock(lock)
            try:
                _empty(lock.parent, lock)
                if lock.name == LOCK:
                    lock.parent.rmdir()
                removed += 1
            finally:
                os.close(descriptor)
    return removed


def _empty(folder: Path, lock: Path) -> None:
    """Empty a folder; its lock goes last, so that whoever is killed here leaves remains that are known."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != lock:
            path.unlink()
    lock.unlink(missing_ok=True)
