"""What products are computed in while a part is trained: fp32, or half precision with everything else in fp32.

Weights, their gradients and the optimiser stay in fp32; torch's autocast narrows the products alone. Small gradients
would vanish in fp16, so the loss is multiplied by a large number before the backward pass and the gradients are divided
by it after (Micikevicius et al. 2018, Mixed precision training, arXiv:1710.03740). bf16 has the range of fp32 and needs
none of that.
"""

import contextlib
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from hilum.errors import UsageError
from hilum.training.bf16 import has_bf16

Precision = Literal["fp32", "bf16", "fp16"]
"""What products are computed in."""

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(precision: Precision, device: torch.device) -> str:
    """Whether a device computes in a precision, and what is to be said of it.

    Returns:
        a clause for the log: empty, or that it is slow here.

    Raises:
        UsageError: fp16 on a CPU.
    """
    if precision == "fp16" and device.type == "cpu":
        raise UsageError("The precision fp16 is for a GPU, but this training is on the CPU. Take bf16 or fp32.")
    if precision == "bf16" and not has_bf16(device):
        return "in bf16, which this processor only emulates: far slower than fp32"
    return "" if precision == "fp32" else f"in {precision}"


def computing_in(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """A block of code whose products are computed in a precision."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, _TYPES[precision])


def narrowed(inputs: Tensor, precision: Precision) -> Tensor:
    """A part's inputs, as its first product takes them: in bf16 when products are, else as they are.

    Autocast would leave them in fp32 until a product comes, and concatenating or normalising would pull all maps after
    them to fp32: in the last block of a DenseNet that is twice the memory to move, for digits that the next product
    drops. fp16 lacks the range for maps of any size, so autocast narrows them where it can.
    """
    return inputs.bfloat16() if precision == "bf16" else inputs


class LossScaler:
    """Keeps the gradients of an fp16 backward pass within what fp16 holds.

    A gradient that is not finite costs its step and halves the factor; 2,000 steps without one double it, as in
    Micikevicius et al. 2018, section 3.2 (dynamic loss scaling).

    Args:
        device: where the loss is.
    """

    START, GROW_AFTER = 2.0**16, 2000

    def __init__(self, device: torch.device) -> None:
        self.factor = torch.tensor(self.START, device=device)
        self.good_steps = torch.zeros((), device=device)

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss to go back from."""
        return loss * self.factor

    def unscale(self, gradients: Sequence[Tensor]) -> bool:
        """Divide gradients by the factor in place, and choose the next.

        Returns:
            whether all are finite, so that a step may follow.
        """
        inverse = 1 / self.factor
        for gradient in gradients:
            gradient.mul_(inverse)
        # One look for all of them: on a GPU the processor waits at each.
        finite = bool(torch.stack([gradient.isfinite().all() for gradient in gradients]).all()) if gradients else True
        if not finite:
            self.factor.mul_(0.5)
            self.good_steps.zero_()
        else:
            self.good_steps.add_(1)
            enough = self.good_steps >= self.GROW_AFTER
            self.factor.mul_(1 + enough.float())
            self.good_steps.masked_fill_(enough, 0)
        return finite

    def tensors(self) -> dict[str, Tensor]:
        """The state, for checkpoints."""
        return {"loss/factor": self.factor, "loss/good_steps": self.good_steps}
