"""Who speaks when several processes train together, and what is made of what was typed."""

import pytest

from hilum.cli.train import operating_rules, speaks
from hilum.errors import HilumError
from hilum.evaluation.thresholds import OperatingRules


def test_of_several_processes_the_first_one_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun numbers them in RANK; without it there is one."""
    monkeypatch.delenv("RANK", raising=False)
    assert speaks()
    for rank, told in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        assert speaks() is told


def test_operating_rules_are_made_from_what_was_typed() -> None:
    made = operating_rules("sensitivity-floor", ["0.9", "covid-19=0.98"], None)
    assert (made.sensitivity_floor, made.floors) == (0.9, {"covid-19": 0.98})
    assert operating_rules("cost", [], 4).cost_of_miss == 4
    assert operating_rules("youden", [], None).rule == "youden"
    assert operating_rules("sensitivity-floor", [], None) == OperatingRules()


@pytest.mark.parametrize(
    ("rule", "floors", "cost", "said"),
    [
        ("youden", ["0.9"], None, "--floor is for --operating-points sensitivity-floor, not for youden"),
        ("sensitivity-floor", [], 3.0, "--cost-of-miss is for --operating-points cost, not for sensitivity-floor"),
        ("sensitivity-floor", ["covid-19"], None, "--floor is 'covid-19', but must be a number or FINDING=NUMBER"),
        ("sensitivity-floor", ["covid-19=1.5"], None, "covid-19 is 1.5, but must lie above 0 and up to 1"),
    ],
)
def test_operating_rules_that_make_no_sense_are_refused(
    rule: str, floors: list[str], cost: float | None, said: str
) -> None:
    with pytest.raises(HilumError, match=said):
        operating_rules(rule, floors, cost)
