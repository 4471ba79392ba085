"""What a DICOM header says of a film, as `FilmFacts`; a value that makes no sense counts as not recorded."""

import re
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np

from hilum.imaging.codecs import CODECS
from hilum.imaging.radiograph import FilmFacts

# Keywords whose elements are read for the facts; nothing else of the header is decoded.
FACT_KEYWORDS = (
    "SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "AccessionNumber",
    "Modality", "PresentationIntentType", "ImageType", "BodyPartExamined", "ViewPosition", "ViewCodeSequence",
    "PatientOrientation", "PatientAge", "PatientBirthDate", "PatientSex", "AcquisitionDate", "AcquisitionDateTime",
    "ContentDate", "StudyDate", "Manufacturer", "ManufacturerModelName", "InstitutionName",
    "PhotometricInterpretation", "SamplesPerPixel", "BitsStored", "Rows", "Columns", "PixelSpacing",
    "ImagerPixelSpacing", "BurnedInAnnotation", "ImageLaterality", "Laterality", "LossyImageCompression",
)  # fmt: skip

GREY = ("MONOCHROME1", "MONOCHROME2")

# Code meanings of CID 4010 "DX View", by their first words, for devices that fill View Code Sequence alone.
VIEWS = {"antero-posterior": "AP", "postero-anterior": "PA", "left lateral": "LL", "right lateral": "RL"}

_AGE = re.compile(r"(\d{1,3})([DWMY])")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


# Text of these value representations is a string without structure (PS3.5 section 6.2).
_TEXTS = frozenset(("AE", "AS", "CS", "DA", "DT", "LO", "SH", "UI"))


@lru_cache(maxsize=256)
def _known(keyword: str) -> tuple[Any, str]:
    """Tag and value representation by the standard's dictionary."""
    from pydicom.datadict import dictionary_VR
    from pydicom.tag import Tag

    tag = Tag(keyword)
    return tag, dictionary_VR(tag)


def _raw(dataset: Any, keyword: str) -> tuple[str, bytes, bool] | None:
    """Value representation, bytes and whether little endian, of an element that was read but not yet looked at.

    Bringing a value into pydicom's form takes ten times as long as what most of them need, and there are forty.
    """
    tag, usual = _known(keyword)
    element = dataset.get_item(tag)
    if not isinstance(element, tuple) or not isinstance(element[3], bytes):
        return None
    _, representation, _, content, _, _, little, *_ = element
    return representation or usual, content, little


def value_of(dataset: Any, keyword: str) -> Any:
    """A value as pydicom gives it; ``None`` when the element is absent."""
    tag, _ = _known(keyword)
    return dataset[tag].value if dataset.get_item(tag) is not None else None


def text(dataset: Any, keyword: str) -> str | None:
    """A single text value without padding; ``None`` when absent, empty or of another kind."""
    raw = _raw(dataset, keyword)
    # Plain ASCII is the same in every character set of the standard, unless an escape sequence or a second value comes.
    if raw is not None and raw[0] in _TEXTS and raw[1].isascii() and not _marked(raw[1]):
        return raw[1].decode("ascii").strip(" \0") or None
    value = value_of(dataset, keyword)
    if value is None or not isinstance(value, str):
        return None
    return str(value).strip(" \0") or None


def _marked(content: bytes) -> bool:
    return b"\x1b" in content or b"\\" in content


def texts(dataset: Any, keyword: str) -> tuple[str, ...]:
    """All values of a text element, upper case."""
    value = value_of(dataset, keyword)
    if value is None or value == "":
        return ()
    several = [value] if isinstance(value, str) else value
    return tuple(str(one).strip(" \0").upper() for one in several) if isinstance(several, Sequence | list) else ()


def whole(dataset: Any, keyword: str) -> int | None:
    """A whole number; ``None`` when absent or not one."""
    raw = _raw(dataset, keyword)
    if raw is not None and raw[0] == "US" and len(raw[1]) == 2:
        return int.from_bytes(raw[1], "little" if raw[2] else "big")
    try:
        return int(value_of(dataset, keyword))
    except (TypeError, ValueError, OverflowError):
        return None


