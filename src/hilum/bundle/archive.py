"""The two forms of a bundle, a folder and a stored zip, as names, lengths and contents; no content is trusted here."""

import contextlib
import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hilum.bundle.members import AGAIN, MEMBERS_MEMBER, SIGNATURE_MEMBER, check_name
from hilum.errors import BundleError

SUFFIX = ".hilum"
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    OSError,
)
_LOCAL_HEADER, _CENTRAL_HEADER, _END_RECORD = 30, 46, 22
_EPOCH = (1980, 1, 1, 0, 0, 0)
_REPACKED = "Unpack it and use the folder, or make the bundle again."


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleLimits:
    """What a bundle may cost to read, checked before anything is read."""

    max_members: int = 64
    """Files in it."""
    max_member_bytes: int = 2**30
    """Bytes of one file."""
    max_total_bytes: int = 2**31 - 1
    """Bytes of all files together, and of the zip."""

    def check(self, sizes: Mapping[str, int]) -> None:
        """Refuse too many or too big members.

        Raises:
            BundleError: naming the member, where one is to blame.
        """
        if len(sizes) > self.max_members:
            raise BundleError(f"The bundle has more than the {self.max_members} members allowed. {AGAIN}")
        for name, size in sizes.items():
            if size > self.max_member_bytes:
                raise BundleError(
                    f"Bundle member {name!r} has {size:,} bytes, more than the {self.max_member_bytes:,} allowed. "
                    f"{AGAIN}"
                )
        if sum(sizes.values()) > self.max_total_bytes:
            raise BundleError(
                f"The bundle's members have {sum(sizes.values()):,} bytes together, more than the "
                f"{self.max_total_bytes:,} allowed. {AGAIN}"
            )


class Source(Protocol):
    """An open bundle, not yet verified."""

    sizes: Mapping[str, int]
    """Length of each member as its container states it."""

    def read(self, name: str) -> bytes:
        """Content of one member, never longer than stated."""


@contextlib.contextmanager
def open_source(path: Path, limits: BundleLimits) -> Iterator[Source]:
    """Open a folder or a zip.

    Raises:
        BundleError: not there, not a bundle, or a container that is not as :func:`zip_bytes` and folders are.
    """
    if path.is_dir():
        if not (path / MEMBERS_MEMBER).exists():
            mend = f"Name a bundle's folder or a {SUFFIX} file; hilum bundle create makes one of a run."
            raise BundleError(f"{path} is a folder without {MEMBERS_MEMBER}, so it is no bundle. {mend}")
        source: Source = _Folder(path, limits)
        yield source
    elif path.is_file():
        with open(path, "rb") as handle:
            yield _Zip(handle, path.name, limits)
    else:
        raise BundleError(f"{path} is neither a bundle's folder nor a {SUFFIX} file. Check the path.")


class _Folder:
    def __init__(self, path: Path, limits: BundleLimits) -> None:
        self.path = path
        self.sizes: Mapping[str, int] = dict(_walk(path, "", limits))
        limits.check(self.sizes)

    def read(self, name: str) -> bytes:
        # What was listed may have been swapped since: never through a link, never more than was listed.
        try:
            descriptor = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise BundleError(f"Bundle member {name!r} can't be read ({error.strerror}). {AGAIN}") from None
        with open(descriptor, "rb") as handle:
            return handle.read(self.sizes[name] + 1)


def _walk(folder: Path, prefix: str, limits: BundleLimits) -> Iterator[tuple[str, int]]:
    found = 0
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            name = prefix + entry.name
            check_name(name)
            found += 1
            if found > limits.max_members:
                raise BundleError(f"The bundle has more than the {limits.max_members} members allowed. {AGAIN}")
            if entry.is_symlink():
                raise BundleError(f"Bundle member {name!r} is a link, which a bundle never holds. {AGAIN}")
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), name + "/", limits)
            elif entry.is_file(follow_symlinks=False):
                yield name, entry.stat(follow_symlinks=False).st_size
            else:
                raise BundleError(f"Bundle member {name!r} is not a plain file. {AGAIN}")


class _Zip:
    def __init__(self, handle: io.BufferedReader, name: str, limits: BundleLimits) -> None:
        length = handle.seek(0, io.SEEK_END)
        if length > limits.max_total_bytes:
            raise BundleError(f"{name} has {length:,} bytes, more than the {limits.max_total_bytes:,} allowed. {AGAIN}")
        try:
            self.zip = zipfile.ZipFile(handle)
        except _ZIP_ERRORS as error:
            raise BundleError(f"{name} is damaged or no {SUFFIX} file ({error}). {AGAIN}") from None
        entries = self.zip.infolist()
        for entry in entries:
            _check_entry(entry)
        self.sizes: Mapping[str, int] = {entry.filename: entry.file_size for entry in entries}
        if len(self.sizes) != len(entries):
            names = [entry.filename for entry in entries]
            twice = next(one for one in names if names.count(one) > 1)
            raise BundleError(f"Bundle member {twice!r} is there twice. {AGAIN}")
        limits.check(self.sizes)
        _check_layout(self.zip, entries, length, name)

    def read(self, name: str) -> bytes:
        try:
            return self.zip.read(name)
        except _ZIP_ERRORS as error:
            raise BundleError(f"Bundle member {name!r} is damaged ({error}). {AGAIN}") from None


def _check_entry(entry: zipfile.ZipInfo) -> None:
    check_name(entry.filename)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise BundleError(f"Bundle member {entry.filename!r} is a link or no plain file. {AGAIN}")
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        # Stored only: nothing can unfold to more than the file itself has.
        raise BundleError(f"Bundle member {entry.filename!r} is compressed; bundles are stored plain. {_REPACKED}")


def _check_layout(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], length: int, name: str) -> None:
    """Members follow one another without gap, overlap or anything before, between and after."""
    at = 0
    for entry in sorted(entries, key=lambda one: one.header_offset):
        if entry.header_offset != at or entry.extra or entry.comment:
            raise BundleError(
                f"Bundle member {entry.filename!r} does not follow the one before it: bytes overlap or belong to "
                f"no member. {_REPACKED}"
            )
        at += _LOCAL_HEADER + len(entry.filename.encode()) + entry.file_size
    ending = sum(_CENTRAL_HEADER + len(entry.filename.encode()) for entry in entries) + _END_RECORD
    if archive.start_dir != at or at + ending != length or archive.comment:
        raise BundleError(f"{name} holds bytes that belong to no member. {_REPACKED}")


def zip_bytes(contents: Mapping[str, bytes]) -> bytes:
    """A stored zip that depends on the contents alone: fixed times, rights, order (list, signature, rest)."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents, key=lambda one: (one != MEMBERS_MEMBER, one != SIGNATURE_MEMBER, one)):
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, contents[name])
    return target.getvalue()
