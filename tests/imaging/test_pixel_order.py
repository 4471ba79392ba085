"""Stored values become presentation values in DICOM's order, once."""

import itertools

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_voi_lut
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

from hilum.imaging.codecs import SampleFormat
from hilum.imaging.dicom_writing import FilmHeader, film_dataset
from hilum.imaging.grey_scale import film_order
from hilum.imaging.pixel_order import Lut, PixelOrder, Window, present
from hilum.imaging.reading import read_film

CASES = [
    pytest.param(*case, id="-".join(str(one) for one in case))
    for case in itertools.product(
        ("MONOCHROME1", "MONOCHROME2"), BITS, ("unsigned", "signed"), MODALITIES, VOIS, (None, "padded")
    )
    # A Modality LUT is for unsigned codes in practice; padding is crossed with one VOI of each kind.
    if not (case[2] == "signed" and case[3] == "lut") and not (case[5] and case[4] in ("LINEAR_EXACT", "SIGMOID"))
]


@pytest.mark.parametrize(("photometric", "bits", "sign", "modality", "voi", "padded"), CASES)
def test_presentation_values_match_the_reference(as_bytes, photometric, bits, sign, modality, voi, padded):
    """Every combination of the header agrees with a per-pixel transcription of the standard."""
    signed = sign == "signed"
    stored = spread_values(bits, signed)
    padding = int(stored[0, 0]) if padded else None
    header = FilmHeader(
        photometric=photometric,
        bits_stored=bits,
        signed=signed,
        padding=padding,
        rescale=(0.5, -3.0) if modality == "rescale" else None,
        window=window(modality, bits, signed) if voi in ("LINEAR", "LINEAR_EXACT", "SIGMOID") else None,
        voi_function=voi if voi in ("LINEAR_EXACT", "SIGMOID") else None,
    )
    dataset = film_dataset(stored, header)
    if modality == "lut":
        table = [modality_lut(v) for v in range(LUT_FIRST, LUT_FIRST + LUT_ENTRIES)]
        dataset.ModalityLUTSequence = lut_sequence(table, LUT_FIRST, 12, descriptor_vr="US")
    if voi == "lut":
        first = voi_first(modality, signed)
        vr = "SS" if first < 0 else "US"
        table = [voi_lut(v, first) for v in range(first, first + LUT_ENTRIES)]
        dataset.VOILUTSequence = lut_sequence(table, first, 10, descriptor_vr=vr)
    film = read_film(as_bytes(dataset))
    shown = codes_of(bits, signed) if bits == 8 else [int(v) for v in stored.ravel() if v != padding]
    values = [modal(v, modality) for v in shown]
    case = {"bits": bits, "signed": signed, "photometric": photometric, "modality": modality, "voi": voi}
    expected = [
        0.0 if v == padding else reference(modal(int(v), modality), in_use=(min(values), max(values)), **case)
        for v in stored.ravel()
    ]
    expected = np.array(expected).reshape(16, 16)
    assert np.abs(film.pixels - expected).max() <= 0.5 + 1e-6


def grey(codes, **order):
    return present(np.array([codes], np.uint16), PixelOrder(**order))[0].tolist()


def test_linear_window_by_hand():
    """Centre 2, width 3: black up to 0.5, white from 2.5 (PS3.3 C.11.2.1.2.1)."""
    assert grey([0, 1, 2, 3], bits=2, voi=Window(center=2, width=3)) == [0, 16384, 49151, 65535]


def test_linear_exact_window_by_hand():
    """Centre 2, width 4: black at 0, white at 4 (C.11.2.1.3.2)."""
    window = Window(center=2, width=4, function="LINEAR_EXACT")
    assert grey([0, 1, 2, 3], bits=3, voi=window) == [0, 16384, 32768, 49151]


def test_sigmoid_window_by_hand():
    """The centre is half, and four quarters of a width beyond are 1/(1+e⁻⁴)."""
    window = Window(center=2, width=1, function="SIGMOID")
    assert grey([1, 2, 3], bits=2, voi=window) == [1179, 32768, 64356]


