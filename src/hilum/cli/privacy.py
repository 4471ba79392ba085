"""``hilum privacy``: retention, and the erasure of a patient or a study."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli.records import DataOption, keyring_given, url_of
from hilum.cli.terminal import JsonOption, counted, finish

if TYPE_CHECKING:
    from hilum.records.database import Database
    from hilum.service.film_files import FilmFiles

HERE = Path("hilum-data")
app = typer.Typer(name="privacy", help="Keep only for a while, and erase.", no_args_is_help=True)


@app.callback()
def privacy() -> None:
    """Keep only for a while, and erase."""


@app.command()
def retain(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what is past its time, and erase nothing.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Erase it.")] = False,
    pixels_days: Annotated[
        int, typer.Option(min=0, envvar="HILUM_RETAIN_PIXELS_DAYS", help="Days that films are kept; 0: for ever.")
    ] = 0,
    identifiers_days: Annotated[
        int,
        typer.Option(min=0, envvar="HILUM_RETAIN_IDENTIFIERS_DAYS", help="Days that it is kept whose; 0: for ever."),
    ] = 0,
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Erase films, and whose they are, after so many days; answers stay. A running service does it once a day."""
    from dataclasses import asdict

    from hilum.errors import UsageError
    from hilum.records.retention import Retention, retention_of
    from hilum.service.erasing import retain as retain_in

    if dry_run == apply:
        raise UsageError("Say --dry-run, to see what would be erased, or --apply.")
    retention = retention_of(pixels_days, identifiers_days)
    if retention == Retention():
        raise UsageError(
            "No time is set, so everything is kept for ever. Give --pixels-days, or HILUM_RETAIN_PIXELS_DAYS as for "
            "the service."
        )
    with opened(data, upgrade=apply) as (database, files):
        done = retain_in(database, files, retention, actor="console", dry=dry_run)
    done_to = "are past their time" if dry_run else "were erased"
    lines = [
        f"films whose pixels {done_to}: {done.pixels}",
        f"films whose identifiers {done_to}: {done.identifiers}",
    ]
    finish(asdict(done), as_json=as_json, lines=lines)


@app.command()
def erase(
    patient: Annotated[
        str | None, typer.Option(help="Patient ID; - asks for it, so that no shell keeps it, or reads a line.")
    ] = None,
    study: Annotated[str | None, typer.Option(help="Study Instance UID; - asks for it.")] = None,
    retraining: Annotated[
        Path, typer.Option(help="Folder of hilum retrain, whose copies of erased films go, too, if there is one.")
    ] = Path("retraining"),
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Erase all films of a patient or a study, with answers, reviews and what is on its way to a PACS.

    Copies that were taken out for retraining go, too, and the versions of the data that hold them are retired. The
    audit keeps that it was done. Backups and what a PACS has already are not reached: see docs/operations.md.
    """
    from dataclasses import asdict

    from hilum.cli.forgetting import forget_erased
    from hilum.service.erasing import erase as erase_in

    patient = asked("Patient ID", hide=True) if patient == "-" else patient
    study = asked("Study Instance UID", hide=False) if study == "-" else study
    with opened(data) as (database, files):
        done = erase_in(database, files, patient_id=patient, study_uid=study, actor="console")
    lines = [f"erased: {counted(done.films, 'film')}, with answers, reviews and files; the audit says so"]
    if not done.films:
        lines.append("no film here is of this patient or study: is it typed as it stands in the films?")
    forgotten = forget_erased(retraining, data) if retraining.is_dir() else None
    lines += (
        forgotten.lines if forgotten else [f"there is no folder {retraining}: --retraining, if films were trained on"]
    )
    if done.unreadable:
        lines.append(f"whose can't be told, their headers can't be read: films {', '.join(done.unreadable)}")
    if done.left_over:
        lines.append(f"files that no record knows and that can't be read: {', '.join(done.left_over)}")
    lines.append("Backups, and what a PACS was sent, are not reached: erase there as well.")
    summary = asdict(done) | {"retraining": asdict(forgotten) if forgotten else None}
    finish(summary, as_json=as_json, lines=lines)


def asked(what: str, *, hide: bool) -> str:
    """Typed at a terminal, else the first line of standard input."""
    import sys

    if sys.stdin.isatty():
        return str(typer.prompt(what, hide_input=hide))
    return sys.stdin.readline().rstrip("\r\n")


@app.command()
def replay(
    erasures: Annotated[Path, typer.Argument(help="The newest erasures.jsonl, of the service or a later backup.")],
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Erase again what was erased before and came back with an older copy of the records. hilum restore does it too."""
    from hilum.records.erased_list import read_erased
    from hilum.service.erasing import erase_again

    gone = read_erased(erasures)
    with opened(data) as (database, files):
        films = erase_again(database, files, gone, actor="console")
    lines = [
        f"erased again: {films} of {counted(len(gone), 'film')} in the list, those that were here; the audit says so"
    ]
    finish({"films": films, "listed": len(gone)}, as_json=as_json, lines=lines)


@contextlib.contextmanager
def opened(data: Path, *, upgrade: bool = True) -> Iterator[tuple["Database", "FilmFiles"]]:
    """Records and films, to erase of, beside a running service or without one.

    Raises:
        UsageError: there is no such folder.
        ServiceError: the records can't be opened, or a data key is missing or not taken over yet.
    """
    from hilum.errors import UsageError
    from hilum.records.database import Database
    from hilum.records.key_change import require_taken_over
    from hilum.service.film_files import FilmFiles

    if not data.is_dir():
        raise UsageError(f"There is no folder {data}. Give the service's with --data.")
    keys = keyring_given()
    with Database(url_of(data), keys, beside=True, upgrade=upgrade) as database:
        require_taken_over(database)
        yield database, FilmFiles(data, keys, sole=False)
