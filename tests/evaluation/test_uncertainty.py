"""Closed forms agree with sampling, mutual information is what members don't agree on, and odd features lie far."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import mahalanobis

from hilum.errors import DataError
from hilum.evaluation.calibration import softmax
from hilum.evaluation.ranks import auroc
from hilum.evaluation.uncertainty import FeatureDistance, dropout_logits, entropy, mean_field_probs, spread_of
from hilum.randomness import stream


def test_entropy_agrees_with_scipy() -> None:
    probs = np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    np.testing.assert_allclose(entropy(probs), stats.entropy(probs, axis=1))


def test_members_that_agree_have_no_mutual_information_however_unsure_they_are() -> None:
    found = spread_of(np.full((4, 2, 2), 0.5))
    np.testing.assert_allclose(found.mutual_information, 0)
    np.testing.assert_allclose(found.entropy, np.log(2))
    np.testing.assert_allclose(found.std, 0)


def test_members_that_are_sure_of_different_findings_have_all_of_it() -> None:
    found = spread_of(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]))
    assert found.mutual_information[0] == pytest.approx(np.log(2))
    assert found.expected_entropy[0] == 0
    np.testing.assert_allclose(found.mean, 0.5)
    np.testing.assert_allclose(found.std, 0.5)


def test_dropout_in_closed_form_agrees_with_sampling_it() -> None:
    rng = stream(0, "dropout")
    hidden, weight, bias = np.maximum(0, rng.normal(size=(3, 40))), rng.normal(size=(2, 40)), rng.normal(size=2)
    means, variances = dropout_logits(hidden, weight, bias, 0.3)
    masks = (rng.random((20_000, 40)) >= 0.3) / 0.7
    for row in range(3):
        sampled = (masks * hidden[row]) @ weight.T + bias
        np.testing.assert_allclose(sampled.mean(axis=0), means[row], atol=4 * np.sqrt(variances[row].max() / 20_000))
        np.testing.assert_allclose(sampled.var(axis=0), variances[row], rtol=0.05)
    np.testing.assert_allclose(means, hidden @ weight.T + bias)


def test_mean_field_probabilities_lie_near_the_sampled_ones_and_without_variance_are_the_softmax() -> None:
    rng = stream(1, "mean-field")
    means, variances = rng.normal(size=(50, 3)) * 2, rng.random((50, 3)) * 2
    noise = np.sqrt(variances) * rng.normal(size=(10_000, 50, 3))
    sampled = softmax((means + noise).reshape(-1, 3)).reshape(-1, 50, 3).mean(axis=0)
    assert np.abs(mean_field_probs(means, variances) - sampled).max() < 0.04
    assert np.abs(softmax(means) - sampled).max() > 0.1
    np.testing.assert_allclose(mean_field_probs(means, 0 * variances), softmax(means))


def test_the_distance_is_mahalanobis_to_the_nearest_class() -> None:
    rng = stream(2, "distance")
    features, classes = rng.normal(size=(400, 4)) @ rng.normal(size=(4, 4)), np.arange(400) % 2
    features[classes == 1] += 5
    found = FeatureDistance.of(features, classes)
    other = np.array([[0.3, -1.0, 2.0, 0.5]])
    expected = min(mahalanobis(other[0], mean, found.precision) for mean in found.means) / 2
    assert found.distance(other)[0] == pytest.approx(expected)
    assert 0 <= found.shrinkage < 0.2
    within = features - found.means[classes]
    np.testing.assert_allclose(np.linalg.inv(found.precision), np.cov(within.T, ddof=2), rtol=0.25, atol=0.3)


def test_usual_films_lie_at_about_one_and_odd_ones_beyond() -> None:
    rng = stream(3, "distance")
    mix, classes = rng.normal(size=(30, 30)), np.arange(600) % 3
    shift = 3 * rng.normal(size=(3, 30))
    usual = lambda n: rng.normal(size=(n, 30)) @ mix  # noqa: E731
    found = FeatureDistance.of(usual(600) + shift[classes], classes)
    fresh, odd = usual(200) + shift[np.arange(200) % 3], usual(200) @ np.diag(np.linspace(0.2, 3, 30))
    near, far = found.distance(fresh), found.distance(odd)
    assert near.mean() == pytest.approx(1.0, abs=0.1)
    assert auroc(np.concatenate([near, far]), np.arange(400) >= 200) > 0.9


def test_more_features_than_films_and_features_that_never_move_are_shrunk_not_divided_by_zero() -> None:
    rng = stream(4, "distance")
    features = np.column_stack([rng.normal(size=(12, 30)), np.full(12, 7.0)])
    found = FeatureDistance.of(features, np.arange(12) % 2)
    assert found.shrinkage > 0.5
    assert np.isfinite(found.distance(features + 1)).all()


def test_shapes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(DataError, match=r"Several answers are probabilities \[t, n, k\]"):
        spread_of(np.ones((2, 3)))
    with pytest.raises(DataError, match="The dropout rate is 1, but must be at least 0 and below 1"):
        dropout_logits(np.ones((1, 2)), np.ones((1, 2)), np.ones(1), 1.0)
    with pytest.raises(DataError, match="A distance needs finite features"):
        FeatureDistance.of(np.ones((2, 3)), np.arange(2))
    with pytest.raises(DataError, match="The distance knows 2 features, but got"):
        FeatureDistance.of(np.eye(4)[:, :2], np.arange(4) % 2).distance(np.ones((1, 3)))
