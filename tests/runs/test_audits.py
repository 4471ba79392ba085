"""The audits of a run: on the frozen layers of its own backbone, written beside the scorecard."""

import json
import shutil
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from hilum.evaluation.audits import Audits
from hilum.evaluation.backing import read_backings
from hilum.evaluation.estimates import to_plain
from hilum.evaluation.redo import redo_audits
from hilum.predictions import Predictions
from hilum.runs.audits import _frozen, audit_run
from hilum.runs.evaluate import Evaluation, evaluate
from hilum.runs.run import Run


@dataclass(frozen=True)
class Audited:
    """A run, evaluated and audited."""

    run: Run
    done: Evaluation
    audits: Audits


@pytest.fixture(scope="module")
def audited(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Audited:
    folder = tmp_path_factory.mktemp("audited")
    copy = Run.open(shutil.copytree(run.path, folder / "runs" / "copy"))
    cache = run.path.parent / ".cache"
    done = evaluate(copy, cache=cache, resamples=100)
    return Audited(copy, done, audit_run(copy, done, cache=cache, resamples=40, permutations=19))


def test_a_run_is_audited_and_the_audits_are_written(audited: Audited) -> None:
    done, audits = audited.done, audited.audits
    names = {row.name for row in audits.rows}
    assert names >= {
        "metadata-only model", "border-only model", "corner-marker model", "lung-blacked-out model",
        "centre-only model", "readable from features", "corners covered", "burned-in text covered", "corners swapped",
        "stability", "duplicates across the split", "label noise", "heat in the lungs",
        "deletion and insertion", "maps of shuffled weights", "maps under noise",
    }  # fmt: skip
    assert audits.features.startswith("mean and maximum of the output of hilum_small's layers up to ")
    written = Audits.from_json(json.loads((done.folder / "audits.json").read_text()))
    assert written.to_json() == audits.to_json()
    copies = next(row for row in audits.rows if row.name == "duplicates across the split")
    assert (copies.value.value, copies.verdict) == (0.0, "clear")


def test_a_quick_audit_asks_about_the_films_alone(audited: Audited) -> None:
    where = replace(audited.done, folder=audited.done.folder.with_name("quick"))
    cache = audited.run.path.parent / ".cache"
    where.folder.mkdir()
    quick = audit_run(audited.run, where, cache=cache, resamples=40, permutations=19, quick=True)
    names = {row.name for row in quick.rows}
    assert names >= {"metadata-only model", "border-only model", "duplicates across the split", "label noise"}
    assert not names & {"stability", "corners swapped", "heat in the lungs"}


def test_frozen_layers_know_nothing_of_the_labels_and_pixels_stand_in_where_none_is_frozen(run: Run) -> None:
    describe, _ = _frozen(run)
    tiles = np.zeros((2, 64, 64), np.uint8)
    features = describe(tiles)
    assert features.shape[0] == 2
    assert np.array_equal(features[0], features[1])
    everything = replace(run.recipe, stages=(replace(run.recipe.stages[0], trainable_from="all"),))
    scratch = Run(run.folder, replace(run.config, recipe=everything), run.result)
    describe, words = _frozen(scratch)
    assert words.startswith("grey values in the cells of a grid")
    assert describe(tiles).shape == (2, 3 * 144)


def test_every_number_of_the_audits_is_redone_from_what_was_written(audited: Audited) -> None:
    """Bit by bit: values, intervals, p-values and verdicts, from the files alone."""
    folder = audited.done.folder
    written = Audits.from_json(json.loads((folder / "audits.json").read_text()))
    backings = read_backings(folder / "audits.parquet")
    again = redo_audits(
        written,
        backings,
        Predictions.read(folder / "predictions.parquet"),
        Predictions.read(audited.run.folder.out_of_fold),
    )
    assert [to_plain(row) for row in again] == [to_plain(row) for row in written.rows]
    asked = {row.name for row in written.rows if row.value.estimable} - {"inside one source", "label noise"}
    assert {name for name, _ in backings} >= asked
    assert len(asked) >= 12


def test_audited_values_follow_from_the_table_by_another_library(audited: Audited) -> None:
    """No code of this package: the table's rows, scikit-learn and counting."""
    rows = json.loads((audited.done.folder / "audits.json").read_text())["rows"]
    table = pq.read_table(audited.done.folder / "audits.parquet").to_pylist()
    seen = set()
    for row in rows:
        part = [one for one in table if (one["name"], one["about"]) == (row["name"], row["about"])]
        value = row["value"]["value"]
        if value is None or not part or row["name"] in ("duplicates across the split", "left-out source"):
            continue
        seen.add(row["name"])
        truth, columns = wide(part)
        before, after = (by_finding(columns, start) for start in ("as it is: ", "changed: "))
        if scores := by_finding(columns, "score: "):
            found = mean_auroc(truth, scores)
        elif row["name"].endswith(" covered"):
            found = mean_auroc(truth, before) - mean_auroc(truth, after)
        elif row["name"] == "stability":
            said, then = (np.column_stack(list(side.values())).argmax(axis=1) for side in (before, after))
            found = (said != then).mean()
        elif row["name"] == "corners swapped":
            found = np.mean(columns["with corners of another finding"] - columns["with corners of the same finding"])
        else:
            found = columns["value"].mean()
        assert value == pytest.approx(found), row["name"]
        shuffled = np.array([one["value"] for one in part if one["column"] == "mean AUROC with shuffled labels"])
        if len(shuffled) and row["p_value"] is not None:
            reached = (shuffled >= value - 1e-12).sum()
            assert row["p_value"] == pytest.approx(
                20 / len(shuffled) if reached >= 20 else (1 + reached) / (1 + len(shuffled))
            )
    assert len(seen) >= 12


def wide(part: list[dict[str, Any]]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """What the films have, and columns of the same films side by side; values of no film are left out."""
    columns: dict[str, list[float]] = {}
    truth: dict[str, list[str]] = {}
    for one in part:
        if one["film_id"] and not one["column"].startswith("level: "):
            columns.setdefault(one["column"], []).append(one["value"])
            truth.setdefault(one["column"], []).append(one["truth"])
    return np.array(next(iter(truth.values()))), {name: np.array(values) for name, values in columns.items()}


def by_finding(columns: dict[str, np.ndarray], start: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(start): values for name, values in columns.items() if name.startswith(start)}


def mean_auroc(truth: np.ndarray, scores: dict[str, np.ndarray]) -> float:
    """Over the findings that five patients have; one film a patient here."""
    found = [roc_auc_score(truth == name, values) for name, values in scores.items() if (truth == name).sum() >= 5]
    return float(np.mean(found))
