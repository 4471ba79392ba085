"""Light models: what can be read from features of films by ridge regression, on patients that the model hasn't seen.

The model is linear in its targets, so permuted labels cost one matrix product and the test against chance is exact:
patients' labels are shuffled, everything else stays. One film a patient and label is asked, since films of one patient
are no independent cases.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from hilum.arrays import Array, Indices
from hilum.errors import DataError
from hilum.evaluation.estimates import Estimate, not_estimable
from hilum.evaluation.intervals import FEWEST_PATIENTS, Cohort, Resampling, bootstrap, ranked
from hilum.evaluation.ranks import Ranking
from hilum.randomness import stream

FOLDS = 5
"""Folds by patient."""

MOST_CASES = 1500
"""More cases than this add cost and no knowledge; they are drawn by lot, by patient."""

PERMUTATIONS = 2999
"""Shuffles of the labels: the smallest p-value is 1/3,000, which Holm's procedure can still tell over sixty audits."""

ENOUGH, BLOCK, MOST_AT_ONCE = 20, 50, 400
"""Shuffles that reach the value after which no more are drawn, and shuffles drawn at once: few at first, then as many
as were drawn before, up to the last number."""

PENALTY = 1.0
"""Ridge penalty, in units of the mean squared length of a standardised feature vector."""


