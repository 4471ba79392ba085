"""Data keys: films and identifiers are encrypted with them where they lie, and found again by exact value.

A key of 256 bits is written as ``hdk1_`` and 48 characters of base64url: 32 random bytes and the first four of their
SHA-256, so that a key that was copied wrongly is refused by name and never used. The first key of a ring is the active
one: all that is new is encrypted with it. The others only read. From each key others are derived (HKDF-SHA256,
RFC 5869), one for each purpose, so no key serves two.
"""

import base64
import functools
import hashlib
import hmac
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.errors import DataError, UsageError
from hilum.files import sync_directory, write_secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV

PREFIX = "hdk1_"
"""What every written key begins with."""

KEY_BYTES, CHECK_BYTES = 32, 4
NONCE_BYTES = 12
"""Length of AES-GCM's nonce (NIST SP 800-38D section 5.2.1.1)."""

INDEX_DIGITS = 32
"""Hex digits of an index: 128 bits."""

NO_KEY = ""
"""What stands for the key of what is not encrypted."""

SEALED = "hds1."
"""First characters of a text that is kept encrypted; the key's id follows."""

CHANGED = "An encrypted value in the records was changed, or moved from another row. Restore them from a backup."

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKey:
    """One key. Its bytes never appear in a message or a repr."""

    raw: bytes = field(repr=False)
    """32 bytes."""

    @property
    def id(self) -> str:
        """16 hex digits that name the key and tell nothing of it."""
        return hashlib.sha256(b"hilum data key\0" + self.raw).hexdigest()[:16]

    @property
    def text(self) -> str:
        """The key as it is written into a file or the environment."""
        return PREFIX + base64.urlsafe_b64encode(self.raw + _check(self.raw)).decode()

    def derived(self, purpose: str, salt: bytes = b"", length: int = KEY_BYTES) -> bytes:
        """Bytes for one purpose (HKDF-SHA256)."""
        return _derived(self.raw, purpose, salt, length)


@functools.lru_cache(maxsize=64)
def _derived(raw: bytes, purpose: str, salt: bytes, length: int) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=length, salt=salt or None, info=b"hilum\0" + purpose.encode()).derive(raw)


def _check(raw: bytes) -> bytes:
    return hashlib.sha256(raw).digest()[:CHECK_BYTES]


def new_data_key() -> DataKey:
    """A key from the system's random numbers."""
    return DataKey(raw=os.urandom(KEY_BYTES))


