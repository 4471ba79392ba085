"""What a result takes over from its film: the Patient and Study modules, byte by byte."""

import contextlib
import io
import re
import struct
import warnings
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hilum.errors import FilmError
from hilum.imaging.dicom_structure import LONG_VRS, examine
from hilum.imaging.limits import Limits

# PS3.3 C.12.1 (character set and time zone: how the rest is to be read), C.7.1.1, C.7.1.3, C.7.2.1, C.7.2.2, C.7.2.3.
COPIED = (
    "SpecificCharacterSet", "TimezoneOffsetFromUTC", "StudyDate", "StudyTime", "AccessionNumber",
    "IssuerOfAccessionNumberSequence", "ReferringPhysicianName", "ReferringPhysicianIdentificationSequence",
    "ConsultingPhysicianName", "ConsultingPhysicianIdentificationSequence", "StudyDescription",
    "ProcedureCodeSequence", "PhysiciansOfRecord", "PhysiciansOfRecordIdentificationSequence",
    "NameOfPhysiciansReadingStudy", "PhysiciansReadingStudyIdentificationSequence",
    "RequestingServiceCodeSequence", "AdmittingDiagnosesDescription", "AdmittingDiagnosesCodeSequence",
    "ReferencedStudySequence", "ReferencedPatientSequence", "PatientName", "PatientID", "IssuerOfPatientID",
    "TypeOfPatientID", "IssuerOfPatientIDQualifiersSequence", "SourcePatientGroupIdentificationSequence",
    "GroupOfPatientsIdentificationSequence", "PatientBirthDate", "PatientBirthTime", "PatientSex",
    "PatientBirthDateInAlternativeCalendar", "PatientDeathDateInAlternativeCalendar",
    "PatientAlternativeCalendar", "QualityControlSubject", "ReferencedPatientPhotoSequence",
    "OtherPatientIDsSequence", "OtherPatientIDs", "OtherPatientNames", "PatientAge", "PatientSize",
    "PatientSizeCodeSequence", "PatientBodyMassIndex", "MeasuredAPDimension", "MeasuredLateralDimension",
    "PatientWeight", "MedicalAlerts", "Allergies", "EthnicGroup", "Occupation", "SmokingStatus",
    "AdditionalPatientHistory", "PregnancyStatus", "LastMenstrualDate", "PatientSexNeutered",
    "PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription",
    "PatientBreedCodeSequence", "BreedRegistrationSequence", "ResponsiblePerson", "ResponsiblePersonRole",
    "ResponsibleOrganization", "PatientComments", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence", "ClinicalTrialSponsorName", "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription",
    "StudyInstanceUID", "StudyID", "ReasonForVisit", "AdmissionID", "ServiceEpisodeID",
    "ServiceEpisodeDescription", "LongitudinalTemporalInformationModified",
)  # fmt: skip

