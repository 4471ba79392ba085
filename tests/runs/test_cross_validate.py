"""Nested cross-validation on synthetic films: who answers whom, what is kept, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hilum.datasets.manifest import Manifest
from hilum.errors import UsageError
from hilum.predictions import Predictions
from hilum.runs.cross_validate import cross_validate
from hilum.runs.run import Run
from hilum.runs.train import TrainConfig


def test_each_film_is_answered_by_a_run_that_never_saw_its_patient(
    run: Run, cohort: Path, small: TrainConfig, tmp_path: Path
) -> None:
    """And the locked test share is neither fitted nor answered; a second call trains nothing."""
    films = Manifest.read(cohort / "split.parquet")
    fit = set(films.select(films.rows(part="fit")).strings("film_id"))
    config = replace(small, recipe=replace(small.recipe, stages=small.recipe.stages[:1]))
    cache = run.path.parent / ".cache"
    done = cross_validate(films, config, tmp_path / "cv", outer=2, cache=cache, resamples=60)
    said = Predictions.read(tmp_path / "cv" / "predictions1.parquet")
    assert set(said.film_ids) == fit
    row = {film: i for i, film in enumerate(said.film_ids)}
    for number in (1, 2):
        one = Run.open(tmp_path / "cv" / "repeat1" / f"fold{number}")
        own, tested = (one.films.select(one.films.rows(part=part)) for part in ("fit", "test"))
        assert not set(own.strings("patient_id")) & set(tested.strings("patient_id"))
        assert set(own.strings("film_id")) | set(tested.strings("film_id")) == fit
        assert set(own.column("fold").tolist()) == {0, 1}
        assert not one.folder.openings.exists()
        rows = [row[film] for film in tested.strings("film_id")]
        again = one.calibration.probs(_member_logits(one, tested, cache))
        np.testing.assert_allclose(said.probs[rows], again, atol=1e-5)
    told = json.loads(done.path.read_text())
    (only,) = told["repetitions"]
    assert only["mean_over_folds"]["normal"]["method"] == "Nadeau–Bengio over folds"
    assert only["scorecard"]["auroc"]["normal"]["value"] == done.cards[0].auroc["normal"].value
    before = one.folder.result.stat().st_mtime_ns
    assert cross_validate(films, config, tmp_path / "cv", outer=2, cache=cache, resamples=60).cards == done.cards
    assert one.folder.result.stat().st_mtime_ns == before


def _member_logits(run: Run, films: Manifest, cache: Path) -> np.ndarray:
    from hilum.runs.tiles import load_tiles
    from hilum.training.prediction import predict_logits

    tiles = load_tiles(films, run.recipe.preprocessing, cache, workers=0)
    return np.stack([predict_logits(run.classifier(i), tiles) for i in range(run.config.members)])


@pytest.mark.parametrize(("outer", "inner", "repeats"), [(1, 2, 1), (2, 1, 1), (2, 2, 0)])
def test_fewer_than_two_folds_are_refused(
    cohort: Path, small: TrainConfig, tmp_path: Path, outer: int, inner: int, repeats: int
) -> None:
    films, config = Manifest.read(cohort / "split.parquet"), replace(small, folds=inner)
    with pytest.raises(UsageError, match=rf"{outer} outer and {inner} inner folds, {repeats} times, are no nested"):
        cross_validate(films, config, tmp_path / "cv", outer=outer, repeats=repeats)
    assert not (tmp_path / "cv").exists()
