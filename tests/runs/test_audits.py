"""The audits of a run: on the frozen layers of its own backbone, written beside the scorecard."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from hilum.evaluation.audits import Audits
from hilum.runs.audits import _frozen, audit_run
from hilum.runs.evaluate import evaluate
from hilum.runs.run import Run


def test_a_run_is_audited_and_the_audits_are_written(run: Run, tmp_path: Path) -> None:
    copy = Run.open(shutil.copytree(run.path, tmp_path / "runs" / "copy"))
    done = evaluate(copy, cache=run.path.parent / ".cache", resamples=100)
    audits = audit_run(copy, done, cache=run.path.parent / ".cache", resamples=40, permutations=19)
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
