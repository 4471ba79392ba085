"""A synthetic answer to a synthetic film, as results are made from it."""

import io
import struct
from typing import Any

import numpy as np
from pydicom.datadict import dictionary_VR
from pydicom.filebase import DicomBytesIO, DicomFileLike
from pydicom.filewriter import write_data_element, write_file_meta_info
from tests.service.small import dataset

from hilum.config import to_mapping
from hilum.imaging.preprocessing import Preprocessing
from hilum.service.dicom.result import Decision, Heat, Result

NAMES = {
    "ISO_IR 100": "Müller^Jürgen".encode("latin-1"),
    "ISO_IR 192": "Żółć^Gęślą=ヤマダ^タロウ".encode(),
    "ISO_IR 144": "Люкceмбypг".encode("iso8859-5"),
    # PS3.5 annex H.3, example 1: alphabetic, ideographic and phonetic groups with escape sequences.
    "\\ISO 2022 IR 87": "Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B".encode(
        "ascii"
    ),
}


def result(**changes: Any) -> Result:
    """An answer with a heat map."""
    heat = Heat(
        finding="pneumonia",
        values=np.linspace(0, 1, 49, dtype=np.float32).reshape(7, 7),
        top=1.0,
        preprocessing=to_mapping(Preprocessing()),
    )
    values: dict[str, Any] = {
        "content_sha256": "a" * 64,
        "model_sha256": "b" * 64,
        "model_name": "small",
        "model_version": "1.2",
        "parameters": ("precision=fp32",),
        "software": "0.1",
        "probs": {"normal": 0.125, "pneumonia": 0.75, "covid-19": 0.125},
        "spread": {"pneumonia": 0.03125},
        "label": "pneumonia",
        "positive": ("pneumonia",),
        "made_at": "2026-11-05T10:20:30+01:00",
        "heat": heat,
    }
    return Result(**{**values, **changes})


def decision(**changes: Any) -> Decision:
    """A reader who overrode the model."""
    values: dict[str, Any] = {
        "id": "d1",
        "verdict": "overridden",
        "finding": "normal",
        "comment": "Overlap of the breast.",
        "reader": "Reader^Synthetic",
        "organization": "Synthetic Hospital",
        "decided_at": "2026-11-05T11:00:00+01:00",
    }
    return Decision(**{**values, **changes})


def film(
    number: int = 1, *, syntax: str = "1.2.840.10008.1.2.1", raw: dict[int, bytes] | None = None, **changes: Any
) -> bytes:
    """A synthetic CR film of 64 × 48 pixels as a Part 10 file.

    Args:
        number: part of its UIDs.
        syntax: Explicit or Implicit VR Little Endian.
        raw: bytes of text elements by tag, written as they are.
        changes: header values.
    """
    implicit = syntax == "1.2.840.10008.1.2"
    made = dataset(number, StudyInstanceUID=f"1.2.826.0.1.3680043.10.2.{number}")
    made.SeriesInstanceUID, made.InstanceNumber = f"1.2.826.0.1.3680043.10.3.{number}", number
    made.PatientBirthDate, made.PatientSex, made.StudyID, made.StudyDate, made.StudyTime = (
        "19700101",
        "F",
        "S1",
        "20261101",
        "101112",
    )
    made.ReferringPhysicianName, made.PatientOrientation = "", ["L", "F"]
    made.Rows, made.Columns = 64, 48
    made.PixelData = (np.arange(64 * 48) % 251).astype(np.uint8).tobytes()
    for name, value in changes.items():
        setattr(made, name, value)
    made.file_meta.TransferSyntaxUID = syntax
    parts = {int(tag): _encoded(made[tag], implicit) for tag in made.keys()}  # noqa: SIM118 - a Dataset
    for tag, value in (raw or {}).items():
        length = (
            struct.pack("<L", len(value)) if implicit else dictionary_VR(tag).encode() + struct.pack("<H", len(value))
        )
        parts[tag] = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + length + value
    out = io.BytesIO()
    write_file_meta_info(DicomFileLike(out), made.file_meta)
    return bytes(128) + b"DICM" + out.getvalue() + b"".join(parts[tag] for tag in sorted(parts))


def _encoded(element: Any, implicit: bool) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    if element.tag == 0x7FE00010:
        element.VR = "OW"
    write_data_element(buffer, element, ["iso8859"])
    return buffer.getvalue()
