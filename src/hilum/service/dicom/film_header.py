"""What a film says of itself, for looking for its priors; read in a sandboxed child: films are foreign files."""

import io
import warnings
from pathlib import Path
from typing import Any

from hilum.errors import FilmError
from hilum.imaging.dicom_structure import examine
from hilum.imaging.limits import Limits
from hilum.service.dicom.patients import patient_of, text_of
from hilum.service.dicom.priors import Film

PRELOAD = ("pydicom", "hilum.service.dicom.film_header")
"""All that reading a header imports."""


def read_header(film: Path | bytes) -> Film:
    """Read a film's header.

    Args:
        film: a DICOM file or its bytes.

    Raises:
        FilmError: it can't be read.
    """
    from pydicom import dcmread

    try:
        content = film if isinstance(film, bytes) else film.read_bytes()
    except OSError as error:
        raise FilmError(
            f"The film's file can't be read any more ({error.strerror}). Check the data folder's disk.", code="gone"
        ) from None
    examine(content, Limits())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote values
        try:
            return _header(dcmread(io.BytesIO(content), stop_before_pixels=True, force=True))
        except MemoryError:
            raise
        except Exception as error:
            raise FilmError(
                f"The film's header can't be read ({type(error).__name__}), so its priors can't be looked for.",
                code="unreadable",
            ) from None


def _header(dataset: Any) -> Film:
    charset = text_of(dataset, "SpecificCharacterSet")
    return Film(
        patient=patient_of(dataset),
        charset=tuple(charset.split("\\")) if charset else (),
        study_instance_uid=text_of(dataset, "StudyInstanceUID"),
        accession_number=text_of(dataset, "AccessionNumber"),
        taken=(text_of(dataset, "StudyDate"), text_of(dataset, "StudyTime")),
    )
