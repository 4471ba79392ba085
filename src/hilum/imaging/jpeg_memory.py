"""Whether a JPEG failed for want of memory: libjpeg ends the same way on damage and on an allocation that fails.

Between a progressive picture's scans libjpeg keeps each coefficient, 2 bytes a sample as it is stored (ITU-T T.81 Annex
G; jdcoefct.c), which is most of what it ever asks for.
"""

import numpy as np

BESIDE = 4 << 20
"""Bytes beside the coefficients: tables, and rows on their way."""


def ask_for_jpeg_memory(content: bytes) -> None:
    """Ask for as much memory as libjpeg needs for a picture, and give it back: for when decoding has failed.

    Args:
        content: a JPEG file, or a frame.

    Raises:
        MemoryError: there is not so much.
    """
    most = [np.empty(size, np.uint8) for size in (*_coefficients(content), BESIDE)]
    del most


def _coefficients(content: bytes) -> list[int]:
    """Bytes of each component's coefficients (T.81 A.1.1, B.2.2); none where one scan holds all, or with no header."""
    at = 2
    while content[at : at + 1] == b"\xff" and at + 10 <= len(content):
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xC2:
            break
        at += 1 if marker == 0xFF else 2 + length
    else:
        return []
    if content[at : at + 1] != b"\xff" or (marker != 0xC2 and content.count(b"\xff\xda") < 2):
        return []
    rows, columns = (int.from_bytes(content[at + first : at + first + 2], "big") for first in (5, 7))
    sampled = [(one >> 4, one & 15) for one in content[at + 11 : at + 10 + 3 * content[at + 9] : 3]]
    if not sampled or not all(1 <= one <= 4 for pair in sampled for one in pair):
        return []
    across, down = (max(one) for one in zip(*sampled, strict=True))
    units = -(-columns // (8 * across)) * -(-rows // (8 * down))
    return [units * h * v * 64 * 2 for h, v in sampled]
