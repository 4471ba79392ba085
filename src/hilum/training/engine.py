"""The one training loop: batches in, steps, scores out. In short::

    for each epoch:
        for each batch of films, in the epoch's order:
            answer = part(inputs(films, view))             # _forward
            gradients of loss(answer, targets), one step   # _step
        score the watched films                            # score
        write the epoch's row, keep the best weights       # _close_epoch

Everything that could differ is a value in :class:`Loop`; everything that moves is in the weights, the optimiser, and a
:class:`Position`. The order of films and the dropout masks of a batch are functions of (seed, stage, epoch, batch), so
a loop that starts again from a saved position ends where the first one would have.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from hilum.arrays import Indices
from hilum.errors import TrainingError
from hilum.progress import Bar
from hilum.randomness import seed_for, stream
from hilum.training.batch_size import in_halves, step_or_refuse
from hilum.training.diagnosing import Divergence, check_loss
from hilum.training.optimisers import Optimiser, learning_rate
from hilum.training.pace import batch_note, epoch_note
from hilum.training.position import Position, Tally
from hilum.training.precision import computing_in, narrowed
from hilum.training.prefetch import announce
from hilum.training.ranks import ALONE, Ranks
from hilum.training.reproducible import seed_masks
from hilum.training.shared_norm import batch_norm_together
from hilum.training.stages import Stage

_SPEAK_EVERY_S = 0.2


class Inputs(Protocol):
    """Where batches come from: a table of features, rows of a store, or films augmented on the spot."""

    def __call__(self, rows: Tensor, view: int) -> Tensor:
        """What the trained part is fed with, for one view of the films of these rows."""


Answer = Tensor | tuple[Tensor, ...]
"""What is trained answers with logits [n, k]; or, while it trains, with several, of which the first are its answer and
the others help it to learn (the auxiliary classifiers of GoogLeNet)."""


class Part(Protocol):
    """What is trained: layers behind a cut, or a whole network."""

    def __call__(self, inputs: Tensor) -> Answer:
        """Logits [n, k]; in training mode perhaps several, for a cost that knows them."""

    def train(self) -> object:
        """Set what is trained to training mode."""

    def eval(self) -> object:
        """Set everything to evaluation mode."""

    def copy(self) -> dict[str, Tensor]:
        """Copies of the trained parameters and buffers."""

    def put(self, tensors: dict[str, Tensor]) -> None:
        """Overwrite trained parameters and buffers."""


class Cost(Protocol):
    """A loss as two sums, so that an epoch's mean does not depend on its batches."""

    def sums(self, logits: Any, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted sum of the losses of a batch, and the sum of the weights; takes what the part answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """What one stage's training is given."""

    stage: Stage
    part: Part
    inputs: Inputs
    targets: Tensor  # [n, k], one-hot; rows of NaN where the label is unknown
    fit: Indices
    watch: Indices  # may be empty: then there is no early stopping, and the last weights stay
    loss: Cost
    optimiser: Optimiser
    seed: int
    draw: Callable[[np.random.Generator], Indices] | None = None  # the rows of an epoch in order; None: all fitted once
    watch_loss: Cost | None = None  # of the watched films; None: as the fitted ones
    keep: Literal["best", "last"] = "best"  # which weights stay: those of the lowest watched loss, or the last
    watch_batch: int = 64  # films scored at once
    divergence: Divergence | None = None  # when a finite loss stops the training; None: never
    ranks: Ranks = ALONE  # which share of the work is this process's


def run(
    loop: Loop, at: Position, *, between: Callable[[], None], report: Callable[[dict[str, Any]], None], bar: Bar
) -> None:
    """Train from a position to the stage's end; then the weights are those that ``loop.keep`` names.

    Args:
        loop: what is trained, on what and how.
        at: where to start; moves along.
        between: called after each batch, when the position is whole and may be saved.
        report: called with each epoch's row of metrics.
        bar: advances by one an epoch.

    Raises:
        TrainingError: a loss that is not a finite number or diverges, or memory that runs out.
    """
    loop.ranks.check(loop.stage, len(loop.fit))
    while at.epoch < loop.stage.epochs and not _out_of_patience(loop.stage, at):
        with batch_norm_together(loop.part, loop.ranks):
            _fit_epoch(loop, at, between, bar)
        started = time.perf_counter()
        watched = score(loop)
        _close_epoch(loop, at, watched, time.perf_counter() - started)
        report(at.rows[-1])
        bar.advance(1, epoch_note(at.rows[-1]))
        between()
    if at.best:
        loop.part.put(at.best)
    loop.part.eval()


def _fit_epoch(loop: Loop, at: Position, between: Callable[[], None], bar: Bar) -> None:
    """One pass over the fitted films, from the position's batch on."""
    batches = [loop.ranks.mine(rows) for rows in epoch_batches(loop, at.epoch)]
    announce(loop.inputs, batches[at.batch :], loop.stage.view(at.epoch))
    spoken = time.monotonic()
    loop.part.train()
    while at.batch < len(batches):
        started = time.perf_counter()
        at.lr = learning_rate(
            loop.stage,
            at.epoch * len(batches) + at.batch,
            loop.stage.epochs * len(batches),
            [row["watch_loss"] for row in at.rows],
        )
        step_or_refuse(_step, _trial, loop, at, batches[at.batch])  # where memory runs out, a trial finds what fits
        at.batch += 1
        at.seconds += time.perf_counter() - started
        between()
        if time.monotonic() - spoken > _SPEAK_EVERY_S:
            spoken = time.monotonic()
            bar.advance(0, batch_note(loop, at, len(batches)))


def _step(loop: Loop, at: Position, rows: Tensor) -> None:
    """One batch: forward, loss, backward, step. ``rows`` is this process's share of it; alone, all of it."""
    answer, targets, total, weight = _forward(loop, at, rows)
    own = Tally()
    own.add(total, weight, _logits(answer).detach(), targets)
    batch = loop.ranks.add_up(own)
    check_loss(loop, at, rows, batch, partial(_once_more, loop, at))
    loop.optimiser.clear_gradients()
    # The mean over the whole batch: the gradients of all processes then add up to its gradient.
    loop.optimiser.backward(total / torch.full_like(weight, batch.weight).clamp_min(1e-12))
    loop.ranks.sum_gradients(loop.optimiser.parameters)
    loop.optimiser.step(at.lr)
    at.fitted.plus(batch)


def _forward(loop: Loop, at: Position, rows: Tensor) -> tuple[Answer, Tensor, Tensor, Tensor]:
    """What the part answers for a batch, its targets, and the loss as two sums."""
    _seed_dropout(loop, at, rows.device)
    started = time.perf_counter()
    inputs, targets = loop.inputs(rows, loop.stage.view(at.epoch)), loop.targets[rows]
    at.data_s += time.perf_counter() - started
    answer = _answer(loop, inputs)
    return answer, targets, *loop.loss.sums(answer, targets)


def _once_more(loop: Loop, at: Position, inputs: Tensor) -> Answer:
    """The batch's answer again, with the same masks: to find out why its loss is odd."""
    _seed_dropout(loop, at, inputs.device)
    return _answer(loop, inputs)


def _trial(loop: Loop, at: Position, rows: Tensor) -> None:
    """The memory that a step needs, without the step."""
    _, _, total, weight = _forward(loop, at, rows)
    loop.optimiser.backward(total / weight.clamp_min(1e-12))


def _answer(loop: Loop, inputs: Tensor) -> Answer:
    """What the part answers: its products in the stage's precision, the answer itself in fp32."""
    with computing_in(loop.stage.precision, inputs.device):
        answer = loop.part(narrowed(inputs, loop.stage.precision))
    if loop.stage.precision == "fp32":
        return answer
    return answer.float() if isinstance(answer, Tensor) else tuple(logits.float() for logits in answer)


def _logits(answer: Answer) -> Tensor:
    """The part's own answer, without those that only help it to learn."""
    return answer if isinstance(answer, Tensor) else answer[0]


def _seed_dropout(loop: Loop, at: Position, device: torch.device) -> None:
    """Masks of a batch are a function of its place, and of the process whose share it is."""
    place = (loop.stage.name, at.epoch, at.batch)
    own = (loop.ranks.rank,) if loop.ranks.rank else ()
    seed_masks(seed_for(loop.seed, "dropout", *place, *own), device)


def epoch_batches(loop: Loop, epoch: int) -> list[Tensor]:
    """The epoch's rows in random order, in batches of equal size (give or take one: no small last batch)."""
    chance = stream(loop.seed, "order", loop.stage.name, epoch)
    order = chance.permutation(loop.fit) if loop.draw is None else loop.draw(chance)
    count = math.ceil(len(order) / loop.stage.batch_size)
    return list(torch.from_numpy(order).to(loop.targets.device).tensor_split(count))


def score(loop: Loop) -> tuple[float | None, float | None]:
    """Loss and accuracy on the watched films' clean views; None when there are none."""
    tally, loss = Tally(), loop.watch_loss or loop.loss
    watched = torch.from_numpy(loop.watch).to(loop.targets.device)
    loop.part.eval()
    batches = loop.ranks.every(torch.split(watched, loop.watch_batch)) if len(watched) else ()
    announce(loop.inputs, batches, 0)

    def count(rows: Tensor) -> None:
        answer, targets = _answer(loop, loop.inputs(rows, 0)), loop.targets[rows]
        total, weight = loss.sums(answer, targets)
        tally.add(total, weight, _logits(answer), targets)

    with torch.inference_mode():
        for rows in batches:
            in_halves(count, rows, f"on {rows.device.type} while the watched films were scored")
    return loop.ranks.add_up(tally).means()


def _close_epoch(loop: Loop, at: Position, watched: tuple[float | None, float | None], scoring_s: float) -> None:
    """Write the epoch's row, keep the weights if they are the best so far, and go on to the next epoch."""
    watch_loss, watch_accuracy = watched
    if watch_loss is not None and not math.isfinite(watch_loss):
        raise TrainingError(
            f"The loss on the watched films is {watch_loss} in stage {loop.stage.name!r}, epoch {at.epoch + 1}. "
            f"Lower the learning rate (now {loop.stage.lr:g}), or check those films."
        )
    if watch_loss is not None and (at.best_loss is None or watch_loss < at.best_loss):
        at.best_loss, at.best_epoch = watch_loss, at.epoch
        if loop.keep == "best":
            at.best = loop.part.copy()
    loss, accuracy = at.fitted.means()
    seconds = at.seconds + scoring_s
    at.rows.append(
        {
            "stage": loop.stage.name,
            "epoch": at.epoch + 1,
            "loss": loss,
            "accuracy": accuracy,
            "watch_loss": watch_loss,
            "watch_accuracy": watch_accuracy,
            "best": at.best_epoch == at.epoch,
            "lr": at.lr,
            "fit_s": at.seconds,
            "data_s": at.data_s,
            "compute_s": at.seconds - at.data_s,
            "score_s": scoring_s,
            "seconds": seconds,
            "films_per_s": len(loop.fit) / max(seconds, 1e-9),
        }
    )
    at.epoch, at.batch, at.fitted, at.seconds, at.data_s = at.epoch + 1, 0, Tally(), 0.0, 0.0


def _out_of_patience(stage: Stage, at: Position) -> bool:
    return at.best_epoch is not None and at.epoch - at.best_epoch > stage.patience
