"""Which padding, look-up tables, window and polarity a grey film's header asks for; oddities become flags."""

import math
from typing import Any

import numpy as np

from hilum.arrays import Array
from hilum.imaging.codecs import SampleFormat
from hilum.imaging.dicom_facts import table_data, text, value_of
from hilum.imaging.pixel_order import Lut, PixelOrder, Window


def film_order(dataset: Any, form: SampleFormat, flags: list[str]) -> PixelOrder:
    """The pixel order of a film.

    Where several VOIs are recorded the first counts, and a VOI LUT Sequence comes before a window: PS3.3 C.11.2 calls
    them alternatives and leaves the choice to the application; pydicom chooses the same.

    Args:
        dataset: a pydicom data set.
        form: its Image Pixel module.
        flags: oddities are appended here; see `hilum.imaging.radiograph.FLAGS`.
    """
    modality = _modality(dataset, form, flags)
    voi = _voi_lut(dataset, _is_signed(form, modality), flags) or _window(dataset, flags)
    if voi is None:
        flags.append("no-voi")
    return PixelOrder(
        bits=form.stored,
        signed=form.signed,
        padding=_padding(dataset, form),
        modality=modality,
        voi=voi,
        inverted=_inverted(dataset, form, flags),
    )


def _number(value: Any) -> float | None:
    """The first value as a finite number; ``None`` when there is none."""
    if value is None or value == "":
        return None
    if not isinstance(value, str | bytes | int | float) and hasattr(value, "__getitem__"):
        value = value[0] if len(value) else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _padding(dataset: Any, form: SampleFormat) -> tuple[int, int] | None:
    """Pixel Padding Value and Range Limit (PS3.3 C.7.5.1.1.2), in the sign of the pixels."""
    ends = [_number(value_of(dataset, key)) for key in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return None
    known = [_as_stored(int(end), form) for end in ends if end is not None]
    return min(known), max(known)


def _as_stored(value: int, form: SampleFormat) -> int:
    """US and SS are mixed up in the field: read the value in the sign that the pixels have."""
    low, high = (-(1 << 15), (1 << 15) - 1) if form.signed else (0, (1 << 16) - 1)
    return value if low <= value <= high else (value + (1 << 16) if value < 0 else value - (1 << 16))


def _modality(dataset: Any, form: SampleFormat, flags: list[str]) -> Lut | tuple[float, float]:
    item = _first_item(dataset, "ModalityLUTSequence")
    if item is not None:
        lut = _lut(item, form.signed, flags)
        if lut is not None:
            return lut
    slope, intercept = _number(value_of(dataset, "RescaleSlope")), _number(value_of(dataset, "RescaleIntercept"))
    recorded = any(value_of(dataset, key) not in (None, "") for key in ("RescaleSlope", "RescaleIntercept"))
    if recorded and (slope in (None, 0.0) or intercept is None):
        flags.append("rescale-unusable")
        return 1.0, 0.0
    return (slope, intercept) if slope is not None and intercept is not None else (1.0, 0.0)


def _is_signed(form: SampleFormat, modality: Lut | tuple[float, float]) -> bool:
    """Whether a VOI LUT's first input is signed: PS3.3 C.11.2.1.1 takes the sign from what comes out before it."""
    if isinstance(modality, Lut):
        return False
    smallest = -(1 << (form.stored - 1)) if form.signed else 0
    largest = smallest + (1 << form.stored) - 1
    return min(smallest * modality[0], largest * modality[0]) + modality[1] < 0


def _voi_lut(dataset: Any, signed: bool, flags: list[str]) -> Lut | None:
    item = _first_item(dataset, "VOILUTSequence")
    return None if item is None else _lut(item, signed, flags)


def _window(dataset: Any, flags: list[str]) -> Window | None:
    center, width = _number(value_of(dataset, "WindowCenter")), _number(value_of(dataset, "WindowWidth"))
    if center is None or width is None or width <= 0:
        if any(value_of(dataset, key) not in (None, "") for key in ("WindowCenter", "WindowWidth")):
            flags.append("window-unusable")
        return None
    function = (text(dataset, "VOILUTFunction") or "LINEAR").upper()
    if function == "SIGMOID":
        return Window(center=center, width=width, function="SIGMOID")
    if function == "LINEAR_EXACT":
        return Window(center=center, width=width, function="LINEAR_EXACT")
    if function != "LINEAR":
        flags.append("voi-function-unknown")
    if width < 1:
        # Not allowed (C.11.2.1.2.1), yet written by devices whose rescaled values are fractions.
        flags.append("window-narrower-than-one")
        return Window(center=center, width=width, function="LINEAR_EXACT")
    return Window(center=center, width=width)


def _inverted(dataset: Any, form: SampleFormat, flags: list[str]) -> bool:
    """Presentation LUT Shape (2050,0020), else Photometric Interpretation; never both."""
    by_photometric = form.photometric == "MONOCHROME1"
    shape = text(dataset, "PresentationLUTShape")
    if shape is None:
        return by_photometric
    if shape.upper() not in ("IDENTITY", "INVERSE"):
        flags.append("presentation-lut-shape-unknown")
        return by_photometric
    by_shape = shape.upper() == "INVERSE"
    if by_shape != by_photometric:
        flags.append("polarity-contradiction")
    return by_shape


def _first_item(dataset: Any, keyword: str) -> Any:
    sequence = value_of(dataset, keyword)
    return sequence[0] if sequence else None


def _lut(item: Any, signed: bool, flags: list[str]) -> Lut | None:
    """LUT Descriptor (0028,3002) and LUT Data (0028,3006)."""
    descriptor, data = value_of(item, "LUTDescriptor"), table_data(item, "LUTData")
    if descriptor is None or data is None or isinstance(descriptor, str | bytes | int) or len(descriptor) != 3:
        flags.append("lut-unusable")
        return None
    entries, first, bits = (int(one) for one in descriptor)
    entries = entries % 65536 or 65536  # 0 means 65536, and a reader that takes US for SS sees negative numbers
    first = first % 65536
    if signed and first >= 32768:
        first -= 65536
    values = _lut_values(data, entries)
    if len(values) < entries or not 1 <= bits <= 16:
        flags.append("lut-unusable")
        return None
    values = values[:entries]
    most = int(values.max())
    if most >= 1 << bits:
        flags.append("lut-wider-than-declared")
        bits = most.bit_length()
    return Lut(first=first, values=values.astype(np.float64), bits=bits)


def _lut_values(data: Any, entries: int) -> Array:
    if isinstance(data, bytes):
        # Data of 8 bits may be packed two to a word (PS3.3 C.11.1.1.1).
        return (
            np.frombuffer(data, "u1")
            if len(data) in (entries, entries + 1) and entries > 1
            else np.frombuffer(data[: len(data) // 2 * 2], "<u2")
        )
    several = data if isinstance(data, list) or hasattr(data, "__len__") else [data]
    return np.array([int(one) % 65536 for one in several], np.uint16)
