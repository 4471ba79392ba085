"""A header's first bytes say what the whole film says, or nothing."""

import io
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from tests.service.answers import NAMES, film

from hilum.errors import FilmError
from hilum.service.dicomweb import attributes
from hilum.service.dicomweb.attributes import head_attributes, kept_elements, read_attributes

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
FILES = ("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "reportsi.dcm", "693_J2KI.dcm", "MR_small_bigendian.dcm")


def nested(syntax: str, *, undefined: bool) -> bytes:
    """A film with sequences in sequences before what is kept, closed by length or by delimiters."""
    inner, middle, outer = Dataset(), Dataset(), pydicom.dcmread(io.BytesIO(film(syntax=syntax)))
    inner.CodeValue, inner.Modality = "113014", "OT"
    middle.PurposeOfReferenceCodeSequence = Sequence([inner, inner])
    outer.ReferencedStudySequence = Sequence([middle, Dataset()])
    outer.RequestAttributesSequence = Sequence([])
    for one in (outer["ReferencedStudySequence"], middle["PurposeOfReferenceCodeSequence"]):
        one.is_undefined_length = undefined
        for item in one.value:
            item.is_undefined_length_sequence_item = undefined
    out = io.BytesIO()
    outer.save_as(out)
    return out.getvalue()


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_sequences_are_passed_over(syntax: str, undefined: bool) -> None:
    content = nested(syntax, undefined=undefined)
    assert head_attributes(content[:-100]) == read_attributes(content)
    assert read_attributes(content)["00080060"]["Value"] == ["CR"]


@pytest.mark.parametrize("characters", NAMES)
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_names_in_every_character_set(syntax: str, characters: str) -> None:
    content = film(syntax=syntax, raw={0x00080005: characters.encode(), 0x00100010: NAMES[characters]})
    assert head_attributes(content) == read_attributes(content)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_what_is_there_without_a_value_is_told_without_pydicom(monkeypatch: pytest.MonkeyPatch, syntax: str) -> None:
    empty = (0x00080020, 0x00080050, 0x00100010, 0x00100040, 0x00200013, 0x00280008)
    content = film(syntax=syntax, raw=dict.fromkeys(empty, b""))
    expected = read_attributes(content)
    assert expected["00080050"] == {"vr": "SH"}

    def unasked(*_: Any) -> None:
        raise AssertionError("what says nothing needs no reading")

    monkeypatch.setattr(attributes, "_told", unasked)
    assert head_attributes(content) == expected


@pytest.mark.parametrize("name", FILES)
def test_real_headers(name: str) -> None:
    with open(str(get_testdata_file(name)), "rb") as stream:
        content = stream.read()

    def told(read: Any) -> Any:
        try:
            return read(content)
        except FilmError as error:
            return error.code

    assert told(head_attributes) in (None, told(read_attributes))


def test_what_the_first_bytes_do_not_hold_is_not_guessed() -> None:
    content = film()
    end = content.index(b"\x28\x00\x00\x01")
    assert head_attributes(content[: end - 40]) is None
    assert head_attributes(b"\x89PNG\r\n\x1a\n" + bytes(100)) is None
    assert head_attributes(b"no film") is None
    assert kept_elements(b"\x08\x00\x16\x00\x01\x02\x03\x04", implicit=False) is None, "no value representation"
    endless = b"\x08\x00\x10\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff" * 1000
    assert kept_elements(endless, implicit=False) is None
