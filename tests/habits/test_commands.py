"""What a document tells somebody to type exists: verbs, sub-verbs and options."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from hilum.cli.verbs import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted(page for page in (ROOT / "docs").rglob("*.md") if page.name != "cli.md")
TOP: Any = typer.main.get_command(app)
COMMAND = re.compile(r"(?:^|\s)hilum ([a-z][^#;]*)")
"""After ``hilum``, up to a remark or another command."""


def commands(text: str) -> Iterator[str]:
    """Words behind ``hilum`` in blocks of code, line by line, and in code within sentences."""
    block = re.compile(r"```\w*\n(.*?)```", re.S)
    lines = [line for found in block.findall(text) for line in found.replace("\\\n", " ").splitlines()]
    within = [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", block.sub("", text))]
    for line in [*lines, *within]:
        yield from COMMAND.findall(re.split(r"(?:^|\s)#", line)[0])


def unknown(command: str) -> list[str]:
    """Words of a command that hilum doesn't know; ``a|b`` stands for both."""
    words = re.split(r" \| | && ", command)[0].split()
    reached: list[Any] = [TOP]
    while words and all(hasattr(group, "get_command") for group in reached):
        context, names = click.Context(reached[0]), words.pop(0).split("|")
        got = {name: reached[0].get_command(context, name) for name in names}
        if missing := [name for name, verb in got.items() if verb is None]:
            return missing
        reached = list(got.values())
    options = {o for verb in reached for parameter in verb.params for o in (*parameter.opts, *parameter.secondary_opts)}
    given = [re.match(r"\[?(--[a-z][a-z-]*)", word) for word in words]
    return [one[1] for one in given if one and one[1] not in options | {"--help", "--debug", "--version"}]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_on_a_page_exists_with_its_options(page: Path) -> None:
    wrong = {command: words for command in commands(page.read_text()) if (words := unknown(command))}
    assert not wrong


def test_a_command_that_is_none_is_found() -> None:
    block = "```sh\nhilum users ad|list\nhilum data import a \\\n  --owt b  # --remark\n```\n"
    text = f"Run `hilum train x --epochz 3`, then\n\n{block}"
    assert [unknown(command) for command in commands(text)] == [["ad"], ["--owt"], ["--epochz"]]
