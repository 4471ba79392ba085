"""Performance where labels come late and not for all: by acquisition time, with completeness and weights.

Readers look at some films rather than at others, mostly at those that score high. Counting labelled films as they are
then makes sensitivity look better than it is. So each labelled film stands for those like it that have no label: films
are put into strata by score and outcome, and a labelled film weighs as many films as its stratum has for each label.
That is unbiased where labelling depends on nothing else (missing at random, given the stratum); a stratum without any
label is named, since nothing can stand for it.

Films of one patient are alike, so intervals come of resampled patients, each with all of its films.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hilum.arrays import Array, Indices, Vector
from hilum.errors import DataError
from hilum.evaluation.ranks import Ranking
from hilum.randomness import stream

STRATA = 10
"""Strata of the score, by its quantiles."""

RESAMPLES = 400
FEWEST = 10
"""Patients with a labelled film of the finding (or of another) below which nothing is told."""

UNKNOWN = -1
"""Label of a film that nobody has labelled yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure as it looks, and weighted for the films without a label."""

    name: str
    """``sensitivity``, ``specificity``, ``auroc`` or ``calibration gap``."""
    naive: float
    """Of labelled films alone."""
    value: float
    """Weighted; NaN where it can't be told."""
    low: float
    """Lower 95 % bound of the weighted one."""
    high: float
    """Upper bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """What labels say of one span of films, or of one group of them."""

    name: str
    """Such as ``2026-03`` or ``sex: F``."""
    films: int
    """Films that were analysed."""
    labelled: int
    """Films with a label."""
    figures: tuple[Figure, ...]
    """The figures; empty where too few are labelled."""
    why_not: str = ""
    """Why there are none; empty otherwise."""

    @property
    def completeness(self) -> float:
        """Share of films that have a label; NaN without films."""
        return self.labelled / self.films if self.films else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labelled:
    """Analysed films and their labels, as they are known now.

    Raises:
        DataError: columns of different lengths, no films, or labels that are no classes.
    """

    films: tuple[str, ...]
    """[n] opaque ids."""
    patient: Indices
    """[n] number of each film's patient; no identifier."""
    at: Vector
    """[n] acquisition, seconds since 1970."""
    score: Vector
    """[n] probability of the finding that is looked at."""
    label: Indices
    """[n] 1 the finding, 0 not, -1 not known yet."""
    abstained: Array
    """[n] true where the model abstained."""
    groups: Mapping[str, tuple[str, ...]]
    """Columns of texts, such as ``sex``, ``device`` and ``reader``."""

    def __post_init__(self) -> None:
        n = len(self.films)
        lengths = {"patient": len(self.patient), "at": len(self.at), "score": len(self.score), "label": len(self.label)}
        lengths |= {"abstained": len(self.abstained)} | {name: len(column) for name, column in self.groups.items()}
        wrong = [f"{name} has {length}" for name, length in lengths.items() if length != n]
        if wrong:
            raise DataError(f"{n} labelled films: {', '.join(wrong)} rows. Give one a film.")
        if not n:
            raise DataError("There are no analysed films in this span of time, so there is no performance to tell.")
        if len(set(self.films)) != n:
            twice = n - len(set(self.films))
            raise DataError(f"{twice} films have two labels. Settle which one counts before they are measured.")
        if not set(np.unique(self.label)) <= {UNKNOWN, 0, 1}:
            raise DataError(f"Labels are {sorted(set(self.label.tolist()))}, but must be 1, 0 or -1 (not known yet).")

    def select(self, rows: Array) -> "Labelled":
        """Some films."""
        numbers = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return Labelled(
            films=tuple(self.films[i] for i in numbers),
            patient=self.patient[numbers],
            at=self.at[numbers],
            score=self.score[numbers],
            label=self.label[numbers],
            abstained=self.abstained[numbers],
            groups={name: tuple(column[i] for i in numbers) for name, column in self.groups.items()},
        )


def strata_of(films: Labelled, threshold: float) -> Indices:
    """Each film's stratum: a quantile of the score, cut at the operating point too, and apart for abstentions.

    What a reader is shown changes at the operating point, and so may what readers label.
    """
    edges = np.unique([*np.quantile(films.score, np.arange(1, STRATA) / STRATA), np.nextafter(threshold, -1)])
    found: Indices = np.searchsorted(edges, films.score) * 2 + films.abstained.astype(np.int64)
    return found


