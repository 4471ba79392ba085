"""Calibration inside the graph: logits → probabilities, the same for every member and dropout mask.

They are the layers of what :mod:`hilum.evaluation.calibrators` fits, as far as a graph carries it: smooth functions, in
which the rounding of a runtime stays as small as it was. A step function (isotonic regression) would make jumps of it.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Scaled(nn.Module):
    """Logits times a weight plus a bias, a pair for each finding, then the softmax (Guo et al. 2017).

    Args:
        weights: k factors; all 1/T for a temperature T.
        biases: k summands.
    """

    weights: Tensor
    biases: Tensor

    def __init__(self, weights: Sequence[float], biases: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(list(weights), dtype=torch.float32), persistent=False)
        self.register_buffer("biases", torch.tensor(list(biases), dtype=torch.float32), persistent=False)

    def forward(self, logits: Float[Tensor, "... k"]) -> Float[Tensor, "... k"]:
        """Probabilities."""
        return torch.softmax(logits * self.weights + self.biases, dim=-1)


class Sigmoids(nn.Module):
    """A sigmoid of each finding's log-odds against all others, then divided by their sum (Platt 1999).

    Args:
        slopes: k factors of the log-odds.
        intercepts: k summands.
    """

    slopes: Tensor
    intercepts: Tensor

    def __init__(self, slopes: Sequence[float], intercepts: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("slopes", torch.tensor(list(slopes), dtype=torch.float32), persistent=False)
        self.register_buffer("intercepts", torch.tensor(list(intercepts), dtype=torch.float32), persistent=False)

    def forward(self, logits: Float[Tensor, "... k"]) -> Float[Tensor, "... k"]:
        """Probabilities."""
        k = logits.shape[-1]
        others = [torch.cat([logits[..., :c], logits[..., c + 1 :]], dim=-1) for c in range(k)]
        rest = torch.stack([torch.logsumexp(one, dim=-1) for one in others], dim=-1)
        chances = torch.sigmoid((logits - rest) * self.slopes + self.intercepts)
        return chances / chances.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(chances.dtype).tiny)
