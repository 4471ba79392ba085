"""LeNet-5's modern form: what training rearranges is the same network."""

import torch

from hilum.models.networks.lenet import LeNet5


def test_training_pools_before_relu_and_the_bits_are_the_same() -> None:
    """Logits and all gradients, with images whose windows have equal and only negative values."""
    torch.manual_seed(0)
    network = LeNet5()
    images = torch.randn(16, 1, 32, 32).round(decimals=0)
    images[:4] = 0.0
    found = []
    for training in (True, False):
        network.train(training)
        network.zero_grad()
        logits = network(images)
        logits.square().sum().backward()
        found.append((logits.detach(), *(value.grad.clone() for value in network.parameters())))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_training_s_relu_sees_pooled_maps() -> None:
    """A quarter of the numbers in training; whole maps in evaluation, where they are looked at."""
    network, sizes = LeNet5(), []
    network.relu1.register_forward_hook(lambda _, inputs, __: sizes.append(inputs[0].shape[-1]))
    for training in (True, False):
        network.train(training)
        network(torch.zeros(2, 1, 32, 32))
    assert sizes == [14, 28]
