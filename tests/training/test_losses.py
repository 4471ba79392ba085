"""Losses against torch, by hand, and at their edges."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from hilum.errors import ConfigError, TrainingError
from hilum.training.losses import AuxiliaryLoss, Loss, LossConfig, build_loss

LOGITS = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
CLASSES = torch.tensor([0, 1, 2, 0, 0, 1, 0, 0, 2])
TARGETS = torch.eye(3)[CLASSES]


def mean(loss: Loss, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    total, weight = loss.sums(logits, targets)
    return total / weight


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_cross_entropy_equals_torch(smoothing: float) -> None:
    """Class weights and label smoothing mean what they mean in torch."""
    loss = build_loss(LossConfig(label_smoothing=smoothing), TARGETS.numpy())
    expected = cross_entropy(LOGITS, CLASSES, weight=loss.weights, label_smoothing=smoothing)
    assert mean(loss, LOGITS, TARGETS).item() == pytest.approx(expected.item())


def test_balanced_weights_by_hand() -> None:
    """n / (k · n_class): 9 films, 3 classes, of 5, 2 and 2 films."""
    weights = build_loss(LossConfig(), TARGETS.numpy()).weights
    assert weights.tolist() == pytest.approx([9 / 15, 9 / 6, 9 / 6])


def test_focal_loss_by_hand() -> None:
    """p = 1/2 for the right class of two: (1 − p)² · ln 2."""
    loss = Loss(config=LossConfig(kind="focal"), weights=torch.ones(2))
    assert mean(loss, torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])).item() == pytest.approx(0.25 * math.log(2))


def test_focal_loss_without_focus_is_cross_entropy() -> None:
    """γ = 0."""
    focal = Loss(config=LossConfig(kind="focal", gamma=0), weights=torch.ones(3))
    assert mean(focal, LOGITS, TARGETS).item() == pytest.approx(cross_entropy(LOGITS, CLASSES).item())


def test_unknown_labels_weigh_nothing() -> None:
    """Rows of NaN change neither the loss nor any gradient, and get none."""
    loss = build_loss(LossConfig(label_smoothing=0.1), TARGETS.numpy())
    logits = LOGITS.clone().requires_grad_()
    unknown = TARGETS.clone()
    unknown[4:] = torch.nan
    mean(loss, logits, unknown).backward()
    assert mean(loss, logits, unknown).item() == pytest.approx(mean(loss, LOGITS[:4], TARGETS[:4]).item())
    assert logits.grad is not None
    assert (logits.grad[4:] == 0).all()
    assert (logits.grad[:4] != 0).all()


def test_class_without_a_film_is_refused_by_name() -> None:
    with pytest.raises(TrainingError, match="No film to fit has the label covid-19, so its class weight has no value"):
        build_loss(LossConfig(), np.array([[1.0, 0, 0], [0, 1, 0]]), ("normal", "pneumonia", "covid-19"))
    assert build_loss(LossConfig(class_weights="none"), np.array([[1.0, 0, 0]])).weights.tolist() == [1, 1, 1]


def test_all_wrong_fields_at_once() -> None:
    wanted = r"gamma is -1.*\n.*label_smoothing is 1.*\n.*beta is 1.*\n.*logit_adjustment is -2"
    with pytest.raises(ConfigError, match=wanted) as caught:
        LossConfig(gamma=-1, label_smoothing=1, beta=1, logit_adjustment=-2)
    assert len(caught.value.problems) == 4


def test_effective_numbers_by_hand() -> None:
    """β = 0.5: 1 + 1/2 + 1/4 … films count; 5, 2 and 2 of them as 1.9375, 1.5 and 1.5. β = 0: all weigh alike."""
    weights = build_loss(LossConfig(class_weights="effective", beta=0.5), TARGETS.numpy()).weights
    raw = np.array([1 / 1.9375, 1 / 1.5, 1 / 1.5])
    assert weights.tolist() == pytest.approx((raw / raw.mean()).tolist())
    assert build_loss(LossConfig(class_weights="effective", beta=0), TARGETS.numpy()).weights.tolist() == [1, 1, 1]


def test_moved_logits_are_those_of_the_paper() -> None:
    """Cross-entropy of logits + τ · log π, with π = 5/9, 2/9, 2/9; the gradient goes to the logits as they are."""
    loss = build_loss(LossConfig(class_weights="none", logit_adjustment=2.0), TARGETS.numpy())
    moved = LOGITS + 2 * torch.log(torch.tensor([5 / 9, 2 / 9, 2 / 9]))
    assert mean(loss, LOGITS, TARGETS).item() == pytest.approx(cross_entropy(moved, CLASSES).item())
    assert loss.to(torch.device("cpu")).moved is not None
    with pytest.raises(TrainingError, match="No film to fit has the label column 1"):
        build_loss(LossConfig(class_weights="none", logit_adjustment=1.0), np.array([[1.0, 0]]))


def test_auxiliary_loss_is_the_weighted_sum_of_three_cross_entropies() -> None:
    """The paper's main + 0.3 · (first + second); alone, in evaluation, the answer's own."""
    main = build_loss(LossConfig(class_weights="none"), TARGETS.numpy())
    loss = AuxiliaryLoss(main=main)
    first, second = LOGITS.flip(0), 2 * LOGITS
    parts = [cross_entropy(logits, CLASSES).item() for logits in (LOGITS, first, second)]
    assert mean(loss, (LOGITS, first, second), TARGETS).item() == pytest.approx(parts[0] + 0.3 * (parts[1] + parts[2]))
    assert mean(loss, LOGITS, TARGETS).item() == pytest.approx(parts[0])


def test_an_auxiliary_gradient_is_its_share_of_the_main_one() -> None:
    main = build_loss(LossConfig(class_weights="none"), TARGETS.numpy())
    answer, auxiliary = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    mean(AuxiliaryLoss(main=main, share=0.3), (answer, auxiliary), TARGETS).backward()
    assert answer.grad is not None
    assert torch.allclose(0.3 * answer.grad, auxiliary.grad)
