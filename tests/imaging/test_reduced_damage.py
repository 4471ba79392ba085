"""What reduced decoding sees of damage: whatever is refused when it is decoded whole is not taken at reduced size."""

import functools
import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import UID
from tests.imaging.grainy_phantoms import as_film

from hilum.errors import FilmError
from hilum.imaging import reduced_reading
from hilum.imaging.dicom_reading import encoded_film
from hilum.imaging.dicom_writing import FilmHeader, film_dataset
from hilum.imaging.intended_use import GatePolicy
from hilum.imaging.limits import Limits
from hilum.imaging.preprocessing import Preprocessing
from hilum.imaging.reading import read_film
from hilum.imaging.reduced_reading import JPEG_2000_SYNTAXES, JPEG_SYNTAX, read_reduced
from hilum.inference.preparing import prepare_film

CONFIG, LIMITS = Preprocessing(size=16, decoding="reduced"), Limits()
KINDS = {
    "LRCP": {"progression": "LRCP"},
    "RLCP": {"progression": "RLCP"},
    "RPCL": {"progression": "RPCL"},
    "PCRL": {"progression": "PCRL"},
    "CPRL": {"progression": "CPRL"},
    "layers": {"quality_layers": [40, 20, 10, 0]},
    "tiles": {"progression": "RPCL", "tile_size": (64, 64)},
    "lengths": {"plt": True},
    "lossy": {"irreversible": True, "quality_layers": [10]},
}
"""Codestreams of JPEG 2000 as Pillow writes them."""


def picture(shape=(200, 210)):
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    grain = np.random.default_rng(0).normal(0, 200, shape)
    return (32768 + 24000 * np.sin(y / 19) * np.cos(x / 17) + grain).clip(0, 65535).astype(np.uint16)


