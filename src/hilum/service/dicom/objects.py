"""From a film and its answer to what is sent; runs in a sandboxed child, because films are foreign files."""

from pathlib import Path

from hilum.errors import FilmError
from hilum.service.dicom.capture import make_capture
from hilum.service.dicom.report import make_report
from hilum.service.dicom.result import Result, ResultObject
from hilum.service.dicom.source_film import read_source

PRELOAD = (
    "pydicom.pixels.decoders",
    "PIL.Image",
    "PIL.ImageFont",
    "highdicom.sr",
    "hilum.service.dicom.objects",
)
"""All that making results imports."""


def make_objects(path: Path, result: Result) -> tuple[ResultObject, ...]:
    """The report and, where the answer has one, the heat map.

    Args:
        path: the film.
        result: its answer.

    Raises:
        FilmError: the film can't be read, or is no DICOM object that a result could refer to.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FilmError(
            f"The film's file can't be read any more ({error.strerror}). Check the data folder's disk.", code="gone"
        ) from None
    source = read_source(content)
    report = make_report(source, result)
    return (report, make_capture(content, source, result)) if result.heat is not None else (report,)
