"""Several processes as one: each takes its share of every batch, and together they make the steps of one process.

All processes run the same loop over the same batches. Of each batch a process computes its share of the films; sums of
losses, weights, gradients and batch normalisation (:mod:`hilum.training.shared_norm`) go over all of them, so shares of
different sizes are exact, and all processes hold the same weights after every step. The first process writes; the
folder must be one that all of them see.

Dropout masks are drawn in each process for its own share, so with dropout the result is as good as that of one process,
but not the same; without it, it is the same up to the rounding of sums.
"""

import contextlib
import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from hilum.errors import TrainingError
from hilum.provenance import sha256_bytes
from hilum.training.stages import Stage

if TYPE_CHECKING:
    from hilum.training.position import Tally

T = TypeVar("T")

TIMEOUT_S = 120.0
"""Seconds after which a process that does not answer counts as dead; writing a checkpoint must take less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """A process among others; by itself when there is only one."""

    rank: int = 0
    """Which process this is, from 0."""
    world: int = 1
    """How many there are."""

    @property
    def first(self) -> bool:
        """Whether this process writes checkpoints and metrics."""
        return self.rank == 0

    def check(self, stage: Stage, films: int) -> None:
        """Refuse what can't be shared.

        Args:
            stage: about to be trained.
            films: of an epoch.

        Raises:
            TrainingError: batches with fewer films than there are processes.
        """
        if self.world == 1:
            return
        least = films // -(-films // stage.batch_size)
        if least < self.world:
            raise TrainingError(
                f"Stage {stage.name!r} has batches of {least} films, too few for {self.world} processes. "
                "Raise batch_size, or start fewer processes."
            )

    def mine(self, rows: Tensor) -> Tensor:
        """This process's share of a batch: shares differ by one film at most."""
        return rows.tensor_split(self.world)[self.rank] if self.world > 1 else rows

    def every(self, batches: Sequence[T]) -> Sequence[T]:
        """This process's share of batches that are only scored."""
        return batches[self.rank :: self.world]

    def add_up(self, tally: "Tally") -> "Tally":
        """The sum of all processes' tallies."""
        if self.world == 1:
            return tally
        sums = torch.tensor(astuple(tally), dtype=torch.float64, device=self._device())
        with heard(self):
            dist.all_reduce(sums)
        loss, weight, right, known = sums.tolist()
        return type(tally)(loss, weight, int(right), int(known))

    def summed(self, own: Tensor) -> Tensor:
        """The sum of all processes' tensors of one shape."""
        together = own.contiguous().clone()
        with heard(self):
            dist.all_reduce(together)
        return together

    def sum_gradients(self, parameters: Mapping[str, Tensor]) -> None:
        """Replace each gradient by the sum over all processes, in one message."""
        if self.world == 1:
            return
        gradients = [value.grad for value in parameters.values() if value.grad is not None]
        together = self.summed(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        parts = torch.split(together, [gradient.numel() for gradient in gradients])
        for gradient, summed in zip(gradients, parts, strict=True):
            gradient.copy_(summed.view_as(gradient))

    def agree(self, what: str, value: str) -> None:
        """Wait for all processes, and make sure that all have the same.

        Args:
            what: is compared, for the message.
            value: of this process.

        Raises:
            TrainingError: processes differ, or one is gone.
        """
        if self.world == 1:
            return
        own = torch.frombuffer(bytearray.fromhex(sha256_bytes(value.encode())), dtype=torch.uint8).to(self._device())
        all_of_them = [torch.empty_like(own) for _ in range(self.world)]
        with heard(self):
            dist.all_gather(all_of_them, own)
        if any(not torch.equal(other, own) for other in all_of_them):
            raise TrainingError(
                f"The {self.world} processes don't have the same {what}. Start all of them with the same command, "
                "on a folder that all of them see."
            )

    def _device(self) -> torch.device:
        return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


ALONE = Ranks()
"""One process by itself."""


@contextlib.contextmanager
def heard(ranks: Ranks) -> Iterator[None]:
    """Turn the silence or end of another process into one sentence.

    Raises:
        TrainingError: another process is gone.
    """
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise TrainingError(
            f"Process {ranks.rank + 1} of {ranks.world} no longer hears another one ({reason}). "
            "Start the same command again: it goes on at the last checkpoint."
        ) from None


@contextlib.contextmanager
def joined(*, timeout_s: float = TIMEOUT_S, cuda: bool = False) -> Iterator[Ranks]:
    """All processes that ``torchrun`` started, as a group; a process that it did not start is alone.

    Args:
        timeout_s: seconds after which a process that does not answer counts as dead.
        cuda: whether each process has a GPU of its own (NCCL); else they talk through the CPU (gloo).
    """
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    with group(timeout_s=timeout_s, cuda=cuda) as ranks:
        yield ranks


@contextlib.contextmanager
def group(
    *,
    timeout_s: float = TIMEOUT_S,
    cuda: bool = False,
    where: str = "env://",
    rank: int = -1,
    world: int = -1,
) -> Iterator[Ranks]:
    """A group of processes.

    Args:
        timeout_s: seconds after which a process that does not answer counts as dead.
        cuda: NCCL instead of gloo.
        where: how they find each other: ``env://`` as ``torchrun`` sets it, ``tcp://host:port`` or ``file:///path``.
        rank: of this process; −1 takes it from the environment.
        world: number of processes; −1 takes it from the environment.

    Raises:
        TrainingError: the others did not come in time.
    """
    try:
        dist.init_process_group(
            "nccl" if cuda else "gloo",
            init_method=where,
            rank=rank,
            world_size=world,
            timeout=datetime.timedelta(seconds=timeout_s),
        )
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise TrainingError(
            f"The processes did not find each other within {timeout_s:g} s ({reason}). Start all of them with torchrun."
        ) from None
    try:
        yield Ranks(rank=dist.get_rank(), world=dist.get_world_size())
    finally:
        dist.destroy_process_group()
