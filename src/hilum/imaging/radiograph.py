"""A film as a value: what its file records, and its pixels in presentation values."""

from dataclasses import dataclass, field
from typing import Protocol

from hilum.arrays import Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmFacts:
    """What a film's file says of it; ``None`` (or an empty tuple) where the file says nothing.

    The identifiers among them are for the patient's own records: never for a message, a log or a metric.
    """

    format: str
    """"dicom", "png", "jpeg" or "tiff"."""
    sop_instance_uid: str | None = None
    """DICOM's name of this very film."""
    sop_class_uid: str | None = None
    """What kind of object the file holds, such as Digital X-Ray for presentation."""
    study_instance_uid: str | None = None
    """DICOM's name of the visit's study."""
    series_instance_uid: str | None = None
    """DICOM's name of the series within the study."""
    patient_id: str | None = None
    """The hospital's number of the patient. An identifier."""
    accession_number: str | None = None
    """The order's number. An identifier."""
    modality: str | None = None
    """"CR", "DX", ..."""
    presentation_intent: str | None = None
    """"FOR PRESENTATION" or "FOR PROCESSING"."""
    image_type: tuple[str, ...] = ()
    """Values of Image Type, such as ("ORIGINAL", "PRIMARY")."""
    body_part: str | None = None
    """Body part examined, upper case, such as "CHEST"."""
    view_position: str | None = None
    """"AP", "PA", "LL", "RL", ..., upper case."""
    patient_orientation: tuple[str, ...] = ()
    """Direction of the rows and of the columns, such as ("L", "F") for a frontal film."""
    age_years: float | None = None
    """Age at the examination; from Patient's Age, else from birth date and date."""
    sex: str | None = None
    """"F", "M" or "O"."""
    acquired: str | None = None
    """Date of the exposure, else of the content, else of the study: ISO 8601, such as "2024-03-01"."""
    manufacturer: str | None = None
    """Maker of the device."""
    device: str | None = None
    """Model name of the device."""
    institution: str | None = None
    """Where the film was taken."""
    photometric: str | None = None
    """Photometric Interpretation of DICOM; for raster files the mode of the picture, such as "L" or "RGB"."""
    bits_stored: int | None = None
    """Significant bits of one stored sample."""
    rows: int | None = None
    """Height in pixels."""
    columns: int | None = None
    """Width in pixels."""
    spacing_mm: tuple[float, float] | None = None
    """Distance of pixel centres down and across, in millimetres, at the patient if recorded, else at the detector."""
    transfer_syntax: str | None = None
    """UID of the encoding of the pixels."""
    burned_in: str | None = None
    """Burned In Annotation: "YES" or "NO"."""
    laterality: str | None = None
    """Image Laterality, else Laterality: "L", "R", "U" or "B"."""
    lossy: bool | None = None
    """True when the pixels were ever compressed with loss."""
    colour: bool | None = None
    """True when the picture holds colours (not merely three equal channels); ``None`` when only pixels could tell."""


class Described(Protocol):
    """A film, whole or reduced, as far as it is described in words."""

    @property
    def facts(self) -> FilmFacts:
        """What the file says."""

    @property
    def flags(self) -> tuple[str, ...]:
        """Oddities that the reader worked around; see `FLAGS`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Radiograph:
    """One film, ready to look at.

    Attributes:
        pixels: uint16 [h, w], read-only, 0 black … 65535 white; polarity and VOI applied (DICOM PS3.4 N.2).
        facts: what the file says.
        sha256: 64 hex digits over the file's bytes.
        flags: oddities that the reader worked around, such as ``polarity-contradiction``; see `FLAGS`.
    """

    pixels: Pixels
    facts: FilmFacts
    sha256: str
    flags: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        self.pixels.setflags(write=False)

    @property
    def view_position(self) -> str | None:
        """ "AP", "PA", ...; ``None`` when not recorded."""
        return self.facts.view_position

    @property
    def spacing_mm(self) -> tuple[float, float] | None:
        """Distance of pixel centres down and across, in millimetres; ``None`` when not recorded."""
        return self.facts.spacing_mm

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        rows, columns = self.pixels.shape
        return int(rows), int(columns)


FLAGS: dict[str, str] = {
    "one-decoder": "A second decoder was asked for, and there is none for this film: it is in colour, or "
    "imagecodecs is missing.",
    "polarity-contradiction": "Presentation LUT Shape and Photometric Interpretation disagree; the shape was followed.",
    "presentation-lut-shape-unknown": "Presentation LUT Shape holds an unknown value; Photometric Interpretation was "
    "followed.",
    "no-voi": "No VOI LUT or window is recorded; grey values were scaled over the range in use.",
    "window-unusable": "The recorded window can't be used (width ≤ 0 or not a number).",
    "window-narrower-than-one": "A LINEAR window is narrower than 1; it was read as LINEAR_EXACT.",
    "voi-function-unknown": "VOI LUT Function holds an unknown value; LINEAR was used.",
    "lut-unusable": "A look-up table is damaged and was left out.",
    "lut-wider-than-declared": "A look-up table holds values beyond its declared bits; the bits in use were taken.",
    "rescale-unusable": "Rescale slope or intercept can't be used (zero or not a number) and was left out.",
    "some-colour": "Small coloured marks on a grey film; they were turned into grey.",
    "several-frames": "The file declares frames; its only frame was read.",
}
"""Every flag that a reader can raise on a film, with what it means."""
