"""PNG and JPEG pictures of every form that a film may come in, and the ways in which one can lie.

For the tests alone. PNG is written from its specification (third edition): Pillow writes no interlaced one.
"""

import io
import struct
import zlib
from functools import cache

import numpy as np
from PIL import Image

SIZES = (0, 1, 2, 127, 255, 256, 1024, 4096, 6000, 32767, 32768, 65535)
LENGTHS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row, first column, and the steps of both, of each pass (section 8.2)."""
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6


def chunk(name, content):
    return struct.pack(">L", len(content)) + name + content + struct.pack(">L", zlib.crc32(name + content))


def _scanlines(pixels, depth):
    """Each row behind its filter type, here none."""
    rows = pixels.reshape(len(pixels), -1)
    if depth == 16:
        content = rows.astype(">u2").view(np.uint8)
    elif depth == 8:
        content = rows.astype(np.uint8)
    else:
        bits = np.unpackbits(rows.astype(np.uint8)[..., None], axis=2)[..., -depth:]
        content = np.packbits(bits.reshape(len(rows), -1), axis=1)
    return np.hstack([np.zeros((len(rows), 1), np.uint8), content]).tobytes()


def png(pixels, *, depth=8, form=GREY, interlaced=False, more=b""):
    """A PNG of samples [h, w] or [h, w, samples], with more chunks before its data."""
    rows, columns = pixels.shape[:2]
    passes = [pixels[top::down, left::right] for top, left, down, right in ADAM7] if interlaced else [pixels]
    data = b"".join(_scanlines(one, depth) for one in passes if one.size)
    head = chunk(b"IHDR", struct.pack(">LLBBBBB", columns, rows, depth, form, 0, 0, int(interlaced)))
    palette = chunk(b"PLTE", bytes(range(256)) * 3) if form == PALETTE else b""
    deflated = zlib.compress(data)
    half = len(deflated) // 2
    data = chunk(b"IDAT", deflated[:half]) + chunk(b"IDAT", deflated[half:])
    return b"\x89PNG\r\n\x1a\n" + head + palette + more + data + chunk(b"IEND", b"")


def jpeg(picture, **options):
    buffer = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def more_scans(content, count):
    """A progressive JPEG with its last scan again and again."""
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * count + b"\xff\xd9"


def originals():
    """Pictures of 48 × 40, by name."""
    grey = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 256, (6, 5)), 8, 0), 8, 1).astype(np.uint8)
    wide, colour = grey.astype(np.uint16) * 16, np.dstack([grey] * 3)
    turned = Image.Exif()
    turned[0x0112], turned[0x010E] = 6, "CANARY"
    profile = np.random.default_rng(1).bytes(3000)
    texts = chunk(b"tEXt", b"Comment\0CANARY") + chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"CANARY" * 500))
    texts += chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"CANARY" * 500))
    return {
        "PNG 1 bit": png(grey >> 7, depth=1),
        "PNG 8 bits": png(grey),
        "PNG 16 bits": png(wide, depth=16),
        "PNG interlaced": png(wide, depth=16, interlaced=True),
        "PNG RGB": png(colour, form=RGB),
        "PNG RGB, 16 bits": png(colour.astype(np.uint16) << 8, depth=16, form=RGB),
        "PNG RGB and alpha, interlaced": png(np.dstack([colour, grey]), form=RGB_ALPHA, interlaced=True),
        "PNG grey and alpha": png(np.dstack([grey, grey]), form=GREY_ALPHA),
        "PNG palette": png(grey, form=PALETTE, more=chunk(b"tRNS", bytes(range(256)))),
        "PNG palette of 4 bits, interlaced": png(grey >> 4, depth=4, form=PALETTE, interlaced=True),
        "PNG profile": png(grey, more=chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))),
        "PNG texts": png(grey, more=texts),
        "PNG Exif": png(grey, more=chunk(b"eXIf", turned.tobytes()[6:])),
        "JPEG grey": jpeg(grey),
        "JPEG RGB": jpeg(colour),
        "JPEG CMYK": jpeg(Image.fromarray(colour).convert("CMYK")),
        "JPEG restarts": jpeg(colour, restart_marker_blocks=2, subsampling=0),
        "JPEG progressive": jpeg(colour, progressive=True, subsampling=0),
        "JPEG of 100 scans": more_scans(jpeg(grey, progressive=True), 95),
        "JPEG Exif": jpeg(grey, exif=turned.tobytes(), comment=b"CANARY"),
        "JPEG profile": jpeg(colour, icc_profile=profile * 30),
    }  # fmt: skip


@cache
def much():
    """32 MB of zeros, deflated."""
    return zlib.compress(bytes(32 << 20), 6)


def _parts(content):
    """Where a PNG's chunks, or a JPEG's segments before its first scan, begin and end."""
    found, at = [], 8 if content[:1] == b"\x89" else 2
    while at + 12 <= len(content):
        if content[:1] == b"\x89":
            end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        else:
            end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
            if content[at + 1] == 0xDA:
                break
        found.append((at, end))
        at = end
    return found


def _put(content, at, value):
    content[at : at + len(value)] = value


def _flip(content, rng, first, last):
    for at in rng.integers(first, max(first + 1, last), rng.integers(1, 6)):
        content[at] = rng.integers(256)


def _sum_up(content, start, end):
    """Make a chunk's checksum right again, so that what lies in it is looked at."""
    if content[:1] == b"\x89":
        _put(content, end - 4, struct.pack(">L", zlib.crc32(content[start + 4 : end - 4])))


