"""The report: verdict first, self-contained, escaped, deterministic, with every number in its JSON."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hilum.evaluation.calibrators import Scaling
from hilum.evaluation.confounding import confounding_of_labels
from hilum.evaluation.estimates import Estimate
from hilum.evaluation.externality import Development
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.localisation import localise
from hilum.evaluation.report import (
    Comparison,
    Heatmaps,
    Report,
    ReportInput,
    render_report,
    report_verdict,
    write_report,
)
from hilum.evaluation.report_doubt import doubt
from hilum.evaluation.report_sections import calibration, main_figures
from hilum.evaluation.scorecard import Scorecard, Settings, score
from hilum.evaluation.shipped_calibration import ShippedCalibration
from hilum.evaluation.thresholds import choose_operating_points
from hilum.evaluation.tripod import checklist
from hilum.predictions import Predictions
from hilum.reports.page import DISCLAIMER, Notice, Page, Picture, Section, render_page
from hilum.reports.page import Paragraph as Text

pytest.importorskip("matplotlib")

FEW = Settings(resampling=Resampling(resamples=40))
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c6360000000020001"
    "48afa4710000000049454e44ae426082"
)


@pytest.fixture(scope="module")
def whole(make: Callable[..., Predictions]) -> ReportInput:
    """A report with every section; all numbers are synthetic."""
    points = choose_operating_points(make(120, seed=3, sources=("a", "a")), settings=FEW.resampling)
    mask = np.eye(4, dtype=bool)
    maps = localise([np.eye(4)] * 6, [mask] * 6, ["covid-19"] * 6, list("pqrstu"), FEW.resampling)
    inside = make(120, seed=1, sources=("a", "a"))
    outside = make(120, seed=2, sources=("b", "b"))
    rows = [
        {
            "member": m,
            "stage": s,
            "epoch": e,
            "loss": 1 / e,
            "watch_loss": 1.1 / e,
            "accuracy": 0.5,
            "watch_accuracy": None,
        }
        for m in range(2)
        for s in ("head", "last-block")
        for e in (1, 2, 3)
    ]
    value = Estimate(value=0.9, low=0.85, high=0.95, n=120)
    return ReportInput(
        title="Synthetic <report>",
        internal=score(
            inside,
            settings=FEW,
            operating_points=points,
            localisation=maps,
            validation=make(120, seed=3, sources=("a", "a")),
        ),
        external=score(
            outside,
            name="external test",
            role="external",
            settings=FEW,
            operating_points=points,
            seen=Development(sources=frozenset({"a"})),
        ),
        data=confounding_of_labels(inside.findings, inside.targets, inside.groups, inside.patient_ids),
        validation_points=points,
        calibration=ShippedCalibration(method="temperature", calibrator=Scaling(weights=(0.8,) * 3, biases=(0.0,) * 3)),
        history=rows,
        comparison=[
            Comparison(name="shipped", auroc=value, accuracy=value, seconds=12.0),
            Comparison(name="scratch", auroc=value, accuracy=value),
        ],
        heatmaps=Heatmaps(pictures=(Picture(png=PNG, title="covid-19, answered covid-19"),), caption="The first film."),
        provenance={"packages": {"numpy": "2.0"}, "bundle_sha256": "ab" * 32, "commit": None},
        command="hilum evaluate runs/x",
        openings=2,
        openings_log=[{"time": "2026-01-01", "model": "ab"}, {"time": "2026-01-02", "model": "ab"}],
        model="ab",
        checklist=checklist({"21": ("120 films", "figures")}),
        notices=["All numbers are synthetic."],
        more=(Section(title="One more", name="one-more", blocks=(Text("Further words."),)),),
    )


@pytest.fixture(scope="module")
def report(whole: ReportInput) -> Report:
    return render_report(whole)


def test_the_verdict_and_the_disclaimer_come_before_any_table(report: Report) -> None:
    assert report.html.index(DISCLAIMER) < report.html.index('class="verdict') < report.html.index("<table")


def test_every_section_is_there_in_order(report: Report) -> None:
    names = re.findall(r'<section id="([a-z-]+)">', report.html)
    assert names == [
        "figures", "decisions", "operating-points", "use", "calibration", "doubt", "subgroups", "confounding",
        "heat-maps", "training", "comparison", "one-more", "tripod", "provenance",
    ]  # fmt: skip


def test_the_page_needs_nothing_else_and_runs_no_script(report: Report) -> None:
    page = re.sub(r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=]+", "", report.html)
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")
    assert "<script" not in page
    assert "url(" not in page
    assert not re.findall(r'(?:src|href)="(?!#|")[^"]+"', page)


def test_text_is_escaped(report: Report) -> None:
    assert "Synthetic &lt;report&gt;" in report.html
    assert "<report>" not in report.html


def test_internal_and_external_stand_side_by_side(report: Report, whole: ReportInput) -> None:
    assert whole.external is not None
    for card in (whole.internal, whole.external):
        assert f"{card.auroc['covid-19'].low:.2f}–{card.auroc['covid-19'].high:.2f}" in report.html
    assert report.html.count("external test") > 5


def test_no_patient_and_no_film_is_named(report: Report) -> None:
    text = report.html + json.dumps(report.json)
    assert "patient1" not in text
    assert "film1" not in text


def test_notices_and_repeated_openings_stand_below_the_verdict(report: Report) -> None:
    top = report.html[: report.html.index("<nav")]
    assert "All numbers are synthetic." in top
    assert "The locked test films have been looked at 2 times" in top


def test_json_holds_every_scorecard_and_reads_back(report: Report, whole: ReportInput) -> None:
    plain = json.loads(json.dumps(report.json, allow_nan=False))
    assert Scorecard.from_json(plain["internal"]).to_json() == whole.internal.to_json()
    assert plain["verdict"]["colour"] == report.verdict.colour
    assert plain["disclaimer"] == DISCLAIMER
    assert plain["history"][0]["watch_accuracy"] is None
    assert [look["time"] for look in plain["openings_log"]] == ["2026-01-01", "2026-01-02"]
    assert [item["number"] for item in plain["checklist"] if item["answer"]] == ["21"]
    assert "predictions.parquet" in plain["redo"]


def test_the_same_input_gives_the_same_bytes(whole: ReportInput) -> None:
    card = replace(whole.internal, subgroups=(), in_use=None)  # their figures are drawn by the same hands
    small = replace(whole, internal=card, external=None, history=(), comparison=())
    first, again = render_report(small), render_report(small)
    assert again == first


def test_everything_is_written(report: Report, tmp_path: Path) -> None:
    path = write_report(tmp_path / "report", report)
    assert path.read_text() == report.html
    assert json.loads((path.parent / "report.json").read_text()) == json.loads(json.dumps(report.json))
    names = {f.name for f in report.figures}
    assert names == {
        "auroc", "confusion-internal-test", "confusion-external-test", "roc-internal-test", "roc-external-test",
        "reliability-internal-test", "reliability-external-test", "training", "comparison",
        "workload", "decision-curves", "risk-coverage", "subgroups-normal", "subgroups-pneumonia", "subgroups-covid-19",
    }  # fmt: skip
    for name in names:
        assert (path.parent / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (path.parent / "figures" / f"{name}.svg").read_text()


def test_a_confounded_run_is_red_on_top(make: Callable[..., Predictions]) -> None:
    verdict = report_verdict(score(make(300, confounded=True, sources=("nih", "cohen")), settings=FEW))
    assert verdict.colour == "red"
    assert verdict.why[0].startswith("Every covid-19 film comes from source 'cohen'")
    assert "That the model detects covid-19." in verdict.may_not_claim


def test_confounded_training_data_turn_a_clean_test_red(make: Callable[..., Predictions]) -> None:
    films = make(300, confounded=True)
    data = confounding_of_labels(films.findings, films.targets, films.groups, films.patient_ids)
    card = score(make(120), settings=FEW)
    assert report_verdict(card).colour == "amber"
    assert report_verdict(card, data=data).colour == "red"


def test_an_absent_class_is_shown_as_not_estimable_never_as_a_number(make: Callable[..., Predictions]) -> None:
    films = make(120)
    without = films.select(np.flatnonzero(films.targets[:, 2] == 0))
    section = main_figures([score(without, settings=FEW)])
    page = render_page(Page(title="t", sections=(section,)))
    row = page[page.index('<th scope="row">covid-19</th>') :].split("</tr>")[0]
    assert row.count("not estimable") == 5  # AUROC, AUPRC, sensitivity, F1, MCC
    assert "No labelled film shows covid-19." in row
    assert not re.search(r"\bnan\b", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))


@pytest.mark.parametrize(
    ("case", "reason", "count"),
    [
        ("two positives", "Only 2 patients with covid-19; a ranking needs at least 5.", 2),
        ("no score", "1 of 120 films have no score (NaN).", 8),
    ],
)
def test_what_can_not_be_computed_is_not_estimable_on_the_page_with_its_reason(
    make: Callable[..., Predictions], case: str, reason: str, count: int
) -> None:
    films = make(120)
    if case == "no score":
        films.probs[5] = films.logits[5] = np.nan
    else:
        ill = films.targets[:, 2] == 1
        films = films.select(np.concatenate([np.flatnonzero(~ill), np.flatnonzero(ill)[:4]]))
    page = render_page(Page(title="t", sections=(main_figures([score(films, settings=FEW)]),)))
    row = page[page.index('<th scope="row">covid-19</th>') :].split("</tr>")[0]
    assert row.count("not estimable") == count
    assert reason in row
    assert not re.search(r"\bnan\b", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))


def test_a_calibration_set_of_one_class_promises_and_chooses_nothing_for_the_others(
    make: Callable[..., Predictions],
) -> None:
    validation = make(120, seed=1)
    alone = validation.select(np.flatnonzero(validation.targets[:, 0] == 1))
    points = choose_operating_points(alone)
    assert points["covid-19"].reason == "No labelled film shows covid-19, so no threshold can be chosen."
    section = doubt([score(make(120), settings=FEW, validation=alone)])
    assert section is not None
    page = render_page(Page(title="t", sections=(section,)))
    row = page[page.index('<th scope="row">internal test</th>') :].split("</tr>")[0]
    assert row.count("not estimable") == 2  # coverage of pneumonia and covid-19
    assert "Only 0 calibration patients show covid-19; 9 are needed to promise 90%" in row
    assert "No policy was chosen that leaves films to a person" in page


def test_optimistic_calibration_stands_in_its_section(make: Callable[..., Predictions]) -> None:
    card = score(make(120), settings=FEW, calibration_optimistic=True)
    notice = next(block for block in calibration([card], None).blocks if isinstance(block, Notice))
    assert "their calibration is optimistic" in notice.text


def test_an_interval_below_its_ece_is_explained(make: Callable[..., Predictions]) -> None:
    card = score(make(120), settings=FEW)
    ece = card.calibration_after.ece_mass
    assert (ece.low + ece.high) / 2 < ece.value, "the reflected bootstrap takes the excess away"
    assert "so it may lie below the figure" in render_page(Page(title="t", sections=(calibration([card], None),)))


def test_a_card_without_any_film_still_makes_a_page(make: Callable[..., Predictions]) -> None:
    films = make(6)
    nothing = replace(films, targets=np.full((6, 3), np.nan))
    report = render_report(ReportInput(title="t", internal=score(nothing, settings=FEW)))
    assert "There is no labelled film." in report.html
    assert report.verdict.colour == "red"
