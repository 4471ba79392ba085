"""Stacks of images resized as Pillow would, framed, and made grey or colour."""

import numpy as np
import pytest
from PIL import Image

from hilum.datasets.image_resizing import bordered_stack, channels_stack, resized_stack, triangle_matrix
from hilum.errors import UsageError


@pytest.mark.parametrize(("old", "size"), [(8, 28), (8, 32), (32, 64), (32, 12), (28, 32), (64, 9)])
def test_resizing_agrees_with_pillow_to_one_grey_value(old: int, size: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 2, old, old), dtype=np.uint8)
    expected = np.stack(
        [
            [Image.fromarray(plane).resize((size, size), Image.Resampling.BILINEAR) for plane in image]
            for image in images
        ]
    )
    assert np.abs(resized_stack(images, size).astype(int) - expected.astype(int)).max() <= 1


def test_every_new_pixel_is_a_mean_of_old_ones() -> None:
    assert np.allclose(triangle_matrix(7, 32).sum(axis=1), 1)
    assert (triangle_matrix(7, 32) >= 0).all()
    assert np.array_equal(triangle_matrix(5, 5), np.eye(5, dtype=np.float32))


def test_black_and_white_stay_black_and_white() -> None:
    images = np.array([0, 255], dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 8, 8), dtype=np.uint8)
    resized = resized_stack(images, 32)
    assert (resized[0] == 0).all()
    assert (resized[1] == 255).all()


def test_more_images_than_a_block_are_all_resized() -> None:
    images = np.broadcast_to(np.arange(2500, dtype=np.uint8)[:, None, None, None], (2500, 1, 2, 2))
    assert np.array_equal(resized_stack(images, 4)[:, 0, 0, 0], images[:, 0, 0, 0])


def test_grey_is_the_luma_of_bt601() -> None:
    pure = np.zeros((3, 3, 1, 1), dtype=np.uint8)
    pure[[0, 1, 2], [0, 1, 2]] = 255
    assert channels_stack(pure, 1)[:, 0, 0, 0].tolist() == [76, 150, 29]


def test_impossible_sizes_and_channels_are_refused() -> None:
    images = np.zeros((1, 3, 8, 8), dtype=np.uint8)
    with pytest.raises(UsageError, match="size is 0, but an image needs 1 pixel a side or more"):
        resized_stack(images, 0)
    with pytest.raises(UsageError, match="size is 6, but the images have 8 pixels a side. Resize them instead"):
        bordered_stack(images, 6)
    with pytest.raises(UsageError, match="Images of 3 channels can't be given 2; 1 and 3 are possible"):
        channels_stack(images, 2)
    with pytest.raises(UsageError, match="Images of 4 channels can't be given 3"):
        channels_stack(np.zeros((1, 4, 8, 8), dtype=np.uint8), 3)
