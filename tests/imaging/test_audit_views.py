"""Films with a part taken away or changed: exactly that part, and the same part of every film."""

import numpy as np
import pytest

from hilum.datasets.phantom.cohort import plan_cohort
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.rendering import render
from hilum.errors import UsageError
from hilum.imaging import audit_views as views


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eight phantoms of 128 rows: tiles, lungs, lesions."""
    films = [
        render(plan)
        for plan in plan_cohort(
            PhantomConfig(patients=8, size=128, second_film_share=0, seed=3, hospitals=("hospital-a",))
        )
    ]
    tiles = np.stack([(film.pixels.clip(0, 1) * 255).astype(np.uint8) for film in films])
    return tiles, np.stack([film.lungs for film in films]), np.stack([film.lesion for film in films])


def test_the_lung_region_holds_nearly_all_lungs_and_lesions_of_the_cohort(drawn: tuple[np.ndarray, ...]) -> None:
    tiles, lungs, lesions = drawn
    region = views.lung_region(tiles)
    assert (lungs & region).sum() / lungs.sum() > 0.97
    assert (lesions & region).sum() / lesions.sum() > 0.97
    assert region.mean() < 0.75
    gone = views.blacked_out(tiles, region)
    assert not gone[:, region].any()
    assert np.array_equal(gone[:, ~region], tiles[:, ~region])


def test_a_box_around_a_region() -> None:
    region = np.zeros((6, 6), dtype=bool)
    region[1, 4] = region[3, 2] = True
    box = views.box_around(region)
    assert box.sum() == 9
    assert box[1:4, 2:5].all()
    assert not views.box_around(np.zeros((6, 6), dtype=bool)).any()


def test_border_and_corners_by_hand() -> None:
    assert views.border((20, 30)).sum() == 20 * 30 - 16 * 24
    corners = views.corners((100, 50))
    assert corners.sum() == 4 * 22 * 11
    assert (corners[21, 10], corners[22, 10], corners[21, 11]) == (True, False, False)


def test_a_mosaic_shows_the_corners_alone() -> None:
    tiles = np.full((1, 100, 100), 50, np.uint8)
    tiles[0, 30:70, 30:70] = 255
    tiles[0, :22, :22] = 200
    mosaic = views.corner_mosaic(tiles, np.zeros((100, 100), dtype=bool))
    assert mosaic.shape == tiles.shape
    assert mosaic.max() == 200
    assert mosaic[0, :45, :45].min() == 200
    assert mosaic[0, 60:, 60:].max() == 50


def test_covering_removes_a_letter_and_leaves_the_rest(drawn: tuple[np.ndarray, ...]) -> None:
    """A white letter is painted into a corner: it is found as text, and gone once covered."""
    tiles = np.full((1, 128, 128), 40, np.uint8)
    tiles[0, 10:20, 12:14] = tiles[0, 10:12, 12:18] = 250
    lungs = np.zeros((128, 128), dtype=bool)
    where = views.text(tiles, lungs)
    assert where[0, 10:20, 12:14].all()
    assert where.mean() < 0.02
    assert views.text_covered(tiles, where).max() == 40
    assert views.corners_covered(tiles).max() == 40
    assert not views.text(tiles, np.ones((128, 128), dtype=bool)).any()
    covered = views.corners_covered(drawn[0])
    inside = ~views.corners((128, 128))
    assert np.array_equal(covered[:, inside], drawn[0][:, inside])


def test_phantoms_wear_letters_and_a_film_without_one_has_no_text(drawn: tuple[np.ndarray, ...]) -> None:
    tiles = drawn[0]
    lungs = views.lung_region(tiles)
    assert views.text(tiles, lungs).any(axis=(1, 2)).all()
    assert not views.text(views.corners_covered(tiles), lungs).any(axis=(1, 2)).any()


def test_corners_are_worn_and_nothing_else() -> None:
    black, white = np.zeros((2, 50, 50), np.uint8), np.full((2, 50, 50), 255, np.uint8)
    worn = views.corners_worn(black, white)
    assert np.array_equal(worn[0] > 0, views.corners((50, 50)))


def test_mild_changes_by_hand() -> None:
    ramp = np.tile(np.arange(0, 200, 2, dtype=np.uint8), (1, 100, 1))
    assert np.array_equal(views.with_gamma(ramp, 1.0), ramp)
    assert views.with_gamma(ramp, 1.25)[0, 0, 50] == round(255 * (100 / 255) ** 1.25)
    cut = views.cropped(ramp, 0.1)
    assert abs(int(cut[0, 0, 0]) - 20) <= 1
    assert abs(int(cut[0, 0, -1]) - 178) <= 1
    assert np.array_equal(views.coarser(ramp, 1), ramp)
    checker = np.indices((1, 64, 64)).sum(axis=0).astype(np.uint8) % 2 * 200
    assert np.ptp(views.coarser(checker, 2)[0, 8:-8, 8:-8]) <= 1
    assert np.abs(views.as_jpeg(ramp, 95).astype(int) - ramp).mean() < 2
    noise = np.random.default_rng(0).integers(0, 255, (1, 64, 64)).astype(np.uint8)
    rough, fine = (np.abs(views.as_jpeg(noise, q).astype(int) - noise).mean() for q in (20, 90))
    assert rough > 2 * fine
    with pytest.raises(UsageError, match=r"factor is 0.5, but a coarser film needs 1 or more"):
        views.coarser(ramp, 0.5)
