"""``hilum films``: what became of a film, told where the records lie."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hilum.cli.audit import STILL
from hilum.cli.records import DataOption
from hilum.cli.terminal import JsonOption, counted, finish

if TYPE_CHECKING:
    from hilum.records.film_story import FilmTold, Happening, Story

HERE = Path("hilum-data")
app = typer.Typer(name="films", help="Films that were received, and what became of them.", no_args_is_help=True)


@app.callback()
def films() -> None:
    """Films that were received, and what became of them.

    The records are those of --data, or of HILUM_DATABASE_URL, beside a running service or without one.
    """


@app.command()
def show(
    named: Annotated[
        str, typer.Argument(metavar="FILM", help="Accession number, SOP instance UID, or id of a film; - asks for it.")
    ],
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show a film's story: from whom it came, which model said what, who saw and read it, where results went.

    An accession number finds all its films. Nothing shown says whose they are, and the look is written into the audit.
    Ends with 1 when an answer is not the one that the audit names, and with 2 when no film is found.
    """
    from hilum.cli.privacy import asked
    from hilum.cli.records import keyring_given, open_records, url_of
    from hilum.errors import UsageError
    from hilum.records.film_story import stories
    from hilum.records.key_change import require_taken_over
    from hilum.records.proving import answers_as_written

    sought = (asked("film: ", hide=False) if named == "-" else named).strip()
    with open_records(data, keys=keyring_given()) as database:
        require_taken_over(database)
        told = stories(database, sought, viewer="console")
    if not told:  # what was typed is not repeated: it may be a patient's number
        raise UsageError(
            "No film is known by that. Give an accession number as the films have it, a SOP instance UID, or a film's "
            "whole id. Numbers and UIDs of films that were erased, or not read yet, are not known; ids are."
        )
    answers = {one.film_id: answers_as_written(url_of(data), one.film_id) for one in told}
    lines = [line for one in told for line in _lines(one, answers[one.film_id])]
    finish({"films": [_summary(one, answers[one.film_id]) for one in told]}, as_json=as_json, lines=lines)
    if any(False in of_one.values() for of_one in answers.values()):
        raise typer.Exit(1)


