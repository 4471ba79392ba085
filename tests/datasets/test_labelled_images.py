"""Image sets as values: subsets with every class in them, other sizes, other channels, and a fingerprint."""

import numpy as np
import pytest

from hilum.arrays import Array
from hilum.datasets.labelled_images import ImageSet, LabelledImages
from hilum.errors import DataError, UsageError


def some_images(labels: list[int], size: int = 4, channels: int = 1, seed: int = 0) -> LabelledImages:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (len(labels), channels, size, size), dtype=np.uint8)
    return LabelledImages(images=images, labels=np.array(labels, dtype=np.int64))


def some_set(train: LabelledImages, test: LabelledImages, classes: tuple[str, ...] = ("a", "b")) -> ImageSet:
    return ImageSet(
        name="some",
        title="Some",
        kind="embedded",
        description="Some: noise.",
        classes=classes,
        train=train,
        test=test,
        source="made here",
    )


@pytest.fixture
def uneven() -> ImageSet:
    """60 a, 30 b, 10 c to train on; 6, 3, 1 to test on."""
    return some_set(
        some_images([0] * 60 + [1] * 30 + [2] * 10), some_images([0] * 6 + [1] * 3 + [2], seed=1), ("a", "b", "c")
    )


def test_a_subset_keeps_the_share_of_each_class(uneven: ImageSet) -> None:
    part = uneven.subset(20, None, seed=0)
    assert part.train.counts(3).tolist() == [12, 6, 2]
    assert part.test is uneven.test


def test_no_class_is_lost_in_a_small_subset(uneven: ImageSet) -> None:
    assert uneven.subset(4, 3, seed=0).train.counts(3).tolist() == [2, 1, 1]
    assert uneven.subset(4, 3, seed=0).test.counts(3).tolist() == [1, 1, 1]


@pytest.mark.parametrize("count", range(3, 100, 7))
def test_a_subset_has_exactly_the_number_asked_for(uneven: ImageSet, count: int) -> None:
    assert len(uneven.subset(count, None, seed=1).train) == count


def test_a_smaller_subset_lies_inside_a_larger_one(uneven: ImageSet) -> None:
    def pixels(count: int) -> set[bytes]:
        return {image.tobytes() for image in uneven.subset(count, None, seed=5).train.images}

    assert pixels(10) < pixels(40) < pixels(80)


def test_a_subset_is_the_same_each_time_and_another_with_another_seed(uneven: ImageSet) -> None:
    assert uneven.subset(20, 4, seed=3).fingerprint == uneven.subset(20, 4, seed=3).fingerprint
    assert uneven.subset(20, 4, seed=3).fingerprint != uneven.subset(20, 4, seed=4).fingerprint


def test_a_subset_says_that_it_is_one(uneven: ImageSet) -> None:
    assert (
        uneven.subset(20, 4, seed=3).description == "Some: noise. Subset, stratified by class: 20 + 4 images (seed 3)."
    )


def test_a_subset_of_all_or_more_is_the_set_itself(uneven: ImageSet) -> None:
    assert uneven.subset(1000, None, seed=0) is uneven


def test_a_subset_smaller_than_the_classes_is_refused(uneven: ImageSet) -> None:
    with pytest.raises(UsageError, match=r"2 train images can't hold 3 classes. Take 3 or more"):
        uneven.subset(2, None, seed=0)


def test_per_class_takes_the_same_number_of_each(uneven: ImageSet) -> None:
    few = uneven.per_class(5, seed=0)
    assert few.train.counts(3).tolist() == [5, 5, 5]
    assert few.test is uneven.test
    assert few.description.endswith("Of these 15 for training, 5 a class (seed 0).")


def test_per_class_takes_all_of_a_class_that_has_fewer_and_says_so(uneven: ImageSet) -> None:
    few = uneven.per_class(20, seed=0)
    assert few.train.counts(3).tolist() == [20, 20, 10]
    assert "at most 20 a class" in few.description


def test_fewer_a_class_lie_inside_more(uneven: ImageSet) -> None:
    small = {image.tobytes() for image in uneven.per_class(5, seed=2).train.images}
    assert small < {image.tobytes() for image in uneven.per_class(9, seed=2).train.images}


