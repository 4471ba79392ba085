"""The trained part of a classifier: what lies behind a cut. What lies before it is frozen, and stays so."""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hilum.models.classifier import Classifier


def is_trained(name: str, classifier: Classifier, cut: int) -> bool:
    """Whether a parameter, buffer or module of the classifier, given by its dotted name, lies behind the cut."""
    if cut == 0:
        return True
    homes = ["head", *(f"encoder.{layer}" for layer in classifier.encoder.layers[cut:])]
    return any(name == home or name.startswith(f"{home}.") for home in homes)


def trained_names(classifier: Classifier, cut: int) -> tuple[str, ...]:
    """Names of all parameters and saved buffers behind the cut."""
    return tuple(name for name in classifier.state_dict() if is_trained(name, classifier, cut))


def copy_tensors(classifier: Classifier, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Copies of the named parameters and buffers."""
    state = classifier.state_dict()
    return {name: state[name].detach().clone() for name in names}


def put_tensors(classifier: Classifier, tensors: Mapping[str, Tensor]) -> None:
    """Overwrite the named parameters and buffers in place; all others stay."""
    state = classifier.state_dict()
    with torch.no_grad():
        for name, value in tensors.items():
            state[name].copy_(value)


def logits_behind(classifier: Classifier, inputs: Tensor, cut: int) -> Tensor:
    """Logits [n, k] from the outputs before a cut: maps [n, c, h, w], or pooled [n, c] when the head alone is left."""
    if cut == len(classifier.encoder.layers):
        from_pooled: Any = classifier.head.from_pooled
        logits: Tensor = from_pooled(inputs)
        return logits
    return classifier.suffix(inputs, cut)


class TrainedPart(nn.Module):
    """Layers from a cut on, and the head, as one module: prefix outputs → logits.

    While it lives, parameters before the cut need no gradient, and :meth:`train` leaves every module before the cut
    in evaluation mode: running statistics don't move, and dropout does nothing there.

    Args:
        classifier: the whole; changed in place.
        cut: number of frozen layers; len(layers) leaves the head alone, which then takes pooled features [n, c].
        batch_norm_trains: whether batch normalisation behind the cut moves its running statistics.
    """

    def __init__(self, classifier: Classifier, cut: int, *, batch_norm_trains: bool) -> None:
        super().__init__()
        self.classifier, self.cut = classifier, cut
        self.names = trained_names(classifier, cut)
        self._switched = [
            module
            for name, module in classifier.named_modules()
            if (is_trained(name, classifier, cut) and (batch_norm_trains or not isinstance(module, _BatchNorm)))
        ]
        for name, parameter in classifier.named_parameters():
            parameter.requires_grad_(is_trained(name, classifier, cut))
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [n, k] from prefix outputs: pooled [n, c] or maps [n, c, h, w]."""
        return logits_behind(self.classifier, inputs, self.cut)

    def train(self, mode: bool = True) -> Self:
        """Set the trained modules to training mode, and everything else to evaluation mode."""
        self.training = mode
        for module in self.classifier.modules():
            module.training = False
        for module in self._switched:
            module.training = mode
        return self

    def trained_parameters(self) -> dict[str, Tensor]:
        """Parameters behind the cut by name, in the classifier's order."""
        return {name: value for name, value in self.classifier.named_parameters() if value.requires_grad}

    def copy(self) -> dict[str, Tensor]:
        """Copies of the trained parameters and buffers."""
        return copy_tensors(self.classifier, self.names)

    def put(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite trained parameters and buffers."""
        put_tensors(self.classifier, tensors)

    def release(self) -> None:
        """Make the classifier an ordinary module again: evaluation mode, every parameter may be trained."""
        self.eval()
        self.classifier.requires_grad_(True)
