"""Triage thresholds come from validation films, and what they put off is counted on the tested ones."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hilum.evaluation.calibration_parts import clopper_pearson
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.triage import cases_per_thousand, triage, workload_curve
from hilum.labels import Findings
from hilum.predictions import Predictions

FEW = Resampling(resamples=60)


def test_thresholds_hold_on_the_films_that_chose_them_and_are_counted_on_others(
    make: Callable[..., Predictions],
) -> None:
    validation, films = make(300, seed=1), make(300, seed=2)
    column = films.findings.index("normal")
    table = triage(validation, films, settings=FEW)
    assert table is not None
    same = triage(validation, validation, settings=FEW)
    assert same is not None
    for row, own in zip(table.rows, same.rows, strict=True):
        assert own.sensitivity.value >= own.floor
        assert own.threshold == row.threshold
        first = 1 - films.probs[:, column] >= row.threshold
        ill = films.targets[:, column] == 0
        assert row.first.value == pytest.approx(first.mean())
        assert row.sensitivity.value == pytest.approx((first & ill).sum() / ill.sum())
        assert (row.later, row.later_abnormal) == ((~first).sum(), (~first & ill).sum())
        assert sum(row.missed_by_finding.values()) == row.later_abnormal
        assert cases_per_thousand(row, 300) == pytest.approx(1000 * row.later_abnormal / 300)
    work = [row.first.value for row in table.rows]
    assert work == sorted(work)
    assert work[0] < work[-1]


def test_cases_among_films_read_later_have_an_exact_interval_by_patient(make: Callable[..., Predictions]) -> None:
    validation, films = make(300, seed=1, per_patient=1), make(300, seed=2, per_patient=1)
    table = triage(validation, films, settings=FEW)
    assert table is not None
    row = table.rows[1]
    expected = clopper_pearson(row.later_abnormal, row.later)
    assert row.later_abnormal_share.interval == pytest.approx(expected)
    assert row.later_abnormal_share.patients == row.later


def test_where_no_finding_means_health_there_is_no_triage(make: Callable[..., Predictions]) -> None:
    films = replace(make(60), findings=Findings(("a", "b", "c")))
    assert triage(films, films, settings=FEW) is None


def test_what_can_not_be_chosen_or_measured_says_why(make: Callable[..., Predictions]) -> None:
    films = make(60)
    healthy = films.select(np.flatnonzero(films.targets[:, films.findings.index("normal")] == 1))
    broken = replace(films, probs=np.where(np.arange(60)[:, None] == 3, np.nan, films.probs))
    for validation, tested, reason in (
        (healthy, films, "The validation films are all normal."),
        (films, healthy, "The tested films are all normal."),
        (films, broken, "1 tested films have no probability (NaN)."),
        (films.select(np.arange(0)), films, "There is no labelled validation film."),
    ):
        table = triage(validation, tested, settings=FEW)
        assert table is not None
        assert {row.reason for row in table.rows} == {reason}
        assert not any(row.first.estimable for row in table.rows)
        assert math.isnan(cases_per_thousand(table.rows[0], 60))


def test_the_workload_curve_runs_from_nothing_to_all_and_lies_above_chance(make: Callable[..., Predictions]) -> None:
    read, found = workload_curve(make(300))
    assert (read[0], found[0], read[-1], found[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert (np.diff(found) >= 0).all()
    assert found[50] > 0.6  # of 200 abnormal among 300, when half of all are read


def test_films_that_are_equally_suspicious_are_read_in_any_order(make: Callable[..., Predictions]) -> None:
    films = make(60)
    even = replace(films, probs=np.full((60, 3), 1 / 3))
    read, found = workload_curve(even)
    np.testing.assert_allclose(found, read)
    assert len(workload_curve(films.select(np.arange(0)))[0]) == 0
