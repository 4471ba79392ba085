"""The known frames are those that the by-hand writer writes, and each is read exactly."""

import numpy as np
import pytest
from tests.imaging.jpeg_by_hand import extended_jpeg, lossless_jpeg

from hilum.imaging.codecs import CODECS
from hilum.imaging.encoders import ENCODERS
from hilum.imaging.known_frames import KNOWN_FRAMES

WRITTEN = {
    "1.2.840.10008.1.2.4.51": lambda codes: extended_jpeg(codes, 12),
    "1.2.840.10008.1.2.4.57": lambda codes: lossless_jpeg(codes, 12, predictor=7),
    "1.2.840.10008.1.2.4.70": lambda codes: lossless_jpeg(codes, 12, predictor=1),
}


def test_each_syntax_is_either_written_or_known() -> None:
    written = {encoder.uid for encoder in ENCODERS.values()}
    assert set(KNOWN_FRAMES) == set(WRITTEN) == set(CODECS) - written


@pytest.mark.parametrize("syntax", KNOWN_FRAMES)
def test_a_known_frame_is_what_the_standard_says_and_is_read_exactly(syntax: str) -> None:
    known = KNOWN_FRAMES[syntax]
    assert known.content == WRITTEN[syntax](known.codes)
    assert (known.codes.min(), known.codes.max()) == (0, 4095)
    assert np.unique(known.codes).size > 3
    assert known.largest_difference(syntax) == 0
