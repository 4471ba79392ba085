"""What a test set can resolve: the least margin for its size, and the size for a margin.

A margin that the test set can't resolve is theatre: with 100 films of a finding an equal model would fail a margin of
0.02 nearly always, and whoever wants it passed goes on asking until chance lets it.
"""

import math
from dataclasses import dataclass

from hilum.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What a paired comparison of AUROCs can tell."""

    error: float
    """Standard error of the difference."""
    least_margin: float
    """Smallest margin that an equal model passes with the power asked for."""
    needed: float
    """How many times as many patients the margin needs; at most 1 when it is resolved."""

    @property
    def resolved(self) -> bool:
        """True when the margin is not below the least one."""
        return self.needed <= 1.0


def resolution(error: float, margin: float, *, alpha: float, power: float) -> Resolution:
    """What a standard error means for a margin.

    Args:
        error: of the paired difference of AUROCs.
        margin: that is to be resolved.
        alpha: one-sided.
        power: chance that an equal model passes.
    """
    from scipy.special import ndtri

    least = float(ndtri(1 - alpha) + ndtri(power)) * error
    return Resolution(error=error, least_margin=least, needed=(least / margin) ** 2)


def hanley_mcneil(auroc: float, positives: int, negatives: int) -> float:
    """Standard error of an AUROC before there are data.

    Raises:
        UsageError: an AUROC outside 0.5 … 1, or a side without films.

    Source: Hanley and McNeil 1982, Radiology 143:29, doi:10.1148/radiology.143.1.7063747.
    """
    if not 0.5 <= auroc <= 1 or positives < 1 or negatives < 1:
        raise UsageError(
            f"An AUROC of {auroc} with {positives} and {negatives} films has no standard error. Give an AUROC in "
            "0.5 … 1 and at least one film of each kind."
        )
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    spread = auroc * (1 - auroc) + (positives - 1) * (q1 - auroc**2) + (negatives - 1) * (q2 - auroc**2)
    return math.sqrt(spread / (positives * negatives))


def least_margin(
    positives: int,
    negatives: int,
    *,
    auroc: float = 0.9,
    correlation: float = 0.6,
    alpha: float = 0.025,
    power: float = 0.8,
) -> float:
    """Smallest margin that a test set resolves, before there is a candidate.

    Args:
        positives: films with the finding.
        negatives: films without it.
        auroc: of the current model.
        correlation: of both models' AUROCs over test sets; 0.6 is usual for a model and its successor.
        alpha: one-sided.
        power: chance that an equal model passes.
    """
    error = hanley_mcneil(auroc, positives, negatives) * math.sqrt(2 * (1 - correlation))
    return resolution(error, 1.0, alpha=alpha, power=power).least_margin
