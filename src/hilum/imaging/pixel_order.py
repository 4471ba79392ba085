"""From stored codes to presentation values, once and in DICOM's order, as a table over every possible code.

The order is PS3.4 N.2: padding, Modality LUT or rescale (PS3.3 C.11.1), VOI LUT or window (C.11.2), polarity last
(C.11.6 and C.7.6.3.1.2). A film of b stored bits has only 2^b codes, so every step is computed on that many numbers in
float64, and the film itself is one table look-up.

Without a VOI the modality values are stretched from the smallest to the largest in use (padding left out), but never
more than 32-fold, so that a blank film's noise doesn't become a picture; 8-bit films without a VOI are presentation
values already and are taken as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hilum.arrays import Array, Pixels
from hilum.imaging.beside import beside
from hilum.imaging.straight_line import WHITE, straight_line

LARGEST_STRETCH = 32.0
AT_A_TIME = 1 << 17
"""Pixels worked on at a time."""
LARGE = 1 << 22
"""Pixels from which both halves of a film are worked on at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lut:
    """A look-up table of PS3.3 C.11.1.1 or C.11.2.1.1.

    Attributes:
        first: the input that the first entry is for; smaller inputs take it too, larger ones than the last the last.
        values: float64 entries.
        bits: bits of an entry, 8 to 16: outputs span 0 … 2^bits − 1.
    """

    first: int
    values: Array
    bits: int

    def apply(self, inputs: Array) -> Array:
        """Look inputs up, clamped to the table's ends."""
        index = np.clip(np.floor(inputs + 0.5) - self.first, 0, len(self.values) - 1).astype(np.intp)
        looked: Array = self.values[index]
        return looked


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A window of PS3.3 C.11.2.1.2 and C.11.2.1.3."""

    center: float
    """In modality values."""
    width: float
    """In modality values; > 0, and ≥ 1 for LINEAR."""
    function: Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"] = "LINEAR"
    """VOI LUT Function."""

    def apply(self, x: Array) -> Array:
        """Map modality values to 0 … 1."""
        c, w = self.center, self.width
        if self.function == "SIGMOID":
            # The exponent is bounded where the answer is 0 or 1 to the last bit anyway.
            return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (x - c) / w, -700.0, 700.0)))
        if self.function == "LINEAR":
            c, w = c - 0.5, w - 1.0
        if w == 0.0:  # LINEAR of width 1 is a threshold
            return np.where(x <= c, 0.0, 1.0)
        return np.clip((x - c) / w + 0.5, 0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PixelOrder:
    """Everything that turns a film's codes into presentation values."""

    bits: int
    """Bits Stored, 1 to 16."""
    signed: bool = False
    """Codes are two's complement."""
    padding: tuple[int, int] | None = None
    """First and last value that mark pixels outside the picture; they become black."""
    modality: Lut | tuple[float, float] = (1.0, 0.0)
    """Modality LUT, or rescale slope and intercept."""
    voi: Lut | Window | None = None
    """VOI LUT or window; ``None`` stretches the range in use."""
    inverted: bool = False
    """True when the smallest value after the VOI is white."""

    def stored_values(self) -> Array:
        """Value of each code, float64 [2^bits]."""
        values = np.arange(1 << self.bits, dtype=np.float64)
        if self.signed:
            values[1 << (self.bits - 1) :] -= 1 << self.bits
        return values

    def is_padding(self) -> Array:
        """True [2^bits] for codes that mark padding."""
        values = self.stored_values()
        if self.padding is None:
            return np.zeros(len(values), bool)
        return (values >= self.padding[0]) & (values <= self.padding[1])

    def table(self, used: Array) -> Array:
        """Presentation value of each code.

        Args:
            used: bool [2^bits], which codes the film holds; looked at only when there is no VOI, and then for the
                smallest and the largest value alone.

        Returns:
            uint16 [2^bits], 0 black … 65535 white.
        """
        stored, padding = self.stored_values(), self.is_padding()
        values = self._modality_values(stored)
        if isinstance(self.voi, Window):
            shown = self.voi.apply(values)
        elif self.voi is not None:
            shown = np.clip(self.voi.apply(values) / ((1 << self.voi.bits) - 1), 0.0, 1.0)
        else:
            shown = self._stretched(values, used & ~padding)
        if self.inverted:
            shown = 1.0 - shown
        shown[padding] = 0.0
        # Half up, so that the table doesn't depend on a platform's rounding mode.
        return np.floor(shown * WHITE + 0.5).astype(np.uint16)

    def range_in_use(self, used: Array) -> tuple[float, float]:
        """Modality values that become black and white where there is no VOI.

        Args:
            used: bool [2^bits], which codes the film holds.
        """
        stored, padding = self.stored_values(), self.is_padding()
        return self._range(self._modality_values(stored), used & ~padding)

    def _modality_values(self, stored: Array) -> Array:
        if isinstance(self.modality, Lut):
            return self.modality.apply(stored)
        return stored * self.modality[0] + self.modality[1]

    def _range(self, values: Array, used: Array) -> tuple[float, float]:
        low, high = float(values.min()), float(values.max())
        if self.bits > 8 and used.any():
            span = (high - low) / LARGEST_STRETCH
            least, most = float(values[used].min()), float(values[used].max())
            # Too narrow a range is widened on both sides, and pushed back inside the codes there are.
            slack = max(0.0, span - (most - least)) / 2
            shift = max(0.0, low - (least - slack)) - max(0.0, most + slack - high)
            low, high = least - slack + shift, most + slack + shift
        return low, high

    def _stretched(self, values: Array, used: Array) -> Array:
        low, high = self._range(values, used)
        if high <= low:
            return np.zeros_like(values)
        return np.clip((values - low) / (high - low), 0.0, 1.0)


