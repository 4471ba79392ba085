"""What a de-identified film keeps: a closed list of attributes, each with what its value may be.

PS3.15 names what must go; vendors put names elsewhere as well. So everything goes that is not listed here, and a value
goes that is none of those which the attribute may have. Nothing here is free text.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MOST_VALUES = 8
"""Of a number of which there may be any number, such as windows."""

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
DIRECTION = re.compile(r"[APLRHF]{0,3}")
AGE = re.compile(r"\d{3}[DWMY]")

# Terms of PS3.3 and PS3.16 that films use; a value beside them goes.
TERMS: dict[str, frozenset[str]] = {
    name: frozenset(terms.split())
    for name, terms in {
        "Modality": "CR DX OT RG IO MG",
        "PresentationIntentType": "PRESENTATION PROCESSING FOR",
        "ConversionType": "DV DI DF WSD SD SI DRW SYN",
        "BodyPartExamined": "CHEST THORAX LUNG RIB RIBS ABDOMEN HEAD SKULL NECK SPINE CSPINE TSPINE LSPINE PELVIS HIP "
        "SHOULDER ARM ELBOW FOREARM WRIST HAND FINGER LEG KNEE ANKLE FOOT TOE CLAVICLE STERNUM WHOLEBODY EXTREMITY",
        "ViewPosition": "PA AP LL RL LLD RLD LLO RLO LAO RAO LPO RPO LATERAL LAT",
        "Laterality": "L R",
        "ImageLaterality": "L R U B",
        "PhotometricInterpretation": "MONOCHROME1 MONOCHROME2",
        "PresentationLUTShape": "IDENTITY INVERSE",
        "RescaleType": "US OD HU",
        "ModalityLUTType": "US OD HU",
        "PixelIntensityRelationship": "LIN LOG",
        "BurnedInAnnotation": "YES NO",
        "LossyImageCompression": "00 01",
        "LossyImageCompressionMethod": "ISO_10918_1 ISO_14495_1 ISO_15444_1 ISO_13818_2",
        "VOILUTFunction": "LINEAR LINEAR_EXACT SIGMOID",
        "QualityControlImage": "YES NO BOTH",
        "DetectorType": "DIRECT SCINTILLATOR STORAGE FILM",
        "PositionerType": "NONE CARM COLUMN",
        "FilmOrientation": "PORTRAIT LANDSCAPE",
        "ImageType": "ORIGINAL DERIVED PRIMARY SECONDARY",
    }.items()
}
PHRASES = {"PresentationIntentType": frozenset(("FOR PRESENTATION", "FOR PROCESSING"))}

NUMBERS = (
    "SeriesNumber", "InstanceNumber", "AcquisitionNumber", "KVP", "ExposureTime", "XRayTubeCurrent", "Exposure",
    "ExposureInuAs", "ExposureTimeInuS", "XRayTubeCurrentInuA", "DistanceSourceToDetector", "DistanceSourceToPatient",
    "EstimatedRadiographicMagnificationFactor", "FocalSpots", "Sensitivity", "RelativeXRayExposure", "ExposureIndex",
    "TargetExposureIndex", "DeviationIndex", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelSpacing",
    "PixelAspectRatio", "SamplesPerPixel", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PixelIntensityRelationshipSign", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "WindowCenter", "WindowWidth", "RescaleIntercept", "RescaleSlope", "LossyImageCompressionRatio", "LUTDescriptor",
    "LUTData",
)  # fmt: skip

# Sequences that are gone through; their items hold nothing but kept attributes.
SEQUENCES = ("ModalityLUTSequence", "VOILUTSequence")

INSIDE = ("LUTDescriptor", "LUTData", "ModalityLUTType")
"""What an item of these holds, and the film itself doesn't."""

# Coded attributes whose items are kept when their code is one of these; the meaning is written anew.
CODES = {
    ("51185008", "SCT"): "Chest",
    ("816094009", "SCT"): "Chest",
    ("399348003", "SCT"): "antero-posterior",
    ("272479007", "SCT"): "postero-anterior",
    ("399067008", "SCT"): "lateral",
    ("399173006", "SCT"): "left lateral",
    ("399198007", "SCT"): "right lateral",
    ("T-D3000", "SRT"): "Chest",
    ("R-10206", "SRT"): "antero-posterior",
    ("R-10236", "SRT"): "left lateral",
}
CODED = ("AnatomicRegionSequence", "ViewCodeSequence")

# Emptied where the profile demands a value of no length, and present though the film lacks them (type 2 of the films).
EMPTIED = (
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientBirthDate", "PatientSex", "StudyID",
    "Manufacturer",
)  # fmt: skip

DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")

SOP_CLASSES = frozenset(f"1.2.840.10008.5.1.4.1.1.{ending}" for ending in ("1", "1.1", "1.1.1", "7", "7.2", "7.3"))
"""CR, DX for presentation and for processing, Secondary Capture (single, grey bytes, grey words)."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A value that may be kept, or none."""

    value: Any
    """As it is written."""
    whole: bool
    """False when some of several values went."""


def check(keyword: str, value: Any) -> Checked | None:
    """What of a value may be kept.

    Args:
        keyword: an attribute of this module's lists.
        value: as pydicom reads it.

    Returns:
        None when nothing of it may.
    """
    if keyword in NUMBERS:
        # A name read as numbers is several numbers.
        return _each(value, _number) if keyword == "LUTData" or _as_many_as_may_be(keyword, value) else None
    if keyword == "PatientOrientation":
        return _each(value, lambda one: one if DIRECTION.fullmatch(one) else None)
    if keyword == "PatientAge":
        return _each(value, _age)
    if keyword == "PatientSex":
        return _each(value, lambda one: one if one in ("F", "M", "O") else None)
    if keyword in TERMS:
        allowed = PHRASES.get(keyword, TERMS[keyword])
        if keyword == "ImageType":
            # The third value and those behind it are the vendor's own; an empty one keeps their place.
            values = [one if one in allowed else "" for one in _texts(value)]
            return Checked(values, values == _texts(value)) if any(values) else None
        return _each(value, lambda one: one.upper() if one.upper() in allowed else None)
    return None


def _as_many_as_may_be(keyword: str, value: Any) -> bool:
    from pydicom.datadict import dictionary_VM

    most = dictionary_VM(keyword).rpartition("-")[2]
    return len(_texts(value)) <= (MOST_VALUES if "n" in most else int(most))


def _each(value: Any, keep: Callable[[str], Any]) -> Checked | None:
    texts = _texts(value)
    kept = [one for text in texts if (one := keep(text)) is not None]
    # Of several values all go together: which one is left would mean another thing.
    return Checked(kept if len(kept) > 1 else kept[0], True) if kept and len(kept) == len(texts) else None


def _texts(value: Any) -> list[str]:
    if isinstance(value, bytes):
        return [str(one) for one in memoryview(value[: len(value) // 2 * 2]).cast("H")]
    several = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    return [str(one).strip(" \0") for one in several]


def _number(text: str) -> str | None:
    return text if len(text) <= 16 and NUMBER.fullmatch(text) else None


def _age(text: str) -> str | None:
    if not AGE.fullmatch(text):
        return None
    # Above 89 years an age alone can tell who it is (45 CFR 164.514 (b)(2)(i)(C)).
    return "090Y" if text.endswith("Y") and int(text[:3]) > 89 else text
