"""JPEG codestreams written from ITU-T T.81: lossless (SOF3) and extended (SOF1), which no permissive encoder offers.

For the tests alone: small and slow on purpose, and apart from every decoder that they are read with.
"""

import struct

import numpy as np

_CATEGORIES = range(17)


class _Bits:
    """Entropy-coded bits, most significant first, with a zero byte after each 0xFF (T.81 F.1.2.3)."""

    def __init__(self):
        self.text = []

    def put(self, value, count):
        if count:
            self.text.append(format(value, f"0{count}b"))

    def category(self, difference):
        """A Huffman code of 5 bits, equal to the category, and the bits that place the value in it (F.1.2.1)."""
        size = abs(difference).bit_length()
        self.put(size, 5)
        # Category 16 of the lossless process is −32768 … 32768 taken as one value, without further bits (H.1.2.2).
        if size < 16:
            self.put(difference if difference > 0 else difference + (1 << size) - 1, size)

    def content(self):
        bits = "".join(self.text)
        bits += "1" * (-len(bits) % 8)
        whole = int(bits, 2).to_bytes(len(bits) // 8, "big")
        return whole.replace(b"\xff", b"\xff\x00")


def _segment(marker, content):
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _table(number, symbols, length):
    """A Huffman table whose symbols all have codes of one length, in order."""
    counts = bytes(len(symbols) if at == length else 0 for at in range(1, 17))
    return _segment(0xC4, bytes([number]) + counts + bytes(symbols))


def _frame(marker, codes, precision):
    rows, columns = codes.shape
    return _segment(marker, struct.pack(">BHHBBBB", precision, rows, columns, 1, 1, 0x11, 0))


def lossless_jpeg(codes, precision, predictor=1):
    """Lossless sequential JPEG (T.81 Annex H) of unsigned codes [h, w]."""
    values = codes.astype(np.int64)
    left = np.roll(values, 1, axis=1)
    above = np.roll(values, 1, axis=0)
    corner = np.roll(above, 1, axis=1)
    predicted = {
        1: left, 2: above, 3: corner, 4: left + above - corner, 5: left + ((above - corner) >> 1),
        6: above + ((left - corner) >> 1), 7: (left + above) >> 1,
    }[predictor]  # fmt: skip
    predicted[:, 0] = above[:, 0]  # the first column is predicted from above, the first row from the left (H.1.2.1)
    predicted[0, :] = left[0, :]
    predicted[0, 0] = 1 << (precision - 1)
    differences = (values - predicted + 32767) % 65536 - 32767  # modulo 2^16, −32767 … 32768
    bits = _Bits()
    for difference in differences.ravel().tolist():
        bits.category(difference)
    scan = _segment(0xDA, bytes([1, 1, 0x00, predictor, 0, 0]))
    head = b"\xff\xd8" + _frame(0xC3, codes, precision) + _table(0x00, _CATEGORIES, 5)
    return head + scan + bits.content() + b"\xff\xd9"


def extended_jpeg(codes, precision=12):
    """Extended sequential JPEG (T.81 F.1) of a film that is constant on each 8 × 8 block: exact, with steps of 1."""
    blocks = codes[::8, ::8].astype(np.int64)
    if not np.array_equal(np.repeat(np.repeat(blocks, 8, axis=0), 8, axis=1), codes):
        raise ValueError("every 8 × 8 block must hold one value")
    # The DC coefficient of a constant block is 8 × (value − half the range).
    coefficients = ((blocks - (1 << (precision - 1))) * 8).ravel().tolist()
    bits = _Bits()
    before = 0
    for coefficient in coefficients:
        bits.category(coefficient - before)
        bits.put(0, 1)  # end of block
        before = coefficient
    steps = _segment(0xDB, bytes([0]) + bytes([1] * 64))
    tables = _table(0x00, range(16), 5) + _table(0x10, [0], 1)
    scan = _segment(0xDA, bytes([1, 1, 0x00, 0, 63, 0]))
    return b"\xff\xd8" + steps + _frame(0xC1, codes, precision) + tables + scan + bits.content() + b"\xff\xd9"
