"""What the demo says at its end can be typed as it stands."""

import shlex
from pathlib import Path

import typer

from hilum.cli.verbs import app
from hilum.demo.story import DemoConfig, _settings, again


def test_the_command_that_starts_the_service_again_is_one_on_the_same_records(tmp_path: Path) -> None:
    out = tmp_path / "a demo"
    said = again(out / "chest.hilum", out)
    program, verb, *words = shlex.split(said.splitlines()[0].partition(": ")[2])
    serve = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    given = serve.make_context(verb, words).params
    assert (program, Path(given["bundle"])) == ("hilum", out / "chest.hilum")
    assert Path(given["data"]) == _settings(DemoConfig(), out / "chest.hilum", out).data
