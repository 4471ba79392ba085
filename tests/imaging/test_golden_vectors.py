"""Known values in every transfer syntax come out as the grey values that the standard states.

A film of every code that matters (`spread_values`) is written in a syntax, read, and compared pixel by pixel with
`grey_reference`. The full product of the header's choices is crossed with every syntax in the long count; the quick one
crosses bits, sign and polarity with every syntax and takes the rest in turn, so that each look-up table, window and
padding meets each syntax.
"""

import io
import itertools
import subprocess
from collections import Counter
from shutil import which

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import UID
from tests.imaging.grey_reference import (
    BITS,
    LUT_ENTRIES,
    LUT_FIRST,
    MODALITIES,
    VOIS,
    codes_of,
    lut_sequence,
    modal,
    modality_lut,
    reference,
    spread_values,
    voi_first,
    voi_lut,
    window,
)
from tests.imaging.jpeg_by_hand import extended_jpeg, lossless_jpeg

from hilum.imaging.codecs import CODECS
from hilum.imaging.dicom_writing import FilmHeader, film_bytes, film_dataset
from hilum.imaging.encoders import ENCODERS
from hilum.imaging.reading import read_film

POLARITIES = ("MONOCHROME1", "MONOCHROME2")
JPEG = "1.2.840.10008.1.2.4."


def as_it_is(stored):
    return stored


def four_times(stored):
    """JPEG 2000 is written from 32 pixels each way."""
    return np.tile(stored, (2, 2))


def as_blocks(stored):
    """Each value over a block of 8 × 8, which the DCT keeps exactly."""
    return np.repeat(np.repeat(stored, 8, axis=0), 8, axis=1)


def ramp(stored):
    """What wavelets keep closely: one slow slope over all codes."""
    low, high = int(stored.min()), int(stored.max())
    return np.add.outer(np.arange(64), np.arange(64)) * (high - low) // 126 + low


def ours(name):
    return lambda dataset, codes: ENCODERS[name].encode(dataset, codes)


def by_hand(write):
    def encode(dataset, codes):
        bits = dataset.BitsStored
        unsigned = codes.view(f"u{codes.itemsize}") & ((1 << bits) - 1)
        dataset.add_new(0x7FE00010, "OB", encapsulate([write(unsigned, bits)]))
        dataset["PixelData"].is_undefined_length = True

    return encode


