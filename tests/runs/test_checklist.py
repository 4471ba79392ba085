"""The checklist and the looks of a run's report come from its artefacts, and nothing else fills them."""

import json
import shutil
from pathlib import Path

from hilum.evaluation.tripod import unanswered
from hilum.runs.checklist import run_checklist
from hilum.runs.evaluate import evaluate
from hilum.runs.report import calibration_choice, cross_validated, looks, report_input
from hilum.runs.run import Run


def test_a_run_answers_what_its_artefacts_say_and_leaves_the_rest_empty(run: Run, cohort: Path, tmp_path: Path) -> None:
    """Both tests, the second look, and the checklist."""
    copy = Run.open(shutil.copytree(run.path, tmp_path / "runs" / "copy"))
    copy.folder.openings.write_text(json.dumps({"time": "2026-01-01T00:00:00Z", "model": copy.fingerprint}) + "\n")
    cache = run.path.parent / ".cache"
    inside = evaluate(copy, cache=cache, resamples=100, interval="bca")
    outside = evaluate(copy, on=cohort / "external.parquet", external=True, cache=cache, resamples=100)
    assert inside.scorecard.settings.resampling.method == "bca"
    assert inside.scorecard.in_use is not None
    assert inside.scorecard.in_use.sets is not None
    items = {item.number: item.answer for item in run_checklist(copy, inside.scorecard, outside.scorecard)}
    assert f"{inside.scorecard.films} films of {inside.scorecard.patients} patients" in items["21"]
    assert outside.scorecard.macro_auroc.text() in items["23a"]
    assert "hospital-a" in items["5a"]
    assert "inside and" in items["16"]
    missing = unanswered(run_checklist(copy, inside.scorecard, outside.scorecard))
    assert {"1", "2", "3a", "8a", "17", "18a", "19"} <= set(missing)
    assert items["12f"].startswith("The model was not updated")
    assert "16" in unanswered(run_checklist(copy, inside.scorecard))
    given = report_input(copy, outside, internal=inside.scorecard, external=outside.scorecard)
    assert given.openings == 2  # though the films shown are the external ones
    assert [look["model"] for look in given.openings_log] == [copy.fingerprint] * 2
    assert set(given.cross_validation) == set(copy.config.findings)
    assert {item.number: item.answer for item in given.checklist} == items


def test_a_look_at_another_version_counts_apart(run: Run, tmp_path: Path) -> None:
    copy = Run.open(shutil.copytree(run.path, tmp_path / "runs" / "copy"))
    copy.folder.openings.write_text(json.dumps({"time": "t", "model": "another"}) + "\n")
    assert looks(copy) == [{"time": "t", "model": "another"}]
    copy.folder.openings.unlink()
    assert looks(copy) == []


def test_out_of_fold_predictions_are_pooled_and_taken_fold_by_fold(run: Run) -> None:
    found = cross_validated(run)
    for finding, (pooled, folds) in found.items():
        assert pooled.method.startswith("DeLong"), finding
        assert folds.method == "Nadeau–Bengio over folds" or folds.reason
    choice = calibration_choice(run)
    assert choice.folds in (0, 5)
