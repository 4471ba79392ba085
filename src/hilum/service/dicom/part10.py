"""From a data set of ours and what it takes over from a film to the bytes of a Part 10 file (PS3.10 section 7.1)."""

import io
from typing import Any

from hilum.service.dicom.source_film import SourceFilm, encode_elements

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
IMPLEMENTATION_CLASS_UID = "2.25.264911737201870532921839437261528830927"


def part10(dataset: Any, source: SourceFilm) -> bytes:
    """Encode an object.

    Args:
        dataset: a pydicom data set; what it has of the Patient and Study modules gives way to the film's.
        source: the film.

    Returns:
        preamble, File Meta Information and data set, in Explicit VR Little Endian. Equal inputs give equal bytes.
    """
    from pydicom.filewriter import correct_ambiguous_vr

    own = correct_ambiguous_vr(dataset, True)
    if source.charset:
        own.SpecificCharacterSet = source.charset
    encoded = encode_elements(own, [tag for tag in own.keys() if int(tag) not in source.copied])  # noqa: SIM118
    if not source.charset:
        encoded.pop(0x00080005, None)
    body = b"".join(content for _, content in sorted((encoded | source.copied).items()))
    return bytes(128) + b"DICM" + _meta(str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)) + body


def _meta(sop_class_uid: str, sop_instance_uid: str) -> bytes:
    from pydicom.dataset import FileMetaDataset
    from pydicom.filebase import DicomFileLike
    from pydicom.filewriter import write_file_meta_info

    meta: Any = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class_uid, sop_instance_uid
    meta.TransferSyntaxUID = EXPLICIT_LITTLE_ENDIAN
    meta.ImplementationClassUID, meta.ImplementationVersionName = IMPLEMENTATION_CLASS_UID, "HILUM"
    buffer = io.BytesIO()
    write_file_meta_info(DicomFileLike(buffer), meta)
    return buffer.getvalue()
