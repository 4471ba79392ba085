"""``hilum labels``: overrides become labels, and films are chosen to be labelled next."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hilum.cli.records import DataOption
from hilum.cli.terminal import JsonOption, finish

if TYPE_CHECKING:
    from hilum.change.feedback import LabelSet

app = typer.Typer(name="labels", help="Overrides as labels, and what to label next.", no_args_is_help=True)
HERE = Path("hilum-data")
FolderOption = Annotated[Path, typer.Option("--labels", help="Folder of the label set's versions.")]
LABELS = Path("labels")


@app.callback()
def labels() -> None:
    """Overrides as labels, quarantined until a second person accepts them; and what to label next."""


@app.command()
def collect(data: DataOption = HERE, folder: FolderOption = LABELS, as_json: JsonOption = False) -> None:
    """Take new overrides into quarantine."""
    from hilum.change.feedback import LabelRules, read_labels, write_labels
    from hilum.change.feedback import collect as take
    from hilum.change.overrides import overrides
    from hilum.cli.records import url_of
    from hilum.records.proving import reading

    known = read_labels(folder)
    with reading(url_of(data)) as session:
        found = take(known, overrides(session), LabelRules())
    if found.version > known.version:
        write_labels(folder, found)
    _told(found, as_json)


@app.command()
def accept(
    film: Annotated[str, typer.Argument(help="Opaque id of the film.")],
    by: Annotated[str, typer.Option("--by", help="Who decides: not who gave the label.")],
    folder: FolderOption = LABELS,
    as_json: JsonOption = False,
) -> None:
    """Accept a label."""
    _decide(film, by, folder, as_json, accepted=True)


@app.command()
def reject(
    film: Annotated[str, typer.Argument(help="Opaque id of the film.")],
    by: Annotated[str, typer.Option("--by", help="Who decides: not who gave the label.")],
    folder: FolderOption = LABELS,
    as_json: JsonOption = False,
) -> None:
    """Reject a label."""
    _decide(film, by, folder, as_json, accepted=False)


def _decide(film: str, by: str, folder: Path, as_json: bool, *, accepted: bool) -> None:
    from hilum.change.feedback import LabelRules, decide, read_labels, write_labels

    found = decide(read_labels(folder), film, accept=accepted, by=by, rules=LabelRules())
    write_labels(folder, found)
    _told(found, as_json)


def _told(found: "LabelSet", as_json: bool) -> None:
    states: dict[str, int] = {}
    for one in found.labels:
        states[one.state] = states.get(one.state, 0) + 1
    words = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no labels"
    summary: dict[str, Any] = {"version": found.version, "sha256": found.sha256, "states": states}
    finish(summary, as_json=as_json, lines=[f"version {found.version}: {words}"])


@app.command()
def choose(
    count: Annotated[int, typer.Argument(help="Films to label next.", min=1)],
    data: DataOption = HERE,
    out: Annotated[Path, typer.Option(help="File for the queue: a JSON line a film, with its probability.")] = Path(
        "to-label.jsonl"
    ),
    seed: Annotated[int, typer.Option(help="Of the draw.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw films that nobody has read: 40 % by chance, 30 % by doubt, 20 % by distance, 10 % by disagreement."""
    from hilum.change.overrides import unread
    from hilum.change.selection import distance_to_labelled, select, uncertainty
    from hilum.cli.records import url_of
    from hilum.files import write_bytes
    from hilum.randomness import stream
    from hilum.records.proving import reading

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
