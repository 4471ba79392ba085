"""A second opinion on compressed pixels: other software decodes the frame again, and a disagreement refuses the film.

GDCM has its own RLE and JPEG code and its own builds of CharLS and openjpeg behind another binding: it finds what goes
wrong in a decoder, a build or a binding (signs, shifts, planes, sizes), and not a fault that both builds of one library
share. Lossless and 12-bit JPEG, which it decodes itself, libjpeg-turbo decodes again; both took the lossless process
from one patch of libjpeg's. Colour films have no second decoder and carry the flag ``one-decoder``.
"""

import numpy as np

from hilum.arrays import Array
from hilum.errors import FilmError
from hilum.imaging.codecs import CODECS, SampleFormat, ask_for_memory, by_gdcm, by_libjpeg_turbo, jpeg_precision

JPEG = "1.2.840.10008.1.2.4."

APART = {
    "1.2.840.10008.1.2.5": 0,
    JPEG + "50": 3,
    JPEG + "51": 3,
    JPEG + "57": 0,
    JPEG + "70": 0,
    JPEG + "80": 0,
    JPEG + "81": 0,
    JPEG + "90": 0,
    JPEG + "91": 1,
}
"""By how many codes the decoders may differ: inverse cosine transforms and wavelets in floating point round freely."""

SEND = "Which is right can't be told; send the film uncompressed."
DISAGREE = "decoders-disagree"


def check_decoded(codes: Array, frame: bytes, syntax: str, form: SampleFormat) -> bool:
    """Decode a grey frame again and compare.

    Args:
        codes: what `hilum.imaging.codecs.decode_frame` gave.
        frame: the encoded frame.
        syntax: its transfer syntax UID.
        form: what the header says.

    Returns:
        True when the decoders agree; False when there is no second decoder for the frame, or it is not installed.

    Raises:
        FilmError: code "decoders-disagree"; also where the second can't read what the first did.
    """
    if form.samples != 1:
        return False
    name = CODECS[syntax].name
    try:
        again = _again(frame, syntax, form)
    except (MemoryError, ImportError) as error:
        if isinstance(error, MemoryError):
            raise
        return False
    except Exception as error:  # it raises whatever it likes
        ask_for_memory(form)
        raise FilmError(
            f"One of two decoders can't read the {name} pixel data that the other read. {SEND}", code=DISAGREE
        ) from error
    mask = (1 << form.stored) - 1
    apart = np.abs((codes & mask).astype(np.int32) - (again.view(f"u{again.itemsize}") & mask))
    if form.signed:
        # −1 and 0 are neighbours, though their codes lie far apart.
        apart = np.minimum(apart, mask + 1 - apart)
    if int(apart.max()) > APART[syntax]:
        raise FilmError(
            f"Two decoders disagree about the {name} pixel data: {np.count_nonzero(apart):,} of {apart.size:,} pixels "
            f"differ, by up to {int(apart.max()):,}. {SEND}",
            code=DISAGREE,
        )
    return True


def _again(frame: bytes, syntax: str, form: SampleFormat) -> Array:
    """The frame by the decoder that `hilum.imaging.codecs` doesn't take.

    Raises:
        ValueError: it is of another size.
    """
    by_gdcm_first = syntax in (JPEG + "57", JPEG + "70") or (syntax == JPEG + "51" and jpeg_precision(frame) != 8)
    again = by_libjpeg_turbo(frame) if by_gdcm_first else by_gdcm(frame, form, syntax)
    if again.shape != (form.rows, form.columns):
        raise ValueError(f"decoded to {again.shape}")
    return again
