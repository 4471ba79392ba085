"""Reader studies: by hand, against scikit-learn and statsmodels' exact McNemar, and by simulation of no effect."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score, recall_score, roc_auc_score

from hilum.arrays import Indices
from hilum.errors import DataError
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.reader_study import BY_BOTH, ONLY_READER, UNMOVED, Readings, agreement, notes_on, score_finding
from hilum.evaluation.reader_study_ratings import score_ratings

FEW = Resampling(resamples=200)


def study(truth: list[int] | Indices, calls: list[list[list[int]]] | Indices, k: int = 2) -> Readings:
    n, r = len(truth), len(calls)
    return Readings(
        findings=("normal", "pneumonia", "covid-19")[:k],
        readers=tuple(f"reader-{i}" for i in range(r)),
        patient_ids=tuple(f"p{i}" for i in range(n)),
        truth=np.asarray(truth, dtype=np.int64),
        calls=np.asarray(calls, dtype=np.int64),
    )


def drawn(seed: int, r: int = 3, n: int = 80, k: int = 3) -> Readings:
    """Readers who are right four times in five, with and without the model alike."""
    rng = np.random.default_rng(seed)
    truth = np.resize(np.arange(k), n)
    calls = np.where(rng.random((r, 2, n)) < 0.8, truth, rng.integers(0, k, (r, 2, n)))
    return study(truth, calls, k)


def test_rates_differences_and_mcnemar_by_hand() -> None:
    """Five films with and five without pneumonia. Without the model 2 of 5 and 4 of 5 right, with it 4 of 5 and 3 of
    5: two films gained and none lost on one side, one lost on the other."""
    truth = [1] * 5 + [0] * 5
    without, with_model = [1, 1, 0, 0, 0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 0, 0, 0, 0, 1, 1]
    found = score_finding(study(truth, [[without, with_model]]), "pneumonia", FEW)
    one, all_of_them = found.readers[0], found.pooled
    assert (found.films_with, found.films_without) == (5, 5)
    assert (one.sensitivity.without.value, one.sensitivity.with_model.value) == (0.4, 0.8)
    assert one.sensitivity.difference.value == pytest.approx(0.4)
    assert (one.sensitivity.gained, one.sensitivity.lost, one.sensitivity.mcnemar) == (2, 0, 0.5)
    assert (one.specificity.without.value, one.specificity.with_model.value) == (0.8, 0.6)
    assert (one.specificity.gained, one.specificity.lost, one.specificity.mcnemar) == (0, 1, 1.0)
    assert all_of_them.sensitivity.difference.value == one.sensitivity.difference.value
    assert all_of_them.sensitivity.difference.method == ONLY_READER


def test_the_mean_gives_readers_equal_weight() -> None:
    truth = [1] * 6 + [0] * 6
    all_right, all_wrong = truth, [1 - one for one in truth]
    found = score_finding(study(truth, [[all_wrong, all_right], [all_right, all_right]]), "pneumonia", FEW).pooled
    assert (found.sensitivity.without.value, found.sensitivity.with_model.value) == (0.5, 1.0)
    assert (found.sensitivity.gained, found.sensitivity.lost) == (6, 0)
    assert math.isnan(found.sensitivity.mcnemar)
    assert found.sensitivity.difference.method == BY_BOTH
    # One reader gained everything, the other nothing: drawing readers gives 0, 1/2 or 1 and films no spread at all.
    assert found.sensitivity.difference.interval == (0.0, 1.0)


def test_rates_equal_scikit_learn_and_mcnemar_equals_scipy() -> None:
    read = drawn(1)
    for finding, scored in ((name, score_finding(read, name, FEW)) for name in read.findings):
        wanted = read.findings.index(finding)
        for one, calls in zip(scored.readers, read.calls, strict=True):
            for arm, value in enumerate((one.sensitivity.without, one.sensitivity.with_model)):
                assert value.value == pytest.approx(recall_score(read.truth == wanted, calls[arm] == wanted))
            for arm, value in enumerate((one.specificity.without, one.specificity.with_model)):
                assert value.value == pytest.approx(recall_score(read.truth != wanted, calls[arm] != wanted))
            for change in (one.sensitivity, one.specificity):
                differing = change.gained + change.lost
                assert change.mcnemar == pytest.approx(binomtest(change.gained, differing, 0.5).pvalue)
                assert change.difference.low < change.difference.value < change.difference.high


def test_kappa_equals_scikit_learn() -> None:
    read = drawn(2)
    found = agreement(read, FEW)
    for arm, value in enumerate((found.without, found.with_model)):
        calls = read.calls[:, arm]
        pairs = [cohen_kappa_score(calls[a], calls[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
        assert value.value == pytest.approx(np.mean(pairs))
        assert value.low < value.value < value.high
    assert found.difference.value == pytest.approx(found.with_model.value - found.without.value)
    for name, calls in zip(read.readers, read.calls, strict=True):
        assert found.itself[name].value == pytest.approx(cohen_kappa_score(calls[0], calls[1]))


def test_one_reader_agrees_with_nobody_else() -> None:
    found = agreement(drawn(3, r=1), FEW)
    assert found.without.reason == "Agreement between readers needs two of them."
    assert found.itself["reader-0"].bounded


def test_intervals_cover_no_effect() -> None:
    """Films of differing difficulty; the model helps some readers and misleads others, nobody on average, and does
    nothing to the first one: 95 % intervals of the mean and of the first reader hold 0."""
    rng, covered = np.random.default_rng(7), []
    truth = np.resize(np.arange(2), 120)
    for seed in range(120):
        skill, difficulty = rng.normal(1.2, 0.4, (4, 1, 1)), rng.normal(0, 1.0, 120)
        helped = rng.normal(0, 0.5, (4, 2, 1))
        helped[0] = 0
        right = rng.random((4, 2, 120)) < 1 / (1 + np.exp(-(skill + helped + difficulty)))
        found = score_finding(study(truth, np.where(right, truth, 1 - truth)), "pneumonia", Resampling(seed=seed))
        both = (found.pooled.sensitivity.difference, found.readers[0].sensitivity.difference)
        covered.append([one.low <= 0 <= one.high for one in both])
    pooled, single = np.mean(covered, axis=0)
    assert 0.91 <= pooled <= 0.99
    assert 0.89 <= single <= 0.99


def test_films_of_a_patient_stay_together() -> None:
    """Every film twice says no more than once: the intervals of a patient's copies are those of single films."""
    once = drawn(5)
    twice = Readings(
        findings=once.findings,
        readers=once.readers,
        patient_ids=once.patient_ids * 2,
        truth=np.tile(once.truth, 2),
        calls=np.tile(once.calls, 2),
    )
    first, second = (score_finding(one, "covid-19", FEW).pooled.sensitivity.difference for one in (once, twice))
    assert second.interval == pytest.approx(first.interval)
    assert any("McNemar's test takes films as independent" in note for note in notes_on(twice))


