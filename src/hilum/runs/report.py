"""The page of a run: verdict, figures, tables, heat maps and provenance, from its artefacts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hilum.arrays import Indices
from hilum.evaluation.audits import Audits
from hilum.evaluation.calibrators import Choice, choose
from hilum.evaluation.confounding import confounding_of_labels
from hilum.evaluation.cross_validation import across_folds
from hilum.evaluation.delong import delong
from hilum.evaluation.estimates import Estimate
from hilum.evaluation.metrics import classes_of
from hilum.evaluation.report import Comparison, Heatmaps, ReportInput, render_report, write_report
from hilum.evaluation.scorecard import Scorecard
from hilum.evaluation.verdict import Verdict
from hilum.imaging.overlay import overlay, png
from hilum.reports.page import Picture, Section
from hilum.runs.checklist import run_checklist
from hilum.runs.evaluate import Evaluation, history_rows, operating_points
from hilum.runs.run import Run

TYPICAL, ERRORS = 2, 4
"""Films shown of each finding, and of the most confident errors."""

SIDE = 320
"""Pixels a side of a picture in the gallery."""


def report_run(
    run: Run,
    shown: Evaluation,
    *,
    internal: Scorecard | None = None,
    external: Scorecard | None = None,
    audits: Audits | None = None,
    comparison: Sequence[Comparison] = (),
    notices: Sequence[str] = (),
    more: Sequence[Section] = (),
    command: str = "",
) -> tuple[Path, Verdict]:
    """Write ``report.html``, ``report.json`` and figures into the run's folder.

    Args:
        run: a finished run.
        shown: the evaluation whose heat maps are shown.
        internal: the internal test; None takes the shown evaluation's.
        external: the external test, to stand beside it.
        audits: ways round the disease that were looked for.
        comparison: ways of training, side by side.
        notices: sentences right below the verdict, such as that the films are synthetic.
        more: further sections.
        command: that makes this page again.

    Returns:
        path of the page, and the verdict over all tests.
    """
    report = render_report(
        report_input(
            run,
            shown,
            internal=internal,
            external=external,
            audits=audits,
            comparison=comparison,
            notices=notices,
            more=more,
            command=command,
        )
    )
    return write_report(run.path, report), report.verdict


def report_input(
    run: Run,
    shown: Evaluation,
    *,
    internal: Scorecard | None = None,
    external: Scorecard | None = None,
    audits: Audits | None = None,
    comparison: Sequence[Comparison] = (),
    notices: Sequence[str] = (),
    more: Sequence[Section] = (),
    command: str = "",
) -> ReportInput:
    """Everything that the page of a run is made from; arguments as for :func:`report_run`."""
    films = run.films
    weights = run.result["weights"] or {}
    return ReportInput(
        title=f"{run.path.name}: {', '.join(run.config.findings)}",
        subtitle=f"{run.config.backbone}, weights {weights.get('name', 'none')}, {run.config.folds} "
        f"fold{'s' if run.config.folds > 1 else ''}"
        f"{f' × {run.config.seeds} seeds' if run.config.seeds > 1 else ''}, {len(films)} films",
        internal=internal or shown.scorecard,
        external=external,
        audits=audits,
        data=confounding_of_labels(
            run.findings, films.targets(run.findings), films.groups(), tuple(films.strings("patient_id"))
        ),
        validation_points=operating_points(run),
        calibration=run.calibration,
        history=history_rows(run),
        comparison=comparison,
        heatmaps=gallery(run, shown),
        provenance=provenance(run),
        command=command,
        openings=sum(look["model"] == run.fingerprint for look in looks(run)) or None,
        openings_log=looks(run),
        model=run.fingerprint,
        calibration_choice=calibration_choice(run),
        cross_validation=cross_validated(run),
        checklist=run_checklist(run, internal or shown.scorecard, external),
        notices=notices,
        more=more,
    )


def looks(run: Run) -> list[dict[str, str]]:
    """Each look at the locked test share, of any version of the model, the oldest first."""
    path = run.folder.openings
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def calibration_choice(run: Run) -> Choice:
    """How ways of calibrating compare on the run's out-of-fold predictions, also those that no graph carries."""
    films = run.out_of_fold().labelled
    return choose(films.logits, films.targets, films.patient_ids, seed=run.config.seed)


