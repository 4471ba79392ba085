"""The scorecard agrees with scikit-learn, survives JSON, and says what it can't say."""

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as oracle

from hilum.errors import ConfigError, DataError
from hilum.evaluation.externality import Development
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.localisation import localise
from hilum.evaluation.scorecard import OPTIMISTIC, Scorecard, Settings, score
from hilum.evaluation.thresholds import choose_operating_points
from hilum.predictions import Predictions
from hilum.randomness import stream

FEW = Settings(resampling=Resampling(resamples=60))


@pytest.fixture(scope="module")
def films(make: Callable[..., Predictions]) -> Predictions:
    return make(240)


@pytest.fixture(scope="module")
def card(films: Predictions) -> Scorecard:
    return score(films, settings=FEW, operating_points=choose_operating_points(films, settings=FEW.resampling))


def test_figures_agree_with_scikit_learn(films: Predictions, card: Scorecard) -> None:
    true, predicted = films.targets.argmax(axis=1), films.probs.argmax(axis=1)
    assert card.accuracy.value == pytest.approx(oracle.accuracy_score(true, predicted))
    assert card.balanced_accuracy.value == pytest.approx(oracle.balanced_accuracy_score(true, predicted))
    assert card.macro_f1.value == pytest.approx(oracle.f1_score(true, predicted, average="macro"))
    assert card.macro_auroc.value == pytest.approx(oracle.roc_auc_score(true, films.probs, multi_class="ovr"))
    for c, name in enumerate(card.findings):
        assert card.auroc[name].value == pytest.approx(oracle.roc_auc_score(true == c, films.probs[:, c]))
        assert card.auprc[name].value == pytest.approx(oracle.average_precision_score(true == c, films.probs[:, c]))
        assert card.precision[name].value == pytest.approx(oracle.precision_score(true == c, predicted == c))
        assert card.npv[name].value == pytest.approx(oracle.precision_score(true != c, predicted != c))
    assert card.calibration_after.nll.value == pytest.approx(oracle.log_loss(true, films.probs))
    assert card.confusion == tuple(map(tuple, oracle.confusion_matrix(true, predicted).tolist()))


def test_every_figure_lies_in_its_interval(card: Scorecard) -> None:
    per_finding = [
        getattr(card, name) for name in ("auroc", "auprc", "sensitivity", "specificity", "precision", "npv", "f1")
    ]
    found = [e for figures in per_finding for e in figures.values()]
    found += [card.macro_auroc, card.accuracy, card.balanced_accuracy, card.macro_f1]
    for made in (card.calibration_before, card.calibration_after):
        found += [made.nll, made.brier, made.ece, made.ece_mass]
    for e in found:
        assert e.low <= e.value <= e.high
        assert e.n > 0
        assert e.patients > 0


def test_counts_say_what_the_figures_rest_on(films: Predictions, card: Scorecard) -> None:
    assert (card.films, card.patients, card.unlabelled) == (240, 120, 0)
    assert card.class_films == dict.fromkeys(card.findings, 80)
    assert card.class_patients == dict.fromkeys(card.findings, 40)


def test_the_order_of_the_films_changes_no_figure(films: Predictions, card: Scorecard) -> None:
    shuffled = films.select(stream(0, "shuffle").permutation(len(films)))
    again = score(shuffled, settings=FEW)
    for name in card.findings:
        assert again.auroc[name].value == pytest.approx(card.auroc[name].value, abs=1e-12)
        assert again.auroc[name].low == pytest.approx(card.auroc[name].low, abs=1e-12)  # patients, not rows, are drawn
    assert again.calibration_after.ece.value == pytest.approx(card.calibration_after.ece.value, abs=1e-12)


def test_the_same_seed_gives_the_same_card(films: Predictions) -> None:
    assert score(films, seed=3, resamples=40).to_json() == score(films, seed=3, resamples=40).to_json()


