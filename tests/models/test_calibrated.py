"""Calibration as a layer: what evaluation fits, the graph computes."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from hilum.evaluation import calibrators
from hilum.models.calibrated import Scaled, Sigmoids

WEIGHTS, BIASES = (0.5, 1.5, 2.0), (0.3, -0.2, 1.0)
CASES: list[tuple[Callable[..., nn.Module], calibrators.Calibrator]] = [
    (Scaled, calibrators.Scaling(weights=WEIGHTS, biases=BIASES)),
    (Sigmoids, calibrators.Sigmoids(slopes=WEIGHTS, intercepts=BIASES)),
]


@pytest.mark.parametrize(("layer", "fitted"), CASES)
def test_a_layer_gives_the_calibrators_probabilities(
    layer: Callable[..., nn.Module], fitted: calibrators.Calibrator
) -> None:
    """For films, and for members and dropout masks of films alike; far logits stay finite."""
    logits = torch.randn((2, 7, 3), generator=torch.Generator().manual_seed(0)) * 4
    logits[0, 0] = torch.tensor([80.0, -80.0, 0.0])
    found = layer(WEIGHTS, BIASES)(logits)
    wanted = [fitted.probs(one.double().numpy()) for one in logits]
    np.testing.assert_allclose(found.numpy(), np.stack(wanted), atol=1e-6)
    assert found.sum(-1).numpy() == pytest.approx(np.ones((2, 7)), abs=1e-5)
