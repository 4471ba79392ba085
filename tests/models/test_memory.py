"""Memory of training: what autograd keeps, by hand; and the sum of the estimate."""

import pytest
import torch
from torch import nn

from hilum.models.memory import formula, kept_for_backward, training_memory
from hilum.models.zoo import published_network


def test_lenet_keeps_these_tensors_by_hand() -> None:
    """Image; outputs of both ReLUs; indices (8 bytes) and outputs of both poolings; the two hidden layers."""
    image, after_c1, after_c3 = 4 * 32 * 32, 4 * 6 * 28 * 28, 4 * 16 * 10 * 10
    pooled = (4 + 8) * (6 * 14 * 14 + 16 * 5 * 5)
    assert kept_for_backward(published_network("lenet5"), (1, 32, 32)) == (
        image + after_c1 + after_c3 + pooled + 4 * (120 + 84)
    )


def test_an_activation_in_place_adds_nothing() -> None:
    """A convolution doesn't need its own output; a ReLU in place overwrites it, another one keeps its result."""

    def kept(*layers: nn.Module) -> int:
        return kept_for_backward(nn.Sequential(nn.Conv2d(1, 8, 1), *layers, nn.Conv2d(8, 1, 1)).to("meta"), (1, 4, 4))

    maps = 4 * 8 * 4 * 4
    assert kept() == 4 * 16 + maps
    assert kept(nn.ReLU(inplace=True)) == kept(nn.ReLU()) == 4 * 16 + maps
    assert kept(nn.BatchNorm2d(8), nn.ReLU(inplace=True)) == 4 * 16 + 2 * maps
    assert kept(nn.SiLU(), nn.SiLU()) == 4 * 16 + 3 * maps


def test_weights_are_not_counted_among_what_is_kept() -> None:
    assert kept_for_backward(nn.Linear(10, 1000, bias=False).to("meta"), (10,)) == 40


def test_counting_on_the_meta_device_is_counting_real_tensors() -> None:
    """The same hook on real numbers, on one network with everything that keeps something."""

    def network() -> nn.Module:
        layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout(0.5)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 3 * 3, 2))

    real, kept = network(), {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    own = {p.untyped_storage().data_ptr() for p in real.parameters()}
    sizes = []
    for batch in (2, 3):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            real(torch.rand((batch, 1, 8, 8)))
        sizes.append(sum(t.untyped_storage().nbytes() for number, t in kept.items() if number not in own))
    assert kept_for_backward(network().to("meta"), (1, 8, 8)) == sizes[1] - sizes[0]


def test_the_network_is_left_in_eval_mode() -> None:
    network = nn.Sequential(nn.Linear(2, 2)).to("meta")
    kept_for_backward(network, (2,))
    assert not network.training


@pytest.mark.parametrize(("optimiser", "words"), [("sgd", 2), ("momentum", 3), ("adam", 4)])
def test_estimate_adds_weights_gradients_states_and_activations(optimiser: str, words: int) -> None:
    estimate = training_memory(1000, 500, batch=32, optimiser=optimiser)
    assert estimate.total == 4 * 1000 * words + 32 * 500
    assert estimate.total == estimate.weights + estimate.gradients + estimate.optimiser + estimate.activations
    assert f"{words - 2} of the optimiser" in formula(optimiser)
