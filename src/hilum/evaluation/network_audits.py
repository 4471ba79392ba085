"""Audits of a trained network: films are changed where the disease isn't, and its answers should stay.

Everything is measured on the evaluated films with the network as it answers; nothing is trained.
"""

import math
from collections.abc import Sequence

import numpy as np

from hilum.arrays import Array, Indices, Scores
from hilum.errors import DataError
from hilum.evaluation.audits import Audit
from hilum.evaluation.estimates import Estimate, not_estimable
from hilum.evaluation.intervals import FEWEST_PATIENTS, Cohort, Resampling, bootstrap, percentile_interval, proportion
from hilum.evaluation.ranks import Ranking
from hilum.labels import Findings
from hilum.randomness import stream

FALL = 0.05
"""Fall of the mean AUROC, with markers or text covered, that is borne."""

SHIFT = 0.02
"""Shift of probability towards the finding whose corners a film wears from which it is an alarm."""

FLIPS = 0.2
"""Share of films whose answer may change under a mild change of the picture."""

FILMS = "evaluated films"

SWAP_PAPER = "DeGrave et al. 2021, doi:10.1038/s42256-021-00338-7"
COVER_PAPER = "Zech et al. 2018, doi:10.1371/journal.pmed.1002683"
STABLE_PAPER = "Hendrycks and Dietterich 2019, arXiv:1903.12261"


def fall_audit(
    before: Scores,
    after: Scores,
    classes: Indices,
    patient_ids: Sequence[str],
    findings: Findings,
    *,
    covered: str,
    settings: Resampling,
    touched: Array | None = None,
) -> Audit:
    """Fall of the mean AUROC when something is covered.

    Args:
        before: [n, k] probabilities of the films as they are.
        after: of the covered ones.
        classes: [n] known classes.
        patient_ids: n ids.
        findings: their names.
        covered: what was covered, such as ``corners``.
        settings: of the interval.
        touched: [n] whether anything was covered on a film; all when None.
    """
    _check(before, after, classes)
    present = _present(classes, patient_ids, len(findings))
    name = f"{covered} covered"
    row = Audit(
        name=name,
        about="" if touched is None else f"{int(np.sum(touched))} of {len(before)} films have any",
        measure="fall of mean AUROC",
        value=not_estimable(f"Fewer than two findings have {FEWEST_PATIENTS} patients.", n=len(before)),
        chance=0.0,
        floor=FALL,
        films=FILMS,
        paper=COVER_PAPER,
    )
    if len(present) < 2:
        return row
    rankings = [[Ranking.of(scores[:, c], classes == c) for c in present] for scores in (before, after)]

    def statistic(weights: Array) -> Array:
        then, now = (np.mean([ranking.auroc(weights) for ranking in side], axis=0) for side in rankings)
        fall: Array = then - now
        return fall

    cohort = Cohort.of(patient_ids, classes)
    samples = bootstrap(statistic, cohort, settings, name="fall")[:, 0]
    value = _estimate(float(statistic(np.ones((1, len(before))))[0]), samples, len(before), cohort.patients, settings)
    flips, moved = _moved(before, after)
    return Audit(
        name=name,
        about=row.about,
        measure=row.measure,
        value=value,
        chance=0.0,
        floor=FALL,
        p_value=_above(value.value, 0.0, float(np.nanstd(samples))),
        sentence=(
            f"With {covered} covered the mean AUROC falls by {value.text()} and {flips.mean():.0%} of the answers "
            f"change (mean change of probability {moved.mean():.3f}): part of the answer stands there."
        ),
        films=FILMS,
        paper=COVER_PAPER,
    )


def swap_audit(
    same: Scores, other: Scores, classes: Indices, wears: Indices, patient_ids: Sequence[str], *, settings: Resampling
) -> Audit:
    """Whether the answer follows the corners: films wear the corners of a film of another finding.

    Each film wears once the corners of a film of its own finding and once those of another; were corners no matter,
    the probability of that other finding would be as high either way.

    Args:
        same: [n, k] probabilities with corners of the same finding.
        other: with corners of the finding ``wears``.
        classes: [n] known classes.
        wears: [n] the other finding.
        patient_ids: n ids.
        settings: of the interval.
    """
    _check(same, other, classes)
    n = len(same)
    patient = np.unique(np.asarray(patient_ids, dtype=str), return_inverse=True)[1] if n else np.zeros(0, np.int64)
    name, patients = "corners swapped", int(patient.max(initial=-1)) + 1
    row = Audit(
        name=name,
        about="corners of a film of another finding, against those of the same",
        measure="shift of probability",
        value=not_estimable(f"Fewer than {2 * FEWEST_PATIENTS} patients can be asked.", n=n, patients=patients),
        chance=0.0,
        floor=SHIFT,
        films=FILMS,
        paper=SWAP_PAPER,
    )
    if patients < 2 * FEWEST_PATIENTS:
        return row
    rows = np.arange(n)
    shift = other[rows, wears] - same[rows, wears]
    means = np.bincount(patient, shift) / np.bincount(patient)

    def statistic(weights: Array) -> Array:
        mean: Array = weights @ shift / weights.sum(axis=1)
        return mean

    cohort = Cohort.of(patient_ids, classes)
    samples = bootstrap(statistic, cohort, settings, name="swap")[:, 0]
    value = _estimate(float(shift.mean()), samples, n, patients, settings)
    return Audit(
        name=name,
        about=row.about,
        measure=row.measure,
        value=value,
        chance=0.0,
        floor=SHIFT,
        p_value=_t_above(means),
        sentence=(
            "The answer follows the corners of the film, where markers stand: wearing those of another finding raises "
            f"that finding's probability by {value.text(3)} on average."
        ),
        films=FILMS,
        paper=SWAP_PAPER,
    )