def pillow_jpeg(codes, bits):
    buffer = io.BytesIO()
    Image.fromarray(codes.astype(np.uint8)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


# Transfer syntax: how a film is laid out, how it is encoded, which (bits, signed) it can hold, and by how many codes
# the decoded value may differ: 0 for all but JPEG-LS near-lossless (its bound) and JPEG 2000 with loss.
EVERY = tuple(itertools.product(BITS, (False, True)))
UNSIGNED = tuple((bits, False) for bits in BITS)
SYNTAXES = {
    **{ENCODERS[name].uid: (as_it_is, ours(name), EVERY, 0)
       for name in ("implicit-le", "explicit-le", "deflated", "explicit-be", "rle", "jpeg-ls")},
    ENCODERS["jpeg2000-lossless"].uid: (four_times, ours("jpeg2000-lossless"), EVERY, 0),
    JPEG + "50": (as_blocks, by_hand(pillow_jpeg), ((8, False),), 0),
    JPEG + "51": (as_blocks, by_hand(extended_jpeg), ((8, False), (12, False)), 0),
    JPEG + "57": (as_it_is, by_hand(lambda codes, bits: lossless_jpeg(codes, bits, predictor=6)), EVERY, 0),
    JPEG + "70": (as_it_is, by_hand(lossless_jpeg), EVERY, 0),
    JPEG + "81": (as_it_is, ours("jpeg-ls-near"), UNSIGNED, 2),
    JPEG + "91": (ramp, ours("jpeg2000"), EVERY, 2),
}  # fmt: skip


def film_of(stored, uid, encode, *, bits, signed, photometric, modality, voi, padded):
    """A film's bytes, and its padding value."""
    padding = int(stored.flat[0]) if padded else None
    header = FilmHeader(
        photometric=photometric, bits_stored=bits, signed=signed, padding=padding,
        rescale=(0.5, -3.0) if modality == "rescale" else None,
        window=window(modality, bits, signed) if voi in ("LINEAR", "LINEAR_EXACT", "SIGMOID") else None,
        voi_function=voi if voi in ("LINEAR_EXACT", "SIGMOID") else None,
    )  # fmt: skip
    dataset = film_dataset(stored, header)
    order = ">" if uid == ENCODERS["explicit-be"].uid else "<"
    if modality == "lut":
        table = [modality_lut(v) for v in range(LUT_FIRST, LUT_FIRST + LUT_ENTRIES)]
        dataset.ModalityLUTSequence = lut_sequence(table, LUT_FIRST, 12, descriptor_vr="US", order=order)
    if voi == "lut":
        first = voi_first(modality, signed)
        table = [voi_lut(v, first) for v in range(first, first + LUT_ENTRIES)]
        vr = "SS" if first < 0 else "US"
        dataset.VOILUTSequence = lut_sequence(table, first, 10, descriptor_vr=vr, order=order)
    dataset.file_meta.TransferSyntaxUID = UID(uid)
    encode(dataset, stored)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue(), padding


def expected(stored, padding, *, bits, signed, photometric, modality, voi, padded):
    """Grey of each stored value by the reference, float64 [h, w]."""
    seen = codes_of(bits, signed) if bits == 8 else [int(v) for v in np.unique(stored) if v != padding]
    values = [modal(v, modality) for v in seen]
    case = {"bits": bits, "signed": signed, "photometric": photometric, "modality": modality, "voi": voi}
    grey = {
        int(v): 0.0 if v == padding else reference(modal(int(v), modality), in_use=(min(values), max(values)), **case)
        for v in np.unique(stored)
    }
    return np.vectorize(grey.get, otypes=[float])(stored)


def read_as_stated(uid, case):
    """Read one vector and compare it; says what differs."""
    lay, encode, _, most = SYNTAXES[uid]
    kind = {(8, False): np.uint8, (8, True): np.int8}.get(
        (case["bits"], case["signed"]), np.int16 if case["signed"] else np.uint16
    )
    stored = lay(spread_values(case["bits"], case["signed"])).astype(kind)
    content, padding = film_of(stored, uid, encode, **case)
    film = read_film(content)
    assert film.facts.transfer_syntax == uid
    if most == 0:
        wrong = np.abs(film.pixels - expected(stored, padding, **case)) > 0.5 + 1e-6
    else:
        # Every grey that a code within the bound may have; without a VOI the ends of the range move with the loss.
        low, high = codes_of(case["bits"], case["signed"])[0], codes_of(case["bits"], case["signed"])[-1]
        near = [expected(np.clip(stored.astype(int) + by, low, high), None, **case) for by in range(-most, most + 1)]
        slack = 65535 * most / (high - low + 1) * 2 if case["voi"] == "none" and case["bits"] > 8 else 0.0
        wrong = (film.pixels < np.min(near, axis=0) - 0.5 - slack) | (film.pixels > np.max(near, axis=0) + 0.5 + slack)
    assert not wrong.any(), f"{CODECS[uid].name} {case}: {int(wrong.sum())} of {wrong.size} pixels are wrong"


def product(uid):
    """Every case of the header that the syntax can hold."""
    _, _, holds, most = SYNTAXES[uid]
    for (bits, signed), photometric, modality, voi, padded in itertools.product(
        holds, POLARITIES, MODALITIES, VOIS, (False, True)
    ):
        # With loss no code can mark padding, and a table whose neighbours lie far apart bounds nothing.
        if most and (padded or modality == "lut" or voi == "lut"):
            continue
        yield {
            "bits": bits, "signed": signed, "photometric": photometric, "modality": modality, "voi": voi,
            "padded": padded,
        }  # fmt: skip


def quick(uid):
    """Bits × sign × polarity, each with another look-up table, window and padding."""
    groups = {}
    for case in product(uid):
        groups.setdefault((case["bits"], case["signed"], case["photometric"]), []).append(case)
    for at, cases in enumerate(groups.values()):
        yield cases[at * 7 % len(cases)]


def test_every_transfer_syntax_has_vectors():
    """None of the supported ones is left out."""
    assert set(SYNTAXES) == set(CODECS)


def test_what_is_left_out_is_what_the_document_says():
    """Of bits × sign × polarity × Modality LUT × VOI × padding: nothing without loss (docs/dicom.md)."""
    choices = len(POLARITIES) * len(MODALITIES) * len(VOIS) * 2
    for uid, (_, _, holds, most) in SYNTAXES.items():
        tables = (len(MODALITIES) - 1) * (len(VOIS) - 1) * len(POLARITIES)
        assert sum(1 for _ in product(uid)) == len(holds) * (tables if most else choices)


def test_the_quick_count_reaches_every_choice():
    """Each lossless syntax for all depths meets each window, look-up table, polarity and padding."""
    for uid, (_, _, holds, most) in SYNTAXES.items():
        if holds != EVERY or most:
            continue
        met = Counter(value for case in quick(uid) for value in case.items())
        assert {key for key, _ in met.items()} >= {
            *(("voi", voi) for voi in VOIS), *(("modality", modality) for modality in MODALITIES),
            *(("bits", bits) for bits in BITS), *(("photometric", one) for one in POLARITIES), ("padded", True),
        }  # fmt: skip


@pytest.mark.parametrize("uid", SYNTAXES, ids=lambda uid: CODECS[uid].name.replace(" ", "-"))
def test_grey_values_are_those_of_the_standard(uid):
    """Bits × sign × polarity, the rest in turn."""
    for case in quick(uid):
        read_as_stated(uid, case)


@pytest.mark.long
@pytest.mark.parametrize("uid", SYNTAXES, ids=lambda uid: CODECS[uid].name.replace(" ", "-"))
def test_grey_values_in_every_combination(uid):
    """The full product."""
    for case in product(uid):
        read_as_stated(uid, case)


@pytest.mark.system
@pytest.mark.parametrize(
    ("command", "uid", "most"),
    [
        (("dcmcjpeg", "+e1"), JPEG + "70", 0),
        (("dcmcjpeg", "+el", "+sv", "4"), JPEG + "57", 0),
        (("dcmcjpls", "+el"), JPEG + "80", 0),
        (("dcmcjpls", "+en", "+md", "2"), JPEG + "81", 2),
        (("dcmcrle",), "1.2.840.10008.1.2.5", 0),
        (("dcmconv", "+tb"), "1.2.840.10008.1.2.2", 0),
        (("dcmconv", "+td"), "1.2.840.10008.1.2.1.99", 0),
        (("dcmconv", "+ti"), "1.2.840.10008.1.2", 0),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_vectors_encoded_by_dcmtk(tmp_path, need, command, uid, most):
    """The same values in files that DCMTK wrote: every depth, sign and polarity, the rest in turn."""
    need(which(command[0]), f"{command[0]} of DCMTK")
    for case in quick(JPEG + "81" if most else JPEG + "70"):
        kind = {(8, False): np.uint8, (8, True): np.int8}.get(
            (case["bits"], case["signed"]), np.int16 if case["signed"] else np.uint16
        )
        stored = spread_values(case["bits"], case["signed"]).astype(kind)
        content, padding = film_of(stored, ENCODERS["explicit-le"].uid, ours("explicit-le"), **case)
        (tmp_path / "plain.dcm").write_bytes(content)
        subprocess.run([*command, "plain.dcm", "out.dcm"], cwd=tmp_path, check=True, capture_output=True)
        film = read_film(tmp_path / "out.dcm")
        assert film.facts.transfer_syntax == uid
        if most == 0:
            wrong = np.abs(film.pixels - expected(stored, padding, **case)) > 0.5 + 1e-6
            assert not wrong.any(), f"{command} {case}: {int(wrong.sum())} pixels are wrong"
        else:
            plain = read_film(content)
            steps = np.abs(film.pixels.astype(int) - plain.pixels).max() / 65535 * (1 << case["bits"])
            # The steepest of these windows takes 0.3 of the codes: a code is at most 3.4 grey steps.
            assert steps <= most * 4 + 1, f"{command} {case}"


@pytest.mark.parametrize(
    ("photometric", "shape", "greys", "flags"),
    [
        ("MONOCHROME1", None, [65535, 0], ()),
        ("MONOCHROME1", "INVERSE", [65535, 0], ()),
        ("MONOCHROME2", None, [0, 65535], ()),
        ("MONOCHROME2", "IDENTITY", [0, 65535], ()),
        ("MONOCHROME1", "IDENTITY", [0, 65535], ("polarity-contradiction",)),
        ("MONOCHROME2", "INVERSE", [65535, 0], ("polarity-contradiction",)),
    ],
)
@pytest.mark.parametrize("modality", ["CR", "DX"])
def test_polarity_is_applied_once(modality, photometric, shape, greys, flags):
    """CR films carry no Presentation LUT Shape; INVERSE doesn't invert twice; a contradiction is named."""
    header = FilmHeader(
        modality=modality, photometric=photometric, presentation_lut_shape=shape, window=(2047.5, 4095),
        voi_function="LINEAR_EXACT",
    )  # fmt: skip
    film = read_film(film_bytes(np.array([[0, 4095]], np.uint16), header)[0])
    assert film.pixels[0].tolist() == greys
    assert film.flags == flags
