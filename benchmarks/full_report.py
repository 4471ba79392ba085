"""A whole report: 100,000 synthetic cases of three findings, from predictions to page.

Run: OMP_NUM_THREADS=2 python benchmarks/full_report.py [--cases 100000] [--resamples 1000]

The predictions are made up, two cases a patient, five groups, every kind of doubt that a run has; a fifth as many serve
as validation cases. No film is read. Wall seconds on an idle machine are what a person waits; seconds of the processor
stand beside them, since a busy machine changes only the former.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from _section import Save, head, main, table, verdict

from hilum.evaluation.calibration import softmax
from hilum.evaluation.calibrators import choose
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.report import ReportInput, render_report, write_report
from hilum.evaluation.scorecard import Settings, score
from hilum.evaluation.selective import MC_STD, MUTUAL_INFORMATION, OOD_DISTANCE
from hilum.evaluation.thresholds import choose_operating_points
from hilum.labels import CHEST
from hilum.predictions import Predictions
from hilum.randomness import stream

T = TypeVar("T")

BAR_S = 120.0
"""Wall seconds that the whole may take on two cores."""


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
        uncertainty={
            MUTUAL_INFORMATION: rng.gamma(2.0, 0.02, cases),
            MC_STD: rng.gamma(2.0, 0.03, cases),
            OOD_DISTANCE: rng.gamma(30.0, 1 / 30, cases),
        },
    )


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    cases, resamples = (600, 40) if options.smoke else (options.cases, options.resamples)
    settings = Settings(resampling=Resampling(resamples=resamples))
    validation, films = synthetic(cases // 5, 1), synthetic(cases, 2)
    rows: dict[str, tuple[float, float]] = {}

    def timed(what: str, task: Callable[[], T]) -> T:
        wall, cpu = time.perf_counter(), time.process_time()
        result = task()
        rows[what] = time.perf_counter() - wall, time.process_time() - cpu
        save({"cases": cases, "resamples": resamples, "rows": rows, "peak_mb": None})
        return result

    points = timed("operating points", lambda: choose_operating_points(validation, settings=settings.resampling))
    choice = timed(
        "choice of calibration", lambda: choose(validation.logits, validation.targets, validation.patient_ids)
    )
    card = timed("scorecard", lambda: score(films, settings=settings, operating_points=points, validation=validation))
    given = ReportInput(
        title="Synthetic predictions", internal=card, validation_points=points, calibration_choice=choice
    )
    report = timed("page and figures", lambda: render_report(given))
    with tempfile.TemporaryDirectory() as folder:
        timed("writing", lambda: write_report(Path(folder), report))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cases": cases, "resamples": resamples, "rows": rows, "peak_mb": peak}


def write(measured: dict[str, Any]) -> str:
    walls, cpus = (sum(pair[i] for pair in measured["rows"].values()) for i in (0, 1))
    rows = [[what, f"{wall:.1f}", f"{cpu:.1f}", ""] for what, (wall, cpu) in measured["rows"].items()]
    rows.append(["all", f"{walls:.1f}", f"{cpus:.1f}", verdict(walls, BAR_S, ".0f", least=False)])
    words = f"{measured['cases']:,} synthetic cases, three findings, {measured['resamples']:,} resamples.\n"
    peak = f"\nPeak memory {measured['peak_mb']:.0f} MB.\n"
    return f"{head(measured)}\n{words}\n{table(['part', 'wall s', 'CPU s', 'bar (wall)'], rows)}{peak}"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--resamples", type=int, default=1_000)


if __name__ == "__main__":
    main(__doc__ or "", measure, write, add)
