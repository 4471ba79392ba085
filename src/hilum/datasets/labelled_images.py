"""Image sets as values: labelled images in two parts, with a sentence that says what they are.

Arrays only. Images are uint8 [n, c, h, w] as they are stored; normalisation belongs to whoever trains.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Integer, UInt8

from hilum.arrays import Array, Indices
from hilum.datasets.image_resizing import bordered_stack, channels_stack, resized_stack
from hilum.errors import DataError, UsageError
from hilum.randomness import stream


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledImages:
    """Images of one size with their classes."""

    images: UInt8[np.ndarray, "n c h w"]
    """0 black … 255 white, channels first; may be mapped from a file, and is nobody's to change."""
    labels: Integer[np.ndarray, " n"]
    """int64, the number of each image's class."""

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[2] != self.images.shape[3]:
            raise UsageError(
                f"images are {self.images.dtype} {self.images.shape}, but must be uint8 [n, c, size, size]."
            )
        if self.labels.dtype != np.int64 or self.labels.shape != self.images.shape[:1]:
            raise UsageError(
                f"labels are {self.labels.dtype} {self.labels.shape}, but must be int64 [{len(self.images)}], "
                "one an image."
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        """1 grey, 3 red, green, blue."""
        return int(self.images.shape[1])

    @property
    def size(self) -> int:
        """Pixels a side."""
        return int(self.images.shape[2])

    def counts(self, classes: int) -> Integer[np.ndarray, " k"]:
        """Images of each class, int64 [classes]."""
        return np.asarray(np.bincount(self.labels, minlength=classes), dtype=np.int64)

    def take(self, rows: Indices) -> "LabelledImages":
        """The images with these row numbers, in this order."""
        return LabelledImages(images=self.images[rows], labels=self.labels[rows])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageSet:
    """Images to train on and images to test on, of the same classes, size and channels."""

    name: str
    """Short name, such as ``mnist``."""
    title: str
    """Name for people, such as ``CIFAR-10 (JPEG)``."""
    kind: Literal["real", "embedded"]
    """Real, or embedded: it travels with an installed package or is made by procedure."""
    description: str
    """What these images are, for the first line of a report; of an embedded set, also why it is used."""
    classes: tuple[str, ...]
    """Names of the classes in the order of their numbers."""
    train: LabelledImages
    """Images to train on; validation images are taken from these."""
    test: LabelledImages
    """Images to test on."""
    source: str
    """Where the images come from: citation and licence."""
    notes: tuple[str, ...] = ()
    """What a reader should know besides: one sentence each."""
    memo: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    """The fingerprint, once computed."""

    def __post_init__(self) -> None:
        sides = (self.train.channels, self.train.size), (self.test.channels, self.test.size)
        if sides[0] != sides[1]:
            raise DataError(
                f"Training images of {self.title} have {sides[0][0]} channels of {sides[0][1]} px, test images "
                f"{sides[1][0]} of {sides[1][1]} px. Give both one size."
            )
        for part, images in (("training", self.train), ("test", self.test)):
            if len(images) and not 0 <= images.labels.min() <= images.labels.max() < len(self.classes):
                raise DataError(
                    f"Labels of the {part} images of {self.title} lie in {images.labels.min()} … "
                    f"{images.labels.max()}, but there are {len(self.classes)} classes, numbered from 0."
                )

    @property
    def channels(self) -> int:
        """1 grey, 3 red, green, blue."""
        return self.train.channels

    @property
    def size(self) -> int:
        """Pixels a side."""
        return self.train.size

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the classes, and pixels and labels of both parts in their order; 64 hex digits."""
        if "fingerprint" not in self.memo:
            digest = hashlib.sha256(json.dumps(self.classes).encode())
            for part in (self.train, self.test):
                digest.update(str(part.images.shape).encode())
                digest.update(np.ascontiguousarray(part.images).data)
                digest.update(part.labels.astype("<i8").data)
            self.memo["fingerprint"] = digest.hexdigest()
        return self.memo["fingerprint"]

    def subset(self, train: int | None, test: int | None, seed: int) -> "ImageSet":
        """Fewer images, each class with its share; the description says so.

        A smaller subset lies inside a larger one of the same seed.

        Args:
            train: training images to keep; None, or more than there are, keeps all.
            test: the same for test images.
            seed: seed of the choice.

        Raises:
            UsageError: fewer images than classes.
        """
        kept = {"train": self.train, "test": self.test}
        for part, count in (("train", train), ("test", test)):
            images = kept[part]
            if count is not None and count < len(images):
                quota = _quota(images.counts(len(self.classes)), count, part)
                kept[part] = images.take(_chosen(images.labels, quota, seed, part))
        if all(len(kept[part]) == len(whole) for part, whole in (("train", self.train), ("test", self.test))):
            return self
        sentence = f"Subset, stratified by class: {_sizes(kept['train'], kept['test'])} images (seed {seed})."
        return replace(self, **kept, description=f"{self.description} {sentence}")  # type: ignore[arg-type]

    def per_class(self, count: int, seed: int) -> "ImageSet":
        """The same number of training images of each class, and all test images; the description says so.

        Args:
            count: training images a class; of a class that has fewer, all.
            seed: seed of the choice; fewer a class lie inside more of the same seed.

        Raises:
            UsageError: count is less than 1.
        """
        if count < 1:
            raise UsageError(f"count is {count} images a class, but must be 1 or more.")
        quota = np.minimum(self.train.counts(len(self.classes)), count)
        train = self.train.take(_chosen(self.train.labels, quota, seed, "train"))
        each = f"{count}" if int(quota.min()) == count else f"at most {count}"
        sentence = f"Of these {len(train):,} for training, {each} a class (seed {seed})."
        return replace(self, train=train, description=f"{self.description} {sentence}")

    def resized(self, size: int) -> "ImageSet":
        """The images at another size (bilinear, with antialiasing); the description says so."""
        if size == self.size:
            return self
        return self._changed(lambda images: resized_stack(images, size), f"Resized to {size} × {size} px (bilinear).")

    def bordered(self, size: int) -> "ImageSet":
        """The images in the middle of a larger black field, as LeNet-5 takes 28 px digits in 32 px; said so.

        Raises:
            UsageError: the field is smaller than the images.
        """
        if size == self.size:
            return self
        return self._changed(lambda images: bordered_stack(images, size), f"With a black border to {size} × {size} px.")

    def with_channels(self, channels: int) -> "ImageSet":
        """The images grey (1: luma of ITU-R BT.601) or in three channels (3: grey repeated); said so.

        Raises:
            UsageError: other than 1 or 3 channels.
        """
        if channels == self.channels:
            return self
        sentence = "Made grey." if channels == 1 else "Grey repeated in three channels."
        return self._changed(lambda images: channels_stack(images, channels), sentence)

    def _changed(self, change: Callable[[Array], Array], sentence: str) -> "ImageSet":
        train, test = (
            LabelledImages(images=change(part.images), labels=part.labels) for part in (self.train, self.test)
        )
        return replace(self, train=train, test=test, description=f"{self.description} {sentence}")


def _sizes(train: LabelledImages, test: LabelledImages) -> str:
    return f"{len(train):,} + {len(test):,}"


def _quota(counts: Array, total: int, part: str) -> Array:
    """How many of each class: proportional, by largest remainders, and none of a class that is there left out."""
    present = int((counts > 0).sum())
    if total < present:
        raise UsageError(
            f"{total} {part} images can't hold {present} classes. Take {present} or more, better ten times as many."
        )
    exact = counts * (total / counts.sum())
    quota: Array = np.maximum(np.floor(exact).astype(np.int64), counts > 0)
    for index in np.argsort(-(exact - quota), kind="stable")[: max(0, total - int(quota.sum()))]:
        quota[index] += 1
    while quota.sum() > total:
        quota[np.argmax(quota)] -= 1
    return quota


def _chosen(labels: Array, quota: Array, seed: int, part: str) -> Array:
    """Rows of a choice with so many of each class, ascending."""
    rows = [
        stream(seed, "subset", part, index).permutation(np.flatnonzero(labels == index))[:count]
        for index, count in enumerate(quota.tolist())
    ]
    return np.asarray(np.sort(np.concatenate(rows)))
