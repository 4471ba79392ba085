"""Audits as values: Holm by hand, verdicts, flags, and a round trip through JSON."""

import math

import pytest

from hilum.errors import DataError
from hilum.evaluation.audits import FAMILY, Audit, Audits, Candidate, concluded, holm
from hilum.evaluation.estimates import Estimate, not_estimable
from hilum.evaluation.false_alarms import AUDITS, FALLS, GAPS, TABLES, TOGETHER, UNEVEN
from hilum.evaluation.light_models import PERMUTATIONS


def row(name: str = "border-only model", value: float = 0.8, **changes: object) -> Audit:
    given = {"measure": "mean AUROC", "value": Estimate(value=value, low=value - 0.1, high=value + 0.1), "floor": 0.6}
    return Audit(name=name, **{**given, **changes})  # type: ignore[arg-type]


def test_holm_by_hand() -> None:
    """Of four: 0.01·4, 0.02·3, max(0.06, 0.03·2), max(0.06, 0.5·1)."""
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx((0.06, 0.04, 0.5, 0.06))
    assert holm([0.9, 0.9]) == (1.0, 1.0)


def test_holm_leaves_out_what_is_no_test() -> None:
    adjusted = holm([math.nan, 0.02])
    assert math.isnan(adjusted[0])
    assert adjusted[1] == 0.02


def test_everything_that_can_alarm_shares_five_percent() -> None:
    """Tables are looked at twice: of all films, and of the tested ones."""
    assert TOGETHER == 0.05
    assert pytest.approx(0.05) == FAMILY + 2 * TABLES + FALLS + GAPS + UNEVEN
    assert FAMILY == AUDITS == pytest.approx(0.02)


def test_the_fewest_shuffles_can_still_alarm_among_sixty_audits() -> None:
    strongest = row(p_value=1 / (1 + PERMUTATIONS))
    assert concluded([strongest, *[row(p_value=0.9)] * 59])[0].verdict == "alarm"


def test_a_clear_row_reads_as_clear_and_one_without_a_value_says_why() -> None:
    clear, alarm, note, missing = concluded(
        [
            row(p_value=0.5, value=0.52, chance=0.5, about="the outer tenth", sentence="It reads the border."),
            row(p_value=0.001, sentence="It reads the border."),
            row(sentence="For the record."),
            Audit(name="x", measure="y", value=not_estimable("Too few patients."), sentence="It reads x."),
        ]
    )
    assert clear.sentence == (
        "Looked for and not found: border-only model (the outer tenth). Mean AUROC 0.520 (0.420–0.620), where 0.5 "
        "means that nothing is wrong; p = 0.5 over all audits."
    )
    (tiny, *_) = concluded([row(p_value=1e-20, value=0.52, chance=0.5)])
    assert tiny.sentence.endswith("p < 0.001 over all audits.")
    assert alarm.sentence == "It reads the border."
    assert note.sentence == "For the record."
    assert missing.sentence == "Not estimable: Too few patients."


def test_an_alarm_needs_both_significance_and_an_effect() -> None:
    rows = [
        row(p_value=0.001),
        row(p_value=0.001, value=0.55),
        row(p_value=0.5),
        row(p_value=0.001, value=0.3, effect=0.7),
        row(p_value=0.001, effect=0.1),
        row(),
        row(value=math.nan, p_value=0.001),
    ]
    rows[-1] = row(value=0.0, p_value=math.nan)
    told = [r.verdict for r in concluded([*rows, Audit(name="x", measure="y", value=not_estimable("Nothing."))])]
    assert told == ["alarm", "clear", "clear", "alarm", "clear", "note", "note", "not estimable"]


def test_one_more_question_makes_each_alarm_harder() -> None:
    borderline = row(p_value=0.008)
    assert concluded([borderline, row(p_value=0.9)])[0].verdict == "alarm"
    assert concluded([borderline, row(p_value=0.9), row(p_value=0.9)])[0].verdict == "clear"


def test_alarms_become_flags_red_first_and_survive_json() -> None:
    rows = concluded(
        [
            row("stability", p_value=0.001, severity="amber", sentence="It wavers."),
            row(p_value=0.001, sentence="It reads the border."),
            row("whole-film model"),
        ]
    )
    found = Audits(rows=rows, candidates=(Candidate(film_id="f", label="a", answer="b", probability=0.9),))
    assert [(flag.severity, flag.code, flag.sentence) for flag in found.flags] == [
        ("red", "audit-border-only-model", "It reads the border."),
        ("amber", "audit-stability", "It wavers."),
    ]
    again = Audits.from_json(found.to_json())
    assert again.to_json() == found.to_json()
    assert again.alarms[0].sentence == "It wavers."
    with pytest.raises(
        DataError, match=r"These audits have schema 9, but this version reads 2. Evaluate the run again."
    ):
        Audits.from_json({**found.to_json(), "schema": 9})
