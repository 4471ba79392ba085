"""Out of memory: what does not depend on the batch is done in halves; where it does, the message says what fits."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn, TypeVar

import torch
from torch import Tensor

from hilum.errors import TrainingError
from hilum.training.diagnosing import rehearsing

if TYPE_CHECKING:
    from hilum.training.engine import Loop
    from hilum.training.position import Position

T = TypeVar("T")

_OUT_OF_MEMORY = (
    "can't allocate memory",
    "Cannot allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)  # where no torch.OutOfMemoryError says it: of the CPU's allocator, of the driver, and of the libraries' own


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory could not be had, on a GPU or on the CPU."""
    told = isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or told


def step_or_refuse(
    step: Callable[["Loop", "Position", Tensor], None],
    trial: Callable[["Loop", "Position", Tensor], None],
    loop: "Loop",
    at: "Position",
    rows: Tensor,
) -> None:
    """Do a step; where memory runs out, find the batch size that fits.

    A step is never done in halves by itself: batch normalisation and the length of steps depend on the batch.

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
    share = f"this process's share of {len(rows)} films" if loop.ranks.world > 1 else f"{len(rows)} films"
    what = f"Memory ran out on {rows.device.type} in {where}, with {share} in the batch."
    with rehearsing(loop.part):
        fits = largest_that_fits(lambda count: trial(loop, at, rows[:count]), len(rows)) * loop.ranks.world
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
        _empty_cache()
        try:
            attempt(count)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return count
    return 0


def in_halves(work: Callable[[Tensor], T], rows: Tensor, what: str) -> list[T]:
    """Do work for some films at once, or where memory runs out for one half and then the other.

    For work that treats every film by itself, such as scoring.

    Args:
        work: gives what these films give.
        rows: of the films, one or more.
        what: is done, for the message.

    Returns:
        what the parts gave, in the order of the films.

    Raises:
        TrainingError: memory ran out with a single film.
    """
    try:
        return [work(rows)]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    if len(rows) == 1:
        raise TrainingError(
            f"Memory ran out {what}, with a single film. Take smaller images or a smaller network, or free memory."
        )
    _empty_cache()
    half = len(rows) // 2
    return [*in_halves(work, rows[:half], what), *in_halves(work, rows[half:], what)]


@contextlib.contextmanager
def memory_for(what: str, mend: str) -> Iterator[None]:
    """Turn memory that runs out into one sentence, where the number of films can't be changed.

    Args:
        what: is done.
        mend: what helps.

    Raises:
        TrainingError: memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(f"Memory ran out {what}. {mend}") from None


def _empty_cache() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
