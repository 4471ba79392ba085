"""The procedural ten-class set as an image set: drawn once, kept on disk."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hilum.arrays import Array
from hilum.config import fingerprint, to_mapping
from hilum.datasets.image_cache import Allocate, kept_images
from hilum.datasets.labelled_images import ImageSet, LabelledImages
from hilum.datasets.procedural import TEN, ProceduralConfig, one_thread, procedural_ten
from hilum.errors import ConfigError
from hilum.progress import Progress, Silent

TEST_FROM = 1_000_000_000
"""Image numbers of test images begin here, so that no training image is ever one of them."""

DRAWING = 2
"""Raised when the way in which images are drawn changes, so that kept ones are drawn anew."""

BATCH = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ProceduralSetConfig:
    """Which procedural images, and how many."""

    size: int = 32
    """Pixels a side, ≥ 16."""
    train: int = 4000
    """Training images."""
    test: int = 1000
    """Test images."""
    classes: tuple[int, ...] = tuple(range(len(TEN)))
    """Numbers of the classes to take, two or more of the ten."""
    seed: int = 0
    """Seed of all chance."""

    def __post_init__(self) -> None:
        problems = []
        k = len(self.classes)
        if k < 2 or len(set(self.classes)) < k or not all(0 <= c < len(TEN) for c in self.classes):
            problems.append(f"classes are {self.classes}, but must be two or more different numbers in 0 … 9.")
        for name, count in (("train", self.train), ("test", self.test)):
            if not k <= count < TEST_FROM // len(TEN):
                problems.append(f"{name} is {count} images, but must be {k} (one a class) … {TEST_FROM // len(TEN):,}.")
        if problems:
            raise ConfigError(problems)


def procedural_set(
    config: ProceduralSetConfig = ProceduralSetConfig(), *, cache: Path | None = None, progress: Progress | None = None
) -> ImageSet:
    """Draw the set, or take it from the cache.

    Args:
        config: which images.
        cache: folder that keeps drawn images; None draws them each time.
        progress: where progress goes.

    Returns:
        colour images with balanced classes; the first n images of a larger set are those of a smaller one.
    """
    drawn = ProceduralConfig(size=config.size, seed=config.seed, grey_share=0)
    train, test = _numbers(config, config.train, 0), _numbers(config, config.test, TEST_FROM)
    numbers = np.concatenate([train, test])

    def make(allocate: Allocate) -> dict[str, object]:
        images = allocate((len(numbers), 3, config.size, config.size))
        with one_thread(), (progress or Silent()).bar("drawing images", len(numbers)) as bar:
            for start in range(0, len(numbers), BATCH):
                images[start : start + BATCH], _ = procedural_ten(drawn, numbers[start : start + BATCH])
                bar.advance(len(numbers[start : start + BATCH]))
        return {}

    key = fingerprint({"procedural": DRAWING, "images": to_mapping(drawn), "set": to_mapping(config)})
    images, _, note = kept_images(cache, f"procedural-{key[:32]}", make)
    places = np.full(len(TEN), -1)
    places[list(config.classes)] = np.arange(len(config.classes))
    labels = places[numbers % len(TEN)].astype(np.int64)
    names = tuple(TEN[c][0] for c in config.classes)
    kind = "ten classes" if len(names) == len(TEN) else f"{len(names)} classes ({', '.join(names)})"
    return ImageSet(
        name="procedural",
        title="Procedural images",
        kind="embedded",
        description=(
            f"Procedural images: {config.train:,} + {config.test:,} synthetic colour images of {config.size} × "
            f"{config.size} px in {kind}, made by hilum; not photographs."
        ),
        classes=names,
        train=LabelledImages(images=images[: len(train)], labels=labels[: len(train)]),
        test=LabelledImages(images=images[len(train) :], labels=labels[len(train) :]),
        source=f"hilum.datasets.procedural, seed {config.seed}; made by this package, under its licence.",
        notes=(
            "A class is a pair of a shape and a surface; neither alone decides it, nor does colour. Training and test "
            "images are drawn independently.",
            *((note,) if note else ()),
        ),
    )


def _numbers(config: ProceduralSetConfig, count: int, start: int) -> Array:
    """Image numbers of a part: image i of :func:`procedural_ten` has class i mod 10."""
    rows = np.arange(count)
    classes = np.asarray(config.classes)
    return np.asarray(start + rows // len(classes) * len(TEN) + classes[rows % len(classes)])
