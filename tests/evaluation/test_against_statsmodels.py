"""Agreement with statsmodels: intervals of shares, Holm, kappa, logistic regression with errors by patient."""

from collections.abc import Callable

import numpy as np
import pytest
import statsmodels.api as sm

from hilum.evaluation.audits import holm
from hilum.evaluation.calibration_parts import clopper_pearson, cox_line
from hilum.evaluation.intervals import wilson_interval
from hilum.evaluation.metrics import classes_of, confusion_matrix, kappa
from hilum.predictions import Predictions
from hilum.randomness import stream


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (3, 10), (40, 41), (500, 1000)])
def test_intervals_of_shares(hits: int, n: int) -> None:
    from statsmodels.stats.proportion import proportion_confint

    assert wilson_interval(hits / n, n) == pytest.approx(proportion_confint(hits, n, method="wilson"), abs=1e-12)
    assert clopper_pearson(hits, n) == pytest.approx(proportion_confint(hits, n, method="beta"), abs=1e-12)


def test_holm() -> None:
    from statsmodels.stats.multitest import multipletests

    values = stream(0, "holm").random(40) ** 3
    assert holm(values.tolist()) == pytest.approx(multipletests(values, method="holm")[1])


def test_kappa(make: Callable[..., Predictions]) -> None:
    from statsmodels.stats.inter_rater import cohens_kappa

    films = make(240)
    matrix = confusion_matrix(classes_of(films.targets, films.findings), films.probs.argmax(axis=1), 3)
    assert kappa(matrix) == pytest.approx(cohens_kappa(matrix).kappa)


def test_slope_and_intercept_with_errors_by_patient(make: Callable[..., Predictions]) -> None:
    films = make(400, temperature=2.0)
    probs, ill = films.probs[:, 1], classes_of(films.targets, films.findings) == 1
    found = cox_line(probs, ill, films.patient_ids, finding="pneumonia")
    odds = np.log(probs / (1 - probs))
    owner = np.unique(films.patient_ids, return_inverse=True)[1]
    # No correction there; here the usual one for few clusters, G / (G − 1).
    told = {"cov_type": "cluster", "cov_kwds": {"groups": owner, "use_correction": False}}
    wider = 1.959964 * np.sqrt(200 / 199)
    line = sm.Logit(ill, sm.add_constant(odds)).fit(disp=False, **told)
    shift = sm.GLM(ill, np.ones(len(ill)), family=sm.families.Binomial(), offset=odds).fit(**told)
    for ours, value, error in (
        (found.slope, line.params[1], line.bse[1]),
        (found.intercept, shift.params[0], shift.bse[0]),
    ):
        assert ours.value == pytest.approx(value, rel=1e-6, abs=1e-9)
        assert ours.high - ours.value == pytest.approx(wider * error, rel=1e-5)
