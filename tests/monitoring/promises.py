"""Site-years of synthetic records under watch: what the promises are counted on."""

from collections.abc import Iterator

import numpy as np
from tests.monitoring.joining import together

from hilum.monitoring.culprits import name_culprit
from hilum.monitoring.looks import Watched, persistent, watch
from hilum.monitoring.plan import WatchPlan
from hilum.monitoring.simulation import DAY_S, DRIFTS, START, Site, drifted, simulate

PLAN = WatchPlan(owner="quality manager", reference_days=70)
FILMS_STATED = 630
"""Films after a change within which it is found: three weeks of 30 films a day, about 2,100 films being usual."""


def alarms(watched: Watched) -> Iterator[int]:
    """Looks at which an alarm would be raised."""
    for number in range(2, len(watched.looks) + 1):
        if persistent(watched.looks[:number]):
            yield number


def stable_quarter(seed: int) -> int:
    """Looks with an alarm in a quarter where nothing changed."""
    films = simulate(Site(), 70 + 91, np.random.default_rng(seed))
    return len(list(alarms(watch(films, PLAN, now=START + (70 + 91) * DAY_S))))


def drift(name: str, seed: int) -> str | None:
    """What the monitor names after a drift; None when it doesn't find it within the stated films."""
    chance = np.random.default_rng(10_000 + seed)
    usual = simulate(Site(), 70, chance)
    changed = simulate(drifted(Site(), name), 21, chance, start=START + 70 * DAY_S)
    watched = watch(together(usual, changed), PLAN, now=START + 91.5 * DAY_S)
    for number in alarms(watched):
        both = together(watched.spans[number - 2], watched.spans[number - 1])
        return name_culprit(watched.reference, both).name
    return None


def rightly_named(name: str, found: list[str | None]) -> tuple[int, int]:
    """How many of the drifts were found, and how many of these were named rightly."""
    return sum(one is not None for one in found), sum(one == DRIFTS[name][0] for one in found)
