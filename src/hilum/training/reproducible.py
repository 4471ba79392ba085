"""A block of code in which torch computes reproducibly; outside, everything is as it was."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


def seed_masks(seed: int, device: torch.device) -> None:
    """Choose the next dropout masks: dropout takes no generator but the global one (:func:`reproducible` guards it)."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


@contextlib.contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Deterministic kernels, and a global generator that may be seeded freely: all put back at the end.

    On the CPU the same calls give the same bits. On a GPU cuDNN's choice of kernels is fixed, which makes runs alike
    but for kernels that add atomically.
    """
    deterministic: Any = torch.utils.deterministic
    before = (torch.get_deterministic_debug_mode(), deterministic.fill_uninitialized_memory)
    cudnn = torch.backends.cudnn
    before_cudnn = (cudnn.benchmark, cudnn.deterministic)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            deterministic.fill_uninitialized_memory = False  # it would write every empty tensor twice
            # Not use_deterministic_algorithms: it imports the compiler, eight seconds of work on a slow core.
            torch.set_deterministic_debug_mode("error" if device.type == "cpu" else "default")
            cudnn.benchmark, cudnn.deterministic = False, True
            yield
        finally:
            torch.set_deterministic_debug_mode(before[0])
            deterministic.fill_uninitialized_memory = before[1]
            cudnn.benchmark, cudnn.deterministic = before_cudnn
