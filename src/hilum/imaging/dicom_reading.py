"""Reading a film from DICOM bytes: structure first, then header, then pixels in the right order.

pydicom warns about much that films in the field get wrong (odd values, unknown encodings, missing groups). What matters
of it is checked here by ourselves and ends as an error or a flag, so its warnings are muted at this boundary.
"""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

import numpy as np

from hilum.arrays import Array, Pixels
from hilum.errors import FilmError, nearest
from hilum.imaging.codecs import CODECS, Frame, SampleFormat, check_codestream, decode_frame, native_samples
from hilum.imaging.colour import Grey, palette_to_rgb, rgb_to_grey, ycbcr_to_rgb
from hilum.imaging.dicom_facts import FACT_KEYWORDS, GREY, dicom_facts, text, value_of, whole
from hilum.imaging.dicom_structure import FLOAT_PIXEL_DATA, IMPLICIT, PIXEL_DATA, Structure, examine
from hilum.imaging.dicom_terms import PHOTOMETRIC_INTERPRETATIONS, is_registered
from hilum.imaging.grey_scale import film_order
from hilum.imaging.limits import Limits
from hilum.imaging.pixel_order import PixelOrder, present
from hilum.imaging.radiograph import FilmFacts
from hilum.imaging.second_decoder import check_decoded

T = TypeVar("T")

COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
LITTLE_ENDIAN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
"""Transfer syntaxes whose samples lie in the file as NumPy reads them."""
DICOMDIR = "1.2.840.10008.1.3.10"


def is_dicom(head: bytes | memoryview) -> bool:
    """True when the first 132 bytes are a preamble and the prefix DICM (PS3.10 section 7.1)."""
    return head[128:132] == b"DICM"


def read_dicom_facts(stream: BinaryIO, limits: Limits) -> FilmFacts:
    """Facts of a DICOM film; the pixels are skipped, not read.

    Raises:
        FilmError: see `hilum.imaging.reading.read_film`.
    """
    structure = examine(stream, limits)
    dataset = _at_the_boundary(lambda: _dataset(stream, pixels=False, keywords=FACT_KEYWORDS))
    return _at_the_boundary(lambda: dicom_facts(dataset, structure.transfer_syntax))


def read_dicom(
    content: bytes | memoryview, limits: Limits, *, second_decoder: bool = False
) -> tuple[Pixels, FilmFacts, tuple[str, ...]]:
    """Pixels, facts and flags of a DICOM film.

    Args:
        content: the file.
        limits: what it may cost.
        second_decoder: compressed pixels are decoded by other software too, and refused where the two disagree.

    Raises:
        FilmError: see `hilum.imaging.reading.read_film`.
    """
    structure = _readable(content, limits)
    in_place = _in_place(content, structure)
    dataset = _at_the_boundary(lambda: _elements(content, structure, in_place))
    return _at_the_boundary(lambda: _film(dataset, structure, limits, second_decoder, in_place))


def read_dicom_codes(content: bytes, limits: Limits) -> tuple[Array, PixelOrder, FilmFacts] | None:
    """A grey film's codes before any look-up, how they become presentation values, and its facts.

    Returns:
        ``None`` for a film in colours, which has no such order.

    Raises:
        FilmError: see `hilum.imaging.reading.read_film`.
    """
    structure = _readable(content, limits)

    def read() -> tuple[Array, PixelOrder, FilmFacts] | None:
        in_place = _in_place(content, structure)
        dataset = _elements(content, structure, in_place)
        form = sample_format(dataset, structure, limits)
        if form.photometric not in GREY:
            return None
        facts = dicom_facts(dataset, structure.transfer_syntax)
        return _aligned(_codes(dataset, structure, form, in_place), form), film_order(dataset, form, []), facts

    return _at_the_boundary(read)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedFilm:
    """A grey film whose frame is checked, but not decoded."""

    frame: Frame
    """The only frame, where it lies in the file, or its fragments joined; it agrees with the header about its size."""
    syntax: str
    """Transfer syntax UID."""
    form: SampleFormat
    """The Image Pixel module."""
    order: PixelOrder
    """How codes become presentation values."""
    facts: FilmFacts
    """What the header says."""
    flags: tuple[str, ...]
    """What `hilum.imaging.reading.read_film` would raise, a second decoder's left out."""


def encoded_film(content: bytes | memoryview, limits: Limits, syntaxes: tuple[str, ...]) -> EncodedFilm | None:
    """A grey film before its frame is decoded.

    Returns:
        ``None`` when the film is in none of the transfer syntaxes, or in colours.

    Raises:
        FilmError: see `hilum.imaging.reading.read_film`.
    """
    structure = examine(content, limits)
    if structure.transfer_syntax not in syntaxes:
        return None

    def read() -> EncodedFilm | None:
        in_place = _in_place(content, structure)
        dataset = _elements(content, structure, in_place)
        form = sample_format(dataset, structure, limits)
        if form.photometric not in GREY:
            return None
        facts = dicom_facts(dataset, structure.transfer_syntax)
        frame = _frame(dataset, structure, in_place)
        check_codestream(frame, structure.transfer_syntax, form)
        flags = _frame_flags(dataset)
        order = film_order(dataset, form, flags)
        return EncodedFilm(
            frame=frame, syntax=structure.transfer_syntax, form=form, order=order, facts=facts, flags=tuple(flags)
        )

    return _at_the_boundary(read)


