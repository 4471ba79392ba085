"""The references: distances by hand and against a covariance, thresholds that let a stated share pass."""

import numpy as np
import pytest

from hilum.bundle.distribution import LEVELS, DriftReference, OodReference, heatmap_top
from hilum.errors import ConfigError, DataError


def test_distance_by_hand() -> None:
    reference = OodReference(mean=(1.0, 0.0), scale=(2.0, 1.0), threshold=3.0)
    # ((5−1)/2)² = 4 and ((2−0)/1)² = 4: the root of their mean is 2.
    np.testing.assert_allclose(reference.distance(np.asarray([[5.0, 2.0], [1.0, 0.0]])), [2.0, 0.0])


def test_distance_is_a_diagonal_mahalanobis_distance_over_the_root_of_d() -> None:
    from scipy.spatial.distance import mahalanobis

    random = np.random.default_rng(0)
    features = random.normal(size=(200, 5)) * [1, 2, 3, 4, 5] + 7
    reference = OodReference.of(features)
    inverse = np.diag(1 / features.var(axis=0))
    expected = [mahalanobis(row, features.mean(axis=0), inverse) / np.sqrt(5) for row in features]
    np.testing.assert_allclose(reference.distance(features), expected, rtol=1e-10)


def test_a_usual_film_lies_at_about_one_and_an_unusual_one_far_away() -> None:
    random = np.random.default_rng(1)
    features = random.normal(size=(500, 64))
    reference = OodReference.of(features, held_out=random.normal(size=(500, 64)))
    assert 0.9 < float(np.median(reference.distance(features))) < 1.1
    assert reference.distance(features[:1] + 10)[0] > 3 * reference.threshold


def test_the_threshold_lets_the_stated_share_of_held_out_films_pass() -> None:
    random = np.random.default_rng(2)
    held_out = random.normal(size=(1000, 8))
    reference = OodReference.of(random.normal(size=(300, 8)), held_out=held_out, share=0.95)
    assert np.mean(reference.distance(held_out) <= reference.threshold) == pytest.approx(0.95, abs=0.002)


def test_held_out_films_set_a_wider_threshold_than_fitted_ones() -> None:
    random = np.random.default_rng(3)
    fitted = random.normal(size=(20, 64))
    strict = OodReference.of(fitted)
    assert OodReference.of(fitted, held_out=random.normal(size=(400, 64))).threshold > strict.threshold


def test_a_feature_that_never_moves_doesnt_divide_by_zero() -> None:
    features = np.column_stack([np.arange(10.0), np.full(10, 3.0)])
    reference = OodReference.of(features)
    assert np.isfinite(reference.distance(features)).all()
    assert np.isfinite(OodReference.of(np.zeros((3, 2))).distance(np.zeros((1, 2)))).all()


def test_another_number_of_features_is_refused() -> None:
    with pytest.raises(DataError, match=r"knows 2 features, but got \(1, 3\)"):
        OodReference(mean=(0.0, 0.0), scale=(1.0, 1.0), threshold=1.0).distance(np.zeros((1, 3)))


@pytest.mark.parametrize("features", [np.zeros((1, 4)), np.zeros(4), np.asarray([[1.0, np.nan], [1.0, 2.0]])])
def test_references_need_two_films_with_numbers(features: np.ndarray) -> None:
    with pytest.raises(DataError, match="An out-of-distribution reference needs finite values of two or more films"):
        OodReference.of(features)
    with pytest.raises(DataError, match="A drift reference needs finite values of two or more films"):
        DriftReference.of(features=features, probs=np.zeros((2, 2)), findings=("a", "b"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mean": ()}, "as many means as scales"),
        ({"scale": (1.0, 1.0)}, "as many means as scales"),
        ({"mean": (float("nan"),)}, "all finite"),
        ({"scale": (-1.0,)}, "scales and a threshold above 0"),
        ({"threshold": 0.0}, "scales and a threshold above 0"),
    ],
)
def test_a_reference_that_can_give_no_distance_is_refused(changes: dict[str, object], words: str) -> None:
    values = {"mean": (0.0,), "scale": (1.0,), "threshold": 1.0} | changes
    with pytest.raises(ConfigError, match=words):
        OodReference(**values)  # type: ignore[arg-type]


def test_drift_reference_by_hand() -> None:
    probs = np.asarray([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    features = np.asarray([[0.0], [2.0], [4.0], [6.0]])
    reference = DriftReference.of(
        features=features, probs=probs, findings=("a", "b"), uncertainty={"mi": np.asarray([0, 1, 2, 3.0])}
    )
    assert reference.films == 4
    assert reference.feature_mean == (3.0,)
    assert reference.feature_std == pytest.approx((np.sqrt(5),))
    assert reference.label_shares == {"a": 0.75, "b": 0.25}
    assert len(LEVELS) == 21
    quantiles = reference.probs_quantiles["a"]
    assert (quantiles[0], quantiles[10], quantiles[20]) == pytest.approx((0.2, 0.65, 0.9))
    assert reference.uncertainty_quantiles["mi"][20] == 3.0


def test_drift_reference_needs_matching_shapes() -> None:
    with pytest.raises(DataError, match=r"needs probabilities \[4, 2\], but got \(4, 3\)"):
        DriftReference.of(features=np.zeros((4, 1)), probs=np.zeros((4, 3)), findings=("a", "b"))


def test_heatmap_top_ignores_cold_pixels() -> None:
    cams = np.zeros((1, 1, 10, 20))
    cams[0, 0, 0, :10] = np.arange(1, 11)
    assert heatmap_top(cams, percent=100) == 10.0
    assert heatmap_top(cams, percent=50) == 5.5
    assert heatmap_top(np.zeros((1, 1, 2, 2))) == 1.0
