"""The same parts as scikit-learn's, whatever the strata, the groups and the number of parts."""

import warnings

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from hilum.datasets.stratified_folds import stratified_folds
from hilum.errors import SplitError


def oracle(strata: np.ndarray, groups: np.ndarray, parts: int, seed: int) -> np.ndarray:
    fold = np.zeros(len(groups), dtype=np.int64)
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for number, (_, held) in enumerate(splitter.split(np.zeros(len(groups)), strata, groups)):
            fold[held] = number
    return fold


@pytest.mark.parametrize("parts", [2, 3, 5, 6, 7, 8, 10, 20])
@pytest.mark.parametrize("kinds", [1, 2, 7, 8, 17])
def test_parts_are_those_of_scikit_learn(parts: int, kinds: int) -> None:
    """Few and many strata, some of them rare; groups of one to several films of one or several strata."""
    chance = np.random.default_rng([parts, kinds])
    shares = chance.dirichlet(np.ones(kinds))
    n = int(chance.integers(60, 160))
    strata = np.concatenate([np.zeros(parts, np.int64), chance.choice(kinds, n, p=shares) * 3])
    groups = np.concatenate([np.arange(parts), chance.integers(0, n // 2 + parts, n)]) * 7
    seed = int(chance.integers(0, 2**32))
    found = stratified_folds(strata, groups, parts, seed)
    assert np.array_equal(found, oracle(strata, groups, parts, seed))
    assert all(len(set(found[groups == group])) == 1 for group in set(groups.tolist()))


def test_fewer_patients_than_parts_are_refused() -> None:
    with pytest.raises(SplitError, match="2 patients can't be spread over 3 parts. Use fewer folds, or more patients"):
        stratified_folds(np.zeros(4, np.int64), np.array([0, 0, 1, 1]), 3, 0)
