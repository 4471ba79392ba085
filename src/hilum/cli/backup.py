"""``hilum backup`` and ``hilum restore``: the records and films of a service, checked before they count."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hilum.cli.records import (
    HEADS,
    DataOption,
    keyring_given,
    signed_heads,
    signing_key,
    url_given,
)
from hilum.cli.terminal import JsonOption, QuietOption, counted, finish, progress

if TYPE_CHECKING:
    from hilum.service.backup import Backup

HERE = Path("hilum-data")
NO_HEADS = (
    "without the audit's signed heads: that its end was not cut off could not be told. HILUM_AUDIT_HEADS names the "
    "file where it lies elsewhere"
)


def backup(
    out: Annotated[Path, typer.Argument(help="Folder to write; nothing may be there yet.")],
    data: DataOption = HERE,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a backup of a service's folder and records; the service may run meanwhile.

    Records in PostgreSQL, by HILUM_DATABASE_URL, are dumped by pg_dump. The private key of the audit stays where it
    is, and so do the data keys: films are copied as they lie, encrypted.
    """
    from hilum.service.backup import back_up

    done = back_up(
        data,
        out,
        url=url_given(),
        signed=signed_heads(),
        signing_key=signing_key(),
        keys=keyring_given(),
        progress=progress(quiet),
    )
    finish(_summary(out, done), as_json=as_json, lines=_lines(out, done))


def _summary(path: Path, done: "Backup") -> dict[str, Any]:
    return {
        "path": str(path),
        "films": done.films,
        "audit_rows": done.audit_rows,
        "heads": done.heads,
        "anchors": done.anchors,
        "anchors_unlike": list(done.unlike),
        "sha256": done.database_sha256,
        "remains_removed": done.remains,
    }


def _lines(path: Path, done: "Backup") -> list[str]:
    unlike = [
        f"what model {model[:12]} said of the phantom films at first is missing or not what the audit names: hilum "
        "monitor selftest --url says so too, and --accept REASON records its present answers"
        for model in done.unlike
    ]
    films, rows = counted(done.films, "film"), counted(done.audit_rows, "row")
    what = f"{films}, {rows} of the audit, {counted(done.anchors, 'file')} of anchors"
    remains = f"removed: {counted(done.remains, 'folder')} that a killed backup or restore had left"
    unlike += [] if done.heads else [NO_HEADS]
    return [f"{path}: {what}, all checked", *unlike, *([remains] if done.remains else [])]


def restore(
    kept: Annotated[Path, typer.Argument(metavar="BACKUP", help="Folder that hilum backup wrote.")],
    erasures: Annotated[
        Path | None, typer.Option(help="The newest erasures.jsonl, of the service or a later backup: erased films go.")
    ] = None,
    data: DataOption = HERE,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a service's folder and records of a backup, after every film, the records and the audit were checked.

    Records of PostgreSQL come back by pg_restore into the empty database that HILUM_DATABASE_URL names.
    """
    from hilum.service.backup import restore as restore_folder

    done = restore_folder(
        kept, data, url=url_given(), erasures=erasures, keys=keyring_given(), progress=progress(quiet)
    )
    summary = _summary(data, done) | {"erased": done.erased}
    lines = [
        *_lines(data, done),
        "If films were erased after the backup, they are back: give their list with --erasures, or erase them again."
        if erasures is None
        else f"erased again, since they were after the backup: {counted(done.erased, 'film')}",
    ]
    if signed_heads() is not None:
        lines.append(f"The signed heads of the backup are {data / 'audit-heads.jsonl'}: let {HEADS} name that file.")
    finish(summary, as_json=as_json, lines=lines)
