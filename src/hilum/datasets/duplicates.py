"""Films that are copies of one another: by SHA-256, and by a perceptual measure made for radiographs.

Hashes for photographs (pHash, dHash) raise false alarms on chest films, which all look alike. Here candidates come
from the correlation of all coarse views with all (see :mod:`hilum.datasets.thumbs`), in blocks; each candidate is
registered, and judged by the correlation of the fine views after registration. ``docs/duplicates.md`` states recall
and false pairs as measured on real films by ``benchmarks/duplicates.py``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hilum.arrays import Array, Indices, Vector
from hilum.datasets.manifest import Manifest
from hilum.datasets.registration import register
from hilum.datasets.thumbs import COARSE_SIDE, coarse_view, fine_view
from hilum.progress import Bar, Progress, Silent


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateConfig:
    """When two films count as copies. The defaults are what ``docs/duplicates.md`` measures."""

    candidate: float = 0.6
    """Absolute correlation of coarse views from which a pair is looked at."""
    neighbours: int = 32
    """Candidates looked at for each film, the best first: the cost of large sets grows with this, not with pairs."""
    coarse: float = 0.8
    """Correlation of coarse views after registration from which a pair is looked at closely."""
    similarity: float = 0.85
    """Correlation of fine views after registration from which two films are copies."""
    overlap: float = 0.7
    """Share of a film that the other must cover."""
    distortion: float = 0.15
    """Largest departure of the registration from the identity, in half widths of the film."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """Pairs of films that are copies, each pair once with ``first < second``.

    Attributes:
        films: how many films were compared.
        compared: how many of them have a perceptual thumb.
        first: row numbers [p].
        second: row numbers [p].
        similarity: 1 for equal files, else the correlation after registration [p].
        exact: True for equal files (SHA-256) [p].
        inverted: True when one is the other's negative [p].
    """

    films: int
    compared: int
    first: Indices
    second: Indices
    similarity: Vector
    exact: Array
    inverted: Array

    def __len__(self) -> int:
        return len(self.first)

    def groups(self) -> Indices:
        """A number for each film [films]; films that are copies, directly or through others, share one."""
        return connected(self.films, self.first, self.second)


def connected(n: int, first: Indices, second: Indices) -> Indices:
    """Number the connected components of n things joined by pairs.

    Returns:
        int64 [n], the component of each, numbered in the order of their first member.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(n, n))
    return np.asarray(connected_components(edges, directed=False)[1], dtype=np.int64)


def find_duplicates(
    manifest: Manifest,
    config: DuplicateConfig = DuplicateConfig(),
    *,
    progress: Progress | None = None,
) -> Duplicates:
    """Find the films that are copies of one another.

    Files with the same SHA-256 are joined as a chain (n − 1 pairs for n equal files) and compared perceptually once.

    Args:
        manifest: films; those without a thumb are compared by SHA-256 alone.
        config: thresholds.
        progress: where progress goes.
    """
    equal_first, equal_second, distinct = _equal_files(manifest)
    rows, thumbs = manifest.thumbs()
    kept = np.isin(rows, distinct)
    rows, thumbs = rows[kept], thumbs[kept]
    first, second, similarity, inverted = near_pairs(thumbs, config, progress=progress or Silent())
    exact = np.concatenate([np.ones(len(equal_first), bool), np.zeros(len(first), bool)])
    pairs = np.stack([np.concatenate([equal_first, rows[first]]), np.concatenate([equal_second, rows[second]])])
    pairs = np.sort(pairs, axis=0)
    order = np.lexsort((pairs[1], pairs[0]))
    return Duplicates(
        films=len(manifest),
        compared=len(rows),
        first=pairs[0, order],
        second=pairs[1, order],
        similarity=np.concatenate([np.ones(len(equal_first)), similarity])[order],
        exact=exact[order],
        inverted=np.concatenate([np.zeros(len(equal_first), bool), inverted])[order],
    )


