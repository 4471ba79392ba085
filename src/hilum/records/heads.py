"""Signed heads of the audit, outside the database: what lets a cut end and a chain computed anew be found.

One JSON object a line: place and hash of the chain's last row, when it was signed, by whose key, and the Ed25519
signature. The file only grows. Copy it, or its last line, to where those who can write the database can't.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hilum.errors import DataError, UsageError
from hilum.files import append_durably, drop_broken_line
from hilum.keys import PrivateKey, PublicKey, public_path_of
from hilum.records.audit import Tip, canonical

NAME, KEY_NAME, PUBLIC_KEYS = "audit-heads.jsonl", "audit.key", "audit*.pub"
"""In the service's folder, where no setting names another place: the heads, the key that signs them, and its public
half with those from before a restore."""

PURPOSE = b"hilum audit head v1\n"
"""Comes before what is signed, so that a signature for another purpose is none here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A signed end of the chain."""

    tip: Tip
    """Place and hash of the last row."""
    at: str
    """When it was signed (UTC)."""
    key: str
    """Id of the key that signed."""


class HeadBook:
    """Writes heads.

    Args:
        path: the file; made when absent.
        key: signs.
    """

    def __init__(self, path: Path, key: PrivateKey) -> None:
        self.path, self._key = Path(path), key
        self._last = 0
        drop_broken_line(self.path)

    def sign(self, tip: Tip, at: datetime) -> bool:
        """Write a head durably, unless the chain has not grown since the last one.

        Returns:
            True when one was written.

        Raises:
            OSError: the file can't be written.
        """
        if tip.seq <= self._last:
            return False
        stamp = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        signed = _signed(tip, stamp)
        line = canonical(
            {
                "at": stamp,
                "hash": tip.hash,
                "key": self._key.public.id,
                "seq": tip.seq,
                "signature": base64.b64encode(self._key.sign(signed)).decode(),
            }
        )
        append_durably(self.path, line.encode() + b"\n")
        self._last = tip.seq
        return True


def public_keys(data: Path, key: Path | None = None) -> tuple[Path, ...]:
    """Files of the public keys whose signatures count for a service, the one in use and those from before a restore.

    Args:
        data: the service's folder.
        key: its private key, where that lies elsewhere.
    """
    found = set(data.glob(PUBLIC_KEYS))
    if key is not None:
        own = public_path_of(key)
        found |= {*key.parent.glob(PUBLIC_KEYS), *((own,) if own.exists() else ())}
    return tuple(sorted(found))


def read_heads(path: Path, keys: Sequence[PublicKey]) -> tuple[Head, ...]:
    """Read the heads and check every signature.

    Args:
        path: the file, or a copy.
        keys: whose signatures count.

    Raises:
        UsageError: the file can't be read, or there is no key at all.
        DataError: a line is damaged, or none of the keys signed it.
    """
    try:
        lines = Path(path).read_bytes().splitlines(keepends=True)
    except OSError as error:
        name = Path(path).name  # the page of the audit shows this, and where the service keeps it is nobody's business
        raise UsageError(f"The heads {name} can't be read ({error.strerror}). Give them with --heads.") from None
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()  # broken off by a crash while it was written, and so never relied on
    return tuple(_head(line, f"{Path(path).name}, line {number}", keys) for number, line in enumerate(lines, 1))


def _head(line: bytes, where: str, keys: Sequence[PublicKey]) -> Head:
    try:
        said = json.loads(line)
        tip = Tip(seq=said["seq"], hash=said["hash"])
        signature, stamp, key = base64.b64decode(said["signature"], validate=True), said["at"], said["key"]
        signed = _signed(tip, stamp)
        whole = isinstance(tip.seq, int) and isinstance(tip.hash, str) and isinstance(key, str)
    except (ValueError, KeyError, TypeError, UsageError, binascii.Error, RecursionError):
        whole = False
    if not whole:
        raise DataError(f"{where} is no signed head. The file was damaged or changed; use an earlier copy.")
    if not any(one.verifies(signature, signed) for one in keys):
        if not keys:
            raise UsageError(
                f"{where} is signed, and no public key is here to check it with. Give the service's audit.key.pub "
                "with --key, and each audit-*.pub from before a restore."
            )
        known = ", ".join(one.id for one in keys)
        if any(one.id == key for one in keys):
            raise DataError(
                f"{where} doesn't fit its signature, whose key {key} is given: it was changed after it was signed. "
                "Use an earlier copy of the heads."
            )
        raise DataError(
            f"{where} was signed by none of the keys given ({known}). It names the key {key[:64]}: give that one's "
            "file with --key, too (after a restore there are several, audit-*.pub); where you have none, it was forged."
        )
    return Head(tip=tip, at=stamp, key=key)


def _signed(tip: Tip, stamp: str) -> bytes:
    return PURPOSE + canonical({"at": stamp, "hash": tip.hash, "seq": tip.seq}).encode()
