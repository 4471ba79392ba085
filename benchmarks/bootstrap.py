"""How long intervals take: 2,000 resamples by patient of 10,000 synthetic cases.

``python benchmarks/bootstrap.py`` prints a table. Times are CPU seconds of one thread and depend on the machine, so
quote them with it.
"""

import argparse
import os
import platform
import resource
import time
from collections.abc import Callable

import numpy as np

from hilum.evaluation.delong import auroc_covariance
from hilum.evaluation.intervals import Cohort, Resampled, Resampling, bootstrap
from hilum.evaluation.measuring import measure
from hilum.evaluation.metrics import classes_of
from hilum.evaluation.ranks import Ranking
from hilum.labels import CHEST
from hilum.predictions import Predictions
from hilum.randomness import stream


def synthetic(cases: int) -> Predictions:
    """Synthetic predictions of three findings, two cases a patient."""
    rng, patient = stream(0, "bootstrap-benchmark"), np.arange(cases) // 2
    classes = patient % 3
    logits = rng.normal(size=(cases, 3))
    logits[np.arange(cases), classes] += 1.5
    probs = np.exp(logits)
    return Predictions(
        findings=CHEST,
        film_ids=tuple(f"film{i}" for i in range(cases)),
        patient_ids=tuple(f"patient{i}" for i in patient),
        logits=logits,
        probs=probs / probs.sum(axis=1, keepdims=True),
        targets=np.eye(3)[classes],
    )


def row(what: str, task: Callable[[], object]) -> str:
    started = time.process_time()
    task()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"| {what} | {time.process_time() - started:.2f} | {peak:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=2_000)
    given = parser.parse_args()
    films = synthetic(given.cases)
    classes = classes_of(films.targets, films.findings)
    cohort, positive = Cohort.of(films.patient_ids, classes), classes == 0
    ranking, scores = Ranking.of(films.probs[:, 0], positive), films.probs[:, 0]
    plain = Resampling(resamples=given.resamples)
    bca = Resampling(resamples=given.resamples, method="bca")
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, NumPy {np.__version__}\n")
    print(f"{given.resamples:,} resamples of {given.cases:,} synthetic cases, three findings.\n")
    print("| what | CPU s | peak memory, MB |\n|---|---|---|")
    print(row("AUROC, percentile", lambda: bootstrap(ranking.auroc, cohort, plain)))
    print(row("AUROC, BCa", lambda: Resampled.of(ranking.auroc, cohort, bca)))
    print(row("AUROC, DeLong by patient", lambda: auroc_covariance(scores[None], positive, films.patient_ids)))
    print(row("all metrics, percentile", lambda: measure(films, classes, plain)))
    print(row("all metrics, BCa", lambda: measure(films, classes, bca)))


if __name__ == "__main__":
    main()
