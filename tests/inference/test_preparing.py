"""Films of a bundle that asks for reduced decoding: decoded whole only where something might be missed."""

import dataclasses
import functools
import hashlib
import io

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate

from hilum.errors import FilmError
from hilum.imaging import dicom_reading, raster_reading, reduced_reading
from hilum.imaging.dicom_writing import FilmHeader, film_bytes
from hilum.imaging.intended_use import GatePolicy
from hilum.imaging.limits import Limits
from hilum.imaging.preprocessing import Preprocessing
from hilum.imaging.tile_reading import film_tile
from hilum.inference import preparing
from hilum.inference.preparing import prepare_film

WHOLE, REDUCED = Preprocessing(size=170), Preprocessing(size=170, decoding="reduced")
ONE, TWO = GatePolicy(second_decoder=False), GatePolicy()
SHAPE = (1040, 1100)


@functools.cache
def stored(bits):
    """Two dark lungs in a body with grain: synthetic."""
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    y, x = y / SHAPE[0], x / SHAPE[1]
    lungs = sum(np.exp(-(((x - cx) / 0.14) ** 4) - ((y - 0.45) / 0.3) ** 4) for cx in (0.3, 0.7))
    picture = 0.75 - 0.3 * np.abs(x - 0.5) ** 2 - 0.45 * lungs + np.random.default_rng(0).normal(0, 0.01, SHAPE)
    return np.rint(picture.clip(0, 1) * ((1 << bits) - 1)).astype(np.uint8 if bits == 8 else np.uint16)


@functools.cache
def film(syntax="jpeg2000-lossless", **header):
    bits = 8 if syntax == "jpeg" else 12
    given = {"bits_stored": bits, "window": (1 << (bits - 1), 1 << bits), "age_years": 50.0, "patient_id": "SYN"}
    return film_bytes(stored(bits), FilmHeader(**{**given, **header}), transfer_syntax=syntax)[0]