def near_pairs(
    thumbs: Array,
    config: DuplicateConfig = DuplicateConfig(),
    *,
    border: int | None = None,
    progress: Progress | None = None,
) -> tuple[Indices, Indices, Vector, Array]:
    """Find the thumbs that are copies of one another.

    Args:
        thumbs: uint8 [n, 64, 64].
        config: thresholds.
        border: only pairs of one thumb before this row and one from it on; None for all pairs.
        progress: where progress goes.

    Returns:
        (first [p], second [p], similarity [p], inverted [p]).
    """
    views = coarse_view(thumbs)
    found: list[tuple[Array, ...]] = []
    across_sets = "" if border is None else " in both sets"
    with (progress or Silent()).bar(f"Comparing films{across_sets}", len(thumbs)) as bar:
        first, second, negative = _candidates(views, config, bar)
    if border is not None:
        across = (np.minimum(first, second) < border) & (np.maximum(first, second) >= border)
        first, second, negative = first[across], second[across], negative[across]
    with (progress or Silent()).bar(f"Looking closer at likely copies{across_sets}", len(first)) as bar:
        for start in range(0, len(first), PAIRS):
            block = slice(start, start + PAIRS)
            a, b, sign = first[block], second[block], negative[block]
            kept, similarity = judge(thumbs[a], thumbs[b], sign, config, coarse=(views[a], views[b]))
            found.append((a[kept], b[kept], similarity[kept], sign[kept]))
            bar.advance(len(a))
    if not found:
        none = np.zeros(0, np.int64)
        return none, none, np.zeros(0), np.zeros(0, bool)
    first, second, similarity, negative = (np.concatenate(part) for part in zip(*found, strict=True))
    return first, second, similarity, negative


PAIRS = 64
"""Pairs registered at once: few enough for a processor's cache."""

BLOCK = 2**22
"""Correlations computed at once (16 MB): rows of films against all others."""


def judge(
    a: Array, b: Array, negative: Array, config: DuplicateConfig, *, coarse: tuple[Array, Array]
) -> tuple[Array, Vector]:
    """Register pairs of films and decide which are copies.

    Args:
        a: thumbs uint8 [m, 64, 64].
        b: thumbs uint8 [m, 64, 64].
        negative: True where b looks like a's negative [m].
        config: thresholds.
        coarse: the coarse views of a and of b.

    Returns:
        (True for copies [m], correlation after registration [m], 0 for pairs given up at the coarse level).
    """
    sign = np.where(negative, -1, 1).astype(np.float32)[:, None, None]
    rough = register(coarse[0], coarse[1] * sign, steps=5)
    close = np.flatnonzero(rough.similarity >= config.coarse)
    similarity = np.zeros(len(a))
    kept = np.zeros(len(a), bool)
    if len(close):
        exact = register(fine_view(a[close]), fine_view(b[close]) * sign[close], steps=4, start=rough.warps[close])
        similarity[close] = exact.similarity
        plausible = (exact.overlap >= config.overlap) & (exact.distortion <= config.distortion)
        kept[close] = plausible & (exact.similarity >= config.similarity)
    return kept, similarity


def _equal_files(manifest: Manifest) -> tuple[Indices, Indices, Indices]:
    """Chains of rows with equal film ids, and the first row of each distinct file."""
    codes, levels = manifest.codes("film_id")
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    same = ordered[1:] == ordered[:-1]
    if "" in levels:
        same &= ordered[1:] != levels.index("")
    distinct = order[np.concatenate([np.ones(min(1, len(order)), bool), ~same])]
    return order[:-1][same], order[1:][same], distinct


def _candidates(views: Array, config: DuplicateConfig, bar: Bar) -> tuple[Indices, Indices, Array]:
    """Pairs whose coarse views correlate, at most ``neighbours`` for each film; found in blocks of rows."""
    n = len(views)
    # Views have variance 1: divided by their side, the product of two is their correlation.
    flat = views.reshape(n, COARSE_SIDE**2) / np.float32(COARSE_SIDE)
    parts = list(_best_in_blocks(flat, config, bar))
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool)
    a, b, correlation = (np.concatenate(part) for part in zip(*parts, strict=True))
    low, high = np.minimum(a, b), np.maximum(a, b)
    _, once = np.unique(low * n + high, return_index=True)
    return low[once], high[once], correlation[once] < 0


def _best_in_blocks(flat: Array, config: DuplicateConfig, bar: Bar) -> Iterator[tuple[Array, ...]]:
    n = len(flat)
    height = max(16, BLOCK // max(n, 1))
    for start in range(0, n, height):
        rows = np.arange(start, min(start + height, n))
        correlation = flat[rows] @ flat.T
        correlation[np.arange(len(rows)), rows] = 0
        strength = np.abs(correlation)
        crowded = np.flatnonzero((strength >= config.candidate).sum(axis=1) > config.neighbours)
        if len(crowded):
            weakest = n - config.neighbours
            rest = np.argpartition(strength[crowded], weakest, axis=1)[:, :weakest]
            strength[crowded[:, None], rest] = 0
        i, j = np.nonzero(strength >= config.candidate)
        yield rows[i], j, correlation[i, j]
        bar.advance(len(rows))
