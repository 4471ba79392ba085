"""Why a loss is not a finite number: the failed batch is run once more, and the first layer that broke is named.

Also what *diverging* means: a loss that is finite, but far above where it began, and stays there.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hilum.errors import TrainingError
from hilum.training.shared_norm import batch_norm_apart

if TYPE_CHECKING:
    from hilum.training.engine import Answer, Loop
    from hilum.training.position import Position, Tally

NAMED = 8
"""Films of a batch that a message names by row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """When a finite loss counts as diverging.

    A running mean of the batches' losses (each new one with weight 1 / ``batches``) is above ``factor`` times the
    larger of the stage's first loss and ln k, which a network that knows nothing of k classes costs in cross-entropy.
    A loss that only jumps, or that is high from the beginning, is not diverging.
    """

    factor: float = 20.0
    """How far above its beginning the running mean must be."""
    batches: int = 20
    """Batches that the running mean looks back, about."""

    def follow(self, at: "Position", loss: float, classes: int) -> bool:
        """Take in a batch's mean loss; whether the training diverges now.

        Args:
            at: holds the first loss and the running mean, so that a resume goes on with both.
            loss: of the batch.
            classes: k.
        """
        if at.first_loss is None:
            at.first_loss = at.recent_loss = loss
        at.recent_loss += (loss - at.recent_loss) / self.batches
        return at.recent_loss > self.factor * max(at.first_loss, math.log(max(classes, 2)))


def check_loss(
    loop: "Loop", at: "Position", rows: Tensor, batch: "Tally", answer: Callable[[Tensor], "Answer"]
) -> None:
    """Stop at a loss that is not a finite number, or diverges, before it reaches a weight.

    Args:
        loop: what is trained.
        at: where it is; holds what divergence is measured by.
        rows: of the batch, this process's share.
        batch: sums over the batch, of all processes.
        answer: inputs → what the part answers, as in training.

    Raises:
        TrainingError: the batch, the layer or the rate, and the mend.
    """
    where = f"in stage {loop.stage.name!r}, epoch {at.epoch + 1}, batch {at.batch + 1}"
    if not math.isfinite(batch.loss):
        why = explain_loss(loop, rows, loop.stage.view(at.epoch), answer)
        films = rows_in_words(rows, films_of(loop))
        raise TrainingError(f"The loss is {batch.loss} {where} ({films}). {why}")
    loss = batch.loss / max(batch.weight, 1e-12)
    if loop.divergence is not None and loop.divergence.follow(at, loss, loop.targets.shape[1]):
        raise TrainingError(
            f"The loss diverges {where}: it began at {at.first_loss:.3g} and is {at.recent_loss:.3g} over the last "
            f"{loop.divergence.batches} batches or so. Lower the learning rate (now {loop.stage.lr:g}), shorten "
            "gradients (clip_norm), or switch this stop off (divergence=None)."
        )


def rows_in_words(rows: Tensor, films: int | None = None) -> str:
    """Films of a batch by their rows in the data, never by an identifier of a patient.

    Args:
        rows: of the batch.
        films: number of films, where rows beyond it stand for films drawn again.
    """
    numbers = [row % films if films else row for row in rows.tolist()]
    named = ", ".join(map(str, numbers[:NAMED]))
    more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    return f"film in row {named}" if len(numbers) == 1 else f"films in rows {named}{more}"


def films_of(loop: "Loop") -> int | None:
    """Number of films, where the loop's rows repeat some of them."""
    films = getattr(loop.inputs, "films", None)
    return films if isinstance(films, int) else None


def explain_loss(loop: "Loop", rows: Tensor, view: int, answer: Callable[[Tensor], "Answer"]) -> str:
    """Run a batch once more and say why its loss is not finite, and the mend; weights and statistics stay as they are.

    Args:
        loop: what is trained. The gradients of the step before are still there.
        rows: of the batch.
        view: of its films.
        answer: inputs → what the part answers, as in training.
    """
    films = films_of(loop)
    inputs = loop.inputs(rows, view)
    odd = _odd_rows(inputs)
    if odd.any():
        return (
            f"What the layers are fed with is not finite for the {rows_in_words(rows[odd], films)}: "
            "check those films, their preprocessing and the frozen layers' weights."
        )
    broken = _broken_weights(loop)
    if broken:
        return broken
    with rehearsing(loop.part), torch.no_grad():
        first, found = _first_odd_output(loop, inputs, answer)
    if first:
        return f"{first} {_slower(loop)}"
    return _blame_loss(loop, rows, found, films)


def _odd_rows(values: Tensor) -> Tensor:
    """Rows [n] that hold a value that is not finite."""
    return ~torch.isfinite(values.flatten(1)).all(dim=1)