def _readable(content: bytes | memoryview, limits: Limits) -> Structure:
    structure = examine(content, limits)
    if structure.transfer_syntax not in CODECS:
        known = ", ".join(codec.name for codec in CODECS.values())
        raise FilmError(
            f"Transfer syntax {_named(structure.transfer_syntax)} can't be read. "
            f"Have the film sent or converted in one of these: {known}.",
            code="unsupported-syntax",
        )
    return structure


def _named(syntax: str) -> str:
    """A transfer syntax with its name in PS3.6; one that has none isn't quoted, since it may be any text."""
    from pydicom.uid import UID

    return f"{syntax!r} ({UID(syntax).name})" if is_registered(syntax) else "(0002,0010), which PS3.6 doesn't list,"


def _at_the_boundary(step: Callable[[], T]) -> T:
    """Run a step of pydicom's with its warnings muted and its exceptions mapped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return step()
        except (FilmError, MemoryError):
            raise
        except Exception as error:  # pydicom raises a dozen kinds on damaged files, RecursionError among them
            raise FilmError(
                f"The DICOM file is damaged and can't be read ({type(error).__name__}). Send it again.",
                code="unreadable",
            ) from error


def _dataset(stream: BinaryIO, *, pixels: bool, keywords: tuple[str, ...] = ()) -> Any:
    from pydicom import dcmread

    stream.seek(0)
    # A deflated data set can't be read in part, so pydicom inflates it whole; `examine` has bounded it.
    return dcmread(stream, stop_before_pixels=not pixels, specific_tags=list(keywords) or None)


def _elements(content: bytes | memoryview, structure: Structure, in_place: memoryview | None) -> Any:
    """The data set, without pixels that are taken from where they lie."""
    if in_place is None:
        return _dataset(io.BytesIO(content), pixels=True)
    from pydicom.filereader import read_dataset

    # The walk has read the file meta information, and knows where to stop: half of what `dcmread` takes.
    header = io.BytesIO(content[structure.header_at : structure.header_end])
    return read_dataset(header, structure.transfer_syntax == IMPLICIT, True)


def _in_place(content: bytes | memoryview, structure: Structure) -> memoryview | None:
    """Pixels where they lie in the file, not copied: native samples, or the only fragment of encoded ones.

    Returns:
        ``None`` where they have to be unpacked, swapped or joined.
    """
    syntax = structure.transfer_syntax
    encoded = syntax in CODECS and CODECS[syntax].decode is not None
    as_needed = structure.fragments == 1 if encoded else syntax in LITTLE_ENDIAN and not structure.fragments
    if structure.pixels_at is None or structure.pixels != PIXEL_DATA or not as_needed:
        return None
    return memoryview(content)[structure.pixels_at : structure.pixels_end]


def _film(
    dataset: Any, structure: Structure, limits: Limits, second_decoder: bool, in_place: memoryview | None
) -> tuple[Pixels, FilmFacts, tuple[str, ...]]:
    form = sample_format(dataset, structure, limits)
    facts = dicom_facts(dataset, structure.transfer_syntax)
    codes = _codes(dataset, structure, form, in_place)
    flags = _frame_flags(dataset)
    checked = not (second_decoder and structure.fragments) or check_decoded(
        codes, bytes(_frame(dataset, structure, in_place)), structure.transfer_syntax, form
    )
    if not checked:
        flags.append("one-decoder")
    if form.photometric in GREY:
        order = film_order(dataset, form, flags)
        # Native samples lie in the file's bytes, which can't be written over; decoded ones are ours.
        return present(_aligned(codes, form), order, in_place=True), facts, tuple(flags)
    grey = _colour_to_grey(dataset, codes, form, structure.transfer_syntax)
    if grey.share_coloured > 0 and not grey.colour:
        flags.append("some-colour")
    from dataclasses import replace

    return grey.pixels, replace(facts, colour=grey.colour), tuple(flags)


def _frame_flags(dataset: Any) -> list[str]:
    return ["several-frames"] if "NumberOfFrames" in dataset else []


def sample_format(dataset: Any, structure: Structure, limits: Limits) -> SampleFormat:
    """The Image Pixel module, checked against the limits before anything is decoded.

    Raises:
        FilmError: code "no-pixels", "unreadable" or "too-large".
    """
    if structure.pixels is None:
        kind = "a directory of films" if text(dataset.file_meta, "MediaStorageSOPClassUID") == DICOMDIR else "no pixels"
        raise FilmError(
            f"The DICOM file holds {kind}, so there is nothing to look at. Send the film itself.", code="no-pixels"
        )
    if structure.pixels in FLOAT_PIXEL_DATA:
        raise FilmError("The pixels are floating-point numbers; a film holds whole ones.", code="unreadable")
    numbers = {key: whole(dataset, key) for key in ("Rows", "Columns", "BitsAllocated", "BitsStored")}
    missing = [key for key, value in numbers.items() if value is None]
    photometric = text(dataset, "PhotometricInterpretation")
    if missing or not photometric:
        names = ", ".join([*missing, *([] if photometric else ["PhotometricInterpretation"])])
        raise FilmError(f"The header lacks {names}, without which pixels mean nothing.", code="unreadable")
    rows, columns, allocated, stored = (int(value or 0) for value in numbers.values())
    frames = _given(dataset, "NumberOfFrames", 1)
    samples = _given(dataset, "SamplesPerPixel", 1)
    _check_bits(allocated, stored, samples, photometric.upper())
    limits.check_pixels(rows, columns, frames, samples * allocated // 8)
    if frames != 1:
        raise FilmError(
            f"The file holds {frames} frames, but a radiograph has one. Send the frames as films of their own.",
            code="not-an-image",
        )
    return SampleFormat(
        rows=rows,
        columns=columns,
        samples=samples,
        allocated=allocated,
        stored=stored,
        high_bit=_given(dataset, "HighBit", stored - 1),
        signed=_given(dataset, "PixelRepresentation", 0) == 1,
        photometric=photometric.upper(),
        planar=_given(dataset, "PlanarConfiguration", 0) == 1,
    )


def _given(dataset: Any, keyword: str, default: int) -> int:
    """A whole number, or the default where the element is absent or empty; nonsense counts as −1 and is refused."""
    value = whole(dataset, keyword)
    if value is None:
        return default if value_of(dataset, keyword) in (None, "") else -1
    return value


def _check_bits(allocated: int, stored: int, samples: int, photometric: str) -> None:
    if allocated not in (8, 16) or not 1 <= stored <= allocated:
        raise FilmError(
            f"Bits Stored is {stored} of {allocated} allocated; 1 to 8 of 8 and 1 to 16 of 16 can be read. "
            "Export the film again.",
            code="unreadable",
        )
    if photometric not in (*GREY, *COLOURS):
        told = repr(photometric) if photometric in PHOTOMETRIC_INTERPRETATIONS else "(0028,0004), no term of DICOM's,"
        raise FilmError(
            f"Photometric Interpretation {told} can't be read. {nearest(photometric, [*GREY, *COLOURS])}",
            code="unreadable",
        )
    expected = 1 if photometric in (*GREY, "PALETTE COLOR") else 3
    if samples != expected:
        raise FilmError(f"Samples per Pixel is {samples}, but {photometric} has {expected}.", code="unreadable")


def _codes(dataset: Any, structure: Structure, form: SampleFormat, in_place: memoryview | None) -> Array:
    syntax = structure.transfer_syntax
    if CODECS[syntax].decode is None:
        if in_place is not None:
            return native_samples(in_place, form, big_endian=False, words=False)
        element = dataset["PixelData"]
        big_endian = syntax == "1.2.840.10008.1.2.2"
        return native_samples(element.value, form, big_endian=big_endian, words=element.VR == "OW")
    return decode_frame(_frame(dataset, structure, in_place), syntax, form)


def _frame(dataset: Any, structure: Structure, in_place: memoryview | None) -> Frame:
    """The only frame, its fragments joined."""
    if in_place is not None:
        return in_place
    if structure.fragments == 0:
        raise FilmError("The compressed pixel data hold no fragment.", code="no-pixels")
    from pydicom.encaps import get_frame

    frame: bytes = get_frame(dataset["PixelData"].value, 0, number_of_frames=1)
    return frame


def _aligned(codes: Array, form: SampleFormat) -> Array:
    """Shift samples down when High Bit lies above Bits Stored − 1, as old devices have it."""
    shift = form.high_bit + 1 - form.stored
    if not 0 <= shift <= 16 - form.stored:
        raise FilmError(
            f"High Bit is {form.high_bit} with {form.stored} bits stored, which can't be.", code="unreadable"
        )
    return codes >> shift if shift else codes


def _colour_to_grey(dataset: Any, codes: Array, form: SampleFormat, syntax: str) -> Grey:
    if form.photometric == "PALETTE COLOR":
        return rgb_to_grey(palette_to_rgb(dataset, codes), bits=8)
    # JPEG decoders (not JPEG-LS) hand RGB over, whatever the codestream was made from; the others hand over samples.
    decoded_to_rgb = syntax in ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
    if form.photometric in ("YBR_FULL", "YBR_FULL_422") and not decoded_to_rgb:
        codes = ycbcr_to_rgb(codes, bits=form.stored)
    return rgb_to_grey(np.ascontiguousarray(codes), bits=form.stored)