def donors(
    classes: Indices, patient_ids: Sequence[str], groups: Sequence[str] | None = None, *, seed: int = 0
) -> tuple[Indices, Indices, Indices, Indices]:
    """Whose corners each film wears: a film of another patient of the same finding, and one of another finding.

    Args:
        classes: [n] known classes.
        patient_ids: n ids.
        groups: donors come from the film's own group, such as its source, so that the swap tells of the label and not
            of the hospital; None for all together.
        seed: of the draw.

    Returns:
        (rows that have both donors [m], same [m], other [m], the other finding [m]).
    """
    rng = stream(seed, "donors")
    owner, where = np.asarray(patient_ids, dtype=str), np.asarray(groups if groups is not None else [""] * len(classes))
    rows, same, other, wears = [], [], [], []
    for row in range(len(classes)):
        near = (where == where[row]) & (owner != owner[row])
        alike = np.flatnonzero(near & (classes == classes[row]))
        unlike = [c for c in np.unique(classes[near]) if c != classes[row]]
        if len(alike) and unlike:
            chosen = int(rng.choice(unlike))
            rows.append(row)
            same.append(int(rng.choice(alike)))
            other.append(int(rng.choice(np.flatnonzero(near & (classes == chosen)))))
            wears.append(chosen)
    found = [np.array(values, dtype=np.int64) for values in (rows, same, other, wears)]
    return found[0], found[1], found[2], found[3]


def stability_audit(
    before: Scores, after: Scores, patient_ids: Sequence[str], *, change: str, settings: Resampling
) -> Audit:
    """Share of films whose answer changes when the picture changes and the patient doesn't.

    Args:
        before: [n, k] probabilities of the films as they are.
        after: of the changed ones.
        patient_ids: n ids.
        change: what was changed, such as ``JPEG quality 50``.
        settings: of the interval.
    """
    _check(before, after, np.zeros(len(before), np.int64))
    flips, moved = _moved(before, after)
    n, patients = len(before), len(set(patient_ids))
    value = not_estimable("There is no film.", n=0)
    p_value = math.nan
    if n:
        cohort = Cohort.of(patient_ids, np.zeros(n, dtype=np.int64))
        samples = bootstrap(lambda w: w @ flips / w.sum(axis=1), cohort, settings, name="stability")[:, 0]
        value = proportion(float(flips.mean()), samples, n=n, patients=patients, level=settings.level)
        p_value = _binomial_above(float(flips.mean()), patients, FLIPS)
    return Audit(
        name="stability",
        about=change,
        measure="share of answers that change",
        value=value,
        chance=0.0,
        floor=FLIPS,
        p_value=p_value,
        severity="amber",
        sentence=(
            f"{value.value:.0%} of the answers change with {change} alone (mean change of probability "
            f"{moved.mean() if n else math.nan:.3f})."
        ),
        films=FILMS,
        paper=STABLE_PAPER,
    )


def _check(before: Scores, after: Scores, classes: Indices) -> None:
    if before.shape != after.shape or len(before) != len(classes):
        raise DataError(
            f"Answers {before.shape} and {after.shape} for {len(classes)} films don't match. Give one row a film."
        )
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        raise DataError(
            "Some answers are not finite, so they can't be compared. Look for films that the model fails on."
        )


def _present(classes: Indices, patient_ids: Sequence[str], k: int) -> list[int]:
    ids = np.asarray(patient_ids, dtype=str)
    everyone = len(np.unique(ids))
    counts = [len(np.unique(ids[classes == c])) for c in range(k)]
    return [c for c in range(k) if FEWEST_PATIENTS <= counts[c] <= everyone - FEWEST_PATIENTS]


def _moved(before: Scores, after: Scores) -> tuple[Array, Array]:
    """Whether each answer changed, as 0 and 1, and the mean absolute change of its probabilities."""
    flips = (before.argmax(axis=1) != after.argmax(axis=1)).astype(np.float64)
    return flips, np.abs(before - after).mean(axis=1)


def _estimate(value: float, samples: Array, n: int, patients: int, settings: Resampling) -> Estimate:
    low, high = percentile_interval(samples, settings.level)
    return Estimate(value=value, low=low, high=high, n=n, patients=patients, method="bootstrap by patient")


def _above(value: float, limit: float, spread: float) -> float:
    if spread <= 0 or math.isnan(spread):
        return 0.0 if value > limit else 1.0
    return 0.5 * math.erfc((value - limit) / spread / math.sqrt(2))


def _t_above(values: Array) -> float:
    """Student's one-sided test that the mean is above 0."""
    from scipy.special import stdtr

    spread = float(values.std(ddof=1)) / math.sqrt(len(values))
    if spread <= 0:
        return 0.0 if values.mean() > 0 else 1.0
    return float(stdtr(len(values) - 1, -float(values.mean()) / spread))


def _binomial_above(share: float, trials: int, limit: float) -> float:
    """Chance of so many flips were the true share the limit."""
    from scipy.special import bdtrc

    hits = math.floor(share * trials + 1e-9)
    return 1.0 if hits == 0 else float(bdtrc(hits - 1, trials, limit))
