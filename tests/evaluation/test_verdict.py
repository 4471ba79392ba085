"""The verdict says what may be claimed, what not, and why; confounding is red whatever the figures."""

from dataclasses import replace

import pytest

from hilum.evaluation.confounding import Flag
from hilum.evaluation.estimates import Estimate, not_estimable
from hilum.evaluation.verdict import Evidence, drops, judge, overall, sample_warnings

GOOD = Estimate(value=0.93, low=0.9, high=0.96, n=200, patients=150)
CHANCE = Estimate(value=0.52, low=0.44, high=0.6, n=200, patients=150)
RED = Flag(
    severity="red", code="single-source", sentence="Every covid-19 film comes from source 'x'.", finding="covid-19"
)
AMBER = Flag(severity="amber", code="association", sentence="Label and view go together.")
INSIDE = Evidence(role="internal", auroc={"normal": GOOD, "covid-19": GOOD}, n=200)
OUTSIDE = replace(INSIDE, role="external")


def test_an_internal_test_is_amber_at_best_and_says_what_it_does_not_show() -> None:
    verdict = judge(INSIDE)
    assert (verdict.colour, verdict.why, verdict.reservations) == ("amber", (), ())
    assert verdict.may_claim[0] == (
        "On these films normal is told from the rest with AUROC 0.93 (0.90–0.96), measured on 150 patients."
    )
    assert "Any performance in another hospital: only films of another source can show it." in verdict.may_not_claim


def test_an_external_test_with_nothing_against_it_is_green() -> None:
    verdict = judge(OUTSIDE)
    assert verdict.colour == "green"
    assert verdict.headline == "The model holds on films of a source that it has never seen."
    assert any("third hospital" in text for text in verdict.may_not_claim)


def test_confounding_is_red_whatever_the_figures() -> None:
    verdict = judge(replace(OUTSIDE, flags=[AMBER, RED]))
    assert verdict.colour == "red"
    assert "can't be taken for detection of disease" in verdict.headline
    assert verdict.why == (RED.sentence,)
    assert verdict.reservations == (AMBER.sentence,)
    assert "That the model detects covid-19." in verdict.may_not_claim
    assert not any("AUROC" in text for text in verdict.may_claim)


def test_an_external_claim_that_fails_is_amber_and_says_why() -> None:
    verdict = judge(replace(OUTSIDE, not_external=["2 films are shared."]))
    assert verdict.colour == "amber"
    assert verdict.reservations == ("Not external: 2 films are shared.",)
    assert "not shown for any other hospital" in verdict.headline


def test_films_without_a_score_are_red_and_allow_no_claim() -> None:
    verdict = judge(replace(OUTSIDE, unscored=3))
    assert (verdict.colour, verdict.may_claim) == ("red", ())
    assert verdict.why[0].startswith("3 of 200 labelled films have no score (NaN)")


def test_no_film_is_red() -> None:
    verdict = judge(Evidence(role="internal", auroc={}, n=0))
    assert (verdict.colour, verdict.headline, verdict.why) == (
        "red",
        "There is nothing to judge.",
        ("There is no labelled film.",),
    )


def test_chance_everywhere_is_red_and_in_one_finding_amber() -> None:
    everywhere = judge(replace(OUTSIDE, auroc={"normal": CHANCE, "covid-19": CHANCE}))
    assert (everywhere.colour, everywhere.headline) == ("red", "The model does no better than chance on these films.")
    once = judge(replace(OUTSIDE, auroc={"normal": GOOD, "covid-19": CHANCE}))
    assert once.colour == "amber"
    assert "covid-19 is not told from the rest better than chance: AUROC 0.52 (0.44–0.60)." in once.reservations
    assert len(once.may_claim) == 1


def test_what_is_not_estimable_is_a_reservation() -> None:
    verdict = judge(
        replace(OUTSIDE, auroc={"normal": GOOD, "covid-19": not_estimable("Only 2 patients with covid-19.")})
    )
    assert verdict.reservations == ("AUROC of covid-19 is not estimable: Only 2 patients with covid-19.",)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "No labelled film shows x: nothing about it can be measured."),
        (1, "Only 1 patient shows x: its figures are uncertain, as their intervals say."),
        (29, "Only 29 patients show x: its figures are uncertain, as their intervals say."),
    ],
)
def test_small_classes_are_named(count: int, text: str) -> None:
    assert sample_warnings({"x": count, "y": 30}) == (text,)


def test_a_clear_fall_outside_is_said_and_a_small_one_is_not() -> None:
    lower = Estimate(value=0.72, low=0.66, high=0.78)
    assert drops({"x": GOOD, "y": GOOD}, {"x": lower, "y": GOOD}) == (
        "AUROC of x falls from 0.93 (0.90–0.96) inside to 0.72 (0.66–0.78) outside.",
    )


def test_a_good_external_test_lifts_the_internal_reservation() -> None:
    assert overall(judge(INSIDE), judge(OUTSIDE)).colour == "green"
    assert overall(judge(INSIDE), None).colour == "amber"


def test_a_fall_outside_makes_green_amber() -> None:
    verdict = overall(judge(INSIDE), judge(OUTSIDE), ["AUROC of x falls."])
    assert (verdict.colour, verdict.reservations) == ("amber", ("AUROC of x falls.",))
    assert "read the reservations" in verdict.headline


def test_red_on_either_side_or_in_the_data_is_red_over_all() -> None:
    red = judge(replace(INSIDE, flags=[RED]))
    for verdict in (
        overall(red, judge(OUTSIDE)),
        overall(judge(INSIDE), judge(replace(OUTSIDE, flags=[RED]))),
        overall(judge(INSIDE), judge(OUTSIDE), data=[RED]),
    ):
        assert verdict.colour == "red"
        assert RED.sentence in " ".join(verdict.why)
        assert "That the model detects covid-19." in verdict.may_not_claim
        assert not any("AUROC" in text for text in verdict.may_claim)


def test_sentences_of_two_tests_say_which_and_common_ones_stand_once() -> None:
    small = replace(INSIDE, warnings=["Few films.", "Common."])
    verdict = overall(judge(small), judge(replace(OUTSIDE, warnings=["Common."])))
    assert verdict.reservations == ("Common.", "Inside: Few films.")
