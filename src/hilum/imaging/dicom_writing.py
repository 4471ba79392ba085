"""Writing films as conformant DICOM: Computed Radiography, Digital X-Ray for presentation, grey Secondary Capture.

For phantoms and tests. The modules and attribute types are those of PS3.3 A.2 (CR), A.26 (DX) and A.8.1/A.8.3 (SC).
Equal inputs give equal bytes: UIDs that are not given are derived from the content.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hilum.arrays import Array
from hilum.config import canonical_json
from hilum.errors import UsageError, nearest
from hilum.imaging.encoders import ENCODERS

# PS3.6 table A-1.
SOP_CLASSES = {
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "DX FOR PROCESSING": "1.2.840.10008.5.1.4.1.1.1.1.1",
    "OT8": "1.2.840.10008.5.1.4.1.1.7.2",
    "OT16": "1.2.840.10008.5.1.4.1.1.7.3",
}
ORIENTATIONS = {"PA": ["L", "F"], "AP": ["L", "F"], "LL": ["A", "F"], "RL": ["P", "F"]}
IMPLEMENTATION_CLASS_UID = "2.25.264911737201870532921839437261528830927"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmHeader:
    """What to write beside the pixels; ``None`` or "" leaves an attribute empty or out, as its type allows."""

    patient_id: str = ""
    """Patient ID."""
    patient_name: str = ""
    """Patient's Name, such as "PHANTOM^SYNTHETIC"."""
    sex: str = ""
    """"F", "M", "O" or ""."""
    age_years: float | None = None
    """Patient's Age; below 2 years it is written in months."""
    birth_date: str = ""
    """Patient's Birth Date, YYYYMMDD."""
    study_instance_uid: str | None = None
    """Derived from the patient, the date and the time when not given."""
    series_instance_uid: str | None = None
    """Derived from the study and the device when not given."""
    sop_instance_uid: str | None = None
    """Derived from the header and the pixels when not given."""
    accession_number: str = ""
    """Accession Number."""
    study_date: str = ""
    """YYYYMMDD; also the date of the series, the exposure and the content."""
    study_time: str = ""
    """HHMMSS."""
    instance_number: int = 1
    """Number of the film in its series."""
    modality: Literal["CR", "DX", "OT"] = "DX"
    """CR and DX choose the object; "OT" writes a grey Secondary Capture."""
    presentation_intent: Literal["FOR PRESENTATION", "FOR PROCESSING"] = "FOR PRESENTATION"
    """For DX alone."""
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "")
    """Image Type."""
    body_part: str = "CHEST"
    """Body Part Examined."""
    view_position: str = "PA"
    """View Position: "PA", "AP", "LL" or "RL"."""
    patient_orientation: tuple[str, str] | None = None
    """Directions of rows and columns; by the view when not given."""
    laterality: str = "U"
    """Image Laterality; a chest is unpaired."""
    manufacturer: str = ""
    """Manufacturer."""
    device: str = ""
    """Manufacturer's Model Name."""
    institution: str = ""
    """Institution Name."""
    spacing_mm: tuple[float, float] = (0.2, 0.2)
    """Imager Pixel Spacing, down and across."""
    photometric: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2"
    """MONOCHROME1 means that small values are white; the pixels are written as they are given."""
    presentation_lut_shape: str | None = "matching"
    """"matching" the photometric interpretation, another value as it is, or ``None`` to leave it out."""
    bits_stored: int = 12
    """Significant bits of the pixels."""
    signed: bool = False
    """The pixels are two's complement."""
    window: tuple[float, float] | None = None
    """Window centre and width; ``None`` writes none."""
    voi_function: str | None = None
    """VOI LUT Function: "LINEAR", "LINEAR_EXACT" or "SIGMOID"."""
    rescale: tuple[float, float] | None = (1.0, 0.0)
    """Rescale slope and intercept."""
    padding: int | None = None
    """Pixel Padding Value."""
    burned_in: str = "NO"
    """Burned In Annotation."""


def write_film(path: Path, stored: Array, header: FilmHeader, *, transfer_syntax: str = "explicit-le") -> str:
    """Write one film.

    Args:
        path: where to; its folder is made. The file is not synced: put phantoms into a folder that is.
        stored: uint8 or uint16 [h, w] (int8 or int16 when signed): stored values, in the header's polarity.
        header: everything else.
        transfer_syntax: a key of `hilum.imaging.encoders.ENCODERS`.

    Returns:
        The film's SOP Instance UID.

    Raises:
        UsageError: the pixels don't fit the header, or the transfer syntax is unknown.
    """
    content, uid = film_bytes(stored, header, transfer_syntax=transfer_syntax)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return uid


def film_bytes(stored: Array, header: FilmHeader, *, transfer_syntax: str = "explicit-le") -> tuple[bytes, str]:
    """As `write_film`, but returns the file's bytes and the SOP Instance UID."""
    dataset = film_dataset(stored, header, transfer_syntax=transfer_syntax)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue(), str(dataset.SOPInstanceUID)


