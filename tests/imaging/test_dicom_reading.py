"""DICOM films are read in every supported encoding, and refused by name when they are damaged, hostile or no film."""

import hashlib
import io
import struct
import subprocess
import warnings
import zlib
from pathlib import Path
from shutil import which

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import UID
from tests.imaging.jpeg_by_hand import extended_jpeg, lossless_jpeg

from hilum.errors import FilmError
from hilum.imaging import dicom_reading, dicom_structure
from hilum.imaging.codecs import CODECS, SampleFormat, native_samples
from hilum.imaging.dicom_structure import examine
from hilum.imaging.dicom_writing import FilmHeader, film_bytes, film_dataset
from hilum.imaging.encoders import ENCODERS
from hilum.imaging.limits import Limits
from hilum.imaging.reading import read_facts, read_film

LOSSLESS = [name for name, encoder in ENCODERS.items() if not encoder.lossy]


def bundled(name):
    return Path(get_testdata_file(name, download=False))


def stored_film(bits, signed):
    """Every code in turn, so that any lost or swapped bit shows."""
    y, x = np.mgrid[0:65, 0:47]
    values = (x * 37 + y * 91) % (1 << bits)
    values[0, :2] = 0, (1 << bits) - 1
    if signed:
        values -= 1 << (bits - 1)
    return values.astype(
        {(8, False): np.uint8, (8, True): np.int8}.get((bits, signed), np.int16 if signed else np.uint16)
    )


@pytest.mark.parametrize(
    ("syntax", "in_place"),
    [
        ("implicit-le", True),
        ("explicit-le", True),
        ("explicit-be", False),
        ("deflated", False),
    ],
)
def test_only_samples_that_numpy_can_read_are_left_where_they_lie(syntax, in_place):
    """Native little-endian pixels are not copied out of the file; swapped and deflated ones have to be."""
    stored = stored_film(12, False)
    content = film_bytes(stored, FilmHeader(bits_stored=12), transfer_syntax=syntax)[0]
    found = examine(io.BytesIO(content), Limits())
    view = dicom_reading._in_place(content, found)
    assert (view is not None) == in_place
    if view is not None:
        np.testing.assert_array_equal(np.frombuffer(view, "<u2")[: stored.size], stored.ravel())
    after = content + b"\xfc\xff\xfc\xffOB\0\0\x04\0\0\0\0\0\0\0"  # padding of the data set, PS3.10 section 7.2
    if syntax != "deflated":
        np.testing.assert_array_equal(read_film(after).pixels, read_film(content).pixels)


def test_an_only_fragment_is_taken_from_where_it_lies(as_bytes):
    """Encoded pixels in one fragment are not copied by pydicom; in several they are joined, and are the same film."""
    stored = stored_film(12, False)
    content = film_bytes(stored, FilmHeader(bits_stored=12), transfer_syntax="jpeg2000-lossless")[0]
    dataset = pydicom.dcmread(io.BytesIO(content))
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    view = dicom_reading._in_place(content, examine(io.BytesIO(content), Limits()))
    assert bytes(view) == frame
    dataset.PixelData = encapsulate([frame], fragments_per_frame=2)
    parted = as_bytes(dataset)
    assert dicom_reading._in_place(parted, examine(io.BytesIO(parted), Limits())) is None
    np.testing.assert_array_equal(read_film(parted).pixels, read_film(content).pixels)


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize(("bits", "signed"), [(8, False), (8, True), (10, False), (12, True), (16, False), (16, True)])
def test_lossless_round_trip_is_exact(syntax, bits, signed):
    """What was stored is what is shown, through a window over all codes."""
    stored = stored_film(bits, signed)
    center = -0.5 if signed else (1 << (bits - 1)) - 0.5
    header = FilmHeader(bits_stored=bits, signed=signed, window=(center, (1 << bits) - 1), voi_function="LINEAR_EXACT")
    film = read_film(film_bytes(stored, header, transfer_syntax=syntax)[0])
    low = -(1 << (bits - 1)) if signed else 0
    expected = np.floor((stored.astype(float) - low) / ((1 << bits) - 1) * 65535 + 0.5)
    np.testing.assert_array_equal(film.pixels, expected)
    assert film.facts.transfer_syntax == ENCODERS[syntax].uid


@pytest.mark.parametrize(("syntax", "bits", "most"), [("jpeg", 8, 6), ("jpeg2000", 12, 60), ("jpeg-ls-near", 12, 2.1)])
def test_lossy_round_trip_is_close_and_says_so(gradient, syntax, bits, most):
    """A smooth film comes back within a few codes, and the facts say that it was compressed with loss."""
    stored = gradient(bits)
    header = FilmHeader(bits_stored=bits, window=((1 << bits) / 2, 1 << bits), voi_function="LINEAR_EXACT")
    film = read_film(film_bytes(stored, header, transfer_syntax=syntax)[0])
    assert np.abs(film.pixels / 65536 * (1 << bits) - stored).max() <= most
    assert film.facts.lossy is True