def raster():
    buffer = io.BytesIO()
    Image.fromarray(stored(8)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def with_elements(content, **elements):
    dataset = pydicom.dcmread(io.BytesIO(content))
    for name, value in elements.items():
        if value is None:
            del dataset[name]
        else:
            setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture
def decodings(monkeypatch):
    """Which decoders of whole pictures ran."""
    ran = []

    def watched(owner, name):
        function = getattr(owner, name)

        def call(*args, **keywords):
            ran.append(name)
            return function(*args, **keywords)

        monkeypatch.setattr(owner, name, call)

    watched(dicom_reading, "decode_frame")
    watched(raster_reading, "read_raster")
    watched(preparing, "film_of")
    return ran


CASES = {
    "JPEG 2000": (film, {}),
    "JPEG 2000 with loss": (lambda: film("jpeg2000"), {}),
    "inverted": (lambda: film(photometric="MONOCHROME1"), {}),
    "JPEG": (lambda: film("jpeg"), {}),
    "JPEG without a window": (lambda: film("jpeg", window=None), {"no-voi"}),
    "shape contradicts": (lambda: film(presentation_lut_shape="INVERSE"), {"polarity-contradiction"}),
    "unknown shape": (lambda: film(presentation_lut_shape="ROUND"), {"presentation-lut-shape-unknown"}),
    "one frame of one": (lambda: with_elements(film(), NumberOfFrames=1), {"several-frames"}),
    "unknown function": (lambda: film(voi_function="CURVED"), {"voi-function-unknown"}),
    "slope of zero": (lambda: film(rescale=(0.0, 5.0)), {"rescale-unusable"}),
    "no view, a child": (lambda: film(view_position="", age_years=5.0), {}),
}
"""Films that are decoded at reduced size alone, and their flags."""


@pytest.mark.parametrize("name", [*CASES, "a raster file"])
def test_a_film_is_never_decoded_whole_where_it_need_not_be(decodings, name):
    """Facts, flags, shape and digest are those of the whole film, and the gate's checks; the tile is the training's."""
    write, flags = CASES.get(name, (raster, {}))
    content = write()
    ours = prepare_film(content, REDUCED, ONE)
    assert decodings == []
    whole = prepare_film(content, WHOLE, ONE)
    assert decodings
    for field in ("facts", "flags", "shape", "sha256"):
        assert getattr(ours, field) == getattr(whole, field), field
    assert (set(ours.flags), ours.shape, ours.sha256) == (set(flags), SHAPE, hashlib.sha256(content).hexdigest())
    assert ours.gate.analyse == whole.gate.analyse == (name != "no view, a child")
    for mine, theirs in zip(ours.gate.checks, whole.gate.checks, strict=True):
        assert dataclasses.replace(mine, sentence="") == dataclasses.replace(theirs, sentence="")
        assert mine.sentence == theirs.sentence or mine.code == "frontal-picture"  # which tells the fit
    np.testing.assert_array_equal(ours.tile, film_tile(content, REDUCED))
    assert (ours.quality.height, ours.quality.width) == SHAPE
    assert ours.quality != whole.quality


@pytest.mark.parametrize(
    "write",
    [
        lambda: film("explicit-le"),
        lambda: film(padding=0),
        lambda: film(voi_function="SIGMOID"),
        lambda: film(window=(2000, 500)),
        lambda: film("jpeg-ls"),
    ],
    ids=["native", "padding", "sigmoid", "beyond the window", "JPEG-LS"],
)
def test_what_is_decoded_whole_is_prepared_as_ever(write):
    """The same in every part as where nobody asks for reduced decoding."""
    content = write()
    ours, whole = prepare_film(content, REDUCED, ONE), prepare_film(content, WHOLE, ONE)
    np.testing.assert_array_equal(ours.tile, whole.tile)
    assert dataclasses.replace(ours, tile=whole.tile).quality == whole.quality
    assert (ours.facts, ours.flags, ours.gate) == (whole.facts, whole.flags, whole.gate)


@pytest.mark.parametrize(
    ("syntax", "policy"),
    [("jpeg2000-lossless", TWO), ("jpeg", TWO), ("jpeg2000-lossless", dataclasses.replace(ONE, minimum_contrast=0.5))],
)
def test_a_second_decoder_or_a_limit_nearby_needs_the_whole_film(decodings, syntax, policy):
    """Quality is that of all pixels then, and the tile is still the training's, decoded once."""
    content = film(syntax)
    ours = prepare_film(content, REDUCED, policy)
    assert decodings == ["film_of", "decode_frame"]
    assert ours.quality == prepare_film(content, WHOLE, policy).quality
    np.testing.assert_array_equal(ours.tile, film_tile(content, REDUCED))


def test_a_codestream_that_is_not_known_to_be_checked_is_decoded_whole(decodings):
    """One that holds more than plain markers: its tile is reduced, its refusal and its quality are the whole film's."""
    dataset = pydicom.dcmread(io.BytesIO(film()))
    frame = pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)
    at = frame.index(b"\xff\x90\0\x0a")
    # POC (ISO 15444-1 A.6.6) that asks for the very order that the codestream has.
    order = b"\xff\x5f\0\x09" + b"\0\0" + b"\0\1" + b"\x06" + b"\1" + b"\0"
    dataset.PixelData = encapsulate([frame[:at] + order + frame[at:]])
    dataset["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    content = buffer.getvalue()
    film_of = reduced_reading.read_reduced(content, REDUCED, Limits())
    assert film_of is not None
    assert not film_of.checked
    ours = prepare_film(content, REDUCED, ONE)
    assert decodings == ["film_of", "decode_frame"]
    assert ours.quality == prepare_film(content, WHOLE, ONE).quality
    np.testing.assert_array_equal(ours.tile, film_tile(content, REDUCED))


def refusals(content, **options):
    """Code and sentence with which a film is refused, whole and reduced."""
    told = []
    for config in (WHOLE, REDUCED):
        with pytest.raises(FilmError) as found:
            prepare_film(content, config, ONE, **options)
        told.append((found.value.code, str(found.value)))
    return told


def rows_of(content, rows):
    """A header that says so many rows over the codestream."""
    tag = b"\x28\x00\x10\x00US\x02\x00"
    return content.replace(tag + SHAPE[0].to_bytes(2, "little"), tag + rows.to_bytes(2, "little"))


@pytest.mark.parametrize("syntax", ["jpeg2000-lossless", "jpeg"])
@pytest.mark.parametrize(
    ("damage", "limits", "code"),
    [
        (lambda content: b"", None, "empty"),
        (lambda content: content[:5000], None, "truncated"),
        (lambda content: content, Limits(max_pixels=1_000_000), "too-large"),
        (lambda content: content, Limits(max_bytes=10_000), "too-large"),
        (lambda content: rows_of(content, 1041), None, "unreadable"),
        (lambda content: rows_of(content, 0), None, "unreadable"),
        (lambda content: with_elements(content, Rows=None), None, "unreadable"),
        (lambda content: with_elements(content, NumberOfFrames=2), None, "not-an-image"),
        (lambda content: with_elements(content, PixelData=encapsulate([b"not a picture "])), None, "unreadable"),
        (lambda content: with_elements(content, PixelData=None), None, "no-pixels"),
        (lambda content: b"\xff\xd8\xff" + content[3:200], None, "unreadable"),
        (lambda content: b"neither this nor that", None, "not-an-image"),
    ],
)
def test_damaged_oversize_and_wrong_files_are_refused_alike(syntax, damage, limits, code):
    """The same code and the same sentence, however the bundle asks for films to be decoded."""
    content = damage(film(syntax))
    whole, reduced = refusals(content, limits=limits)
    assert whole == reduced
    assert whole[0] == code


def test_headers_that_pydicom_chokes_on_are_refused_alike():
    """A window that is no number of its form's length: refused as unreadable, not with pydicom's own error."""
    content = film(window=(2048, 4096))
    damaged = content.replace(b"\x28\x00\x50\x10DS", b"\x28\x00\x50\x10FD")
    assert damaged != content
    whole, reduced = refusals(damaged)
    assert whole == reduced
    assert whole[0] == "unreadable"


@pytest.mark.parametrize("policy", [ONE, TWO])
def test_a_digest_that_is_known_is_taken(policy):
    """The service knows what its files' digests are, and no film is hashed anew for it."""
    assert prepare_film(film(), REDUCED, policy, None, "ab" * 32).sha256 == "ab" * 32