def present(codes: Array, order: PixelOrder, *, in_place: bool = False) -> Pixels:
    """Presentation values of a film.

    Args:
        codes: uint8 or uint16 [h, w]; bits beyond Bits Stored are ignored (they may hold old overlays).
        order: what the header says.
        in_place: the codes are needed no more and may be written over, where they are of 16 bits and can be: setting
            aside as much again takes as long as the arithmetic.

    Returns:
        uint16 [h, w], 0 black … 65535 white.
    """
    codes, least, most = _within(codes, order.bits)
    table = order.table(_used(codes, order, least, most))
    line = straight_line(table, least, most) if codes.size >= len(table) else None
    pixels = (
        codes if in_place and codes.dtype == np.uint16 and codes.flags.writeable else np.empty(codes.shape, np.uint16)
    )
    if line is None:
        return _taken(codes, table, pixels)
    beyond = least < min(line.black, line.white) or most > max(line.black, line.white)
    _each_strip(codes, lambda strip: line.apply(codes[strip], pixels[strip], beyond=beyond))
    return pixels


def _within(codes: Array, bits: int) -> tuple[Array, int, int]:
    """Codes without what lies beyond their bits, the smallest and the largest of them."""
    least, most = int(codes.min()), int(codes.max())
    if most >> bits:
        codes = codes & _mask(codes, bits)
        least, most = int(codes.min()), int(codes.max())
    return codes, least, most


def _used(codes: Array, order: PixelOrder, least: int, most: int) -> Array:
    """Which codes a film holds, bool [2^bits], as far as `PixelOrder.table` asks: all, where it doesn't."""
    if order.voi is not None or order.bits <= 8:
        return np.ones(1 << order.bits, bool)
    if order.padding is not None or order.signed or isinstance(order.modality, Lut):
        return codes_in_use(codes, order.bits)
    # Values rise (or fall) with the codes, so that the ends tell the range; they are found in a tenth of the time.
    used = np.zeros(1 << order.bits, bool)
    used[[least, most]] = True
    return used


def codes_in_use(codes: Array, bits: int) -> Array:
    """Which codes a film holds: bool [2^bits]; bits beyond are ignored."""
    size = 1 << bits
    mask = _mask(codes, bits)
    used = np.zeros(size, bool)
    for strip in _strips(codes):
        used |= np.bincount((codes[strip] & mask).ravel(), minlength=size) > 0
    return used


def look_up(codes: Array, table: Array) -> Pixels:
    """Put codes through a table: uint16 [h, w].

    Args:
        codes: uint8 or uint16 [h, w]; bits beyond the table's are ignored.
        table: uint16 [2^bits].
    """
    return _taken(_within(codes, len(table).bit_length() - 1)[0], table, np.empty(codes.shape, np.uint16))


def _taken(codes: Array, table: Array, pixels: Array) -> Pixels:
    # "clip" clips nothing, since all codes are within; "raise" would look up into a copy first.
    _each_strip(codes, lambda strip: np.take(table, codes[strip], out=pixels[strip], mode="clip"))
    return pixels


def _mask(codes: Array, bits: int) -> Any:
    return codes.dtype.type(min((1 << bits) - 1, np.iinfo(codes.dtype).max))


def _strips(codes: Array) -> list[slice]:
    # NumPy turns codes into larger numbers first, so they are taken some rows at a time, which stay in the cache.
    step = max(1, AT_A_TIME // max(1, codes.shape[1]))
    return [slice(start, start + step) for start in range(0, codes.shape[0], step)]


def _each_strip(codes: Array, work: Callable[[slice], object]) -> None:
    """Work on all strips; the halves of a large film beside each other."""
    strips = _strips(codes)

    def through(some: list[slice]) -> None:
        for strip in some:
            work(strip)

    half = len(strips) // 2
    beside(lambda: through(strips[:half]), lambda: through(strips[half:]), worth_it=codes.size >= LARGE)
