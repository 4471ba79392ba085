"""Site-years of synthetic records, to know how the monitor behaves before it is trusted.

Values of records are drawn, not films: acquisition classes, figures of the pixels, scores and features with the
dependences that matter (a portable device takes AP films; old patients get them more often; a device has its own grey
values; an ill lung is lighter and scores higher). Nothing here was measured on a patient, and every page made from it
says so.
"""

from dataclasses import dataclass, replace

import numpy as np

from hilum.arrays import Array
from hilum.errors import UsageError, nearest
from hilum.records.observations import GROUPS, OUTCOMES, Classes, Observations

START = 1_767_571_200.0
"""Monday, 2026-01-05, in seconds since 1970."""

DAY_S = 86_400.0
DEVICES = ("Detector A", "Detector B", "Portable C", "Detector New")
VIEWS = ("PA", "AP", "LL")
SEXES = ("F", "M")
BANDS = tuple(f"{low}-{low + 9}" for low in range(0, 100, 10))
SIZES = ("2x2", "3x3")
FINDINGS = ("normal", "pneumonia", "covid-19")
FEATURES = 24

DRIFTS = {
    "new device": ("device", "a device that the reference never saw takes 30 % of the films"),
    "exposure": ("exposure", "all films become lighter by 0.6 standard deviations of the mean grey value"),
    "prevalence": ("prevalence", "the share of pneumonia rises from 15 % to 40 %"),
    "view mix": ("view position", "the share of AP films rises from 30 % to 60 %"),
    "sub-population": ("population", "a fifth of the patients are now younger than 20"),
    "inverted polarity": ("polarity", "a quarter of the films arrive with black and white exchanged"),
}
"""Drifts by name: the attribute that is to be named, and what changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is usual at a synthetic site."""

    films_a_day: float = 30.0
    """Mean number of films a day."""
    prevalence: tuple[float, float, float] = (0.75, 0.15, 0.10)
    """Shares of :data:`FINDINGS`."""
    devices: tuple[float, float, float, float] = (0.45, 0.35, 0.20, 0.0)
    """Shares of :data:`DEVICES`."""
    ap_share: float = 0.30
    """Share of AP films of the fixed devices' room; the portable one takes them alone."""
    young: float = 0.0
    """Share of patients younger than 20."""
    lighter: float = 0.0
    """Standard deviations by which the mean grey value is higher."""
    inverted: float = 0.0
    """Share of films with black and white exchanged."""
    separation: float = 2.2
    """Distance of the classes' scores, in standard deviations."""


def drifted(site: Site, drift: str) -> Site:
    """The site after a drift.

    Raises:
        UsageError: no such drift.
    """
    if drift not in DRIFTS:
        raise UsageError(f"{drift!r} is no drift. {nearest(drift, tuple(DRIFTS))}")
    changes: dict[str, dict[str, object]] = {
        "new device": {"devices": (0.30, 0.25, 0.15, 0.30)},
        "exposure": {"lighter": 0.6},
        "prevalence": {"prevalence": (0.50, 0.40, 0.10)},
        "view mix": {"ap_share": 0.60},
        "sub-population": {"young": 0.20},
        "inverted polarity": {"inverted": 0.25},
    }
    return replace(site, **changes[drift])  # type: ignore[arg-type]


def simulate(site: Site, days: int, rng: np.random.Generator, *, start: float = START) -> Observations:
    """Records of so many days.

    Args:
        site: what is usual.
        days: how many.
        rng: chance.
        start: the first instant, seconds since 1970.
    """
    per_day = rng.poisson(site.films_a_day, days)
    n = int(per_day.sum())
    at = np.sort(start + DAY_S * (np.repeat(np.arange(days), per_day) + rng.random(n)))
    truth = rng.choice(3, n, p=site.prevalence)
    device = rng.choice(4, n, p=site.devices)
    band, sex = _people(site, n, rng)
    view = (rng.random(n) < site.ap_share).astype(np.int64)
    view[rng.random(n) < 0.03] = 2
    statistics = _pixels(site, truth, device, view, band, rng)
    scores = _scores(site, truth, view, rng)
    outcome = _outcomes(scores, view, rng)
    refused = outcome == OUTCOMES.index("not-analysed")
    scores[refused] = np.nan
    features = _features(statistics, scores, truth, device, view, band, rng)
    features[refused] = np.nan
    columns = {"device": (device, DEVICES), "view_position": (view, VIEWS), "sex": (sex, SEXES)}
    columns |= {"age_band": (band, BANDS), "size_class": ((device == 2).astype(np.int64), SIZES)}
    return Observations(
        at=at,
        groups={name: Classes(codes=columns[name][0], levels=columns[name][1]) for name in GROUPS},
        outcome=outcome,
        seconds=np.exp(rng.normal(0.5, 0.4, n)),
        statistics=statistics,
        findings=FINDINGS,
        scores=scores,
        features=features.astype(np.float16),
        overridden=np.where(rng.random(n) < 0.5, (rng.random(n) < 0.06).astype(np.int64), -1),
        patient=np.arange(n),
        models=Classes(codes=np.zeros(n, dtype=np.int64), levels=("synthetic",)),
    )


