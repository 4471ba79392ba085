"""``hilum backup`` and ``hilum restore``: the records and films of a service, checked before they count."""

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.records import DataOption, keyring_given
from hilum.cli.terminal import JsonOption, QuietOption, finish, progress

HERE = Path("hilum-data")


def backup(
    out: Annotated[Path, typer.Argument(help="Folder to write; nothing may be there yet.")],
    data: DataOption = HERE,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a backup of a service's folder with records in SQLite; the service may run meanwhile.

    The private key of the audit stays where it is, and so do the data keys: films are copied as they lie, encrypted.
    """
    from hilum.service.backup import back_up

    done = back_up(data, out, keys=keyring_given(), progress=progress(quiet))
    summary = {"path": str(out), "films": done.films, "audit_rows": done.audit_rows, "sha256": done.database_sha256}
    lines = [f"{out}: {done.films} films, {done.audit_rows} rows of the audit, all checked"]
    finish(summary, as_json=as_json, lines=lines)


def restore(
    kept: Annotated[Path, typer.Argument(metavar="BACKUP", help="Folder that hilum backup wrote.")],
    erasures: Annotated[
        Path | None, typer.Option(help="The newest erasures.jsonl, of the service or a later backup: erased films go.")
    ] = None,
    data: DataOption = HERE,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a service's folder of a backup, after every film, the records and the audit in it were checked."""
    from hilum.service.backup import restore as restore_folder

    done = restore_folder(kept, data, erasures=erasures, keys=keyring_given(), progress=progress(quiet))
    summary = {
        "path": str(data),
        "films": done.films,
        "audit_rows": done.audit_rows,
        "sha256": done.database_sha256,
        "erased": done.erased,
    }
    lines = [
        f"{data}: {done.films} films, {done.audit_rows} rows of the audit, all checked",
        "What was erased after the backup is back. Give its list with --erasures, or erase it again."
        if erasures is None
        else f"{done.erased} films that were erased after the backup were erased again",
    ]
    finish(summary, as_json=as_json, lines=lines)
