"""What a verb says at its end: a few numbers with their intervals, as plain values."""

from pathlib import Path
from typing import Any

from hilum.evaluation.scorecard import score
from hilum.evaluation.verdict import Verdict
from hilum.runs.evaluate import Evaluation
from hilum.runs.run import Run


def training_summary(run: Run) -> dict[str, Any]:
    """What training reached on the films that each member watched."""
    optimistic = bool(run.result["calibration_optimistic"])
    card = score(run.out_of_fold(), name="out of fold", seed=run.config.seed, resamples=500)
    note = (
        "Calibrated on the films that early stopping watched, so the calibration is optimistic." if optimistic else ""
    )
    return {
        "path": str(run.path),
        "backbone": run.config.backbone,
        "weights": (run.result["weights"] or {}).get("name", "none"),
        "folds": run.config.folds,
        "members": run.config.members,
        "validation_kind": "on the watched fold" if optimistic else "out of fold",
        "validation": {
            name: {"auroc": estimate.text(), "value": estimate.value if estimate.estimable else None}
            for name, estimate in card.auroc.items()
        },
        "accuracy": card.accuracy.text(),
        "calibration": run.calibration.sentence,
        "calibration_note": note,
        "operating_points": operating_words(run),
        "seconds": run.result["seconds"],
    }


def operating_words(run: Run) -> str:
    """What thresholds were chosen for, finding by finding."""
    rules = run.config.operating
    aims = [(name, rules.aim_of(name)) for name in run.config.findings]
    return "; ".join(f"{name}: {aim}" for name, aim in aims)


def evaluation_summary(done: Evaluation, verdict: Verdict, path: Path) -> dict[str, Any]:
    """What an evaluation measured."""
    card, settings = done.scorecard, done.scorecard.settings.resampling
    return {
        "path": str(path),
        "test": card.name,
        "films": card.films,
        "patients": card.patients,
        "verdict": verdict.colour,
        "headline": verdict.headline,
        "red_flags": [flag.sentence for flag in card.confounding.flags if flag.severity == "red"],
        "findings": {
            name: {
                "auroc": card.auroc[name].text(),
                "sensitivity": card.sensitivity[name].text(),
                "specificity": card.specificity[name].text(),
            }
            for name in card.findings
        },
        "macro_auroc": card.macro_auroc.text(3),
        "accuracy": card.accuracy.text(),
        "ece": card.calibration_after.ece.text(3),
        "localisation": {
            row.name: {"hit_rate": row.hit_rate.text(), "chance": row.chance} for row in card.localisation
        },
        "openings": done.openings,
        "opening": done.opening,
        "model": done.model,
        "intervals": {"method": settings.method, "resamples": settings.resamples, "level": settings.level},
    }
