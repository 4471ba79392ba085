"""Mutated DICOM files, PNGs and JPEGs, and bombs, end in a film or a `FilmError`: nothing else, no hang, no memory.

Films are prepared in a sandbox's children, as in service: the limits there are part of the promise.
"""

import io
import struct
import time
import tracemalloc
import zlib
from collections import Counter

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import UID
from tests.imaging import pictures_by_hand
from tests.imaging.jpeg_by_hand import extended_jpeg, lossless_jpeg
from tests.imaging.pictures_by_hand import chunk, jpeg, more_scans, much

from hilum.errors import FilmError
from hilum.imaging.dicom_writing import FilmHeader, film_bytes, film_dataset
from hilum.imaging.encoders import ENCODERS
from hilum.imaging.intended_use import GatePolicy
from hilum.imaging.limits import Limits
from hilum.imaging.preprocessing import Preprocessing
from hilum.imaging.reading import read_facts, read_film
from hilum.imaging.sandbox import Sandbox
from hilum.inference.preparing import prepare_film
from hilum.service.bundled import PRELOAD
from hilum.service.settings import Settings

QUICK, FULL = 3_000, 100_000
LIMITS = Limits(max_pixels=1_000_000, max_bytes=8 << 20, max_header_bytes=1 << 20)
"""Small, so that an overflow would show at once."""

SANDBOX = {
    "memory_mb": 256, "cpu_s": 5.0, "wall_s": Settings.model_fields["decode_wall_s"].default, "preload": PRELOAD,
}  # fmt: skip
"""Less memory and processor time than the service's own, and as long to wait."""

KNOWN = {
    "empty", "too-large", "truncated", "unreadable", "not-an-image", "no-pixels", "unsupported-syntax",
    "decoders-disagree",
}  # fmt: skip
ROWS, COLUMNS, FRAMES = b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x11\x00US\x02\x00", b"\x28\x00\x08\x00IS"
SIZES = (0, 1, 2, 127, 255, 256, 4096, 32767, 32768, 65535)
LENGTHS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def originals():
    """One film in each transfer syntax, 48 × 40."""
    stored = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 4096, (6, 5)), 8, 0), 8, 1).astype(np.uint16)
    films = []
    for name, encoder in ENCODERS.items():
        small = name in ("jpeg",)
        pixels = (stored >> 4).astype(np.uint8) if small else stored
        header = FilmHeader(bits_stored=8 if small else 12, patient_name="CANARY^NAME", patient_id="CANARY")
        films.append(film_bytes(pixels, header, transfer_syntax=name)[0])
        assert encoder.uid.encode() in films[-1]
    for uid, write in (("51", extended_jpeg), ("57", lossless_jpeg), ("70", lossless_jpeg)):
        dataset = film_dataset(stored, FilmHeader(bits_stored=12, patient_name="CANARY^NAME", patient_id="CANARY"))
        dataset.file_meta.TransferSyntaxUID = UID(f"1.2.840.10008.1.2.4.{uid}")
        dataset.add_new(0x7FE00010, "OB", encapsulate([write(stored, 12)]))
        dataset["PixelData"].is_undefined_length = True
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        films.append(buffer.getvalue())
    return films


def put(content, at, value):
    content[at : at + len(value)] = value


def flip(content, rng, first, last):
    """A few bytes anywhere."""
    for at in rng.integers(first, max(first + 1, last), rng.integers(1, 6)):
        content[at] = rng.integers(256)


