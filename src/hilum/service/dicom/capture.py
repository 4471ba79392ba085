"""A heat map over its film as a Secondary Capture Image (PS3.3 A.8.1): RGB, 8 bits, in a series of its own."""

from typing import Any

from hilum.arrays import Array
from hilum.config import from_mapping
from hilum.errors import UsageError
from hilum.imaging.overlay import overlay, shrink
from hilum.imaging.preprocessing import Preprocessing, heatmap_on_film
from hilum.imaging.reading import read_film
from hilum.service.dicom import codes
from hilum.service.dicom.codes import plain
from hilum.service.dicom.part10 import part10
from hilum.service.dicom.report import MANUFACTURER, contributing_equipment, software_versions
from hilum.service.dicom.result import Heat, Result, ResultObject
from hilum.service.dicom.source_film import SourceFilm, local_time
from hilum.service.dicom.uids import derived_uid

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SERIES_DESCRIPTION = "AI heat map - not for diagnosis"
SERIES_NUMBER = 9002
LONGEST_SIDE = 1024


def make_capture(content: bytes, source: SourceFilm, result: Result) -> ResultObject:
    """The answer's heat map, drawn over the film.

    Args:
        content: the film's file.
        source: the film's header.
        result: the answer; it has a heat map.

    Raises:
        FilmError: the film can't be read.
        UsageError: the answer has no heat map.
    """
    if result.heat is None:
        raise UsageError("The answer has no heat map, so none can be sent.")
    picture = draw(content, result.heat, caption(result, result.heat))
    dataset = _dataset(picture, source, result, result.heat)
    return ResultObject(
        sop_class_uid=SECONDARY_CAPTURE, sop_instance_uid=dataset.SOPInstanceUID, content=part10(dataset, source)
    )


def caption(result: Result, heat: Heat) -> str:
    """What is burnt into the picture; the answer too, since the finding shown is another where it is normal or none."""
    answer = result.label or "none, the model abstained"
    model = f"{result.model_name} {result.model_version} ({result.model_sha256[:12]})"
    return plain(f"AI heat map: {heat.finding} - answer: {answer} - {model} - not for diagnosis")


def draw(content: bytes, heat: Heat, words: str) -> Array:
    """The film with the heat map over it: uint8 [h, w, 3], at most :data:`LONGEST_SIDE` pixels long."""
    film = shrink(read_film(content).pixels, LONGEST_SIDE)
    shape = (int(film.shape[0]), int(film.shape[1]))
    laid = heatmap_on_film(heat.values, shape, from_mapping(Preprocessing, heat.preprocessing, where="assessment"))
    return overlay(film, laid, top=heat.top, caption=words)


def _dataset(picture: Array, source: SourceFilm, result: Result, heat: Heat) -> Any:
    from pydicom.dataset import Dataset

    at = local_time(source, result.made_at)
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = SECONDARY_CAPTURE, result.uid("heatmap", source.sop_instance_uid)
    made.StudyInstanceUID = source.study_instance_uid
    made.SeriesInstanceUID = derived_uid("heatmap-series", source.study_instance_uid, result.model_sha256)
    made.SeriesNumber, made.InstanceNumber = SERIES_NUMBER, source.instance_number
    made.SeriesDescription = SERIES_DESCRIPTION
    made.Modality, made.ConversionType = "OT", "WSD"
    made.Manufacturer, made.ManufacturerModelName = MANUFACTURER, plain(result.model_name)[:64]
    made.SoftwareVersions = software_versions(result)
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.InstanceCreationDate = made.ContentDate = at.strftime("%Y%m%d")
    made.InstanceCreationTime = made.ContentTime = at.strftime("%H%M%S")
    made.PatientOrientation = list(source.orientation) if source.orientation else ""
    if source.body_part:
        made.BodyPartExamined = source.body_part
    if source.laterality in ("L", "R"):
        made.Laterality = source.laterality
    made.BurnedInAnnotation, made.RecognizableVisualFeatures = "YES", "NO"
    made.LossyImageCompression = "00"
    made.DerivationDescription = caption(result, heat)
    made.ImageComments = "Class activation map over the film; research and validation only."
    made.ContributingEquipmentSequence = [contributing_equipment(result)]
    made.SourceImageSequence = [_source_image(source)]
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.Rows, made.Columns = int(picture.shape[0]), int(picture.shape[1])
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    pixels = picture.tobytes()
    made.add_new(0x7FE00010, "OB", pixels + b"\0" * (len(pixels) % 2))
    return made


def _source_image(source: SourceFilm) -> Any:
    from pydicom.dataset import Dataset

    purpose = Dataset()
    code = codes.SOURCE_IMAGE
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = code.value, code.scheme, code.meaning
    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = source.sop_class_uid, source.sop_instance_uid
    image.PurposeOfReferenceCodeSequence = [purpose]
    return image
