"""Films are written as conformant DICOM, the same bytes for the same content."""

import io
import warnings

import numpy as np
import pydicom
import pytest

from hilum.errors import UsageError
from hilum.imaging.dicom_writing import SOP_CLASSES, FilmHeader, film_bytes, film_dataset, write_film
from hilum.imaging.encoders import ENCODERS
from hilum.imaging.reading import read_film

FILM = np.arange(1, 2001, dtype=np.uint16).reshape(40, 50)

# PS3.3: attributes of type 1 and 2 of each object, patient and study modules included.
COMMON = [
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime",
    "ReferringPhysicianName", "StudyID", "AccessionNumber", "Modality", "SeriesInstanceUID", "SeriesNumber",
    "Manufacturer", "InstanceNumber", "SOPClassUID", "SOPInstanceUID", "SamplesPerPixel",
    "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelData", "PatientOrientation",
]  # fmt: skip
OF_CR = ["BodyPartExamined", "ViewPosition"]
OF_DX = [
    "PresentationIntentType", "ImageType", "PixelIntensityRelationship", "PixelIntensityRelationshipSign",
    "RescaleIntercept", "RescaleSlope", "RescaleType", "PresentationLUTShape", "LossyImageCompression",
    "BurnedInAnnotation", "ImageLaterality", "AnatomicRegionSequence", "DetectorType", "ImagerPixelSpacing",
    "AcquisitionContextSequence",
]  # fmt: skip


def reread(stored, header, syntax="explicit-le"):
    return pydicom.dcmread(io.BytesIO(film_bytes(stored, header, transfer_syntax=syntax)[0]))


@pytest.mark.parametrize(
    ("modality", "kind", "needed"), [("CR", "CR", OF_CR), ("DX", "DX", OF_DX), ("OT", "OT16", ["ConversionType"])]
)
def test_every_attribute_that_the_object_demands(modality, kind, needed):
    """Type 1 and 2 attributes are there, and file meta says what the data set says."""
    dataset = reread(FILM, FilmHeader(modality=modality))
    missing = [keyword for keyword in (*COMMON, *needed) if keyword not in dataset]
    assert missing == []
    assert dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID == SOP_CLASSES[kind]
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID
    assert len(dataset.SOPInstanceUID) <= 64
    assert dataset.SOPInstanceUID.is_valid


@pytest.mark.parametrize("syntax", list(ENCODERS))
def test_pydicom_reads_what_we_write(syntax):
    """Values are valid for pydicom with its warnings as errors, and lossless pixels are ours."""
    stored = FILM if syntax != "jpeg" else FILM.astype(np.uint8)
    dataset = reread(stored, FilmHeader(bits_stored=12 if syntax != "jpeg" else 8, window=(300, 600)), syntax)
    assert dataset.file_meta.TransferSyntaxUID == ENCODERS[syntax].uid
    if syntax in ("implicit-le", "explicit-le", "deflated", "explicit-be", "rle", "jpeg-ls"):
        np.testing.assert_array_equal(dataset.pixel_array, stored)
    assert dataset.LossyImageCompression == ("01" if ENCODERS[syntax].lossy else "00")


def test_equal_content_gives_equal_bytes(tmp_path):
    """No clock and no random number: a phantom cohort is the same everywhere."""
    header = FilmHeader(patient_id="PHANTOM-1", study_date="20240101")
    uid = write_film(tmp_path / "a" / "film.dcm", FILM, header)
    assert (tmp_path / "a" / "film.dcm").read_bytes() == film_bytes(FILM, header)[0]
    assert film_bytes(FILM, header)[1] == uid
    assert film_bytes(FILM + np.uint16(1), header)[1] != uid


def test_study_and_series_are_shared_within_a_patient():
    """Two films of one visit have one study; another date is another study."""
    one = film_dataset(FILM, FilmHeader(patient_id="A", study_date="20240101"))
    two = film_dataset(FILM + np.uint16(1), FilmHeader(patient_id="A", study_date="20240101"))
    later = film_dataset(FILM, FilmHeader(patient_id="A", study_date="20240102"))
    assert one.StudyInstanceUID == two.StudyInstanceUID != later.StudyInstanceUID
    assert one.SeriesInstanceUID == two.SeriesInstanceUID


def test_given_uids_are_kept():
    """A caller's UIDs are written as they are."""
    header = FilmHeader(study_instance_uid="1.2.3", series_instance_uid="1.2.4", sop_instance_uid="1.2.5")
    dataset = film_dataset(FILM, header)
    assert (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID) == ("1.2.3", "1.2.4", "1.2.5")


def test_monochrome1_is_shown_inverted():
    """The same codes as MONOCHROME1 give the negative, also behind a window."""
    window = {"window": (2048, 4096), "voi_function": "LINEAR_EXACT"}
    plain = read_film(film_bytes(FILM, FilmHeader(**window))[0])
    negative = read_film(film_bytes(FILM, FilmHeader(photometric="MONOCHROME1", **window))[0])
    assert np.abs(65535 - plain.pixels.astype(int) - negative.pixels).max() <= 1
    assert negative.flags == ()


@pytest.mark.parametrize(("age", "written"), [(47.9, "047Y"), (1.5, "018M"), (None, None)])
def test_age(age, written):
    """Years, or months below two."""
    assert film_dataset(FILM, FilmHeader(age_years=age)).get("PatientAge") == written


@pytest.mark.parametrize(
    ("stored", "header", "syntax", "match"),
    [
        (FILM.astype(np.int16), {}, "explicit-le", r"must be uint8 or uint16 \[h, w\], but are int16"),
        (FILM, {"signed": True}, "explicit-le", r"must be int8 or int16 \[h, w\], but are uint16"),
        (FILM[None], {}, "explicit-le", r"uint16 \[1, 40, 50\]"),
        (FILM, {"bits_stored": 8}, "explicit-le", r"within 0 … 255 \(8 bits\)"),
        (FILM, {"bits_stored": 17}, "explicit-le", "bits_stored is 17, but uint16 holds 1 to 16"),
        (FILM[:0], {}, "explicit-le", "there must be some"),
        (FILM[:20], {}, "jpeg2000", r"from 32 pixels each way, but these are \[20, 50\]"),
        (FILM, {}, "rlee", "'rlee' is unknown. Did you mean 'rle'"),
        (FILM, {}, "jpeg", "JPEG baseline holds uint8 pixels, but these are uint16"),
        (FILM.astype(np.int16), {"signed": True}, "jpeg-ls-near", "Signed pixels can't be written near-lossless"),
    ],
)
def test_wrong_arguments(stored, header, syntax, match):
    """What can't be written truly is refused."""
    with pytest.raises(UsageError, match=match):
        film_bytes(stored, FilmHeader(**header), transfer_syntax=syntax)


def test_writing_does_not_warn():
    """pydicom finds nothing to complain about in our own films."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        film_bytes(FILM, FilmHeader(age_years=3, spacing_mm=(0.1 / 3, 0.1 / 3), rescale=(0.1 + 0.2, -1 / 3)))
    assert [str(one.message) for one in caught] == []
