"""How long a whole report takes: 100,000 synthetic cases of three findings, from predictions to page.

``python benchmarks/full_report.py`` prints a table. The predictions are synthetic, and named so; no film is read. Times
depend on the machine, so quote them with it: wall seconds, and CPU seconds over all threads.
"""

import argparse
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from hilum.evaluation.calibration import softmax
from hilum.evaluation.calibrators import choose
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.report import ReportInput, render_report, write_report
from hilum.evaluation.scorecard import Settings, score
from hilum.evaluation.thresholds import choose_operating_points
from hilum.labels import CHEST
from hilum.predictions import Predictions
from hilum.randomness import stream

T = TypeVar("T")


def synthetic(cases: int, seed: int) -> Predictions:
    """Synthetic predictions: two cases a patient, three findings, five groups, logits twice too extreme."""
    rng, patient = stream(seed, "full-report-benchmark"), np.arange(cases) // 2
    classes = rng.choice(3, cases, p=[0.6, 0.25, 0.15])[patient]
    logits = rng.normal(size=(cases, 3))
    logits[np.arange(cases), classes] += 1.8
    groups = {
        "source": ("hospital-a", "hospital-b", "hospital-c"),
        "view_position": ("PA", "AP"),
        "sex": ("F", "M", ""),
        "age_band": ("18-39", "40-64", "65+"),
        "device": ("a", "b", "c", "d"),
    }
    return Predictions(
        findings=CHEST,
        film_ids=tuple(f"film{i}" for i in range(cases)),
        patient_ids=tuple(f"patient{i}" for i in patient),
        logits=2 * logits,
        probs=softmax(logits),
        targets=np.eye(3)[classes],
        groups={
            name: tuple(np.asarray(levels)[rng.integers(0, len(levels), cases)[patient]].tolist())
            for name, levels in groups.items()
        },
        uncertainty={"mutual_information": rng.gamma(2.0, 0.02, cases)},
    )


def timed(rows: list[str], what: str, task: Callable[[], T]) -> T:
    wall, cpu = time.perf_counter(), time.process_time()
    result = task()
    rows.append(f"| {what} | {time.perf_counter() - wall:.1f} | {time.process_time() - cpu:.1f} |")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--resamples", type=int, default=1_000)
    given = parser.parse_args()
    settings = Settings(resampling=Resampling(resamples=given.resamples))
    validation, films = synthetic(given.cases // 5, 1), synthetic(given.cases, 2)
    rows: list[str] = []
    started = time.perf_counter()
    points = timed(rows, "operating points", lambda: choose_operating_points(validation, settings=settings.resampling))
    choice = timed(
        rows, "choice of calibration", lambda: choose(validation.logits, validation.targets, validation.patient_ids)
    )
    card = timed(
        rows,
        "scorecard",
        lambda: score(films, settings=settings, operating_points=points, validation=validation),
    )
    report = timed(
        rows,
        "page and figures",
        lambda: render_report(
            ReportInput(
                title="Synthetic predictions", internal=card, validation_points=points, calibration_choice=choice
            )
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        timed(rows, "writing", lambda: write_report(Path(folder), report))
    total = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, NumPy {np.__version__}\n")
    print(f"{given.cases:,} synthetic cases, three findings, {given.resamples:,} resamples.\n")
    print("| part | wall s | CPU s |\n|---|---|---|")
    print("\n".join(rows))
    print(f"| all | {total:.1f} | {time.process_time():.1f} |\n\nPeak memory {peak:.0f} MB.")


if __name__ == "__main__":
    main()
