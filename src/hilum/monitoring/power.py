"""How much must change before the monitor finds it: the least detectable effect at the films that a look has."""

import math
from dataclasses import dataclass

from hilum.monitoring.plan import WatchPlan

POWER = 0.9
"""Chance with which two looks in a row find the effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detectable:
    """The least effects that two looks in a row find with a chance of :data:`POWER`."""

    films: int
    """Films of a look."""
    reference: int
    """Films of a half of the reference."""
    level: float
    """p-value that the first of the look's streams must reach (Holm's strictest)."""
    share: float
    """Difference of shares, around one half, where it is hardest to see."""
    rare_share: float
    """Difference of shares, from 5 % upwards."""
    distance: float
    """Kolmogorov-Smirnov distance of numbers."""

    @property
    def sentence(self) -> str:
        """The same for a person."""
        return (
            f"With {self.films} films a look and {self.reference} in half of the reference, a change is found within "
            f"two looks with a chance of {100 * POWER:.0f} % when a share moves by {100 * self.share:.0f} points "
            f"(from 5 % by {100 * self.rare_share:.0f}), or when a number's distribution moves by a "
            f"Kolmogorov-Smirnov distance of {self.distance:.2f}. Smaller changes may pass unseen."
        )


def detectable(plan: WatchPlan, *, films: int, reference: int, streams: int) -> Detectable:
    """The least detectable effects.

    Both looks must find it, each with the root of the power. A stream is judged at Holm's strictest level, so that the
    statement holds when it is the only one that changed. Distances: the critical value of Kolmogorov and Smirnov's
    limit plus what the estimate may fall short by, whose standard deviation is at most ½·√(1/n + 1/m).

    Args:
        plan: how the site is watched.
        films: of a look.
        reference: of a half of the reference.
        streams: that are compared.
    """
    from scipy.special import ndtri

    level = plan.look_level / max(1, streams)
    short, strict = float(ndtri(math.sqrt(POWER))), float(ndtri(1 - level / 2))
    inverse = 1 / films + 1 / reference
    distance = (math.sqrt(-math.log(level / 2) / 2) + short / 2) * math.sqrt(inverse)
    return Detectable(
        films=films,
        reference=reference,
        level=level,
        share=max(plan.share_floor, (strict + short) * math.sqrt(0.25 * inverse)),
        rare_share=max(plan.share_floor, _from(0.05, films, reference, strict, short)),
        distance=min(1.0, max(plan.distance_floor, distance)),
    )


def _from(share: float, films: int, reference: int, strict: float, short: float) -> float:
    """Least rise from a share that is found: the smallest that its own spread lets through."""
    rise = 0.0
    while rise < 1 - share:
        rise += 0.001
        after = share + rise
        pooled = (share * reference + after * films) / (reference + films)
        null = math.sqrt(pooled * (1 - pooled) * (1 / films + 1 / reference))
        spread = math.sqrt(share * (1 - share) / reference + after * (1 - after) / films)
        if rise >= strict * null + short * spread:
            break
    return rise
