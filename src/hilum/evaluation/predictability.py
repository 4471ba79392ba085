"""Whether a group, such as the source, can be read from the network's features: a linear model asks them."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from hilum.arrays import Array, Indices
from hilum.config import BESIDE
from hilum.errors import DataError, MissingExtra
from hilum.evaluation.backing import Backing
from hilum.evaluation.estimates import Estimate, not_estimable
from hilum.evaluation.intervals import FEWEST_PATIENTS, Cohort, Resampling, bootstrap, ranked
from hilum.evaluation.ranks import Ranking
from hilum.randomness import seed_for, stream

MOST_FILMS = 4000
"""More films than this add cost and no knowledge; whole patients are drawn up to it."""

FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictability:
    """How well a group can be read from features by a linear model, on patients that it hasn't seen."""

    group: str
    """Name of the group, such as ``source``."""
    levels: tuple[str, ...]
    """Levels that were told apart."""
    auroc: Estimate
    """AUROC out of fold; mean over levels, one-vs-rest, when there are more than two."""
    within: str = ""
    """The one finding whose films were asked, so that the disease can't help; empty for all films."""
    backing: Backing | None = field(default=None, metadata=BESIDE, compare=False, repr=False)
    """The scores behind it, written beside the JSON."""


def predict_group(
    features: Float[np.ndarray, "n d"],
    levels: Sequence[str],
    patient_ids: Sequence[str],
    *,
    group: str = "source",
    within: str = "",
    film_ids: Sequence[str] = (),
    settings: Resampling | None = None,
) -> Predictability:
    """Read a group from features: logistic regression, folds by patient.

    Args:
        features: [n, d], finite, such as the pooled features of a network.
        levels: n texts: the level of each film.
        patient_ids: n ids.
        group: the group's name.
        within: the finding whose films these are, when they are all of one.
        film_ids: n ids, or none; the scores behind the value are told by them.
        settings: of the interval.

    Returns:
        the out-of-fold AUROC; not estimable when fewer than two levels have patients enough.

    Raises:
        DataError: lengths that disagree, or features that are not finite.
        MissingExtra: scikit-learn is not installed.
    """
    settings = settings or Resampling()
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != 2 or len({len(values), len(levels), len(patient_ids)}) > 1:
        raise DataError(
            f"Features {values.shape}, {len(levels)} levels and {len(patient_ids)} patients don't match. "
            "Give one row, one level and one patient a film."
        )
    if not np.isfinite(values).all():
        wrong = int((~np.isfinite(values)).any(axis=1).sum())
        raise DataError(f"Features of {wrong} films are not finite. Look for a damaged film or a diverged training.")
    names, which = np.unique(np.asarray(levels, dtype=str), return_inverse=True)
    patient = np.unique(np.asarray(patient_ids, dtype=str), return_inverse=True)[1]
    rows = _enough(which, patient, settings.seed)
    kept = tuple(str(name) for name in names[np.unique(which[rows])])
    if len(kept) < 2:
        reason = f"Fewer than two levels of {group} have at least {2 * FOLDS} patients."
        return Predictability(group=group, levels=kept, auroc=not_estimable(reason, n=len(levels)), within=within)
    which = np.unique(which[rows], return_inverse=True)[1]
    scores = out_of_fold(values[rows], which, patient[rows], seed=settings.seed)
    owners = [patient_ids[i] for i in rows.tolist()]
    return Predictability(
        group=group,
        levels=kept,
        auroc=group_auroc(scores, which, owners, settings, group),
        within=within,
        backing=Backing.of(
            {f"{SCORE}{level}": scores[:, i] for i, level in enumerate(kept)},
            owners,
            film_ids=[film_ids[i] for i in rows.tolist()] if film_ids else (),
            truth=[kept[c] for c in which.tolist()],
            classes=which,
        ),
    )


SCORE = "log-odds: "
"""Beginning of the columns behind it, one a level."""


def _enough(which: Indices, patient: Indices, seed: int) -> Indices:
    """Rows of levels with patients enough for the folds, and no more patients than are useful."""
    counts = {level: len(np.unique(patient[which == level])) for level in np.unique(which)}
    rows = np.flatnonzero(np.isin(which, [level for level, count in counts.items() if count >= 2 * FOLDS]))
    if len(rows) <= MOST_FILMS:
        return rows
    order = stream(seed, "predictability").permutation(np.unique(patient[rows]))
    films = np.bincount(patient[rows], minlength=int(patient.max()) + 1)[order].cumsum()
    return rows[np.isin(patient[rows], order[: max(1, int(np.searchsorted(films, MOST_FILMS)))])]


def out_of_fold(features: Array, which: Indices, patient: Indices, *, seed: int = 0) -> Array:
    """Log-odds of each level on films whose patients the model hasn't seen, [n, levels].

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedGroupKFold
    except ImportError:
        raise MissingExtra("train", "Asking features for the source") from None
    scores = np.full((len(features), int(which.max()) + 1), -math.inf)
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed_for(seed, "predictability") % 2**32)
    for fit, test in splitter.split(features, which, patient):
        mean, scale = features[fit].mean(axis=0), features[fit].std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        model = LogisticRegression(C=0.01, max_iter=500)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a ranking needs no sixth digit
            model.fit((features[fit] - mean) / scale, which[fit])
        scores[test[:, None], model.classes_] = model.predict_log_proba((features[test] - mean) / scale)
    finite: Array = np.maximum(scores, -1e9)
    return finite


def group_auroc(
    scores: Array, which: Indices, patient_ids: Sequence[str], settings: Resampling, group: str
) -> Estimate:
    """AUROC of out-of-fold scores [n, levels], the mean over levels when there are more than two, with its interval."""
    cohort = Cohort.of(patient_ids, which)
    columns = range(scores.shape[1]) if scores.shape[1] > 2 else [1]
    rankings = [Ranking.of(scores[:, c], which == c) for c in columns]

    def statistic(weights: Array) -> Array:
        mean: Array = np.mean([ranking.auroc(weights) for ranking in rankings], axis=0)
        return mean

    samples = bootstrap(statistic, cohort, settings, name="predictability")[:, 0]
    value = float(statistic(np.ones((1, len(which))))[0])
    fewest = min(cohort.count(which == level) for level in np.unique(which))
    sides = (max(fewest, FEWEST_PATIENTS), cohort.patients - fewest)
    return ranked(value, samples, n=len(which), sides=sides, level=settings.level, finding=f"the rarest {group}")
