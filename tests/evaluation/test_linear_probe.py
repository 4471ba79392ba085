"""The linear probe: what it reads, against scikit-learn's ridge, and what it refuses."""

import numpy as np
import pytest

from hilum.errors import DataError
from hilum.evaluation.linear_probe import linear_probe


def blobs(n: int, apart: float, seed: int, dimensions: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return rng.normal(size=(n, dimensions)) + apart * np.eye(3, dimensions)[labels], labels


def test_classes_far_apart_are_all_read_and_equal_ones_are_guessed() -> None:
    far = linear_probe(blobs(90, 12, 0), blobs(300, 12, 1))
    assert (far.right, far.n, far.features) == (300, 300, 6)
    none = linear_probe(blobs(90, 0, 0), blobs(300, 0, 1))
    assert 60 < none.right < 140


def test_one_penalty_gives_what_scikit_learns_ridge_gives() -> None:
    from sklearn.linear_model import Ridge

    (features, labels), (others, truths) = blobs(60, 1.5, 2), blobs(200, 1.5, 3)
    mean, std = features.mean(0), features.std(0)
    model = Ridge(alpha=0.1 * 60).fit((features - mean) / std, np.eye(3)[labels])
    right = (model.predict((others - mean) / std).argmax(1) == truths).sum()
    assert linear_probe((features, labels), (others, truths), strengths=[0.1]).right == right


def test_more_features_than_images_need_a_strong_penalty() -> None:
    """With 400 features of noise a weak penalty fits the noise; the choice inside sees that."""
    train, test = blobs(60, 2.5, 4, 400), blobs(300, 2.5, 5, 400)
    chosen = linear_probe(train, test)
    weak = linear_probe(train, test, strengths=[1e-9])
    assert chosen.strength > 1e-3
    assert chosen.right >= weak.right


def test_scale_and_shift_of_features_change_nothing() -> None:
    (features, labels), (others, truths) = blobs(60, 1.5, 6), blobs(200, 1.5, 7)
    factor, shift = np.array([1, 10, 100, 0.1, 3, 7]), 5.0
    moved = linear_probe((features * factor + shift, labels), (others * factor + shift, truths))
    assert moved == linear_probe((features, labels), (others, truths))


def test_what_can_t_be_probed_is_refused() -> None:
    features, labels = blobs(30, 1, 0)
    with pytest.raises(DataError, match=r"Features \(30, 6\) and \(30, 5\) with \[30, 30\] labels don't match"):
        linear_probe((features, labels), (features[:, :5], labels))
    with pytest.raises(DataError, match="6 images are too few for a linear probe"):
        linear_probe((features[:6], labels[:6]), (features, labels))
    features[3, 2] = np.nan
    with pytest.raises(DataError, match=r"Some features are not finite\. Look for a network whose training diverged"):
        linear_probe((features, labels), (features, labels))
