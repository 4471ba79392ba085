"""The weekly self-test: drifts are injected into the site's own reference, and the monitor must find and name them.

Films of the reference that the look is not compared with are drawn anew, changed and looked at, as if they had come. So
it is the site's own data, sizes and plan that are tested, and no record is touched.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hilum.arrays import Array
from hilum.errors import DataError
from hilum.monitoring.culprits import name_culprit
from hilum.monitoring.looks import look, one_a_patient, persistent
from hilum.monitoring.plan import WatchPlan
from hilum.randomness import stream
from hilum.records.observations import STATISTICS, Classes, Observations

NOTHING = "nothing changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Injected:
    """What became of one injected drift."""

    drift: str
    """Its name; :data:`NOTHING` for the control."""
    expected: str
    """The attribute that is to be named; empty for the control."""
    found: bool
    """Whether two looks in a row fired."""
    named: str
    """What the domain classifier named."""

    @property
    def passed(self) -> bool:
        """Found and rightly named; the control: not found."""
        return (not self.found) if not self.expected else (self.found and self.named == self.expected)


def self_test(reference: Observations, plan: WatchPlan, *, films: int, week: int = 0) -> tuple[Injected, ...]:
    """Inject each drift and look twice.

    Args:
        reference: what is usual.
        plan: how the site is watched.
        films: of a look; more than a quarter of the reference are not to be had, since the two windows and the halves
            that they are compared with may share no film.
        week: number of the week, so that each test draws other films.

    Raises:
        DataError: the reference is too small for two looks.
    """
    reference = one_a_patient(reference, plan)
    films = min(films, len(reference) // 4)
    if films < plan.least_films:
        raise DataError(
            f"The reference holds {len(reference)} film{'s' if len(reference) != 1 else ''}; a self-test needs "
            f"{4 * plan.least_films} for two looks of {plan.least_films} and what they are compared with. "
            "Wait until more were answered."
        )
    rng = stream(plan.seed, "self-test", week)
    kept, windows = _parts(reference, films, rng)
    done = []
    for drift, (expected, inject) in INJECTIONS.items():
        spans = [inject(one, rng) for one in windows]
        # Drawn anew: levels that an injection adds must be known to the reference's columns too.
        base = replace(kept, groups=_levels(kept, spans[0]))
        looks = [look(base, span, replace(plan, least_reference=1), number=i + 1) for i, span in enumerate(spans)]
        fired = bool(persistent(looks))
        done.append(
            Injected(
                drift=drift,
                expected=expected,
                found=fired,
                named=name_culprit(base, spans[1], seed=plan.seed).name if fired else "",
            )
        )
    return tuple(done)


def _parts(
    reference: Observations, films: int, rng: np.random.Generator
) -> tuple[Observations, tuple[Observations, ...]]:
    """Two windows, and the films that are left; no film twice."""
    order = rng.permutation(len(reference))
    windows = tuple(reference.select(np.sort(order[i * films : (i + 1) * films])) for i in range(2))
    return reference.select(np.sort(order[2 * films :])), windows


def _levels(kept: Observations, span: Observations) -> dict[str, Classes]:
    return {name: Classes(codes=one.codes, levels=span.groups[name].levels) for name, one in kept.groups.items()}


def _with_class(films: Observations, column: str, rows: Array, level: str) -> Observations:
    one = films.groups[column]
    levels = one.levels if level in one.levels else (*one.levels, level)
    codes = one.codes.copy()
    codes[rows] = levels.index(level)
    return replace(films, groups={**films.groups, column: Classes(codes=codes, levels=levels)})


def _some(films: Observations, share: float, rng: np.random.Generator) -> Array:
    chosen: Array = rng.random(len(films)) < share
    return chosen


def _new_device(films: Observations, rng: np.random.Generator) -> Observations:
    return _with_class(films, "device", _some(films, 0.4, rng), "self-test: injected device")


def _view_mix(films: Observations, rng: np.random.Generator) -> Observations:
    return _with_class(films, "view_position", _some(films, 0.4, rng), "self-test: injected view")


def _population(films: Observations, rng: np.random.Generator) -> Observations:
    return _with_class(films, "age_band", _some(films, 0.4, rng), "self-test: injected band")


def _exposure(films: Observations, rng: np.random.Generator) -> Observations:
    statistics = films.statistics.copy()
    column = STATISTICS.index("mean")
    statistics[:, column] += 1.0 * statistics[:, column].std()
    return replace(films, statistics=statistics)


def _inverted(films: Observations, rng: np.random.Generator) -> Observations:
    statistics, rows = films.statistics.copy(), _some(films, 0.4, rng)
    mean, fit = STATISTICS.index("mean"), STATISTICS.index("frontal_fit")
    black, white = STATISTICS.index("black_share"), STATISTICS.index("white_share")
    statistics[rows, mean], statistics[rows, fit] = 1 - statistics[rows, mean], -statistics[rows, fit]
    statistics[rows, black], statistics[rows, white] = statistics[rows, white], statistics[rows, black]
    return replace(films, statistics=statistics)


def _prevalence(films: Observations, rng: np.random.Generator) -> Observations:
    """Films that score low for the first finding are drawn four times as often."""
    low = np.nan_to_num(films.scores[:, 0], nan=1.0) < 0.5
    weights = np.where(low, 4.0, 1.0)
    drawn = rng.choice(len(films), len(films), p=weights / weights.sum())
    return replace(films, scores=films.scores[drawn], features=films.features[drawn], outcome=films.outcome[drawn])


def _nothing(films: Observations, rng: np.random.Generator) -> Observations:
    return films


INJECTIONS: dict[str, tuple[str, Callable[[Observations, np.random.Generator], Observations]]] = {
    NOTHING: ("", _nothing),
    "new device": ("device", _new_device),
    "exposure": ("exposure", _exposure),
    "prevalence": ("prevalence", _prevalence),
    "view mix": ("view position", _view_mix),
    "sub-population": ("population", _population),
    "inverted polarity": ("polarity", _inverted),
}
"""What is injected, and the attribute that must be named."""
