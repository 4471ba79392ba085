"""Labels from overrides: quarantined, limited, decided by a second person, and versioned for ever."""

from dataclasses import replace
from pathlib import Path

import pytest

from hilum.change.feedback import EMPTY, Label, LabelRules, LabelSet, collect, decide, read_labels, write_labels
from hilum.errors import ConfigError, DataError, UsageError

RULES = LabelRules(least_accepted=4)


def label(number: int, source: str = "ann", probability: float = 0.3) -> Label:
    return Label(film_id=f"f{number:02d}", finding="covid-19", source=source, probability=probability)


def test_overrides_wait_in_quarantine_and_unlikely_ones_are_marked() -> None:
    found = collect(EMPTY, [label(1), label(2, probability=0.001)], RULES)
    assert [one.state for one in found.labels] == ["quarantined", "outlier"]
    assert found.accepted == ()
    assert collect(found, [label(1, "bob")], RULES) == found  # what is there stays


def test_a_source_can_not_accept_its_own_labels_nor_flood_the_set() -> None:
    found = collect(EMPTY, [label(i, "ann" if i < 6 else "bob") for i in range(9)], RULES)
    with pytest.raises(UsageError, match="'ann' gave this label"):
        decide(found, "f00", accept=True, by="ann", rules=RULES)
    for i in range(4):
        found = decide(found, f"f{i:02d}", accept=True, by="eve", rules=RULES)
    with pytest.raises(UsageError, match="5 of 5 accepted labels, more than 50 %"):
        decide(found, "f04", accept=True, by="eve", rules=RULES)
    for i in range(6, 9):
        if i < 8:
            found = decide(found, f"f{i:02d}", accept=True, by="eve", rules=RULES)
    rejected = decide(found, "f04", accept=False, by="eve", rules=RULES)
    assert {one.film_id: one.state for one in rejected.labels}["f04"] == "rejected"
    with pytest.raises(UsageError, match="is rejected already"):
        decide(rejected, "f04", accept=True, by="eve", rules=RULES)
    with pytest.raises(UsageError, match="no label of film f99"):
        decide(rejected, "f99", accept=True, by="eve", rules=RULES)


def test_two_new_labels_of_a_film_are_refused() -> None:
    with pytest.raises(DataError, match="1 films have two new labels"):
        collect(EMPTY, [label(1), label(1, "bob")], RULES)


def test_versions_follow_one_another_and_a_changed_one_is_found(tmp_path: Path) -> None:
    first = collect(EMPTY, [label(1)], RULES)
    second = decide(first, "f01", accept=True, by="bob", rules=RULES)
    for version in (first, second):
        write_labels(tmp_path, version)
    assert read_labels(tmp_path) == second
    assert second.parent_sha256 == first.sha256
    with pytest.raises(UsageError, match="is there with other labels"):
        write_labels(tmp_path, replace(second, labels=()))
    path = tmp_path / "labels-00001.json"
    path.write_text(path.read_text().replace("covid-19", "normal"))
    with pytest.raises(DataError, match="labels-00002.json doesn't follow the version before it"):
        read_labels(tmp_path)
    path.write_text("{")
    with pytest.raises(DataError, match="is no version of labels"):
        read_labels(tmp_path)
    assert read_labels(tmp_path / "none") == LabelSet(version=0, parent_sha256="", labels=())


def test_rules_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="most_of_one_source is 2"):
        LabelRules(most_of_one_source=2)
