"""What the engine costs beside the arithmetic: an epoch of it against bare steps on one batch, looped.

Run: OMP_NUM_THREADS=2 python benchmarks/engine_overhead.py

Engine: ``hilum.training.engine``'s loop on a set in memory; an epoch's fitting, from drawing the order to the last
step, with batches gathered, the loss watched, progress told and position kept; scoring is left out on both sides. Bare:
the same network, its layout and loss, torch.optim's fused Adam, and one batch that is ready, for the same number of
steps: forward, backward, step, and nothing else, not even a look at the loss. Repeats take turns. Images are noise.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from _section import Save, head, main, spread, table, verdict
from torch import Tensor, nn

from hilum.models.classifier import ClassifierConfig, build_classifier
from hilum.models.networks.lenet import LeNet5
from hilum.models.networks.residual_small import SmallResNet
from hilum.training.fitting import Examples, FitConfig, fit_network

BAR = 1.10
CLASSES = 10


class DenseTail(nn.Module):
    """Last dense block and head of DenseNet-121, fed with maps of the layers before: what stage two trains."""

    def __init__(self) -> None:
        super().__init__()
        findings = tuple(f"finding {i}" for i in range(CLASSES))
        classifier, _ = build_classifier(ClassifierConfig(backbone="densenet121", findings=findings), "none", 0)
        layers = classifier.encoder.layers
        cut = layers.index(classifier.encoder.last_block)
        self.tail = nn.ModuleDict()
        for name in layers[cut:]:
            self.tail[name.replace(".", "_")] = classifier.encoder.get_submodule(name)
        self.head = classifier.head

    def forward(self, maps: Tensor) -> Tensor:
        for layer in self.tail.values():
            maps = layer(maps)
        logits: Tensor = self.head(maps)
        return logits


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, int, int]
    batch: int
    steps: int


CASES = (
    Case(name="LeNet-5", build=LeNet5, shape=(1, 32, 32), batch=64, steps=400),
    Case(name="resnet20", build=lambda: SmallResNet(20), shape=(3, 32, 32), batch=64, steps=40),
    Case(name="DenseNet-121, last block and head", build=DenseTail, shape=(512, 7, 7), batch=32, steps=25),
)


def examples_of(case: Case) -> Examples:
    drawn = np.random.default_rng(0)
    count = case.batch * case.steps
    images = drawn.integers(0, 256, (count, *case.shape), dtype=np.uint8)
    labels = drawn.integers(0, CLASSES, count)
    return Examples(images=images, labels=labels, fit=np.arange(count), watch=np.arange(0), classes=CLASSES)


def engine_seconds(case: Case, examples: Examples) -> dict[str, float]:
    """Seconds of the second epoch's fitting: its wall time, and the processor's."""
    torch.manual_seed(0)
    network, marks = case.build(), list[tuple[float, float]]()

    def close(_: nn.Module, row: dict[str, Any]) -> None:
        marks.append((time.perf_counter(), time.process_time()))

    grey = {"mean": (0.5,) * case.shape[0], "std": (0.25,) * case.shape[0]}
    config = FitConfig(epochs=2, batch_size=case.batch, lr=1e-4, **grey)
    fit_network(network, examples, config, seed=0, each_epoch=close)
    return {"wall": marks[1][0] - marks[0][0], "cpu": marks[1][1] - marks[0][1]}


def bare_seconds(case: Case) -> dict[str, float]:
    """The same number of steps, bare, after a tenth of them to warm up."""
    torch.manual_seed(0)
    network = case.build().to(memory_format=torch.channels_last).train()
    inputs = torch.randn(case.batch, *case.shape).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (case.batch,))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    loss_of = nn.CrossEntropyLoss()
    for step in range(-max(3, case.steps // 10), case.steps):
        if step == 0:
            begun = time.perf_counter(), time.process_time()
        optimizer.zero_grad()
        loss_of(network(inputs), labels).backward()
        optimizer.step()
    return {"wall": time.perf_counter() - begun[0], "cpu": time.process_time() - begun[1]}


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    if options.smoke:
        options.repeats = 2
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # the first one imports the compiler
    measured: dict[str, Any] = {"cases": {}}
    for case in CASES:
        examples = examples_of(case)
        found = measured["cases"][case.name] = {"batch": case.batch, "steps": case.steps, "engine": [], "bare": []}
        for number in range(options.repeats):
            print(f"{case.name}: repeat {number + 1}", file=sys.stderr, flush=True)
            found["engine"].append(engine_seconds(case, examples))
            found["bare"].append(bare_seconds(case))
        save(measured)
    return measured


def write(measured: dict[str, Any]) -> str:
    rows = []
    for name, case in measured["cases"].items():
        per_step = {kind: [1000 * one["wall"] / case["steps"] for one in case[kind]] for kind in ("engine", "bare")}
        ratios = [a["wall"] / b["wall"] for a, b in zip(case["engine"], case["bare"], strict=True)]
        cpu = [a["cpu"] / b["cpu"] for a, b in zip(case["engine"], case["bare"], strict=True)]
        rows.append(
            [
                f"{name}, batches of {case['batch']}",
                spread(per_step["engine"], ".2f"),
                spread(per_step["bare"], ".2f"),
                spread(ratios, ".2f"),
                spread(cpu, ".2f"),
                verdict(statistics.median(ratios), BAR, ".2f", least=False),
            ]
        )
    columns = ["", "engine, ms a step", "bare, ms a step", "ratio", "ratio in processor time", "bar"]
    return head(measured) + "\nMedians (smallest–largest) of repeats that take turns.\n\n" + table(columns, rows)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=7)


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    main(__doc__, measure, write, add)