def film_dataset(stored: Array, header: FilmHeader, *, transfer_syntax: str = "explicit-le") -> Any:
    """The film as a pydicom data set with file meta information, so that a test can spoil it before it is saved."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID

    if transfer_syntax not in ENCODERS:
        raise UsageError(f"Transfer syntax {transfer_syntax!r} is unknown. {nearest(transfer_syntax, list(ENCODERS))}")
    codes = _codes(stored, header)
    dataset = Dataset()
    _identify(dataset, header, codes)
    _describe(dataset, header)
    _grey(dataset, header)
    _pixels(dataset, header, codes)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = "HILUM"
    dataset.file_meta = meta
    encoder = ENCODERS[transfer_syntax]
    meta.TransferSyntaxUID = UID(encoder.uid)
    encoder.encode(dataset, codes)
    if encoder.lossy:
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionRatio = max(1.0, round(codes.nbytes / len(dataset.PixelData), 2))
        dataset.LossyImageCompressionMethod = encoder.method
    return dataset


def _codes(stored: Array, header: FilmHeader) -> Array:
    allowed = (np.int8, np.int16) if header.signed else (np.uint8, np.uint16)
    if stored.ndim != 2 or stored.dtype not in allowed:
        names = " or ".join(one.__name__ for one in allowed)
        raise UsageError(f"Stored pixels must be {names} [h, w], but are {stored.dtype} {list(stored.shape)}.")
    bits = header.bits_stored
    if not 1 <= bits <= stored.dtype.itemsize * 8:
        raise UsageError(
            f"FilmHeader.bits_stored is {bits}, but {stored.dtype} holds 1 to {stored.dtype.itemsize * 8}."
        )
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if header.signed else (0, (1 << bits) - 1)
    if stored.size == 0 or stored.min() < low or stored.max() > high:
        raise UsageError(f"Stored pixels must lie within {low} … {high} ({bits} bits), and there must be some.")
    return np.ascontiguousarray(stored)


def _uid(*parts: str) -> str:
    """A UID of PS3.5 B.2, whose number comes from a hash in place of a random UUID."""
    return f"2.25.{int.from_bytes(hashlib.sha256('|'.join(parts).encode()).digest()[:15], 'big')}"


def _identify(dataset: Any, header: FilmHeader, codes: Array) -> None:
    study = header.study_instance_uid or _uid("study", header.patient_id, header.study_date, header.study_time)
    series = header.series_instance_uid or _uid("series", study, header.modality, header.device)
    pixels = hashlib.sha256(codes.tobytes()).hexdigest()
    kind = header.modality
    if kind == "DX" and header.presentation_intent == "FOR PROCESSING":
        sop_class = SOP_CLASSES["DX FOR PROCESSING"]
    else:
        sop_class = SOP_CLASSES[kind if kind != "OT" else "OT8" if codes.itemsize == 1 else "OT16"]
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = header.sop_instance_uid or _uid("film", canonical_json(header), pixels)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.PatientName, dataset.PatientID = header.patient_name, header.patient_id
    dataset.PatientBirthDate, dataset.PatientSex = header.birth_date, header.sex
    if header.age_years is not None:
        years = header.age_years
        dataset.PatientAge = f"{int(years):03d}Y" if years >= 2 else f"{int(years * 12):03d}M"
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(dataset, keyword, header.study_date)
    for keyword in ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"):
        setattr(dataset, keyword, header.study_time)
    dataset.AccessionNumber = header.accession_number
    dataset.ReferringPhysicianName = ""
    dataset.StudyID = ""
    dataset.SeriesNumber, dataset.InstanceNumber = 1, header.instance_number


def _describe(dataset: Any, header: FilmHeader) -> None:
    dataset.Modality = header.modality
    dataset.Manufacturer = header.manufacturer
    for keyword, value in (("ManufacturerModelName", header.device), ("InstitutionName", header.institution)):
        if value:
            setattr(dataset, keyword, value)
    dataset.ImageType = list(header.image_type)
    dataset.PatientOrientation = list(header.patient_orientation or ORIENTATIONS.get(header.view_position, ["", ""]))
    dataset.BurnedInAnnotation = header.burned_in
    dataset.LossyImageCompression = "00"
    if header.modality == "OT":
        dataset.ConversionType = "WSD"
        return
    dataset.BodyPartExamined = header.body_part
    dataset.ViewPosition = header.view_position
    dataset.ImagerPixelSpacing = [float(f"{one:.8g}") for one in header.spacing_mm]
    if header.modality == "DX":
        _describe_dx(dataset, header)


def _describe_dx(dataset: Any, header: FilmHeader) -> None:
    """PS3.3 C.8.11: the attributes that DX demands and CR does not."""
    from pydicom.dataset import Dataset

    dataset.PresentationIntentType = header.presentation_intent
    dataset.ImageLaterality = header.laterality
    dataset.DetectorType = "SCINTILLATOR"
    dataset.PositionerType = "NONE"
    dataset.AcquisitionContextSequence = []
    if header.body_part == "CHEST":
        # CID 4009 "DX Anatomy Imaged".
        region = Dataset()
        region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "51185008", "SCT", "Chest"
        dataset.AnatomicRegionSequence = [region]
    # Larger values are whiter, and white means less X-ray, unless small values are white.
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = -1 if header.photometric == "MONOCHROME2" else 1


def _grey(dataset: Any, header: FilmHeader) -> None:
    if header.rescale is not None:
        slope, intercept = header.rescale
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = slope, intercept, "US"
    if header.window is not None:
        dataset.WindowCenter, dataset.WindowWidth = header.window
    if header.voi_function:
        dataset.VOILUTFunction = header.voi_function
    shape = header.presentation_lut_shape
    if shape == "matching":
        shape = "INVERSE" if header.photometric == "MONOCHROME1" else "IDENTITY"
    if shape is not None:
        dataset.PresentationLUTShape = shape


def _pixels(dataset: Any, header: FilmHeader, codes: Array) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = header.photometric
    dataset.Rows, dataset.Columns = codes.shape
    dataset.BitsAllocated = codes.itemsize * 8
    dataset.BitsStored = header.bits_stored
    dataset.HighBit = header.bits_stored - 1
    dataset.PixelRepresentation = int(header.signed)
    if header.padding is not None:
        dataset.add_new(0x00280120, "SS" if header.signed else "US", header.padding)
