"""Integrated gradients: a score's difference from that of a grey film, shared out among the pixels without remainder.

Sundararajan, Taly, Yan 2017, "Axiomatic attribution for deep networks", ICML, arXiv:1703.01365. Attribution of pixel
i is ``(x_i − x'_i) · ∫₀¹ ∂F/∂x_i (x' + a(x − x')) da``, here by the midpoint rule; summed over pixels it is
``F(x) − F(x')`` but for the rule's error, which is returned so that it can be shown.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hilum.errors import UsageError

STEPS = 64
"""Points on the way from the baseline to the film."""


class Attribution(NamedTuple):
    """What each pixel gives to a score."""

    values: Float[Tensor, "n h w"]
    """In the score's unit, summed over channels; negative where a pixel speaks against it."""
    difference: Float[Tensor, " n"]
    """Score of the film minus score of its baseline: what the values should add up to."""

    @property
    def gap(self) -> Float[Tensor, " n"]:
        """What is missing in the sum, with its sign: the error of the midpoint rule."""
        return self.difference - self.values.sum((1, 2))


def integrated_gradients(
    scores: Callable[[Tensor], Tensor],
    images: Float[Tensor, "n c h w"],
    output: int,
    *,
    baseline: Float[Tensor, " n"],
    steps: int = STEPS,
) -> Attribution:
    """Share a score's difference out among the pixels.

    Args:
        scores: images → scores [n, k], differentiable, each image answered by itself.
        images: floating point.
        output: column of the scores.
        baseline: the grey value of each image's baseline, a uniform image.
        steps: points on the way, ≥ 1.

    Returns:
        the attribution.

    Raises:
        UsageError: steps below 1, or images of whole numbers, which have no gradient.
    """
    if steps < 1:
        raise UsageError(f"steps is {steps}, but integrated gradients need at least 1.")
    if not images.is_floating_point():
        raise UsageError(f"Integrated gradients need floating-point images, but got {images.dtype}. Divide by 255.")
    start = baseline[:, None, None, None].expand_as(images)
    way = (images - start).detach()
    total = torch.zeros_like(images)
    for step in range(steps):
        point = (start + (step + 0.5) / steps * way).detach().requires_grad_()
        with torch.enable_grad():
            score = scores(point)[:, output].sum()
        total += torch.autograd.grad(score, point)[0]
    with torch.no_grad():
        difference = scores(images)[:, output] - scores(start.contiguous())[:, output]
    return Attribution(values=(way * total / steps).sum(1).detach(), difference=difference)
