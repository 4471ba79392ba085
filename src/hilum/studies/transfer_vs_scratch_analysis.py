"""What one row a training says of transfer learning against scratch: means, targets, savings, intervals."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hilum.evaluation.intervals import Cohort, Resampling, bootstrap, percentile_interval
from hilum.evaluation.paired import paired_difference
from hilum.evaluation.ranks import Ranking
from hilum.studies.xray_films import XrayFilms

SCRATCH, HEAD, BLOCK, FULL = METHODS = ("scratch", "feature extraction", "last block", "full fine-tuning")
"""The methods, in the order of tables and figures."""

LATE_SHARE = 0.2
"""A training whose best epoch lies in this last share of its epochs had not finished."""

Rows = Sequence[Mapping[str, Any]]


def pick(rows: Rows, method: str, labels: int | str) -> list[Mapping[str, Any]]:
    """The rows of a method on a number of labels, one a seed in the order of seeds."""
    found = [row for row in rows if row["method"] == method and row["labels_per_class"] == labels]
    return sorted(found, key=lambda row: row["seed"])


def label_counts(rows: Rows) -> list[int | str]:
    """Labels per class, rising, ``all`` last."""
    return list(dict.fromkeys(row["labels_per_class"] for row in rows))


def spread(values: Iterable[float]) -> tuple[float, float, float]:
    """Mean, smallest and largest."""
    listed = list(values)
    return float(np.mean(listed)), float(min(listed)), float(max(listed))


def summary(rows: Rows) -> list[dict[str, Any]]:
    """One flat record for each number of labels and each method, over seeds."""
    records = []
    for labels in label_counts(rows):
        for method in METHODS:
            ours = pick(rows, method, labels)
            mean, low, high = spread(row["test_accuracy"] for row in ours)
            trained = float(np.mean([row["train_accuracy"] for row in ours]))
            records.append(
                {
                    "labels_per_class": labels,
                    "method": method,
                    "labels": ours[0]["labels"],
                    "test_accuracy": mean,
                    "lowest": low,
                    "highest": high,
                    "train_test_gap": trained - mean,
                    "epochs": ours[0]["epochs"],
                    "gmacs": float(np.mean([row["macs"] for row in ours])) / 1e9,
                    "training_time_s": float(np.mean([row["whole_s"] for row in ours])),
                }
            )
    return records


def reaching(row: Mapping[str, Any], target: float) -> tuple[int, float] | None:
    """The first epoch, from 1, whose watched accuracy is the target or more, and the seconds until its end."""
    for number, point in enumerate(row["curve"], start=1):
        if point["watch_accuracy"] >= target:
            return number, point["elapsed_s"]
    return None


def best_watched(row: Mapping[str, Any]) -> float:
    """Highest watched accuracy of a training."""
    return float(max(point["watch_accuracy"] for point in row["curve"]))


def targets(rows: Rows) -> list[dict[str, Any]]:
    """Epochs and seconds to what scratch, and what feature extraction, reaches at best on the watched images.

    Targets are taken seed by seed, so that every method is asked for what its own rival reached on the same images.
    """
    records = []
    for rival in (SCRATCH, HEAD):
        goals = [best_watched(row) for row in pick(rows, rival, "all")]
        rivals = [reaching(row, goal) for row, goal in zip(pick(rows, SCRATCH, "all"), goals, strict=True)]
        for method in METHODS:
            found = [reaching(row, goal) for row, goal in zip(pick(rows, method, "all"), goals, strict=True)]
            reached = [pair for pair in found if pair]
            saved = [100 * (1 - own[1] / his[1]) for own, his in zip(found, rivals, strict=True) if own and his]
            records.append(
                {
                    "target": f"best of {rival}",
                    "accuracy": float(np.mean(goals)),
                    "method": method,
                    "seeds_that_reach_it": len(reached),
                    "seeds": len(found),
                    "epochs": float(np.mean([pair[0] for pair in reached])) if reached else None,
                    "seconds": float(np.mean([pair[1] for pair in reached])) if reached else None,
                    "less_time_percent": float(np.mean(saved)) if saved else None,
                    "least": min(saved, default=None),
                    "most": max(saved, default=None),
                }
            )
    return records


def whole_saved(rows: Rows, method: str) -> list[float]:
    """Per cent by which each seed's whole training is shorter than scratch's, with all labels."""
    pairs = zip(pick(rows, method, "all"), pick(rows, SCRATCH, "all"), strict=True)
    return [100 * (1 - own["whole_s"] / his["whole_s"]) for own, his in pairs]


def unfinished(rows: Rows) -> bool:
    """Whether scratch, in the middle of its seeds, was best so late that more epochs would have helped."""
    places = []
    for row in pick(rows, SCRATCH, "all"):
        accuracy = [point["watch_accuracy"] for point in row["curve"]]
        places.append((len(accuracy) - int(np.argmax(accuracy)) - 1) / len(accuracy))
    return float(np.median(places)) < LATE_SHARE


def labels_saved(rows: Rows) -> int | str | None:
    """Fewest labels per class with which feature extraction is as good as scratch with all; None when never."""
    goal = float(np.mean([row["test_accuracy"] for row in pick(rows, SCRATCH, "all")]))
    for labels in label_counts(rows):
        if float(np.mean([row["test_accuracy"] for row in pick(rows, HEAD, labels)])) >= goal:
            return labels
    return None


def difference(rows: Rows, first: str, second: str, labels: int | str) -> tuple[float, int]:
    """Mean difference of test accuracy in points, and its sign when the paired seeds tell it from 0 (else 0)."""
    one, other = ([row["test_accuracy"] for row in pick(rows, method, labels)] for method in (first, second))
    found = paired_difference(one, other)
    return found.mean, found.sign


def film_summary(rows: Rows, films: XrayFilms, resamples: int, seed: int) -> list[dict[str, Any]]:
    """AUROC of pneumonia for each method and number of labels, and its difference from scratch, by patient bootstrap.

    A method's AUROC is the mean over its seeds; resamples of patients are the same for all methods, so differences are
    paired.
    """
    positive = films.test[1] == 1
    cohort = Cohort.of(films.patients, films.test[1])
    settings = Resampling(seed=seed, resamples=resamples)
    records = []
    for record in summary(rows):
        ours, scratch = (pick(rows, method, record["labels_per_class"]) for method in (record["method"], SCRATCH))
        value, samples = _mean_auroc(ours, positive, cohort, settings)
        base, base_samples = _mean_auroc(scratch, positive, cohort, settings)
        low, high = percentile_interval(samples, settings.level)
        less, more = percentile_interval(samples - base_samples, settings.level)
        records.append(
            {
                "labels_per_class": record["labels_per_class"],
                "method": record["method"],
                "labels": record["labels"],
                "auroc": value,
                "low": low,
                "high": high,
                "above_scratch": value - base,
                "above_scratch_low": less,
                "above_scratch_high": more,
                **{key: record[key] for key in ("test_accuracy", "train_test_gap", "gmacs", "training_time_s")},
            }
        )
    return records


def _mean_auroc(rows: Rows, positive: Any, cohort: Cohort, settings: Resampling) -> tuple[float, Any]:
    rankings = [Ranking.of(np.asarray(row["scores"], dtype=np.float64), positive) for row in rows]

    def mean(weights: Any) -> Any:
        return np.mean([ranking.auroc(weights) for ranking in rankings], axis=0)

    whole = np.ones((1, len(positive)))
    return float(mean(whole)[0]), bootstrap(mean, cohort, settings, name="x-ray films")[:, 0]
