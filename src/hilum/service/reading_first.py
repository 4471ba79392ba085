"""Who may see a film's answer now: where readers give their own opinion first, and in reader studies."""

from collections.abc import Sequence
from dataclasses import replace

from hilum.records.access import Caller
from hilum.records.values import FilmRecord
from hilum.service.reading_room import ReadingRoom

FIRST = (
    "Record your own opinion of this film first (PUT …/reviews/mine with the decision opinion); the model's answer is "
    "shown after it."
)

BLINDED = (
    "You read this film in a reader study, so until you have read it there both times it can't be read or looked up "
    "elsewhere. Go on at /reader-study."
)


def reads_first(room: ReadingRoom, caller: Caller) -> bool:
    """Whether this caller is a reader in a place where readers go first. A reader's keys are bound like its session."""
    return room.settings.read_first and "reviews:write" in caller.scopes


def hidden(room: ReadingRoom, caller: Caller, film_ids: Sequence[str], *, new: bool = False) -> frozenset[str]:
    """Which of these films' answers this caller must not see yet. A study's protocol goes before the setting.

    Args:
        room: the reading room.
        caller: who looks.
        film_ids: the films.
        new: they got their answers just now, in a transaction that says that this caller is shown them, so no study
            holds them yet.
    """
    nothing: frozenset[str] = frozenset()
    covered, shown = (nothing, nothing) if new else room.studies.sight(film_ids, caller.name)
    if not reads_first(room, caller):
        return covered
    return covered | (frozenset(film_ids) - room.reviews.opined(film_ids, caller.name) - shown)


def veiled(room: ReadingRoom, caller: Caller, films: Sequence[FilmRecord], *, new: bool = False) -> list[FilmRecord]:
    """The films, without the answers that this caller must not see yet; ``new`` as for :func:`hidden`."""
    covered = hidden(room, caller, [film.film_id for film in films], new=new)
    return [
        replace(film, answer=None, reason="", reason_code="") if film.film_id in covered else film for film in films
    ]
