"""From a film and its answer to what is sent; runs in a sandboxed child, because films are foreign files."""

from dataclasses import replace
from pathlib import Path

from hilum.errors import FilmError
from hilum.service.dicom.capture import make_capture
from hilum.service.dicom.codes import plain
from hilum.service.dicom.report import make_report, make_verified_report
from hilum.service.dicom.result import Decision, Result, ResultObject
from hilum.service.dicom.source_film import can_hold, read_source

PRELOAD = (
    "pydicom.pixels.decoders",
    "PIL.Image",
    "PIL.ImageFont",
    "highdicom.sr",
    "hilum.service.dicom.objects",
)
"""All that making results imports."""


def make_objects(film: Path | bytes, result: Result, decision: Decision | None = None) -> tuple[ResultObject, ...]:
    """The report and, where the answer has one, the heat map; after a reader's decision, the verified report alone.

    Args:
        film: its file or its bytes.
        result: its answer.
        decision: what a reader decided of it. What the film's character set can't hold is written in ASCII.

    Raises:
        FilmError: the film can't be read, or is no DICOM object that a result could refer to.
    """
    try:
        content = film if isinstance(film, bytes) else film.read_bytes()
    except OSError as error:
        raise FilmError(
            f"The film's file can't be read any more ({error.strerror}). Check the data folder's disk.", code="gone"
        ) from None
    source = read_source(content)
    if decision is not None:
        reader, organization, comment = (
            text if can_hold(source, text) else plain(text)
            for text in (decision.reader, decision.organization, decision.comment)
        )
        writable = replace(decision, reader=reader, organization=organization, comment=comment)
        return (make_verified_report(source, result, writable),)
    report = make_report(source, result)
    return (report, make_capture(content, source, result)) if result.heat is not None else (report,)