def _people(site: Site, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    band = np.clip(np.round(rng.normal(5.6, 1.7, n)), 2, 9).astype(np.int64)
    young = rng.random(n) < site.young
    band[young] = rng.integers(0, 2, int(young.sum()))
    return band, rng.integers(0, 2, n)


def _pixels(site: Site, truth: Array, device: Array, view: Array, band: Array, rng: np.random.Generator) -> Array:
    """[n, 8]: mean, contrast, black share, white share, entropy, sharpness, structure, fit to a frontal chest."""
    n = len(truth)
    own = np.array([0.0, 0.1, -0.2, 0.9])[device]  # a device's grey values, in standard deviations
    light = rng.normal(0, 1, n) + own + 0.25 * (truth > 0) + 0.15 * (view == 1) + site.lighter
    noise = rng.normal(0, 1, (n, 8))
    mean = 0.45 + 0.06 * light
    contrast = 0.80 + 0.05 * (noise[:, 1] - 0.3 * light + 0.6 * (device == 3))
    black = np.clip(0.06 + 0.02 * (noise[:, 2] - 0.5 * light), 0, 1)
    white = np.clip(0.03 + 0.01 * (noise[:, 3] + 0.5 * light), 0, 1)
    entropy = 6.9 + 0.3 * (noise[:, 4] + 0.2 * light)
    sharpness = 0.020 + 0.004 * (noise[:, 5] + 1.2 * (device == 3) - 0.4 * (view == 1))
    structure = np.clip(0.97 + 0.008 * noise[:, 6], -1, 1)
    fit = 0.55 + 0.10 * noise[:, 7] - 0.10 * (truth > 0) - 0.6 * (view == 2) - 0.05 * (band < 2)
    turned = rng.random(n) < site.inverted
    mean[turned], fit[turned] = 1 - mean[turned], -fit[turned]
    black[turned], white[turned] = white[turned], black[turned]
    return np.column_stack([mean, contrast, black, white, entropy, sharpness, structure, fit]).astype(np.float32)


def _scores(site: Site, truth: Array, view: Array, rng: np.random.Generator) -> Array:
    logits = rng.normal(0, 1, (len(truth), 3))
    logits[np.arange(len(truth)), truth] += site.separation
    logits[:, 0] -= 0.2 * (view == 1)
    powers = np.exp(1.5 * logits)
    scores: Array = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return scores


def _outcomes(scores: Array, view: Array, rng: np.random.Generator) -> Array:
    outcome = np.where(scores.max(axis=1) < 0.45, OUTCOMES.index("abstained"), OUTCOMES.index("answered"))
    outcome[(view == 2) | (rng.random(len(view)) < 0.01)] = OUTCOMES.index("not-analysed")
    return outcome


def _features(
    statistics: Array, scores: Array, truth: Array, device: Array, view: Array, band: Array, rng: np.random.Generator
) -> Array:
    """What a network might keep: a fixed mixture of finding, view, device, age and grey values, with noise."""
    mixture = np.random.default_rng(7).normal(0, 1, (7, FEATURES))
    grey = (statistics[:, 0] - 0.45) / 0.06
    fit = (statistics[:, 7] - 0.5) / 0.15
    known = np.column_stack(
        [truth == 1, truth == 2, view == 1, 0.8 * (device == 3), 0.8 * (band < 2), 0.2 * grey, 0.2 * fit]
    )
    features: Array = known @ mixture + rng.normal(0, 1.2, (len(truth), FEATURES))
    return features
