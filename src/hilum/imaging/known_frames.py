"""Small frames of 12 bits in the transfer syntaxes that nothing here writes, to try a decoder with.

Written from ITU-T T.81 bit by bit; ``tests/imaging/test_known_frames.py`` writes them again.
"""

import base64
from dataclasses import dataclass

import numpy as np

from hilum.arrays import Array
from hilum.imaging.codecs import SampleFormat, decode_frame

BITS = 12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KnownFrame:
    """A frame, and what it decodes to."""

    codes: Array
    """uint16 [h, w], 0 … 4095."""
    content: bytes
    """The codestream."""

    def largest_difference(self, syntax: str) -> int:
        """How far the decoder of a syntax is from the right codes; 0 where it reads all of them.

        Raises:
            FilmError: it can't read the frame.
        """
        rows, columns = self.codes.shape
        form = SampleFormat(
            rows=rows,
            columns=columns,
            samples=1,
            allocated=16,
            stored=BITS,
            high_bit=BITS - 1,
            signed=False,
            photometric="MONOCHROME2",
            planar=False,
        )
        decoded = decode_frame(self.content, syntax, form).astype(np.int64)
        return int(np.abs(decoded - self.codes).max())


_BLOCKS: Array = np.kron(np.array([[0, 1365], [2730, 4095]]), np.ones((8, 8), int)).astype(np.uint16)
_RAMP: Array = (65 * np.arange(64).reshape(8, 8)).astype(np.uint16)

# By transfer syntax: extended (constant blocks, so exact), lossless with predictor 7, lossless with predictor 1.
KNOWN_FRAMES: dict[str, KnownFrame] = {
    "1.2.840.10008.1.2.4.51": KnownFrame(
        codes=_BLOCKS,
        content=base64.b64decode(
            "/9j/2wBDAAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQH/wQAL"
            "DAAQABABAREA/8QAIwAAAAAAEAAAAAAAAAAAAAAAAAECAwQFBgcICQoLDA0OD//EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEA"
            "AD8Ae/8A86qoOqqDqqh//9k="
        ),
    ),
    "1.2.840.10008.1.2.4.57": KnownFrame(
        codes=_RAMP,
        content=base64.b64decode(
            "/9j/wwALDAAIAAgBAREA/8QAJAAAAAAAEQAAAAAAAAAAAAAAAAECAwQFBgcICQoLDA0ODxD/2gAIAQEABwAAY/8Angngngngngng"
            "ngqghMlTJUyVMlTJUyVMlVBCZKmSpkqZKmSpkqZKqCEyVMlTJUyVMlTJUyVUEJkqZKmSpkqZKmSpkqoITJUyVMlTJUyVMlTJVQQm"
            "SpkqZKmSpkqZKmSqghMlTJUyVMlTJUyVMl//2Q=="
        ),
    ),
    "1.2.840.10008.1.2.4.70": KnownFrame(
        codes=_RAMP,
        content=base64.b64decode(
            "/9j/wwALDAAIAAgBAREA/8QAJAAAAAAAEQAAAAAAAAAAAAAAAAECAwQFBgcICQoLDA0ODxD/2gAIAQEAAQAAY/8Angngngngngng"
            "ngqgg8E8E8E8E8E8E8FUEHgngngngngngngqgg8E8E8E8E8E8E8FUEHgngngngngngngqgg8E8E8E8E8E8E8FUEHgngngngngngn"
            "gqgg8E8E8E8E8E8E8H//2Q=="
        ),
    ),
}
