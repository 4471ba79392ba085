"""The source is read from features when it is in them, on unseen patients only, and not when it isn't."""

import sys

import numpy as np
import pytest

from hilum.errors import DataError, MissingExtra
from hilum.evaluation import predictability
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.predictability import out_of_fold, predict_group
from hilum.randomness import stream

FEW = Resampling(resamples=60)


def films(n: int = 200, shift: float = 0.0, levels: int = 2, d: int = 8) -> tuple[np.ndarray, list[str], list[str]]:
    rng = stream(0, "features")
    patient = np.arange(n) // 2
    which = patient % levels
    features = rng.normal(size=(n, d))
    features[np.arange(n), which] += shift
    return features, [f"h{i}" for i in which], [f"p{i}" for i in patient]


def test_a_source_that_is_in_the_features_is_found() -> None:
    found = predict_group(*films(shift=3.0), settings=FEW)
    assert found.auroc.value > 0.95
    assert found.auroc.low > 0.9
    assert found.levels == ("h0", "h1")


def test_a_source_that_is_not_in_the_features_is_near_chance() -> None:
    found = predict_group(*films(300), settings=FEW)
    assert 0.35 < found.auroc.value < 0.65


def test_three_sources_give_the_mean_over_them() -> None:
    found = predict_group(*films(240, shift=3.0, levels=3), settings=FEW)
    assert found.levels == ("h0", "h1", "h2")
    assert found.auroc.value > 0.9


def test_a_patient_never_stands_on_both_sides() -> None:
    """Features that are the patient's own say nothing of the source of another patient."""
    patient = np.arange(160) // 4
    features = np.eye(40)[patient] * 10
    which = stream(1, "coin").integers(0, 2, 40)[patient]
    scores = out_of_fold(features, which, patient)
    assert abs(np.corrcoef(scores[:, 1], which)[0, 1]) < 0.5


def test_too_few_patients_in_a_level_are_not_estimable() -> None:
    features, levels, owners = films(60)
    levels = ["rare" if i < 8 else "common" for i in range(60)]
    found = predict_group(features, levels, owners, settings=FEW)
    assert found.auroc.reason == "Fewer than two levels of source have at least 10 patients."


def test_more_films_than_are_useful_are_thinned_by_whole_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictability, "MOST_FILMS", 120)
    found = predict_group(*films(300, shift=3.0, d=2), settings=FEW)
    assert 116 <= found.auroc.n <= 120
    assert found.auroc.patients * 2 == found.auroc.n


def test_lengths_that_disagree_and_features_that_are_not_finite_are_refused() -> None:
    features, levels, owners = films(20)
    with pytest.raises(DataError, match=r"Features \(20, 8\), 19 levels and 20 patients don't match"):
        predict_group(features, levels[1:], owners)
    features[3, 2] = np.nan
    with pytest.raises(DataError, match="Features of 1 films are not finite"):
        predict_group(features, levels, owners)


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sklearn.exceptions", "sklearn.linear_model", "sklearn.model_selection"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"Asking features for the source needs the 'train' extra"):
        predict_group(*films())
