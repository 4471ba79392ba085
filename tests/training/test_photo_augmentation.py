"""Augmentation of whole batches: by hand where it can be, and every image on its own."""

import pytest
import torch

from hilum.errors import ConfigError
from hilum.training.photo_augmentation import PhotoAugmentation, augment


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 64, channels: int = 3) -> torch.Tensor:
    return torch.rand((n, channels, 16, 16), generator=generator(9))


def test_nothing_turned_on_gives_an_equal_copy() -> None:
    given = images()
    changed = augment(given, PhotoAugmentation(), generator())
    assert torch.equal(changed, given)
    assert changed.data_ptr() != given.data_ptr()


def test_flip_mirrors_about_half_of_the_images_and_leaves_the_rest() -> None:
    given = images(400)
    changed = augment(given, PhotoAugmentation(flip=True), generator())
    mirrored = [torch.equal(c, g.flip(2)) for c, g in zip(changed, given, strict=True)]
    same = [torch.equal(c, g) for c, g in zip(changed, given, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert 150 < sum(mirrored) < 250


def test_shift_moves_a_point_by_whole_pixels_within_the_limit() -> None:
    """One bright pixel in the middle: where it lands is the shift; all of −2 … 2 occur on both axes."""
    given = torch.zeros((300, 1, 9, 9))
    given[:, :, 4, 4] = 1
    changed = augment(given, PhotoAugmentation(shift_pixels=2), generator())
    where = changed[:, 0].nonzero()[:, 1:] - 4
    assert len(where) == 300
    assert set(where[:, 0].tolist()) == set(where[:, 1].tolist()) == {-2, -1, 0, 1, 2}


def test_rotation_turns_by_no_more_than_its_limit() -> None:
    """A point at distance 6 right of the centre moves by 6·sin(angle) at most."""
    given = torch.zeros((200, 1, 17, 17))
    given[:, :, 8, 14] = 1
    changed = augment(given, PhotoAugmentation(rotation_degrees=30), generator())
    mass = changed.sum(dim=(2, 3))
    rows = torch.arange(17.0)
    height = ((changed * rows[:, None]).sum(dim=(2, 3)) / mass - 8).abs()
    assert 2.0 < float(height.max()) <= 3.2


@pytest.mark.parametrize("step", ["brightness", "contrast", "saturation"])
def test_tone_changes_stay_in_range_and_saturation_keeps_grey(step: str) -> None:
    given = images()
    changed = augment(given, PhotoAugmentation(**{step: 0.5}), generator())
    assert not torch.equal(changed, given)
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
    grey = given[:, :1].expand(-1, 3, -1, -1)
    unchanged = augment(grey, PhotoAugmentation(saturation=0.5), generator())
    assert torch.allclose(unchanged, grey, atol=1e-5)


def test_cutout_sets_one_square_to_the_mean() -> None:
    given = images(1)
    changed = augment(given, PhotoAugmentation(cutout_pixels=6), generator())
    hole = (changed != given).any(dim=1)[0]
    assert 1 <= int(hole.sum()) <= 49
    assert torch.allclose(changed[0][:, hole], given.mean(dim=(2, 3))[0][:, None].expand(-1, int(hole.sum())))


def test_a_generator_decides_everything() -> None:
    settings = PhotoAugmentation(
        flip=True, shift_pixels=3, rotation_degrees=9, zoom=0.1, brightness=0.2, cutout_pixels=3
    )
    first, again, other = (augment(images(), settings, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_wrong_amounts_are_refused_all_at_once() -> None:
    with pytest.raises(ConfigError, match=r"shift_pixels is 99, but must be in 0 … 64\.\n.*zoom is -1"):
        PhotoAugmentation(shift_pixels=99, zoom=-1)
