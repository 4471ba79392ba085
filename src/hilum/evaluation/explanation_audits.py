"""Whether heat maps explain: heat in the lungs, deletion and insertion, dependence on the weights, calm under noise.

A map that looks right may say nothing of the network (Adebayo et al. 2018), so maps are tested and not only shown. The
rows are for the record: no threshold of theirs has been shown to part good explanations from bad ones.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image

from hilum.arrays import Array, Heatmap, Indices, Mask, Tile, Tiles
from hilum.errors import DataError
from hilum.evaluation.auditing import Answer
from hilum.evaluation.audits import Audit
from hilum.evaluation.backing import Backing
from hilum.evaluation.estimates import Estimate, not_estimable
from hilum.evaluation.intervals import Cohort, Resampling, bootstrap, percentile_interval
from hilum.evaluation.localisation import energy_share
from hilum.randomness import stream

STEPS = 8
"""Steps in which a film's pixels are taken away or put back."""

NOISE = 4.0
"""Standard deviation of the noise, in grey values of 255, that a reader would hardly see."""

FILMS = "evaluated films"

DELETION = "deletion and insertion"

VALUE, LUNGS = "value", "lungs' share of the film"
"""Columns behind these rows: what is averaged, and what an even heat map would have."""


def on_tile(heatmap: Heatmap, side: tuple[int, int]) -> Heatmap:
    """A heat map on the tile's grid, between its points linearly."""
    picture = Image.fromarray(np.asarray(heatmap, dtype=np.float32))
    return np.asarray(picture.resize((side[1], side[0]), Image.Resampling.BILINEAR), dtype=np.float64)


def lung_audit(
    heatmaps: Sequence[Heatmap], lungs: Sequence[Mask], patient_ids: Sequence[str], settings: Resampling
) -> Audit:
    """Share of the heat that lies in the film's own lung fields, against the lungs' share of the film.

    Args:
        heatmaps: n maps ≥ 0 on the masks' grid.
        lungs: n lung fields.
        patient_ids: n ids.
        settings: of the interval.

    Raises:
        DataError: lengths or shapes that disagree.
    """
    if len({len(heatmaps), len(lungs), len(patient_ids)}) > 1 or any(
        heat.shape != mask.shape for heat, mask in zip(heatmaps, lungs, strict=False)
    ):
        raise DataError(f"{len(heatmaps)} heat maps and {len(lungs)} lung fields don't match. Give one pair a film.")
    shares = np.array([energy_share(heat, mask) for heat, mask in zip(heatmaps, lungs, strict=True)])
    sizes = np.array([mask.mean() for mask in lungs])
    chance = float(sizes.mean()) if len(lungs) else float("nan")
    value = mean_of(shares, patient_ids, settings)
    return Audit(
        name="heat in the lungs",
        about="Grad-CAM of the answer",
        measure="share of heat",
        value=value,
        chance=chance,
        sentence=f"{value.text()} of the heat lies in the lung fields, which are {chance:.2f} of the film.",
        films=FILMS,
        paper="DeGrave et al. 2021, doi:10.1038/s42256-021-00338-7",
        backing=Backing.of({VALUE: shares, LUNGS: sizes}, patient_ids),
    )


def deletion_curve(
    tile: Tile, order: Indices, answer: Answer, column: int, *, insert: bool = False, steps: int = STEPS
) -> Float[np.ndarray, " s"]:
    """Probability of an answer while pixels are taken away (or put back) in an order.

    Args:
        tile: the film.
        order: [h · w] pixels, the first to go first.
        answer: films → probabilities.
        column: the finding that is followed.
        insert: begin with the empty film and put the pixels back.
        steps: equal parts in which that happens.

    Returns:
        float64 [steps + 1]; what is away shows the film's mean grey.

    Source: Petsiuk et al. 2018, "RISE", arXiv:1806.07421.
    """
    flat = tile.ravel()
    empty = np.full_like(flat, round(float(tile.mean())))
    films = []
    for step in range(steps + 1):
        moved = order[: round(step * len(order) / steps)]
        film = (empty if insert else flat).copy()
        film[moved] = (flat if insert else empty)[moved]
        films.append(film.reshape(tile.shape))
    curve: Array = answer(np.stack(films))[:, column]
    return curve


