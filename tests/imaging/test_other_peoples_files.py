"""Every file of pydicom's own test data is read with pydicom's values, or refused in a clear sentence.

The verdicts stand below, one by one; a file that a newer pydicom brings fails until it has been looked at.
"""

import warnings
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom.pixels import apply_color_lut, pixel_array

from hilum.errors import FilmError
from hilum.imaging.dicom_reading import read_dicom_codes
from hilum.imaging.limits import Limits
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


# The same of pydicom-data, the larger files.
MORE_REFUSED = [
    ("*/OT-PAL-8-face.dcm", "not-an-image", "neither DICOM"),
    ("*/SC_rgb*32bit*.dcm", "unreadable", "Bits Stored is 32 of 32"),
    ("*_2frame.dcm", "not-an-image", "2 frames"),
    ("*/color3d_jpeg_baseline.dcm", "not-an-image", "120 frames"),
    ("*/eCT_Supplemental.dcm", "not-an-image", "2 frames"),
    ("*/emri_small_jpeg_2k_lossless_too_short.dcm", "truncated", "truncated"),
    ("*/emri_small*.dcm", "not-an-image", "10 frames"),
    ("*/gdcm-US-ALOKA-16*.dcm", "unreadable", "palette is missing or segmented"),
    ("*/liver*.dcm", "unreadable", "Bits Stored is 1 of 1"),
]  # fmt: skip


def verdict(name, refused):
    return next(((code, part) for pattern, code, part in refused if fnmatch(name, pattern)), None)


def files_in(folder):
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in NO_FILM)
    return [(path.relative_to(folder).as_posix(), path) for path in found]


@pytest.fixture(params=["pydicom", "pydicom-data"])
def source(request, need):
    """Files, refusals, and how many are read: of pydicom's wheel, and of the package beside it."""
    if request.param == "pydicom":
        return files_in(FOLDER), REFUSED, 89
    spec = find_spec("data_store")
    need(spec, "pydicom-data (make install)")
    return files_in(Path(next(iter(spec.submodule_search_locations)))), MORE_REFUSED, 44


def test_each_file_has_its_verdict(source):
    """Read with both decoders, which agree on all of them, or refused by code and sentence."""
    files, refused, count = source
    read, wrong = 0, []
    for name, path in files:
        expected = verdict(name, refused)
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
    assert read == count


def test_every_verdict_is_about_a_file(source):
    """No pattern is left over from a file that is gone."""
    files, refused, _ = source
    assert [one for one, _, _ in refused if not any(fnmatch(name, one) for name, _ in files)] == []


NOT_BY_PYDICOM = ("JPEG-lossy.dcm", "JPGExtended.dcm")
"""12-bit JPEG, which pydicom decodes with nothing that is installed here."""
AS_ANOTHER = {"OBXXXX1A_expb.dcm": "OBXXXX1A.dcm"}
"""pydicom doesn't swap a big endian palette's bytes; the film is the same as another one."""


def test_all_stored_values_are_pydicoms(source):
    """Those of every file that is read: codes of grey films, all bits stored; grey of colour films within rounding."""
    files, refused, count = source
    wrong, compared = [], 0
    for name, path in files:
        if verdict(name, refused) is not None or path.name in NOT_BY_PYDICOM:
            continue
        compared += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of what these files get wrong
            apart = from_pydicom(path.with_name(AS_ANOTHER.get(path.name, path.name)), path)
        if apart > 0:
            wrong.append(f"{name}: {apart}")
    assert not wrong, "\n".join(wrong)
    assert compared == count - sum(path.name in NOT_BY_PYDICOM for _, path in files)


def from_pydicom(theirs, ours):
    """Largest difference between pydicom's values of one file and ours of another; half a code of grey is rounding."""
    dataset = pydicom.dcmread(theirs)
    found = read_dicom_codes(ours.read_bytes(), Limits())
    if found is not None:
        mask = (1 << dataset.BitsStored) - 1
        return int(np.abs((found[0].astype(int) & mask) - (pixel_array(dataset).astype(int) & mask)).max())
    bits = dataset.BitsStored
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        rgb = apply_color_lut(pixel_array(dataset), dataset)
        rgb, bits = (rgb >> 8 if rgb.dtype == np.uint16 else rgb), 8  # 16 bits are shown as 8
    else:
        rgb = pixel_array(dataset, raw=False)
    luma = rgb.astype(float) @ np.array([0.299, 0.587, 0.114])
    apart = np.abs(read_film(ours).pixels / 65535 * ((1 << bits) - 1) - luma).max()
    return max(0.0, float(apart) - 0.51)
