"""The losses of LeNet-5: by hand, against cross-entropy, and at their limits."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from hilum.errors import ConfigError
from hilum.training.map_criterion import MapCriterion, RightPenalty

LOGITS = -4 * torch.rand(7, 3, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([0, 1, 2, 0, 0, 1, 2])
TARGETS = torch.eye(3)[CLASSES]


def test_map_criterion_by_hand() -> None:
    """Penalties 1 and 2, the first is right, j = 3: 1 + log(e^−3 + e^−1 + e^−2)."""
    total, count = MapCriterion(j=3.0).sums(torch.tensor([[-1.0, -2.0]]), torch.tensor([[1.0, 0.0]]))
    assert total.item() == pytest.approx(1 + math.log(math.exp(-3) + math.exp(-1) + math.exp(-2)))
    assert count.item() == 1


def test_map_criterion_is_cross_entropy_with_a_rubbish_class() -> None:
    total, count = MapCriterion(j=2.0).sums(LOGITS, TARGETS)
    widened = torch.cat([LOGITS, torch.full((7, 1), -2.0)], dim=1)
    assert (total / count).item() == pytest.approx(cross_entropy(widened, CLASSES).item())


def test_a_large_j_leaves_plain_cross_entropy() -> None:
    total, count = MapCriterion(j=80.0).sums(LOGITS, TARGETS)
    assert (total / count).item() == pytest.approx(cross_entropy(LOGITS, CLASSES).item(), rel=1e-6)


def test_classes_far_above_j_are_left_in_peace() -> None:
    """The gradient with respect to a wrong class's penalty fades once that penalty is well above j."""
    logits = torch.tensor([[-0.5, -1.0], [-0.5, -30.0]], requires_grad=True)
    total, _ = MapCriterion(j=2.0).sums(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    (gradient,) = torch.autograd.grad(total, logits)
    assert gradient[0, 1] > 0.2
    assert gradient[1, 1] < 1e-9


def test_penalty_of_the_right_class_by_hand() -> None:
    total, count = RightPenalty().sums(torch.tensor([[-1.0, -2.0], [-3.0, -0.5]]), torch.eye(2))
    assert (total.item(), count.item()) == (1.5, 2.0)


def test_j_must_be_positive() -> None:
    with pytest.raises(ConfigError, match=r"MapCriterion.j is 0.0, but must be above 0"):
        MapCriterion(j=0.0)
