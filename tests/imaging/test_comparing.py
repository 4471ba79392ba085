"""Two films are compared element by element, and nothing of what they hold is told."""

import io

from pydicom import dcmread
from pydicom.uid import RLELossless
from tests.service.small import dicom

from hilum.imaging.comparing import PIXELS, difference, element_digests, picture_digest


def test_elements_that_differ_are_named_and_their_values_are_not() -> None:
    film = dcmread(io.BytesIO(dicom(1, PatientName="CANARY^One", StudyDescription="CANARY")))
    film.private_block(0x0009, "CANARY MAKER", create=True).add_new(0x01, "LO", "CANARY")
    out = io.BytesIO()
    film.save_as(out)
    told = difference(element_digests(out.getvalue()), element_digests(dicom(1, 9, StudyID="7")))
    assert told.differing == ("PatientName", PIXELS)
    assert told.first_only == ("(0009,0010)", "(0009,1001)", "StudyDescription")
    assert told.second_only == ("StudyID",)
    assert "CANARY" not in str(told)


def test_the_same_picture_is_the_same_however_it_is_encoded() -> None:
    film = dcmread(io.BytesIO(dicom(1)))
    film.compress(RLELossless)
    out = io.BytesIO()
    film.save_as(out)
    plain, packed = dicom(1), out.getvalue()
    assert element_digests(plain)[PIXELS] != element_digests(packed)[PIXELS]
    assert picture_digest(plain) == picture_digest(packed) != picture_digest(dicom(1, 9))
