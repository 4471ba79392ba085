"""Does a training under-fit, fit or over-fit, from which epoch, and for want of what: computed from its curves.

Every threshold is a field of :class:`FittingThresholds`. How it decides, in this order:

1. Fewer epochs than ``fewest_epochs``: *not enough epochs to say*.
2. Validation loss has a lowest epoch and ends above it beyond noise: *overfits*, from the epoch after the lowest. So
   does a training whose validation loss has settled while the gap between training and validation accuracy still
   grows, from the epoch after it settled.
3. But with a gap, and noise that would hide a rise of ``blind_share``: *not enough epochs to say*.
4. The training images themselves are not learnt (``enough_accuracy``), and either both losses still fall, or training
   has come to a halt without a gap: *underfits*.
5. Else it *fits*.

What would help is read from the slope of training loss at the end, and from the gap: *still training* while both losses
fall and the training images are not learnt, *short of data* with a gap, *short of capacity* without one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hilum.errors import ConfigError
from hilum.evaluation.fitting_curves import FitCurves, FitFacts, read_curves

Verdict = Literal["underfits", "fits", "overfits", "not enough epochs to say"]
"""What the curves say."""

Limit = Literal["still training", "short of data", "short of capacity", "nothing shown", "unknown"]
"""What would help: more epochs; more, or more varied, data; a larger network or less regularisation; nothing that the
curves show; or it can't be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FittingThresholds:
    """From what on a difference counts.

    Raises:
        ConfigError: values out of range, all of them at once.
    """

    fewest_epochs: int = 6
    """Epochs below which nothing is said, ≥ 3: the noise is estimated from second differences."""
    tail_share: float = 0.25
    """Share of the epochs, at the end, that slopes and end values are taken over; two epochs at least."""
    rise_errors: float = 4.0
    """Standard errors from which on a rise of validation loss above its lowest value counts; the lowest of many noisy
    values lies below the truth by chance, so 2 would be too few."""
    rise_share: float = 0.02
    """And share of the lowest value from which on it counts: a smaller rise may be certain, but doesn't matter."""
    blind_share: float = 0.25
    """With a gap, noise that would hide a rise of this share of the lowest validation loss leaves nothing to say."""
    still_falling: float = 0.01
    """Share by which a loss must fall in an epoch, at the end, to count as still falling."""
    fall_errors: float = 2.0
    """And standard errors by which it must fall."""
    gap_growth: float = 0.03
    """Growth of the accuracy gap, in 0 … 1, that counts once validation loss has settled."""
    growth_errors: float = 3.0
    """And standard errors by which the gap must have grown."""
    settled_share: float = 0.01
    """Share of the lowest validation loss, beside noise, within which it counts as settled."""
    small_gap: float = 0.05
    """Accuracy gap, in 0 … 1, below which training and validation images fare alike."""
    enough_accuracy: float = 0.9
    """Accuracy on training images from which on they count as learnt."""
    gain_per_doubling: float = 0.01
    """Validation accuracy, in 0 … 1, that twice the images must bring for more data to count as a help."""

    def __post_init__(self) -> None:
        others = ("fewest_epochs", "rise_errors", "fall_errors", "growth_errors")
        shares = [name for name in self.__dataclass_fields__ if name not in others]
        problems = [
            f"FittingThresholds.{name} is {getattr(self, name)}, but must lie between 0 and 1."
            for name in shares
            if not 0 < getattr(self, name) < 1
        ]
        if self.fewest_epochs < 3:
            problems.append(f"FittingThresholds.fewest_epochs is {self.fewest_epochs}, but must be 3 or more.")
        problems += [
            f"FittingThresholds.{name} is {getattr(self, name)}, but must be above 0."
            for name in others[1:]
            if not getattr(self, name) > 0
        ]
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What the curves say, and the numbers that it rests on."""

    verdict: Verdict
    """The verdict."""
    limit: Limit
    """What would help."""
    from_epoch: int | None
    """First epoch of over-fitting, from 1; None without."""
    rise_needed: float
    """Rise of validation loss that would count."""
    facts: FitFacts
    """What was read off the curves."""
    sentence: str
    """Verdict and limit, in words with numbers."""


def diagnose(
    curves: FitCurves,
    thresholds: FittingThresholds = FittingThresholds(),
    *,
    learning_curve: Sequence[tuple[int, float]] = (),
) -> Diagnosis:
    """Read the curves of one training.

    Args:
        curves: loss and accuracy of each epoch.
        thresholds: from what on a difference counts.
        learning_curve: (training images, validation accuracy 0 … 1) of trainings that are alike but for the number of
            images; two or more sizes, or none. The last doubling counts.

    Raises:
        DataError: a learning curve of one size, or with a value that is no accuracy.
    """
    facts = read_curves(
        curves,
        tail_share=thresholds.tail_share,
        settled_share=thresholds.settled_share,
        learning_curve=learning_curve,
    )
    case = _Case(facts, thresholds)
    verdict = case.verdict()
    limit = case.limit(verdict)
    return Diagnosis(
        verdict=verdict,
        limit=limit,
        from_epoch=case.turn + 1 if verdict == "overfits" else None,
        rise_needed=case.rise_needed,
        facts=facts,
        sentence=f"{case.fit_in_words(verdict)} {case.limit_in_words(limit)}",
    )


class _Case:
    """The numbers of one training with the thresholds that they are held against."""

    def __init__(self, facts: FitFacts, thresholds: FittingThresholds) -> None:
        self.facts, self.thresholds = facts, thresholds
        self.hidden = thresholds.rise_errors * facts.rise_error
        # In this order: below three epochs the noise is NaN.
        self.rise_needed = max(thresholds.rise_share * facts.best_loss, self.hidden)
        self.rises = facts.rise > self.rise_needed
        self.turn = facts.best_epoch if self.rises else facts.settled_epoch

    def verdict(self) -> Verdict:
        """Whether it under-fits, fits or over-fits."""
        facts, limits = self.facts, self.thresholds
        if facts.epochs < limits.fewest_epochs:
            return "not enough epochs to say"
        if self.rises:
            return "overfits"
        if facts.gap >= limits.small_gap and self.hidden > limits.blind_share * facts.best_loss:
            return "not enough epochs to say"
        if self._settled_and_parting():
            return "overfits"
        if self._still_training() or (facts.gap < limits.small_gap and not self._learnt()):
            return "underfits"
        return "fits"

    def limit(self, verdict: Verdict) -> Limit:
        """What would help."""
        if verdict == "not enough epochs to say":
            return "unknown"
        if verdict != "overfits" and self._still_training():
            return "still training"
        if self.facts.gap >= self.thresholds.small_gap:
            return "short of data"
        return "nothing shown" if self._learnt() else "short of capacity"

    def _learnt(self) -> bool:
        return self.facts.train_accuracy >= self.thresholds.enough_accuracy

    def _improving(self) -> bool:
        """Validation loss was not yet as low before the last epochs."""
        return self.facts.epochs - self.facts.settled_epoch < max(self.facts.tail, 3)

    def _settled_and_parting(self) -> bool:
        """Validation loss has settled, and since then training images alone got better."""
        facts, limits = self.facts, self.thresholds
        least = max(limits.gap_growth, limits.growth_errors * facts.gap_growth_error)
        return facts.gap - facts.gap_when_settled >= least and not self._improving()

    def _still_training(self) -> bool:
        """The training images are not learnt yet, and both losses fall."""
        least = max(self.thresholds.still_falling, self.thresholds.fall_errors * self.facts.train_fall_error)
        return not self._learnt() and self.facts.train_fall >= least and self._improving()

    def fit_in_words(self, verdict: Verdict) -> str:
        """One sentence on the verdict."""
        facts, accuracies = self.facts, self._accuracies()
        if verdict == "overfits":
            return self._overfitting_in_words()
        if verdict == "underfits":
            return f"Underfits: {accuracies}, so the training images themselves are not learnt."
        if verdict == "fits":
            return (
                f"Fits: validation loss ends {facts.rise:.3g} above its lowest value of {facts.best_loss:.3g} (epoch "
                f"{facts.best_epoch}; {self.rise_needed:.3g} would count); {accuracies}."
            )
        if facts.epochs < self.thresholds.fewest_epochs:
            least = self.thresholds.fewest_epochs
            return f"Not enough epochs to say: {facts.epochs}, and {least} are the least; {accuracies}."
        return (
            f"Not enough epochs to say: validation loss jumps by {facts.noise:.3g} from epoch to epoch, which would "
            f"hide a rise of {self.hidden:.3g} above its lowest value, {facts.best_loss:.3g}; {accuracies}."
        )

    def _accuracies(self) -> str:
        facts = self.facts
        return (
            f"accuracy at the end is {100 * facts.train_accuracy:.1f} % on training and "
            f"{100 * facts.validation_accuracy:.1f} % on validation images, a gap of {points(facts.gap)}"
        )

    def _overfitting_in_words(self) -> str:
        facts = self.facts
        begun = f"Overfits from epoch {self.turn + 1} of {facts.epochs}: validation loss "
        begun += (
            f"was lowest in epoch {facts.best_epoch} ({facts.best_loss:.3g}) and ends {facts.rise:.3g} above "
            f"({self.rise_needed:.3g} would count)"
            if self.rises
            else f"has hardly fallen since epoch {self.turn} ({facts.best_loss:.3g} at its lowest)"
        )
        change = facts.accuracy_change
        meanwhile = "validation accuracy stayed where it was"
        if change > CHANGE_SEEN:
            meanwhile = f"validation accuracy still rose by {points(change)}: the network grows too sure, not worse"
        elif change < -CHANGE_SEEN:
            meanwhile = f"validation accuracy fell by {points(-change)}"
        grown = f"the gap was {points(facts.gap_when_settled)} in epoch {facts.settled_epoch}"
        return f"{begun}. Meanwhile {meanwhile}; {self._accuracies()} ({grown})."

    def limit_in_words(self, limit: Limit) -> str:
        """One sentence on what would help."""
        facts = self.facts
        if limit == "unknown":
            return "What is wanting can't be told yet."
        fall = f"{100 * facts.train_fall:.1f} % an epoch"
        if limit == "still training":
            return f"Still training: training loss falls by {fall} at the end, so more epochs come first."
        if limit == "short of capacity":
            return (
                f"Short of capacity: training loss has come to a halt ({fall}) without a gap, so a larger network, "
                "another rate or less regularisation comes first."
            )
        if limit == "nothing shown":
            return "The training images are learnt and the gap is small: the curves show nothing that is wanting."
        gain = facts.gain_per_doubling
        if gain is None:
            return "Short of data by its gap: more, or more varied, images come first; no learning curve was measured."
        if gain >= self.thresholds.gain_per_doubling:
            return f"Short of data: the gap says so, and twice the images bring {points(gain)} of validation accuracy."
        return (
            f"Short of data by its gap, but twice the images bring only {points(gain)} of validation accuracy: "
            "regularisation or another kind of images comes first."
        )


CHANGE_SEEN = 0.005
"""Change of validation accuracy, in 0 … 1, that is worth a word."""


def points(share: float) -> str:
    """A difference of shares as percentage points: ``4.2 points``."""
    return f"{100 * share:.1f} points"