def weights_of(films: Labelled, threshold: float) -> tuple[Vector, int]:
    """How many films each labelled one stands for (0 without a label), and films that nothing stands for."""
    stratum, known = strata_of(films, threshold), films.label != UNKNOWN
    size = int(stratum.max()) + 1
    there, labelled = np.bincount(stratum, minlength=size), np.bincount(stratum[known], minlength=size)
    lost = int(there[labelled == 0].sum())
    share = np.divide(there, labelled, out=np.zeros(size), where=labelled > 0)
    return np.where(known, share[stratum], 0.0), lost


def measure(films: Labelled, *, threshold: float, name: str, seed: int = 0) -> Performance:
    """What the labels of some films say.

    Args:
        films: with and without labels.
        threshold: the finding's operating point.
        name: of the span or group.
        seed: of the resampling; the same films give the same figures.
    """
    known = films.label != UNKNOWN
    n, labelled = len(films.films), int(known.sum())
    if why := _too_few(films):
        return Performance(name=name, films=n, labelled=labelled, figures=(), why_not=why)
    weights, lost = weights_of(films, threshold)
    told = films.select(known)
    naive = _figures(told, np.ones((1, labelled)), threshold)
    value = _figures(told, weights[known][None], threshold)
    samples = _figures(told, weights[known][None] * _drawn(told.patient, seed, name), threshold)
    figures = []
    for key in naive:
        low, high = (float(one) for one in np.nanquantile(samples[key], (0.025, 0.975)))
        one = Figure(name=key, naive=float(naive[key][0]), value=float(value[key][0]), low=low, high=high)
        figures.append(one)
    why = f"{lost} films are like none that was labelled, and are left out." if lost else ""
    return Performance(name=name, films=n, labelled=labelled, figures=tuple(figures), why_not=why)


def _too_few(films: Labelled) -> str:
    """Why labels are too few to tell anything: each class in films, and in the patients that they are of."""
    counts = [(int(rows.sum()), len(np.unique(films.patient[rows]))) for rows in (films.label == 1, films.label == 0)]
    if min(patients for _, patients in counts) >= FEWEST:
        return ""
    (positives, ill), (negatives, others) = counts
    return (
        f"{positives} labelled films of {ill} patients with the finding and {negatives} of {others} without it; "
        f"{FEWEST} patients of each are needed."
    )


def _drawn(patient: Indices, seed: int, name: str) -> Array:
    """How often each film counts in each resample, [r, n]: patients are drawn with replacement, with all their films.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 8 (clusters are the unit).
    """
    _, member = np.unique(patient, return_inverse=True)
    patients = int(member.max()) + 1
    counts = stream(seed, "performance", name).multinomial(patients, np.full(patients, 1 / patients), size=RESAMPLES)
    return np.asarray(counts)[:, member]


def _figures(films: Labelled, weights: Array, threshold: float) -> dict[str, Array]:
    """Figures [r] under weights [r, n]."""
    positive, called = films.label == 1, films.score >= threshold
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity = (weights @ (positive & called)) / (weights @ positive)
        specificity = (weights @ (~positive & ~called)) / (weights @ ~positive)
        gap = (weights @ (films.score - positive)) / weights.sum(axis=1)
    auroc = Ranking.of(films.score, positive).auroc(weights)
    return {"sensitivity": sensitivity, "specificity": specificity, "auroc": auroc, "calibration gap": gap}


def by_month(films: Labelled, *, threshold: float, seed: int = 0) -> tuple[Performance, ...]:
    """By month of acquisition, oldest first: a label that comes late counts where its film belongs."""
    months = films.at.astype("datetime64[s]").astype("datetime64[M]")
    return tuple(
        measure(films.select(months == month), threshold=threshold, name=str(month), seed=seed)
        for month in np.unique(months)
    )


def by_group(films: Labelled, group: str, *, threshold: float, seed: int = 0) -> tuple[Performance, ...]:
    """By level of a group, such as ``sex`` or ``reader``.

    Raises:
        DataError: there is no such group.
    """
    if group not in films.groups:
        raise DataError(f"These films have no group {group!r}; there are {', '.join(sorted(films.groups)) or 'none'}.")
    column = np.asarray(films.groups[group])
    return tuple(
        measure(films.select(column == level), threshold=threshold, name=f"{group}: {level}", seed=seed)
        for level in sorted(set(films.groups[group]))
    )
