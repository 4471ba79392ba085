"""``hilum users``: who may do what, changed where the records lie."""

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.records import DataOption
from hilum.cli.terminal import JsonOption, finish

app = typer.Typer(name="users", help="Users, roles and keys of the reading room.", no_args_is_help=True)

CONSOLE = "console"
"""Who acts, in the audit: whoever may write the records from a shell."""

StdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
]
NameArgument = Annotated[str, typer.Argument(help="The user's name; it stands in the audit.")]
HERE = Path("hilum-data")


@app.callback()
def users() -> None:
    """Users, roles and keys of the reading room.

    The records are those of --data, or of HILUM_DATABASE_URL, beside a running service or without one: what is disabled
    or revoked counts no more when the command ends.
    """


@app.command()
def add(
    name: NameArgument,
    role: Annotated[list[str], typer.Option(help="viewer, reviewer, model-manager, admin, auditor; may be repeated.")],
    no_password: Annotated[bool, typer.Option("--no-password", help="For a program that comes by keys only.")] = False,
    password_stdin: StdinOption = False,
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Make a user. The password is asked for twice, and never an argument: arguments are visible to others."""
    from hilum.cli.records import open_records
    from hilum.records.access import Access

    password = None if no_password else _password(password_stdin)
    with open_records(data, make=True) as database:
        user = Access(database).add_user(name, role, password=password, actor=CONSOLE)
    summary = {"name": user.name, "roles": list(user.roles), "password": user.has_password}
    finish(summary, as_json=as_json, lines=[f"{user.name}: {', '.join(user.roles)}"])


@app.command("list")
def list_users(data: DataOption = HERE, as_json: JsonOption = False) -> None:
    """List users, their roles, and whether they may still do anything."""
    from hilum.cli.records import open_records
    from hilum.records.access import Access

    with open_records(data) as database:
        found = Access(database).users()
    rows = [
        {"name": u.name, "roles": list(u.roles), "disabled": u.disabled_at is not None, "password": u.has_password}
        for u in found
    ]
    lines = [
        f"{u.name:<24} {', '.join(u.roles)}{'' if u.disabled_at is None else '   disabled'}"
        f"{'' if u.has_password else '   keys only'}"
        for u in found
    ]
    finish({"users": rows}, as_json=as_json, lines=lines or ["no users yet: hilum users add NAME --role admin"])


@app.command()
def disable(name: NameArgument, data: DataOption = HERE, as_json: JsonOption = False) -> None:
    """Let a user do nothing any more; its sessions end and its keys count no more."""
    from hilum.cli.records import open_records
    from hilum.records.access import Access

    with open_records(data) as database:
        Access(database).disable(name, actor=CONSOLE)
    finish({"name": name, "disabled": True}, as_json=as_json, lines=[f"{name} is disabled"])


@app.command()
def password(
    name: NameArgument, password_stdin: StdinOption = False, data: DataOption = HERE, as_json: JsonOption = False
) -> None:
    """Give a user another password; its sessions end."""
    from hilum.cli.records import open_records
    from hilum.records.access import Access

    given = _password(password_stdin)
    with open_records(data) as database:
        Access(database).set_password(name, given, actor=CONSOLE)
    finish({"name": name}, as_json=as_json, lines=[f"{name} has another password"])


@app.command()
def add_key(
    user: NameArgument,
    scope: Annotated[
        list[str] | None, typer.Option(help="films:send, films:read …; may be repeated; all of its roles' when absent.")
    ] = None,
    label: Annotated[str, typer.Option(help="What for.")] = "",
    days: Annotated[int | None, typer.Option(min=1, help="Until when it counts; no end when absent.")] = None,
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Make a key for a program; its secret is printed this once and kept as a digest only."""
    from hilum.cli.records import open_records
    from hilum.records.access import Access

    with open_records(data) as database:
        key, secret = Access(database).add_key(user, scope or (), label=label, days=days, actor=CONSOLE)
    lines = [f"id:     {key.id}", f"scopes: {', '.join(key.scopes)}", f"key:    {secret}"]
    finish({"id": key.id, "scopes": list(key.scopes), "key": secret}, as_json=as_json, lines=lines)


@app.command()
def list_keys(data: DataOption = HERE, as_json: JsonOption = False) -> None:
    """List keys, without their secrets."""
    from hilum.cli.records import open_records
    from hilum.records.access import Access

    with open_records(data) as database:
        found = Access(database).list_keys()
    rows = [
        {
            "id": k.id,
            "user": k.user,
            "label": k.label,
            "scopes": list(k.scopes),
            "expires": k.expires_at.isoformat() if k.expires_at else None,
            "revoked": k.revoked_at is not None,
        }
        for k in found
    ]
    ends = [f"until {k.expires_at:%Y-%m-%d}" if k.expires_at else "without end" for k in found]
    lines = [
        f"{k.id}  {k.user:<16} {', '.join(k.scopes)}  {end}  {k.label}{'' if k.revoked_at is None else '   revoked'}"
        for k, end in zip(found, ends, strict=True)
    ]
    finish({"keys": rows}, as_json=as_json, lines=lines or ["no keys yet: hilum users add-key USER"])


@app.command()
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="Id of the key.")], data: DataOption = HERE, as_json: JsonOption = False
) -> None:
    """Let a key count no more."""
    from hilum.cli.records import open_records
    from hilum.records.access import Access

    with open_records(data) as database:
        Access(database).revoke_key(key_id, actor=CONSOLE)
    finish({"id": key_id, "revoked": True}, as_json=as_json, lines=[f"{key_id} counts no more"])


def _password(from_stdin: bool) -> str:
    from hilum.errors import UsageError

    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise UsageError("There is no terminal to ask for the password. Give it with --password-stdin.")
    first = getpass.getpass("Password (12 characters or more): ")
    if getpass.getpass("Again: ") != first:
        raise UsageError("The two passwords differ. Try again.")
    return first
