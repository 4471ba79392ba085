"""Where a stage is between two batches: beside weights and optimiser, all that a resume needs."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(slots=True)
class Tally:
    """Running sums over films; their ratios are a loss and an accuracy."""

    loss: float = 0.0
    weight: float = 0.0
    right: int = 0
    known: int = 0

    def add(self, total: float, weight: float, logits: Tensor, targets: Tensor) -> None:
        """Count one batch."""
        known = ~targets.isnan().any(dim=1)
        right = (logits.argmax(1) == targets.argmax(1)) & known
        self.loss, self.weight, self.known = self.loss + total, self.weight + weight, self.known + int(known.sum())
        self.right += int(right.sum())

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
