"""What is kept of a film depends on the film alone, so the digest of it is its identity."""

import hashlib
import io

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.service.small import dicom, kept, png, with_head

from hilum.service.container import HEAD_BYTES, IMPLEMENTATION, IMPLEMENTATION_VERSION, recognise
from hilum.service.film_identity import former_identity_of, identity_of
from hilum.service.film_writing import FilmWriter, Written
from hilum.service.refusals import Refused

GOLDEN = "d19c8b7544313fd47600da27d7302841c11127c47394856eb7f785cb540d65bc"
LONG = dicom(PatientComments="x" * 10_000) + bytes(150_000)


def write(content: bytes, *sizes: int, largest_bytes: int = 1 << 30) -> tuple[bytes, Written]:
    """What a writer keeps of a film that comes in pieces of these sizes, and then in one."""
    out = io.BytesIO()
    writer = FilmWriter(out, key=None, largest_bytes=largest_bytes)  # type: ignore[arg-type]
    for size in sizes:
        writer.write(content[:size])
        content = content[size:]
    writer.write(memoryview(content))
    written = writer.finish()
    return out.getvalue(), written


def test_the_head_is_what_another_writer_makes_of_the_three_uids() -> None:
    content, written = write(LONG)
    assert content == kept(LONG)
    assert written.size == len(content)
    assert written.file_sha256 == hashlib.sha256(content).hexdigest()
    read = pydicom.dcmread(io.BytesIO(content))
    assert read == pydicom.dcmread(io.BytesIO(LONG))
    assert [element.tag.element for element in read.file_meta] == [0, 1, 2, 3, 0x10, 0x12, 0x13]


def test_no_release_changes_what_films_are_known_by() -> None:
    """A golden value: films on record would be others."""
    assert (IMPLEMENTATION, IMPLEMENTATION_VERSION) == (b"2.25.264911737201870532921839437261528830927", b"HILUM")
    head = hashlib.sha256(kept(dicom())[: recognise(kept(dicom())).content_starts]).hexdigest()
    assert head == hashlib.sha256(recognise(dicom()).kept_head).hexdigest() == GOLDEN


@pytest.mark.parametrize(
    "elements",
    [
        {"SourceApplicationEntityTitle": "SITE"},
        {"ImplementationClassUID": "1.2.3.4", "ImplementationVersionName": "OTHER 1.0"},
        {"ImplementationVersionName": None, "FileMetaInformationVersion": None},
        {"PrivateInformationCreatorUID": "1.2.3", "PrivateInformation": b"Canary" * 1000},
    ],
)
def test_nothing_else_of_the_senders_head_is_kept(elements: dict[str, object]) -> None:
    other = with_head(LONG, **elements)
    assert other != LONG
    assert write(other)[0] == kept(LONG)


@pytest.mark.parametrize("name", ["MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID"])
def test_a_head_without_one_of_the_three_is_kept_as_it_came(name: str) -> None:
    bare = with_head(LONG, **{name: None})
    content, written = write(b"MZ" + bytes(126) + bare[128:])
    assert content == bare, "but for the preamble"
    assert written.size == len(bare)
    assert identity_of([bare]) != identity_of([LONG])


def test_uids_that_differ_make_another_film() -> None:
    others = {
        "MediaStorageSOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1",
        "MediaStorageSOPInstanceUID": "1.2.3",
        "TransferSyntaxUID": "1.2.840.10008.1.2",
    }
    made = {identity_of([with_head(LONG, **{name: value})]) for name, value in others.items()}
    assert len(made | {identity_of([LONG])}) == 4


def with_instance(element: bytes) -> bytes:
    """The film with this in the place of its Media Storage SOP Instance UID."""
    at = LONG.index(b"\x02\0\x03\0UI")
    return LONG[:at] + b"\x02\0\x03\0" + element + LONG[at + 8 + LONG[at + 6] :]


@pytest.mark.parametrize(
    "element",
    [b"UN\0\0\x06\0\0\x001.2.3\0", b"LO\x06\x001.2.3 ", b"UI\0\0", b"UI\x02\0\0\0", b"UI\x46\0" + b"1." * 35],
    ids=["unknown", "another", "empty", "blank", "long"],
)
def test_a_uid_that_is_none_is_missing(element: bytes) -> None:
    odd = with_instance(element)
    assert write(odd)[0] == odd
    assert recognise(odd[:HEAD_BYTES]).named_uid is None


def test_a_uid_is_kept_as_it_was_given_whatever_padding_it_had() -> None:
    film = write(with_instance(b"UI\x05\x001.2.3"))[0]
    assert pydicom.dcmread(io.BytesIO(film)).file_meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert b"UI\x06\x001.2.3\0" in film
    for padded in (b"UI\x06\x001.2.3\0", b"UI\x06\x001.2.3 ", b"UI\x08\x001.2.3\0\0\0"):
        assert write(with_instance(padded))[0] == film


@given(st.lists(st.integers(0, 100_000), max_size=8))
def test_however_it_comes_it_is_kept_the_same(sizes: list[int]) -> None:
    assert write(LONG, *sizes) == write(LONG)


@pytest.mark.parametrize(
    "content",
    [LONG, dicom(), png(), with_head(LONG, TransferSyntaxUID=None)],
    ids=["long", "short", "png", "bare"],
)
def test_what_is_kept_is_kept_as_it_is(content: bytes) -> None:
    first, written = write(content)
    assert write(first) == (first, written)
    assert identity_of([first[:100], first[100:]]) == identity_of([content]) == written.file_sha256


def test_the_caps_are_of_what_came() -> None:
    long = with_head(LONG, PrivateInformationCreatorUID="1.2.3", PrivateInformation=bytes(1000))
    content, _ = write(long, largest_bytes=len(long))
    assert len(content) < len(long) - 1000
    with pytest.raises(Refused, match="larger than"):
        write(long, largest_bytes=len(long) - 1)
    short = with_head(dicom(), ImplementationVersionName=None)
    content, written = write(short, largest_bytes=len(short))
    assert written.size == len(content) > len(short)


def test_the_former_identity_is_of_the_data_set_and_its_transfer_syntax() -> None:
    """As it was before migration 0016, written out."""
    at = recognise(LONG[:HEAD_BYTES]).content_starts
    said = hashlib.sha256(b"dicom\x001.2.840.10008.1.2.1\0" + LONG[at:]).hexdigest()
    for content in (LONG, kept(LONG), with_head(LONG, SourceApplicationEntityTitle="SITE")):
        for size in (1 << 20, 50_000, 1000):
            assert former_identity_of(content[i : i + size] for i in range(0, len(content), size)) == said
    bare = with_head(LONG, TransferSyntaxUID=None)
    assert former_identity_of([bare]) == hashlib.sha256(b"dicom\0\0" + LONG[at:]).hexdigest()
    assert former_identity_of([png()]) == hashlib.sha256(b"png\0" + png()).hexdigest()


def test_a_film_names_itself_before_it_is_read() -> None:
    assert recognise(dicom(7)).named_uid == "1.2.826.0.1.3680043.10.1.7"
    assert recognise(png()).named_uid is None
