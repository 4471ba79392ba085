"""A run's integrated gradients: of the very logit that its bundle answers with, and of no other run's."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.bundle.small import small_info

from hilum.errors import RunError
from hilum.runs.explain import RunGradients
from hilum.runs.package import reference_tiles
from hilum.runs.run import Run


def test_shares_add_up_to_the_logits_difference_from_grey(run: Run) -> None:
    info = replace(small_info(), fingerprints={"weights": run.fingerprint})
    (tile,) = reference_tiles(run.recipe.preprocessing)[:1]
    found = RunGradients(run, info, steps=24)(tile, 1)
    grey = np.full_like(tile, np.uint8(np.median(tile)))
    with torch.inference_mode():
        logits = run.explained()(torch.from_numpy(np.stack([tile, grey])[:, None])).logits[:, 1]
    assert found.values.shape == tile.shape
    assert found.difference == pytest.approx(float(logits[0] - logits[1]), abs=1e-4)
    assert found.values.sum() == pytest.approx(found.difference, abs=0.05 * abs(found.difference) + 1e-3)


def test_a_bundle_of_other_weights_is_refused(run: Run) -> None:
    with pytest.raises(RunError, match="has other weights than those that the bundle small 1.0 was made from"):
        RunGradients(run, small_info())
