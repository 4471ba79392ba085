"""Watching a network: its layers' outputs while it answers, and afterwards everything as it was before."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hilum.errors import UsageError, nearest


@contextmanager
def watched(network: nn.Module, names: Iterable[str], note: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Inside, the network answers in eval mode and without gradients, and a function sees layers' outputs.

    Afterwards, whatever happened, no hook is left and each module has the mode that it had.

    Args:
        network: any.
        names: fully-qualified names of its layers; all must exist.
        note: is called with a layer's name and its output, each time it runs; a later layer may change the tensor in
            place, so that a copy has to be kept.

    Raises:
        UsageError: no such layer; the message names the nearest.
    """
    modules = dict(network.named_modules())
    unknown = [name for name in names if name not in modules]
    if unknown:
        known = [name for name, module in modules.items() if name and not list(module.children())]
        raise UsageError(f"The network has no layer {unknown[0]!r}. {nearest(unknown[0], known)}")
    modes = {module: module.training for module in network.modules()}

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, inputs, output: note(name, output)

    with ExitStack() as stack:
        stack.callback(_restore, modes)
        for name in names:
            stack.callback(modules[name].register_forward_hook(hook(name)).remove)
        stack.enter_context(torch.no_grad())
        network.eval()
        yield


def _restore(modes: dict[nn.Module, bool]) -> None:
    for module, training in modes.items():
        module.training = training