def faithfulness(tile: Tile, heatmap: Heatmap, answer: Answer, column: int, *, seed: int = 0) -> float:
    """How much more a heat map's order matters than an order by lot: insertion minus deletion area, map minus lot.

    Above 0 the hot pixels carry the answer; the areas lie in 0 … 1.
    """
    hot = np.argsort(-heatmap.ravel(), kind="stable")
    by_lot = stream(seed, "faithfulness").permutation(hot.size)

    def gap(order: Indices) -> float:
        put_in, taken = (deletion_curve(tile, order, answer, column, insert=insert) for insert in (True, False))
        return float(_area(put_in) - _area(taken))

    return gap(hot) - gap(by_lot)


def _area(curve: Array) -> float:
    return float((curve[:-1] + curve[1:]).mean() / 2)


def faithfulness_audit(
    tiles: Tiles,
    heatmaps: Sequence[Heatmap],
    columns: Indices,
    answer: Answer,
    patient_ids: Sequence[str],
    settings: Resampling,
) -> Audit:
    """:func:`faithfulness` over films; columns are the answers that the maps explain."""
    values = np.array(
        [
            faithfulness(tile, on_tile(heat, tile.shape), answer, int(column), seed=settings.seed)
            for tile, heat, column in zip(tiles, heatmaps, columns, strict=True)
        ]
    )
    value = mean_of(values, patient_ids, settings)
    return Audit(
        name=DELETION,
        about="hot pixels first, against pixels by lot",
        measure="difference of areas",
        value=value,
        chance=0.0,
        sentence=f"Hot pixels carry the answer by {value.text()} more than pixels by lot (0: no more than those).",
        films=FILMS,
        paper="Petsiuk et al. 2018, arXiv:1806.07421",
        backing=Backing.of({VALUE: values}, patient_ids),
    )


def rank_correlation(one: Heatmap, other: Heatmap) -> float:
    """Spearman's rank correlation of two maps; 0 where one of them is the same everywhere."""
    from scipy.stats import rankdata

    ranks = [rankdata(heat.ravel()) for heat in (one, other)]
    spread = [float(values.std()) for values in ranks]
    if min(spread) == 0:
        return 0.0
    return float(((ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean())).mean() / spread[0] / spread[1])


def similarity_audit(
    heatmaps: Sequence[Heatmap],
    others: Sequence[Heatmap],
    patient_ids: Sequence[str],
    settings: Resampling,
    *,
    kind: str,
) -> Audit:
    """Rank correlation of maps with those of shuffled weights (should be near 0), or of noisy films (near 1).

    Args:
        heatmaps: n maps.
        others: n maps to compare them with.
        patient_ids: n ids.
        settings: of the interval.
        kind: ``weights`` or ``noise``.
    """
    values = np.array([rank_correlation(one, other) for one, other in zip(heatmaps, others, strict=True)])
    by_weights = kind == "weights"
    values = np.abs(values) if by_weights else values
    value = mean_of(values, patient_ids, settings)
    text = value.text()
    sentence = (
        f"Maps of a network with shuffled weights resemble the real ones with rank correlation {text}; near 1 they "
        "would not depend on what was learned."
        if by_weights
        else f"Noise that nobody sees leaves maps alike with rank correlation {text}."
    )
    return Audit(
        name="maps of shuffled weights" if by_weights else "maps under noise",
        about="every weight tensor shuffled" if by_weights else f"noise of {NOISE:g} grey values",
        measure="rank correlation",
        value=value,
        chance=0.0 if by_weights else 1.0,
        sentence=sentence,
        films=FILMS,
        paper="Adebayo et al. 2018, arXiv:1810.03292"
        if by_weights
        else "Alvarez-Melis and Jaakkola 2018, arXiv:1806.08049",
        backing=Backing.of({VALUE: values}, patient_ids),
    )


def noisy(tiles: Tiles, *, seed: int = 0) -> Tiles:
    """Films with a little Gaussian noise."""
    noise = stream(seed, "noise").normal(scale=NOISE, size=tiles.shape)
    changed: Tiles = np.rint(tiles + noise).clip(0, 255).astype(np.uint8)
    return changed


def mean_of(values: Array, patient_ids: Sequence[str], settings: Resampling) -> Estimate:
    """The mean of one value a film, with its interval by patient."""
    n, patients = len(values), len(set(patient_ids))
    if patients < 2:
        return not_estimable("Fewer than two patients have a heat map.", n=n, patients=patients)
    cohort = Cohort.of(patient_ids, np.zeros(n, dtype=np.int64))
    samples = bootstrap(lambda w: w @ values / w.sum(axis=1), cohort, settings, name="explanations")[:, 0]
    low, high = percentile_interval(samples, settings.level)
    return Estimate(
        value=float(values.mean()), low=low, high=high, n=n, patients=patients, method="bootstrap by patient"
    )
