"""Encrypted files: AES-256-GCM in chunks, written and read with one chunk in memory.

Layout (version 1)::

    0   8  "HILUMENC"
    8   1  version, 1
    9   1  scheme, 1: AES-256-GCM, a key of its own for each file (HKDF-SHA256 of the data key and the salt)
    10  2  zero
    12  4  bytes of a plain chunk, big endian
    16  8  id of the data key
    24 16  salt, random
    40     chunks, each with its tag of 16 bytes after it; the last one may be shorter, or empty

Each chunk's nonce is seven zero bytes, its number (four bytes, big endian) and 1 for the last one, 0 for the others:
the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár, CRYPTO 2015). The header is associated data of every
chunk, and what the file is called (a film: the digest of its plain bytes) of the last one. So a cut, a repeated, an
exchanged or a changed chunk, a changed header, and a file under another file's name are all found.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from hilum.data_keys import NO_KEY, DataKey, Keyring
from hilum.errors import DataError

MAGIC = b"HILUMENC"
"""First bytes of an encrypted file; no DICOM, PNG or JPEG file begins so."""

HEADER = struct.Struct(">8sBBxxI8s16s")
HEADER_BYTES = HEADER.size
CHUNK_BYTES = 128 * 1024
"""Small enough that pieces lie in reused memory: of 1 MiB each would be mapped anew, and a film cost three times."""

TAG_BYTES = 16
LARGEST_CHUNK = 1 << 26
_VERSION, _SCHEME, _LAST_CHUNK = 1, 1, 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKey:
    """The key of one file: who has it can write or read that file, and nothing else. Its bytes are in no repr."""

    key_id: str
    """Id of the data key that it was derived from."""
    salt: bytes
    """16 random bytes, which the file's header holds."""
    raw: bytes = field(repr=False)
    """32 bytes."""


def new_file_key(key: DataKey) -> FileKey:
    """A key for a new file."""
    salt = os.urandom(16)
    return FileKey(key_id=key.id, salt=salt, raw=_derived(key, salt))


def sealed_bytes(plain_bytes: int) -> int:
    """How long the encrypted file of so many plain bytes is."""
    pieces = max(1, -(-plain_bytes // CHUNK_BYTES))
    return HEADER_BYTES + plain_bytes + pieces * TAG_BYTES


class Sealer:
    """Encrypts a file as its bytes come.

    Args:
        key: the file's own key, of :func:`new_file_key`.
        chunk_bytes: plain bytes of a chunk.
    """

    def __init__(self, key: FileKey, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._header = HEADER.pack(MAGIC, _VERSION, _SCHEME, chunk_bytes, bytes.fromhex(key.key_id), key.salt)
        self._gcm, self._chunk_bytes = _gcm(key.raw), chunk_bytes
        self._pending, self._number, self._begun = bytearray(), 0, False

    def update(self, plain: bytes | bytearray | memoryview) -> bytes:
        """Take plain bytes; gives what is to be written by now, which may be nothing."""
        self._pending += plain
        out = [] if self._begun else [self._header]
        self._begun = True
        # The last chunk is marked, so a full one is held back until more has come.
        while len(self._pending) > self._chunk_bytes:
            out.append(self._encrypt(bytes(self._pending[: self._chunk_bytes]), False, self._header))
            del self._pending[: self._chunk_bytes]
        return b"".join(out)

    def finish(self, name: str) -> bytes:
        """The rest of the file.

        Args:
            name: what the file will be called; :func:`chunks` wants the same.
        """
        start = self.update(b"")
        return start + self._encrypt(bytes(self._pending), True, self._header + name.encode())

    def _encrypt(self, plain: bytes, last: bool, associated: bytes) -> bytes:
        sealed: bytes = self._gcm.encrypt(_nonce(self._number, last), plain, associated)
        self._number += 1
        return sealed


def key_id_of(head: bytes) -> str:
    """Which data key a file is encrypted with, from its first :data:`HEADER_BYTES`; :data:`NO_KEY` for a plain one."""
    if len(head) < HEADER_BYTES or not head.startswith(MAGIC):
        return NO_KEY
    return bytes(HEADER.unpack(head[:HEADER_BYTES])[4]).hex()


def chunks(stream: BinaryIO, keys: Keyring, name: str) -> Iterator[bytes]:
    """The plain bytes of an encrypted file, chunk by chunk; it is known to be whole only when all have been taken.

    Args:
        stream: at the start of the file.
        keys: the ring.
        name: what the file is called.

    Raises:
        DataError: the key is not in the ring, or the file is cut, changed, or another's.
    """
    from cryptography.exceptions import InvalidTag

    header = stream.read(HEADER_BYTES)
    gcm, size = _opened(header, keys)
    number, held = 0, stream.read(size + TAG_BYTES)
    while True:
        following = stream.read(size + TAG_BYTES) if len(held) == size + TAG_BYTES else b""
        last = not following
        try:
            plain: bytes = gcm.decrypt(_nonce(number, last), held, header + name.encode() if last else header)
        except (InvalidTag, ValueError, OverflowError):
            raise DataError(
                "An encrypted file was cut, changed, or put in another's place. Restore it from a backup."
            ) from None
        yield plain
        if last:
            return
        number, held = number + 1, following


def _opened(header: bytes, keys: Keyring) -> tuple[Any, int]:
    if not key_id_of(header):
        raise DataError("An encrypted file's header is missing or damaged. Restore it from a backup.")
    _, version, scheme, size, key_id, salt = HEADER.unpack(header)
    if (version, scheme) != (_VERSION, _SCHEME) or not 0 < size <= LARGEST_CHUNK:
        raise DataError(
            f"An encrypted file is of version {version}, scheme {scheme}, which this version of hilum doesn't know, or "
            "its header is damaged. Use the version that wrote it, or restore it from a backup."
        )
    return _gcm(_derived(keys.key(key_id.hex()), salt)), size


def _derived(key: DataKey, salt: bytes) -> bytes:
    return key.derived("file/1", salt)


def _gcm(raw: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(raw)


def _nonce(number: int, last: bool) -> bytes:
    if number > _LAST_CHUNK:
        raise OverflowError
    return bytes(7) + number.to_bytes(4, "big") + bytes([last])
