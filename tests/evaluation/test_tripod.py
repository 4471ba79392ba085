"""The checklist is whole, filled only by answers, and what is missing is counted and seen."""

import pytest

from hilum.errors import DataError
from hilum.evaluation.tripod import EMPTY, ITEMS, checklist, checklist_section, unanswered
from hilum.reports.page import Details, Page, Paragraph, render_page


def test_all_27_items_are_there_in_order() -> None:
    numbers = [number for number, _, _ in ITEMS]
    assert len(set(numbers)) == len(numbers) == 52
    assert sorted({int(number.rstrip("abcdefg")) for number in numbers}) == list(range(1, 28))
    assert [int(number.rstrip("abcdefg")) for number in numbers] == sorted(int(n.rstrip("abcdefg")) for n in numbers)


def test_items_that_the_paper_added_stand_under_its_numbers() -> None:
    """Collins et al. 2024, table 2."""
    subject = {number: text for number, _, text in ITEMS}
    for number, word in {
        "3c": "inequalities", "7": "Preparation", "12d": "clusters", "12f": "Updating", "12g": "computed",
        "13": "imbalance", "14": "Fairness", "15": "thresholds", "16": "Differences", "17": "Ethical", "18a": "Funding",
        "18c": "protocol", "18e": "data", "18f": "code", "19": "public", "20c": "Comparison", "22": "full model",
        "23b": "clusters", "24": "updating", "27a": "poor or missing input",
    }.items():  # fmt: skip
        assert word in subject[number], number


def test_an_answer_fills_its_item_alone_and_an_empty_one_fills_none() -> None:
    items = checklist({"21": ("400 films", "figures"), "23a": (" ", "figures")})
    filled = [item for item in items if item.answer]
    assert [(item.number, item.answer, item.where) for item in filled] == [("21", "400 films", "figures")]
    assert "23a" in unanswered(items)
    assert len(unanswered(items)) == len(ITEMS) - 1


def test_what_is_missing_is_seen() -> None:
    section = checklist_section(checklist({"21": ("400 films", "figures")}))
    assert section is not None
    words, folded = section.blocks
    assert isinstance(words, Paragraph)
    assert words.text.startswith(
        "1 of 52 items are answered by this run's artefacts. 51 are not, and need people: 1, 2,"
    )
    assert isinstance(folded, Details)
    html = render_page(Page(title="t", sections=(section,)))
    assert html.count(EMPTY) == 51
    assert checklist_section(()) is None
    every = checklist_section(checklist({number: ("yes", "x") for number, _, _ in ITEMS}))
    assert every is not None
    assert every.blocks[0] == Paragraph("All 52 items are answered by this run's artefacts.")


def test_an_item_that_does_not_exist_is_refused() -> None:
    with pytest.raises(DataError, match="TRIPOD\\+AI has no item 99"):
        checklist({"99": ("x", "y")})
