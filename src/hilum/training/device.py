"""Where networks are computed: the processor or a GPU, by name, or whichever is there."""

from typing import Literal, get_args

import torch
import torch.distributed as dist

from hilum.errors import UsageError, nearest
from hilum.training.ranks import ALONE, Ranks

Where = Literal["auto", "cpu", "cuda"]
"""What a person may ask for; ``auto`` is a GPU where torch sees one, else the CPU."""


def choose_device(wanted: str = "auto") -> torch.device:
    """The device of a name.

    Raises:
        UsageError: an unknown name, or a GPU that is not there.
    """
    if wanted not in get_args(Where):
        raise UsageError(f"There is no device {wanted!r}. {nearest(wanted, get_args(Where))}")
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise UsageError("--device is cuda, but torch sees no GPU here. Leave it out, or give --device cpu.")
    return torch.device("cuda" if there and wanted != "cpu" else "cpu")


def own_device(device: torch.device, ranks: Ranks = ALONE) -> torch.device:
    """The device of this process among several: each has a GPU of its own, and all share the CPU.

    Args:
        device: what was chosen for all of them.
        ranks: which process this is.

    Raises:
        UsageError: more processes on this machine than GPUs.
    """
    if device.type == "cpu" or ranks.world == 1:
        return device
    number, there = dist.get_node_local_rank(), torch.cuda.device_count()
    if number >= there:
        raise UsageError(
            f"Process {number + 1} on this machine has no GPU of its own: there are {there}. Start {there} at most "
            "(--nproc-per-node), or give --device cpu."
        )
    own = torch.device("cuda", number)
    torch.cuda.set_device(own)
    return own


def device_in_words(device: torch.device) -> str:
    """Such as ``cpu``, or ``cuda (NVIDIA A100)``."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type