def test_a_card_survives_json_unchanged(card: Scorecard) -> None:
    text = json.dumps(card.to_json(), allow_nan=False)
    back = Scorecard.from_json(text)
    assert json.dumps(back.to_json(), allow_nan=False) == text
    assert back.auroc["covid-19"] == card.auroc["covid-19"]
    assert back.verdict == card.verdict


def test_a_card_of_another_schema_or_shape_is_refused(card: Scorecard) -> None:
    plain = card.to_json()
    with pytest.raises(DataError, match="This scorecard has schema 99, but this version reads 1"):
        Scorecard.from_json({**plain, "schema": 99})
    with pytest.raises(DataError, match="This scorecard is not JSON"):
        Scorecard.from_json("{")
    with pytest.raises(DataError, match="has schema 'list'"):
        Scorecard.from_json("[]")
    with pytest.raises(ConfigError, match="unknown key 'acuracy'. Did you mean 'accuracy'"):
        Scorecard.from_json({**plain, "acuracy": 1})


def test_unknown_labels_are_left_out_and_counted(films: Predictions, card: Scorecard) -> None:
    more = films.select(np.concatenate([np.arange(240), np.arange(12)]))
    more.targets[240:] = np.nan
    found = score(more, settings=FEW)
    assert (found.films, found.unlabelled) == (240, 12)
    assert found.auroc == card.auroc


def test_an_absent_class_is_not_estimable_and_named(films: Predictions) -> None:
    without = films.select(np.flatnonzero(films.targets[:, 2] == 0))
    card = score(without, settings=FEW)
    assert card.auroc["covid-19"].reason == "No labelled film shows covid-19."
    assert card.sensitivity["covid-19"].reason == "No labelled film shows covid-19."
    assert card.macro_auroc.reason == "It is a mean over all findings, and covid-19 can't be measured."
    assert not card.balanced_accuracy.estimable
    assert card.accuracy.estimable
    assert "No labelled film shows covid-19: nothing about it can be measured." in card.warnings
    assert Scorecard.from_json(json.dumps(card.to_json(), allow_nan=False)).class_films["covid-19"] == 0


def test_two_positive_patients_make_no_auroc(films: Predictions) -> None:
    rows = np.concatenate([np.flatnonzero(films.targets[:, 2] == 0), np.flatnonzero(films.targets[:, 2] == 1)[:4]])
    card = score(films.select(rows), settings=FEW)
    assert card.auroc["covid-19"].reason == "Only 2 patients with covid-19; a ranking needs at least 5."
    assert card.sensitivity["covid-19"].method == "wilson, patients as trials"
    assert "Only 2 patients show covid-19" in card.warnings[0]


def test_one_class_alone_gives_no_ranking(films: Predictions) -> None:
    card = score(films.select(np.flatnonzero(films.targets[:, 0] == 1)), settings=FEW)
    assert card.auroc["normal"].reason == "Every labelled film shows normal."
    assert card.specificity["normal"].reason == "Every labelled film shows normal."
    assert not card.macro_auroc.estimable


def test_tied_scores_are_chance_and_the_verdict_says_so(films: Predictions) -> None:
    tied = replace(films, logits=np.zeros((240, 3)), probs=np.full((240, 3), 1 / 3))
    card = score(tied, settings=FEW)
    assert card.auroc["normal"].value == 0.5
    assert card.verdict.colour == "red"
    assert card.verdict.headline == "The model does no better than chance on these films."


def test_nan_scores_make_the_card_red_and_nothing_is_computed_without_them(films: Predictions) -> None:
    broken = films.select(np.arange(240))
    broken.probs[5] = broken.logits[5] = np.nan
    card = score(broken, settings=FEW)
    assert card.verdict.colour == "red"
    assert card.accuracy.reason == "1 of 240 films have no score (NaN)."
    assert card.calibration_after.ece.reason == "1 of 240 films have no score (NaN)."
    assert math.isnan(card.calibration_after.ece_if_perfect)
    assert sum(map(sum, card.confusion)) == 239


