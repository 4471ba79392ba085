"""Parts of equal size and mixture from which no group is torn: the algorithm of scikit-learn's StratifiedGroupKFold.

Groups are taken in random order, those whose films are most unevenly spread over the strata first, and each goes to the
part where it leaves the strata spread most evenly (scikit-learn 1.9, ``sklearn.model_selection``, after a kernel by
J. Wasikowski). This one gives the same parts and works out only what a group changes: a million films take seconds
instead of minutes, and scikit-learn need not be installed.
"""

import math
from collections.abc import Sequence

import numpy as np

from hilum.arrays import Array, Indices
from hilum.errors import SplitError

_FEW_STRATA, _FEW_PARTS = 8, 7
"""Below these numpy adds up one value after another, as a loop does, and the loop is quicker."""


def stratified_folds(strata: Indices, groups: Indices, parts: int, seed: int) -> Indices:
    """Give each film one of so many parts, so that groups stay whole and strata are spread evenly.

    Args:
        strata: a number for each film's stratum [n].
        groups: a number for each film's group [n].
        parts: how many parts, ≥ 2.
        seed: 0 … 2³² − 1.

    Returns:
        int64 [n], 0 … parts − 1.

    Raises:
        SplitError: fewer groups than parts.
    """
    _, stratum, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < parts:
        raise SplitError(
            f"{len(names)} patients can't be spread over {parts} parts. Use fewer folds, or more patients."
        )
    k = len(sizes)
    counts = np.bincount(group.ravel() * k + stratum.ravel(), minlength=len(names) * k).reshape(len(names), k)
    order = np.arange(len(names))
    np.random.RandomState(seed).shuffle(order)
    counts = counts[order].astype(np.float64)
    uneven = np.argsort(-np.std(counts, axis=1), kind="stable")
    part = np.empty(len(names), dtype=np.int64)
    part[order[uneven]] = _assign(counts[uneven], sizes, parts)
    chosen: Indices = part[group.ravel()]
    return chosen


def _assign(counts: Array, sizes: Array, parts: int) -> list[int]:
    """The part of each group, one after another.

    Args:
        counts: films of each group in each stratum [g, k].
        sizes: films of each stratum [k].
        parts: how many.
    """
    spread = _Spread(sizes.tolist(), parts)
    which, where = np.nonzero(counts)
    films, strata = counts[which, where].tolist(), where.tolist()
    ends = np.searchsorted(which, np.arange(1, len(counts) + 1)).tolist()
    chosen, start = [], 0
    for end in ends:
        chosen.append(spread.place(strata[start:end], films[start:end]))
        start = end
    return chosen


class _Spread:
    """How many films of each stratum each part has, and how unevenly they are spread."""

    def __init__(self, sizes: Sequence[int], parts: int) -> None:
        self.sizes, self.parts = sizes, parts
        self.films = [[0.0] * parts for _ in sizes]  # of each stratum, in each part
        self.shares = [[0.0] * parts for _ in sizes]  # the same, as shares of the stratum
        self.totals = [0.0] * parts
        self.deviations = [0.0] * len(sizes)

    def place(self, strata: Sequence[int], films: Sequence[float]) -> int:
        """Put a group into the part where it does best, and say which that is."""
        changed = [self._deviations_with(c, n) for c, n in zip(strata, films, strict=True)]
        best, least, fewest = 0, math.inf, math.inf
        for part, uneven in enumerate(self._means(strata, changed)):
            total = self.totals[part]
            tied = abs(uneven - least) <= 1e-8 + 1e-5 * abs(least) < math.inf  # numpy.isclose
            if uneven < least or (tied and total < fewest):
                best, least, fewest = part, uneven, total
        for c, n, deviations in zip(strata, films, changed, strict=True):
            self.films[c][best] += n
            self.shares[c][best] = self.films[c][best] / self.sizes[c]
            self.deviations[c] = deviations[best]
            self.totals[best] += n
        return best

    def _deviations_with(self, c: int, films: float) -> list[float]:
        """Standard deviation of a stratum's shares if the films went to part 0, 1, …"""
        shares, size = self.shares[c], self.sizes[c]
        gained = [(there + films) / size for there in self.films[c]]
        if self.parts >= _FEW_PARTS:
            table = np.repeat(np.array(shares)[:, None], self.parts, axis=1)
            np.fill_diagonal(table, gained)
            if len(self.sizes) == 1:  # numpy adds up a single column in another order
                return [float(np.std(column[:, None], axis=0)[0]) for column in table.T.copy()]
            return [float(one) for one in np.std(table, axis=0)]
        found, n = [], self.parts
        for part, share in enumerate(gained):
            values = shares.copy()
            values[part] = share
            mean = 0.0
            for value in values:
                mean += value
            mean /= n
            squares = 0.0
            for value in values:
                squares += (value - mean) * (value - mean)
            found.append(math.sqrt(squares / n))
        return found

    def _means(self, strata: Sequence[int], changed: Sequence[Sequence[float]]) -> list[float]:
        """Mean over the strata of their standard deviations, for each part that the group might go to."""
        k, deviations = len(self.sizes), self.deviations.copy()
        pairs = list(zip(strata, changed, strict=True))
        found = []
        if k >= _FEW_STRATA:
            held = np.array(deviations)
            for part in range(self.parts):
                for c, with_it in pairs:
                    held[c] = with_it[part]
                found.append(float(np.add.reduce(held)) / k)
            return found
        for part in range(self.parts):
            for c, with_it in pairs:
                deviations[c] = with_it[part]
            total = 0.0
            for value in deviations:
                total += value
            found.append(total / k)
        return found
