"""Two-sample tests: right on tiny cases, exact under the null at any size, and able to find what is there."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from hilum.errors import DataError
from hilum.monitoring.two_sample import (
    Found,
    compare_classes,
    compare_features,
    compare_numbers,
    compare_shares,
    sequential_p,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_identical_samples_alarm_as_often_as_they_may() -> None:
    """Where PSI above 0.1 fires on 84 % of identical samples of 50, p ≤ 0.05 is met by about 5 %."""
    chance, psi, hits = rng(), 0, 0
    runs = 400
    for _ in range(runs):
        a, b = chance.normal(size=50), chance.normal(size=50)
        edges = np.quantile(a, np.arange(1, 10) / 10)
        p, q = (np.maximum(np.bincount(np.searchsorted(edges, one), minlength=10) / 50, 1e-4) for one in (a, b))
        psi += float(((p - q) * np.log(p / q)).sum()) > 0.1
        hits += compare_numbers(a, b, chance).p_value <= 0.05
    assert psi / runs > 0.7
    assert hits <= stats.binom.ppf(0.999, runs, 0.05)
    assert hits > 0


def test_classes_agree_with_the_exact_test_where_there_are_two() -> None:
    counts = np.array([60, 40]), np.array([20, 30])
    found = compare_classes(*counts, rng())
    exact = stats.fisher_exact(np.array(counts)).pvalue
    assert found.p_value == pytest.approx(exact, abs=0.03)
    assert found.effect == pytest.approx(0.2)


def test_numbers_find_the_distance_of_kolmogorov_and_smirnov() -> None:
    a, b = rng(1).normal(size=3000), rng(2).normal(0.5, size=2000)
    found = compare_numbers(a, b, rng())
    assert found.effect == pytest.approx(stats.ks_2samp(a, b).statistic, abs=0.02)
    assert found.p_value == 1 / 1000


@pytest.mark.parametrize(
    ("reference", "window"), [((10, 200), (12, 80)), ((0, 30), (25, 30)), ((4000, 90000), (700, 13000))]
)
def test_shares_agree_with_the_exact_test(reference: tuple[int, int], window: tuple[int, int]) -> None:
    (a, n), (b, m) = reference, window
    exact = stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue
    assert compare_shares(reference, window).p_value == pytest.approx(exact, rel=1e-6)


def test_features_find_a_shift_that_no_single_one_shows_and_none_where_there_is_none() -> None:
    a, b = rng(1).normal(size=(300, 200)), rng(2).normal(size=(100, 200))
    assert compare_features(a, b, rng()).p_value > 0.05
    assert compare_features(a, b + 0.25, rng()).p_value < 0.01


def test_the_unbiased_discrepancy_is_what_its_definition_says() -> None:
    chance = rng(4)
    a, b = chance.normal(size=(25, 3)), chance.normal(1.0, size=(21, 3))
    both = np.concatenate([a, b])
    scaled = (both - both.mean(0)) / both.std(0)
    squared = ((scaled[:, None] - scaled[None]) ** 2).sum(-1)
    kernel = np.exp(-squared / np.median(squared))
    within = lambda k: sum(k[i, j] for i, j in combinations(range(len(k)), 2)) / (len(k) * (len(k) - 1) / 2)  # noqa: E731
    by_hand = within(kernel[:25, :25]) + within(kernel[25:, 25:]) - 2 * kernel[:25, 25:].mean()
    assert compare_features(a, b, rng()).effect ** 2 == pytest.approx(by_hand, rel=1e-4)


def test_shares_agree_with_fishers_test() -> None:
    found = compare_shares((10, 200), (12, 80))
    assert found.p_value == pytest.approx(stats.fisher_exact([[10, 190], [12, 68]]).pvalue)
    assert found.effect == pytest.approx(0.1)
    assert compare_shares((0, 200), (0, 80)).p_value == 1.0


@pytest.mark.parametrize(
    "found",
    [
        compare_numbers(np.full(30, np.nan), np.ones(30), rng()),
        compare_classes(np.array([5, 5]), np.array([30, 30]), rng()),
        compare_shares((0, 0), (1, 30)),
        compare_features(np.zeros((30, 0)), np.zeros((30, 0)), rng()),
    ],
)
def test_too_few_values_say_so_instead_of_a_number(found: Found) -> None:
    assert np.isnan(found.p_value)
    assert "are needed" in found.why_not


def test_counts_of_other_classes_are_refused() -> None:
    with pytest.raises(DataError, match="Counts of 2 and of 3 classes can't be compared"):
        compare_classes(np.array([30, 30]), np.array([30, 30, 1]), rng())


def test_an_early_stop_keeps_the_p_value_valid() -> None:
    """P(p ≤ x) ≤ x at several x, with the observed statistic itself drawn from the null."""
    chance = rng(3)
    found = np.array([sequential_p(chance.random, float(chance.random()), most=499) for _ in range(4000)])
    for x in (0.01, 0.05, 0.2, 0.5):
        assert (found <= x).mean() <= x + 3 * np.sqrt(x * (1 - x) / 4000)
    assert (found <= 0.05).mean() > 0.03
