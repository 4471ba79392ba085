"""``hilum labels``: what readers said becomes labels, and films are chosen to be labelled next."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hilum.cli.records import DataOption
from hilum.cli.terminal import JsonOption, finish

if TYPE_CHECKING:
    from hilum.change.feedback import LabelSet

app = typer.Typer(name="labels", help="What readers said as labels, and what to label next.", no_args_is_help=True)
HERE = Path("hilum-data")
FolderOption = Annotated[Path, typer.Option("--labels", help="Folder of the label set's versions.")]
LABELS = Path("labels")


@app.callback()
def labels() -> None:
    """What readers said as labels, quarantined until a second person accepts them; and what to label next."""


@app.command()
def collect(data: DataOption = HERE, folder: FolderOption = LABELS, as_json: JsonOption = False) -> None:
    """Take new labels into quarantine: overrides, and what readers of the labelling queue agree on."""
    from hilum.change.feedback import LabelRules, read_labels
    from hilum.change.feedback import collect as take
    from hilum.change.overrides import new_labels
    from hilum.cli.records import url_of
    from hilum.records.proving import reading

    known = read_labels(folder)
    with reading(url_of(data)) as session:
        found = take(known, new_labels(session), LabelRules())
    audited = _kept(folder, found, data) if found.version > known.version else True
    _told(found, as_json, audited=audited, data=data)


@app.command()
def accept(
    film: Annotated[str, typer.Argument(help="Opaque id of the film.")],
    by: Annotated[str, typer.Option("--by", help="Who decides: not who gave the label.")],
    folder: FolderOption = LABELS,
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Accept a label; where the service's records are, its audit says so."""
    _decide(film, by, folder, data, as_json, accepted=True)


@app.command()
def reject(
    film: Annotated[str, typer.Argument(help="Opaque id of the film.")],
    by: Annotated[str, typer.Option("--by", help="Who decides: not who gave the label.")],
    folder: FolderOption = LABELS,
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Reject a label; where the service's records are, its audit says so."""
    _decide(film, by, folder, data, as_json, accepted=False)


def _decide(film: str, by: str, folder: Path, data: Path, as_json: bool, *, accepted: bool) -> None:
    from hilum.change.feedback import LabelRules, decide, read_labels

    found = decide(read_labels(folder), film, accept=accepted, by=by, rules=LabelRules())
    audited = _kept(folder, found, data)
    _told(found, as_json, audited=audited, data=data)


def _kept(folder: Path, found: "LabelSet", data: Path) -> bool:
    """Write a version, and what it says into the audit where there is one; whether there is."""
    from itertools import chain

    from hilum.change.feedback import read_versions, write_labels
    from hilum.change.journal import label_rows
    from hilum.cli.records import records_if_any
    from hilum.records.store import now

    with records_if_any(data) as session:
        if session is not None:
            label_rows(session, chain(read_versions(folder), [found]), now(), made=found.version)
        write_labels(folder, found)
    return session is not None


def _told(found: "LabelSet", as_json: bool, *, audited: bool, data: Path) -> None:
    from hilum.cli.records import unaudited

    states: dict[str, int] = {}
    for one in found.labels:
        states[one.state] = states.get(one.state, 0) + 1
    words = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no labels"
    summary: dict[str, Any] = {"version": found.version, "sha256": found.sha256, "states": states, "audited": audited}
    lines = [f"version {found.version}: {words}", *([] if audited else [unaudited(data)])]
    finish(summary, as_json=as_json, lines=lines)


@app.command()
def choose(
    count: Annotated[int, typer.Argument(help="Films to label next.", min=1)],
    data: DataOption = HERE,
    out: Annotated[Path, typer.Option(help="File for the list: a JSON line a film, with its probability.")] = Path(
        "to-label.jsonl"
    ),
    seed: Annotated[int, typer.Option(help="Of the draw.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw films that nobody has read into a file; hilum labels draw puts them into the readers' queue.

    40 % of the mixture are chance, 30 % doubt, 20 % distance from what was read, 10 % disagreement of the members.
    """
    from hilum.cli.records import url_of
    from hilum.evaluation.selection import distance_to_labelled, select, uncertainty
    from hilum.files import write_bytes
    from hilum.randomness import stream
    from hilum.records.proving import reading
    from hilum.records.unread import unread

    with reading(url_of(data)) as session:
        films = unread(session)
    drawn = select(
        count,
        stream(seed, "choose", len(films.film_ids)),
        uncertain=uncertainty(films.probs),
        diverse=distance_to_labelled(films.features, films.labelled),
        disagreement=films.disagreement,
    )
    lines = [
        json.dumps({"film": films.film_ids[row], "probability": round(float(drawn.probability[row]), 9)})
        for row in drawn.rows
    ]
    write_bytes(out, ("\n".join(lines) + "\n").encode())
    finish({"path": str(out), "films": len(lines), "of": len(films.film_ids)}, as_json=as_json)


@app.command()
def draw(
    count: Annotated[int, typer.Argument(help="Films to label next.", min=1)],
    data: DataOption = HERE,
    second: Annotated[float, typer.Option(help="Share of them that a second reader labels, too.", min=0, max=1)] = 0.2,
    seed: Annotated[int | None, typer.Option(help="Of the draw; by chance where it is not given.", min=0)] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw films that nobody has read into the readers' queue, as the page /labelling/batches does.

    Beside a running service or without one.
    """
    from hilum.cli.records import open_records
    from hilum.records.labelling_batches import LabelBatches

    with open_records(data) as database:
        batch = LabelBatches(database).draw(count, second=second, actor="console", seed=seed)
    summary = {"batch": batch.id, "films": batch.films, "of": batch.pool, "twice": batch.twice}
    finish(
        summary, as_json=as_json, lines=[f"{batch.films} of {batch.pool} films drawn, {batch.twice} for two readers"]
    )