def mutate(content, rng):
    """One of the ways in which a file can lie; returns its name and the mutated bytes."""
    content = bytearray(content)
    pixels = max(content.find(b"\xe0\x7f\x10\x00"), 132)
    way = ("container", "codestream", "cut", "length", "size", "frames", "nested", "fragments", "uid", "insert")[
        rng.integers(10)
    ]
    if way == "container":
        flip(content, rng, 128, pixels)
    elif way == "codestream":
        flip(content, rng, pixels, len(content))
    elif way == "cut":
        del content[rng.integers(0, len(content)) :]
    elif way == "length":
        # A length or offset anywhere becomes one of those that overflow.
        put(content, int(rng.integers(132, len(content) - 4)), struct.pack("<L", rng.choice(LENGTHS)))
    elif way == "size":
        for tag in (ROWS, COLUMNS):
            at = content.find(tag)
            if at >= 0:
                put(content, at + 8, struct.pack("<H", rng.choice(SIZES)))
    elif way == "frames":
        at = content.find(ROWS)
        text = str(rng.choice([0, 1, 2, 2**31 - 1, 2**31, 2**32 + 1, 10**11])).encode()
        content[max(at, 132) : max(at, 132)] = (
            FRAMES + struct.pack("<H", len(text) + len(text) % 2) + text + b" " * (len(text) % 2)
        )
    elif way == "nested":
        depth = int(rng.integers(1, 400))
        head = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
        at = max(content.find(b"\x08\x00\x16\x00UI"), 132)
        content[at:at] = head * depth + (b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * depth)
    elif way == "fragments":
        # Items of encapsulated pixels: one length changed, one doubled, or the end left out.
        at = content.find(b"\xfe\xff\x00\xe0", pixels)
        if at >= 0:
            put(content, at + 4, struct.pack("<L", rng.choice([*LENGTHS, 2, 3, 1 << 20])))
        else:
            del content[-8:]
    elif way == "uid":
        at = content.find(b"1.2.840.10008.1.2")
        put(content, at, rng.choice([b"../../etc/passwd", b"1.2.840.10008.1.9", b"\0" * 17, b"\xff" * 17]))
    else:
        at = int(rng.integers(0, len(content)))
        content[at:at] = rng.bytes(int(rng.integers(1, 40)))
    return way, bytes(content)


def ended(content):
    """How reading in this process ends: "film", or the refusal's code."""
    started = time.process_time()
    try:
        outcome = f"film of {read_film(content, limits=LIMITS).pixels.dtype}"
    except FilmError as error:
        outcome = error.code
    assert time.process_time() - started < 5
    return outcome


def endings(count, seed, films, mutate, limits):
    """Mutate and prepare films as the reading room does, in children under its limits.

    Returns:
        How often each way was gone, how often each end was met, and what took too much memory.
    """
    rng = np.random.default_rng(seed)
    ways, ends, told, large = Counter(), Counter(), [], []

    def prepare(sandbox, jobs):
        """End of each, by its number."""
        for at, found in sandbox.map(prepare_film, jobs):
            yield at, found.code if isinstance(found, FilmError) else "film"
            if isinstance(found, FilmError):
                told.append(str(found))

    with Sandbox(2, **SANDBOX) as sandbox, Sandbox(1, **SANDBOX) as alone:
        for start in range(0, count, 1000):
            jobs = []
            for at in range(start, min(count, start + 1000)):
                way, content = mutate(films[at % len(films)], rng)
                ways[way] += 1
                jobs.append((content, Preprocessing(size=32), GatePolicy(), limits))
            for at, end in list(prepare(sandbox, jobs)):
                if end == "timeout":  # on a machine that is busy with other things, perhaps
                    ((_, end),) = prepare(alone, [jobs[at]])
                ends[end] += 1
                if end == "out-of-memory":
                    large.append(jobs[at][0])
    assert not any("CANARY" in sentence for sentence in told)
    assert sum(ends.values()) == count
    return ways, ends, large


@pytest.mark.parametrize("count", [QUICK, pytest.param(FULL, marks=[pytest.mark.long, pytest.mark.timeout(7200)])])
def test_mutated_films_end_in_a_film_or_a_refusal(count, counted):
    """In every transfer syntax; no child crashes, computes for 5 s, takes over 256 MB or longer than the service waits,
    which other codes tell."""
    tried = counted(count) if count == FULL else count
    ways, ends, _ = endings(tried, 7, originals(), mutate, LIMITS)
    # A lie about the size may ask for what a child has, or for a little more: which depends on what it read before.
    assert set(ends) <= KNOWN | {"film", "out-of-memory"}, ends
    assert ends["out-of-memory"] <= 1 + tried // 50
    assert len(ways) == 10
    assert min(ways.values()) >= tried // 25
    assert min(ends["film"], ends["truncated"], ends["unreadable"], ends["too-large"]) >= tried // 40