@app.command("set-aside")
def list_set_aside(
    limit: Annotated[int, typer.Option(help="Most films.", min=1)] = 100,
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """List films that were set aside, the newest first: why, from whom they came, and which film is in use instead.

    Two films that bear one SOP instance UID have to be compared by a person: hilum films compare begins with that.
    """
    from hilum.cli.records import keyring_given, open_records
    from hilum.records.film_story import in_use_instead
    from hilum.records.store import Store
    from hilum.service.web.phrases import door_words

    with open_records(data, keys=keyring_given()) as database:
        page = Store(database).films(limit=limit, states=("quarantined",), viewer="console")
        instead = in_use_instead(database, [one.film_id for one in page.films])
    lines: list[str] = []
    found: list[dict[str, Any]] = []
    for one in page.films:
        other, door = instead.get(one.film_id), door_words(one.origin, one.calling_ae)
        lines.append(f"{one.film_id}  {one.received_at:%Y-%m-%d %H:%M:%S} UTC {door}: {one.reason}")
        lines += [f"  in use is film {other}"] if other else []
        told: dict[str, Any] = {"film": one.film_id, "received_at": one.received_at.isoformat(), "origin": one.origin}
        told |= {"calling_ae": one.calling_ae, "sha256": one.file_sha256, "code": one.reason_code, "in_use": other}
        found.append(told)
    lines += [f"more than {counted(limit, 'film')}: --limit shows older ones"] if page.next_cursor else []
    more = page.next_cursor is not None
    finish({"films": found, "more": more}, as_json=as_json, lines=lines or ["no film is set aside"])


@app.command()
def compare(
    film: Annotated[str, typer.Argument(metavar="FILM", help="Id of a film that was set aside.")],
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Compare a film that was set aside with the one in use: which elements differ, and whether the pixels do.

    Elements are named by their keywords, and no value is shown. That both were looked at is in the audit.
    """
    from dataclasses import asdict

    from hilum.cli.privacy import opened
    from hilum.service.comparing import compare_with_used

    with opened(data, upgrade=False) as (database, files):
        found = compare_with_used(database, files, film, viewer="console")
    told = found.elements
    lines = [
        f"set aside: film {found.aside}",
        f"in use:    film {found.in_use}",
        f"pixels: {found.pixels}",
        f"elements that differ: {', '.join(told.differing) or 'none'}",
        f"only in the one that was set aside: {', '.join(told.first_only) or 'none'}",
        f"only in the one in use: {', '.join(told.second_only) or 'none'}",
    ]
    finish(asdict(found), as_json=as_json, lines=lines)


@app.command("drop")
def drop_film(
    film: Annotated[str, typer.Argument(metavar="FILM", help="Id of a film that was set aside.")],
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Erase a film that was set aside, with its file; the one in use is not touched, and the audit says so.

    Sent again, it is set aside again: see to it that its sender gives it a SOP instance UID of its own.
    """
    from hilum.cli.privacy import opened
    from hilum.service.erasing import drop

    with opened(data, upgrade=False) as (database, files):
        drop(database, files, film, actor="console")
    finish({"dropped": film}, as_json=as_json, lines=[f"film {film} was dropped, with its file; the audit says so"])


def _summary(one: "Story", answers: dict[str, bool | None]) -> dict[str, Any]:
    from dataclasses import asdict

    summary = asdict(one)
    for answer in (summary["film"] or {}).get("answers", ()):
        answer["as_written"] = answers.get(answer["model_sha256"])
    return summary


def _lines(one: "Story", answers: dict[str, bool | None]) -> Iterator[str]:
    from hilum.service.web.phrases import STATE_WORDS

    film = one.film
    yield f"film {one.film_id}: {STATE_WORDS[film.state] if film else 'not in the records, but in the audit'}"
    if film and film.reason:
        yield f"  {film.reason}"
    for group in _together(one.happenings):
        first = group[0]
        times = f", {len(group)} times until {_time(group[-1].at)}" if len(group) > 1 else ""
        yield f"  {_time(first.at)}  row {first.row:<6}  {_words(first, film)}{times}"
    for result in film.results if film else ():
        what = "the review" if result.review else "the result"
        if result.state != "sent":
            where = "was given up" if result.state == "dead" else "waits"
            tried = f"{counted(result.attempts, 'attempt')}{f': {result.reason}' if result.reason else ''}"
            yield f"  {what} for {result.destination} {where}, {tried}"
    for model, still in answers.items():
        yield f"  the answer of model {model[:12]} {STILL[still]}"


def _together(happenings: "Sequence[Happening]") -> "Iterator[list[Happening]]":
    """Rows one by one, but looks of one kind by one person in a piece."""
    from itertools import groupby

    for (_, _, look), rows in groupby(happenings, key=lambda one: (one.who, one.what, one.look)):
        group = list(rows)
        yield from ([group] if look else [[row] for row in group])


def _time(at: str) -> str:
    return f"{at[:10]} {at[11:19]} UTC"


def _words(row: "Happening", film: "FilmTold | None") -> str:
    """One row in words."""
    from hilum.service.web.phrases import DECISION_WORDS, DOOR_WORDS, door_words

    said = row.detail
    if row.what == "film.received":
        title = film.calling_ae if film else str(said.get("calling_ae", ""))
        by = "" if row.who in (*DOOR_WORDS, "service") else f" by {row.who}"
        return f"received{by} {door_words(str(said['origin']), title)}, SHA-256 {said['sha256']}"
    if row.what == "film.answered":
        return f"answered: {said['label'] or 'no label'}, by {_model(said['model'], film)}"
    if row.what == "film.reviewed":
        finding = f": {said['finding']}" if said.get("finding") else ""
        return f"read by {row.who}, who {DECISION_WORDS.get(said['decision'], said['decision'])}{finding}"
    if row.what == "result.sent":
        return f"sent to {said['destination']}, after {counted(said['attempts'], 'attempt')}"
    if row.what == "result.given-up":
        return f"given up for {said['destination']}, after {counted(said['attempts'], 'attempt')}: {said['code']}"
    if row.look:
        what = str(said.get("picture") or said.get("shown") or "")
        return f"seen by {row.who} ({row.what}{f', {what}' if what else ''})"
    return "  ".join([f"{row.what} by {row.who}", *(f"{name}={value}" for name, value in said.items())])


def _model(sha256: str, film: "FilmTold | None") -> str:
    answer = next((one for one in film.answers if one.model_sha256 == sha256), None) if film else None
    if answer is None:
        return f"the model with SHA-256 {sha256}"
    checks = answer.gate.get("checks", ())
    not_passed = [str(check["sentence"]) for check in checks if check["outcome"] != "pass"]
    gate = (
        f"; intended use: {len(checks) - len(not_passed)} of {counted(len(checks), 'check')} passed" if checks else ""
    )
    named = f"{answer.model}, " if answer.model else "with "
    return f"the model {named}SHA-256 {sha256}{gate}{''.join(f'. {one}' for one in not_passed)}"
