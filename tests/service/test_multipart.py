"""Multipart bodies are read the same however they are cut, and no body makes the reader hold much."""

import random

import pytest

from hilum.service.dicomweb.media import accepted, takes_multipart
from hilum.service.dicomweb.multipart import LONGEST_HEADER, MOST_AROUND, Malformed, Reader, header_of, parameters

BODY = (
    b"preamble\r\n--b1\r\nContent-Type: application/dicom\r\nContent-Length: 3\r\n\r\nabc\r\n"
    b"--b1  \t\r\n\r\n\r\n--b\r\n--b \r\n--b1\r\nX: y\r\n\r\n\r\n--b1--\r\nepilogue"
)
PARTS = [(b"Content-Type: application/dicom\r\nContent-Length: 3", b"abc"), (b"", b"\r\n--b\r\n--b "), (b"X: y", b"")]


def read(chunks: list[bytes], boundary: str = "b1", most: int = 10) -> list[tuple[bytes, bytes]]:
    reader, parts = Reader(boundary, most), []
    for chunk in chunks:
        for piece in reader.feed(chunk):
            if piece.kind == "part":
                parts.append((piece.content, bytearray()))
            elif piece.kind == "data":
                parts[-1][1].extend(piece.content)
    assert reader.finished
    return [(header, bytes(content)) for header, content in parts]


def test_parts_are_the_same_however_a_body_is_cut() -> None:
    assert read([BODY]) == PARTS
    assert read([BODY[i : i + 1] for i in range(len(BODY))]) == PARTS
    chance = random.Random(0)
    for _ in range(300):
        cuts = sorted(chance.sample(range(len(BODY)), chance.randint(1, 8)))
        assert read([BODY[a:b] for a, b in zip([0, *cuts], [*cuts, len(BODY)], strict=True)]) == PARTS


def test_a_large_part_is_not_held() -> None:
    reader, block, held = Reader("b1", 10), b"\r\n--b" * 10_000, 0
    list(reader.feed(b"--b1\r\n\r\n"))
    for _ in range(100):
        list(reader.feed(block))
        held = max(held, len(reader._buffer))
    assert held < 10


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"x" * (MOST_AROUND + 100), "Too much stands before the first"),
        (b"--b1\r\n" + b"x" * (LONGEST_HEADER + 100), "header is longer than 16384 bytes"),
        (b"--b1x\r\n\r\n", "Behind a boundary stands something other"),
        (b"--b1" + b" " * 300, "Behind a boundary stands something other"),
        (b"--b1\r\n\r\n\r\n" * 11, "more than 10 parts. Send it in several requests"),
        (b"--b1--" + b"x" * (MOST_AROUND + 100), "behind the last boundary"),
    ],
)
def test_what_is_no_multipart_is_refused_early(body: bytes, message: str) -> None:
    for size in (len(body), 7):
        reader = Reader("b1", 10)
        with pytest.raises(Malformed, match=message):
            for at in range(0, len(body), size):
                list(reader.feed(body[at : at + size]))


@pytest.mark.parametrize("boundary", ["", "x" * 201, "a ", "a\r\nb", "ä", 'a"b'])
def test_a_boundary_that_is_none_is_refused(boundary: str) -> None:
    with pytest.raises(Malformed, match="boundary of the body is missing or is none"):
        Reader(boundary, 10)


def test_media_types_and_headers_are_read() -> None:
    value = 'Multipart/Related; type="application/dicom"; Boundary="a;\\"b, c" ;x=y'
    assert parameters(value) == ("multipart/related", {"type": "application/dicom", "boundary": 'a;"b, c', "x": "y"})
    assert parameters("") == ("", {})
    assert header_of(b"A: 1\r\ncontent-TYPE : x/y\r\n", "content-type") == "x/y"
    assert header_of(b"nothing", "content-type") == ""


def test_the_most_wanted_kind_comes_first() -> None:
    kinds = accepted('a/b;q=0.1, multipart/related; type="x/y, z"; transfer-syntax=*, c/d; q=0, e/f;q=bad')
    assert [one.kind for one in kinds] == ["multipart/related", "a/b"]
    assert (kinds[0].part, kinds[0].syntax) == ("x/y, z", "*")
    assert [one.kind for one in accepted(None)] == ["*/*"]
    (image,) = accepted('multipart/related; type="image/*"')
    assert takes_multipart(image, "image/jls", "1.2.840.10008.1.2.4.80")
    assert not takes_multipart(image, "application/octet-stream", None)
    (one,) = accepted("multipart/related; transfer-syntax=1.2")
    assert (takes_multipart(one, "x/y", "1.2"), takes_multipart(one, "x/y", "1.3")) == (True, False)