@dataclass(frozen=True, slots=True)
class Cases:
    """One film a patient and class, with folds.

    Attributes:
        rows: rows of the films, [m].
        classes: [m] their classes.
        patient: [m] numbers of their patients.
        fold: [m] which fold each is tested in; all films of a patient are in one.
    """

    rows: Indices
    classes: Indices
    patient: Indices
    fold: Indices

    @classmethod
    def of(cls, classes: Indices, patient_ids: Sequence[str], *, seed: int = 0) -> "Cases":
        """Choose cases: the first film of each patient and class, in the order given; classes < 0 are left out.

        Args:
            classes: [n]; negative where not known.
            patient_ids: n ids.
            seed: of the folds and of the draw.
        """
        if len(classes) != len(patient_ids):
            raise DataError(f"{len(classes)} classes and {len(patient_ids)} patients don't match. Give one a film.")
        patient = np.unique(np.asarray(patient_ids, dtype=str), return_inverse=True)[1]
        known = np.flatnonzero(np.asarray(classes) >= 0)
        _, first = np.unique(np.column_stack([patient[known], classes[known]]), axis=0, return_index=True)
        rows = np.sort(known[first])
        rng = stream(seed, "light models")
        order = rng.permutation(np.unique(patient[rows]))
        place = np.zeros(int(patient.max(initial=-1)) + 1, dtype=np.int64)
        place[order] = np.arange(len(order))
        rows = rows[place[patient[rows]] < MOST_CASES]
        return cls(rows, np.asarray(classes)[rows], patient[rows], place[patient[rows]] % FOLDS)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def askable(self) -> tuple[int, ...]:
        """Classes with patients enough on both sides."""
        counts = {int(c): len(np.unique(self.patient[self.classes == c])) for c in np.unique(self.classes)}
        return tuple(c for c, n in counts.items() if n >= FEWEST_PATIENTS and len(self) - n >= FEWEST_PATIENTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a light model reads."""

    auroc: Estimate
    """Mean AUROC over classes, each against the rest, out of fold."""
    p_value: float
    """Chance of as high a mean AUROC if the features knew nothing of the labels; NaN when not estimable."""
    by_class: Mapping[int, float]
    """AUROC of each class that could be asked."""
    scores: Array
    """[m, k] out-of-fold scores of the cases; [0, k] when not estimable."""
    shuffled: Array
    """Mean AUROC of each shuffle, as many as were drawn."""


def standardised(features: Float[np.ndarray, "n d"], fitted: Indices) -> Array:
    """Features with the mean and spread that the fitted rows have; those without spread are left out."""
    values = np.asarray(features, dtype=np.float64)
    spread = values[fitted].std(axis=0)
    kept = spread > 1e-9
    centred: Array = (values[:, kept] - values[fitted][:, kept].mean(axis=0)) / spread[kept]
    return centred


def smoother(features: Array, fitted: Indices, asked: Indices) -> Array:
    """The matrix that takes the fitted rows' targets to the asked rows' scores, [asked, fitted]: kernel ridge."""
    values = standardised(features, fitted)
    if not values.shape[1]:
        return np.zeros((len(asked), len(fitted)))
    own, others = values[fitted] / math.sqrt(values.shape[1]), values[asked] / math.sqrt(values.shape[1])
    # (OᵀO + p)⁻¹Oᵀ = Oᵀ(OOᵀ + p)⁻¹: whichever side is the smaller one is solved.
    wide = own.shape[1] > own.shape[0]
    inner = own @ own.T if wide else own.T @ own
    inner[np.diag_indices_from(inner)] += PENALTY
    if wide:
        return np.asarray(np.linalg.solve(inner, own @ others.T).T)
    return np.asarray(others @ np.linalg.solve(inner, own.T))


def read_labels(
    features: Float[np.ndarray, "n d"],
    cases: Cases,
    *,
    what: str = "the label",
    settings: Resampling | None = None,
    permutations: int = PERMUTATIONS,
) -> Reading:
    """Read classes from features out of fold, and hold that against shuffled labels.

    Args:
        features: [n, d] of all films; the cases' rows are used.
        cases: from :meth:`Cases.of`.
        what: is read, for the reason when it can't be.
        settings: of the interval.
        permutations: most shuffles; 0 leaves the p-value out.

    Raises:
        DataError: features that are not finite, or fewer of them than the cases need.
    """
    settings = settings or Resampling()
    _check(features, cases)
    asked = cases.askable
    if len(asked) < 2:
        reason = f"Fewer than two levels of {what} have {FEWEST_PATIENTS} patients."
        nothing = not_estimable(reason, n=len(cases), patients=len(np.unique(cases.patient)))
        none = np.empty((0, len(asked)))
        return Reading(auroc=nothing, p_value=math.nan, by_class={}, scores=none, shuffled=np.empty(0))
    targets = np.column_stack([cases.classes == c for c in asked]).astype(np.float64)
    matrices = _matrices(features, cases)
    scores = _out_of_fold(matrices, targets)
    by_class = {c: float(a) for c, a in zip(asked, aurocs(scores, targets), strict=True)}
    value = float(np.mean(list(by_class.values())))
    shuffled = _shuffled(matrices, targets, value, permutations, settings.seed)
    owners = [f"{i:09d}" for i in cases.patient.tolist()]  # in the order of the patients' ids
    return Reading(
        auroc=reading_estimate(scores, targets, owners, cases.classes, settings=settings, what=what),
        p_value=p_of(value, shuffled),
        by_class=by_class,
        scores=scores,
        shuffled=shuffled,
    )


def _check(features: Array, cases: Cases) -> None:
    values = np.asarray(features)
    if values.ndim != 2 or (len(cases) and int(cases.rows.max()) >= len(values)):
        raise DataError(f"Features {values.shape} don't cover {len(cases)} cases. Give one row a film.")
    if not np.isfinite(values).all():
        wrong = int((~np.isfinite(values)).any(axis=1).sum())
        raise DataError(f"Features of {wrong} films are not finite. Look for a damaged film or a diverged training.")


def _matrices(features: Array, cases: Cases) -> list[tuple[Indices, Indices, Array]]:
    values = np.asarray(features, dtype=np.float64)[cases.rows]
    found = []
    for fold in range(FOLDS):
        fit, test = np.flatnonzero(cases.fold != fold), np.flatnonzero(cases.fold == fold)
        if len(test) and len(fit):
            found.append((fit, test, smoother(values, fit, test)))
    return found


def _out_of_fold(matrices: Sequence[tuple[Indices, Indices, Array]], targets: Array) -> Array:
    """Scores [m, c]. Targets are centred in each fold's fitted part: its prevalence must not order the folds."""
    scores = np.zeros_like(targets)
    for fit, test, matrix in matrices:
        scores[test] = matrix @ (targets[fit] - targets[fit].mean(axis=0))
    return scores


def aurocs(scores: Array, targets: Array) -> Array:
    """AUROC of each column, ties counting a half.

    Thousands of shuffles are ranked here, so columns lie in memory one after another: that is far faster than to rank
    down the columns of a table.
    """
    rows, sides = np.ascontiguousarray(scores.T), np.ascontiguousarray(targets.T)
    order = np.argsort(rows, axis=1)
    rising, sides = np.take_along_axis(rows, order, axis=1), np.take_along_axis(sides, order, axis=1)
    positives = sides.sum(axis=1)
    above = (_mean_ranks(rising) * sides).sum(axis=1) - positives * (positives + 1) / 2
    found: Array = above / (positives * (rows.shape[1] - positives))
    return found


def _mean_ranks(rising: Array) -> Array:
    """Rank of each value of rising rows, from 1, equal values sharing their mean."""
    place = np.arange(rising.shape[1])
    begins = np.ones(rising.shape, dtype=bool)
    begins[:, 1:] = rising[:, 1:] != rising[:, :-1]
    if begins.all():
        return np.broadcast_to(place + 1.0, rising.shape)
    ends = np.ones(rising.shape, dtype=bool)
    ends[:, :-1] = begins[:, 1:]
    first = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, place, rising.shape[1])[:, ::-1], axis=1)[:, ::-1]
    mean: Array = (first + last) / 2 + 1
    return mean


