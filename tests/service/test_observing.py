"""What is kept of an answer for the monitor: classes and figures, fingerprints only where the policy lets it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.bundle.small import small_bundle
from tests.inference.films import film
from tests.service.conftest import settings_in

from hilum.bundle.reading import read_bundle
from hilum.imaging.sandbox import Sandbox
from hilum.inference.assess import Assessor, open_bundle
from hilum.provenance import sha256_bytes
from hilum.records.observations import STATISTICS
from hilum.service.bundled import open_model
from hilum.service.film_files import StoredFilm
from hilum.service.observing import age_band, observation_of


@pytest.fixture(scope="module")
def assessor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Assessor]:
    with open_bundle(small_bundle(tmp_path_factory.mktemp("bundle") / "small.hilum"), 1) as opened:
        yield opened


def test_an_observation_holds_classes_figures_scores_and_nothing_that_names_anybody(assessor: Assessor) -> None:
    prepared = assessor.prepare(film(1, patient_id="CANARY7", age_years=93.0))
    assessment = assessor.assess_prepared([prepared])[0]
    seen = observation_of(prepared, assessment, fingerprints=False)
    assert (seen.view_position, seen.age_band, seen.size_class) == ("PA", "90+", "0x0")
    figures = np.frombuffer(seen.statistics, "<f4")
    assert figures[STATISTICS.index("mean")] == pytest.approx(prepared.quality.mean, rel=1e-6)
    assert seen.scores is not None
    assert np.frombuffer(seen.scores, "<f4").sum() == pytest.approx(1, abs=1e-5)
    assert seen.features is None
    assert "CANARY7" not in repr(seen)


def test_a_view_that_is_no_term_is_one_class_and_not_quoted(assessor: Assessor) -> None:
    prepared = assessor.prepare(film(1, view_position="QANARY"))
    seen = observation_of(prepared, assessor.assess_prepared([prepared])[0], fingerprints=False)
    assert seen.view_position == "another term"
    assert "QANARY" not in repr(seen)


def test_fingerprints_are_kept_only_where_the_policy_lets_them(tmp_path: Path) -> None:
    path, where = tmp_path / "film.dcm", small_bundle(tmp_path / "small.hilum")
    path.write_bytes(film(2))
    stored, bundle = StoredFilm(path=path, file_sha256=sha256_bytes(film(2))), read_bundle(where)
    with Sandbox(1) as sandbox:
        for policy in (False, True):
            settings = settings_in(tmp_path, bundle=where, threads=1, keep_fingerprints=policy)
            with open_model(where, bundle, settings, sandbox, restarted=lambda reason: None) as opened:
                observation = opened.answer([opened.prepare(stored)])[0].observation
            assert observation is not None
            assert (observation.features is not None) == policy


def test_a_feature_beyond_what_half_a_word_holds_is_cut_and_not_made_infinite(assessor: Assessor) -> None:
    prepared = assessor.prepare(film())
    assessment = replace(assessor.assess_prepared([prepared])[0], features=np.array([1e6, -1e6, 0.5]))
    seen = observation_of(prepared, assessment, fingerprints=True)
    assert np.frombuffer(seen.features or b"", "<f2").tolist() == [65504.0, -65504.0, 0.5]


def test_a_film_outside_the_intended_use_is_observed_without_scores(assessor: Assessor) -> None:
    prepared = assessor.prepare(film(3, view_position="LL"))
    seen = observation_of(prepared, assessor.assess_prepared([prepared])[0], fingerprints=True)
    assert (seen.outcome, seen.scores, seen.features) == ("not-analysed", None, None)


@pytest.mark.parametrize(
    ("age", "band"), [(None, "not recorded"), (-1, "not recorded"), (49.9, "40-49"), (90, "90+"), (0, "0-9")]
)
def test_ages_are_told_in_tens(age: float | None, band: str) -> None:
    assert age_band(age) == band
