"""Every file of pydicom's own test data that ships with it is read, or refused in a clear sentence.

The verdicts stand below, one by one; a file that a newer pydicom brings fails until it has been looked at.
"""

import warnings
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest

from hilum.errors import FilmError
from hilum.imaging.reading import read_film

FOLDER = Path(pydicom.data.__file__).parent
NO_FILM = (".py", ".pyc", ".json", ".txt", ".csv")

# Pattern, code of the refusal, and part of its sentence. Everything else is read.
REFUSED = [
    ("*/ExplVR_*NoMeta.dcm", "not-an-image", "neither DICOM"),  # no preamble: nothing says how to read them
    ("*/no_meta.dcm", "not-an-image", "neither DICOM"),
    ("*/rtstruct.dcm", "not-an-image", "neither DICOM"),
    ("*.dump", "not-an-image", "neither DICOM"),
    ("*.icc", "not-an-image", "neither DICOM"),
    ("*.gz", "not-an-image", "neither DICOM"),
    ("*README*", "not-an-image", "neither DICOM"),
    ("*/SC_rgb_rle_2frame.dcm", "not-an-image", "2 frames"),
    ("*/SC_rgb_rle_16bit_2frame.dcm", "not-an-image", "2 frames"),
    ("*/examples_ybr_color.dcm", "not-an-image", "30 frames"),
    ("*/SC_rgb_rle_32bit*.dcm", "unreadable", "Bits Stored is 32 of 32"),
    ("*/rtdose*.dcm", "unreadable", "Bits Stored is 32 of 32"),
    ("*/badVR.dcm", "unreadable", "Bits Stored is 32 of 32"),
    ("*/liver_*1frame.dcm", "unreadable", "Bits Stored is 1 of 1"),
    ("*/meta_missing_tsyntax.dcm", "unreadable", "Transfer Syntax UID (0002,0010) is missing"),
    ("*/nested_priv_SQ.dcm", "unreadable", "lacks Rows, Columns"),
    # A sequence delimiter was written over the codestream's own size.
    ("*/JPEG2000-embedded-sequence-delimiter.dcm", "unreadable", "but the header says 1024 × 256"),
    ("*/MR_truncated.dcm", "truncated", "truncated"),
    ("*/rtplan_truncated.dcm", "truncated", "truncated"),
    ("*/DICOMDIR-nooffset", "truncated", "truncated"),
    ("*/DICOMDIR*", "no-pixels", "directory of films"),
    ("*/TINY_ALPHA/*", "no-pixels", "no pixels"),
    ("palettes/*.dcm", "no-pixels", "no pixels"),
    *(
        (f"*/{name}.dcm", "no-pixels", "no pixels")
        for name in (
            "chrJapMulti", "chrJapMultiExplicitIR6", "chrKoreanMulti", "chrSQEncoding", "chrSQEncoding1",
            "UN_sequence", "empty_charset_LEI", "no_meta_group_length", "priv_SQ", "reportsi",
            "reportsi_with_empty_number_tags", "rtplan", "test-SR", "waveform_ecg",
        )
    ),
]  # fmt: skip


def verdict(name):
    return next(((code, part) for pattern, code, part in REFUSED if fnmatch(name, pattern)), None)


def files():
    found = sorted(path for path in FOLDER.rglob("*") if path.is_file() and path.suffix not in NO_FILM)
    return [(path.relative_to(FOLDER).as_posix(), path) for path in found]


def test_each_file_has_its_verdict():
    """Read with both decoders, which agree on all of them, or refused by code and sentence."""
    read, wrong = 0, []
    for name, path in files():
        expected = verdict(name)
        try:
            read_film(path, second_decoder=True)
            read += 1
            if expected is not None:
                wrong.append(f"{name} was read, not refused as {expected[0]}")
        except FilmError as error:
            sentence = str(error)
            if expected is None or error.code != expected[0] or expected[1] not in sentence:
                wrong.append(f"{name} was refused: {error.code}: {sentence}")
            if not (sentence[0].isupper() and sentence.endswith(".") and len(sentence) < 500):
                wrong.append(f"{name} was refused in no sentence: {sentence!r}")
    assert not wrong, "\n".join(wrong)
    assert read == 89


def test_every_verdict_is_about_a_file():
    """No pattern is left over from a file that is gone."""
    names = [name for name, _ in files()]
    assert [pattern for pattern, _, _ in REFUSED if not any(fnmatch(name, pattern) for name in names)] == []


# Grey files that pydicom can decode with what is installed here, whose greys rise with their stored values.
SECOND_OPINION = [
    "CT_small", "ExplVR_BigEnd", "JPEGLSNearLossless_08", "JPEG2000", "MR_small", "MR_small_expb", "MR_small_RLE",
    "examples_overlay",
]  # fmt: skip


@pytest.mark.parametrize("name", SECOND_OPINION)
def test_greys_rise_with_pydicoms_values(name):
    """The order of pydicom's own stored values is the order of our greys."""
    path = FOLDER / "test_files" / f"{name}.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what these files get wrong
        dataset = pydicom.dcmread(path)
        theirs = dataset.pixel_array.astype(np.int64)
    ours = read_film(path).pixels.astype(np.int64)
    if theirs.ndim == 3:
        theirs = (theirs @ np.array([299, 587, 114]) + 500) // 1000
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        ours = 65535 - ours
    order = np.argsort(theirs.ravel(), kind="stable")
    assert np.all(np.diff(ours.ravel()[order]) >= 0)
