"""Forms before their script is there: what was typed may reach the server, but never an address or a log."""

import re
from pathlib import Path

import pytest

import hilum.service.web

TEMPLATES = sorted((Path(hilum.service.web.__file__).parent / "templates").glob("*.html"))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_a_form_without_an_action_posts_and_a_script_is_there_before_the_page_is_shown(template: Path) -> None:
    text = template.read_text(encoding="utf-8")
    for form in re.findall(r"<form\b[^>]*>", text):
        assert 'method="post"' in form or 'method="dialog"' in form or "action=" in form, form
    for script in re.findall(r"<script\b[^>]*>", text):
        assert 'blocking="render"' in script, script
