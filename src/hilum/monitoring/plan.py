"""How a site is watched: the one place where the alarm budget, the looks and the floors are written down."""

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path

from hilum.config import from_mapping
from hilum.errors import ConfigError

DAYS_A_QUARTER = 91
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchPlan:
    """How a site is watched.

    The budget holds by construction. A look compares the films of one span with one half of the reference, odd looks
    with the first half and even ones with the second, so the p-values of two looks in a row share no film. Within a
    look all streams are one family (Holm) at level ``look_level``; an alarm needs the same stream in two looks in a
    row. Where nothing changed, that happens in a look with a chance of at most ``look_level`` squared; and
    ``look_level`` is chosen so that the looks of a quarter together stay within ``false_alarms_a_quarter``.
    """

    owner: str
    """Who answers for an alarm: a person's or a role's name."""
    site: str = "this site"
    """What pages call it."""
    false_alarms_a_quarter: float = 0.05
    """Most false alarms to be expected in a quarter where nothing changed; above 0, at most 1."""
    look_days: int = 7
    """Days from one look to the next."""
    least_films: int = 50
    """Fewer films make no look: their span is joined to the next."""
    reference_days: int = 91
    """Days from the first film that are the reference; nothing is watched before they are over."""
    least_reference: int = 400
    """Fewer films are no reference, however many days went by."""
    share_floor: float = 0.05
    """Least difference of shares (outcomes) and least total variation distance (classes) that matters."""
    distance_floor: float = 0.10
    """Least Kolmogorov-Smirnov distance of numbers that matters."""
    features_floor: float = 0.05
    """Least discrepancy of features (the root of MMD²) that matters."""
    quiet_looks: int = 4
    """An alarm closes by itself after so many looks in a row without a finding."""
    seed: int = 0
    """Of the permutations: the same records and plan give the same looks."""
    day_s: float = DAY_S
    """Seconds of a day: shorter in a rehearsal alone, where weeks are to pass in minutes."""

    def __post_init__(self) -> None:
        problems = []
        if not self.owner.strip():
            problems.append("owner is empty. Name who answers for an alarm.")
        if not 0 < self.false_alarms_a_quarter <= 1:
            problems.append(
                f"false_alarms_a_quarter is {self.false_alarms_a_quarter}, but must lie above 0 and be at most 1."
            )
        for name in ("look_days", "least_films", "reference_days", "least_reference", "quiet_looks"):
            if getattr(self, name) < 1:
                problems.append(f"{name} is {getattr(self, name)}, but must be 1 or more.")
        for name in ("share_floor", "distance_floor", "features_floor"):
            if not 0 <= getattr(self, name) < 1:
                problems.append(f"{name} is {getattr(self, name)}, but must lie in 0 … 1, without 1.")
        if not 0 < self.day_s <= DAY_S:
            problems.append(f"day_s is {self.day_s}, but must lie above 0 and be at most {DAY_S:g}.")
        if problems:
            raise ConfigError(problems)

    @property
    def looks_a_quarter(self) -> int:
        """Looks in a quarter."""
        return max(1, DAYS_A_QUARTER // self.look_days)

    @property
    def look_level(self) -> float:
        """Chance that a look finds anything where nothing changed."""
        return math.sqrt(self.false_alarms_a_quarter / self.looks_a_quarter)


def read_watch_plan(path: Path) -> WatchPlan:
    """A site's plan from a TOML file; fields that are left out keep their defaults.

    Raises:
        ConfigError: the file can't be read, or fields are unknown or wrong, all of them at once.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            [f"The plan {path} can't be read as TOML ({type(error).__name__}). Check the file."]
        ) from None
    return from_mapping(WatchPlan, values, where=path.name)