class Keyring:
    """The active key and those that still read. An empty ring leaves everything readable, as it was without keys.

    Args:
        keys: the active one first.

    Raises:
        UsageError: a key is there twice.
    """

    def __init__(self, keys: Sequence[DataKey] = ()) -> None:
        self._keys = {key.id: key for key in keys}
        if len(self._keys) != len(keys):
            raise UsageError("A data key is given twice. Give each once, the active one first.")
        self.active = keys[0] if keys else None

    def __bool__(self) -> bool:
        return self.active is not None

    @property
    def active_id(self) -> str:
        """Id of the active key; :data:`NO_KEY` of an empty ring."""
        return self.active.id if self.active else NO_KEY

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all keys, the active one first."""
        return tuple(self._keys)

    @property
    def keys(self) -> tuple[DataKey, ...]:
        """All keys, the active one first."""
        return tuple(self._keys.values())

    def key(self, key_id: str) -> DataKey:
        """The key of an id.

        Raises:
            DataError: it is not in the ring.
        """
        known = self._keys.get(key_id)
        if known is None:
            given = f"given are {', '.join(self.ids)}" if self else "none is given"
            raise DataError(
                f"This is encrypted with the data key {key_id}, and {given}. Give that key in HILUM_DATA_KEY_FILE or "
                "HILUM_DATA_KEY; without it nobody can read this."
            )
        return known

    def index(self, kind: str, value: str) -> str:
        """What an exact value is found by: a keyed digest, which tells nothing to those without the key.

        Without a key it is a digest that anybody can compute: then the value itself lies there readable as well.

        Args:
            kind: what it is, such as ``patient``; equal values of two kinds have nothing in common.
            value: the value; spaces around it don't count (PS3.5 table 6.2-1).
        """
        secret = self.active.derived("index/1") if self.active else b""
        return hmac.digest(secret, f"{kind}\0{value.strip()}".encode(), "sha256").hex()[:INDEX_DIGITS]

    def seal_text(self, text: str, kind: str, *, exact: bool) -> str:
        """A text as it is kept: encrypted under the active key, or as it is where the ring is empty.

        Args:
            text: the text.
            kind: what it is; a text of one kind can't be opened as another.
            exact: equal texts become equal (AES-SIV, RFC 5297), so that they are found; else no two are alike.
        """
        if self.active is None:
            return f"{SEALED}.{text}" if text.startswith(SEALED) else text
        content, bound_to = text.encode(), kind.encode()
        sealed = _siv(self.active).encrypt(content, [bound_to]) if exact else self.seal(content, bound_to)
        return f"{SEALED}{self.active.id}.{base64.b64encode(sealed).decode()}"

    def open_text(self, stored: str, kind: str, *, exact: bool) -> str:
        """The text that :meth:`seal_text` keeps.

        Raises:
            DataError: the key is not in the ring, or the text was changed or is of another kind.
        """
        from cryptography.exceptions import InvalidTag

        if not stored.startswith(SEALED):
            return stored
        key_id, _, rest = stored.removeprefix(SEALED).partition(".")
        if not key_id:
            return rest
        key = self.key(key_id)
        try:
            sealed = base64.b64decode(rest, validate=True)
            plain = _siv(key).decrypt(sealed, [kind.encode()]) if exact else self.open(sealed, kind.encode(), key_id)
            return plain.decode()
        except (InvalidTag, ValueError):
            raise DataError(CHANGED) from None

    def seal(self, plain: bytes, bound_to: bytes) -> bytes:
        """Encrypt a small value (AES-256-GCM, a random nonce before it); as it is where the ring is empty.

        Args:
            plain: the value.
            bound_to: names its place: at another place it can't be opened.
        """
        if self.active is None:
            return plain
        nonce = os.urandom(NONCE_BYTES)
        return nonce + _gcm(self.active).encrypt(nonce, plain, bound_to)

    def open(self, sealed: bytes, bound_to: bytes, key_id: str) -> bytes:
        """The value that :meth:`seal` encrypted.

        Raises:
            DataError: the key is not in the ring, or the value was changed or belongs elsewhere.
        """
        from cryptography.exceptions import InvalidTag

        if key_id == NO_KEY:
            return sealed
        try:
            return _gcm(self.key(key_id)).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to)
        except (InvalidTag, ValueError):
            raise DataError(CHANGED) from None


def _gcm(key: DataKey) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key.derived("record/1"))


def _siv(key: DataKey) -> "AESSIV":
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    return AESSIV(key.derived("exact/1", length=2 * KEY_BYTES))


def read_data_key(text: str) -> DataKey:
    """A key from its text.

    Raises:
        UsageError: it is none, or was copied wrongly. The text is not repeated.
    """
    try:
        content = base64.b64decode(text.removeprefix(PREFIX).encode("ascii"), altchars=b"-_", validate=True)
    except ValueError:
        content = b""
    raw = content[:KEY_BYTES]
    if not text.startswith(PREFIX) or len(content) != KEY_BYTES + CHECK_BYTES or content[KEY_BYTES:] != _check(raw):
        raise UsageError(
            f"A data key is damaged or is none: it is {PREFIX} and 48 characters more. Copy it again from where it was "
            "made, or make one with hilum keys new-data-key."
        )
    return DataKey(raw=raw)


def read_keyring(text: str | None, path: Path | None) -> Keyring:
    """The keys that are given: as text (active first, separated by commas or spaces) or in a file (one a line).

    Args:
        text: of HILUM_DATA_KEY; None or empty when not given.
        path: of HILUM_DATA_KEY_FILE; lines that begin with ``#`` are remarks.

    Raises:
        UsageError: both are given, the file can't be read or others may read it, or a key is damaged.
    """
    if text and path:
        raise UsageError("Data keys are given twice. Set HILUM_DATA_KEY_FILE or HILUM_DATA_KEY, not both.")
    if path is not None:
        return Keyring([read_data_key(line) for line in _lines(path)])
    return Keyring([read_data_key(word) for word in (text or "").replace(",", " ").split()])


def _lines(path: Path) -> list[str]:
    try:
        mode, text = path.stat().st_mode, path.read_text()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise UsageError(f"The data keys in {path} can't be read ({reason}). Check HILUM_DATA_KEY_FILE.") from None
    if mode & _OTHERS:
        raise UsageError(f"{path} can be read by others than its owner. Make it private: chmod 600 {path}")
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise UsageError(f"There is no data key in {path}. Make one with hilum keys new-data-key.")
    return found


def create_key_file(path: Path) -> DataKey:
    """Make a file with one new key, private from its first byte on.

    Raises:
        UsageError: something is there already.
    """
    key = new_data_key()
    try:
        write_secret(path, f"{key.text}\n".encode())
    except FileExistsError:
        raise UsageError(f"{path} is there already, and a key is never overwritten. Choose another name.") from None
    return key


def put_first(path: Path, key: DataKey) -> None:
    """Make a key the active one of a file: it stands first, and the others stay below; whole or not at all."""
    read_keyring(None, path)
    old = path.read_bytes()
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    write_secret(fresh, f"{key.text}\n".encode() + old)
    os.replace(fresh, path)
    sync_directory(path.parent)
