"""``hilum keys``: make the keys that bundles are signed with, and those that data are encrypted with."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli.records import DATA_KEY, DATA_KEY_FILE, DataOption, keyring_given, url_of
from hilum.cli.terminal import PASSPHRASE, JsonOption, QuietOption, counted, finish, progress

if TYPE_CHECKING:
    from hilum.service.key_rotation import Applied, HandedOver

HERE = Path("hilum-data")

app = typer.Typer(name="keys", help="Make keys to sign and to encrypt with.", no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Make keys to sign and to encrypt with."""


@app.command()
def create(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Private key to write; FILE.pub is the public one.")],
    as_json: JsonOption = False,
) -> None:
    """Make an Ed25519 key pair; an existing file is never overwritten.

    With HILUM_KEY_PASSPHRASE set, the private key is encrypted. Give FILE.pub to those who shall trust your bundles.
    """
    from hilum.keys import create_key, public_path_of

    passphrase = os.environ.get(PASSPHRASE)
    key = create_key(path, passphrase=passphrase)
    summary = {"path": str(path), "public": str(public_path_of(path)), "key_id": key.id, "encrypted": bool(passphrase)}
    guard = "encrypted" if passphrase else f"not encrypted (set {PASSPHRASE} to encrypt); only its owner can read it"
    lines = [
        f"private key: {path}, {guard}",
        f"public key: {public_path_of(path)}, id {key.id}",
        f"next: hilum bundle sign BUNDLE --key {path}",
    ]
    finish(summary, as_json=as_json, lines=lines)


@app.command("new-data-key")
def make_data_key(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="File to write, nothing may be there yet; - prints the key alone.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Make a key that hilum serve encrypts films and identifiers with.

    Keep a copy where backups are not: without it nobody can read what was encrypted.
    """
    from hilum.data_keys import create_key_file, new_data_key

    if path == Path("-"):
        print(new_data_key().text)
        return
    key = create_key_file(path)
    lines = [
        f"data key {key.id}: {path}; only its owner can read it",
        "Keep a copy apart from the data and the backups: without it nobody can read them.",
        f"next: export HILUM_DATA_KEY_FILE={path.resolve()}, then hilum serve",
    ]
    finish({"path": str(path), "key_id": key.id}, as_json=as_json, lines=lines)


@app.command()
def status(data: DataOption = HERE, as_json: JsonOption = False) -> None:
    """Say which data keys are given, and how much lies under which; nothing is changed, and the service may run."""
    from dataclasses import asdict

    from hilum.service.key_rotation import key_status

    found = key_status(data, url_of(data), keyring_given())
    lines = [f"given: {', '.join(found.given) or 'none'}", f"records: {', '.join(found.in_use) or 'readable'}"]
    lines += [f"films under {key_id or 'no key'}: {number}" for key_id, number in sorted(found.films.items())]
    lines += [f"films whose files are gone: {found.missing}"] if found.missing else []
    finish(asdict(found), as_json=as_json, lines=lines)


@app.command()
def apply(data: DataOption = HERE, quiet: QuietOption = False, as_json: JsonOption = False) -> None:
    """Encrypt records and films with the active data key, whatever key they are under, while no service runs.

    Broken off, the same command goes on. A service does the same by itself when it is started with another key first.
    """
    from hilum.service.key_rotation import apply_keys

    _applied(apply_keys(data, url_of(data), keyring_given(), progress=progress(quiet)), as_json)


@app.command()
def rotate(data: DataOption = HERE, quiet: QuietOption = False, as_json: JsonOption = False) -> None:
    """Put a new key first in HILUM_DATA_KEY_FILE and encrypt everything with it.

    Where a service runs, start it anew then: it takes the key over and encrypts the films while it serves. Older keys
    stay in the file. Broken off, the same command goes on with the new key.
    """
    from hilum.errors import UsageError
    from hilum.service.key_rotation import rotate as rotate_keys

    path = os.environ.get(DATA_KEY_FILE)
    if not path:
        raise UsageError(
            f"hilum keys rotate writes into {DATA_KEY_FILE}, which is not set. With the key in {DATA_KEY}: put a "
            "new one before it yourself (hilum keys new-data-key -), then run hilum keys apply."
        )
    _applied(rotate_keys(data, url_of(data), Path(path), progress=progress(quiet)), as_json)


def _applied(done: "Applied | HandedOver", as_json: bool) -> None:
    from dataclasses import asdict

    from hilum.service.key_rotation import HandedOver

    if isinstance(done, HandedOver):
        lines = [
            f"first in the file: {done.key_id}; the older keys stay below it, and are needed until all is done",
            "next: start the service anew; it takes the key over and encrypts the films while it serves",
        ]
        finish(asdict(done) | {"service_runs": True}, as_json=as_json, lines=lines)
        return
    lines = [f"under {done.key_id} now: {counted(done.rows, 'row')} and {counted(done.films, 'film')} more"]
    if done.missing:
        missing = counted(len(done.missing), "film")
        lines.append(f"gone or damaged: {missing}; until they are restored, older keys are still asked for")
    if done.retired:
        lines.append(f"nothing here needs {', '.join(done.retired)} any more; backups from before still do")
    finish(asdict(done), as_json=as_json, lines=lines)
