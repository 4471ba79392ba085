"""The commonly quoted rule of thumb on over-fitting, and whether it says what the curves say."""

from dataclasses import dataclass
from typing import Literal

from hilum.errors import DataError
from hilum.evaluation.fitting_diagnosis import Diagnosis, points

GENERALISES_BELOW = 0.05
"""Gap, in 0 … 1, below which the rule says: generalises."""
OVERFITS_ABOVE = (0.10, 0.15)
"""Gap above which the rule says: overfits; the stricter and the more lenient figure that are quoted."""

Word = Literal["overfits", "overfits by the stricter figure", "in between", "generalises"]
Agreement = Literal["agrees", "disagrees", "says nothing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GapRule:
    """What the rule says of one training."""

    gap: float
    """Training minus validation accuracy, 0 … 1."""
    word: Word
    """What it says."""


def gap_rule(train_accuracy: float, validation_accuracy: float) -> GapRule:
    """The rule of thumb: a gap above 10 to 15 points overfits, one below 5 generalises.

    It looks at one number of the last epoch, and neither at the course of validation loss nor at how well the training
    images are learnt. No derivation of its figures is known to us.

    Args:
        train_accuracy: at the end, 0 … 1.
        validation_accuracy: at the end, 0 … 1.

    Raises:
        DataError: an accuracy outside 0 … 1.
    """
    for name, value in (("train_accuracy", train_accuracy), ("validation_accuracy", validation_accuracy)):
        if not 0 <= value <= 1:
            raise DataError(f"{name} is {value:g}, but must be in 0 … 1, not per cent.")
    gap = train_accuracy - validation_accuracy
    strict, lenient = OVERFITS_ABOVE
    if gap > lenient:
        return GapRule(gap=gap, word="overfits")
    if gap > strict:
        return GapRule(gap=gap, word="overfits by the stricter figure")
    return GapRule(gap=gap, word="generalises" if gap < GENERALISES_BELOW else "in between")


def agreement(diagnosis: Diagnosis, rule: GapRule) -> tuple[Agreement, str]:
    """Compare the rule of thumb with the curves.

    Returns:
        the agreement, and a sentence that says why.
    """
    said = f"With a gap of {points(rule.gap)} the rule says: {rule.word}; the curves say: {diagnosis.verdict}"
    if diagnosis.verdict == "not enough epochs to say" or rule.word == "in between":
        return "says nothing", f"{said}."
    if rule.word == "generalises":
        reasons = {
            "underfits": "the gap is small because the training images are not learnt either",
            "overfits": "the gap is small, but validation loss no longer falls",
        }
    else:
        reasons = {
            "underfits": "validation loss still falls, so more training helps",
            "fits": "validation loss has not risen beyond noise, so an earlier stop would gain nothing",
        }
    if diagnosis.verdict not in reasons:
        return "agrees", f"{said}."
    return "disagrees", f"{said}; {reasons[diagnosis.verdict]}."
