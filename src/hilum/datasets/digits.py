"""scikit-learn's digits: 1,797 real scans of 8 × 8 px that travel with the installed package."""

import numpy as np

from hilum.arrays import Array
from hilum.datasets.labelled_images import ImageSet, LabelledImages
from hilum.errors import MissingExtra
from hilum.randomness import stream

TEST_SHARE = 0.2

SOURCE = (
    "Optical Recognition of Handwritten Digits, test part, E. Alpaydin and C. Kaynak 1998, UCI Machine Learning "
    "Repository, doi:10.24432/C50P49, CC BY 4.0; as installed with scikit-learn."
)


def read_digits(seed: int = 0) -> ImageSet:
    """The digits, 0 … 16 stretched to 0 … 255, split once by class.

    Args:
        seed: seed of the split.

    Returns:
        1,437 training and 360 test images, uint8 [n, 1, 8, 8].

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise MissingExtra("train", "The digits set") from error
    found = load_digits()
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = found.target.astype(np.int64)
    test = _test_rows(labels, seed)
    train = np.setdiff1d(np.arange(len(labels)), test)
    whole = LabelledImages(images=images, labels=labels)
    return ImageSet(
        name="digits",
        title="scikit-learn's digits",
        kind="embedded",
        description=(
            f"scikit-learn's digits: {len(train):,} + {len(test):,} real scanned digits of 8 × 8 px "
            "(Alpaydin & Kaynak 1998), installed with the package; not MNIST."
        ),
        classes=tuple(str(digit) for digit in range(10)),
        train=whole.take(train),
        test=whole.take(test),
        source=SOURCE,
        notes=(
            f"Split by class with seed {seed}. 13 people wrote them all, and who wrote which isn't recorded, so every "
            "writer may be on both sides.",
        ),
    )


def _test_rows(labels: Array, seed: int) -> Array:
    """Rows of the test part: each class's share, so that the whole is the nearest number to a fifth of all."""
    counts = np.bincount(labels)
    total = int(np.ceil(TEST_SHARE * len(labels)))
    exact = counts * TEST_SHARE
    quota = np.floor(exact).astype(int)
    quota[np.argsort(-(exact - quota), kind="stable")[: total - quota.sum()]] += 1
    rows = [
        stream(seed, "digits", "test", digit).permutation(np.flatnonzero(labels == digit))[:count]
        for digit, count in enumerate(quota.tolist())
    ]
    return np.sort(np.concatenate(rows))
