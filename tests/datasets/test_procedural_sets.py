"""The procedural set: balanced, disjoint, kept on disk, and named for what it is."""

import sys
from pathlib import Path

import numpy as np
import pytest

from hilum.datasets.procedural import TEN
from hilum.datasets.procedural_sets import ProceduralSetConfig, procedural_set
from hilum.errors import ConfigError

SMALL = ProceduralSetConfig(size=16, train=40, test=20)


def test_classes_are_balanced_and_no_image_is_on_both_sides() -> None:
    found = procedural_set(SMALL)
    assert found.train.counts(10).tolist() == [4] * 10
    assert found.test.counts(10).tolist() == [2] * 10
    assert len({image.tobytes() for part in (found.train, found.test) for image in part.images}) == 60


def test_a_smaller_set_is_the_beginning_of_a_larger_one() -> None:
    larger = procedural_set(ProceduralSetConfig(size=16, train=60, test=20))
    smaller = procedural_set(SMALL)
    assert np.array_equal(larger.train.images[:40], smaller.train.images)
    assert np.array_equal(larger.test.images, smaller.test.images)


def test_two_of_the_ten_classes_are_the_same_images_as_among_ten() -> None:
    two = procedural_set(ProceduralSetConfig(size=16, train=8, test=4, classes=(2, 3)))
    ten = procedural_set(SMALL)
    assert two.classes == (TEN[2][0], TEN[3][0])
    assert two.train.labels.tolist() == [0, 1] * 4
    chosen = ten.train.take(np.flatnonzero(np.isin(ten.train.labels, (2, 3))))
    assert np.array_equal(two.train.images, chosen.images)
    assert "2 classes (spotted star, veined star)" in two.description


def test_kept_images_are_those_that_were_drawn(tmp_path: Path) -> None:
    drawn = procedural_set(SMALL, cache=tmp_path)
    kept = procedural_set(SMALL, cache=tmp_path)
    assert kept.fingerprint == drawn.fingerprint == procedural_set(SMALL).fingerprint
    assert len(list((tmp_path / "decoded").iterdir())) == 1


def test_it_says_that_it_is_synthetic() -> None:
    found = procedural_set(SMALL)
    assert found.kind == "embedded"
    assert found.description == (
        "Procedural images: 40 + 20 synthetic colour images of 16 × 16 px in ten classes, made by hilum; not "
        "photographs."
    )


def test_a_cache_that_cant_be_written_is_noted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "could not be kept" in procedural_set(SMALL, cache=tmp_path / "file").notes[-1]


def test_impossible_sets_are_refused_with_all_that_is_wrong() -> None:
    with pytest.raises(ConfigError) as caught:
        ProceduralSetConfig(classes=(2, 2), train=1, test=200_000_000)
    assert "classes are (2, 2), but must be two or more different numbers in 0 … 9" in caught.value.problems[0]
    assert "train is 1 images, but must be 2 (one a class) … 100,000,000" in caught.value.problems[1]
    assert "test is 200000000 images" in caught.value.problems[2]


def test_images_are_the_same_whatever_the_number_of_threads() -> None:
    from threadpoolctl import threadpool_info, threadpool_limits

    # Images 78 and 82, in this set, are those of the first hundred that differ without the limit.
    config, seen = ProceduralSetConfig(size=128, train=18, test=2, classes=(2, 8)), set()
    for threads in (1, 2):
        with threadpool_limits(limits=threads, user_api="blas"):
            seen.add(procedural_set(config).fingerprint)
            # And the caller's own number of threads is as it was.
            assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {threads}
    assert len(seen) == 1


def test_without_a_way_to_limit_threads_images_are_drawn_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = procedural_set(SMALL).fingerprint
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert procedural_set(SMALL).fingerprint == drawn
