"""Whether the heat map points at the lesion: pointing game and energy share against chance, on films with masks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hilum.arrays import Array, Heatmap, Mask
from hilum.config import BESIDE
from hilum.errors import DataError
from hilum.evaluation.backing import Backing
from hilum.evaluation.estimates import Estimate, not_estimable
from hilum.evaluation.intervals import Cohort, Resampling, bootstrap, percentile_interval, proportion


@dataclass(frozen=True, slots=True, kw_only=True)
class Localisation:
    """How well heat maps point, for one group of films."""

    name: str
    """Which films: a finding, or ``all``."""
    hit_rate: Estimate
    """Share of the films whose hottest point lies inside the mask (Zhang et al. 2016, the pointing game)."""
    energy: Estimate
    """Mean share of the heat that lies inside the mask."""
    chance: float
    """What a point thrown at random, and an even heat map, would reach: the mean share of the film that is mask."""
    empty: int
    """Films whose heat map is zero everywhere; they count as misses."""
    backing: Backing | None = field(default=None, metadata=BESIDE, compare=False, repr=False)
    """What each film gave, written beside the JSON."""

    @property
    def better_than_chance(self) -> bool:
        """Whether the whole interval of the hit rate lies above chance."""
        return self.hit_rate.bounded and self.hit_rate.low > self.chance


def pointing_hit(heatmap: Heatmap, mask: Mask) -> float:
    """1 when the hottest point lies inside the mask, 0 when not; the share inside when several are equally hot.

    A heat map that is zero everywhere points nowhere: 0.
    """
    top = float(heatmap.max())
    return float(mask[heatmap == top].mean()) if top > 0 else 0.0


def energy_share(heatmap: Heatmap, mask: Mask) -> float:
    """Share of the heat inside the mask, 0 … 1; 0 for a heat map that is zero everywhere."""
    total = float(heatmap.sum())
    return float(heatmap[mask].sum()) / total if total > 0 else 0.0


def localise(
    heatmaps: Sequence[Heatmap],
    masks: Sequence[Mask],
    findings: Sequence[str],
    patient_ids: Sequence[str],
    settings: Resampling | None = None,
    *,
    film_ids: Sequence[str] = (),
) -> tuple[Localisation, ...]:
    """Measure heat maps against lesion masks.

    Args:
        heatmaps: n maps ≥ 0 of the true finding, each on its mask's grid (``heatmap_on_film`` brings it there).
        masks: n masks, true inside the lesion; each with at least one true.
        findings: n names of the true finding.
        patient_ids: n ids; intervals resample by them.
        settings: of the intervals.
        film_ids: n ids, or none; what each film gave is told by them.

    Returns:
        one row for all films and one for each finding, in order of first appearance; empty without a film.

    Raises:
        DataError: lengths or shapes that disagree, a negative or not finite heat map, an empty mask.
    """
    settings = settings or Resampling()
    _check(heatmaps, masks, findings, patient_ids)
    if not len(heatmaps):
        return ()
    pairs = list(zip(heatmaps, masks, strict=True))
    values = np.array(
        [[pointing_hit(h, m), energy_share(h, m), float(m.mean()), float(h.max() <= 0)] for h, m in pairs]
    )
    names = np.asarray(findings)
    groups = [("all", np.ones(len(names), dtype=bool))]
    groups += [(name, names == name) for name in dict.fromkeys(findings)]
    if len(groups) == 2:
        groups = groups[1:]
    backing = Backing.of(
        {column: values[:, i] for i, column in enumerate(COLUMNS)}, patient_ids, film_ids=film_ids, truth=findings
    )
    return tuple(localised(name, backing if name == "all" else backing.of_truth(name), settings) for name, _ in groups)


COLUMNS = ("hit", "share of the heat inside", "share of the film that is lesion", "map without heat")
"""What each film gives: the first two are averaged, the third is chance, the last is counted."""


def localised(name: str, backing: Backing, settings: Resampling) -> Localisation:
    """A row from what each of its films gave, the columns :data:`COLUMNS`."""
    scored = backing.scored("")
    values, patient_ids = scored.values, scored.patient_ids
    cohort = Cohort.of(patient_ids, np.zeros(len(values), dtype=np.int64))
    n, patients = len(values), cohort.patients

    def statistic(weights: Array) -> Array:
        means: Array = weights @ values[:, :2] / weights.sum(axis=1, keepdims=True)
        return means

    samples = bootstrap(statistic, cohort, settings, name="localisation")
    hit, share = float(values[:, 0].mean()), float(values[:, 1].mean())
    energy = not_estimable("Every heat map is zero everywhere.", n=n, patients=patients)
    if not values[:, 3].all():
        low, high = percentile_interval(samples[:, 1], settings.level) if patients > 1 else (math.nan, math.nan)
        reason = "" if patients > 1 else "One patient has no spread."
        energy = Estimate(
            value=share, low=low, high=high, n=n, patients=patients, method="bootstrap by patient", reason=reason
        )
    return Localisation(
        name=name,
        hit_rate=proportion(hit, samples[:, 0], n=n, patients=patients, level=settings.level),
        energy=energy,
        chance=float(values[:, 2].mean()),
        empty=int(values[:, 3].sum()),
        backing=backing,
    )


def _check(
    heatmaps: Sequence[Heatmap], masks: Sequence[Mask], findings: Sequence[str], patient_ids: Sequence[str]
) -> None:
    lengths = {len(heatmaps), len(masks), len(findings), len(patient_ids)}
    if len(lengths) > 1:
        raise DataError(
            f"{len(heatmaps)} heat maps, {len(masks)} masks, {len(findings)} findings and {len(patient_ids)} patients "
            "don't match. Give one of each a film."
        )
    for row, (heatmap, mask) in enumerate(zip(heatmaps, masks, strict=True)):
        if heatmap.shape != mask.shape:
            raise DataError(
                f"Heat map {row} is {heatmap.shape}, but its mask is {mask.shape}. "
                "Bring the heat map to the film's grid with heatmap_on_film."
            )
        if not np.isfinite(heatmap).all() or heatmap.min() < 0:
            raise DataError(f"Heat map {row} holds values that are negative or not finite. Give relu(α·A) as it is.")
        if not mask.any():
            raise DataError(f"Mask {row} is empty: without a lesion there is nothing to hit. Leave the film out.")
