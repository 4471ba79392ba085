"""From stored pixels to the Pixel Data of a transfer syntax, for the films that we write ourselves."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hilum.arrays import Array
from hilum.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """How one transfer syntax is written."""

    uid: str
    """Transfer Syntax UID."""
    encode: Callable[[Any, Array], None]
    """Puts pixels [h, w] into a pydicom data set."""
    lossy: bool = False
    """True when pixels change."""
    method: str = ""
    """Lossy Image Compression Method (PS3.3 C.7.6.1.1.5.1)."""


def _native(dataset: Any, codes: Array, *, order: str = "<") -> None:
    content = codes.astype(codes.dtype.newbyteorder(order)).tobytes()
    if codes.itemsize == 1 and order == ">":
        # Pixels of 8 bits as words would swap pairs of bytes; as OB they stay in order (PS3.5 A.3).
        dataset.add_new(0x7FE00010, "OB", content + b"\0" * (len(content) % 2))
        return
    dataset.add_new(0x7FE00010, "OB" if codes.itemsize == 1 else "OW", content + b"\0" * (len(content) % 2))


def _encapsulated(dataset: Any, frame: bytes) -> None:
    from pydicom.encaps import encapsulate

    dataset.add_new(0x7FE00010, "OB", encapsulate([frame]))
    dataset["PixelData"].is_undefined_length = True


def _rle(dataset: Any, codes: Array) -> None:
    from rle.rle import encode_frame  # type: ignore[import-not-found]

    rows, columns = codes.shape
    bits = codes.itemsize * 8
    _encapsulated(dataset, bytes(encode_frame(codes.tobytes(), rows, columns, 1, bits, "<")))


def _jpeg_2000(dataset: Any, codes: Array, *, ratio: float | None = None) -> None:
    from openjpeg.utils import encode_array

    if min(codes.shape) < 32:
        raise UsageError(f"JPEG 2000 is written from 32 pixels each way, but these are {list(codes.shape)}.")
    ratios = [ratio] if ratio else None
    frame = encode_array(codes, bits_stored=dataset.BitsStored, photometric_interpretation=2, compression_ratios=ratios)
    _encapsulated(dataset, bytes(frame))


def _jpeg_ls(dataset: Any, codes: Array, *, error: int = 0) -> None:
    import jpeg_ls  # type: ignore[import-untyped]

    if codes.dtype.kind == "i" and error:
        raise UsageError("Signed pixels can't be written near-lossless: CharLS bounds the error of unsigned values.")
    unsigned = np.bitwise_and(codes.view(f"u{codes.itemsize}"), (1 << dataset.BitsStored) - 1)
    frame = jpeg_ls.encode_array(unsigned, lossy_error=error)
    _encapsulated(dataset, bytes(frame))


def _jpeg(dataset: Any, codes: Array, *, quality: int = 95) -> None:
    from PIL import Image

    if codes.dtype != np.uint8:
        raise UsageError(f"JPEG baseline holds uint8 pixels, but these are {codes.dtype}. Use jpeg2000 or jpeg-ls.")
    buffer = io.BytesIO()
    Image.fromarray(codes).save(buffer, "JPEG", quality=quality)
    _encapsulated(dataset, buffer.getvalue())


ENCODERS: dict[str, Encoder] = {
    "implicit-le": Encoder(uid="1.2.840.10008.1.2", encode=_native),
    "explicit-le": Encoder(uid="1.2.840.10008.1.2.1", encode=_native),
    "deflated": Encoder(uid="1.2.840.10008.1.2.1.99", encode=_native),
    "explicit-be": Encoder(uid="1.2.840.10008.1.2.2", encode=partial(_native, order=">")),
    "rle": Encoder(uid="1.2.840.10008.1.2.5", encode=_rle),
    "jpeg2000-lossless": Encoder(uid="1.2.840.10008.1.2.4.90", encode=_jpeg_2000),
    "jpeg2000": Encoder(
        uid="1.2.840.10008.1.2.4.91", encode=partial(_jpeg_2000, ratio=8.0), lossy=True, method="ISO_15444_1"
    ),
    "jpeg-ls": Encoder(uid="1.2.840.10008.1.2.4.80", encode=_jpeg_ls),
    "jpeg-ls-near": Encoder(
        uid="1.2.840.10008.1.2.4.81", encode=partial(_jpeg_ls, error=2), lossy=True, method="ISO_14495_1"
    ),
    "jpeg": Encoder(uid="1.2.840.10008.1.2.4.50", encode=_jpeg, lossy=True, method="ISO_10918_1"),
}
