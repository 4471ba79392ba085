"""GoogLeNet on CIFAR-10 as the common script trains it: PIL images at 224 pixels, a DataLoader, torch's own defaults.

Written as tutorials write it, for benchmarks/googlenet_gpu.py: torchvision's GoogLeNet with random weights and both
auxiliary classifiers (share 0.3), crop of the image padded by 4 and mirror, then ``Resize(224)``; SGD with momentum
0.9 at a constant rate of 0.01, weight decay 5e-4; fp32 as torch ships it, so a GPU's convolutions take TF32. Workers
persist and memory is pinned, which many such scripts leave out.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

from hilum.datasets.labelled_images import LabelledImages

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
AUXILIARY_SHARE = 0.3
RATE, DECAY = 0.01, 5e-4


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images and labels as ``torchvision.datasets.CIFAR10`` gives them: an array each, PIL on the way."""

    def __init__(self, part: LabelledImages, change: Callable[[Any], Tensor]) -> None:
        self.images, self.labels, self.change = part.images.transpose(0, 2, 3, 1), part.labels, change

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.change(Image.fromarray(self.images[i])), int(self.labels[i])


def train(
    train_part: LabelledImages,
    test_part: LabelledImages,
    *,
    device: torch.device,
    seconds: float,
    batch: int,
    workers: int,
    size: int,
    seed: int,
) -> list[dict[str, float]]:
    """Train for as many epochs as end within so many seconds, one at least.

    Returns:
        for each epoch: ``epoch``, ``seconds`` since the first line of the training, ``accuracy`` on the test images.
    """
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the initialisation takes long
        network = models.googlenet(weights=None, num_classes=10, aux_logits=True, init_weights=True)
    started = time.perf_counter()
    network.to(device)
    normal = [transforms.Resize(size), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    fresh = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), *normal]
    shared: dict[str, Any] = {
        "batch_size": batch,
        "num_workers": workers,
        "pin_memory": device.type == "cuda",
        "persistent_workers": workers > 0,
    }
    fitted = DataLoader(Pictures(train_part, transforms.Compose(fresh)), shuffle=True, **shared)
    tested = DataLoader(Pictures(test_part, transforms.Compose(normal)), **shared)
    cost = nn.CrossEntropyLoss()
    optimiser = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9, weight_decay=DECAY)
    rows: list[dict[str, float]] = []
    while True:
        began = time.perf_counter()
        network.train()
        for images, labels in fitted:
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            optimiser.zero_grad()
            answer, *others = network(images)
            loss = cost(answer, labels) + AUXILIARY_SHARE * sum(cost(other, labels) for other in others)
            loss.backward()
            optimiser.step()
        accuracy = tested_accuracy(network, tested, device)
        now = time.perf_counter()
        rows.append({"epoch": len(rows) + 1, "seconds": now - started, "accuracy": accuracy})
        print(f"script {rows[-1]}", flush=True)
        if now - started + (now - began) > seconds:
            return rows


def tested_accuracy(network: nn.Module, tested: "DataLoader[tuple[Tensor, int]]", device: torch.device) -> float:
    network.eval()
    right = count = 0
    with torch.no_grad():
        for images, labels in tested:
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            right += int((network(images).argmax(1) == labels).sum())
            count += len(labels)
    return right / count
