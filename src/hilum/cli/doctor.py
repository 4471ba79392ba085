"""``hilum doctor``: is this machine fit, and what would make it fitter?"""

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.terminal import JsonOption, finish


def doctor(
    bundle: Annotated[Path | None, typer.Option(help="Verify and time this bundle instead of a tiny graph.")] = None,
    folder: Annotated[Path, typer.Option(help="Where data will be kept: its disk is looked at.")] = Path(),
    record: Annotated[
        Path | None,
        typer.Option(
            help="Record the faster of two runtimes elsewhere than where --runtime auto looks.",
            show_default="~/.config/hilum/runtime.json",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check versions, extras, decoders, processors, SQLite, disk and each runtime's speed; a line each.

    Where there are two runtimes to compare, the faster one is recorded in ~/.config/hilum/runtime.json, which --runtime
    auto follows and nothing else does; remove the file to undo it.
    """
    from hilum.config import to_mapping
    from hilum.inference.checkup import check_up
    from hilum.inference.choosing import record_path

    signs = check_up(folder, bundle, record=record or record_path())
    counts = {state: sum(sign.state == state for sign in signs) for state in ("ok", "warn", "mend")}
    summary = {**counts, "signs": to_mapping(signs)}
    closing = f"{counts['ok']} ok, {counts['warn']} with a limit (warn), {counts['mend']} to mend"
    finish(summary, as_json=as_json, lines=[*(sign.line for sign in signs), closing])
    if counts["mend"]:
        raise typer.Exit(1)
