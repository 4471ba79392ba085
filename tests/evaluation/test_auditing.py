"""All audits together: a planted shortcut is caught by name, the same films without it pass, clean cohorts stay quiet.

Synthetic phantom films throughout.
"""

import numpy as np
import pytest
from tests.evaluation.phantoms import alarms, answers, audited, cohort, fitted, halved

from hilum.evaluation import auditing
from hilum.evaluation.auditing import AuditedFilms, audit_films, audit_network, pixel_features
from hilum.evaluation.audits import Audits, concluded
from hilum.evaluation.estimates import to_plain
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.redo import redo_audits
from hilum.imaging.audit_views import lung_region
from hilum.randomness import stream

POOL = 120


@pytest.fixture(scope="module")
def clean() -> AuditedFilms:
    return cohort(POOL, 11, side=128)


def test_a_planted_marker_is_caught_by_name_and_the_same_films_without_it_pass(clean: AuditedFilms) -> None:
    lungs = lung_region(clean.tiles[::3])
    caught = {
        row.name: row for row in audited(cohort(POOL, 11, shortcut=1.0, side=128), lungs) if row.verdict == "alarm"
    }
    assert "a marker or burned-in text goes with the label" in caught["corner-marker model"].sentence
    assert {"corners covered", "corners swapped"} & set(caught)
    assert alarms(clean, lungs) == []


def test_clean_cohorts_raise_no_alarm(clean: AuditedFilms) -> None:
    """Cohorts of 48 drawn from one pool, so not independent; test_clean_cohorts.py draws its own."""
    pool = halved(clean)
    lungs = lung_region(pool.tiles[::4])
    found = []
    for seed in range(3):
        rows = np.sort(stream(seed, "pool").permutation(POOL)[:48])
        found += alarms(pool.select(rows), lungs, seed=seed)
    assert found == []


def test_films_of_unknown_label_are_left_out_and_everything_is_answered_and_redone(clean: AuditedFilms) -> None:
    pool = halved(clean)
    some, lungs = pool.select(np.arange(45)), lung_region(pool.tiles[::9])
    some.classes[:3] = -1
    settings = Resampling(resamples=40)
    rows = audit_films(some, pixel_features, lungs=lungs, settings=settings, permutations=19)
    assert rows[0].value.n == 42
    assert {row.name for row in rows} >= {"metadata-only model", "border-only model", "left-out source"}
    answer = fitted(pool.select(np.arange(45, POOL)))
    network = audit_network(some, answer, lungs=lungs, settings=settings)
    written = Audits(rows=concluded([*rows, *network]), settings=settings)
    said = answers(answer, some)
    again = redo_audits(Audits.from_json(written.to_json()), written.backings, said, said)
    assert [to_plain(row) for row in again] == [to_plain(row) for row in written.rows]
    assert {row.name for row in again if row.value.estimable} >= {"left-out source", "readable from features"}
    assert {row.value.n for row in network if row.name == "stability"} == {42}
    broken = audit_network(some, lambda tiles: np.full((len(tiles), 3), np.nan), lungs=lungs, settings=settings)
    assert broken == []  # films without an answer are the verdict's business
    some.classes[:] = -1
    assert audit_network(some, fitted(pool), settings=settings) == []


def test_very_many_films_are_thinned_by_whole_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    owners = [f"p{i // 2}" for i in range(240)]
    assert auditing.some_patients(owners).tolist() == list(range(240))
    monkeypatch.setattr(auditing, "MOST_CASES", 20)
    some = auditing.some_patients(owners)
    assert 36 <= len(some) <= 40
    _, counts = np.unique([owners[i] for i in some], return_counts=True)
    assert set(counts) == {2}


def test_pixel_features_by_hand() -> None:
    tiles = np.zeros((2, 24, 24), np.uint8)
    tiles[1, :2, :2] = [[0, 100], [100, 200]]
    features = pixel_features(tiles)
    assert features.shape == (2, 3 * 144)
    assert features[1, :3].tolist() == pytest.approx([100, 200, np.std([0, 100, 100, 200])])
    assert not features[0].any()
    assert not features[1, 3:].any()
