"""Audits of a network: answers that stand on the changed part are caught, others not."""

import numpy as np
import pytest

from hilum.errors import DataError
from hilum.evaluation.audits import concluded
from hilum.evaluation.calibration import softmax
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.network_audits import donors, fall_audit, stability_audit, swap_audit
from hilum.labels import CHEST
from hilum.randomness import stream

FEW = Resampling(resamples=200)
N = 120
CLASSES = np.arange(N) % 3
IDS = [f"p{i}" for i in range(N)]


def answers(skill: float, seed: int = 0) -> np.ndarray:
    logits = stream(seed, "answers").normal(size=(N, 3))
    logits[np.arange(N), CLASSES] += skill
    return softmax(logits)


def fall(after: np.ndarray) -> tuple[str, str, float]:
    row = fall_audit(answers(2.0), after, CLASSES, IDS, CHEST, covered="corners", settings=FEW)
    return concluded([row])[0].verdict, row.name, row.value.value


def test_an_answer_that_stood_in_the_corner_falls_when_it_is_covered() -> None:
    assert fall(answers(2.0)) == ("clear", "corners covered", 0.0)
    verdict, _, value = fall(answers(0.0))
    assert verdict == "alarm"
    assert value > 0.3


def test_a_fall_says_how_many_films_had_anything_to_cover() -> None:
    touched = np.arange(N) < 7
    row = fall_audit(answers(2), answers(2), CLASSES, IDS, CHEST, covered="text", settings=FEW, touched=touched)
    assert row.about == "7 of 120 films have any"
    two = fall_audit(answers(2), answers(2), CLASSES * 0, IDS, CHEST, covered="text", settings=FEW)
    assert two.value.reason == "Fewer than two findings have 5 patients."


def test_donors_are_other_patients_of_the_same_source() -> None:
    sources = ["a" if i < 60 else "b" for i in range(N)]
    owners = [f"p{i // 2}" for i in range(N)]
    rows, same, other, wears = donors(CLASSES, owners, sources, seed=1)
    assert len(rows) == N
    for row, alike, unlike, worn in zip(rows, same, other, wears, strict=True):
        assert CLASSES[alike] == CLASSES[row] != CLASSES[unlike] == worn
        assert sources[alike] == sources[unlike] == sources[row]
        assert owners[row] not in (owners[alike], owners[unlike])
    assert len(donors(np.zeros(4, int), ["a", "b", "c", "d"])[0]) == 0


def test_answers_that_follow_the_corners_are_caught() -> None:
    _, _, _, wears = donors(CLASSES, IDS)
    same, other = answers(1.0), answers(1.0, seed=1)
    row = swap_audit(same, other, CLASSES, wears, IDS, settings=FEW)
    assert concluded([row])[0].verdict == "clear"
    followed = 0.8 * other + 0.2 * np.eye(3)[wears]
    row = swap_audit(same, followed, CLASSES, wears, IDS, settings=FEW)
    assert concluded([row])[0].verdict == "alarm"
    assert row.value.value == pytest.approx((followed - same)[np.arange(N), wears].mean())
    few = swap_audit(same[:6], other[:6], CLASSES[:6], wears[:6], IDS[:6], settings=FEW)
    assert few.value.reason == "Fewer than 10 patients can be asked."


def test_stability_counts_answers_that_change() -> None:
    before = np.tile([0.6, 0.3, 0.1], (N, 1))
    after = before.copy()
    after[:12] = [0.3, 0.6, 0.1]
    row = stability_audit(before, after, IDS, change="JPEG of quality 50", settings=FEW)
    assert row.value.value == pytest.approx(0.1)
    assert row.value.low < 0.1 < row.value.high
    assert "mean change of probability 0.020" in row.sentence
    assert concluded([row])[0].verdict == "clear"
    after[:60] = [0.3, 0.6, 0.1]
    assert concluded([stability_audit(before, after, IDS, change="x", settings=FEW)])[0].verdict == "alarm"


def test_answers_that_do_not_match_or_are_missing_are_refused() -> None:
    with pytest.raises(DataError, match=r"Answers \(120, 3\) and \(119, 3\) for 120 films don't match"):
        fall(answers(1)[:-1])
    broken = answers(1)
    broken[0, 0] = np.nan
    with pytest.raises(DataError, match="Some answers are not finite"):
        fall(broken)