def cross_validated(run: Run) -> dict[str, tuple[Estimate, Estimate]]:
    """AUROC of each finding on out-of-fold predictions: pooled, and as the mean over folds with its own interval.

    Empty for a run of one fold, whose films were watched by early stopping.
    """
    if run.config.folds < 2:
        return {}
    films = run.films
    number = dict(zip(films.strings("film_id"), films.column("fold").tolist(), strict=True))
    oof = run.out_of_fold().labelled
    fold = np.asarray([number[film] for film in oof.film_ids], dtype=np.int64)
    classes = classes_of(oof.targets, oof.findings)
    return {
        name: (
            delong(oof.probs[:, c], classes == c, oof.patient_ids, finding=name),
            across_folds(oof, fold, name),
        )
        for c, name in enumerate(oof.findings.names)
    }


def provenance(run: Run) -> dict[str, Any]:
    """Environment and fingerprints of a run, for its page."""
    environment = run.result["environment"]
    weights = run.result["weights"] or {}
    return {
        "trained": run.result["created"],
        "films fingerprint": run.result["films"],
        "config fingerprint": run.result["config_fingerprint"],
        "weights": {key: value for key, value in weights.items() if isinstance(value, str | int | float | bool)},
        "seconds": run.result["seconds"],
        **{key: value for key, value in environment.items() if value is not None},
    }


def gallery(run: Run, shown: Evaluation) -> Heatmaps:
    """The first films of each finding in the order of their hashes, then the most confident errors."""
    targets, probs = shown.predictions.targets, shown.predictions.probs
    known = np.flatnonzero(~np.isnan(targets).any(axis=1))
    order = known[np.argsort([shown.predictions.film_ids[i] for i in known])]
    truth, said = targets.argmax(axis=1), probs.argmax(axis=1)
    typical = [i for k in range(len(run.findings)) for i in order[truth[order] == k][:TYPICAL]]
    wrong = order[truth[order] != said[order]]
    errors = wrong[np.argsort(-probs[wrong].max(axis=1), kind="stable")][:ERRORS]
    pictures = tuple(_picture(run, shown, int(i)) for i in [*typical, *errors])
    return Heatmaps(
        pictures=pictures,
        caption=f"The first {TYPICAL} films of each finding in the order of their hashes, then the {len(errors)} most "
        "confident errors. Each heat map is of the finding that was answered, on what the network saw.",
    )


def _picture(run: Run, shown: Evaluation, row: int) -> Picture:
    findings = run.findings
    truth = int(shown.predictions.targets[row].argmax())
    said = int(shown.predictions.probs[row].argmax())
    tile = shown.tiles[row]
    scale = max(1, round(SIDE / len(tile)))
    enlarged = np.kron(tile, np.ones((scale, scale), dtype=np.uint8)) if scale > 1 else tile
    heat = shown.answers["cam"][row, said]
    drawn = overlay(enlarged, heat, top=heat_top(shown, np.arange(len(shown.tiles))))
    return Picture(
        png=png(drawn),
        title=f"{findings.name(truth)}, answered {findings.name(said)}",
        text=f"probability {shown.predictions.probs[row, said]:.2f}",
        tone="" if truth == said else "red",
    )


def heat_top(shown: Evaluation, rows: Indices) -> float:
    """One colour scale for all films: the 99.5th percentile of their maps above zero."""
    heat = shown.answers["cam"][rows]
    hot = heat[heat > 0]
    return float(np.percentile(hot, 99.5)) if hot.size else 1.0


def saved_scorecard(run: Run, name: str) -> Scorecard | None:
    """A scorecard that an earlier evaluation wrote; None when there is none."""
    path = run.folder.evaluation(name) / "scorecard.json"
    return Scorecard.from_json(json.loads(path.read_text())) if path.exists() else None
