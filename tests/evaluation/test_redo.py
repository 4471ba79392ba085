"""A reviewer can redo the numbers: from predictions.parquet and the scorecard's JSON, by hand and by the library.

The JSON is what an evaluation writes and what a report's JSON holds as ``internal`` and ``external``.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as oracle

from hilum.evaluation.backing import read_backings, write_backings
from hilum.evaluation.estimates import from_plain
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.localisation import localise
from hilum.evaluation.redo import redo_scorecard
from hilum.evaluation.scorecard import Scorecard, Settings, score
from hilum.evaluation.thresholds import choose_operating_points
from hilum.predictions import Predictions
from hilum.randomness import stream


@pytest.fixture(scope="module")
def written(make: Callable[..., Predictions], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scorecard and the predictions that it is about; all synthetic."""
    folder = tmp_path_factory.mktemp("redo")
    settings = Settings(resampling=Resampling(seed=5, resamples=60, method="bca"))
    validation, films = make(240, seed=1, temperature=2.0), make(240, seed=2, temperature=2.0)
    points = choose_operating_points(validation, settings=settings.resampling)
    validation.write(folder / "validation.parquet")
    films.write(folder / "predictions.parquet")
    card = score(films, settings=settings, operating_points=points, validation=validation)
    (folder / "scorecard.json").write_text(json.dumps(card.to_json(), allow_nan=False))
    return folder