def _frame(content):
    """Where a JPEG's frame header begins."""
    return next(start for start, _ in _parts(content) if content[start + 1] in (0xC0, 0xC1, 0xC2))


def _bytes(content, rng):
    _flip(content, rng, 2, len(content))


def _chunk(content, rng):
    start, end = _any(content, rng)
    _flip(content, rng, start + 4, max(start + 5, end - 4 if content[:1] == b"\x89" else end))
    _sum_up(content, start, end)


def _any(content, rng):
    parts = _parts(content)
    return parts[rng.integers(len(parts))]


def _data(content, rng):
    """Filter types and samples behind zlib, or entropy-coded bits."""
    if content[:1] != b"\x89":
        _flip(content, rng, content.index(b"\xff\xda"), len(content))
        return
    data = [(start, end) for start, end in _parts(content) if content[start + 4 : start + 8] == b"IDAT"]
    raw = bytearray(zlib.decompress(b"".join(content[start + 8 : end - 4] for start, end in data)))
    _flip(raw, rng, 0, len(raw))
    if rng.integers(3) == 0:
        raw = raw[: rng.integers(len(raw))] if rng.integers(2) else raw * 3
    content[data[0][0] : data[-1][1]] = chunk(b"IDAT", zlib.compress(raw))


def _cut(content, rng):
    del content[rng.integers(1, len(content)) :]


def _length(content, rng):
    start, _ = _any(content, rng)
    length = struct.pack(">L", rng.choice(LENGTHS))
    _put(content, start if content[:1] == b"\x89" else start + 2, length if content[:1] == b"\x89" else length[2:])


def _size(content, rng):
    rows, columns = rng.choice(SIZES, 2)
    if rng.integers(8):  # both large are slow to read, where the limits allow them at all
        rows, columns = (rows, 40) if rng.integers(2) else (48, columns)
    if content[:1] == b"\x89":
        _put(content, 16, struct.pack(">LL", columns, rows))
        if rng.integers(8) == 0:
            _put(content, 16, struct.pack(">L", rng.choice(LENGTHS)))
        _sum_up(content, 8, 33)
    else:
        _put(content, _frame(content) + 5, struct.pack(">HH", rows, columns))


def _form(content, rng):
    """Depth, kind of colour, interlacing; or precision, components and how they are sampled."""
    if content[:1] == b"\x89":
        content[24 + rng.integers(5)] = rng.choice([0, 1, 2, 3, 4, 6, 8, 16, 255])
        _sum_up(content, 8, 33)
        return
    start = _frame(content)
    at = rng.choice([start + 1, start + 4, start + 9, start + 11, start + 12])
    content[at] = rng.choice([0, 1, 2, 3, 4, 8, 12, 16, 0x11, 0x41, 0x44, 0xC0, 0xC1, 0xC2, 0xC3, 0xC9])


def _bomb(content, rng):
    """What inflates to 32 MB; or up to 3,000 scans, or as many pieces of a profile."""
    if content[:1] == b"\x89":
        kind = rng.integers(5)
        bomb = (
            chunk(b"IDAT", much()), chunk(b"zTXt", b"k\0\0" + much()), chunk(b"iCCP", b"k\0\0" + much()),
            chunk(b"iTXt", b"k\0\1\0\0\0" + much()), chunk(b"tEXt", b"k\0" + b"x" * 2000) * 1000,
        )[kind]  # fmt: skip
        content[33:33] = bomb
        return
    if b"\xff\xc2" in content and rng.integers(2):
        content[:] = more_scans(content, int(rng.choice([50, 190, 210, 3000])))
        return
    count = int(rng.choice([1, 255, 3000]))
    names = (b"\xff\xe2", b"ICC_PROFILE\0\1\1"), (b"\xff\xe1", b"Exif\0\0II*\0\x08\0\0\0"), (b"\xff\xfe", b"x" * 500)
    marker, text = names[rng.integers(3)]
    content[2:2] = (marker + struct.pack(">H", len(text) + 2) + text) * count


def _order(content, rng):
    """A chunk or segment twice, left out, or at another's place."""
    (start, end), (other, _) = _any(content, rng), _any(content, rng)
    part = content[start:end]
    if rng.integers(2):
        del content[start:end]
    if rng.integers(2):
        content[min(other, len(content)) : min(other, len(content))] = part


def _insert(content, rng):
    at = int(rng.integers(2, len(content)))
    content[at:at] = rng.bytes(int(rng.integers(1, 40)))


WAYS = (_bytes, _chunk, _data, _cut, _length, _size, _form, _bomb, _order, _insert)


def mutate(content, rng):
    """One of the ways in which a picture can lie; its name and the mutated bytes."""
    content, way = bytearray(content), WAYS[rng.integers(len(WAYS))]
    way(content, rng)
    return way.__name__[1:], bytes(content)


def announced(content):
    """Pixels that a picture's header announces; 0 where that can't be read."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.width * image.height
    except Exception:
        return 0
