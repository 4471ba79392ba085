"""Sections on use, doubt and groups show what the scorecards hold; what can't be said stands there as such."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hilum.evaluation.calibrators import choose
from hilum.evaluation.cross_validation import across_folds, patient_folds
from hilum.evaluation.delong import delong
from hilum.evaluation.externality import Development
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.report_calibration import calibration_parts, shipped_sentence
from hilum.evaluation.report_doubt import doubt
from hilum.evaluation.report_sections import main_figures
from hilum.evaluation.report_use import cross_validation, openings, subgroups, use
from hilum.evaluation.scorecard import Scorecard, Settings, score
from hilum.evaluation.selective import AbstentionRules
from hilum.evaluation.shipped_calibration import ShippedCalibration
from hilum.predictions import Predictions
from hilum.reports.page import Details, Figures, Notice, Page, Paragraph, Section, render_page
from hilum.reports.tables import Table

pytest.importorskip("matplotlib")

FEW = Settings(resampling=Resampling(resamples=40))


@pytest.fixture(scope="module")
def validation(make: Callable[..., Predictions]) -> Predictions:
    return make(300, seed=1)


@pytest.fixture(scope="module")
def cards(make: Callable[..., Predictions], validation: Predictions) -> tuple[Scorecard, Scorecard]:
    inside = score(make(240, seed=2), settings=FEW, validation=validation)
    outside = score(
        make(240, seed=3, skill=0.8, sources=("c", "d")),
        name="external test",
        role="external",
        settings=FEW,
        validation=validation,
        seen=Development(sources=frozenset({"hospital-a", "hospital-b"})),
    )
    return inside, outside


def tables_of(section: Section) -> list[Table]:
    found = [block for block in section.blocks if isinstance(block, Table)]
    return found + [b for block in section.blocks if isinstance(block, Details) for b in block.blocks]  # type: ignore


def words_of(section: Section) -> str:
    return render_page(Page(title="t", sections=(section,)))


def test_triage_and_decision_curves_are_those_of_the_card(cards: tuple[Scorecard, Scorecard]) -> None:
    section = use(cards)
    assert section is not None
    first = tables_of(section)[0]
    made = cards[0].in_use
    assert made is not None
    assert made.triage is not None
    for shown, row in zip(first.rows, made.triage.rows, strict=True):
        assert shown[1].text == f"{row.first.value:.2f}"
        assert shown[2].text == f"{row.sensitivity.value:.2f}"
        assert shown[3].text == f"{row.later_abnormal} of {row.later}"
        assert shown[4].text == f"{1000 * row.later_abnormal / 240:.1f}"
    names = [f.name for block in section.blocks if isinstance(block, Figures) for f in block.items]
    assert names == ["workload", "decision-curves"]
    low, high = made.decision_curves["covid-19"].useful or (0, 0)
    assert "covid-19, internal test: shown to be of more use than acting on all or none for thresholds between " in (
        text := words_of(section).replace("\u00a0", " ")
    )
    assert f"between {100 * low:.0f} % and {100 * high:.0f} %" in text


def test_sets_and_the_policy_are_those_of_the_card(cards: tuple[Scorecard, Scorecard]) -> None:
    section = doubt(cards)
    assert section is not None
    shown = tables_of(section)
    made = cards[1].in_use
    assert made is not None
    assert made.sets is not None
    assert made.selective is not None
    assert shown[0].rows[1][2].text == f"{made.sets.coverage.value:.2f}"
    assert shown[2].rows[0][2].text == f"{made.selective.coverage.value:.2f}"
    assert shown[2].rows[1][2].text == f"{made.selective.risk.value:.2f}"
    assert "need not be like them" in words_of(section)
    captions = words_of(section)
    assert "size of the prediction set" in captions
    assert "prediction set size" not in captions
    policy = replace(made.selective.policy, most_distance=1.42, rules=AbstentionRules(usual=0.995))
    far = replace(cards[1], in_use=replace(made, selective=replace(made.selective, policy=policy)))
    section = doubt([far])
    assert section is not None
    assert "than 1.42 (all but 0.5\u00a0% of the validation films lie nearer)" in words_of(section)


def test_groups_have_a_forest_for_each_finding_with_both_tests_side_by_side(
    cards: tuple[Scorecard, Scorecard],
) -> None:
    some = [
        replace(card, subgroups=tuple(one for one in card.subgroups if one.group in ("view_position", "sex")))
        for card in cards
    ]
    section = subgroups(some)
    assert section is not None
    drawn = [f for block in section.blocks if isinstance(block, Figures) for f in block.items]
    assert [f.name for f in drawn] == ["subgroups-normal", "subgroups-pneumonia", "subgroups-covid-19"]
    one = next(s for s in cards[1].subgroups if (s.group, s.level) == ("sex", "M"))
    assert f"sex: M (n {one.films:,}) {one.auroc['covid-19'].text()}" in drawn[2].alt
    assert drawn[2].alt.index("view: AP") < drawn[2].alt.index("view: PA")
    assert drawn[2].alt.count("view: AP") == 2


def test_a_gap_is_a_notice(make: Callable[..., Predictions]) -> None:
    films = make(900, per_patient=1)
    rng, rows = np.random.default_rng(0), np.flatnonzero(np.array(films.groups["source"]) == "hospital-b")
    probs = films.probs.copy()
    probs[rows] = probs[rng.permutation(rows)]
    shuffled = replace(films, probs=probs, groups={"source": films.groups["source"]})
    card = score(shuffled, settings=FEW)
    section = subgroups([card])
    assert section is not None
    notices = [block.text for block in section.blocks if isinstance(block, Notice)]
    assert any("where source is hospital-a" in text for text in notices)
    assert any("where source is hospital-a" in text for text in card.verdict.reservations)


def test_calibration_shows_slopes_the_choice_and_a_local_correction(
    cards: tuple[Scorecard, Scorecard], validation: Predictions
) -> None:
    choice = choose(validation.logits, validation.targets, validation.patient_ids)
    shipped = ShippedCalibration.fitted(
        validation.logits[None], validation.targets, tuple(validation.patient_ids), seed=0
    )
    blocks = calibration_parts(cards, choice, shipped)
    lines, compared, notice, local = blocks
    assert isinstance(lines, Table)
    assert lines.rows[2][2].text == f"{cards[0].calibration_after.lines['covid-19'].slope.value:.2f}"
    assert isinstance(compared, Details)
    said, shown = compared.blocks
    assert said == Paragraph(shipped_sentence(choice, shipped.method))
    assert [row[4].text for row in shown.rows].count("chosen") == 1  # type: ignore[union-attr]
    assert isinstance(notice, Notice)
    assert "The local sample is too small to rely on" in notice.text
    assert isinstance(local, Table)
    made = cards[1].recalibrated
    assert made is not None
    assert made.figures is not None
    assert local.rows[1][3].text == f"{made.figures.ece.value:.3f}"


def test_what_is_shipped_stands_beside_what_was_chosen_with_its_cost(validation: Predictions) -> None:
    choice = choose(validation.logits, validation.targets, validation.patient_ids)
    costly = replace(choice, method="isotonic", nll={**choice.nll, "temperature": 0.5, "isotonic": 0.4})
    assert shipped_sentence(replace(choice, method="temperature"), "temperature") == "Chosen and shipped: temperature."
    said = shipped_sentence(costly, "temperature")
    assert said.startswith("Chosen: isotonic regression, one against the rest. Shipped: temperature, chosen among the")
    assert said.endswith("+0.1000 nats on other patients.")


def test_a_choice_that_could_not_be_made_says_why(validation: Predictions) -> None:
    few = validation.select(np.arange(12))
    (block,) = calibration_parts([], choose(few.logits, few.targets, few.patient_ids))
    assert isinstance(block, Paragraph)
    assert block.text.startswith("No way of calibrating was compared. A class has only 2 patients")


def test_cards_from_before_these_figures_show_none_of_them(cards: tuple[Scorecard, Scorecard]) -> None:
    plain = cards[0].to_json()
    for name in ("in_use", "subgroups", "gaps", "delong", "recalibrated", "mcc", "kappa", "macro_npv"):
        del plain[name]
    for name in ("classwise_ece", "lines", "brier_parts"):
        del plain["calibration_after"][name]
    older = Scorecard.from_json(plain)
    assert (use([older]), doubt([older]), subgroups([older])) == (None, None, None)
    assert calibration_parts([older], None) == ()
    assert "This scorecard was made before this figure was measured" in words_of(main_figures([older]))


def test_without_validation_films_there_are_curves_but_no_choices(make: Callable[..., Predictions]) -> None:
    card = score(make(120), settings=FEW)
    assert card.in_use is not None
    assert card.in_use.triage is None
    assert card.in_use.decision_curves["covid-19"].net_benefit
    assert doubt([card]) is None


def test_cross_validation_shows_both_questions(make: Callable[..., Predictions]) -> None:
    films = make(240)
    fold = patient_folds(films.patient_ids, films.targets.argmax(axis=1))
    pooled = delong(films.probs[:, 2], films.targets[:, 2] == 1, films.patient_ids)
    folds = across_folds(films, fold, "covid-19")
    section = cross_validation({"covid-19": (pooled, folds)})
    assert section is not None
    (shown,) = tables_of(section)
    assert [c.text for c in shown.rows[0]] == ["covid-19", f"{pooled.value:.2f}", f"{folds.value:.2f}"]
    assert shown.rows[0][2].detail == f"{folds.low:.2f}–{folds.high:.2f}"
    assert cross_validation({}) is None


def test_looks_at_the_locked_films_are_counted_by_version() -> None:
    log = [{"time": "t1", "model": "old"}, {"time": "t2", "model": "new"}, {"time": "t3", "model": "new"}]
    shown = openings(log, "new")
    assert isinstance(shown, Table)
    assert [row[2].text for row in shown.rows] == [
        "another version of this run",
        "look 1 at this version",
        "look 2 at this version",
    ]
    assert [row[2].tone for row in shown.rows] == ["", "", "amber"]
    assert openings([], "new") is None
