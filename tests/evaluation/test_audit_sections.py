"""The audits in the report: alarms in the verdict and first in their section, every row in the table and the JSON."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from hilum.evaluation.audit_sections import audits_section
from hilum.evaluation.audits import Audit, Audits, Candidate, concluded
from hilum.evaluation.confounding import within_source
from hilum.evaluation.estimates import Estimate, not_estimable
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.report import ReportInput, render_report, report_verdict
from hilum.evaluation.scorecard import Settings, score
from hilum.evaluation.source_audits import inside_audits
from hilum.predictions import Predictions
from hilum.reports.page import Notice

pytest.importorskip("matplotlib")

VALUE = Estimate(value=0.8, low=0.7, high=0.9, n=90, patients=80)


def some(p_value: float) -> Audits:
    marker = Audit(
        name="corner-marker model",
        about="the four corners alone",
        measure="mean AUROC",
        value=VALUE,
        chance=0.5,
        floor=0.6,
        p_value=p_value,
        sentence="A marker goes with the label.",
        paper="Zech et al. 2018",
    )
    nothing = Audit(name="left-out source", measure="mean AUROC", value=not_estimable("Too few patients."))
    candidate = Candidate(film_id="0123456789abcdef", label="normal", answer="pneumonia", probability=0.97)
    return Audits(rows=concluded([marker, nothing]), candidates=(candidate,), features="pixels")


def test_an_alarm_reddens_the_verdict_by_name(make: Callable[..., Predictions]) -> None:
    card = score(make(120, sources=("a", "a")), settings=Settings(resampling=Resampling(resamples=40)))
    verdict = report_verdict(card, audits=some(0.001))
    assert verdict.colour == "red"
    assert verdict.why == ("A marker goes with the label.",)
    assert verdict.headline.endswith("the label can be read from what is not the disease.")
    assert report_verdict(card, audits=some(0.5)) == report_verdict(card)


def test_a_pair_inside_one_source_is_named_once_on_top(make: Callable[..., Predictions]) -> None:
    """Tables of a test and audits may say the same of it; another pair's alarm stays."""
    films = make(300, confounded=True, skill=1.0)
    settings = Resampling(resamples=200)
    card = score(films, settings=Settings(resampling=settings))
    (flag,) = [flag for flag in card.confounding.flags if "covid-19 against pneumonia" in flag.sentence]
    rows = inside_audits(films, within_source(films, settings), settings)
    alarms = [replace(row, verdict="alarm", value=VALUE) for row in rows]
    why = report_verdict(card, audits=Audits(rows=tuple(alarms))).why
    about = [sentence for sentence in why if "ovid-19 against pneumonia" in sentence and "'hospital-b'" in sentence]
    assert about == [flag.sentence]
    assert any("Pneumonia against normal" in sentence for sentence in why)


def test_the_page_and_its_json_hold_every_row(make: Callable[..., Predictions]) -> None:
    card = score(make(120, sources=("a", "a")), settings=Settings(resampling=Resampling(resamples=40)))
    audits = some(0.001)
    report = render_report(ReportInput(title="Synthetic", internal=card, audits=audits))
    for text in ("corner-marker model", "0.70–0.90", "Too few patients.", "Zech et al. 2018", "0123456789ab", "pixels"):
        assert text in report.html
    assert "0123456789abc" not in report.html
    assert Audits.from_json(report.json["audits"]).to_json() == audits.to_json()
    assert render_report(ReportInput(title="Synthetic", internal=card)).json["audits"] is None


def test_without_an_alarm_the_section_says_that_this_is_no_proof() -> None:
    first = audits_section(some(0.5)).blocks[0]
    assert "No audit raised an alarm. That is no proof of absence" in first.text  # type: ignore[union-attr]
    alarmed = audits_section(some(0.001)).blocks[0]
    assert isinstance(alarmed, Notice)
    assert alarmed.tone == "red"
