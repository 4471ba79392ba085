"""Differences on the same films: by hand, and against the figures of each."""

import numpy as np
import pytest

from hilum.errors import DataError
from hilum.evaluation.differences import auroc_tests, differences
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.scorecard import score
from hilum.labels import Findings
from hilum.predictions import Predictions

FINDINGS = Findings(("a", "b", "c"))


def predictions(noise: float, count: int = 120, *, classes: int = 3, patients: int = 60) -> Predictions:
    chance = np.random.default_rng(5)
    truth = np.arange(count) % classes
    logits = 2 * np.eye(3)[truth] + chance.normal(0, 1, (count, 3)) + noise * chance.normal(0, 1, (count, 3))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions(
        findings=FINDINGS,
        film_ids=tuple(f"film-{i}" for i in range(count)),
        patient_ids=tuple(f"patient-{i % patients}" for i in range(count)),
        logits=logits,
        probs=probs,
        targets=np.eye(3)[truth],
    )


def test_the_difference_is_that_of_the_scorecards() -> None:
    """And its interval lies above zero when one model is clearly better."""
    good, bad = predictions(0.0), predictions(3.0)
    settings = Resampling(resamples=200)
    found = differences(good, bad, settings)
    cards = [score(films, resamples=20) for films in (good, bad)]
    for name in ("macro_auroc", "balanced_accuracy"):
        values = [getattr(card, name).value for card in cards]
        assert found[name].value == pytest.approx(values[0] - values[1])
        assert 0 < found[name].low < found[name].value < found[name].high
    assert differences(bad, good, settings)["macro_auroc"].high == pytest.approx(-found["macro_auroc"].low)


def test_a_model_does_not_differ_from_itself() -> None:
    """The resamples are the same for both, so every difference is exactly zero."""
    found = differences(predictions(1.0), predictions(1.0), Resampling(resamples=50))
    assert all((one.value, one.low, one.high) == (0.0, 0.0, 0.0) for one in found.values())


def test_other_films_are_refused() -> None:
    with pytest.raises(DataError, match="Predictions of 120 and 60 films can't be compared film by film"):
        differences(predictions(1.0), predictions(1.0, 60), Resampling())


def test_delongs_test_agrees_with_the_bootstrap_and_knows_which_is_better() -> None:
    good, bad = predictions(0.0, patients=120), predictions(3.0, patients=120)
    tests = auroc_tests(good, bad)
    values = [tests[name].difference.value for name in FINDINGS.names]
    boot = differences(good, bad, Resampling(resamples=300))["macro_auroc"]
    assert np.mean(values) == pytest.approx(boot.value)
    assert all(test.p < 0.01 and test.difference.low > 0 for test in tests.values())
    assert auroc_tests(bad, good)["a"].z == pytest.approx(-tests["a"].z)
    widths = [test.difference.high - test.difference.low for test in tests.values()]
    assert boot.high - boot.low < np.mean(widths)  # the mean of three findings is surer than each
    with pytest.raises(DataError, match="can't be compared film by film"):
        auroc_tests(good, predictions(1.0, 60))


@pytest.mark.parametrize(
    ("classes", "patients", "reason"), [(2, 60, "No labelled film shows c"), (3, 2, "Only 2 patients are too few")]
)
def test_what_can_not_be_compared_says_why(classes: int, patients: int, reason: str) -> None:
    films = predictions(1.0, classes=classes, patients=patients)
    found = differences(films, films, Resampling(resamples=20))
    assert all(not one.estimable and reason in one.reason for one in found.values())
