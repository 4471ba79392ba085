"""The page of models: the one in service, what it was tested on, every change in words, escaped."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from tests.service.conftest import let_in
from tests.service.small import SmallModel, png

from hilum.bundle.card import KeyMetric, Measured, ModelCard
from hilum.records.performance import Estimate, Span, keep
from hilum.records.performance import Measured as Kept
from hilum.records.registry import Registered, Registry
from hilum.records.reviews import Noted
from hilum.service.app import Running
from hilum.service.web.model_figures import side_by_side

XSS = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def manager(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=90, headers=let_in(service, "model-manager")) as http:
        yield http


def registered(letter: str, name: str) -> Registered:
    return Registered(sha256=letter * 64, name=name, version="1", location=f"/{letter}.hilum")


def test_a_fixed_model_without_a_card_says_so(alone: Running) -> None:
    with httpx.Client(base_url=alone.url, timeout=90, headers=let_in(alone, "model-manager")) as http:
        text = http.get("/models").text
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


def card(version: str, auroc: float, **more: Any) -> ModelCard:
    measured = Measured(
        what="AUROC", finding="pneumonia", on="external test", value=auroc, low=auroc - 0.05, high=auroc + 0.05, n=1200
    )
    error = Measured(what="expected calibration error", finding="all", on="external test", value=0.031)
    return ModelCard(
        name="chest", version=version, usefulness=KeyMetric(results=(measured,)), safety=KeyMetric(results=(error,)),
        not_validated_on=("children",), calibration="Temperature scaling.", **more,
    )  # fmt: skip


def test_cards_stand_side_by_side_with_a_dash_where_one_has_no_such_line() -> None:
    unsure = Measured(what="sensitivity", finding="normal", on="internal", value=None, reason="Too few.")
    other = replace(card("1", 0.8), usefulness=KeyMetric(results=(unsure,)))
    lines = side_by_side([card("2", 0.9), None, other])
    assert [(line.on, line.what) for line in lines] == [
        ("external test", "AUROC"), ("external test", "expected calibration error"), ("internal", "sensitivity"),
    ]  # fmt: skip
    assert lines[0].cells == ("0.90 (0.85–0.95), n 1,200", "–", "–")
    assert lines[1].cells == ("0.031", "–", "0.031")
    assert lines[2].cells == ("–", "–", "not estimable: Too few.")


def test_the_page_shows_figures_of_earlier_versions_and_what_readers_did(
    service: Running, manager: httpx.Client, model: SmallModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Shelved:
        def card(self, sha256: str) -> ModelCard | None:
            return card("1", 0.77) if sha256 == "d" * 64 else None

    monkeypatch.setattr(model, "model", replace(model.model, card=card("2", 0.91)))
    Registry(service.room.database).register(registered("d", "earlier"), actor="ada")
    monkeypatch.setattr(service.room, "switch", Shelved())
    film = manager.post("/api/v1/studies?wait=60", content=png(233), headers={"Content-Type": "image/png"}).json()["id"]
    for reader, decision, finding in (("ada", "agree", None), ("bob", "override", "normal")):
        noted = Noted(reason_code="overcalled" if finding else "")
        service.room.reviews.put(
            film,
            reader,
            decision=decision,
            finding=finding,
            comment="",
            over=0,
            noted=noted,  # type: ignore[arg-type]
        )
    service.room.reviews.put(film, "cyd", decision="agree", finding=None, comment="", over=0)
    service.room.reviews.put(film, "cyd", decision="withdraw", finding=None, comment="", over=1)
    text = manager.get("/models").text
    for words in ("0.91 (0.86–0.96)", "0.77 (0.72–0.82)", "Not tested on: children", "Temperature scaling."):
        assert words in text
    assert re.search(
        r"<td>2</td><td>50 % \(9–91 %\)</td><td class=\"wrap\">the model saw what is not there: 1</td>", text
    )


def test_what_labels_say_is_shown_as_it_was_measured_last_or_that_there_is_nothing(
    service: Running, manager: httpx.Client
) -> None:
    text = manager.get("/models").text
    assert "Nothing was measured yet" in text
    assert "hilum monitor performance --bundle FILE" in text
    sure = Estimate(name="sensitivity", value=0.91, low=0.8, high=0.97, naive=0.99)
    unknown = Estimate(name="auroc", value=None, low=None, high=None, naive=None)
    spans = (
        Span(name="all", films=200, labelled=50, estimates=(sure, unknown), why_not="3 films are like none."),
        Span(name="2026-03", films=0, labelled=0, estimates=(), why_not=f"0 labelled {XSS}."),
    )
    at = datetime(2026, 4, 1, 9, 30, tzinfo=UTC)
    with service.room.database.write() as session:
        for days, threshold in ((0, 0.3), (-1, 0.5)):
            keep(
                session,
                Kept(
                    measured_at=at + timedelta(days=days), measured_by="ada", finding="pneumonia", threshold=threshold,
                    spans=spans,
                ),
            )  # fmt: skip
    text = manager.get("/models").text
    assert "Nothing was measured yet" not in text
    assert "pneumonia, positive from 30 %" in text
    assert "positive from 50 %" not in text, "an older measurement"
    assert "2026-04-01 09:30 UTC</time> by ada" in text
    assert "<td>200</td><td>50 (25 %)</td><td>0.91 (0.80–0.97)</td><td>–</td><td>–</td><td>–</td>" in text
    assert "3 films are like none." in text
    assert XSS not in text