def table_data(dataset: Any, keyword: str) -> Any:
    """Value of a look-up table's data, its words little endian whatever the file was.

    pydicom leaves the bytes of OW as they are stored, and in explicit VR big endian each two of them are swapped
    (PS3.5 A.3).
    """
    data = value_of(dataset, keyword)
    little = getattr(dataset, "original_encoding", (None, None))[1]
    if isinstance(data, bytes) and little is False and dataset[keyword].VR == "OW":
        return np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").tobytes()
    return data


def _upper(value: str | None) -> str | None:
    return value.upper() if value else None


def dicom_facts(dataset: Any, transfer_syntax: str) -> FilmFacts:
    """Facts from a pydicom data set that holds at least the elements of `FACT_KEYWORDS`."""
    photometric = _upper(text(dataset, "PhotometricInterpretation"))
    compressed = text(dataset, "LossyImageCompression")
    codec = CODECS.get(transfer_syntax)
    lossy = None if compressed is None else compressed == "01"
    return FilmFacts(
        format="dicom",
        sop_instance_uid=text(dataset, "SOPInstanceUID"),
        sop_class_uid=text(dataset, "SOPClassUID"),
        study_instance_uid=text(dataset, "StudyInstanceUID"),
        series_instance_uid=text(dataset, "SeriesInstanceUID"),
        patient_id=text(dataset, "PatientID"),
        accession_number=text(dataset, "AccessionNumber"),
        modality=_upper(text(dataset, "Modality")),
        presentation_intent=_upper(text(dataset, "PresentationIntentType")),
        image_type=texts(dataset, "ImageType"),
        body_part=_upper(text(dataset, "BodyPartExamined")),
        view_position=_view(dataset),
        patient_orientation=texts(dataset, "PatientOrientation"),
        age_years=_age(dataset),
        sex=_sex(dataset),
        acquired=_acquired(dataset),
        manufacturer=text(dataset, "Manufacturer"),
        device=text(dataset, "ManufacturerModelName"),
        institution=text(dataset, "InstitutionName"),
        photometric=photometric,
        bits_stored=whole(dataset, "BitsStored"),
        rows=whole(dataset, "Rows"),
        columns=whole(dataset, "Columns"),
        spacing_mm=_spacing(dataset),
        transfer_syntax=transfer_syntax,
        burned_in=_upper(text(dataset, "BurnedInAnnotation")),
        laterality=_upper(text(dataset, "ImageLaterality") or text(dataset, "Laterality")),
        lossy=True if codec is not None and codec.lossy else lossy,
        colour=False if photometric in GREY else None,
    )


def _view(dataset: Any) -> str | None:
    recorded = text(dataset, "ViewPosition")
    if recorded:
        return recorded.upper()
    for item in value_of(dataset, "ViewCodeSequence") or ():
        meaning = (text(item, "CodeMeaning") or "").lower()
        for start, view in VIEWS.items():
            if meaning.startswith(start):
                return view
    return None


def _age(dataset: Any) -> float | None:
    found = _AGE.fullmatch((text(dataset, "PatientAge") or "").upper())
    if found:
        return int(found[1]) * _YEARS[found[2]]
    born, acquired = _iso_date(text(dataset, "PatientBirthDate")), _acquired(dataset)
    if born is None or acquired is None:
        return None
    years = (date.fromisoformat(acquired) - date.fromisoformat(born)).days / 365.25
    return years if 0 <= years < 130 else None


def _sex(dataset: Any) -> str | None:
    sex = _upper(text(dataset, "PatientSex"))
    return sex if sex in ("F", "M", "O") else None


def _acquired(dataset: Any) -> str | None:
    for keyword in ("AcquisitionDate", "AcquisitionDateTime", "ContentDate", "StudyDate"):
        found = _iso_date((text(dataset, keyword) or "")[:10])
        if found:
            return found
    return None


def _iso_date(recorded: str | None) -> str | None:
    digits = (recorded or "").replace(".", "").replace("-", "")[:8]
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])).isoformat()
    except ValueError:
        return None


def _spacing(dataset: Any) -> tuple[float, float] | None:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        try:
            down, across = (float(one) for one in value_of(dataset, keyword))
        except (TypeError, ValueError):
            continue
        if 0 < down < 100 and 0 < across < 100:
            return down, across
    return None
