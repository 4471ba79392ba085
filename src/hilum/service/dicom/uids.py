"""UIDs of what is sent back: derived, so that the same answer sent again is the same object."""

import hashlib

FORMAT = "1"
"""Part of every UID. To be raised when objects of the same answer would get other bytes: a PACS may then hold both, and
never two contents under one UID."""


def derived_uid(kind: str, *parts: str) -> str:
    """A UID of PS3.5 B.2, ``2.25.`` and a UUID as a decimal number; the UUID (version 8 of RFC 9562) comes from a hash.

    Args:
        kind: what it names, such as ``report``.
        parts: what it is derived from, in order.
    """
    digest = bytearray(hashlib.sha256("\0".join((FORMAT, kind, *parts)).encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return f"2.25.{int.from_bytes(digest, 'big')}"
