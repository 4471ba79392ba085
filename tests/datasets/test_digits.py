"""scikit-learn's digits: real, whole, and split once."""

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from hilum.datasets.digits import read_digits
from hilum.errors import MissingExtra


def test_every_digit_is_in_one_part_with_its_grey_values_stretched() -> None:
    digits = read_digits()
    assert (len(digits.train), len(digits.test), digits.size, digits.channels) == (1437, 360, 8, 1)
    ours = np.concatenate([digits.train.images, digits.test.images])[:, 0]
    theirs = load_digits().images
    assert sorted(image.tobytes() for image in ours) == sorted(
        np.rint(image * 255 / 16).astype(np.uint8).tobytes() for image in theirs
    )
    assert ours.max() == 255


def test_the_split_gives_each_digit_its_share() -> None:
    digits = read_digits()
    share = digits.test.counts(10) / (digits.train.counts(10) + digits.test.counts(10))
    assert share.min() > 0.195
    assert share.max() < 0.205


def test_the_split_depends_on_the_seed_alone() -> None:
    assert read_digits(3).fingerprint == read_digits(3).fingerprint
    assert read_digits(3).fingerprint != read_digits(4).fingerprint


def test_it_says_that_it_is_embedded_and_not_mnist() -> None:
    digits = read_digits()
    assert digits.kind == "embedded"
    assert digits.description == (
        "scikit-learn's digits: 1,437 + 360 real scanned digits of 8 × 8 px (Alpaydin & Kaynak 1998), installed with "
        "the package; not MNIST."
    )
    assert "10.24432/C50P49" in digits.source
    assert "every writer may be on both sides" in digits.notes[0]


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtra, match=r"The digits set needs the 'train' extra"):
        read_digits()
