"""What is read out of stored objects for WADO-RS; runs in a sandboxed child, because films are foreign files."""

import io
import json
import warnings
from typing import Any

from hilum.errors import FilmError
from hilum.imaging.dicom_structure import BIG_ENDIAN, PIXEL_DATA, examine
from hilum.imaging.limits import Limits

LONGEST_INLINE, LONGEST_METADATA = 1024, 8 * 1024 * 1024
BULK = ("OB", "OD", "OF", "OL", "OV", "OW", "UN")
PRELOAD = ("pydicom", "pydicom.encaps", "hilum.service.dicomweb.contents")

# PS3.18 table 8.7.3-5: what a compressed frame is.
FRAME_TYPES = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
}
OCTETS = "application/octet-stream"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"


def metadata(content: bytes, url: str) -> str:
    """An object's attributes as DICOM JSON (PS3.18 annex F); long binary values as addresses.

    Args:
        content: a Part 10 file.
        url: address of the object.

    Raises:
        FilmError: it can't be read, or its attributes are too many.
    """
    structure = examine(content, Limits())
    dataset = _read(content, stop_before_pixels=True)
    found: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag in sorted(dataset.keys()):
            told = _element(dataset, tag, url)
            if told is not None:
                found[f"{int(tag):08X}"] = told
    found["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    found["00083002"] = {"vr": "UI", "Value": [structure.transfer_syntax]}
    if structure.pixels is not None:
        native = structure.fragments == 0 and structure.transfer_syntax not in FRAME_TYPES
        vr = "OW" if native and dataset.get("BitsAllocated", 16) > 8 else "OB"
        tag_name = f"{structure.pixels:08X}"
        found[tag_name] = {"vr": vr, "BulkDataURI": f"{url}/bulkdata/{tag_name}"}
    text = json.dumps(dict(sorted(found.items())), separators=(",", ":"))
    if len(text) > LONGEST_METADATA:
        raise FilmError("The object's attributes are more than can be told. Fetch the object itself.", code="too-large")
    return text


def _element(dataset: Any, tag: Any, url: str) -> dict[str, Any] | None:
    """One attribute; None for one whose value is none of its kind."""
    try:
        element = dataset[tag]
        if element.VR in BULK and element.value and len(element.value) > LONGEST_INLINE:
            return {"vr": element.VR, "BulkDataURI": f"{url}/bulkdata/{int(tag):08X}"}
        told: dict[str, Any] = element.to_json_dict(None, 1 << 30)
        json.dumps(told)
    except Exception:
        return None
    return told


def frames(content: bytes, numbers: tuple[int, ...]) -> tuple[str, str, tuple[bytes, ...]]:
    """Frames as they are stored.

    Args:
        content: a Part 10 file.
        numbers: which, from 1; empty for all.

    Returns:
        their media type, their transfer syntax, and their bytes: native ones little endian.

    Raises:
        FilmError: code "no-frame" when there is none of this number; it can't be read otherwise.
    """
    from pydicom.encaps import generate_frames

    examine(content, Limits())
    dataset = _read(content)
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    count = _frames_of(dataset)
    wanted = numbers or tuple(range(1, count + 1))
    if "PixelData" not in dataset or any(not 1 <= number <= count for number in wanted):
        raise FilmError("The object has no frame of this number.", code="no-frame")
    if syntax in FRAME_TYPES:
        try:
            all_of_them = list(generate_frames(dataset.PixelData, number_of_frames=count))
            return FRAME_TYPES[syntax], syntax, tuple(all_of_them[number - 1] for number in wanted)
        except Exception as error:
            raise FilmError(f"The frames can't be told apart ({type(error).__name__}).", code="unreadable") from None
    return OCTETS, EXPLICIT_LITTLE_ENDIAN, tuple(_native(dataset, syntax, number, count) for number in wanted)


def bulkdata(content: bytes, tag: int) -> bytes:
    """The bytes of one binary attribute, as they are stored.

    Raises:
        FilmError: code "no-bulkdata" when there is none.
    """
    examine(content, Limits())
    dataset = _read(content)
    element = dataset.get(tag)
    if element is None or element.VR not in BULK or not isinstance(element.value, bytes):
        raise FilmError("The object has no such binary attribute.", code="no-bulkdata")
    return element.value


def is_pixels(tag: int) -> bool:
    """Whether a tag is that of the pixels."""
    return tag == PIXEL_DATA


def _frames_of(dataset: Any) -> int:
    try:
        return max(1, int(dataset.get("NumberOfFrames") or 1))
    except (TypeError, ValueError):
        return 1


def _native(dataset: Any, syntax: str, number: int, count: int) -> bytes:
    try:
        bits = (
            int(dataset.Rows)
            * int(dataset.Columns)
            * int(dataset.get("SamplesPerPixel", 1))
            * int(dataset.BitsAllocated)
        )
    except (AttributeError, TypeError, ValueError):
        raise FilmError("The object doesn't say how large its frames are.", code="unreadable") from None
    if bits <= 0 or (bits % 8 and count > 1):
        raise FilmError("Frames that don't end with a byte can't be told apart.", code="unreadable")
    size = (bits + 7) // 8
    frame: bytes = dataset.PixelData[(number - 1) * size : number * size]
    if len(frame) != size:
        raise FilmError("The pixels are shorter than the header says.", code="truncated")
    if syntax == BIG_ENDIAN and int(dataset.BitsAllocated) == 16:
        swapped = bytearray(frame)
        swapped[0::2], swapped[1::2] = frame[1::2], frame[0::2]
        return bytes(swapped)
    return frame


def _read(content: bytes, *, stop_before_pixels: bool = False) -> Any:
    from pydicom import dcmread

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dcmread(io.BytesIO(content), stop_before_pixels=stop_before_pixels)
    except MemoryError:
        raise
    except Exception as error:
        raise FilmError(f"The object can't be read ({type(error).__name__}).", code="unreadable") from None
