"""Compressed films are decoded twice where a site asks for it, and refused when the decoders disagree."""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import UID
from tests.imaging.jpeg_by_hand import extended_jpeg, lossless_jpeg

from hilum.errors import FilmError
from hilum.imaging import codecs, second_decoder
from hilum.imaging.codecs import CODECS, decode_frame
from hilum.imaging.dicom_reading import sample_format
from hilum.imaging.dicom_structure import Structure
from hilum.imaging.dicom_writing import FilmHeader, film_bytes, film_dataset
from hilum.imaging.encoders import ENCODERS
from hilum.imaging.intended_use import GatePolicy
from hilum.imaging.limits import Limits
from hilum.imaging.preprocessing import Preprocessing
from hilum.imaging.reading import read_film
from hilum.imaging.second_decoder import APART, JPEG, check_decoded
from hilum.inference.preparing import prepare_film

FOLDER = Path(pydicom.data.__file__).parent / "test_files"
ENCAPSULATED = [name for name, encoder in ENCODERS.items() if CODECS[encoder.uid].decode]


def noise(bits, signed=False):
    """Codes by lot: what transforms round most differently."""
    low = -(1 << (bits - 1)) if signed else 0
    codes = np.random.default_rng(bits).integers(low, low + (1 << bits), (64, 48))
    return codes.astype(f"{'i' if signed else 'u'}{1 if bits == 8 else 2}")


def frame_of(stored, name, **header):
    dataset = film_dataset(stored, FilmHeader(**header), transfer_syntax=name)
    uid = str(dataset.file_meta.TransferSyntaxUID)
    structure = Structure(transfer_syntax=uid, elements=0, depth=0, pixels=0x7FE00010, pixel_bytes=1, fragments=1)
    form = sample_format(dataset, structure, Limits())
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    return decode_frame(frame, uid, form), frame, uid, form


@pytest.mark.parametrize("name", ENCAPSULATED)
def test_decoders_agree(name):
    """Every depth and sign that a syntax holds, on noise; the bounds for lossy ones are not exhausted by chance."""
    for bits, signed in ((8, False), (8, True), (10, True), (12, False), (16, False), (16, True)):
        if (name == "jpeg" and (bits, signed) != (8, False)) or (name == "jpeg-ls-near" and signed):
            continue
        assert check_decoded(*frame_of(noise(bits, signed), name, bits_stored=bits, signed=signed))


@pytest.mark.parametrize("name", ENCAPSULATED)
def test_disagreement_refuses(name):
    """A block of pixels that is off by one more than allowed is found, and the sentence says how far."""
    codes, *rest = frame_of(noise(8), name, bits_stored=8)
    by = APART[ENCODERS[name].uid] + 1
    wrong = codes.copy()
    wrong[10:12, 5:8] = np.where(wrong[10:12, 5:8] < 128, wrong[10:12, 5:8] + by, wrong[10:12, 5:8] - by)
    with pytest.raises(FilmError, match=r"Two decoders disagree about the .* pixels differ, by up to \d+\.") as caught:
        check_decoded(wrong, *rest)
    assert caught.value.code == "decoders-disagree"


def test_neighbouring_signed_values_are_near():
    """−1 and 0 differ by one, though their codes are the largest and the smallest."""
    codes, *rest = frame_of(np.zeros((40, 40), np.int16), "jpeg2000", signed=True)
    assert check_decoded(codes - np.uint16(1), *rest)
    with pytest.raises(FilmError, match="1,600 of 1,600 pixels differ, by up to 2"):
        check_decoded(codes - np.uint16(2), *rest)


def test_bits_beyond_those_stored_are_not_compared():
    """They hold no grey."""
    codes, *rest = frame_of(noise(12), "rle", bits_stored=12)
    assert check_decoded(codes | np.uint16(0x4000), *rest)


def by_hand(uid, write, stored, bits):
    dataset = film_dataset(stored, FilmHeader(bits_stored=bits))
    dataset.file_meta.TransferSyntaxUID = UID(uid)
    dataset.add_new(0x7FE00010, "OB", encapsulate([write(stored, bits)]))
    dataset["PixelData"].is_undefined_length = True
    return dataset


@pytest.fixture
def turbo(need):
    need(find_spec("imagecodecs"), "imagecodecs (make install)")


LOSSLESS = [("57", bits, predictor) for bits in (8, 10, 12, 14, 16) for predictor in range(1, 8)]
WRITTEN = [("51", 8, None), ("51", 12, None), *LOSSLESS, *(("70", bits, 1) for bits in (8, 10, 12, 14, 16))]


def of_jpeg(last, bits, predictor=None):
    """A film written from T.81, by hand."""
    stored = noise(bits)
    if predictor is None:
        stored = np.repeat(np.repeat(stored[:4, :4], 8, axis=0), 8, axis=1)
        return by_hand(JPEG + last, extended_jpeg, stored, bits)
    return by_hand(JPEG + last, lambda codes, precision: lossless_jpeg(codes, precision, predictor), stored, bits)


@pytest.mark.parametrize(("last", "bits", "predictor"), WRITTEN)
def test_lossless_and_12_bit_jpeg_are_decoded_twice(as_bytes, turbo, last, bits, predictor):
    """Every depth and predictor; what has no second decoder would carry a flag."""
    content = as_bytes(of_jpeg(last, bits, predictor))
    assert "one-decoder" not in read_film(content, second_decoder=True).flags


