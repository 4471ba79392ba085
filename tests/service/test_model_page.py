"""The page of models: the one in service, what it was tested on, every change in words, escaped."""

import re
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from tests.service.conftest import let_in
from tests.service.small import SmallModel

from hilum.records.registry import Registered, Registry
from hilum.service.app import Running

XSS = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def manager(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=20, headers=let_in(service, "model-manager")) as http:
        yield http


def registered(letter: str, name: str) -> Registered:
    return Registered(sha256=letter * 64, name=name, version="1", location=f"/{letter}.hilum")


def test_a_fixed_model_without_a_card_says_so(manager: httpx.Client) -> None:
    text = manager.get("/models").text
    for words in ("<strong>small 1</strong>", "5" * 64, "treat it as not validated", "fixed model", "hilum change"):
        assert words in text


def test_changes_are_told_newest_first_page_by_page(
    service: Running, manager: httpx.Client, http: httpx.Client, model: SmallModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hilum.service.web.model_page.LINES", 1)
    more = replace(model.model, validated=(f"Set {XSS}.",), not_validated=("Children.",), thresholds={"normal": 0.25})
    monkeypatch.setattr(model, "model", more)
    registry = Registry(service.room.database)
    for one in (registered("a", "first"), registered("b", XSS)):
        registry.register(one, actor="ada")
    registry.begin("a" * 64, actor="ada", reason="The first one.")
    registry.activate("b" * 64, actor="bob", reason=f"Better {XSS}.")
    text = manager.get("/models").text
    assert "Better &lt;img" in text
    assert "The first one." not in text
    for words in ("Set &lt;img", "Children.", "normal (positive from 25 %)", "<td>bob</td>"):
        assert words in text
    assert XSS not in text
    assert not re.search(r'<script|\sstyle=|\son\w+="', text)
    older = re.search(r'href="(/models\?before=\d+)"', text)
    assert older
    before = manager.get(older[1]).text
    assert "The first one." in before
    assert "Older changes" not in before
    assert "hilum change" not in http.get("/models").text, "a reader is told of no act that is not for readers"
