"""Tables that are straight lines are computed, and give what a look-up gives."""

import numpy as np
import pytest

from hilum.imaging import pixel_order
from hilum.imaging.pixel_order import Lut, PixelOrder, Window, look_up, present
from hilum.imaging.straight_line import StraightLine, straight_line

ALL_12 = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def looked_up(codes, order):
    used = np.zeros(1 << order.bits, bool)
    used[codes.ravel()] = True
    return look_up(codes, order.table(used))


def test_by_hand():
    """Black at 2, white at 6: a quarter of 65535 each, half up."""
    table = np.array([0, 0, 0, 16384, 32768, 49151, 65535, 65535], np.uint16)
    line = straight_line(table, 0, 7)
    assert line == StraightLine(black=2, white=6)
    out = np.empty(8, np.uint16)
    line.apply(np.arange(8, dtype=np.uint8), out, beyond=True)
    assert out.tolist() == table.tolist()
    assert straight_line(table[::-1], 0, 7) == StraightLine(black=5, white=1)


@pytest.mark.parametrize(
    "order",
    [
        PixelOrder(bits=12),
        PixelOrder(bits=12, inverted=True),
        PixelOrder(bits=12, voi=Window(center=2048, width=4096)),
        PixelOrder(bits=12, voi=Window(center=1500, width=1800), inverted=True),
        PixelOrder(bits=12, voi=Window(center=700, width=1024, function="LINEAR_EXACT")),
        PixelOrder(bits=12, modality=(-1.0, 4095.0), voi=Window(center=2000, width=1000)),
        PixelOrder(bits=12, modality=(1.0, -1024.0), voi=Window(center=200, width=1000)),
    ],
)
def test_lines_are_computed_to_the_same_bits(order, monkeypatch):
    """Windows with even widths, polarity either way, the range in use: nothing is looked up."""
    expected = looked_up(ALL_12, order)
    monkeypatch.setattr(pixel_order, "_taken", None)  # calling it would fail
    np.testing.assert_array_equal(present(ALL_12, order), expected)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_ranges_in_use_of_every_depth(bits):
    """From any code to any other, at any depth, the picture is that of the table."""
    random = np.random.default_rng(bits)
    for _ in range(5):
        ends = np.sort(random.integers(0, 1 << bits, 2))
        codes = random.integers(ends[0], ends[1] + 1, (64, (1 << bits) // 64)).astype(np.uint16)
        for inverted in (False, True):
            order = PixelOrder(bits=bits, inverted=inverted)
            np.testing.assert_array_equal(present(codes, order), looked_up(codes, order))


@pytest.mark.parametrize("span", [1, 2, 15, 85, 255, 256, 257, 1023, 3000, 4095, 4096, 16383, 32767, 43690, 65535])
def test_every_code_of_a_line_is_its_quotient(span):
    """In 16 bits or in 32: 65535 · x / span, half up, rising and falling, from wherever it begins."""
    kinds = [np.uint16, np.uint8] if span < 256 else [np.uint16]
    for kind in kinds:
        for first in {0, 1, int(np.iinfo(kind).max) - span} - {-1}:
            if first + span > np.iinfo(kind).max:
                continue
            codes = np.arange(first, first + span + 1).astype(kind)
            x = np.arange(span + 1)
            expected = (2 * 65535 * x + span) // (2 * span)
            out = np.empty(span + 1, np.uint16)
            StraightLine(black=first, white=first + span).apply(codes, out, beyond=False)
            np.testing.assert_array_equal(out, expected)
            StraightLine(black=first + span, white=first).apply(codes, out, beyond=True)
            np.testing.assert_array_equal(out, expected[::-1])


@pytest.mark.parametrize(
    "order",
    [
        PixelOrder(bits=12),
        PixelOrder(bits=12, inverted=True),
        PixelOrder(bits=10),
        PixelOrder(bits=12, voi=Window(center=1500, width=1800)),
        PixelOrder(bits=12, voi=Window(center=2000, width=1001)),
    ],
)
def test_codes_may_be_written_over_where_they_can_be(order):
    """Same values, in the codes' own memory; what is read-only stays as it is."""
    codes = np.random.default_rng(0).integers(0, 1 << order.bits, (300, 500)).astype(np.uint16)
    expected, kept = present(codes, order), codes.copy()
    np.testing.assert_array_equal(codes, kept)
    codes.setflags(write=False)
    np.testing.assert_array_equal(present(codes, order, in_place=True), expected)
    np.testing.assert_array_equal(codes, kept)
    codes.setflags(write=True)
    assert present(codes, order, in_place=True) is codes
    np.testing.assert_array_equal(codes, expected)


def test_what_is_no_line_is_looked_up():
    """Curves, half codes, halves rounded by float64, steps, padding in the midst, a wider window, a blank table."""
    curved = Lut(first=0, values=np.arange(4096.0) ** 2 // 4096, bits=12)
    orders = [
        PixelOrder(bits=12, voi=curved),
        PixelOrder(bits=12, voi=Window(center=2000, width=1001)),
        PixelOrder(bits=12, voi=Window(center=700, width=900, function="LINEAR_EXACT")),
        PixelOrder(bits=12, voi=Window(center=2000, width=1)),
        PixelOrder(bits=12, voi=Window(center=2000, width=3000, function="SIGMOID")),
        PixelOrder(bits=12, padding=(2000, 2000), voi=Window(center=2048, width=4096)),
        PixelOrder(bits=12, voi=Window(center=2048, width=9000)),
        PixelOrder(bits=12, modality=(0.0, 5.0)),
    ]
    for order in orders:
        np.testing.assert_array_equal(present(ALL_12, order), looked_up(ALL_12, order))
    assert straight_line(np.zeros(16, np.uint16), 0, 15) is None
    assert straight_line(np.array([0, 65535, 0, 65535], np.uint16), 0, 3) is None


def test_old_overlays_above_the_stored_bits_stay_out():
    """They are cut off before smallest and largest code are taken."""
    codes = ALL_12.copy()
    codes[5, 5] |= 0xF000
    np.testing.assert_array_equal(present(codes, PixelOrder(bits=12)), present(ALL_12, PixelOrder(bits=12)))


def test_halves_beside_each_other_are_the_whole(monkeypatch):
    """A large film is worked on in two threads, computed or looked up."""
    codes = np.random.default_rng(0).integers(0, 4096, (700, 500)).astype(np.uint16)
    orders = (PixelOrder(bits=12), PixelOrder(bits=12, voi=Window(center=2000, width=3000, function="SIGMOID")))
    whole = [present(codes, order) for order in orders]
    monkeypatch.setattr(pixel_order, "LARGE", 1)
    for order, expected in zip(orders, whole, strict=True):
        np.testing.assert_array_equal(present(codes, order), expected)