@pytest.mark.parametrize(
    ("name", "decoded"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("MR_small_implicit.dcm", "MR_small.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("MR_small_expb.dcm", "MR_small.dcm"),
        ("SC_rgb_rle.dcm", "SC_rgb_gdcm_KY.dcm"),
        ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm"),
    ],
)
def test_other_peoples_encodings_agree(name, decoded):
    """The same picture in two encodings, written by other software, reads the same."""
    np.testing.assert_array_equal(read_film(bundled(name)).pixels, read_film(bundled(decoded)).pixels)


@pytest.mark.parametrize(
    "name", ["693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "JPEGLSNearLossless_16.dcm", "image_dfl.dcm"]
)
def test_samples_agree_with_pydicom(name):
    """The grey values rise and fall with pydicom's own decoding of the same file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what these files get wrong
        theirs = pydicom.dcmread(bundled(name)).pixel_array.astype(np.int64).ravel()
    ours = read_film(bundled(name)).pixels.ravel()
    order = np.argsort(theirs, kind="stable")
    assert np.all(np.diff(ours[order].astype(np.int64)) >= 0)


def test_12_bit_jpeg_extended_is_read():
    """pydicom has no decoder for it here; the values are those of DCMTK's dcmdjpeg on the same file."""
    film = read_film(bundled("JPEG-lossy.dcm"))
    assert film.shape == (1024, 256)
    # Stored 0 … 264: the stretch covers all of it, and the first pixel holds 1.
    assert (film.pixels.min(), film.pixels.max()) == (0, 65535)
    assert film.pixels[0, 0] == round(65535 / 264)


@pytest.mark.system
@pytest.mark.parametrize(
    ("option", "bits", "uid"),
    [
        ("+e1", 8, "70"),
        ("+e1", 12, "70"),
        ("+e1", 16, "70"),
        ("+el", 12, "57"),
        ("+el", 16, "57"),
        ("+ee", 12, "51"),
        ("+eb", 8, "50"),
    ],
)
def test_jpeg_written_by_dcmtk(tmp_path, need, gradient, option, bits, uid):
    """Lossless JPEG (57, 70) comes back exactly, lossy JPEG (50, 51) closely."""
    need(which("dcmcjpeg"), "dcmcjpeg of DCMTK")
    header = FilmHeader(bits_stored=bits, window=((1 << bits) / 2, 1 << bits), voi_function="LINEAR_EXACT")
    content, _ = film_bytes(gradient(bits), header)
    (tmp_path / "plain.dcm").write_bytes(content)
    subprocess.run(["dcmcjpeg", option, "plain.dcm", "jpeg.dcm"], cwd=tmp_path, check=True, capture_output=True)
    film = read_film(tmp_path / "jpeg.dcm")
    assert film.facts.transfer_syntax == f"1.2.840.10008.1.2.4.{uid}"
    difference = np.abs(film.pixels.astype(int) - read_film(content).pixels) * (1 << bits) / 65536
    assert difference.max() <= (0 if uid in ("57", "70") else 6 * (1 << (bits - 8)))


def test_every_codec_is_reached():
    """Every transfer syntax of the table is read by a test of this file."""
    written = {encoder.uid for encoder in ENCODERS.values()}
    assert set(CODECS) - written == {f"1.2.840.10008.1.2.4.{uid}" for uid in ("51", "57", "70")}


def test_lossless_jpeg_of_other_software():
    """SC_rgb_jpeg_gdcm.dcm is lossless JPEG (70) in colour: red, green and blue stripes."""
    film = read_film(bundled("SC_rgb_jpeg_gdcm.dcm"))
    assert film.facts.colour is True
    assert film.pixels[0, 0] == round(0.299 * 255) * 257


def test_facts_are_read():
    """Every fact of the header arrives, in its type."""
    header = FilmHeader(
        patient_id="P1", sex="F", age_years=47, study_date="20240301", manufacturer="Maker", device="Model 5",
        institution="Hospital A", view_position="AP", accession_number="A1", spacing_mm=(0.143, 0.143), bits_stored=12,
        image_type=("DERIVED", "PRIMARY", ""), laterality="U",
    )  # fmt: skip
    content, uid = film_bytes(np.zeros((3, 5), np.uint16), header)
    facts = read_facts(content)
    assert facts.sop_instance_uid == uid
    assert (facts.patient_id, facts.sex, facts.age_years, facts.acquired) == ("P1", "F", 47.0, "2024-03-01")
    assert (facts.manufacturer, facts.device, facts.institution) == ("Maker", "Model 5", "Hospital A")
    assert (facts.view_position, facts.body_part, facts.modality) == ("AP", "CHEST", "DX")
    assert (facts.rows, facts.columns, facts.bits_stored, facts.spacing_mm) == (3, 5, 12, (0.143, 0.143))
    assert (facts.presentation_intent, facts.image_type[:2]) == ("FOR PRESENTATION", ("DERIVED", "PRIMARY"))
    assert (facts.patient_orientation, facts.laterality, facts.burned_in) == (("L", "F"), "U", "NO")
    assert (facts.accession_number, facts.colour, facts.lossy, facts.format) == ("A1", False, False, "dicom")


def test_facts_equal_those_of_the_whole_film(tmp_path):
    """Reading the header alone gives what reading everything gives."""
    content, _ = film_bytes(stored_film(12, False), FilmHeader(patient_id="P1", window=(2048, 4096)))
    (tmp_path / "film.dcm").write_bytes(content)
    assert read_facts(tmp_path / "film.dcm") == read_facts(content) == read_film(content).facts


def test_facts_do_not_need_the_pixels_whole():
    """A film whose pixels are cut off is truncated, for the header too: its length is wrong."""
    content, _ = film_bytes(stored_film(12, False), FilmHeader())
    with pytest.raises(FilmError, match="truncated"):
        read_facts(content[:-10])


def test_film_is_identified_by_its_bytes():
    """SHA-256 over the file, and the pixels can't be changed afterwards."""
    content, _ = film_bytes(stored_film(12, False), FilmHeader())
    film = read_film(content)
    assert film.sha256 == hashlib.sha256(content).hexdigest()
    assert read_film(content, sha256=film.sha256).sha256 == film.sha256
    with pytest.raises(ValueError, match="read-only"):
        film.pixels[0, 0] = 1


def changed(**attributes):
    """A film whose data set says something else; ``None`` takes an attribute away."""
    dataset = film_dataset(stored_film(12, False), FilmHeader(window=(2048, 4096)))
    for keyword, value in attributes.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("attribute", "value", "fact", "expected"),
    [
        ("PatientAge", "018M", "age_years", 1.5),
        ("PatientAge", "052W", "age_years", pytest.approx(0.9966, abs=1e-3)),
        ("PatientAge", "soon", "age_years", None),
        ("PatientSex", "X", "sex", None),
        ("AcquisitionDate", "20240231", "acquired", "2023-05-06"),
        ("ImagerPixelSpacing", [0.0, 0.0], "spacing_mm", None),
        ("ViewPosition", " pa ", "view_position", "PA"),
        ("LossyImageCompression", "01", "lossy", True),
        ("LossyImageCompression", "", "lossy", None),
    ],
)
def test_odd_values_of_facts(as_bytes, attribute, value, fact, expected):
    """What makes no sense counts as not recorded, or falls back on the next best."""
    dataset = changed(ContentDate="20230506")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of the odd values, which are the point
        setattr(dataset, attribute, value)
        content = as_bytes(dataset)
    assert getattr(read_facts(content), fact) == expected


def test_age_comes_from_the_birth_date_where_it_must(as_bytes):
    """Without Patient's Age the two dates give it."""
    content = as_bytes(changed(PatientBirthDate="19800101", AcquisitionDate="20200101"))
    assert read_facts(content).age_years == pytest.approx(40.0, abs=0.01)


def test_view_comes_from_its_code_where_it_must(as_bytes):
    """Devices that fill View Code Sequence alone are understood."""
    item = Dataset()
    item.CodeMeaning = "Postero-Anterior"
    assert read_facts(as_bytes(changed(ViewPosition=None, ViewCodeSequence=[item]))).view_position == "PA"


def refused(content, code, match, limits=None):
    with pytest.raises(FilmError, match=match) as caught:
        read_film(content, limits=limits or Limits())
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("content", "code", "match"),
    [
        (b"", "empty", r"empty \(0 bytes\)"),
        (b"DICM", "not-an-image", "neither DICOM"),
        (b"\0" * 131, "not-an-image", "neither DICOM"),
        (b"\0" * 4000, "not-an-image", "neither DICOM"),
        (b"\0" * 128 + b"DICM", "unreadable", r"Transfer Syntax UID \(0002,0010\) is missing"),
        (b"\0" * 128 + b"DICM\x02\0\x10\0UI\xff\xff", "unreadable", "Transfer Syntax UID has 65535 characters"),
        (b"\0" * 128 + b"DICM\x02\0\x01\0OB\0\0\xff\xff\xff\xff", "unreadable", "a value without a length"),
    ],
    ids=["empty", "short", "131 bytes", "no prefix", "no meta", "long UID", "meta without length"],
)
def test_files_that_are_not_dicom(content, code, match):
    """Each is refused by name."""
    refused(content, code, match)


