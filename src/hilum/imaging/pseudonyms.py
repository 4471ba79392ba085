"""Pseudonyms by keyed HMAC: the same patient or UID gets the same pseudonym under one key, and none without it."""

import base64
import hashlib
import hmac
import re
import uuid

from hilum.errors import UsageError

LEAST_KEY_BYTES = 32
LETTERS = 15
LONGEST_SHIFT_DAYS = 3650


class Pseudonyms:
    """Pseudonyms under one key. The key never appears in a message or a repr.

    Args:
        key: at least 32 bytes that nobody can guess.

    Raises:
        UsageError: the key is too short or too plain.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < LEAST_KEY_BYTES or len(set(key)) < 8:
            raise UsageError(
                f"The key for pseudonyms has {len(key)} bytes with {len(set(key))} different values; 32 random bytes "
                "are needed. Make one: head -c 32 /dev/urandom > FILE; chmod 600 FILE"
            )
        self._key = key

    @property
    def key_id(self) -> str:
        """Eight hex digits that tell keys apart and give nothing of them away."""
        return self._digest("key", "")[:4].hex()

    def patient(self, identity: str) -> str:
        """``P`` and 15 letters and digits (75 bits)."""
        return "P" + base64.b32encode(self._digest("patient", identity)).decode()[:LETTERS]

    def uid(self, original: str) -> str:
        """A UID of PS3.5 B.2 from a UUID of version 8 (RFC 9562)."""
        digest = bytearray(self._digest("uid", original)[:16])
        digest[6] = digest[6] & 0x0F | 0x80
        digest[8] = digest[8] & 0x3F | 0x80
        return f"2.25.{uuid.UUID(bytes=bytes(digest)).int}"

    def days(self, identity: str) -> int:
        """How many days a patient's dates are moved back, 1 … 3,650."""
        return 1 + int.from_bytes(self._digest("days", identity)[:8], "big") % LONGEST_SHIFT_DAYS

    def _digest(self, kind: str, value: str) -> bytes:
        return hmac.new(self._key, f"{kind}\0{value}".encode(), hashlib.sha256).digest()


def is_pseudonym(patient_id: str) -> bool:
    """Whether a patient id has the form of :meth:`Pseudonyms.patient`."""
    return re.fullmatch(f"P[A-Z2-7]{{{LETTERS}}}", patient_id) is not None