@pytest.mark.parametrize(("last", "predictor"), [("51", None), ("57", 6), ("70", 1)])
def test_disagreement_about_lossless_and_12_bit_jpeg_refuses(monkeypatch, as_bytes, turbo, last, predictor):
    """GDCM's codes are off by one more than allowed in one pixel."""
    content = as_bytes(of_jpeg(last, 12, predictor))
    right = codecs.by_gdcm

    def wrong(frame, form, syntax):
        codes = right(frame, form, syntax).copy()
        codes[3, 4] ^= APART[syntax] + 1
        return codes

    monkeypatch.setattr(codecs, "by_gdcm", wrong)
    with pytest.raises(FilmError, match=r"Two decoders disagree about the JPEG .* 1 of .* pixels differ"):
        read_film(content, second_decoder=True)


def test_12_bit_jpeg_of_noise_stays_within_the_bound(turbo):
    """Both round the cosine transform's values in their own way, by 1 at most here."""
    from imagecodecs import jpeg8_encode

    stored = noise(12)
    frame = bytes(jpeg8_encode(stored, level=90, bitspersample=12))
    dataset = by_hand(JPEG + "51", lambda codes, bits: frame, stored, 12)
    structure = Structure(
        transfer_syntax=JPEG + "51", elements=0, depth=0, pixels=0x7FE00010, pixel_bytes=1, fragments=1
    )
    form = sample_format(dataset, structure, Limits())
    assert check_decoded(decode_frame(frame, JPEG + "51", form), frame, JPEG + "51", form)


def test_colour_has_one_decoder_and_says_so():
    """A film in colour is read, flagged, and for the gate to judge."""
    content = (FOLDER / "SC_rgb_rle.dcm").read_bytes()
    assert "one-decoder" in read_film(content, second_decoder=True).flags
    assert "one-decoder" not in read_film(content).flags


def test_native_pixels_need_no_second_decoder():
    """Nothing was compressed, so nothing is said."""
    content, _ = film_bytes(noise(12), FilmHeader(bits_stored=12, window=(2048, 4096)))
    assert read_film(content, second_decoder=True).flags == ()


def test_site_policy_asks_for_it(monkeypatch):
    """The reading room checks by default; a site may leave it out."""
    content, _ = film_bytes(noise(12), FilmHeader(bits_stored=12), transfer_syntax="rle")
    monkeypatch.setattr(
        second_decoder, "by_gdcm", lambda frame, form, syntax: np.zeros((form.rows, form.columns), "u2")
    )
    with pytest.raises(FilmError, match="Two decoders disagree about the RLE Lossless"):
        prepare_film(content, Preprocessing(size=32), GatePolicy())
    assert prepare_film(content, Preprocessing(size=32), GatePolicy(second_decoder=False)).shape == (64, 48)


def test_second_decoder_that_fails_refuses(monkeypatch):
    """What one reads and the other can't is a disagreement."""

    def fails(frame, form, syntax):
        raise RuntimeError("cannot")

    monkeypatch.setattr(second_decoder, "by_gdcm", fails)
    content, _ = film_bytes(noise(12), FilmHeader(bits_stored=12), transfer_syntax="rle")
    with pytest.raises(FilmError, match="One of two decoders can't read the RLE Lossless pixel data") as caught:
        read_film(content, second_decoder=True)
    assert caught.value.code == "decoders-disagree"
    monkeypatch.setattr(second_decoder, "by_gdcm", lambda frame, form, syntax: np.zeros((2, 2), "u2"))
    with pytest.raises(FilmError, match="One of two decoders can't read"):
        read_film(content, second_decoder=True)


def test_second_decoder_that_is_not_installed_is_flagged(monkeypatch, as_bytes):
    """hilum doctor warns of it."""
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    assert "one-decoder" in read_film(as_bytes(of_jpeg("70", 12, 1)), second_decoder=True).flags


def no_memory(form):
    raise MemoryError


def test_a_decoder_that_finds_no_memory_says_nothing_of_the_pixels(monkeypatch):
    """Neither that they are damaged, nor that two disagree."""
    content, _ = film_bytes(noise(12), FilmHeader(bits_stored=12), transfer_syntax="rle")
    monkeypatch.setattr(second_decoder, "by_gdcm", lambda frame, form, syntax: 1 // 0)
    monkeypatch.setattr(second_decoder, "ask_for_memory", no_memory)
    with pytest.raises(MemoryError):
        read_film(content, second_decoder=True)


def test_a_decoder_that_fails_without_memory_is_not_called_damaged(monkeypatch):
    """A frame that can't be decoded is called damaged only where as much memory as that takes was to be had."""
    _, frame, uid, form = frame_of(noise(12), "jpeg-ls", bits_stored=12)
    damaged = frame.replace(b"\xff\xd9", b"\0\0")  # without its end
    with pytest.raises(FilmError, match="pixel data are damaged"):
        decode_frame(damaged, uid, form)
    monkeypatch.setattr(codecs, "DECODING", 1 << 50)
    with pytest.raises(MemoryError):
        decode_frame(damaged, uid, form)
