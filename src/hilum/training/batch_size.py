"""Out of memory: the batch is halved until one fits, and the message says which."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor

from hilum.errors import TrainingError
from hilum.training.diagnosing import kept_buffers

if TYPE_CHECKING:
    from hilum.training.engine import Loop
    from hilum.training.position import Position


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory could not be had, on a GPU or on the CPU."""
    cpu = "can't allocate memory" in str(error) or "Cannot allocate memory" in str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and cpu)


def step_or_refuse(
    step: Callable[["Loop", "Position", Tensor], None],
    trial: Callable[["Loop", "Position", Tensor], None],
    loop: "Loop",
    at: "Position",
    rows: Tensor,
) -> None:
    """Do a step; where memory runs out, find the batch size that fits.

    Args:
        step: the step.
        trial: forward and backward passes as in the step, without moving a weight.
        loop: what is trained.
        at: where it is.
        rows: of the batch.

    Raises:
        TrainingError: memory ran out; the message names the batch size that fits.
    """
    try:
        return step(loop, at, rows)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Behind the handler: an error under way would hold the failed batch's memory.
    _refuse(trial, loop, at, rows)


def _refuse(
    trial: Callable[["Loop", "Position", Tensor], None], loop: "Loop", at: "Position", rows: Tensor
) -> NoReturn:
    where = f"stage {loop.stage.name!r}, epoch {at.epoch + 1}, batch {at.batch + 1}"
    what = f"Memory ran out on {rows.device.type} in {where}, with {len(rows)} films in the batch."
    with kept_buffers(loop.part):
        fits = largest_that_fits(lambda count: trial(loop, at, rows[:count]), len(rows))
    loop.optimiser.clear_gradients()
    if not fits:
        raise TrainingError(
            f"{what} Not even one film fits: train from a later layer, take smaller images or a smaller network."
        )
    raise TrainingError(
        f"{what} A batch of {fits} fits (forward and backward passes were tried): set batch_size={fits} in that "
        "stage, and train into another folder."
    )


def largest_that_fits(attempt: Callable[[int], None], count: int) -> int:
    """Halve a number of films until an attempt has memory enough; 0 when not even one does.

    Args:
        attempt: does the work for a number of films.
        count: the number that did not fit.
    """
    while count > 1:
        count //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            attempt(count)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return count
    return 0
