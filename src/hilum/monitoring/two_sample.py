"""Are two samples of one kind? Exact tests by permutation, with an effect size beside each p-value.

Thresholds on an index (a "PSI above 0.1") fire on most pairs of identical samples when these are small; here every
threshold is the null's own at the samples' sizes. Labels (reference or window) are permuted; for counts in classes that
is a draw from the multivariate hypergeometric distribution, so a permutation costs as much as there are classes and not
as much as there are films. Numbers are put into classes by the quantiles of both samples together, which the labels
don't enter, so the test stays exact.

Permutations stop early when it is plain that there is nothing (Besag and Clifford 1991, Biometrika 78:301,
doi:10.1093/biomet/78.2.301): the p-value stays valid and a quiet week costs little.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hilum.arrays import Array, Indices, Vector
from hilum.errors import DataError

CLASSES = 48
"""Most classes that numbers are put into."""

DRAWS = 999
"""Most permutations: the smallest p-value is 1 in 1,000."""

PLAIN = 16
"""Permutations at least as extreme as what was seen, after which it is plain that there is nothing."""

LEAST = 20
"""A sample of fewer values says nothing."""

MOST_FEATURES = 400
"""Most films a side whose features are compared; more are thinned by chance."""

PROJECTED = 48
"""Features are projected at random, without a look at the data, to so many numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a test found."""

    effect: float
    """How far apart, on the test's own scale, 0 … 1; NaN when it could not be told."""
    p_value: float
    """Chance of something as extreme when both are of one kind; NaN when it could not be told."""
    reference: int
    """Values of the reference."""
    window: int
    """Values of the window."""
    why_not: str = ""
    """Why it could not be told; empty when it could."""


def _nothing(reference: int, window: int) -> Found:
    few = f"{min(reference, window)} values on one side; {LEAST} are needed."
    return Found(effect=np.nan, p_value=np.nan, reference=reference, window=window, why_not=few)


def sequential_p(draw: Callable[[int], Array], observed: float, *, most: int = DRAWS, plain: int = PLAIN) -> float:
    """A permutation p-value that stops when it is plain that there is nothing.

    Args:
        draw: gives so many statistics under the null.
        observed: the statistic seen; large is extreme.
        most: most permutations.
        plain: exceedances after which to stop.

    Returns:
        a p-value in (0, 1]; P(p ≤ x) ≤ x when both samples are of one kind.
    """
    done, reached, size = 0, 0, 3 * plain
    while done < most:
        size = min(size, most - done)
        extreme = np.flatnonzero(draw(size) >= observed - 1e-12)
        if reached + len(extreme) >= plain:
            return plain / (done + int(extreme[plain - reached - 1]) + 1)
        done, reached, size = done + size, reached + len(extreme), size * 4
    return (reached + 1) / (most + 1)


def compare_classes(reference: Indices, window: Indices, rng: np.random.Generator) -> Found:
    """Counts in the same classes: Pearson's statistic by permutation; the effect is the total variation distance.

    Args:
        reference: [k] counts of the reference.
        window: [k] counts of the window.
        rng: chance.

    Raises:
        DataError: counts of different classes.
    """
    if reference.shape != window.shape:
        raise DataError(f"Counts of {reference.shape[0]} and of {window.shape[0]} classes can't be compared.")
    n, m = int(reference.sum()), int(window.sum())
    if min(n, m) < LEAST:
        return _nothing(n, m)
    both = (reference + window)[reference + window > 0]
    mine = window[reference + window > 0]
    expected = both * (m / (n + m))

    def statistic(counts: Array) -> Array:
        found: Array = ((counts - expected) ** 2 / both).sum(axis=-1)
        return found

    p = sequential_p(lambda size: statistic(_draws(both, m, size, rng)), float(statistic(mine)))
    effect = float(np.abs(reference / n - window / m).sum() / 2)
    return Found(effect=effect, p_value=p, reference=n, window=m)


def compare_numbers(reference: Vector, window: Vector, rng: np.random.Generator) -> Found:
    """Numbers: the Kolmogorov-Smirnov distance over common quantiles, by permutation; it is the effect as well.

    Args:
        reference: [n]; NaN is left out.
        window: [m]; NaN is left out.
        rng: chance.
    """
    reference, window = in_order(reference), in_order(window)
    n, m = len(reference), len(window)
    if min(n, m) < LEAST:
        return _nothing(n, m)
    together = np.sort(np.concatenate([reference, window]), kind="stable")
    places = np.ceil((n + m) * np.arange(1, CLASSES) / CLASSES).astype(np.int64) - 1
    edges = np.unique(together[places])
    both, mine = _counts(together, edges), _counts(window, edges)

    def statistic(counts: Array) -> Array:
        share = np.cumsum(counts, axis=-1)
        distance = np.abs(share / m - (np.cumsum(both) - share) / n)
        found: Array = distance.max(axis=-1)
        return found

    effect = float(statistic(mine))
    p = sequential_p(lambda size: statistic(_draws(both, m, size, rng)), effect)
    return Found(effect=effect, p_value=p, reference=n, window=m)


