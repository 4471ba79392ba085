"""Integrated gradients of a run's network, for films that its bundle answered."""

import numpy as np
import torch

from hilum.arrays import Tile
from hilum.bundle.schema import BundleInfo
from hilum.errors import RunError
from hilum.explanation.integrated_gradients import STEPS, integrated_gradients
from hilum.inference.explaining import Shares
from hilum.runs.run import Run

MOST_STEPS = 256
"""Most points on the way from grey to the film; each costs a forward and a backward pass of every member."""

LEFT_OVER = 0.05
"""Share of the difference that may be left over before more points are taken."""


class RunGradients:
    """Integrated gradients of the mean logit of a run's members, from the tile's median grey to the tile.

    Args:
        run: a finished run.
        info: of the bundle whose answers are explained.
        steps: points on the way at first; their number doubles until little is left over.
        most: no more points than this.

    Raises:
        RunError: the bundle was made from other weights.
    """

    def __init__(self, run: Run, info: BundleInfo, *, steps: int = STEPS, most: int = MOST_STEPS) -> None:
        if info.fingerprints.get("weights") != run.fingerprint:
            raise RunError(
                f"{run.path} has other weights than those that the bundle {info.name} {info.version} was made from. "
                "Give the run that made it."
            )
        self._network = run.explained().requires_grad_(False)
        self._steps, self._most = steps, most

    def __call__(self, tile: Tile, column: int) -> Shares:
        """Of one tile uint8 [h, w], for one finding."""
        image = torch.from_numpy(np.ascontiguousarray(tile))[None, None].float() / 255
        grey = torch.tensor([float(np.median(tile)) / 255])
        steps = self._steps
        found = integrated_gradients(self._logits, image, column, baseline=grey, steps=steps)
        # Close to a uniform film, which is unlike any that was trained on, logits bend sharply: few points miss it.
        while abs(float(found.gap)) > LEFT_OVER * abs(float(found.difference)) and 2 * steps <= self._most:
            steps *= 2
            found = integrated_gradients(self._logits, image, column, baseline=grey, steps=steps)
        return Shares(values=found.values[0].numpy(), difference=float(found.difference[0]))

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._network(images).logits
        return logits