@pytest.mark.parametrize(
    "count",
    [
        QUICK // 5,
        pytest.param(QUICK, marks=pytest.mark.system),
        pytest.param(FULL, marks=[pytest.mark.long, pytest.mark.timeout(7200)]),
    ],
)
def test_mutated_pictures_end_in_a_film_or_a_refusal(count, counted):
    """PNG and JPEG of every form, at the service's limits of size: the same, and out of memory are those alone that
    announce millions of pixels."""
    tried = counted(count) if count == FULL else count
    pictures = list(pictures_by_hand.originals().values())
    ways, ends, large = endings(tried, 11, pictures, pictures_by_hand.mutate, Limits())
    assert set(ends) <= KNOWN | {"film", "out-of-memory"}, ends
    assert min(map(pictures_by_hand.announced, large), default=6_000_000) >= 6_000_000
    assert len(ways) == 10
    assert min(ways.values()) >= tried // 25
    assert min(ends["film"], ends["truncated"], ends["unreadable"], ends["too-large"]) >= tried // 125


def test_facts_of_mutated_films():
    """Reading the header alone ends no other way."""
    rng = np.random.default_rng(9)
    films, ends = originals(), Counter()
    for at in range(QUICK // 2):
        try:
            ends[read_facts(mutate(films[at % len(films)], rng)[1], limits=LIMITS).format] += 1
        except FilmError as error:
            ends[error.code] += 1
    assert set(ends) <= KNOWN | {"dicom"}


@pytest.mark.parametrize("depth", [33, 250, 5000])
def test_deep_sequences(depth):
    """Far beyond Python's stack, refused by a number and at once."""
    content = film_bytes(np.zeros((4, 4), np.uint16), FilmHeader())[0]
    at = content.index(b"\x08\x00\x16\x00UI")
    head = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    nested = head * depth + b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * depth
    assert ended(content[:at] + nested + content[at:]) == "too-large"


def png_bomb(width, height, data, text=b""):
    """A picture that announces much, or announces little and inflates to more."""
    head = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + text + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg_of_size(rows, columns):
    """A small JPEG whose header announces more."""
    content = bytearray(jpeg(np.zeros((16, 16), np.uint8)))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", rows, columns)
    return bytes(content)


def scans_bomb():
    """One progressive JPEG with its last scan again and again."""
    content = jpeg(np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8), progressive=True)
    return more_scans(content, 3000)


READ = {"film of uint16", "truncated", "unreadable"}


@pytest.mark.parametrize(
    ("make", "outcomes"),
    [
        (lambda: png_bomb(60_000, 60_000, b""), {"too-large"}),
        (lambda: png_bomb(1_500, 1_500, b""), {"too-large"}),
        (lambda: png_bomb(16, 16, much()), READ),
        (lambda: png_bomb(16, 16, zlib.compress(bytes(272)), chunk(b"zTXt", b"k\0\0" + much())), READ),
        (lambda: png_bomb(16, 16, zlib.compress(bytes(272)), chunk(b"iCCP", b"k\0\0" + much())), READ),
        (lambda: jpeg_of_size(65_500, 65_500), {"too-large"}),
        (lambda: jpeg_of_size(3_000, 3_000), {"too-large"}),
        (lambda: jpeg_of_size(900, 900), READ),
        (scans_bomb, {"too-large"}),
    ],
    ids=["PNG size", "PNG above limit", "PNG inflates", "zTXt", "iCCP", "JPEG size", "JPEG above limit", "JPEG short",
         "scans"],
)  # fmt: skip
def test_picture_bombs(make, outcomes):
    """Each ends by name, and takes less than 24 MB of Python's memory on the way."""
    content = make()  # less than the pixels it announces or inflates to
    tracemalloc.start()
    try:
        assert ended(content) in outcomes
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()