def in_order(values: Vector) -> Vector:
    """Numbers without NaN, ascending; what is in order already is soon done."""
    ordered: Vector = np.sort(values[~np.isnan(values)], kind="stable")
    return ordered


def _counts(ordered: Vector, edges: Vector) -> Indices:
    """How many lie up to each edge and above the one before; what lies above all comes last."""
    below = np.searchsorted(ordered, edges, side="right")
    found: Indices = np.diff(below, prepend=0, append=len(ordered))
    return found


def _draws(both: Array, m: int, size: int, rng: np.random.Generator) -> Array:
    """Windows of m films from both samples together: counts [size, k]."""
    drawn: Array = rng.multivariate_hypergeometric(both, m, size=size, method="marginals")
    return drawn


def compare_features(reference: Array, window: Array, rng: np.random.Generator) -> Found:
    """Features: the maximum mean discrepancy with a Gaussian kernel, by permutation.

    Args:
        reference: [n, d]; rows with NaN are left out.
        window: [m, d].
        rng: chance: it thins large samples, projects and permutes.

    Returns:
        what was found; the effect is the unbiased MMD's root, 0 … √2.

    Source: Gretton and others 2012, JMLR 13:723.
    """
    reference, window = (_thinned(one, rng) for one in (reference, window))
    n, m = len(reference), len(window)
    if min(n, m) < LEAST or reference.shape[1] == 0:
        return _nothing(n, m)
    kernel = _kernel(np.concatenate([reference, window]), rng)
    np.fill_diagonal(kernel, 0.0)  # the unbiased form leaves pairs of a film with itself out
    rows, total = kernel.sum(axis=1, dtype=np.float64), float(kernel.sum(dtype=np.float64))

    def statistic(marks: Array) -> Array:
        inside = ((marks @ kernel) * marks).sum(axis=1, dtype=np.float64)
        mine = marks @ rows
        across = mine - inside
        others = total - inside - 2 * across
        found: Array = inside / (m * (m - 1)) + others / (n * (n - 1)) - 2 * across / (n * m)
        return found

    def draw(size: int) -> Array:
        order = np.argsort(rng.random((size, n + m), dtype=np.float32), axis=1)
        marks = np.zeros((size, n + m), dtype=np.float32)
        np.put_along_axis(marks, order[:, :m], 1.0, axis=1)
        return statistic(marks)

    seen = np.zeros((1, n + m), dtype=np.float32)
    seen[0, n:] = 1.0
    observed = float(statistic(seen)[0])
    p = sequential_p(draw, observed)
    return Found(effect=float(np.sqrt(max(0.0, observed))), p_value=p, reference=n, window=m)


def _thinned(features: Array, rng: np.random.Generator) -> Array:
    rows = np.flatnonzero(~np.isnan(features[:, 0])) if features.shape[1] else np.arange(len(features))
    if len(rows) > MOST_FEATURES:
        rows = rng.choice(rows, MOST_FEATURES, replace=False)
    known = features[rows]
    return known[~np.isnan(known).any(axis=1)]


def _kernel(values: Array, rng: np.random.Generator) -> Array:
    """Gaussian kernel [n, n] of standardised, projected rows; its width is the median distance of all pairs."""
    values = values.astype(np.float32)
    spread = values.std(axis=0)
    values = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    if values.shape[1] > PROJECTED:
        values = values @ rng.standard_normal((values.shape[1], PROJECTED), dtype=np.float32)
    squares = (values**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None] - 2 * values @ values.T, 0.0)
    width = float(np.median(distances[:: max(1, len(distances) // 200)]))
    kernel: Array = np.exp(-distances / (width if width > 0 else 1.0))
    return kernel


def compare_shares(reference: tuple[int, int], window: tuple[int, int]) -> Found:
    """Two shares, each as (hits, of so many): Fisher's exact test; the effect is the difference of the shares.

    The test is the exact conditional binomial one: given all hits together, how many fall into the window.
    """
    (a, n), (b, m) = reference, window
    if min(n, m) < LEAST:
        return _nothing(n, m)
    hits = np.arange(max(0, a + b - n), min(a + b, m) + 1)
    chances = _hypergeometric(hits, n, m, a + b)
    seen = float(chances[b - hits[0]])
    p = float(min(1.0, chances[chances <= seen * (1 + 1e-9)].sum()))
    return Found(effect=abs(a / n - b / m), p_value=p, reference=n, window=m)


def _hypergeometric(hits: Indices, n: int, m: int, drawn: int) -> Vector:
    """Chances of so many hits (all that can be, ascending) among m of n + m films, of which ``drawn`` are hits.

    Each from the one before, by their ratio: scipy's own takes some hundred times as long over tens of thousands.
    """
    k = hits[:-1].astype(np.float64)
    ratios = np.log((drawn - k) * (m - k)) - np.log((k + 1) * (n - drawn + k + 1))
    logs = np.concatenate([[0.0], np.cumsum(ratios)])
    powers = np.exp(logs - logs.max())
    chances: Vector = powers / powers.sum()
    return chances
