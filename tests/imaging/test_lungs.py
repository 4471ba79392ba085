"""Lung fields: found where they are on phantoms, whose lungs are known, whatever the film's size, type or exposure."""

import numpy as np
import pytest
from scipy import ndimage

from hilum.arrays import Array, Mask
from hilum.datasets.phantom.cohort import plan_cohort
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.rendering import render
from hilum.errors import UsageError
from hilum.imaging import lungs
from hilum.imaging.lungs import frontal_fit, lung_fields


def dice(one: Mask, other: Mask) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.fixture(scope="module")
def films() -> list[tuple[Array, Mask, Mask]]:
    """Nine phantoms of a seed that nothing was chosen on: film, lungs, lesion."""
    plans = plan_cohort(PhantomConfig(patients=9, size=192, second_film_share=0, seed=7))
    drawn = [render(plan) for plan in plans]
    return [((film.pixels.clip(0, 1) * 65535).astype(np.uint16), film.lungs, film.lesion) for film in drawn]


def test_lungs_of_phantoms_are_found_and_opaque_parts_stay_in(films: list[tuple[Array, Mask, Mask]]) -> None:
    found = [lung_fields(film) for film, _, _ in films]
    scores = [dice(mask, lungs) for mask, (_, lungs, _) in zip(found, films, strict=True)]
    missed = [(lungs & ~mask).sum() / lungs.sum() for mask, (_, lungs, _) in zip(found, films, strict=True)]
    sick = [(m & lesion).sum() / lesion.sum() for m, (_, _, lesion) in zip(found, films, strict=True) if lesion.any()]
    assert np.mean(scores) > 0.87
    assert min(scores) > 0.75
    assert np.mean(missed) < 0.15
    assert np.mean(sick) > 0.75


def test_an_opaque_lung_is_a_lung(films: list[tuple[Array, Mask, Mask]]) -> None:
    """Half of a lung painted as white as the heart: most of it is still found."""
    film, lungs, _ = films[0]
    opaque = lungs.copy()
    opaque[: film.shape[0] // 2] = False
    opaque[:, film.shape[1] // 2 :] = False
    painted = film.copy()
    painted[opaque] = np.percentile(film, 85)
    found = lung_fields(painted)
    assert (found & opaque).sum() / opaque.sum() > 0.5


def test_neither_exposure_nor_number_type_matters(films: list[tuple[Array, Mask, Mask]]) -> None:
    film = films[1][0]
    found = lung_fields(film)
    assert dice(lung_fields((film // 257).astype(np.uint8)), found) > 0.98
    assert dice(lung_fields(film.astype(np.float64) * 3 + 7), found) > 0.98
    assert dice(lung_fields(np.sqrt(film / 65535)), found) > 0.9


def test_the_same_film_gives_the_same_bits(films: list[tuple[Array, Mask, Mask]]) -> None:
    film = films[2][0]
    assert np.array_equal(lung_fields(film), lung_fields(film.copy()))


def test_a_small_tile_is_enough(films: list[tuple[Array, Mask, Mask]]) -> None:
    film, lungs, _ = films[3]
    assert dice(lung_fields(film[::3, ::3]), lungs[::3, ::3]) > 0.8


def test_a_film_of_one_grey_has_none() -> None:
    assert not lung_fields(np.full((64, 64), 9, np.uint8)).any()


def test_a_film_that_is_too_small_is_refused() -> None:
    with pytest.raises(UsageError, match=r"A film of \(8, 64\) has no lungs to find; give grey values of 16 × 16"):
        lung_fields(np.zeros((8, 64)))


def test_phantoms_fit_a_frontal_film_and_turned_ones_do_not(films: list[tuple[Array, Mask, Mask]]) -> None:
    upright = [frontal_fit(film) for film, _, _ in films]
    turned = [frontal_fit(np.rot90(film)) for film, _, _ in films]
    inverted = [frontal_fit(65535 - film) for film, _, _ in films]
    assert min(upright) > 0.55
    assert max(turned) < 0.45
    assert max(inverted) < 0.45


@pytest.mark.parametrize(
    ("length", "sigma", "mode"), [(48, 0.5, "reflect"), (48, 12.0, "nearest"), (96, 24.0, "nearest")]
)
def test_blurring_by_matrices_is_the_filter(length: int, sigma: float, mode: str) -> None:
    """What SciPy's filter gives, borders included, but for the last digits."""
    values = np.random.default_rng(0).uniform(0, 65535, (length, length))
    expected = ndimage.gaussian_filter(values, sigma, mode=mode)
    np.testing.assert_allclose(lungs._blurred(values, sigma, mode), expected, rtol=1e-12)


def test_fit_is_a_correlation() -> None:
    """Grey that is dark in the outline and bright around it, in two values, fits wholly; less than a film fits not."""
    inside = lungs._drawn(lungs.RIGHT, (0.13, 0.18, 0.74, 0.66), 480) | lungs._drawn(
        lungs.LEFT, (0.13, 0.18, 0.74, 0.66), 480
    )
    assert frontal_fit(np.where(inside, 10000, 40000).astype(np.uint16)) > 0.8
    for nothing in (np.zeros((50, 50), np.uint16), np.zeros((8, 200), np.uint16), np.zeros((1, 1), np.uint16)):
        assert frontal_fit(nothing) == 0.0
