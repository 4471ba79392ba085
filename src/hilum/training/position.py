"""Where a stage is between two batches: beside weights and optimiser, all that a resume needs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(slots=True)
class Tally:
    """Running sums over films; their ratios are a loss and an accuracy."""

    loss: float = 0.0
    weight: float = 0.0
    right: int = 0
    known: int = 0

    def add(self, total: Tensor, weight: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Count one batch, whose losses add up to ``total`` and weights to ``weight``."""
        known = ~targets.isnan().any(dim=1)
        right = (logits.argmax(1) == targets.argmax(1)) & known
        loss, weighed, hits, count = _numbers([total, weight, right.sum(), known.sum()])
        self.loss, self.weight = self.loss + loss, self.weight + weighed
        self.right, self.known = self.right + int(hits), self.known + int(count)

    def means(self) -> tuple[float | None, float | None]:
        """Loss and accuracy; None without a film whose label is known."""
        if not self.known:
            return None, None
        return self.loss / self.weight, self.right / self.known

    def plus(self, other: "Tally") -> None:
        """Count another tally's films too."""
        self.loss, self.weight = self.loss + other.loss, self.weight + other.weight
        self.right, self.known = self.right + other.right, self.known + other.known


@dataclass(slots=True, kw_only=True)
class Position:
    """Where a stage is, between two batches: beside weights and optimiser, all that a resume needs."""

    epoch: int = 0
    batch: int = 0
    fitted: Tally = field(default_factory=Tally)
    lr: float = 0.0  # of the last step
    seconds: float = 0.0  # spent in this epoch
    data_s: float = 0.0  # of these, on making batches
    first_loss: float | None = None  # of the stage's first batch
    recent_loss: float = 0.0  # running mean over batches
    best_loss: float | None = None
    best_epoch: int | None = None
    best: dict[str, Tensor] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)


def _numbers(values: Sequence[Tensor]) -> list[float]:
    """Values as Python's numbers; from a GPU in one transfer, as the processor waits for each."""
    if values[0].is_cuda:
        together: list[float] = torch.stack([value.detach().double() for value in values]).tolist()
        return together
    return [value.item() for value in values]