def test_window_of_width_one_is_a_threshold():
    """LINEAR with width 1 divides by nothing: below the centre black, from it on white."""
    assert grey([1, 2, 3], bits=2, voi=Window(center=2, width=1)) == [0, 65535, 65535]


def test_sigmoid_of_a_tiny_width_does_not_overflow():
    """Exponents are bounded, so no warning is raised and the ends are black and white."""
    window = Window(center=2.5, width=1e-9, function="SIGMOID")
    assert grey([0, 3], bits=2, voi=window) == [0, 65535]


def test_codes_beyond_bits_stored_are_masked():
    """Bits above Bits Stored (old overlays) don't reach the picture."""
    assert grey([0x9, 0x1], bits=3, voi=Window(center=4, width=8)) == grey(
        [1, 1], bits=3, voi=Window(center=4, width=8)
    )


def test_lut_clamps_to_its_ends():
    """Inputs before the first and after the last entry take those entries."""
    lut = Lut(first=2, values=np.array([1.0, 3.0]), bits=2)
    assert grey([0, 2, 3, 7], bits=3, voi=lut) == [21845, 21845, 65535, 65535]


def test_blank_film_without_voi_is_not_stretched_into_a_picture():
    """Noise of 4 codes in 4096 spans at most a 32nd times 4/128 of the grey scale."""
    values = grey([2000, 2001, 2002, 2003], bits=12)
    assert max(values) - min(values) < 65535 * 0.04


def test_stretching_near_the_end_of_the_codes_stays_inside():
    """A narrow range at the very top is shown at the top, at the very bottom at the bottom."""
    assert grey([4095, 4094], bits=12)[0] == 65535
    assert grey([0, 1], bits=12)[0] == 0


def test_film_of_padding_alone_is_black():
    """No code is in use, and nothing is divided by zero."""
    assert grey([5, 5], bits=12, padding=(5, 5)) == [0, 0]


def test_constant_modality_is_black():
    """A Modality LUT with one value has no range to stretch."""
    assert grey([0, 3], bits=12, modality=Lut(first=0, values=np.array([7.0]), bits=12)) == [0, 0]


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(100.0, 50.0), (2047.5, 4096.0), (-20.0, 400.0), (10.5, 1.5)])
def test_windows_agree_with_pydicom(function, center, width):
    """pydicom's own windowing is a second opinion."""
    dataset = Dataset()
    dataset.PhotometricInterpretation, dataset.BitsStored, dataset.PixelRepresentation = "MONOCHROME2", 12, 0
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = center, width, function
    codes = np.arange(4096, dtype=np.uint16)
    theirs = apply_voi_lut(codes, dataset) / 4095
    ours = Window(center=center, width=width, function=function).apply(codes.astype(np.float64))
    assert np.abs(theirs - ours).max() < 1e-9


def order_of(header=None, *, form=None, **attributes):
    dataset = film_dataset(np.array([[0, 4095]], np.uint16), header or FilmHeader())
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    flags = []
    photometric = dataset.PhotometricInterpretation
    form = form or SampleFormat(
        rows=1, columns=2, samples=1, allocated=16, stored=12, high_bit=11, signed=False, photometric=photometric,
        planar=False,
    )  # fmt: skip
    return film_order(dataset, form, flags), flags


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted", "flag"),
    [
        ("MONOCHROME1", None, True, None),
        ("MONOCHROME2", None, False, None),
        ("MONOCHROME1", "INVERSE", True, None),
        ("MONOCHROME2", "IDENTITY", False, None),
        ("MONOCHROME1", "IDENTITY", False, "polarity-contradiction"),
        ("MONOCHROME2", "INVERSE", True, "polarity-contradiction"),
        ("MONOCHROME1", "LIN OD", True, "presentation-lut-shape-unknown"),
    ],
)
def test_polarity_is_taken_once(photometric, shape, inverted, flag):
    """Presentation LUT Shape decides, else Photometric Interpretation; a contradiction is named."""
    order, flags = order_of(FilmHeader(photometric=photometric, presentation_lut_shape=shape, window=(2048, 4096)))
    assert order.inverted is inverted
    assert flags == ([flag] if flag else [])