def test_no_images_a_class_are_refused(uneven: ImageSet) -> None:
    with pytest.raises(UsageError, match="count is 0 images a class, but must be 1 or more"):
        uneven.per_class(0, seed=0)


def test_take_keeps_the_order_of_the_rows(uneven: ImageSet) -> None:
    taken = uneven.train.take(np.array([70, 3]))
    assert taken.labels.tolist() == [1, 0]
    assert np.array_equal(taken.images[0], uneven.train.images[70])


def test_resizing_changes_both_parts_and_says_so(uneven: ImageSet) -> None:
    large = uneven.resized(8)
    assert (large.size, large.train.images.shape, large.test.images.shape) == (8, (100, 1, 8, 8), (10, 1, 8, 8))
    assert large.description.endswith("Resized to 8 × 8 px (bilinear).")
    assert uneven.resized(4) is uneven


def test_a_border_leaves_the_pixels_as_they_are(uneven: ImageSet) -> None:
    framed = uneven.bordered(8)
    assert np.array_equal(framed.train.images[:, :, 2:6, 2:6], uneven.train.images)
    assert framed.train.images.sum(dtype=np.int64) == uneven.train.images.sum(dtype=np.int64)
    assert framed.description.endswith("With a black border to 8 × 8 px.")
    assert uneven.bordered(4) is uneven


def test_grey_is_repeated_in_three_channels_and_said_so(uneven: ImageSet) -> None:
    colour = uneven.with_channels(3)
    assert (colour.channels, colour.train.channels) == (3, 3)
    assert np.array_equal(colour.train.images[:, 2], uneven.train.images[:, 0])
    assert colour.description.endswith("Grey repeated in three channels.")
    assert colour.with_channels(1).description.endswith("Made grey.")
    assert uneven.with_channels(1) is uneven


def change_nothing(train: Array, test: Array, labels: Array) -> None:
    pass


def change_a_pixel(train: Array, test: Array, labels: Array) -> None:
    test[0, 0, 0, 0] ^= 1


def change_a_label(train: Array, test: Array, labels: Array) -> None:
    labels[0] = 1 - labels[0]


def test_the_fingerprint_depends_on_pixels_labels_and_classes_alone() -> None:
    def fingerprint(change=change_nothing, classes: tuple[str, ...] = ("a", "b")) -> str:  # type: ignore[no-untyped-def]
        train, test = some_images([0, 1, 1]), some_images([0, 1], seed=1)
        change(train.images, test.images, train.labels)
        return some_set(train, test, classes).fingerprint

    assert fingerprint() == fingerprint()
    assert (
        len({fingerprint(), fingerprint(change_a_pixel), fingerprint(change_a_label), fingerprint(classes=("a", "c"))})
        == 4
    )
    assert len(fingerprint()) == 64


def test_other_than_uint8_squares_are_refused() -> None:
    with pytest.raises(UsageError, match=r"images are float64 \(2, 1, 4, 4\), but must be uint8 \[n, c, size, size\]"):
        LabelledImages(images=np.zeros((2, 1, 4, 4)), labels=np.zeros(2, dtype=np.int64))
    with pytest.raises(UsageError, match=r"images are uint8 \(2, 1, 4, 5\)"):
        LabelledImages(images=np.zeros((2, 1, 4, 5), dtype=np.uint8), labels=np.zeros(2, dtype=np.int64))


def test_labels_that_dont_fit_the_images_are_refused() -> None:
    with pytest.raises(UsageError, match=r"labels are int64 \(3,\), but must be int64 \[2\], one an image"):
        LabelledImages(images=np.zeros((2, 1, 4, 4), dtype=np.uint8), labels=np.zeros(3, dtype=np.int64))


def test_parts_of_different_size_are_refused() -> None:
    with pytest.raises(DataError, match=r"have 1 channels of 4 px, test images 3 of 8 px. Give both one size"):
        some_set(some_images([0, 1]), some_images([0, 1], size=8, channels=3))


def test_labels_beyond_the_classes_are_refused() -> None:
    with pytest.raises(DataError, match=r"Labels of the test images of Some lie in 0 … 2, but there are 2 classes"):
        some_set(some_images([0, 1]), some_images([0, 2]))