@functools.cache
def codestream(kind):
    buffer = io.BytesIO()
    if kind == "jpeg":
        Image.fromarray((picture() >> 8).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    else:
        Image.fromarray(picture()).save(buffer, "JPEG2000", no_jp2=True, **KINDS[kind])
    return buffer.getvalue()


@functools.cache
def around(kind):
    """What a film's file holds before its frame's length, and after the frame."""
    bits = 8 if kind == "jpeg" else 16
    header = FilmHeader(bits_stored=bits, window=(1 << (bits - 1), 1 << bits), age_years=50.0)
    dataset = film_dataset((picture() >> (16 - bits)).astype(np.uint8 if bits == 8 else np.uint16), header)
    dataset.file_meta.TransferSyntaxUID = UID(JPEG_SYNTAX if kind == "jpeg" else JPEG_2000_SYNTAXES[0])
    dataset.add_new(0x7FE00010, "OB", encapsulate([b"the only frame"]))
    dataset["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    before, after = buffer.getvalue().split(b"the only frame")
    return before[:-4], after


def as_file(kind, frame):
    """The frame in a film's file, as one fragment."""
    before, after = around(kind)
    padded = frame + bytes(len(frame) % 2)
    return before + len(padded).to_bytes(4, "little") + padded + after


@pytest.fixture(autouse=True)
def small_films(monkeypatch):
    """Small films are quick to decode; their tiles don't matter here."""
    monkeypatch.setattr(reduced_reading, "SMALLEST_JPEG_2000", 64)


def ends(kind, frame):
    """How a film ends decoded whole, and at reduced size: refused or not, taken or not."""
    content = as_file(kind, frame)
    try:
        read_film(content)
        whole = "whole"
    except FilmError:
        whole = "refused"
    try:
        reduced = read_reduced(content, CONFIG, LIMITS)
    except FilmError:
        reduced = None
    return whole, "taken" if reduced is not None and reduced.checked else "not taken"


def mutated(frame, way, rng):
    """A codestream damaged in one of eight ways."""
    at, other, some = (int(rng.integers(2, len(frame) - 2)), int(rng.integers(2, 400)), int(rng.integers(1, 60)))
    if way == "cut":
        return frame[:at]
    if way == "left out":
        return frame[:at] + frame[at + some :]
    if way == "put in":
        return frame[:at] + rng.bytes(some) + frame[at:]
    if way == "zeros":
        return frame[:at] + bytes(len(frame[at : at + some])) + frame[at + some :]
    if way == "zeros to the end":
        return frame[:at] + bytes(len(frame) - at)
    if way == "other bytes":
        return frame[:at] + rng.bytes(len(frame[at : at + some])) + frame[at + some :]
    at = other if way == "a byte of the head" else at
    return frame[:at] + bytes([frame[at] ^ int(rng.integers(1, 256))]) + frame[at + 1 :]


WAYS = ("cut", "left out", "put in", "zeros", "zeros to the end", "other bytes", "a byte of the head", "a byte")


@pytest.mark.parametrize("count", [4, pytest.param(400, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
@pytest.mark.parametrize("kind", [*KINDS, "jpeg"])
def test_what_is_refused_whole_is_not_taken_reduced(kind, count):
    """Codestreams cut and changed by chance; all whose bytes grow fewer, more or end in zeros are decoded whole."""
    rng, found = np.random.default_rng(3), Counter()
    assert ends(kind, codestream(kind)) == ("whole", "taken")
    for way in WAYS:
        for _ in range(count):
            frame = mutated(codestream(kind), way, rng)
            found[way, *ends(kind, frame)] += 1
    assert not [one for one in found if one[1:] == ("refused", "taken")], found
    if kind != "jpeg":
        lost = ("cut", "left out", "put in", "zeros to the end")
        assert not [one for one in found if one[0] in lost and one[2] == "taken"], found
    assert sum(number for one, number in found.items() if one[2] == "taken") >= count


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["LRCP", "lossy", "tiles"])
def test_every_change_of_a_byte_of_the_header(kind):
    """Each byte from the first marker behind the size to the first packet, changed to every other value."""
    frame, found = codestream(kind), Counter()
    for at in range(frame.index(b"\xff\x52"), frame.index(b"\xff\x93") + 6):
        for value in set(range(256)) - {frame[at]}:
            found[ends(kind, frame[:at] + bytes([value]) + frame[at + 1 :])] += 1
    assert found["refused", "taken"] == 0, found
    assert min(found["refused", "not taken"], found["whole", "taken"]) > 1000


def with_marker(frame, content):
    """The codestream with a marker segment before its first tile-part."""
    at = frame.index(b"\xff\x90\0\x0a")
    return frame[:at] + content + frame[at:]


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        (lambda frame: with_marker(frame, b"\xff\x64\0\x04\0\1"), True),  # COM
        (lambda frame: frame + b"\0", True),  # padding
        (lambda frame: with_marker(frame, b"\xff\x53\0\x09\0\0\5\4\4\0\1"), False),  # COC
        (lambda frame: with_marker(frame, b"\xff\x5e\0\5\0\0\0"), False),  # RGN
        (lambda frame: frame + b"\1\2", False),
        (lambda frame: frame[:-2], False),
        (lambda frame: frame[:-2] + b"\0\0", False),
        (lambda frame: frame.replace(b"\xff\x90\0\x0a\0\0", b"\xff\x90\0\x0a\0\1"), False),  # another tile's number
        (lambda frame: frame[: (at := frame.index(b"\xff\x90\0\x0a") + 6)] + bytes(4) + frame[at + 4 :], False),
    ],
    ids=["comment", "padding", "COC", "RGN", "more bytes", "no end", "zeros for the end", "tile 1", "open length"],
)
def test_codestreams_of_which_damage_is_known(change, taken):
    """Only plain codestreams that end where their tile-parts do are taken at reduced size alone."""
    assert (ends("LRCP", change(codestream("LRCP")))[1] == "taken") == taken


@pytest.mark.parametrize("syntax", ["jpeg2000-lossless", "jpeg2000", "jpeg"])
def test_films_cut_short_end_as_they_do_whole(syntax):
    """Through the whole way of a film: the same refusal, with the same code and sentence."""
    stored = picture((1100, 1100)) >> 4
    content = as_film(stored if syntax != "jpeg" else (stored >> 4).astype(np.uint8), syntax)
    frame = bytes(encoded_film(content, LIMITS, (JPEG_SYNTAX, *JPEG_2000_SYNTAXES)).frame).rstrip(b"\0")
    at, policy = content.index(frame), GatePolicy(second_decoder=False)
    for share in (0.02, 0.3, 0.6, 0.9, 0.999):
        kept = int(share * len(frame)) // 2 * 2
        length = content[at - 4 : at]
        assert int.from_bytes(length, "little") - len(frame) in (0, 1)
        shorter = content[: at - 4] + kept.to_bytes(4, "little") + frame[:kept] + b"\xfe\xff\xdd\xe0" + bytes(4)
        for damaged in (shorter, content[: at + kept]):
            told = []
            for decoding in ("full", "reduced"):
                with pytest.raises(FilmError) as found:
                    prepare_film(damaged, Preprocessing(size=64, decoding=decoding), policy)
                told.append((found.value.code, str(found.value)))
            assert told[0] == told[1]
