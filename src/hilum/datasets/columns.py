"""The columns of a manifest: one literal table of names, kinds and meanings."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hilum.arrays import Array, Vector
from hilum.predictions import NOT_RECORDED

Kind = Literal["text", "number", "integer", "vector"]

THUMB_SIDE = 64
"""Rows and columns of the perceptual thumb."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        kind: how values are kept: text (blank is ""), number (float64, blank is NaN), integer (int64), vector (bytes).
        meaning: what a value says, for people.
        blank: the integer that stands for "not known".
    """

    kind: Kind
    meaning: str
    blank: int = 0


COLUMNS: dict[str, Column] = {
    "path": Column("text", "the film's file, relative to the manifest's folder where it lies below it"),
    "film_id": Column("text", "SHA-256 of the file, 64 hex digits"),
    "patient_id": Column("text", "pseudonym of the patient; splits keep all films of one together"),
    "label": Column("text", "the finding; blank when unknown"),
    "source": Column("text", "hospital or collection that the film came from"),
    "view_position": Column("text", "PA, AP, LL, … as DICOM (0018,5101) says"),
    "age_years": Column("number", "age at acquisition in years"),
    "sex": Column("text", "M, F or O as DICOM (0010,0040) says"),
    "acquired": Column("text", "ISO date, possibly to the month (2020-03) or the year (2020) only"),
    "device": Column("text", "the manufacturer's model name, DICOM (0008,1090)"),
    "manufacturer": Column("text", "DICOM (0008,0070)"),
    "modality": Column("text", "CR, DX, …; blank for a picture file"),
    "photometric": Column("text", "MONOCHROME1, MONOCHROME2, …; blank for a picture file"),
    "bits_stored": Column("integer", "bits that carry the grey value; 0 when not known"),
    "width": Column("integer", "columns of pixels; 0 when not known"),
    "height": Column("integer", "rows of pixels; 0 when not known"),
    "sop_instance_uid": Column("text", "DICOM (0008,0018); blank for a picture file"),
    "study_instance_uid": Column("text", "DICOM (0020,000D); blank for a picture file"),
    "mask": Column("text", "file of the lesion mask, kept like path; blank when there is none"),
    "licence": Column("text", "under which the film may be used"),
    "bytes": Column("integer", "size of the file; 0 when not known"),
    "thumb": Column("vector", f"uint8 [{THUMB_SIDE}, {THUMB_SIDE}] perceptual thumb; null when not computed"),
    "part": Column("text", '"" before a split, then "fit" or "test"'),
    "fold": Column("integer", "fold inside the fit part, from 0; -1 for none", blank=-1),
}
"""Every manifest has all of these, in this order; columns that an import was told to keep come after, as text."""

WHERE = ("path", "mask")
"""Columns that hold files; they say where data lie, not what they are, so the fingerprint leaves them out."""

PARTS = ("fit", "test")
"""What a split gives films to: fit (training and watching, in folds) and the locked test."""

AGE_BANDS: tuple[tuple[float, str], ...] = ((18, "0-17"), (40, "18-39"), (60, "40-59"), (80, "60-79"), (150, "80+"))
"""Upper limits in years (exclusive) and names."""


def age_bands(age_years: Vector) -> Array:
    """Name the age band of each film.

    Args:
        age_years: float [n]; NaN where not recorded.

    Returns:
        texts [n], one of :data:`AGE_BANDS` or ``not recorded``.
    """
    limits = np.array([limit for limit, _ in AGE_BANDS])
    names = np.array([name for _, name in AGE_BANDS] + [NOT_RECORDED], dtype=object)
    bands = np.searchsorted(limits, np.nan_to_num(age_years, nan=np.inf), side="right")
    return np.asarray(names[bands])
