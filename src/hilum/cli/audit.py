"""``hilum audit``: prove what was done and seen, offline."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli.records import HEADS, DataOption
from hilum.cli.terminal import JsonOption, counted, finish

if TYPE_CHECKING:
    from datetime import date

    from hilum.records.audit import Entry

app = typer.Typer(name="audit", help="Verify, export, show and search the audit.", no_args_is_help=True)
HERE = Path("hilum-data")
ExportArgument = Annotated[
    Path | None, typer.Option("--export", help="A file of hilum audit export instead of the database.")
]


STILL = {
    True: "is in the records as it was written down",
    False: "was CHANGED in the records since it was written down",
    None: "is not in the records any more",
}


@app.callback()
def audit() -> None:
    """Verify, export, show and search the audit; nothing is changed, and a service may run meanwhile."""


@app.command()
def verify(
    data: DataOption = HERE,
    export: ExportArgument = None,
    heads: Annotated[
        Path | None,
        typer.Option(help="Signed heads, or an earlier copy.", envvar=HEADS, show_default="DATA/audit-heads.jsonl"),
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(
            help="Public key of the heads; may be repeated.", show_default="DATA/audit*.pub, and beside HILUM_AUDIT_KEY"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Follow the chain row by row and compare it with the signed heads; ends with 1 when anything was changed."""
    from hilum.cli.records import signing_key, url_of
    from hilum.records import heads as signed
    from hilum.records.proving import last_restore, prove

    proof = prove(
        url=url_of(data),
        export=export,
        heads=heads or data / signed.NAME,
        heads_given=heads is not None,
        keys=tuple(key or signed.public_keys(data, signing_key())),
    )
    verdict = proof.verdict
    lines = [f"{counted(verdict.rows, 'row')} whole, the last one {verdict.tip.seq} ({verdict.tip.hash[:16]}…)"]
    lines.append(
        f"{counted(proof.heads, 'signed head')}, the last one of row {proof.signed_up_to}"
        if proof.heads
        else "no signed heads: a cut end, or a chain computed anew, could not be told"
    )
    lines.append("the audit is whole" if verdict.whole else f"CHANGED at row {verdict.first_bad}: {verdict.reason}")
    restored = 0 if verdict.whole or export is not None else last_restore(url_of(data))
    if restored:
        lines.append(
            f"row {restored} says that these records come from a backup: heads signed after that backup know the rows "
            "of before. The heads that the restore put into its folder fit."
        )
    if export is not None and verdict.short:
        lines.append("an export from before the heads were copied ends so, too: copy the heads first, then export")
    summary = {
        "whole": verdict.whole,
        "rows": verdict.rows,
        "hash": verdict.tip.hash,
        "heads": proof.heads,
        "signed_up_to": proof.signed_up_to,
        "first_bad": verdict.first_bad,
        "reason": verdict.reason,
    }
    finish(summary, as_json=as_json, lines=lines)
    if not verdict.whole:
        raise typer.Exit(1)


@app.command("export")
def export_rows(
    out: Annotated[Path, typer.Argument(help="File to write: one JSON object a line.")],
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write the audit's rows to a file that verify can read without the database."""
    from hilum.cli.records import url_of
    from hilum.records.proving import write_export

    rows = write_export(url_of(data), out)
    finish({"path": str(out), "rows": rows}, as_json=as_json, lines=[f"{out}: {rows} rows"])


@app.command()
def show(
    subject: Annotated[str, typer.Argument(help="Id of a film or key, or a user's name.")],
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show all that was done to one film, user or key, and who saw it.

    Of a film, it also says whether its answers are still those that the audit names; ends with 1 when one is not,
    and with 2 when no row is about that.
    """
    from hilum.cli.records import url_of
    from hilum.errors import UsageError
    from hilum.records.proving import answers_as_written, rows_of

    rows = rows_of(url_of(data), subject=subject)
    if not rows:  # what was typed is not repeated: it may be a patient's number
        raise UsageError(
            "No row of the audit is about that. Give the whole id of a film, key or model, or a user's name; hilum "
            "audit search finds rows by act and day."
        )
    answers = answers_as_written(url_of(data), subject)
    found = [{"seq": r.seq, "at": r.at, "actor": r.actor, "act": r.act, "hash": r.hash} for r in rows]
    lines = [_line(row) for row in rows]
    lines += [f"the answer of model {model[:12]} {STILL[still]}" for model, still in answers.items()]
    finish({"subject": subject, "rows": found, "answers": answers}, as_json=as_json, lines=lines)
    if False in answers.values():
        raise typer.Exit(1)


@app.command("search")
def search_rows(
    subject: Annotated[str, typer.Option(help="About this film, model, user or key, by its whole id.")] = "",
    actor: Annotated[str, typer.Option(help="Done by this user, or service, dicom, console.")] = "",
    act: Annotated[str, typer.Option(help="This act, or all that begin so, such as change. or label.")] = "",
    first: Annotated[str, typer.Option(metavar="DAY", help="From this day on (UTC), such as 2026-03-31.")] = "",
    last: Annotated[str, typer.Option(metavar="DAY", help="Up to this day, it included.")] = "",
    before: Annotated[int | None, typer.Option(help="Only rows before this place, for older ones.", min=1)] = None,
    limit: Annotated[int, typer.Option(help="Most rows.", min=1)] = 100,
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Search the audit, the newest rows first: by film, model, actor, act and day."""
    import json

    from hilum.cli.records import url_of
    from hilum.records.audit_search import Sought, acts_of, search
    from hilum.records.proving import reading

    sought = Sought(subject=subject, actor=actor, act=act, first=_day("--first", first), last=_day("--last", last))
    with reading(url_of(data)) as session:
        rows = search(session, sought, before=before, limit=limit + 1)
        known = [] if rows or not act else sorted(acts_of(session))
    shown = rows[:limit]
    lines = [_line(row, subject=True) for row in shown] or ["no row fits"]
    lines += [f"acts that rows have: {', '.join(known)}"] if known else []
    lines += [f"older rows fit, too: --before {shown[-1].seq}"] if len(rows) > limit else []
    found = [
        {"seq": r.seq, "at": r.at, "actor": r.actor, "act": r.act, "subject": r.subject, "hash": r.hash}
        | {"detail": json.loads(r.body)["detail"]}
        for r in shown
    ]
    finish({"rows": found, "more": len(rows) > limit}, as_json=as_json, lines=lines)


def _line(row: "Entry", *, subject: bool = False) -> str:
    import json

    from hilum.records.peers import title_of

    detail = json.loads(row.body)["detail"]
    told = [row.subject] if subject and row.subject else []
    told += [f"{name}={value}" for name, value in detail.items()]
    told += [f"({title})"] if (title := title_of(row.act, detail)) else []
    return f"{row.seq:>8}  {row.at}  {row.actor:<16} {row.act:<18} {'  '.join(told)}".rstrip()


def _day(option: str, text: str) -> "date | None":
    from datetime import date

    from hilum.errors import UsageError

    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise UsageError(f"{option} is {text!r}, which is no day. Give year-month-day, such as 2026-03-31.") from None
