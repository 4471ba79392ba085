"""The promises on synthetic site-years: a stable site stays quiet, and what changes is found and rightly named.

Quick counts (20) are ``system``, full ones (200) are ``long``: they take CPU minutes, no other software.
"""

import pytest
from scipy import stats
from tests.monitoring.promises import PLAN, drift, rightly_named, stable_quarter

from hilum.monitoring.simulation import DRIFTS

COUNTS = [
    pytest.param(20, marks=pytest.mark.system, id="quick"),
    pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(3600)], id="full"),
]


@pytest.mark.parametrize("quarters", COUNTS)
def test_a_stable_site_stays_within_its_alarm_budget(quarters: int) -> None:
    found = [stable_quarter(seed) for seed in range(quarters)]
    assert max(found) <= 1
    assert sum(map(bool, found)) <= stats.binom.ppf(0.999, quarters, PLAN.false_alarms_a_quarter)


@pytest.mark.parametrize("runs", COUNTS)
@pytest.mark.parametrize("name", DRIFTS)
def test_a_drift_is_found_within_the_stated_films_and_rightly_named(name: str, runs: int) -> None:
    found, named = rightly_named(name, [drift(name, seed) for seed in range(runs)])
    assert found >= 0.9 * runs
    assert named >= 0.8 * found
