"""A local calibration: the same weights, another temperature and other thresholds, and what it can't be fitted on."""

from pathlib import Path

import numpy as np
import pytest
from tests.bundle.small import small_info

from hilum.datasets.manifest import Manifest
from hilum.datasets.next_version import Sides
from hilum.errors import DataError
from hilum.runs.model_card import model_card
from hilum.runs.recalibrate import member_logits, recalibrate, unseen
from hilum.runs.rounds import VersionKind
from hilum.runs.run import Run


@pytest.mark.parametrize("kind", ["recalibrated", "thresholds"])
def test_only_probabilities_and_thresholds_change(run: Run, cohort: Path, tmp_path: Path, kind: VersionKind) -> None:
    films, cache = Manifest.read(cohort / "external.parquet"), run.path.parent / ".cache"
    made = recalibrate(run, films, tmp_path / "local", kind=kind, cache=cache)
    assert made.fingerprint == run.fingerprint
    assert (made.calibration == run.calibration) is (kind == "thresholds")
    assert made.thresholds != run.thresholds
    assert recalibrate(run, films, tmp_path / "local", kind=kind, cache=cache).result == made.result
    logits, targets = member_logits(run, films, cache, None), films.targets(run.findings).astype(bool)
    before, after = (-np.log(one.calibration.probs(logits)[targets]).mean() for one in (run, made))
    assert after < before if kind == "recalibrated" else after == before
    card, thought = (model_card(one, small_info(), {}, abstention="Never.") for one in (made, run))
    assert f"on {len(films)} films of" in card.operating_rules
    assert ("of a site, which no member has seen" in card.calibration) is (kind == "recalibrated")
    assert "out-of-fold predictions" in thought.calibration
    kept = made.out_of_fold()
    np.testing.assert_allclose(kept.probs, made.calibration.probs(kept.logits[None]))


def test_films_of_one_finding_make_no_calibration(run: Run, cohort: Path, tmp_path: Path) -> None:
    films = Manifest.read(cohort / "external.parquet")
    normal = films.select(np.flatnonzero(films.column("label") == "normal"))
    with pytest.raises(
        DataError, match=r"labelled films show normal, and none shows pneumonia, covid-19; a calibration"
    ):
        recalibrate(run, normal, tmp_path / "local")
    assert not (tmp_path / "local").exists()


def test_films_that_the_run_has_seen_are_named(run: Run, cohort: Path) -> None:
    fit, test = (run.films.select(run.films.rows(part=part)[:1]) for part in ("fit", "test"))
    nobody = Sides(locked=frozenset(), trained=frozenset())
    assert unseen(run, fit, ["a"], nobody)[0].reason == "was trained on, or its patient was"
    assert unseen(run, test, ["b"], Sides(locked=frozenset(test.strings("patient_id")), trained=frozenset()))[
        0
    ].reason.startswith("is of a patient of the locked test")
    assert unseen(run, Manifest.read(cohort / "external.parquet").select([0]), ["c"], nobody) == {}
