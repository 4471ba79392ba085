"""Optimisers whose whole state is named tensors, and the learning rate as a pure function of the step.

The arithmetic is torch's own fused kernels. Its ``Optimizer`` class is not used: building the first one imports the
compiler (eight seconds of work on a slow core), and its state is keyed by position, not by name.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from hilum.errors import RunError
from hilum.training.precision import LossScaler
from hilum.training.stages import Stage

# Quantities kept for each parameter, shaped like it.
_MOMENTS = {"adam": ("exp_avg", "exp_avg_sq"), "adamw": ("exp_avg", "exp_avg_sq"), "sgd": ("momentum_buffer",)}


class Optimiser:
    """The stage's optimiser over the trained parameters alone: what is frozen has no state.

    Adam (Kingma, Ba 2015), AdamW (Loshchilov, Hutter 2019), both with β = (0.9, 0.999) and ε = 1e-8; SGD with Nesterov
    momentum 0.9. Each as ``torch.optim`` computes it.

    Args:
        stage: names the optimiser, the weight decay, the longest gradient and the precision.
        parameters: the trained parameters by name.
        shares: of the learning rate, by name of the parameter; what is not named has the whole
            (:func:`hilum.training.blocks.rate_shares`).
    """

    def __init__(
        self, stage: Stage, parameters: Mapping[str, Tensor], shares: Mapping[str, float] | None = None
    ) -> None:
        self.stage, self.parameters = stage, dict(parameters)
        shares = {name: (shares or {}).get(name, 1.0) for name in parameters}
        self.groups = {
            share: [name for name in parameters if shares[name] == share] for share in dict.fromkeys(shares.values())
        }
        self.steps = {name: torch.zeros((), device=value.device) for name, value in parameters.items()}
        self.moments = {
            quantity: {name: torch.zeros_like(value, requires_grad=False) for name, value in parameters.items()}
            for quantity in _MOMENTS[stage.optimiser]
        }
        device = next((value.device for value in parameters.values()), torch.device("cpu"))
        self.scaler = LossScaler(device) if stage.precision == "fp16" else None

    def clear_gradients(self) -> None:
        """Forget the last batch's gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss, from which :meth:`step` then moves the parameters."""
        torch.autograd.backward(self.scaler.scaled(loss) if self.scaler else loss)

    def step(self, lr: float) -> None:
        """Move the parameters that have a gradient, after the gradients are shortened to the stage's longest.

        Args:
            lr: of parameters that have the whole rate.
        """
        found = {name: value.grad for name, value in self.parameters.items() if value.grad is not None}
        if self.scaler and not self.scaler.unscale(list(found.values())):
            return
        if self.stage.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_([self.parameters[name] for name in found], self.stage.clip_norm)
        gradients = {name: _like(gradient, self.parameters[name]) for name, gradient in found.items()}
        for share, names in self.groups.items():
            present = [name for name in names if name in gradients]
            if present:
                self._step_group(present, [gradients[name] for name in present], lr * share)

    def _step_group(self, names: Sequence[str], gradients: list[Tensor], lr: float) -> None:
        """Move the named parameters at one rate."""
        first, *second = [[by_name[name] for name in names] for by_name in self.moments.values()]
        moved = [self.parameters[name] for name in names]
        with torch.no_grad():
            if self.stage.optimiser == "sgd":
                sgd(
                    moved,
                    gradients,
                    [*first],
                    fused=True,
                    weight_decay=self.stage.weight_decay,
                    momentum=0.9,
                    lr=lr,
                    dampening=0.0,
                    nesterov=True,
                    maximize=False,
                )
            else:
                adam(
                    moved,
                    gradients,
                    first,
                    second[0],
                    [],
                    [self.steps[name] for name in names],
                    fused=True,
                    decoupled_weight_decay=self.stage.optimiser == "adamw",
                    amsgrad=False,
                    beta1=0.9,
                    beta2=0.999,
                    lr=lr,
                    weight_decay=self.stage.weight_decay,
                    eps=1e-8,
                    maximize=False,
                )

    def tensors(self) -> dict[str, Tensor]:
        """The state, named ``parameter/quantity``; for fp16 with the loss scaler's."""
        quantities = {"step": self.steps, **self.moments}
        state = {
            f"{name}/{quantity}": value for quantity, by_name in quantities.items() for name, value in by_name.items()
        }
        return state | (self.scaler.tensors() if self.scaler else {})

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`tensors` gave.

        Raises:
            RunError: tensors of another optimiser or of other parameters.
        """
        own = self.tensors()
        if tensors.keys() != own.keys():
            odd = sorted(tensors.keys() ^ own.keys())[0]
            raise RunError(f"The checkpoint's optimiser state doesn't fit this stage ({odd!r}). Start a new run.")
        for name, value in own.items():
            value.copy_(tensors[name])


def _like(gradient: Tensor, parameter: Tensor) -> Tensor:
    """The gradient with the parameter's strides: the fused kernels walk both in memory order, whatever that is."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter, requires_grad=False).copy_(gradient)


ONE_CYCLE_RISE = 0.25
"""Share of the steps in which the schedule ``one-cycle`` rises."""

PLATEAU_FACTOR = 0.2
"""What the schedule ``plateau`` multiplies the rate with."""


def learning_rate(stage: Stage, step: int, steps: int, watched: Sequence[float | None] = ()) -> float:
    """Learning rate of a step.

    A function of the position and of the epochs so far, so that there is no scheduler whose state could be lost.

    Args:
        stage: its schedule and its highest learning rate.
        step: 0 … steps − 1, over all epochs of the stage.
        steps: number of steps if no epoch is saved by early stopping.
        watched: watched loss of each finished epoch, which ``plateau`` goes by; None where nothing is watched.
    """
    rise = int((ONE_CYCLE_RISE if stage.schedule == "one-cycle" else stage.warmup_share) * steps)
    highest = stage.lr
    if stage.schedule == "plateau":
        highest *= PLATEAU_FACTOR ** plateaus(watched, stage.plateau_patience)
    if step < rise:
        return highest * (step + 1) / rise
    if stage.schedule in ("constant", "plateau"):
        return highest
    return highest * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))


def plateaus(losses: Sequence[float | None], patience: int) -> int:
    """How often a falling loss has come to a halt: ``patience`` epochs in a row without a new lowest value."""
    lowest, waited, halts = math.inf, 0, 0
    for loss in losses:
        if loss is not None and loss < lowest:
            lowest, waited = loss, 0
        else:
            waited += 1
        if waited == patience:
            halts, waited = halts + 1, 0
    return halts
