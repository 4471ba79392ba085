"""``hilum audit``: prove what was done and seen, offline."""

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.records import DataOption
from hilum.cli.terminal import JsonOption, finish

app = typer.Typer(name="audit", help="Verify, export and show the audit.", no_args_is_help=True)
HERE = Path("hilum-data")
ExportArgument = Annotated[
    Path | None, typer.Option("--export", help="A file of hilum audit export instead of the database.")
]


@app.callback()
def audit() -> None:
    """Verify, export and show the audit; nothing is changed, and a service may run meanwhile."""


@app.command()
def verify(
    data: DataOption = HERE,
    export: ExportArgument = None,
    heads: Annotated[
        Path | None, typer.Option(help="Signed heads, or an earlier copy.", show_default="DATA/audit-heads.jsonl")
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(help="Public key of the heads; may be repeated.", show_default="DATA/audit*.pub"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Follow the chain row by row and compare it with the signed heads; ends with 1 when anything was changed."""
    from hilum.cli.records import url_of
    from hilum.records.proving import prove

    proof = prove(
        url=url_of(data),
        export=export,
        heads=heads or data / "audit-heads.jsonl",
        heads_given=heads is not None,
        keys=tuple(key or sorted(data.glob("audit*.pub"))),
    )
    verdict = proof.verdict
    lines = [f"{verdict.rows} rows whole, the last one {verdict.tip.seq} ({verdict.tip.hash[:16]}…)"]
    lines.append(
        f"{proof.heads} signed heads, the last one of row {proof.signed_up_to}"
        if proof.heads
        else "no signed heads: a cut end, or a chain computed anew, could not be told"
    )
    lines.append("the audit is whole" if verdict.whole else f"CHANGED at row {verdict.first_bad}: {verdict.reason}")
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
    """Show all that was done to one film, user or key, and who saw it."""
    import json

    from hilum.cli.records import url_of
    from hilum.records.proving import rows_of

    rows = rows_of(url_of(data), subject=subject)
    lines = []
    for row in rows:
        detail = json.loads(row.body)["detail"]
        told = "  ".join(f"{name}={value}" for name, value in detail.items())
        lines.append(f"{row.seq:>8}  {row.at}  {row.actor:<16} {row.act:<18} {told}".rstrip())
    found = [{"seq": r.seq, "at": r.at, "actor": r.actor, "act": r.act, "hash": r.hash} for r in rows]
    finish({"subject": subject, "rows": found}, as_json=as_json, lines=lines or ["nothing is written about this"])
