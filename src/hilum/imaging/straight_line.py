"""Tables that are straight lines between black and white, computed instead of looked up.

Most films have one: a linear window, or the range in use from end to end. A line through whole numbers is a product, a
sum and a quotient of 32-bit numbers, which a processor does for many pixels at once; a look-up goes pixel by pixel. A
line is taken only where it gives the table's own numbers for every code of the film, so nobody can tell.

Over the whole range of 8, 10, 12, 14 or 16 bits 16-bit numbers are enough, of which twice as many fit: with 12 bits a
code x becomes 16 x and a sixteenth more at the top, 15 x / 4095 = x / 273.
"""

import math
from dataclasses import dataclass

import numpy as np

from hilum.arrays import Array

WHITE = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class StraightLine:
    """A table that rises, or falls, from black at one code to white at another, and stays so beyond."""

    black: int
    """The last code that is black, coming from white."""
    white: int
    """The first code that is white, coming from black."""

    def apply(self, codes: Array, out: Array, *, beyond: bool) -> None:
        """Put codes through the line.

        Args:
            codes: uint8 or uint16, of any shape.
            out: uint16 of the same shape, written over: 0 black … 65535 white, rounded half up. It may be the codes.
            beyond: some code may lie beyond black or white.
        """
        if beyond:
            codes = np.clip(codes, min(self.black, self.white), max(self.black, self.white), dtype=codes.dtype)
        span = abs(self.white - self.black)
        slope, rest = divmod(WHITE, span)
        common = math.gcd(rest, span)
        rest, parts, half = rest // common, span // common, span // 2 // common
        if rest * span + half <= WHITE:
            self._apply_16(codes, out, (slope, rest, half, parts))
            return
        factor = WHITE if self.white > self.black else -WHITE
        # Below 2^32 at the end, and in modular arithmetic on the way: 65535 · 65535 + 32767 fits.
        greys = codes.astype(np.uint32)
        greys *= _whole(factor)
        greys += _whole(span // 2 - factor * self.black)
        greys //= _whole(span)
        out[...] = greys

    def _apply_16(self, codes: Array, out: Array, numbers: tuple[int, int, int, int]) -> None:
        """slope · x + (rest · x + half) // parts, where x counts from black and nothing goes beyond 65535."""
        slope, rest, half, parts = (np.uint16(number) for number in numbers)
        black = np.uint16(self.black)
        if self.white > self.black:
            steps = np.subtract(codes, black, dtype=np.uint16) if black else codes
        else:
            steps = np.subtract(black, codes, dtype=np.uint16)
        if not rest:
            np.multiply(steps, slope, out=out, dtype=np.uint16)
            return
        more = np.multiply(steps, rest, dtype=np.uint16) if rest > 1 else steps
        more = np.add(more, half, dtype=np.uint16)
        more //= parts
        np.multiply(steps, slope, out=out, dtype=np.uint16)
        out += more


def _whole(number: int) -> np.uint32:
    return np.uint32(number % (1 << 32))


def straight_line(table: Array, least: int, most: int) -> StraightLine | None:
    """The line that gives a table's numbers.

    Args:
        table: uint16 [n], value of each code.
        least: smallest code of the film.
        most: largest code of the film.

    Returns:
        ``None`` where no line gives them, for every code from ``least`` to ``most``.
    """
    blacks, whites = int(np.count_nonzero(table == 0)), int(np.count_nonzero(table == WHITE))
    if not blacks or not whites or blacks + whites == len(table) or table[0] == table[-1]:
        return None
    last = len(table) - 1
    rises = table[0] < table[-1]
    line = StraightLine(
        black=blacks - 1 if rises else last - (blacks - 1), white=last - (whites - 1) if rises else whites - 1
    )
    codes = np.arange(least, most + 1, dtype=np.uint16)
    computed = np.empty(codes.shape, np.uint16)
    line.apply(codes, computed, beyond=True)
    return line if np.array_equal(computed, table[least : most + 1]) else None
