"""False alarms on clean cohorts, everything that a report shows as other than clear together.

Synthetic phantom films of two hospitals, 60 patients a cohort, each cohort of a seed of its own; nothing in a header, a
corner or a border goes with the finding. The network is one for all cohorts, fitted on 300 other clean patients: one
that is fitted on a few dozen films follows by chance what stands in their corners, and to say so is no false alarm.
"""

from collections import Counter

import pytest
from scipy.stats import beta
from tests.evaluation.phantoms import alarms, cohort, fitted

from hilum.evaluation.false_alarms import TOGETHER

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("cohorts", [20, 200], ids=["twenty", "two-hundred"])
def test_a_false_alarm_is_raised_on_at_most_five_percent_of_clean_cohorts(cohorts: int) -> None:
    """Of twenty and of two hundred cohorts; the bound stands in the message."""
    network = fitted(cohort(300, 99))
    found = {i: named for i in range(cohorts) if (named := alarms(cohort(60, 1000 + i), seed=i, network=network))}
    bound = beta.ppf(0.95, len(found) + 1, cohorts - len(found))
    said = (
        f"{len(found)} of {cohorts} clean cohorts raised an alarm (one-sided 95 % Clopper–Pearson bound {bound:.3f}): "
        f"{dict(Counter(name for named in found.values() for name in named))}"
    )
    print(said)
    assert len(found) <= TOGETHER * cohorts, said
