"""What a training did: its epochs' rows, its stages, and where the time went."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSummary:
    """One stage in one line.

    Attributes:
        name: of the stage.
        frozen_layers: number of layers before the cut.
        cached: whether frozen outputs came from the prefix cache.
        epochs: number of epochs trained.
        best_epoch: the epoch, from 1, whose weights were kept; None when nothing was watched.
        best_loss: loss on the watched films in that epoch.
        prefix_s: seconds spent on frozen layers before the first epoch; near 0 when the cache had them.
        training_s: seconds spent in epochs.
    """

    name: str
    frozen_layers: int
    cached: bool
    epochs: int
    best_epoch: int | None
    best_loss: float | None
    prefix_s: float
    training_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A member's training; plain values, so that ``hilum.config.to_mapping`` makes JSON of it.

    Attributes:
        rows: one mapping an epoch: stage, epoch (from 1), loss, accuracy, watch_loss, watch_accuracy, best, lr,
            seconds, films_per_s.
        stages: a summary each.
    """

    rows: tuple[Mapping[str, Any], ...]
    stages: tuple[StageSummary, ...]

    @property
    def prefix_s(self) -> float:
        """Seconds spent on frozen layers before first epochs."""
        return sum(stage.prefix_s for stage in self.stages)

    @property
    def training_s(self) -> float:
        """Seconds spent in epochs."""
        return sum(stage.training_s for stage in self.stages)
