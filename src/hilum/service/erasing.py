"""Retention and erasure, files included; broken off at any point, the next start or run ends them."""

from collections.abc import Sequence
from dataclasses import dataclass

from hilum.errors import DataError, FilmError, ServiceError, UsageError
from hilum.imaging.radiograph import FilmFacts
from hilum.imaging.reading import read_facts
from hilum.imaging.sandbox import Sandbox
from hilum.records.database import Database
from hilum.records.erased_list import note_erased, read_erased
from hilum.records.erasure import FILMS_AT_ONCE, Eraser
from hilum.records.retention import Retention
from hilum.records.store import Store, now
from hilum.service.comparing import NOT_ASIDE
from hilum.service.film_files import FilmFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What an erasure did."""

    films: int
    """Films erased, with their answers, reviews and files."""
    unreadable: tuple[str, ...]
    """Ids of films whose headers can't be read, so that nobody can tell whose they are."""
    left_over: tuple[str, ...]
    """What names files that no record knows and whose headers can't be read."""
    film_ids: tuple[str, ...] = ()
    """Ids of the films that were erased."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retained:
    """What retention erased, or would erase."""

    pixels: int
    """Films whose files are past their time."""
    identifiers: int
    """Films of which it is past its time to know whose they are."""


def erase(
    database: Database, files: FilmFiles, *, patient_id: str | None = None, study_uid: str | None = None, actor: str
) -> Erased:
    """Erase all films of a patient or of a study, also those that were never answered or that no record knows.

    Args:
        database: the records.
        files: the films' files.
        patient_id: Patient ID; give this or ``study_uid``.
        study_uid: Study Instance UID.
        actor: who does it, for the audit.

    Raises:
        UsageError: neither or both were given, or it is empty.
        DataError: a data key is missing.
        ServiceError: the list of erasures can't be written; nothing was erased.
    """
    value = (patient_id if patient_id is not None else study_uid) or ""
    if (patient_id is None) == (study_uid is None) or not value.strip():
        raise UsageError("Say whose films: a patient's id or a study's UID, one of them, and not an empty one.")
    eraser, by = Eraser(database, now), "study" if patient_id is None else "patient"
    finish_erasures(database, files)
    wanted = set(eraser.films_of(patient_id=patient_id, study_uid=study_uid))
    unreadable, left_over = [], []
    with Sandbox(1) as sandbox:
        for film_id, name in eraser.unread():
            whose = _whose(sandbox, files, name)
            if whose is None:
                unreadable.append(film_id)
            elif _value(whose, by) == value.strip():
                wanted.add(film_id)
        _note(files, sorted(wanted))
        films = eraser.erase(sorted(wanted), actor=actor, by=by, value=value)
        for name in files.names():
            if eraser.needed(name) or name in eraser.pending():
                continue
            whose = _whose(sandbox, files, name)
            if whose is None:
                left_over.append(name)
            elif _value(whose, by) == value.strip():
                _remove(eraser, files, name)
    finish_erasures(database, files)
    eraser.tidy(whole=True)
    return Erased(films=films, unreadable=tuple(unreadable), left_over=tuple(left_over), film_ids=tuple(sorted(wanted)))


def erase_again(database: Database, files: FilmFiles, film_ids: Sequence[str], *, actor: str) -> int:
    """Erase films that were erased before and came back with an older backup.

    Args:
        database: the records.
        files: the films' files.
        film_ids: as :func:`hilum.records.erased_list.read_erased` gives them; those that are not here are passed over.
        actor: who does it, for the audit.

    Returns:
        films erased now.
    """
    eraser = Eraser(database, now)
    known = read_erased(files.erased_list) if files.erased_list.exists() else ()
    _note(files, [one for one in film_ids if one not in set(known)])
    films = eraser.erase(film_ids, actor=actor, by="list")
    finish_erasures(database, files)
    eraser.tidy(whole=True)
    return films


def drop(database: Database, files: FilmFiles, film_id: str, *, actor: str) -> None:
    """Erase a film that was set aside, with its file.

    Args:
        database: the records.
        files: the films' files.
        film_id: which.
        actor: who decided it, for the audit.

    Raises:
        UsageError: there is no such film, or it was not set aside; nothing was erased.
        ServiceError: the list of erasures can't be written; nothing was erased.
    """
    film = Store(database).film(film_id)
    if film is None or film.state != "quarantined":
        raise UsageError(NOT_ASIDE)
    eraser = Eraser(database, now)
    _note(files, [film_id])
    eraser.erase([film_id], actor=actor, by="set-aside")
    finish_erasures(database, files)
    eraser.tidy(whole=True)


def retain(database: Database, files: FilmFiles, retention: Retention, *, actor: str, dry: bool = False) -> Retained:
    """Erase what is past its time; first what an earlier run left.

    Args:
        database: the records.
        files: the films' files.
        retention: how long what is kept.
        actor: who does it, for the audit.
        dry: count only.
    """
    eraser = Eraser(database, now)
    pixels, identifiers = eraser.due(retention)
    if dry:
        return Retained(pixels=len(pixels), identifiers=len(identifiers))
    finish_erasures(database, files)
    for at in range(0, len(pixels), FILMS_AT_ONCE):
        eraser.erase_pixels(pixels[at : at + FILMS_AT_ONCE], actor=actor)
        finish_erasures(database, files)
    for at in range(0, len(identifiers), FILMS_AT_ONCE):
        eraser.erase_identifiers(identifiers[at : at + FILMS_AT_ONCE], actor=actor)
    if pixels or identifiers:
        # Copies of moved rows may stay in free space of SQLite's pages; encrypted ones may wait for the next rewriting.
        eraser.tidy(whole=not files.keys)
    return Retained(pixels=len(pixels), identifiers=len(identifiers))


def finish_erasures(database: Database, files: FilmFiles) -> int:
    """Remove the files that were forgotten and are still there; gives how many were on the list."""
    eraser = Eraser(database, now)
    names = eraser.pending()
    for name in names:
        _remove(eraser, files, name)
    return len(names)


def _note(files: FilmFiles, film_ids: Sequence[str]) -> None:
    """Write films into the list of what was erased, before they are."""
    try:
        note_erased(files.erased_list, film_ids, now())
    except OSError as error:
        raise ServiceError(
            f"The list of erasures can't be written ({error.strerror}), so nothing was erased. Check the data folder."
        ) from None


def _remove(eraser: Eraser, files: FilmFiles, name: str) -> None:
    with files.removing():  # nobody is between the file's place and its record
        if not eraser.needed(name):
            files.remove(name)
    eraser.removed(name)


def _whose(sandbox: Sandbox, files: FilmFiles, name: str) -> FilmFacts | None:
    try:
        return sandbox.run(read_facts, files.film(name).read_bytes())
    except FilmError:
        return None
    except DataError:
        files.film(name).read_bytes()  # a missing key is told; what the child could not read is not
        return None


def _value(facts: FilmFacts, by: str) -> str:
    return ((facts.patient_id if by == "patient" else facts.study_instance_uid) or "").strip()
