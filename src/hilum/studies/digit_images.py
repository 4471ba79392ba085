"""Digits as the studies of digits take them: grey, in the middle of a black field."""

from hilum.datasets.image_sets import ImageSet
from hilum.errors import UsageError

BOX = 20
"""Pixels a side that small digits are enlarged to: the box that MNIST's digits are normalised to."""


def digits_in(images: ImageSet, field: int) -> ImageSet:
    """Grey digits, at most 28 px large, in a black field; small ones are enlarged to 20 px, as in MNIST.

    Args:
        images: light digits on a dark ground, in ten classes.
        field: pixels a side of the field, ≥ 28.

    Raises:
        UsageError: not ten classes.
    """
    if len(images.classes) != 10:
        raise UsageError(
            f"This study reads the ten digits, but {images.title} has {len(images.classes)} classes. Give --data mnist "
            "or digits, or a folder with ten class folders."
        )
    grey = images.with_channels(1)
    side = BOX if grey.size < BOX else min(grey.size, 28)
    return grey.resized(side).bordered(field)
