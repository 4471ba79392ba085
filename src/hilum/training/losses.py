"""Losses for mutually exclusive findings: cross-entropy and focal loss, class weights, moved logits, label smoothing.

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

    class_weights: Literal["balanced", "effective", "none"] = "balanced"
    """Balanced: n / (k · n_class), so that each class weighs the same in all. Effective: (1 − β) / (1 − β^n_class),
    scaled to a mean of 1 over classes (Cui et al. 2019, doi:10.1109/CVPR.2019.00949)."""

    beta: float = 0.999
    """β of the effective number of films, 0 ≤ β < 1."""

    logit_adjustment: float = 0.0
    """τ ≥ 0: τ · log(share of the class) is added to the logits inside the loss, never to the answer (Menon et al.
    2021, arXiv:2007.07314). 0: nothing."""

    def __post_init__(self) -> None:
        problems = []
        if self.gamma < 0:
            problems.append(f"LossConfig.gamma is {self.gamma}, but must be 0 or more.")
        if not 0 <= self.label_smoothing < 1:
            problems.append(f"LossConfig.label_smoothing is {self.label_smoothing}, but must be in 0 … 1 (1 excluded).")
        if not 0 <= self.beta < 1:
            problems.append(f"LossConfig.beta is {self.beta}, but must be in 0 … 1 (1 excluded).")
        if self.logit_adjustment < 0:
            problems.append(f"LossConfig.logit_adjustment is {self.logit_adjustment}, but must be 0 or more.")
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A loss ready to be used.

    Attributes:
        config: which loss.
        weights: what a film of each class weighs.
        moved: what is added to the logits; None for nothing.
    """

    config: LossConfig
    weights: Float[Tensor, " k"]
    moved: Float[Tensor, " k"] | None = None

    def to(self, device: torch.device) -> "Loss":
        """The same loss with its numbers on a device."""
        moved = None if self.moved is None else self.moved.to(device)
        return Loss(config=self.config, weights=self.weights.to(device), moved=moved)

    def sums(
        self, logits: Float[Tensor, "n k"], targets: Float[Tensor, "n k"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Weighted sum of the films' losses, and the sum of the films' weights (0 when no label is known).

        The ratio of the two is torch's weighted mean. Smoothing moves the target and leaves the film's weight.
        """
        weights, smoothing = self.weights.expand_as(targets), self.config.label_smoothing
        missing = targets.isnan()
        if missing.is_cuda or missing.any():  # on a GPU it is quicker to fill nothing than to wait for the answer
            unknown = missing.any(dim=1, keepdim=True)
            targets, weights = targets.masked_fill(unknown, 0.0), weights.masked_fill(unknown, 0.0)
        truth = targets * weights
        # What a class's log-probability costs: no gradient passes here, so it is multiplied out before one does.
        price = torch.lerp(truth, weights / targets.shape[1], smoothing) if smoothing else truth
        log_probs = torch.log_softmax(logits if self.moved is None else logits + self.moved, dim=1)
        if self.config.kind == "focal":
            price = price * (1 - log_probs.exp()).clamp_min(0) ** self.config.gamma
        return -(log_probs * price).sum(), truth.sum()


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
    """A loss whose class weights, or moved logits, come from the films that are fitted.

    Args:
        config: which loss.
        targets: one-hot [n, k] of the fitted films; rows of NaN are left out.
        findings: names of the k columns, for messages.

    Raises:
        TrainingError: classes weigh differently or move logits, and a class has no film.
    """
    counts = np.nansum(targets, axis=0)
    weights, moved = np.ones(len(counts)), None
    if config.class_weights != "none" or config.logit_adjustment:
        _check_classes(counts, findings)
    if config.class_weights == "balanced":
        weights = counts.sum() / (len(counts) * counts)
    elif config.class_weights == "effective":
        weights = (1 - config.beta) / (1 - config.beta**counts)
        weights = weights / weights.mean()
    if config.logit_adjustment:
        moved = torch.tensor(config.logit_adjustment * np.log(counts / counts.sum()), dtype=torch.float32)
    return Loss(config=config, weights=torch.tensor(weights, dtype=torch.float32), moved=moved)


def _check_classes(counts: Scores, findings: Sequence[str]) -> None:
    empty = [findings[i] if findings else f"column {i}" for i in np.flatnonzero(counts == 0).tolist()]
    if empty:
        raise TrainingError(
            f"No film to fit has the label {', '.join(empty)}, so its class weight has no value. "
            "Add films, leave the finding out, or set class_weights='none' (--imbalance none)."
        )