def _slower(loop: "Loop") -> str:
    mend = f"Lower the learning rate (now {loop.stage.lr:g}), or shorten gradients (clip_norm)."
    return mend if loop.stage.precision == "fp32" else f"Train in fp32 (now {loop.stage.precision}). {mend}"


def _broken_weights(loop: "Loop") -> str:
    """Which layer's weights are not finite already, and whether the gradient of the step before brought it about."""
    if not isinstance(loop.part, nn.Module):
        return ""
    for name, module in loop.part.named_modules():
        # Running statistics are used in evaluation mode alone; in training mode the failed pass itself has moved them.
        buffers = [] if module.training else module.named_buffers(recurse=False)
        for which, value in [*module.named_parameters(recurse=False), *buffers]:
            if value.is_floating_point() and not torch.isfinite(value).all():
                what = f"Layer {plain(name)} ({type(module).__name__}) has a {which} that is not finite"
                return f"{what}{_since_when(loop, value)}"
    return ""


def _since_when(loop: "Loop", value: Tensor) -> str:
    gradients = {name: p.grad for name, p in loop.optimiser.parameters.items() if p.grad is not None}
    if not gradients:
        return " before the first step: check the weights it started from."
    odd = [name for name, gradient in gradients.items() if not torch.isfinite(gradient).all()]
    if odd:
        # Backward passes go from the end to the beginning: the last one broke first.
        return f": the gradient of the step before was not finite, first in {odd[-1]}. {_slower(loop)}"
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    return f", though the gradient of the step before was finite (largest {largest:.3g}). {_slower(loop)}"


def _first_odd_output(loop: "Loop", inputs: Tensor, answer: Callable[[Tensor], "Answer"]) -> tuple[str, "Answer"]:
    """The first layer whose output is not finite, in words (empty: none), and the answer."""
    told: list[str] = []

    def look(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, given: Any, out: Any) -> None:
            if told or not isinstance(out, Tensor) or torch.isfinite(out).all():
                return
            tensors = [value for value in given if isinstance(value, Tensor) and value.is_floating_point()]
            weights = [value for value in module.parameters() if value.numel()]
            of = f"finite inputs (largest {_largest(tensors)})" if tensors else "its inputs"
            own = f" and finite weights (largest {_largest(weights)})" if weights else ""
            told.append(
                f"Layer {plain(name)} ({type(module).__name__}) is the first whose output is not finite, "
                f"from {of}{own}: its numbers left the range of {str(out.dtype).removeprefix('torch.')}."
            )

        return hook

    with contextlib.ExitStack() as hooks:
        if isinstance(loop.part, nn.Module):
            for name, module in loop.part.named_modules():
                if name and not any(True for _ in module.children()):
                    hooks.callback(module.register_forward_hook(look(name)).remove)
        found = answer(inputs)
    return (told[0] if told else ""), found


def _largest(tensors: Sequence[Tensor]) -> str:
    return f"{max(float(value.abs().max()) for value in tensors if value.numel()):.3g}"


def _blame_loss(loop: "Loop", rows: Tensor, answer: "Answer", films: int | None) -> str:
    """All layers are finite: whose loss is not."""
    targets = loop.targets[rows]
    outputs = (answer,) if isinstance(answer, Tensor) else answer
    odd = torch.zeros(len(rows), dtype=torch.bool)
    for i in range(len(rows)):
        one = tuple(output[i : i + 1] for output in outputs)
        total, _ = loop.loss.sums(one[0] if isinstance(answer, Tensor) else one, targets[i : i + 1])
        odd[i] = not math.isfinite(float(total))
    if odd.any():
        return (
            f"All layers gave finite numbers (logits up to {_largest([outputs[0]])}), but the loss of the "
            f"{rows_in_words(rows[odd.to(rows.device)], films)} is not finite: check the labels of those films."
        )
    if loop.ranks.world > 1:
        return f"Not in the share of process {loop.ranks.rank + 1}, which is finite: another process says why."
    return (
        f"Run once more, the batch gave a finite loss, so the fault does not repeat: check the machine. {_slower(loop)}"
    )


@contextlib.contextmanager
def rehearsing(part: Any) -> Iterator[None]:
    """A block in which this process runs a part by itself, and leaves no trace: running statistics are put back."""
    buffers = list(part.buffers()) if isinstance(part, nn.Module) else []
    before = [buffer.clone() for buffer in buffers]
    try:
        with batch_norm_apart(part):
            yield
    finally:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)


def plain(name: str) -> str:
    """A layer's name without the wrapper that trains it: ``encoder.conv3``."""
    return name.removeprefix("classifier.").removeprefix("network.")
