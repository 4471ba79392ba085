"""Integrated gradients: complete, as captum computes them, and by hand on a score that is a square."""

import warnings

import pytest
import torch

from hilum.errors import UsageError
from hilum.explanation.integrated_gradients import integrated_gradients
from hilum.models.classifier import Classifier, ClassifierConfig, build_classifier


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    config = ClassifierConfig(backbone="lenet5", findings=("a", "b", "c"), size=32, hidden=16)
    return build_classifier(config, "none", 0)[0].eval()


@pytest.fixture(scope="module")
def films() -> torch.Tensor:
    return torch.rand((2, 1, 32, 32), generator=torch.Generator().manual_seed(3))


def test_by_hand_on_a_square() -> None:
    """F = x₀² + 3·x₁ from 1 to (2, 5): x₀ gives 2² − 1² = 3, x₁ gives 3·4 = 12; the midpoint rule is exact for both."""

    def scores(images: torch.Tensor) -> torch.Tensor:
        return torch.stack([images[:, 0, 0, 0] ** 2 + 3 * images[:, 0, 0, 1], images[:, 0, 0, 0] * 0], dim=1)

    found = integrated_gradients(scores, torch.tensor([[[[2.0, 5.0]]]]), 0, baseline=torch.ones(1), steps=2)
    assert found.values.tolist() == [[[3.0, 12.0]]]
    assert found.difference.tolist() == [15.0]
    assert found.gap.tolist() == [0.0]


def test_the_parts_add_up_to_the_difference(classifier: Classifier, films: torch.Tensor) -> None:
    found = integrated_gradients(classifier, films, 1, baseline=torch.full((2,), 0.5), steps=64)
    with torch.no_grad():
        grey = classifier(torch.full_like(films, 0.5))[:, 1]
        torch.testing.assert_close(found.difference, classifier(films)[:, 1] - grey)
    assert (found.gap.abs() <= 0.02 * found.values.abs().sum((1, 2))).all()
    coarse = integrated_gradients(classifier, films, 1, baseline=torch.full((2,), 0.5), steps=1)
    assert coarse.gap.abs().max() > found.gap.abs().max()


def test_captum_finds_the_same(classifier: Classifier, films: torch.Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum's own imports
        from captum.attr import IntegratedGradients
    ours = integrated_gradients(classifier, films, 2, baseline=torch.tensor([0.2, 0.2]), steps=8)
    theirs = IntegratedGradients(classifier).attribute(
        films, baselines=0.2, target=2, n_steps=8, method="riemann_middle"
    )
    torch.testing.assert_close(ours.values, theirs.sum(1).float(), rtol=1e-4, atol=1e-7)


def test_each_film_has_its_own_baseline(classifier: Classifier, films: torch.Tensor) -> None:
    both = integrated_gradients(classifier, films, 0, baseline=torch.tensor([0.1, 0.9]), steps=4)
    for i, grey in enumerate((0.1, 0.9)):
        alone = integrated_gradients(classifier, films[i : i + 1], 0, baseline=torch.tensor([grey]), steps=4)
        torch.testing.assert_close(both.values[i : i + 1], alone.values, rtol=1e-4, atol=1e-7)


def test_refusals(classifier: Classifier, films: torch.Tensor) -> None:
    with pytest.raises(UsageError, match="steps is 0, but integrated gradients need at least 1"):
        integrated_gradients(classifier, films, 0, baseline=torch.zeros(2), steps=0)
    with pytest.raises(UsageError, match=r"need floating-point images, but got torch.uint8. Divide by 255"):
        integrated_gradients(classifier, films.to(torch.uint8), 0, baseline=torch.zeros(2))