def test_no_labelled_film_is_red(films: Predictions) -> None:
    nothing = films.select(np.arange(9))
    nothing.targets[:] = np.nan
    card = score(nothing, settings=FEW)
    assert (card.films, card.unlabelled, card.verdict.colour) == (0, 9, "red")
    assert card.accuracy.reason == "There is no labelled film."
    json.dumps(card.to_json(), allow_nan=False)


@pytest.mark.parametrize("row", [[0.5, 0.2, 0.1], [2.0, -1.0, 0.0]])
def test_what_is_no_distribution_is_refused(films: Predictions, row: list[float]) -> None:
    wrong = films.select(np.arange(20))
    wrong.probs[3] = row
    with pytest.raises(DataError, match=r"1 of 20 films have probabilities that are no distribution, such as \["):
        score(wrong, settings=FEW)


def test_calibration_before_and_after_are_both_there(make: Callable[..., Predictions]) -> None:
    card = score(make(600, temperature=5.0), settings=FEW)
    assert card.calibration_before.ece.value > card.calibration_after.ece.value
    assert card.calibration_before.miscalibrated
    assert set(card.calibration_after.reliability) == set(card.findings)


def test_optimistic_calibration_is_said(films: Predictions) -> None:
    card = score(films, settings=FEW, calibration_optimistic=True)
    assert OPTIMISTIC in card.warnings
    assert OPTIMISTIC in card.verdict.reservations


def test_confounded_films_are_red_and_name_the_source(make: Callable[..., Predictions]) -> None:
    card = score(make(300, confounded=True, sources=("nih", "cohen")), settings=FEW)
    assert card.verdict.colour == "red"
    assert card.verdict.why[0].startswith("Every covid-19 film comes from source 'cohen'")


def test_features_are_asked_for_the_source_over_all_films_and_inside_each_finding(films: Predictions) -> None:
    features = stream(0, "features").normal(size=(240, 4))
    features[:, 0] += 4 * (np.array(films.groups["source"]) == "hospital-b")
    card = score(films, settings=FEW, features=features)
    assert [found.within for found in card.confounding.predictable] == ["", *card.findings]
    assert all(found.auroc.value > 0.9 for found in card.confounding.predictable)
    assert {f.severity for f in card.confounding.flags if f.code == "group-predictable"} == {"note"}
    assert Scorecard.from_json(card.to_json()).confounding == card.confounding


def test_features_of_other_films_are_refused(films: Predictions) -> None:
    with pytest.raises(DataError, match="3 rows of features for 240 films"):
        score(films, settings=FEW, features=np.zeros((3, 2)))


def test_external_without_knowing_what_was_seen_is_a_bare_claim(films: Predictions) -> None:
    card = score(films, settings=FEW, role="external", name="external test")
    assert card.not_external == ("What the model was developed on was not given, so the claim can't be checked.",)
    assert card.verdict.colour == "amber"


def test_external_films_of_another_source_may_be_green(make: Callable[..., Predictions]) -> None:
    films = make(240, sources=("far", "far"), skill=2.5)
    card = score(films, settings=FEW, role="external", seen=Development(sources=frozenset({"near"})))
    assert (card.not_external, card.verdict.colour) == ((), "green")


def test_heat_maps_that_miss_are_a_reservation(films: Predictions) -> None:
    mask = np.zeros((4, 4), dtype=bool)
    mask[0, 0] = True
    miss = np.zeros((4, 4))
    miss[3, 3] = 1.0
    rows = localise([miss] * 12, [mask] * 12, ["covid-19"] * 12, [f"p{i}" for i in range(12)], FEW.resampling)
    card = score(films, settings=FEW, localisation=rows)
    assert any("heat maps of covid-19 films don't point at the lesion" in text for text in card.verdict.reservations)
    assert Scorecard.from_json(card.to_json()).localisation == rows