def test_first_of_several_windows_counts():
    """Windows are alternatives; the first is the device's own choice."""
    order, flags = order_of(WindowCenter=[1000, 2000], WindowWidth=[500, 600])
    assert order.voi == Window(center=1000, width=500)
    assert flags == []


def test_voi_lut_comes_before_a_window():
    """Both are alternatives; the look-up table is chosen, as pydicom does."""
    order, _ = order_of(FilmHeader(window=(1, 2)), VOILUTSequence=lut_sequence([0, 1], 0, 8, descriptor_vr="US"))
    assert isinstance(order.voi, Lut)


@pytest.mark.parametrize(
    ("attributes", "flag"),
    [
        ({"WindowCenter": 100, "WindowWidth": 0}, "window-unusable"),
        ({"WindowCenter": 100, "WindowWidth": -5}, "window-unusable"),
        ({"WindowCenter": 100}, "window-unusable"),
        ({"WindowCenter": 0.3, "WindowWidth": 0.5}, "window-narrower-than-one"),
        ({"WindowCenter": 100, "WindowWidth": 50, "VOILUTFunction": "CUBIC"}, "voi-function-unknown"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "rescale-unusable"),
        ({"VOILUTSequence": lut_sequence([0], 0, 40, descriptor_vr="US")}, "lut-unusable"),
        ({"VOILUTSequence": [Dataset()]}, "lut-unusable"),
        ({"VOILUTSequence": lut_sequence([0, 4095], 0, 8, descriptor_vr="US")}, "lut-wider-than-declared"),
        ({}, "no-voi"),
    ],
)
def test_oddities_become_flags(attributes, flag):
    """What was worked around is named on the film."""
    assert flag in order_of(**attributes)[1]


def test_narrow_window_is_read_as_exact():
    """LINEAR below width 1 is forbidden, yet devices with fractional rescaling write it."""
    order, _ = order_of(WindowCenter=0.3, WindowWidth=0.5)
    assert order.voi == Window(center=0.3, width=0.5, function="LINEAR_EXACT")


def test_lut_of_65536_entries_is_declared_with_zero():
    """0 entries mean 65,536 (PS3.3 C.11.1.1)."""
    item = Dataset()
    item.add_new(0x00283002, "US", [0, 0, 16])
    item.add_new(0x00283006, "OW", np.arange(65536, dtype="<u2").tobytes())
    order, flags = order_of(VOILUTSequence=[item])
    assert len(order.voi.values) == 65536
    assert flags == []


def test_lut_of_bytes_packed_in_words():
    """8-bit entries may come two to a word."""
    item = Dataset()
    item.add_new(0x00283002, "US", [3, 0, 8])
    item.add_new(0x00283006, "OW", bytes([10, 20, 255, 0]))
    order, _ = order_of(VOILUTSequence=[item])
    assert order.voi.values.tolist() == [10, 20, 255]


def test_padding_range_is_ordered_and_in_the_pixels_sign():
    """Value and limit may come either way round, and as US for signed pixels."""
    form = SampleFormat(
        rows=1, columns=2, samples=1, allocated=16, stored=16, high_bit=15, signed=True, photometric="MONOCHROME2",
        planar=False,
    )  # fmt: skip
    dataset = film_dataset(np.array([[0, 1]], np.int16), FilmHeader(bits_stored=16, signed=True))
    dataset.add_new(0x00280120, "US", 63536)
    dataset.add_new(0x00280121, "US", 63530)
    assert film_order(dataset, form, []).padding == (-2006, -2000)
