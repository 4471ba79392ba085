"""Copies of films: found through gamma, JPEG, crop, rotation and inversion; different films are never joined."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from hilum.arrays import Array
from hilum.datasets.duplicates import DuplicateConfig, connected, find_duplicates, near_pairs
from hilum.datasets.manifest import Manifest
from hilum.datasets.registration import register
from hilum.datasets.thumbs import coarse_view, fine_view, make_thumb

Field = Callable[..., Array]


def crop(film: Array, left: float, right: float, top: float, bottom: float) -> Array:
    h, w = film.shape
    return film[round(top * h) : h - round(bottom * h), round(left * w) : w - round(right * w)]


def jpeg(film: Array) -> Array:
    packed = io.BytesIO()
    Image.fromarray((film // 257).astype(np.uint8)).save(packed, "JPEG", quality=30)
    return np.asarray(Image.open(packed)).astype(np.uint16) * 257


CHANGES: dict[str, Callable[[Array], Array]] = {
    "gamma": lambda film: (65535 * (film / 65535) ** 1.8).astype(np.uint16),
    "jpeg": jpeg,
    "inversion": lambda film: 65535 - film,
    "crop of all sides": lambda film: crop(film, 0.03, 0.03, 0.03, 0.03),
    "crop of one side": lambda film: crop(film, 0.03, 0, 0, 0),
    "rotation": lambda film: ndimage.rotate(film, 2, reshape=False, order=1, mode="nearest"),
    "crop, gamma, inversion": lambda film: (
        65535 - (65535 * (crop(film, 0.02, 0, 0.03, 0.01) / 65535) ** 0.7).astype(np.uint16)
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_film_is_found_among_others(change: str, field: Field) -> None:
    originals = [field(seed, 256) for seed in range(8)]
    thumbs = np.stack([make_thumb(film) for film in [*originals, CHANGES[change](originals[5])]])
    first, second, similarity, inverted = near_pairs(thumbs)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [(5, 8)]
    assert 0.85 <= similarity[0] <= 1.0001
    assert inverted[0] == ("inversion" in change)


def test_only_pairs_across_a_border_are_sought(field: Field) -> None:
    """Copies on one side of it are nobody's concern."""
    films = [field(seed, 256) for seed in range(6)]
    thumbs = np.stack([make_thumb(film) for film in [*films, films[1], films[4], films[4]]])
    pairs = {border: sorted(zip(*(part.tolist() for part in near_pairs(thumbs, border=border)[:2]), strict=True))
             for border in (None, 6, 8)}  # fmt: skip
    assert pairs[None] == [(1, 6), (4, 7), (4, 8), (7, 8)]
    assert pairs[6] == [(1, 6), (4, 7), (4, 8)]
    assert pairs[8] == [(4, 8), (7, 8)]


def test_equal_files_are_joined_as_a_chain_and_blank_ids_are_not(films_of: Callable[..., Manifest]) -> None:
    found = find_duplicates(films_of(6, film_id=["x", "y", "x", "", "x", ""]))
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(0, 2), (2, 4)]
    assert found.exact.all()
    assert found.similarity.tolist() == [1, 1]
    assert found.groups().tolist() == [0, 1, 0, 2, 0, 3]
    assert found.compared == 0


def test_copies_are_found_by_row_where_some_films_have_no_thumb(
    films_of: Callable[..., Manifest], field: Field
) -> None:
    film = field(1, 256)
    thumb = make_thumb(film).tobytes()
    other = make_thumb(65535 - film).tobytes()
    found = find_duplicates(films_of(4, thumb=[None, thumb, None, other]))
    assert (found.first.tolist(), found.second.tolist()) == ([1], [3])
    assert found.inverted.tolist() == [True]
    assert not found.exact.any()
    assert found.compared == 2


def test_no_film_and_one_film_have_no_copies(films_of: Callable[..., Manifest], field: Field) -> None:
    assert len(find_duplicates(films_of(0))) == 0
    assert len(find_duplicates(films_of(1, thumb=[make_thumb(field(0)).tobytes()]))) == 0


def test_films_of_one_grey_value_are_nobodys_copies(films_of: Callable[..., Manifest]) -> None:
    black = np.zeros((3, 64, 64), np.uint8)
    assert len(find_duplicates(films_of(3, thumb=black))) == 0


def test_only_the_best_neighbours_are_looked_at(field: Field) -> None:
    film = make_thumb(field(0, 256))
    thumbs = np.stack([np.roll(film, shift, axis=1) for shift in (0, 0, 0, 0)])
    few = near_pairs(thumbs, DuplicateConfig(neighbours=1))[0]
    assert 2 <= len(few) <= 4
    assert len(near_pairs(thumbs)[0]) == 6


def test_components_are_numbered_by_their_first_member() -> None:
    assert connected(5, np.array([3, 1]), np.array([1, 4])).tolist() == [0, 1, 2, 1, 1]


def test_registration_recovers_a_known_warp(field: Field) -> None:
    """A film and its crop by 3 % of each side: scale 0.94, no shift, to a hundredth of the half width."""
    film = field(3, 400)
    whole, part = make_thumb(film)[None], make_thumb(crop(film, 0.03, 0.03, 0.03, 0.03))[None]
    rough = register(coarse_view(part), coarse_view(whole), steps=5)
    found = register(fine_view(part), fine_view(whole), steps=4, start=rough.warps)
    assert found.warps[0] == pytest.approx(np.array([[0.94, 0, 0], [0, 0.94, 0]]), abs=0.01)
    assert found.distortion[0] == pytest.approx(0.06, abs=0.01)
    assert found.overlap[0] == 1
    assert found.similarity[0] > 0.9


def test_a_film_registers_to_itself_where_it_lies(field: Field) -> None:
    view = fine_view(make_thumb(field(4))[None])
    same = register(view, view, steps=3)
    assert same.similarity[0] == pytest.approx(1, abs=1e-3)
    assert same.distortion[0] < 1e-3


def test_views_forget_brightness_and_contrast(field: Field) -> None:
    thumb = make_thumb(field(5))[None]
    dim = (thumb // 2 + 60).astype(np.uint8)
    assert np.corrcoef(fine_view(thumb).ravel(), fine_view(dim).ravel())[0, 1] > 0.98
    assert fine_view(thumb).mean() == pytest.approx(0, abs=1e-5)
    assert coarse_view(thumb).std() == pytest.approx(1, abs=1e-3)