def _shuffled(
    matrices: Sequence[tuple[Indices, Indices, Array]], targets: Array, value: float, permutations: int, seed: int
) -> Array:
    """Mean AUROC of each shuffle of the labels; no more are drawn once :data:`ENOUGH` reach the value."""
    rng = stream(seed, "light models", "shuffles")
    k, parts, reached, drawn = targets.shape[1], [np.empty(0)], 0, 0
    while drawn < permutations and reached < ENOUGH:
        count = min(max(BLOCK, min(drawn, MOST_AT_ONCE)), permutations - drawn)
        shuffled = np.concatenate([targets[rng.permutation(len(targets))] for _ in range(count)], axis=1)
        means = aurocs(_out_of_fold(matrices, shuffled), shuffled).reshape(count, k).mean(axis=1)
        higher = reached + np.cumsum(_reaches(means, value))
        parts.append(means[: 1 + int(np.searchsorted(higher, ENOUGH))])
        reached, drawn = int(higher[-1]), drawn + count
    return np.concatenate(parts)


def _reaches(means: Array, value: float) -> Array:
    reached: Array = means >= value - 1e-12
    return reached


def p_of(value: float, shuffled: Array) -> float:
    """Chance of as high a mean AUROC among shuffles (Phipson and Smyth 2010, the true order counts as one).

    Where :data:`ENOUGH` of them reached the value, that many among so many is a valid p-value by itself (Besag and
    Clifford 1991, Biometrika 78:301), and no alarm is near.

    Args:
        value: mean AUROC with the true labels.
        shuffled: [b] with shuffled ones, ended by the :data:`ENOUGH`-th that reaches the value.

    Returns:
        the p-value; NaN without a shuffle.
    """
    if not len(shuffled):
        return math.nan
    reached = int(_reaches(shuffled, value).sum())
    return ENOUGH / len(shuffled) if reached >= ENOUGH else (1 + reached) / (1 + len(shuffled))


def reading_estimate(
    scores: Array, targets: Array, patient_ids: Sequence[str], classes: Indices, *, settings: Resampling, what: str
) -> Estimate:
    """Mean AUROC of out-of-fold scores, with its interval by patient.

    Args:
        scores: [m, k] of the cases.
        targets: [m, k] one where a case is of that class.
        patient_ids: m ids.
        classes: [m], also those that no column asks for; patients are resampled within them.
        settings: of the interval.
        what: is read, for a reason.
    """
    columns = [column > 0 for column in targets.T]
    rankings = [Ranking.of(scores[:, i], column) for i, column in enumerate(columns)]
    cohort = Cohort.of(patient_ids, np.unique(classes, return_inverse=True)[1])

    def statistic(weights: Array) -> Array:
        mean: Array = np.mean([ranking.auroc(weights) for ranking in rankings], axis=0)
        return mean

    samples = bootstrap(statistic, cohort, settings, name="light models")[:, 0]
    fewest = min(cohort.count(column) for column in columns)
    sides = (fewest, max(FEWEST_PATIENTS, cohort.patients - fewest))
    value = float(np.mean(aurocs(scores, targets)))
    return ranked(value, samples, n=len(scores), sides=sides, level=settings.level, finding=f"the rarest of {what}")
