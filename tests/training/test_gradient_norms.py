"""Gradient norms at each layer: by hand, without a trace, and vanishing or exploding where theory says so."""

import math

import pytest
import torch
from torch import nn

from hilum.errors import TrainingError
from hilum.models.initialisation import generator_from, initialise
from hilum.models.networks.residual_small import SmallResNet
from hilum.training.fitting import Examples, FitConfig, fit_network
from hilum.training.gradient_norms import GradientLog, LayerGradients, gradient_norms, per_layer


def batch(n: int = 16, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn((n, 3, size, size), generator=generator_from(1)), torch.arange(n) % 10


def net(depth: int, **options: object) -> SmallResNet:
    network = SmallResNet(depth, **options)  # type: ignore[arg-type]
    initialise(network, generator_from(2))
    return network


def grown(depth: int, **options: object) -> float:
    """How much the gradient grows from the last block's input to the first block's."""
    last = f"layer3.{(depth - 2) // 6 - 1}.conv1"
    return per_layer(gradient_norms(net(depth, **options), *batch()), "layer1.0.conv1", last)[0]


def test_norms_by_hand_for_two_linear_layers() -> None:
    """Logits W₂W₁x of zeros: the gradient at the logits is softmax − target, (−½, ½)."""
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        first.weight.zero_()
        second.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    found = gradient_norms(nn.Sequential(first, second), torch.tensor([[1.0, 2.0]]), torch.tensor([0]))
    assert found.names == ("0", "1")
    # ∂L/∂h = W₂ᵀ(−½, ½) = (−1.5, 2); ∂L/∂x = W₁ᵀ… = 0; ∂L/∂W₁ = (−1.5, 2)ᵀ(1, 2); ∂L/∂W₂ = (−½, ½)ᵀh = 0.
    assert found.inputs == pytest.approx((0.0, 2.5))
    assert found.weights == pytest.approx((2.5 * math.sqrt(5), 0.0))
    assert found.loss == pytest.approx(math.log(2))


def test_weight_norms_are_those_of_an_ordinary_backward_pass() -> None:
    network = net(8, width=0.5)
    found = gradient_norms(network, *batch())
    images, labels = batch()
    nn.functional.cross_entropy(network.train()(images), labels).backward()
    modules = dict(network.named_modules())
    expected = [float(modules[name].weight.grad.norm()) for name in found.names]  # type: ignore[union-attr,operator,arg-type]
    assert found.weights == pytest.approx(expected, rel=1e-5)


def test_measuring_leaves_no_trace() -> None:
    network = nn.Sequential(net(8, width=0.5), nn.Dropout(0.5)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    generator = torch.random.get_rng_state()
    first, second = (gradient_norms(network, *batch()) for _ in range(2))
    assert first == second
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(generator, torch.random.get_rng_state())
    assert not network.training
    assert all(p.grad is None for p in network.parameters())
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_layers_can_be_left_out_by_name() -> None:
    found = gradient_norms(net(8, shortcut="C", width=0.5), *batch())
    kept = found.without("shortcut")
    assert len(found.names) == 8 + 3
    assert len(kept.names) == len(kept.inputs) == len(kept.weights) == 8


def test_a_plain_net_of_56_layers_loses_or_explodes_the_gradient_where_the_residual_one_keeps_it() -> None:
    """Without BatchNorm the plain net's gradient fades, with it it explodes; only shortcuts and BatchNorm keep it."""
    assert grown(56, shortcut="none", norm=False, width=0.5) < 0.1
    assert grown(56, shortcut="none", norm=True, width=0.5) > 1000
    assert grown(56, shortcut="A", norm=False, width=0.5) > 300
    assert 1 < grown(56, shortcut="A", norm=True, width=0.5) < 100


def test_an_overflow_is_infinite_and_not_nothing() -> None:
    layer = nn.Linear(2, 2, bias=False)
    nn.init.constant_(layer.weight, 1e30)
    found = gradient_norms(nn.Sequential(layer, layer), torch.tensor([[1e30, -1e38]]), torch.tensor([0]))
    assert math.inf in found.weights


def test_the_log_takes_the_chosen_steps_of_a_fit() -> None:
    images, labels = batch()
    log = GradientLog(images, labels, steps=(1, 3))
    pixels = (images * 40 + 128).clamp(0, 255).byte().numpy()
    network = net(8, width=0.5)
    examples = Examples.of((pixels, labels.numpy()), classes=10)
    fit_network(network, examples, FitConfig(epochs=2, batch_size=8, lr=0.1), seed=0, each_batch=log)
    assert sorted(log.taken) == [1, 3]
    assert log.step == 4
    assert log.taken[1].names == log.taken[3].names
    assert log.taken[1].inputs != log.taken[3].inputs


def test_measuring_changes_nothing_of_a_fit() -> None:
    images, labels = batch()
    pixels = (images * 40 + 128).clamp(0, 255).byte().numpy()
    fitted = []
    for log in (None, GradientLog(images, labels, steps=(1, 2))):
        network = net(8, width=0.5)
        examples = Examples.of((pixels, labels.numpy()), classes=10)
        fit_network(network, examples, FitConfig(epochs=2, batch_size=8), seed=0, each_batch=log)
        fitted.append(network.state_dict())
    assert all(torch.equal(fitted[0][name], fitted[1][name]) for name in fitted[0])


def test_the_change_per_layer_is_a_geometric_mean() -> None:
    found = LayerGradients(names=("a", "b", "c"), inputs=(8.0, 1.0, 2.0), weights=(1.0, 1.0, 1.0), loss=0.0)
    assert per_layer(found, "a", "c") == (4.0, 2.0)
    assert per_layer(LayerGradients(names=("a", "b"), inputs=(1.0, 0.0), weights=(1.0, 1.0), loss=0.0), "a", "b") == (
        math.inf,
        math.inf,
    )
    with pytest.raises(TrainingError, match="no layer 'd' among a, b, c"):
        per_layer(found, "a", "d")
    with pytest.raises(TrainingError, match=r"Layer 'c' does not run before 'a'\. Exchange them\."):
        per_layer(found, "c", "a")


def test_a_network_without_trained_layers_is_refused() -> None:
    with pytest.raises(TrainingError, match="no convolution or linear layer that is trained"):
        gradient_norms(nn.Linear(2, 2).requires_grad_(False), torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))
