"""Which learning rate suits a stage: a short training whose rate rises evenly on a logarithmic scale, step by step.

Source: the learning rate range test of Smith 2017, Cyclical learning rates for training neural networks,
arXiv:1506.01186, section 3.3, with a rate that rises exponentially instead of in a line. The rule that turns the curve
into one number is a rule of thumb, named in :data:`RULE`; the curve is there to judge it by.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from hilum.errors import ConfigError, TrainingError
from hilum.progress import Bar, Progress
from hilum.training.engine import Cost, Loop, run
from hilum.training.optimisers import Optimiser
from hilum.training.position import Position
from hilum.training.stages import Stage

RULE = "a tenth of the rate at which the smoothed loss is lowest"
"""How the suggestion is made."""

NEIGHBOURS, REACH = 3, 0.18
"""Most steps on either side that the loss is averaged with, and how far they may lie away, in powers of ten: with few
steps a wider mean would draw what lies beyond the turn into the lowest point, and a rate too low would be suggested."""

DIVERGED = 4.0
"""How many times its lowest value the smoothed loss may be before the sweep ends."""


CLEARLY = 2.0
"""How many times the scatter of batches the smoothed loss must fall before a suggestion is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """Which rates are tried.

    Raises:
        ConfigError: values out of range, all of them at once.
    """

    low: float = 1e-6
    """First rate, > 0."""
    high: float = 1.0
    """Last rate, above the first."""
    steps: int = 100
    """Number of rates, one step each; 20 or more."""

    def __post_init__(self) -> None:
        problems = []
        if not self.low > 0:
            problems.append(f"low is {self.low}, but must be above 0.")
        if not self.high > self.low:
            problems.append(f"high is {self.high}, but must be above low ({self.low}).")
        if self.steps < 20:
            problems.append(f"steps is {self.steps}, but a curve needs 20 or more.")
        if problems:
            raise ConfigError(problems)

    def rates(self) -> tuple[float, ...]:
        """The rates in order, evenly spaced on a logarithmic scale."""
        return tuple(np.geomspace(self.low, self.high, self.steps).tolist())


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What a sweep found."""

    rates: tuple[float, ...]
    """Rate of each step that was taken."""
    losses: tuple[float, ...]
    """Loss of the batch after that step."""
    smoothed: tuple[float, ...]
    """Mean of each loss and its neighbours."""
    averaged: int
    """Steps of each such mean, fewer at the ends."""
    ended: str
    """Why the sweep came to its end, in one clause."""
    lowest_at: float | None
    """Rate at which the smoothed loss is lowest; None without a suggestion."""
    steepest_at: float | None
    """Rate at which it falls fastest per factor of ten, up to there; None without a suggestion."""
    suggestion: float | None
    """By :data:`RULE`; None when the losses tell of none."""
    reason: str
    """Why there is no suggestion, or what it lacks; empty for nothing to say."""


class SweepingOptimiser(Optimiser):
    """An optimiser that takes its own rates, one a step, whatever the schedule says.

    Args:
        stage: as of :class:`Optimiser`; its rate is not used.
        parameters: the trained parameters by name.
        shares: of the rate, by name.
        rates: in order.
    """

    def __init__(
        self, stage: Stage, parameters: Mapping[str, Tensor], shares: Mapping[str, float], *, rates: Sequence[float]
    ) -> None:
        super().__init__(stage, parameters, shares)
        self.rates, self.taken = tuple(rates), 0

    def step(self, lr: float) -> None:
        """Move the parameters at the next rate."""
        super().step(self.rates[self.taken])
        self.taken += 1


class _Enough(Exception):
    """Ends a sweep from inside the loop."""


@dataclass(slots=True)
class _Listening:
    """The stage's loss, which writes down every batch's mean and ends the sweep when there is no more to learn."""

    loss: Cost
    optimiser: SweepingOptimiser
    bar: Bar
    means: list[float]
    ended: str = ""

    def sums(self, logits: Any, targets: Tensor) -> tuple[Tensor, Tensor]:
        """As the stage's loss."""
        total, weight = self.loss.sums(logits, targets)
        mean = total.item() / max(weight.item(), 1e-12)
        taken, rates = self.optimiser.taken, self.optimiser.rates
        if not math.isfinite(mean):
            if not taken:
                raise TrainingError(
                    f"The loss is {mean} before the first step of the sweep. Check the weights and the films."
                )
            self.ended = f"the loss was {mean} after a step at {rates[taken - 1]:.3g}"
            raise _Enough
        self.means.append(mean)
        self.bar.advance(1, f"rate {rates[min(taken, len(rates) - 1)]:.2g}, loss {mean:.3f}")
        if taken == len(rates):
            self.ended = "all rates were tried"
            raise _Enough
        beside = neighbours(rates)
        if taken > 2 * beside and (latest := smooth(self.means, beside))[-1] > DIVERGED * min(latest):
            self.ended = f"the smoothed loss was {DIVERGED:g} times its lowest value"
            raise _Enough
        return total, weight


