"""Losses for mutually exclusive findings: class-weighted cross-entropy and focal loss, with label smoothing.

A loss gives the weighted sum over a batch and the sum of weights apart, so that an epoch's mean does not depend on how
its films fell into batches. Films with an unknown label (NaN) weigh nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hilum.arrays import Scores
from hilum.errors import ConfigError, TrainingError


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Which loss, and what a film of each class weighs.

    Raises:
        ConfigError: values out of range, all of them at once.
    """

    kind: Literal["cross-entropy", "focal"] = "cross-entropy"
    """Focal loss lets easy films count less: Lin et al., Focal loss for dense object detection, 2017, equation 5."""

    gamma: float = 2.0
    """Focusing exponent of the focal loss, ≥ 0; 0 makes it cross-entropy."""

    label_smoothing: float = 0.0
    """Share of the target spread evenly over all classes, 0 ≤ share < 1."""

    class_weights: Literal["balanced", "none"] = "balanced"
    """Balanced: n / (k · n_class), so that each class weighs the same in all."""

    def __post_init__(self) -> None:
        problems = []
        if self.gamma < 0:
            problems.append(f"LossConfig.gamma is {self.gamma}, but must be 0 or more.")
        if not 0 <= self.label_smoothing < 1:
            problems.append(f"LossConfig.label_smoothing is {self.label_smoothing}, but must be in 0 … 1 (1 excluded).")
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A loss ready to be used.

    Attributes:
        config: which loss.
        weights: what a film of each class weighs.
    """

    config: LossConfig
    weights: Float[Tensor, " k"]

    def to(self, device: torch.device) -> "Loss":
        """The same loss with its weights on a device."""
        return Loss(config=self.config, weights=self.weights.to(device))

    def sums(
        self, logits: Float[Tensor, "n k"], targets: Float[Tensor, "n k"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Weighted sum of the films' losses, and the sum of the films' weights (0 when no label is known).

        The ratio of the two is torch's weighted mean. Smoothing moves the target and leaves the film's weight.
        """
        known = ~targets.isnan().any(dim=1)
        truth = targets.masked_fill(~known[:, None], 0.0)
        smoothing, classes = self.config.label_smoothing, targets.shape[1]
        smooth = truth * (1 - smoothing) + (smoothing / classes) * known[:, None] if smoothing else truth
        log_probs = torch.log_softmax(logits, dim=1)
        costs = -log_probs * smooth * self.weights
        if self.config.kind == "focal":
            costs = costs * (1 - log_probs.exp()).clamp_min(0) ** self.config.gamma
        return costs.sum(), (truth * self.weights).sum()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuxiliaryLoss:
    """Loss of a network with auxiliary classifiers: that of its answer, and a share of each auxiliary one's.

    In evaluation mode the network gives its answer alone, and this is the main loss.

    Source: Szegedy et al. 2015, Going deeper with convolutions, section 5 (share 0.3), doi:10.1109/CVPR.2015.7298594.

    Attributes:
        main: the loss of each set of logits.
        share: weight of each auxiliary loss beside the main one's 1.
    """

    main: Loss
    share: float = 0.3

    def sums(
        self, logits: Tensor | Sequence[Tensor], targets: Float[Tensor, "n k"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Sum of main(answer) + share · Σ main(auxiliary) over the films, and the sum of the films' weights.

        Args:
            logits: the answer [n, k], or a sequence of the answer and the auxiliary logits.
            targets: one-hot; rows of NaN where the label is unknown.
        """
        answer, *auxiliary = [logits] if isinstance(logits, Tensor) else logits
        total, weight = self.main.sums(answer, targets)
        for other in auxiliary:
            total = total + self.share * self.main.sums(other, targets)[0]
        return total, weight


def build_loss(config: LossConfig, targets: Scores, findings: Sequence[str] = ()) -> Loss:
    """A loss whose class weights come from the films that are fitted.

    Args:
        config: which loss.
        targets: one-hot [n, k] of the fitted films; rows of NaN are left out.
        findings: names of the k columns, for messages.

    Raises:
        TrainingError: balanced weights, and a class without a film.
    """
    counts = np.nansum(targets, axis=0)
    if config.class_weights == "none":
        weights = np.ones(len(counts))
    else:
        empty = [findings[i] if findings else f"column {i}" for i in np.flatnonzero(counts == 0).tolist()]
        if empty:
            raise TrainingError(
                f"No film to fit has the label {', '.join(empty)}, so its class weight has no value. "
                "Add films, leave the finding out, or set class_weights='none'."
            )
        weights = counts.sum() / (len(counts) * counts)
    return Loss(config=config, weights=torch.tensor(weights, dtype=torch.float32))
