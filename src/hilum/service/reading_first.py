"""Who may see a film's answer now: where readers give their own opinion first, in reader studies, and for labels."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal

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


LABELLING = (
    "This film is drawn for labelling, and a label must not lean on the model's answer. Label it first (/labelling), "
    "or open its page: then you see the answer, and the label is another reader's."
)


def labels(caller: Caller) -> bool:
    """Whether films may be given to this caller for labelling."""
    return "reviews:write" in caller.scopes


def labels_now(room: ReadingRoom, caller: Caller, film_id: str) -> bool:
    """Whether the film is in front of this caller for labelling just now."""
    return labels(caller) and bool(room.labelling.sight([film_id], caller.name)[1])


def to_label(room: ReadingRoom, caller: Caller, film_ids: Sequence[str]) -> frozenset[str]:
    """Which of these films this caller is to label, now or later, without their answers."""
    return frozenset().union(*room.labelling.sight(film_ids, caller.name)) if labels(caller) else frozenset()


def reads_first(room: ReadingRoom, caller: Caller) -> bool:
    """Whether this caller is a reader in a place where readers go first. A reader's keys are bound like its session."""
    return room.settings.read_first and "reviews:write" in caller.scopes


def hidden(
    room: ReadingRoom,
    caller: Caller,
    film_ids: Sequence[str],
    *,
    new: bool = False,
    opened: bool = True,
    to_label: frozenset[str] | None = None,
) -> frozenset[str]:
    """Which of these films' answers this caller must not see yet. A study's protocol goes before the setting.

    Args:
        room: the reading room.
        caller: who looks.
        film_ids: the films.
        new: they got their answers just now, in a transaction that says that this caller is shown them, so no study
            holds them yet.
        opened: the caller opens the film itself, and that is written down: whoever does so no longer labels it. False
            for a list, in which the answers of films that the caller is to label are covered.
        to_label: which of them a label covers, from whoever has asked the queue already; None asks it.
    """
    nothing: frozenset[str] = frozenset()
    covered, shown = (nothing, nothing) if new else room.studies.sight(film_ids, caller.name)
    if to_label is None and labels(caller) and not new:
        waiting, now = room.labelling.sight(film_ids, caller.name)
        to_label = now if opened else waiting | now
    covered |= (to_label or nothing) - shown
    if not reads_first(room, caller):
        return covered
    return covered | (frozenset(film_ids) - room.reviews.opined(film_ids, caller.name) - shown)


Comes = Literal["reading", "label"]


def covered(room: ReadingRoom, caller: Caller, film_ids: Sequence[str]) -> dict[str, Comes]:
    """Which answers of a list this caller must not see yet, and what of their own comes first: a reading or a label."""
    label_first = to_label(room, caller, film_ids)
    without = hidden(room, caller, film_ids, opened=False, to_label=label_first)
    return {film_id: "label" if film_id in label_first else "reading" for film_id in without}


def tells(film: FilmRecord) -> bool:
    """Whether a film has anything that may have to be covered."""
    return film.answer is not None or bool(film.reason)


def veiled(
    room: ReadingRoom, caller: Caller, films: Sequence[FilmRecord], *, new: bool = False, opened: bool = True
) -> list[FilmRecord]:
    """The films, without the answers that this caller must not see yet; ``new``, ``opened``: see :func:`hidden`."""
    told = [film.film_id for film in films if tells(film)]
    return without_answers(films, hidden(room, caller, told, new=new, opened=opened) if told else frozenset())


def without_answers(films: Sequence[FilmRecord], covered: Collection[str]) -> list[FilmRecord]:
    """The films, those that are covered without their answers."""
    return [
        replace(film, answer=None, reason="", reason_code="") if film.film_id in covered else film for film in films
    ]
