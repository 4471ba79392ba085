"""A second opinion on compressed pixels: other software decodes the frame again, and a disagreement refuses the film.

GDCM has its own RLE and JPEG code and its own builds of CharLS and openjpeg behind another binding: it finds what goes
wrong in a decoder, a build or a binding (signs, shifts, planes, sizes), and not a fault that both builds of one library
share. It can't check itself: lossless JPEG and 12-bit JPEG have no second permissive decoder, and films in them carry
the flag ``one-decoder``. DCMTK checks those in ``tests/imaging/test_golden_vectors.py``.
"""

import numpy as np

from hilum.arrays import Array
from hilum.errors import FilmError
from hilum.imaging.codecs import CODECS, SampleFormat, by_gdcm, jpeg_precision

JPEG = "1.2.840.10008.1.2.4."

APART = {
    "1.2.840.10008.1.2.5": 0,
    JPEG + "50": 3,
    JPEG + "51": 3,
    JPEG + "80": 0,
    JPEG + "81": 0,
    JPEG + "90": 0,
    JPEG + "91": 1,
}
"""By how many codes the decoders may differ: inverse cosine transforms and wavelets in floating point round freely."""


def check_decoded(codes: Array, frame: bytes, syntax: str, form: SampleFormat) -> bool:
    """Decode a grey frame again and compare.

    Args:
        codes: what `hilum.imaging.codecs.decode_frame` gave.
        frame: the encoded frame.
        syntax: its transfer syntax UID.
        form: what the header says.

    Returns:
        True when the decoders agree; False when there is no second decoder for the frame, or it can't read it.

    Raises:
        FilmError: code "decoders-disagree".
    """
    if syntax not in APART or form.samples != 1 or (syntax == JPEG + "51" and jpeg_precision(frame) != 8):
        return False
    try:
        again = by_gdcm(frame, form, syntax)
    except MemoryError:
        raise
    except Exception:  # it raises whatever it likes; that it can't read a frame says nothing of the pixels
        return False
    mask = (1 << form.stored) - 1
    apart = np.abs((codes & mask).astype(np.int32) - (again.view(f"u{again.itemsize}") & mask))
    if form.signed:
        # −1 and 0 are neighbours, though their codes lie far apart.
        apart = np.minimum(apart, mask + 1 - apart)
    if int(apart.max()) > APART[syntax]:
        raise FilmError(
            f"Two decoders disagree about the {CODECS[syntax].name} pixel data: {np.count_nonzero(apart):,} of "
            f"{apart.size:,} pixels differ, by up to {int(apart.max()):,}. Which is right can't be told; send the film "
            "uncompressed.",
            code="decoders-disagree",
        )
    return True