@pytest.fixture(scope="module")
def said(written: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((written / "scorecard.json").read_text())
    return values


def columns(path: Path, kind: str, names: list[str]) -> np.ndarray:
    table = pq.read_table(path)
    return np.column_stack([table[f"{kind}.{name}"].to_numpy() for name in names])


def test_figures_follow_from_the_table_by_another_library(written: Path, said: dict[str, Any]) -> None:
    """No code of this package: the table's columns, and scikit-learn."""
    card, names = said, said["findings"]
    probs = columns(written / "predictions.parquet", "probs", names)
    truth = columns(written / "predictions.parquet", "targets", names).argmax(axis=1)
    answer = probs.argmax(axis=1)
    for c, name in enumerate(names):
        ill = truth == c
        assert card["auroc"][name]["value"] == pytest.approx(oracle.roc_auc_score(ill, probs[:, c]))
        assert card["auprc"][name]["value"] == pytest.approx(oracle.average_precision_score(ill, probs[:, c]))
        assert card["sensitivity"][name]["value"] == pytest.approx(oracle.recall_score(ill, answer == c))
        assert card["precision"][name]["value"] == pytest.approx(oracle.precision_score(ill, answer == c))
        assert card["mcc"][name]["value"] == pytest.approx(oracle.matthews_corrcoef(ill, answer == c))
        threshold = card["operating_points"][name]["threshold"]
        expected = (probs[ill, c] >= threshold).mean()
        assert card["operating_points"][name]["sensitivity"]["value"] == pytest.approx(expected)
        parts = card["calibration_after"]["brier_parts"][name]
        assert parts["score"] == pytest.approx(oracle.brier_score_loss(ill, probs[:, c]))
        curve = card["in_use"]["decision_curves"][name]
        for t, value in zip(curve["thresholds"][::9], curve["net_benefit"][::9], strict=True):
            called = probs[:, c] >= t
            by_hand = ((called & ill).sum() - (called & ~ill).sum() * t / (1 - t)) / len(ill)
            assert value == pytest.approx(by_hand)
    assert card["kappa"]["value"] == pytest.approx(oracle.cohen_kappa_score(truth, answer))
    assert card["accuracy"]["value"] == pytest.approx((truth == answer).mean())
    assert card["confusion"] == oracle.confusion_matrix(truth, answer).tolist()
    assert card["calibration_after"]["nll"]["value"] == pytest.approx(oracle.log_loss(truth, probs))


def test_choices_follow_from_the_validation_table_by_hand(written: Path, said: dict[str, Any]) -> None:
    card, names = said, said["findings"]
    probs = columns(written / "predictions.parquet", "probs", names)
    truth = columns(written / "predictions.parquet", "targets", names).argmax(axis=1)
    sets = np.column_stack(
        [probs[:, c] >= card["in_use"]["sets"]["limits"][name] - 1e-9 for c, name in enumerate(names)]
    )
    assert card["in_use"]["sets"]["coverage"]["value"] == pytest.approx(sets[np.arange(len(truth)), truth].mean())
    chosen = columns(written / "validation.parquet", "probs", names)
    known = columns(written / "validation.parquet", "targets", names).argmax(axis=1)
    normal = names.index("normal")
    for row in card["in_use"]["triage"]["rows"]:
        suspicion = np.sort(1 - chosen[known != normal, normal])[::-1]
        needed = int(np.ceil(row["floor"] * len(suspicion) - 1e-9))
        assert row["threshold"] <= suspicion[needed - 1]
        first = 1 - probs[:, normal] >= row["threshold"]
        assert row["sensitivity"]["value"] == pytest.approx(first[truth != normal].mean())
    policy = card["in_use"]["selective"]["policy"]
    doubt = {
        "1 − probability of the answer": 1 - probs.max(axis=1),
        "entropy": -(probs * np.log(probs)).sum(axis=1),
    }[policy["doubt"]]
    answered = doubt <= policy["limit"]
    assert card["in_use"]["selective"]["coverage"]["value"] == pytest.approx(answered.mean())
    wrong = probs.argmax(axis=1) != truth
    assert card["in_use"]["selective"]["risk"]["value"] == pytest.approx(wrong[answered].mean())


def test_the_whole_card_comes_out_again_bit_by_bit(written: Path, said: dict[str, Any]) -> None:
    """With the settings in the JSON: every value and every interval."""
    card = Scorecard.from_json(said)
    again = score(
        Predictions.read(written / "predictions.parquet"),
        settings=from_plain(Settings, said["settings"], where="settings"),
        operating_points=card.operating_points,
        validation=Predictions.read(written / "validation.parquet"),
    )
    assert again.to_json() == said
    assert card.settings.resampling.method == "bca"
    assert card.auroc["covid-19"].method == "BCa bootstrap by patient"


def test_the_source_in_the_features_and_heat_maps_come_out_again_from_their_scores(
    make: Callable[..., Predictions], tmp_path: Path
) -> None:
    """Features and heat maps are gone; what they gave stands in scorecard.parquet."""
    rng, films = stream(3, "redo"), make(90, seed=3, per_patient=1)
    source = np.arange(90) % 2
    films = replace(films, groups={**films.groups, "source": tuple("ab"[i] for i in source)})
    heat = list(rng.random((30, 8, 8)))
    masks = [np.arange(64).reshape(8, 8) % 7 == i % 7 for i in range(30)]
    settings = Resampling(seed=2, resamples=50)
    card = score(
        films,
        settings=Settings(resampling=settings),
        features=rng.normal(size=(90, 5)) + source[:, None],
        localisation=localise(
            heat, masks, ["covid-19", "pneumonia", "pneumonia"] * 10, films.patient_ids[:30], settings,
            film_ids=films.film_ids[:30],
        ),
    )  # fmt: skip
    write_backings(tmp_path / "scorecard.parquet", card.backings)
    read = Scorecard.from_json(json.loads(json.dumps(card.to_json())))
    predictable, maps = redo_scorecard(read, read_backings(tmp_path / "scorecard.parquet"))
    assert predictable == card.confounding.predictable != ()
    assert maps == card.localisation
    table = pq.read_table(tmp_path / "scorecard.parquet").to_pylist()
    part = [r for r in table if (r["name"], r["about"], r["column"]) == ("source predictable", "", "log-odds: b")]
    by_hand = oracle.roc_auc_score([r["truth"] == "b" for r in part], [r["value"] for r in part])
    assert predictable[0].auroc.value == pytest.approx(by_hand)
    assert by_hand > 0.8
    hits = [r["value"] for r in table if (r["name"], r["about"], r["column"]) == ("heat maps", "all", "hit")]
    assert maps[0].hit_rate.value == pytest.approx(np.mean(hits))