# Type 2 there: present, if empty.
REQUIRED = (
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientID",
    "PatientBirthDate", "PatientSex", "StudyID",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFilm:
    """A film as its results see it."""

    sop_class_uid: str
    """SOP Class UID."""
    sop_instance_uid: str
    """SOP Instance UID."""
    study_instance_uid: str
    """Study Instance UID."""
    series_instance_uid: str
    """Series Instance UID."""
    instance_number: int
    """Instance Number; 1 where the film has none that can be used."""
    orientation: tuple[str, str] | None
    """Patient Orientation; None where it is not recorded."""
    laterality: str | None
    """Image Laterality or Laterality."""
    body_part: str | None
    """Body Part Examined."""
    utc_offset: str | None
    """Timezone Offset From UTC, such as ``+0100``; dates and times of the whole object are in it."""
    charset: Any
    """Specific Character Set, as pydicom reads it; None when there is none."""
    copied: dict[int, bytes]
    """Encoded elements (Explicit VR Little Endian) by tag: values of text are the film's own bytes."""


def local_time(source: SourceFilm, instant: str) -> datetime:
    """An instant as the film's dates and times have it.

    Args:
        source: the film; where it names no offset, the instant stays in its own.
        instant: ISO 8601 with an offset.
    """
    at = datetime.fromisoformat(instant)
    if source.utc_offset is None or not re.fullmatch(r"[+-]\d{4}", source.utc_offset):
        return at
    return at.astimezone(datetime.strptime(source.utc_offset, "%z").tzinfo)


def can_hold(source: SourceFilm, text: str) -> bool:
    """Whether the film's character set has every character of a text."""
    from pydicom.charset import convert_encodings, decode_bytes, encode_string

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encodings = convert_encodings(source.charset or "ISO_IR 6")
        return bool(decode_bytes(encode_string(text, encodings), encodings, set()) == text)


def named_charset(source: SourceFilm) -> str:
    """The film's character set for a sentence; a value that is none of DICOM's terms isn't quoted."""
    from pydicom.charset import python_encoding

    charset = source.charset or "ISO_IR 6"
    several = [charset] if isinstance(charset, str) else [str(one) for one in charset]
    return repr(charset) if all(one in python_encoding for one in several) else "(0008,0005), no term of DICOM's"


def read_source(content: bytes) -> SourceFilm:
    """Read what results take over.

    Args:
        content: a DICOM file.

    Raises:
        FilmError: it can't be read, or names no study, series or instance.
    """
    from pydicom import dcmread

    structure = examine(content, Limits())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote values
        try:
            dataset = dcmread(io.BytesIO(content), stop_before_pixels=True, force=True)
            return _source(dataset, big_endian=structure.transfer_syntax == "1.2.840.10008.1.2.2")
        except (FilmError, MemoryError):
            raise
        except Exception as error:
            raise FilmError(
                f"The film's header can't be read ({type(error).__name__}), so no result can refer to it.",
                code="unreadable",
            ) from None


def _source(dataset: Any, *, big_endian: bool) -> SourceFilm:
    # First of all: whatever pydicom has decoded once, it encodes in its own way.
    copied = dict(one for keyword in COPIED if (one := _encoded(dataset, keyword, big_endian)) is not None)
    uids = {}
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        uids[keyword] = str(dataset.get(keyword) or "").strip()
        if not uids[keyword]:
            raise FilmError(f"The film has no {keyword}, so no result can refer to it.", code="no-identity")
    orientation = [str(one) for one in dataset.get("PatientOrientation") or ()]
    return SourceFilm(
        sop_class_uid=uids["SOPClassUID"],
        sop_instance_uid=uids["SOPInstanceUID"],
        study_instance_uid=uids["StudyInstanceUID"],
        series_instance_uid=uids["SeriesInstanceUID"],
        instance_number=_number(dataset),
        orientation=(orientation[0], orientation[1]) if len(orientation) == 2 else None,
        laterality=_text(dataset, "ImageLaterality") or _text(dataset, "Laterality"),
        body_part=_text(dataset, "BodyPartExamined"),
        utc_offset=_text(dataset, "TimezoneOffsetFromUTC"),
        charset=dataset.get("SpecificCharacterSet"),
        copied=copied,
    )


def _encoded(dataset: Any, keyword: str, big_endian: bool) -> tuple[int, bytes] | None:
    from pydicom.datadict import dictionary_VR, tag_for_keyword
    from pydicom.dataelem import RawDataElement

    tag = tag_for_keyword(keyword)
    if tag is None:
        return None
    if tag not in dataset:
        return (tag, element(tag, dictionary_VR(tag), b"")) if keyword in REQUIRED else None
    found = dataset.get_item(tag)
    vr = dictionary_VR(tag)
    if isinstance(found, RawDataElement) and vr != "SQ" and (vr != "US" or not big_endian):
        return tag, element(tag, vr, bytes(found.value or b""))
    return tag, encode_elements(dataset, (tag,))[tag]


def encode_elements(dataset: Any, tags: Any) -> dict[int, bytes]:
    """Encode elements of a data set one by one.

    Args:
        dataset: a pydicom data set.
        tags: of the elements.

    Returns:
        bytes in Explicit VR Little Endian by tag.
    """
    from pydicom.charset import convert_encodings
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_data_element

    encodings = convert_encodings(dataset.get("SpecificCharacterSet") or "ISO_IR 6")
    encoded = {}
    for tag in tags:
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_data_element(buffer, dataset[tag], encodings)
        encoded[int(tag)] = buffer.getvalue()
    return encoded


def element(tag: int, vr: str, value: bytes) -> bytes:
    """One element in Explicit VR Little Endian (PS3.5 section 7.1.2); a value of odd length is padded."""
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    start = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    if vr.encode() in LONG_VRS:
        return start + struct.pack("<HL", 0, len(value)) + value
    return start + struct.pack("<H", len(value)) + value


def _number(dataset: Any) -> int:
    with contextlib.suppress(Exception):
        return min(max(1, int(dataset.InstanceNumber)), 2**31 - 1)
    return 1


def _text(dataset: Any, keyword: str) -> str | None:
    value = dataset.get(keyword)
    return value.strip() or None if isinstance(value, str) else None
