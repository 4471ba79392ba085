"""A run's integrated gradients: of the very logit that its bundle answers with, and of no other run's."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.bundle.small import small_info

from hilum.bundle.schema import BundleInfo
from hilum.errors import RunError
from hilum.explanation.integrated_gradients import Attribution
from hilum.runs import explain
from hilum.runs.explain import RunGradients
from hilum.runs.package import reference_tiles
from hilum.runs.run import Run


@pytest.fixture
def info(run: Run) -> BundleInfo:
    return replace(small_info(), fingerprints={"weights": run.fingerprint})


def test_what_is_shared_out_is_the_logits_difference_from_grey(run: Run, info: BundleInfo) -> None:
    (tile,) = reference_tiles(run.recipe.preprocessing)[:1]
    found = RunGradients(run, info, steps=2, most=2)(tile, 1)
    grey = np.full_like(tile, np.uint8(np.median(tile)))
    with torch.inference_mode():
        logits = run.explained()(torch.from_numpy(np.stack([tile, grey])[:, None])).logits[:, 1]
    assert found.values.shape == tile.shape
    assert np.abs(found.values).max() > 0
    assert found.difference == pytest.approx(float(logits[0] - logits[1]), abs=1e-4)


@pytest.mark.parametrize(("most", "taken"), [(256, [4, 8, 16, 32]), (16, [4, 8, 16]), (15, [4, 8])])
def test_points_double_until_little_is_left_over(
    run: Run, info: BundleInfo, monkeypatch: pytest.MonkeyPatch, most: int, taken: list[int]
) -> None:
    """An error that halves with each doubling, from a quarter of the difference on: below a twentieth at 32 points."""
    asked: list[int] = []

    def shares(scores: object, images: torch.Tensor, output: int, *, steps: int, **rest: Any) -> Attribution:
        asked.append(steps)
        return Attribution(values=torch.full((1, 1, 1), 1 - 1 / steps), difference=torch.ones(1))

    monkeypatch.setattr(explain, "integrated_gradients", shares)
    found = RunGradients(run, info, steps=4, most=most)(np.zeros((8, 8), np.uint8), 0)
    assert asked == taken
    assert found.values.tolist() == [[1 - 1 / taken[-1]]]


def test_a_bundle_of_other_weights_is_refused(run: Run) -> None:
    with pytest.raises(RunError, match="has other weights than those that the bundle small 1.0 was made from"):
        RunGradients(run, small_info())