def sweep_rates(loop: Loop, optimiser: SweepingOptimiser, progress: Progress) -> Sweep:
    """Run a sweep on the engine's loop; what is trained is put back afterwards.

    Args:
        loop: a stage's; its watched films are not scored.
        optimiser: over the loop's parameters, with the rates to try.
        progress: one bar.

    Raises:
        TrainingError: a loss that is not finite before the first step, or memory that runs out.
    """
    before = loop.part.copy()
    films, steps = len(loop.fit), len(optimiser.rates)
    epochs = math.ceil((steps + 1) / math.ceil(films / loop.stage.batch_size))
    with progress.bar(f"learning rates for stage {loop.stage.name}", steps + 1) as bar:
        listening = _Listening(loop.loss, optimiser, bar, [])
        sweeping = replace(
            loop,
            stage=replace(loop.stage, epochs=epochs),
            watch=loop.watch[:0],
            loss=listening,
            optimiser=optimiser,
            divergence=None,
        )
        try:
            run(sweeping, Position(), between=lambda: None, report=lambda row: None, bar=_Mute())
        except _Enough:
            pass
        finally:
            loop.part.put(before)
            loop.part.eval()
    return read_sweep(optimiser.rates[: len(listening.means) - 1], listening.means, listening.ended)


class _Mute:
    def advance(self, steps: float = 1, note: str = "") -> None:
        """Say nothing: epochs of a sweep mean nothing."""


def neighbours(rates: Sequence[float]) -> int:
    """Steps on either side that the loss is averaged with, for rates that are even on a logarithmic scale."""
    if len(rates) < 2:
        return NEIGHBOURS
    apart = math.log10(rates[1] / rates[0])
    return min(NEIGHBOURS, max(1, round(REACH / apart)))


def smooth(losses: Sequence[float], beside: int = NEIGHBOURS) -> list[float]:
    """Each value's mean with up to so many on either side: no lag, and fewer at the ends."""
    return [float(np.mean(losses[max(0, i - beside) : i + beside + 1])) for i in range(len(losses))]


def read_sweep(rates: Sequence[float], means: Sequence[float], ended: str) -> Sweep:
    """Make a suggestion from losses.

    Args:
        rates: of each step.
        means: one loss more than steps: that before the first step, then that after each.
        ended: why the sweep came to its end.
    """
    losses, beside = list(means[1:]), neighbours(rates)
    smoothed = smooth(losses, beside)
    nothing = Sweep(
        rates=tuple(rates),
        losses=tuple(losses),
        smoothed=tuple(smoothed),
        averaged=2 * beside + 1,
        ended=ended,
        lowest_at=None,
        steepest_at=None,
        suggestion=None,
        reason="",
    )
    if len(losses) <= 2 * NEIGHBOURS:
        return replace(nothing, reason=f"Only {len(losses)} steps were taken: begin with a lower rate.")
    lowest = int(np.argmin(smoothed))
    fall = max(0.0, smoothed[0] - smoothed[lowest])
    scatter = float(np.std(np.subtract(losses[: lowest + 1], smoothed[: lowest + 1])))
    if lowest == 0 or fall <= CLEARLY * scatter:
        return replace(
            nothing,
            reason=f"The smoothed loss fell by {fall:.3g}, no more than {CLEARLY:g} times what batches scatter "
            f"({scatter:.3g}): no rate stands out. Take more steps, larger batches, or a higher last rate.",
        )
    slopes = np.gradient(smoothed, np.log10(rates))[: lowest + 1]
    still = lowest >= len(losses) - 1 - beside and ended == "all rates were tried"
    return replace(
        nothing,
        lowest_at=rates[lowest],
        steepest_at=rates[int(np.argmin(slopes))],
        suggestion=rates[lowest] / 10,
        reason="The loss still fell at the highest rate: raise it to see where it turns." if still else "",
    )
