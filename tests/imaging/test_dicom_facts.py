"""Facts of a header are those that pydicom's own values give, whichever way they are read."""

import io
import warnings
from pathlib import Path

import pydicom.data
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from hilum.imaging.dicom_facts import FACT_KEYWORDS, dicom_facts, text, value_of, whole

FOLDER = Path(pydicom.data.__file__).parent


def converted(dataset):
    """The same data set, each of its values brought into pydicom's form."""
    for keyword in FACT_KEYWORDS:
        dataset.get(keyword)
    return dataset


def read(content):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(io.BytesIO(content), stop_before_pixels=True)


def test_facts_of_other_peoples_files_are_pydicoms():
    """Every file of pydicom's own data that it can read: implicit, big endian, odd character sets, damaged values."""
    files = 0
    for path in sorted((FOLDER / "test_files").glob("*.dcm")) + sorted((FOLDER / "charset_files").glob("*.dcm")):
        content = path.read_bytes()
        try:
            fresh, known = read(content), converted(read(content))
        except Exception:  # no preamble, or cut off
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert dicom_facts(fresh, "") == dicom_facts(known, ""), path.name
        files += 1
    assert files >= 60


def film(implicit, little, **values):
    """A data set as a file has it: no value looked at yet."""
    dataset, buffer = Dataset(), DicomBytesIO()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, little
    write_dataset(buffer, dataset)
    buffer.seek(0)
    return read_dataset(buffer, implicit, little)


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_values_of_a_fresh_header(implicit, little):
    """Padding goes, characters beyond ASCII are read by their character set, several values are no single text."""
    dataset = film(
        implicit,
        little,
        SpecificCharacterSet="ISO_IR 192",
        PatientID=" 0815 ",
        Manufacturer="Röntgen",
        BodyPartExamined="",
        ImageType=["ORIGINAL", "PRIMARY"],
        Rows=300,
    )
    assert (text(dataset, "PatientID"), text(dataset, "Manufacturer")) == ("0815", "Röntgen")
    assert (text(dataset, "BodyPartExamined"), text(dataset, "ImageType")) == (None, None)
    assert (whole(dataset, "Rows"), whole(dataset, "Columns"), whole(dataset, "PatientID")) == (300, None, 815)
    assert (value_of(dataset, "Rows"), value_of(dataset, "Columns")) == (300, None)
    assert list(value_of(dataset, "ImageType")) == ["ORIGINAL", "PRIMARY"]


def test_escapes_of_a_character_set_are_followed():
    """ISO 2022: bytes below 128 that stand for other characters behind an escape sequence."""
    dataset = film(False, True, SpecificCharacterSet=["", "ISO 2022 IR 87"], InstitutionName="病院")
    assert dataset.get_item("InstitutionName").value.isascii()
    assert text(dataset, "InstitutionName") == "病院"
