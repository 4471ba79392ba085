"""A film that was set aside beside the one in use that bears the same SOP instance UID."""

from dataclasses import dataclass

from hilum.errors import FilmError, UsageError
from hilum.imaging.comparing import PIXELS, Difference, difference, element_digests, picture_digest
from hilum.imaging.sandbox import Sandbox
from hilum.records.audit import Act, append_all
from hilum.records.database import Database
from hilum.records.film_story import in_use_instead
from hilum.records.store import Store, now
from hilum.service.film_files import FilmFiles

NOT_ASIDE = (
    "No film that was set aside has this id. hilum films set-aside lists them; hilum privacy erase erases others."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What a comparison found. No identifiers."""

    aside: str
    """Id of the film that was set aside."""
    in_use: str
    """Id of the one in use."""
    pixels: str
    """Whether the pixels differ, in words."""
    elements: Difference
    """In which elements the first differs from the second."""


def compare_with_used(database: Database, files: FilmFiles, film_id: str, *, viewer: str) -> Compared:
    """Compare a film that was set aside with the one in use; it returns once the audit has that both were looked at.

    Args:
        database: the records.
        files: the films' files.
        film_id: of the film that was set aside.
        viewer: who looks.

    Raises:
        UsageError: it was not set aside, or no film in use has its UID.
        FilmError: the header of one of the two can't be read.
        DataError: a data key is missing.
    """
    store = Store(database)
    aside = store.film(film_id)
    if aside is None or aside.state != "quarantined":
        raise UsageError(NOT_ASIDE)
    other = in_use_instead(database, [film_id]).get(film_id)
    used = None if other is None else store.film(other)
    if used is None:
        raise UsageError("No film in use has this one's SOP instance UID, so there is nothing to compare it with.")
    if not (aside.file_sha256 and used.file_sha256):
        raise UsageError("The pixels of one of the two were erased, so there is nothing left to compare.")
    first, second = (files.film(one.file_sha256).read_bytes() for one in (aside, used))
    with Sandbox(1) as sandbox:
        of_first, of_second = (sandbox.run(element_digests, one) for one in (first, second))
        same = of_first.get(PIXELS) == of_second.get(PIXELS)
        pixels = "the same" if same else _decoded(sandbox, first, second)
    with database.write() as session:
        detail = {"shown": "comparison"}
        acts = [Act(actor=viewer, act="film.viewed", subject=one.film_id, detail=detail) for one in (aside, used)]
        append_all(session, acts, now())
    return Compared(aside=aside.film_id, in_use=used.film_id, pixels=pixels, elements=difference(of_first, of_second))


def _decoded(sandbox: Sandbox, first: bytes, second: bytes) -> str:
    """Whether two films whose bytes of pixels differ are one picture, in words."""
    try:
        same = sandbox.run(picture_digest, first) == sandbox.run(picture_digest, second)
    except FilmError:
        return "their bytes differ, and not both of them can be decoded"
    return "the same, encoded otherwise" if same else "they differ"