def test_what_did_not_move_has_no_made_up_interval() -> None:
    truth = [0, 1] * 10
    found = score_finding(study(truth, [[truth, truth]] * 2), "pneumonia", FEW).pooled.sensitivity
    assert (found.difference.value, found.difference.bounded, found.difference.reason) == (0.0, False, UNMOVED)
    assert found.without.method.startswith("wilson")


def test_a_side_without_films_is_not_estimable() -> None:
    found = score_finding(study([0] * 8, [[[0] * 8, [0] * 7 + [1]]]), "pneumonia", FEW).readers[0]
    assert found.sensitivity.without.reason == "No film of the study has pneumonia."
    assert math.isnan(found.sensitivity.mcnemar)
    assert found.specificity.difference.value == pytest.approx(-1 / 8)


def test_notes_say_how_few_readers_there_are() -> None:
    assert "One reader" in notes_on(drawn(1, r=1))[0]
    assert "3 readers say little" in notes_on(drawn(1))[1]


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"Calls \[1, 1, 2\] and truth \[2\] don't fit 1 readers × 2 arms × 2 films"):
        study([0, 1], [[[0, 1]]])
    with pytest.raises(DataError, match=r"A class of calls is outside 0 … 1"):
        study([0, 1], [[[0, 1], [0, 2]]])


def test_areas_of_the_confidence_are_scikit_learns_and_the_mean_is_between_readers() -> None:
    """With more noise without the model; the mean of one reader is that reader's, interval included."""
    rng = np.random.default_rng(3)
    truth = np.resize([0, 1], 60)
    noise = rng.normal(size=(2, 2, 60)) * np.array([2.0, 0.7])[:, None]
    rated = np.clip(50 + 20 * (truth - 0.5) * 2 + 15 * noise, 0, 100)
    readings = replace(study(truth, np.tile(truth, (2, 2, 1))), ratings=rated)
    mean, *each = score_ratings(readings, "pneumonia")
    for found, ratings in zip(each, rated, strict=True):
        assert found.without.value == pytest.approx(roc_auc_score(truth, ratings[0]))
        assert found.with_model.value == pytest.approx(roc_auc_score(truth, ratings[1]))
        assert found.difference.value == pytest.approx(found.with_model.value - found.without.value)
    assert mean.difference.value == pytest.approx(np.mean([one.difference.value for one in each]))
    assert mean.difference.low < mean.difference.value < mean.difference.high
    alone = replace(study(truth, np.tile(truth, (1, 2, 1))), ratings=rated[:1])
    of_one, one = score_ratings(alone, "pneumonia")
    assert of_one.difference.interval == pytest.approx(one.difference.interval)


def test_without_a_confidence_there_are_no_areas_and_a_wrong_number_of_them_is_refused() -> None:
    readings = study([0, 1], [[[0, 1], [0, 1]]])
    assert score_ratings(readings, "pneumonia") == ()
    with pytest.raises(DataError, match="don't fit calls"):
        replace(readings, ratings=np.zeros((1, 2, 3)))
    few = score_ratings(replace(readings, ratings=np.array([[[10.0, 90], [20, 80]]])), "pneumonia")
    assert "needs" in few[0].difference.reason