def test_missing_file(tmp_path):
    """The reason is given, the path (which may hold a name) is not."""
    with pytest.raises(FilmError, match=r"can't be opened: No such file") as caught:
        read_film(tmp_path / "SMITH^JOHN.dcm")
    assert "SMITH" not in str(caught.value)
    with pytest.raises(FilmError, match=r"can't be opened: No such file"):
        read_facts(tmp_path / "SMITH^JOHN.dcm")


def test_every_truncation_is_refused():
    """A film cut anywhere is truncated or unreadable, never half a picture."""
    content, _ = film_bytes(stored_film(12, False), FilmHeader(window=(2048, 4096)))
    for length in [*range(140, 1600, 37), len(content) - 1]:
        with pytest.raises(FilmError, match="truncated|missing|no pixels|lacks"):
            read_film(content[:length])


@pytest.mark.parametrize(
    ("attributes", "code", "match"),
    [
        ({"Rows": 0}, "unreadable", r"0 × 47 × 1; each must be at least 1"),
        ({"Rows": 65535}, "truncated", r"65535 × 47 pixels need"),
        ({"Rows": 65535, "Columns": 65535}, "too-large", r"65535 × 65535 × 1 = 4,294,836,225 pixels"),
        ({"NumberOfFrames": 10**9}, "too-large", r"65 × 47 × 1000000000"),
        ({"NumberOfFrames": 0}, "unreadable", "each must be at least 1"),
        ({"NumberOfFrames": -1}, "unreadable", "each must be at least 1"),
        ({"NumberOfFrames": 2}, "not-an-image", "holds 2 frames"),
        ({"BitsStored": 17}, "unreadable", "Bits Stored is 17 of 16"),
        ({"BitsStored": 0}, "unreadable", "Bits Stored is 0 of 16"),
        ({"BitsAllocated": 32}, "unreadable", "Bits Stored is 12 of 32"),
        ({"BitsAllocated": 1, "BitsStored": 1}, "unreadable", "Bits Stored is 1 of 1"),
        ({"HighBit": 3}, "unreadable", "High Bit is 3 with 12 bits stored"),
        ({"HighBit": 40}, "unreadable", "High Bit is 40 with 12 bits stored"),
        ({"SamplesPerPixel": 0}, "unreadable", "Samples per Pixel is 0, but MONOCHROME2 has 1"),
        ({"SamplesPerPixel": 3}, "unreadable", "Samples per Pixel is 3, but MONOCHROME2 has 1"),
        ({"PhotometricInterpretation": "HSV"}, "unreadable", "Photometric Interpretation 'HSV' can't be read"),
        (
            {"PhotometricInterpretation": "QANARY"},
            "unreadable",
            r"^Photometric Interpretation \(0028,0004\), no term of ",
        ),
        ({"PhotometricInterpretation": "RGB"}, "unreadable", "Samples per Pixel is 1, but RGB has 3"),
        ({"Rows": None, "BitsStored": None}, "unreadable", "lacks Rows, BitsStored"),
        ({"PixelData": None}, "no-pixels", "holds no pixels"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_headers_that_do_not_fit(as_bytes, attributes, code, match):
    """Sizes are checked in whole numbers before anything is decoded."""
    refused(as_bytes(changed(**attributes)), code, match)


def test_one_frame_is_flagged_and_read(as_bytes):
    """Number of Frames 1 is a film."""
    assert read_film(as_bytes(changed(NumberOfFrames=1))).flags == ("several-frames",)


def test_high_bit_above_the_stored_bits_is_shifted(as_bytes):
    """Old devices keep 12 bits at the top of 16."""
    plain = read_film(as_bytes(changed())).pixels
    high = changed(HighBit=15)
    high.PixelData = (stored_film(12, False) << 4).astype("<u2").tobytes()
    np.testing.assert_array_equal(read_film(as_bytes(high)).pixels, plain)


def test_float_pixels_are_refused(as_bytes):
    """Float Pixel Data is no film."""
    dataset = changed(PixelData=None)
    dataset.FloatPixelData = b"\0" * 4
    refused(as_bytes(dataset), "unreadable", "floating-point numbers")


def test_dicomdir_is_refused():
    """A directory of films is named as one."""
    refused(bundled("dicomdirtests").joinpath("DICOMDIR"), "no-pixels", "a directory of films")


def test_unknown_transfer_syntax(as_bytes):
    """It is named, where it has a name, and those that can be read are listed by theirs."""
    dataset = changed()
    content = as_bytes(dataset).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")
    refused(
        content,
        "unsupported-syntax",
        r"^Transfer syntax \(0002,0010\), which PS3.6 doesn't list, can't be read. Have the",
    )
    content = as_bytes(compressed(b"\xff\x4f\xff\x51", "1.2.840.10008.1.2.4.201"))
    refused(
        content, "unsupported-syntax", r"\(High-Throughput JPEG 2000.*\) can't be read.*, JPEG 2000, .*RLE Lossless"
    )


def compressed(frame, uid, **attributes):
    """A film whose encapsulated pixels are these bytes."""
    dataset = changed(**attributes)
    dataset.file_meta.TransferSyntaxUID = UID(uid)
    dataset.add_new(0x7FE00010, "OB", encapsulate([frame]))
    dataset["PixelData"].is_undefined_length = True
    return dataset


def frame_of(syntax, stored, **header):
    dataset = film_dataset(stored, FilmHeader(**header), transfer_syntax=syntax)
    return pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)


@pytest.mark.parametrize(
    ("syntax", "uid"), [("jpeg2000-lossless", "1.2.840.10008.1.2.4.90"), ("jpeg-ls", "1.2.840.10008.1.2.4.80")]
)
def test_codestream_of_another_size_is_refused_before_decoding(as_bytes, syntax, uid):
    """A codestream can't unpack into more than the header announced."""
    frame = frame_of(syntax, np.zeros((600, 500), np.uint16))
    refused(as_bytes(compressed(frame, uid)), "unreadable", "is 600 × 500 with 1 samples, but the header says 65 × 47")


@pytest.mark.parametrize(
    ("uid", "frame", "match"),
    [
        ("4.50", b"not a JPEG", "doesn't begin with SOI"),
        ("4.70", b"\xff\xd8\xff\xe0\x00\x04ab", "has no frame header"),
        ("4.70", b"\xff\xd8\xff\xff\xc3\x00\x0b\x18\x00\x41\x00\x2f\x01\x01\x11\x00", "has 24 bits a sample"),
        ("4.90", b"\xff\x4f\xff\x51", "has no SIZ marker"),
        (
            "4.90",
            b"\xff\x4f\xff\x51" + struct.pack(">HH8LHBBB", 41, 0, 47, 65, 0, 0, 47, 65, 0, 0, 1, 11, 1, 1),
            "damaged",
        ),
        ("4.80", b"\xff\xd8\xff\xf7\x00\x0b\x0c\x00\x41\x00\x2f\x01\x01\x11\x00" + b"\0" * 8, "damaged"),
        ("5", b"\0" * 64 + b"\x05", "RLE Lossless pixel data are damaged"),
        ("5", struct.pack("<16L", 2, 64, 70, *[0] * 13) + b"\x7f" * 12, "RLE Lossless pixel data are damaged"),
    ],
)
def test_damaged_codestreams(as_bytes, uid, frame, match):
    """Damage is named, whatever the decoder raises."""
    refused(as_bytes(compressed(frame, f"1.2.840.10008.1.2.{uid}")), "unreadable", match)


@pytest.mark.parametrize(
    ("uid", "write", "old", "new"),
    [
        ("51", extended_jpeg, b"\xff\xc4\x00\x23\x00", b"\x00\x00\x00\x00\x00"),
        ("51", extended_jpeg, b"\xff\xc4\x00\x23\x00", b"\xff\xc4\x00\x23\x01"),
        ("51", extended_jpeg, b"\xff\xdb\x00\x43\x00", b"\xff\xdb\x00\x43\x02"),
        ("70", lossless_jpeg, b"\xff\xc4\x00\x24\x00", b"\xff\xc4\x00\x24\x03"),
        ("70", lossless_jpeg, b"\xff\xc4\x00\x24\x00", b"\xff\xc4\x00\x01\x00"),
        ("70", lossless_jpeg, b"\xff\xc4\x00\x24\x00\x00", b"\xff\xc4\x00\x24\x00\xff"),
        ("57", lossless_jpeg, b"\xff\xda\x00\x08\x01", b"\xff\xda\x00\x08\x00"),
        ("57", lossless_jpeg, b"\xff\xda\x00\x08\x01", b"\xff\xfe\x00\x08\x01"),
    ],
    ids=["no table", "another table", "no steps", "another lossless", "length", "overfull", "no component", "no scan"],
)
def test_jpeg_without_its_tables_is_refused_before_it_is_decoded(as_bytes, uid, write, old, new):
    """GDCM ends the whole process on the first of these: an exception of C++ that nobody catches."""
    good = write(np.zeros((64, 48), np.uint16), 12)
    assert good.count(old) == 1
    content = compressed(good, f"1.2.840.10008.1.2.4.{uid}", Rows=64, Columns=48)
    assert read_film(as_bytes(content)).shape == (64, 48)
    damaged = compressed(good.replace(old, new), f"1.2.840.10008.1.2.4.{uid}", Rows=64, Columns=48)
    refused(as_bytes(damaged), "unreadable", "tables are damaged or missing")


@pytest.mark.parametrize(
    "segment",
    [b"\xff\xe0\x00\x10JFIF\x00\x3c\x01\0\0\1\0\1\0\0", b"\xff\xee\x00\x0eAdobe\0\x64\0\0\0\0\2"],
    ids=["JFIF 60.1", "Adobe transform 2"],
)
def test_application_segments_that_gdcm_would_end_the_process_on(as_bytes, segment):
    """Found by a hundred thousand mutations; the first in grey films, the second in coloured ones."""
    good = lossless_jpeg(np.zeros((64, 48), np.uint16), 12)
    damaged = compressed(good[:2] + segment + good[2:], "1.2.840.10008.1.2.4.70", Rows=64, Columns=48)
    refused(as_bytes(damaged), "unreadable", "application segment is damaged")


def test_a_jpeg_ls_without_its_end_is_refused_before_it_is_decoded(as_bytes):
    """CharLS goes on for ever on some of these. Padding after the end is as it should be (PS3.5 A.4)."""
    good = frame_of("jpeg-ls", stored_film(12, False))
    end = good.rindex(b"\xff\xd9")
    syntax = "1.2.840.10008.1.2.4.80"
    assert read_film(as_bytes(compressed(good[:end] + b"\xff\xd9\0", syntax))).shape
    refused(
        as_bytes(compressed(good[:end] + b"\x0a\xd9", syntax)), "unreadable", "JPEG-LS Lossless pixel data are damaged"
    )


def test_rust_panics_do_not_escape(as_bytes):
    """A run that overflows its segment makes pylibjpeg-rle panic; it becomes a FilmError."""
    good = bytearray(frame_of("rle", stored_film(12, False)))
    good[64] = 0x81  # a run of 128 where less was left
    for at in range(64, len(good), 3):
        good[at] = 0x81
    refused(
        as_bytes(compressed(bytes(good), "1.2.840.10008.1.2.5")), "unreadable", "RLE Lossless pixel data are damaged"
    )


def test_compressed_pixels_without_a_fragment(as_bytes):
    """An offset table alone is no picture."""
    dataset = compressed(b"\0\0", "1.2.840.10008.1.2.4.90")
    dataset.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0"
    refused(as_bytes(dataset), "no-pixels", "hold no fragment")


def test_native_syntax_with_fragments(as_bytes):
    """Fragments under a native transfer syntax are too few bytes, or no samples at all."""
    dataset = compressed(b"\0" * 10, "1.2.840.10008.1.2.1")
    refused(as_bytes(dataset), "truncated", "pixels need")


def element(tag, vr, value, *, undefined=False):
    group, number = tag
    head = struct.pack("<HH", group, number) + vr
    if vr in (b"SQ", b"UN", b"OB", b"OW"):
        return head + b"\0\0" + struct.pack("<L", 0xFFFFFFFF if undefined else len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def with_data_set(data_set, uid=b"1.2.840.10008.1.2.1\0"):
    return b"\0" * 128 + b"DICM" + element((2, 0x10), b"UI", uid) + data_set


TEXT = element((8, 0x60), b"CS", b"DX")
SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
ITEM_END = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)


def nested(depth, *, undefined):
    value = b""
    for _ in range(depth):
        size = 0xFFFFFFFF if undefined else len(value)
        item = struct.pack("<HHL", 0xFFFE, 0xE000, size) + value + (ITEM_END if undefined else b"")
        value = element((8, 0x1140), b"SQ", item + (SEQUENCE_END if undefined else b""), undefined=undefined)
    return value


@pytest.mark.parametrize("undefined", [True, False])
def test_depth_300_is_refused_without_recursion(undefined):
    """pydicom overflows the stack near 249 levels; here the depth is a number."""
    refused(with_data_set(nested(300, undefined=undefined)), "too-large", "nested more than 32 deep")
    with pytest.raises(FilmError, match="nested more than 32 deep"):
        read_facts(with_data_set(nested(300, undefined=undefined)))


def test_depth_30_is_read(as_bytes):
    """Nesting that films could have is allowed."""
    content = as_bytes(changed())
    at = content.index(b"\x08\x00\x16\x00UI")
    assert read_film(content[:at] + nested(30, undefined=True) + content[at:]).shape == (65, 47)


@pytest.mark.parametrize(
    ("data_set", "code", "match"),
    [
        (TEXT * 25_000, "too-large", "more than the 20,000 data elements"),
        (TEXT[:-1] + b"", "truncated", "2 bytes are announced"),
        (struct.pack("<HH", 8, 0x60) + b"UN\0\0" + struct.pack("<L", 0x7FFFFFFF), "truncated", "2,147,483,647 bytes"),
        (TEXT + b"\x08\x00\x61\x00\x00\x00\x00\x00", "unreadable", "no value representation"),
        (TEXT + SEQUENCE_END, "unreadable", "delimiter stands where none belongs"),
        (element((8, 0x1140), b"SQ", TEXT), "unreadable", "something other than items"),
        (element((0x7FE0, 0x10), b"OB", TEXT, undefined=True), "unreadable", "than fragments"),
        (element((8, 0x1140), b"SQ", b"", undefined=True), "truncated", "8 bytes are announced"),
        (element((8, 0x60), b"UN", b"\0" * 3_000_000), "too-large", "header is longer than the 2,000,000"),
        (
            TEXT
            + element((8, 0x1140), b"SQ", b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + b"\x08\x00\x00\x00UI\xff\xff"),
            "truncated",
            "65,535 bytes are announced",
        ),
    ],
    ids=[
        "elements", "short value", "long length", "no VR", "stray end", "no items", "no fragments", "open sequence",
        "header bytes", "long inside",
    ],
)  # fmt: skip
def test_malformed_structure(data_set, code, match):
    """Lengths, delimiters and counts are never trusted."""
    refused(with_data_set(data_set), code, match, Limits(max_header_bytes=2_000_000))


def walked(content, limits):
    try:
        return examine(content, limits)
    except FilmError as error:
        return error.code, str(error)


@pytest.mark.parametrize("syntax", ["explicit-le", "implicit-le", "explicit-be", "deflated", "rle"])
def test_plain_values_are_walked_over_as_all_others_are(syntax, monkeypatch):
    """Whatever is changed or cut: the short way over plain values finds the same, and says the same."""
    rng = np.random.default_rng(0)
    whole = film_bytes(stored_film(12, False), FilmHeader(window=(2048, 4096)), transfer_syntax=syntax)[0]
    films, limits = [whole], [Limits(), Limits(max_elements=30), Limits(max_header_bytes=600)]
    for i in range(200):
        content = bytearray(whole[: rng.integers(132, 1600)] if i % 3 == 0 else whole)
        content[rng.integers(132, min(1500, len(content)))] = rng.choice([0, 0xFF, 0xFE, 0xE0, 0x7F, rng.integers(256)])
        films.append(bytes(content))
    shortly = [walked(film, limit) for film in films for limit in limits]
    monkeypatch.setattr(dicom_structure._Walk, "_plain", lambda self, implicit: None)
    assert shortly == [walked(film, limit) for film in films for limit in limits]
    assert len({found for found in shortly if isinstance(found, tuple)}) > 10


def test_implicit_sequence_without_length_in_a_value():
    """A value of undefined length that is no sequence is refused inside file meta and fragments."""
    fragments = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    refused(
        with_data_set(element((0x7FE0, 0x10), b"OB", fragments, undefined=True)), "unreadable", "other than fragments"
    )


def test_implicit_vr_behind_an_explicit_name(as_bytes):
    """Writers that declare explicit VRs and write implicit ones are understood, as pydicom does."""
    content = film_bytes(stored_film(12, False), FilmHeader(window=(2048, 4096)), transfer_syntax="implicit-le")[0]
    dataset = content[content.index(b"\x08\x00\x05\x00") :]
    film = read_film(with_data_set(dataset))
    np.testing.assert_array_equal(film.pixels, read_film(as_bytes(changed())).pixels)


def deflated(content):
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return with_data_set(packer.compress(content) + packer.flush(), b"1.2.840.10008.1.2.1.99")


def test_deflate_bomb_is_bounded():
    """Inflation stops at the limit."""
    bomb = deflated(element((8, 0x60), b"UN", b"\0" * 5_000_000))
    assert len(bomb) < 10_000
    refused(bomb, "too-large", "inflates to more than the 1,000,000 bytes", Limits(max_bytes=1_000_000))


@pytest.mark.parametrize(
    ("cut", "code", "match"),
    [(-5, "truncated", "ends before its end marker"), (None, "unreadable", "can't be inflated")],
)
def test_damaged_deflate(cut, code, match):
    """A cut or broken deflate stream is named."""
    content = deflated(TEXT * 100)
    start = content.index(b"1.2.1.99") + 8
    refused(content[:cut] if cut else content[:start] + b"\xff" * 50, code, match)


def test_limits_are_the_callers():
    """The same film passes or not by the limits that are given."""
    content, _ = film_bytes(np.zeros((100, 100), np.uint16), FilmHeader())
    refused(content, "too-large", r"= 10,000 pixels of 2 bytes, more than the 9,999", Limits(max_pixels=9_999))
    refused(content, "too-large", r"file has .* bytes, more than the 1,000 allowed", Limits(max_bytes=1_000))
    with pytest.raises(FilmError, match="more than the 1,000 allowed"):
        read_facts(content, limits=Limits(max_bytes=1_000))


def form(**changes):
    values = {
        "rows": 2, "columns": 2, "samples": 3, "allocated": 8, "stored": 8, "high_bit": 7, "signed": False,
        "photometric": "RGB", "planar": False,
    }  # fmt: skip
    return SampleFormat(**{**values, **changes})


def test_planes_and_pixels_hold_the_same():
    """Planar configuration 0 and 1 are two orders of one picture."""
    by_pixel = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    by_plane = by_pixel.transpose(2, 0, 1).tobytes()
    np.testing.assert_array_equal(native_samples(by_plane, form(planar=True), big_endian=False, words=False), by_pixel)
    np.testing.assert_array_equal(native_samples(by_pixel.tobytes(), form(), big_endian=False, words=False), by_pixel)


def test_big_endian_words_swap_8_bit_samples():
    """8-bit samples in OW are words, so big endian swaps each two; in OB they stay."""
    one = form(samples=1, photometric="MONOCHROME2")
    assert native_samples(b"\1\0\3\2", one, big_endian=True, words=True).ravel().tolist() == [0, 1, 2, 3]
    assert native_samples(b"\0\1\2\3", one, big_endian=True, words=False).ravel().tolist() == [0, 1, 2, 3]


def test_uncompressed_chroma_at_half_width():
    """SC_ybr_full_422_uncompressed.dcm holds the colours that SC_rgb_rle.dcm has, within chroma's rounding."""
    ours = read_film(bundled("SC_ybr_full_422_uncompressed.dcm"))
    theirs = read_film(bundled("SC_rgb_rle.dcm"))
    assert ours.facts.colour is True
    assert np.median(np.abs(ours.pixels.astype(int) - theirs.pixels)) < 3 * 257


def test_grey_picture_in_three_channels_is_grey(as_bytes):
    """A secondary capture whose channels are equal is not in colour, and keeps its values exactly."""
    dataset = changed()
    grey = stored_film(8, False)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    content = np.repeat(grey[..., None], 3, axis=2).tobytes()
    dataset.add_new(0x7FE00010, "OB", content + b"\0" * (len(content) % 2))
    film = read_film(as_bytes(dataset))
    assert film.facts.colour is False
    np.testing.assert_array_equal(film.pixels, grey.astype(np.uint16) * 257)


def test_palette_is_looked_up():
    """A palette film is a colour picture, and reads as pydicom's own palette look-up does."""
    film = read_film(bundled("examples_palette.dcm"))
    assert film.facts.colour is True
    dataset = pydicom.dcmread(bundled("examples_palette.dcm"))
    rgb = pydicom.pixels.apply_color_lut(dataset.pixel_array, dataset) >> 8
    luma = (rgb @ np.array([299, 587, 114]) + 500) // 1000
    np.testing.assert_array_equal(film.pixels, luma * 257)


def test_palette_of_a_big_endian_file(as_bytes):
    """The words of a palette are swapped in big endian, and the colours stay the same."""
    films = []
    for syntax, order in (("explicit-le", "<"), ("explicit-be", ">")):
        dataset = film_dataset(
            np.arange(64, dtype=np.uint8).reshape(8, 8), FilmHeader(bits_stored=8), transfer_syntax=syntax
        )
        dataset.PhotometricInterpretation = "PALETTE COLOR"
        for colour, factor in (("Red", 3), ("Green", 2), ("Blue", 1)):
            setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [64, 0, 16])
            table = (np.arange(64) * 256 * factor).astype(order + "u2").tobytes()
            setattr(dataset, f"{colour}PaletteColorLookupTableData", table)
        films.append(read_film(as_bytes(dataset)))
    assert films[0].pixels[7, 7] == (299 * 189 + 587 * 126 + 114 * 63 + 500) // 1000 * 257
    np.testing.assert_array_equal(films[1].pixels, films[0].pixels)


@pytest.mark.parametrize(
    ("attributes", "match"),
    [
        ({}, "red palette is missing or segmented"),
        (
            {"RedPaletteColorLookupTableDescriptor": [4, 0, 16], "RedPaletteColorLookupTableData": b"\0\0"},
            "2 of 4 entries",
        ),
    ],
)
def test_damaged_palettes(as_bytes, attributes, match):
    """Indices never reach beyond a table."""
    dataset = changed(PhotometricInterpretation="PALETTE COLOR")
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    refused(as_bytes(dataset), "unreadable", match)


def test_random_damage_ends_in_a_film_or_a_film_error():
    """Two hundred films with bytes changed or cut: no other exception, no warning."""
    rng = np.random.default_rng(0)
    header = FilmHeader(window=(2048, 4096))
    syntaxes = ("explicit-le", "implicit-le", "deflated", "rle")
    films = [film_bytes(stored_film(12, False), header, transfer_syntax=syntax)[0] for syntax in syntaxes]
    ended = {"film": 0, "refused": 0}
    for i in range(200):
        content = bytearray(films[i % 4])
        if i % 3 == 0:
            content = content[: rng.integers(1, len(content))]
        else:
            content[rng.integers(132, 1500 if i % 3 == 1 else len(content))] = rng.integers(256)
        try:
            read_film(bytes(content))
            ended["film"] += 1
        except FilmError:
            ended["refused"] += 1
    assert min(ended.values()) > 20


def test_preamble_is_ignored():
    """A polyglot's preamble (here a TIFF's) doesn't change what is read."""
    content, _ = film_bytes(stored_film(12, False), FilmHeader(window=(2048, 4096)))
    polyglot = b"II*\0" + content[4:]
    np.testing.assert_array_equal(read_film(polyglot).pixels, read_film(content).pixels)


def test_reading_writes_nothing_to_the_terminal(capfd):
    """A film with oddities is read without a word on stdout or stderr."""
    read_film(bundled("MR_small_padded.dcm"))
    read_film(io.BytesIO(bundled("CT_small.dcm").read_bytes()).getvalue())
    assert capfd.readouterr() == ("", "")
