"""What the demo says at its end can be typed as it stands."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from hilum.bundle.card import ModelCard
from hilum.bundle.card_text import render_card_page
from hilum.cli.verbs import app
from hilum.demo import story
from hilum.demo.story import DemoConfig, _settings, again
from hilum.progress import Silent


def test_the_command_that_starts_the_service_again_is_one_on_the_same_records(tmp_path: Path) -> None:
    out = tmp_path / "a demo"
    said = again(out / "chest.hilum", out)
    program, verb, *words = shlex.split(said.splitlines()[0].partition(": ")[2])
    serve = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    given = serve.make_context(verb, words).params
    assert (program, Path(given["bundle"])) == ("hilum", out / "chest.hilum")
    assert Path(given["data"]) == _settings(DemoConfig(), out / "chest.hilum", out).data


def test_the_card_names_its_films_as_synthetic(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(story, "package", lambda *_, **named: given.update(named))
    monkeypatch.setattr(story, "verify_bundle", lambda path: given.update(verified=path))
    bundle = tmp_path / "chest.hilum"
    story.pack(object(), bundle, "demo-0", Silent())  # type: ignore[arg-type]
    page = render_card_page(ModelCard(name="chest", version=given["version"], stated=given["stated"]))
    assert "None. All films are synthetic phantoms" in page
    assert "not to be used on films of patients" in page
    assert given["verified"] == bundle
