"""``hilum results``: results on their way to PACS and DICOMweb servers, looked at where the records lie."""

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.records import DataOption
from hilum.cli.terminal import JsonOption, counted, finish, table

app = typer.Typer(name="results", help="Results on their way to PACS and archives.", no_args_is_help=True)
HERE = Path("hilum-data")


@app.callback()
def results() -> None:
    """Results on their way to PACS and archives.

    The records are those of --data, or of HILUM_DATABASE_URL, beside a running service or without one.
    """


@app.command("list")
def list_results(data: DataOption = HERE, as_json: JsonOption = False) -> None:
    """Count results by destination, and list those that failed, with the reason: given up, or tried again and when."""
    from hilum.cli.records import open_records
    from hilum.records.holdings import sent_again
    from hilum.records.results_out import DELIVERY_STATES, Outbox, left_behind_words
    from hilum.records.store import now

    with open_records(data) as database:
        outbox = Outbox(database, now)
        counts, dead, again = outbox.counts(), outbox.dead(), sent_again(database, limit=100)
        left_behind = outbox.left_behind()
    rows = [[name, *(one.get(state, 0) for state in DELIVERY_STATES)] for name, one in sorted(counts.items())]
    lines = (
        table(["destination", *DELIVERY_STATES], rows)
        if rows
        else ["no results yet; HILUM_RESULTS_TO of the service names where they go"]
    )
    lines += [left_behind_words(name, number) for name, number in sorted(left_behind.items())]
    lines += [
        f"{one.id}  {one.destination}  film {one.film_id}  {counted(one.attempts, 'attempt')}: {one.reason}"
        for one in dead
    ]
    for one in again:
        tried = f"{counted(one.attempts, 'attempt')}, next {one.due_at:%Y-%m-%d %H:%M:%S} UTC"
        lines.append(f"{one.destination}  film {one.film_id}  {tried}: {one.reason}")
    waiting = [{"destination": one.destination, "film": one.film_id, "reason": one.reason} for one in again]
    letters = [
        {"id": one.id, "destination": one.destination, "film": one.film_id, "code": one.reason_code} for one in dead
    ]
    finish(
        {"destinations": counts, "left_behind": left_behind, "again": waiting, "dead": letters},
        as_json=as_json,
        lines=lines,
    )


@app.command()
def requeue(
    letter: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One that was given up; all that failed when absent.")
    ] = None,
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Try results again that were given up or wait for their next attempt, once what was wrong has been put right."""
    from hilum.cli.records import open_records
    from hilum.records.results_out import Outbox
    from hilum.records.store import now

    with open_records(data) as database:
        number = Outbox(database, now).requeue(letter, actor="console")
    finish({"requeued": number}, as_json=as_json, lines=[f"In the queue again: {counted(number, 'result')}."])
