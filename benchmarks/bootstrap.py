"""Intervals: 2,000 resamples by patient of 10,000 synthetic cases of three findings.

Run: OMP_NUM_THREADS=1 python benchmarks/bootstrap.py [--cases 10000] [--resamples 2000]

The predictions are made up, two cases a patient. Seconds are of the processor, medians of three runs. "All metrics" are
what a scorecard holds: AUROC, AUPRC and seven rates of each finding, and ten figures over all of them.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _section import Save, head, main, spread, table, verdict

from hilum.evaluation.delong import auroc_covariance
from hilum.evaluation.intervals import Cohort, Resampled, Resampling, bootstrap
from hilum.evaluation.measuring import measure as measure_all
from hilum.evaluation.metrics import classes_of
from hilum.evaluation.ranks import Ranking
from hilum.labels import CHEST
from hilum.predictions import Predictions
from hilum.randomness import stream

BAR_S = 5.0
"""Seconds that 2,000 resamples of 10,000 cases may take."""


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


def seconds(task: Callable[[], object]) -> float:
    started = time.process_time()
    task()
    return time.process_time() - started


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    cases, resamples = (300, 40) if options.smoke else (options.cases, options.resamples)
    films = synthetic(cases)
    classes = classes_of(films.targets, films.findings)
    cohort, positive = Cohort.of(films.patient_ids, classes), classes == 0
    ranking, scores = Ranking.of(films.probs[:, 0], positive), films.probs[:, 0]
    plain, bca = Resampling(resamples=resamples), Resampling(resamples=resamples, method="bca")
    tasks: dict[str, Callable[[], object]] = {
        "AUROC, percentile": lambda: bootstrap(ranking.auroc, cohort, plain),
        "AUROC, BCa": lambda: Resampled.of(ranking.auroc, cohort, bca),
        "AUROC, DeLong by patient": lambda: auroc_covariance(scores[None], positive, films.patient_ids),
        "all metrics, percentile": lambda: measure_all(films, classes, plain),
        "all metrics, BCa": lambda: measure_all(films, classes, bca),
    }
    rows: dict[str, list[float]] = {}
    for what, task in tasks.items():
        rows[what] = [seconds(task) for _ in range(3)]
        save({"cases": cases, "resamples": resamples, "rows": rows})
    return {"cases": cases, "resamples": resamples, "rows": rows}


def write(measured: dict[str, Any]) -> str:
    rows = [
        [what, spread(values, ".2f"), verdict(sorted(values)[len(values) // 2], BAR_S, ".0f", least=False)]
        for what, values in measured["rows"].items()
    ]
    words = f"{measured['resamples']:,} resamples of {measured['cases']:,} synthetic cases, three findings.\n"
    return f"{head(measured)}\n{words}\n{table(['what', 'CPU s', 'bar'], rows)}"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=2_000)


if __name__ == "__main__":
    main(__doc__ or "", measure, write, add)
