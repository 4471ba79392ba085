"""Write ``docs/cli.md`` from the command line itself; ``--check`` says whether the page is current."""

import sys
from pathlib import Path

import click
import typer

from hilum.cli.verbs import app

PAGE = Path(__file__).with_name("cli.md")


def page() -> str:
    """The page: each verb with its help, in the order of the table of verbs."""
    root = typer.main.get_command(app)
    parts = ["# The command line", "Made by `make docs` from the commands' own help; don't edit."]
    for path, command in verbs(root, ("hilum",)):
        context = click.Context(command, info_name=" ".join(path), terminal_width=100, max_content_width=100)
        parts.append(f"## `{' '.join(path)}`\n\n```text\n{command.get_help(context).rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def verbs(command: click.Command, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    """A command and all below it."""
    found = [(path, command)]
    for name, child in getattr(command, "commands", {}).items():
        found += verbs(child, (*path, name))
    return found


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.exists() and PAGE.read_text() == page() else "docs/cli.md is not current: run make docs")
    PAGE.write_text(page())
