"""A run's model card: what it says is in the run's artefacts and scorecards, and what they don't say stays open."""

import numpy as np
import pytest
from tests.bundle.small import small_info

from hilum.bundle.card import Measured, Stated
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.scorecard import Scorecard, Settings, score
from hilum.predictions import GROUPS, Predictions
from hilum.runs.model_card import model_card
from hilum.runs.run import Run


@pytest.fixture(scope="module")
def scorecard(run: Run) -> Scorecard:
    """Of 90 made-up films of two sources, one finding of one source alone."""
    random, n, k = np.random.default_rng(0), 90, 3
    classes = np.arange(n) % k
    logits = random.normal(0, 1, (n, k)) + 1.5 * np.eye(k)[classes]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    groups = dict.fromkeys(GROUPS, ("not recorded",) * n)
    groups["sex"] = tuple("FM"[i // 3 % 2] for i in range(n))
    groups["source"] = tuple("b" if c == 2 else "a" for c in classes)
    films = Predictions(
        findings=run.findings,
        film_ids=tuple(f"f{i}" for i in range(n)),
        patient_ids=tuple(f"p{i}" for i in range(n)),
        logits=logits,
        probs=probs,
        targets=np.eye(k)[classes],
        groups=groups,
    )
    return score(films, name="other films", settings=Settings(resampling=Resampling(resamples=50)))


def test_without_an_evaluation_nothing_was_measured(run: Run) -> None:
    card = model_card(run, small_info(), {}, abstention="Never.")
    assert card.usefulness.results == card.fairness.results == card.safety.results == ()
    assert card.usefulness.goal is card.fairness.interpretation is card.safety.testing_data is None
    assert card.stated == Stated()
    (fit,) = card.data
    films = run.films.select(run.films.rows(part="fit"))
    assert (fit.films, fit.fingerprint) == (len(films), films.fingerprint)
    assert sum(fit.labels.values()) == sum(fit.sources.values()) == len(films)
    assert "synthetic" in fit.note
    assert "'hilum'" in (card.weights or "")
    assert card.abstention == "Never."


def test_numbers_are_the_scorecards_and_say_on_which_films(run: Run, scorecard: Scorecard) -> None:
    card = model_card(run, small_info(), {"other": scorecard}, abstention="Never.")
    auroc = scorecard.auroc["pneumonia"]
    expected = Measured(
        what="AUROC", finding="pneumonia", on="other films", value=auroc.value, low=auroc.low, high=auroc.high, n=90
    )
    assert expected in card.usefulness.results
    women = next(one for one in scorecard.subgroups if (one.group, one.level) == ("sex", "F")).auroc["normal"]
    (found,) = [one for one in card.fairness.results if one.on == "other films, sex F" and one.finding == "normal"]
    assert (found.value, found.n) == (women.value, women.n)
    assert not any("source" in one.on for one in card.fairness.results)
    (ece,) = card.safety.results
    assert ece.value == scorecard.calibration_after.ece.value
    assert "0 would be perfect. other films: on 90 films even perfect probabilities would show 0." in str(
        card.safety.interpretation
    )
    assert card.usefulness.interpretation == f"other films: {scorecard.verdict.headline}"
    assert card.usefulness.testing_data == "other films: 90 films of 90 patients."
    assert card.data[1].sources == {"a": 60, "b": 30}


def test_biases_name_their_films_and_red_ones_stand_on_top(run: Run, scorecard: Scorecard) -> None:
    card = model_card(run, small_info(), {"other": scorecard}, abstention="Never.")
    red = [flag.sentence for flag in scorecard.confounding.flags if flag.severity == "red"]
    assert red
    assert list(card.warnings) == list(dict.fromkeys(red))
    assert card.biases == tuple(f"other films: {flag.sentence}" for flag in scorecard.confounding.flags)
    assert card.limits == tuple(f"other films: {sentence}" for sentence in scorecard.warnings)
