"""``hilum keys``: make the keys that bundles are signed with, and those that data are encrypted with."""

import os
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.terminal import PASSPHRASE, JsonOption, finish

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
